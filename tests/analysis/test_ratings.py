"""Votes against counting pairs and SciPy, alpha against two packages, reliability against what was planted."""

from __future__ import annotations

from itertools import combinations

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outside_data import outside_data
from planted_study import Design, draw
from scipy.stats import entropy

from mixed_signals.analysis.ambiguity import agreement
from mixed_signals.analysis.ambiguity.agreement import alpha, reliability
from mixed_signals.analysis.ambiguity.ratings import (
    ConditionVotes,
    ambiguity,
    condition_votes,
    contested,
    entropy_bias_bound,
    fullest_condition,
    split_halves,
    variance,
    vote_entropy,
    vote_table,
)
from mixed_signals.models.intervals import sums_interval
from mixed_signals.store import UsageError
from mixed_signals.store.corpora import cremad

COUNTS = st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=2, max_size=12).map(
    lambda rows: np.array([row for row in rows if sum(row) > 1] or [[1, 1, 0, 0]])
)


def ratings(rows):
    return pd.DataFrame(rows, columns=["utterance_id", "shown", "value", "count"])


def value_of(measure):
    return float(measure.function(measure.columns.sum(axis=0)))


def votes_of(counts, numbers=None):
    ids = np.array([f"u{i:05d}" for i in range(len(counts))], dtype=object)
    return ConditionVotes("", ids, tuple(map(str, range(np.shape(counts)[1]))), np.asarray(counts), numbers)


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=9))
def test_votes_equal_counting_pairs(values):
    table = vote_table(ratings([("u", "audio", v, 1) for v in values])).iloc[0]
    pairs = list(combinations(values, 2))
    assert table["ambiguity"] == pytest.approx(sum(a != b for a, b in pairs) / len(pairs))
    counts = [values.count(v) for v in set(values)]
    assert table["vote_entropy"] == pytest.approx(entropy(counts, base=2))
    assert table["contested"] == (max(counts) * 2 <= len(values))
    assert table["n_votes"] == len(values)


def test_counts_and_single_rows_are_the_same_votes():
    one = vote_table(ratings([("u", "", "warm", 3), ("u", "", "angry", 1)]))
    many = vote_table(ratings([("u", "", "warm", 1)] * 3 + [("u", "", "angry", 1)]))
    pd.testing.assert_frame_equal(one, many)
    assert one["votes"].tolist() == ["warm 3, angry 1"]
    assert one["ambiguity"].tolist() == [0.5]
    assert one["contested"].tolist() == [False]


def test_the_fullest_condition_is_used_and_single_votes_are_not():
    table = ratings(
        [
            ("u", "audio", "warm", 50), ("u", "audio+video", "warm", 2), ("u", "audio+video", "angry", 2),
            ("v", "audio", "warm", 3), ("w", "audio+video", "warm", 1),
        ]
    )  # fmt: skip
    assert fullest_condition(table) == "audio+video"
    votes = vote_table(table)
    assert votes["utterance_id"].tolist() == ["u"]
    assert votes["n_votes"].tolist() == [4]
    assert votes["contested"].tolist() == [True]
    assert fullest_condition(ratings([("u", "", "a", 9), ("u", "text", "a", 1)])) == "text"
    assert fullest_condition(ratings([("u", "text", "a", 2), ("u", "audio", "a", 3)])) == "audio"
    assert vote_table(ratings([])).empty
    assert vote_table(ratings([("u", "", "a", 2), ("u", "text", "a", 0)]))["n_votes"].tolist() == [2]


def test_values_have_the_order_of_the_classes_where_they_are_classes():
    table = ratings([("u", "", "low", 1), ("u", "", "high", 2)])
    votes = condition_votes(table, ("low", "mid", "high"))
    assert votes.names == ("low", "mid", "high")
    assert votes.counts.tolist() == [[1, 0, 2]]
    assert condition_votes(table, ("low", "mid")).names == ("high", "low")


def test_numbers_are_packed_by_utterance():
    table = ratings([("v", "", "1.5", 1), ("v", "", "10", 2), ("u", "", "2", 1), ("u", "", "2.0", 1)])
    votes = condition_votes(table, numeric=True)
    assert votes.counts.tolist() == [[2, 0], [1, 2]]
    assert votes.ambiguity.tolist() == pytest.approx([0.0, np.var([1.5, 10, 10], ddof=1)])
    assert vote_table(votes)["votes"].tolist() == ["2 2", "10 2, 1.5 1"]
    assert vote_table(votes)["mean"].tolist() == pytest.approx([2.0, 21.5 / 3])


@pytest.mark.parametrize("count", [-1, 1.5, np.nan])
def test_a_count_that_is_none_is_named(count):
    with pytest.raises(UsageError, match="of u is no whole number"):
        vote_table(ratings([("u", "", "warm", count)]))


def test_what_is_missing_is_named():
    with pytest.raises(UsageError, match="no column shown, count"):
        condition_votes(pd.DataFrame({"utterance_id": ["u"], "value": ["warm"]}))
    with pytest.raises(UsageError, match="'warm' is not a number"):
        condition_votes(ratings([("u", "", "warm", 2)]), numeric=True)


def test_ambiguity_is_unbiased_for_any_number_of_votes_and_entropy_is_not():
    rng = np.random.default_rng(0)
    shares = np.array([0.6, 0.3, 0.1])
    bits = entropy(shares, base=2)
    for n in (2, 3, 10):
        counts = rng.multinomial(n, shares, size=40_000)
        assert ambiguity(counts).mean() == pytest.approx(1 - (shares**2).sum(), abs=0.01)
        missing = bits - vote_entropy(counts).mean()
        corrected = bits - vote_entropy(counts, miller_madow=True).mean()
        assert 0 < missing < entropy_bias_bound(n, 3)
        assert abs(corrected) < 0.8 * missing
    assert np.isnan(ambiguity([1, 0]))


def test_contested_grows_with_the_threshold():
    counts = np.array([[2, 2, 2], [3, 2, 1], [4, 2, 0], [6, 0, 0]])
    assert contested(counts).tolist() == [True, True, False, False]
    assert contested(counts, 0.4).tolist() == [True, False, False, False]
    assert contested(counts, 2 / 3).tolist() == [True, True, True, False]


@settings(max_examples=60)
@given(COUNTS)
def test_alpha_equals_the_krippendorff_package(counts):
    numbers = np.array([-1.0, 0.5, 2.0, 7.0])
    if (counts.sum(axis=0) > 0).sum() < 2:
        assert np.isnan(value_of(alpha(counts, "nominal")))
        return
    for level in ("nominal", "ordinal", "interval"):
        theirs = krippendorff.alpha(value_counts=counts, value_domain=numbers, level_of_measurement=level)
        assert value_of(alpha(counts, level, numbers)) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*inplace keyword")
def test_alpha_and_entropy_equal_crowd_kit():
    metrics = pytest.importorskip("crowdkit.metrics.data")
    rng = np.random.default_rng(1)
    counts = rng.multinomial(5, [0.5, 0.3, 0.2], size=30)
    task, label = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    worker = np.tile(np.arange(5), 30)
    answers = pd.DataFrame({"task": task, "worker": worker, "label": label})
    assert value_of(alpha(counts, "nominal")) == pytest.approx(metrics.alpha_krippendorff(answers))
    theirs = metrics.uncertainty(answers, aggregate=False).sort_index()
    np.testing.assert_allclose(vote_entropy(counts) * np.log(2), theirs, atol=1e-9)


def test_halves_share_no_vote_and_are_fair():
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 5, (300, 4))
    total = np.zeros(counts.shape)
    for _ in range(200):
        one, other = split_halves(counts, rng)
        assert (one.sum(axis=1) == counts.sum(axis=1) // 2).all()
        assert (other.sum(axis=1) == counts.sum(axis=1) // 2).all()
        assert (one + other <= counts).all()
        total += one / 200
    n = counts.sum(axis=1, keepdims=True)
    expected = counts * (n // 2) / np.maximum(n, 1)
    assert np.abs(total - expected).max() < 0.35
    assert (total - expected).mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("n_votes", [4, 9, 20])
def test_reliability_is_that_of_the_planted_shares_and_spearman_brown_is_below(n_votes):
    rng = np.random.default_rng(n_votes)
    shares = rng.dirichlet(np.full(3, 0.7), size=20_000)
    votes = votes_of(rng.multinomial(n_votes, shares))
    true = 1 - (shares**2).sum(axis=1)
    found = reliability(votes, resamples=99)
    assert found["ceiling"]["estimate"] == pytest.approx(np.corrcoef(true, votes.ambiguity)[0, 1], abs=0.03)
    assert found["reliability"]["estimate"] == pytest.approx(true.var() / votes.ambiguity.var(), abs=0.03)
    assert found["spearman_brown"]["estimate"] <= found["reliability"]["estimate"]
    halves = found["halves"]["estimate"]
    assert found["spearman_brown"]["estimate"] == pytest.approx(2 * halves / (1 + halves))


def test_alike_utterances_have_no_reliable_ambiguity():
    rng = np.random.default_rng(3)
    votes = votes_of(rng.multinomial(8, [0.5, 0.5], size=2000))
    found = reliability(votes, resamples=99)
    assert found["reliability"]["low"] < 0 < found["reliability"]["high"]


@pytest.mark.parametrize("n_groups", [12, 45])
def test_the_interval_of_alpha_covers_what_was_planted(n_groups):
    rng = np.random.default_rng(4)

    def drawn(n_groups):
        leaning = rng.normal(size=n_groups).repeat(15) + rng.normal(size=15 * n_groups)
        share = 1 / (1 + np.exp(-1.5 * leaning))
        return alpha(rng.multinomial(5, np.column_stack([share, 1 - share])), "nominal")

    truth, inside = value_of(drawn(5000)), 0
    groups = np.repeat(np.arange(n_groups), 15)
    for _ in range(150):
        measure = drawn(n_groups)
        found = sums_interval(measure.function, measure.columns, groups, resamples=299)
        inside += found.low <= truth <= found.high
    assert 132 <= inside <= 149


def test_an_interval_target_has_variances_and_interval_alpha():
    study = draw(np.random.default_rng(5), Design(kind="interval", raters_see="ambiguity")).study()
    answer = agreement.evaluate(study)
    assert answer.tables["alpha"]["quantity"].tolist() == ["alpha, interval"]
    assert "variance" in answer.tables["votes"]
    assert "contested" not in answer.tables["votes"]
    assert not any("value has more" in finding.verdict for finding in answer.findings)
    worded = study.ratings.assign(value="warm")
    (said,) = agreement.evaluate(type(study)(study.run, study.panels, study.utterances, worded)).notes
    assert "not numbers" in said


def test_shares_of_the_ratings_have_no_interval_beyond_0_and_1():
    drawn = draw(np.random.default_rng(5), Design(n=90, n_groups=9, raters_see="nothing"))
    study = drawn.study(resamples=99)
    agreed = study.ratings[study.ratings["count"] > 4]  # one value each, so that 2 of 90 are contested
    split = study.ratings["utterance_id"].isin(drawn.panel.ids[[3, 40]])
    mixed = study.ratings[split].assign(count=4)
    ratings = pd.concat([agreed[~agreed["utterance_id"].isin(mixed["utterance_id"])], mixed])
    table = agreement.evaluate(type(study)(study.run, study.panels, study.utterances, ratings)).tables[
        "ambiguity"
    ]
    rows = table.set_index("quantity")
    assert 0 < rows.loc["contested", "estimate"] < 0.1
    assert (rows["low"].dropna() >= 0).all()
    assert rows.loc["contested", "low"] >= 0


def test_an_ordinal_target_has_ordinal_alpha_only_where_ratings_have_its_order():
    study = draw(np.random.default_rng(6), Design(kind="ordinal", n_classes=4)).study()
    answer = agreement.evaluate(study)
    assert answer.tables["alpha"]["quantity"].tolist() == ["alpha, nominal", "alpha, ordinal"]
    other = study.ratings.assign(value=study.ratings["value"].replace("c0", "none"))
    answer = agreement.evaluate(type(study)(study.run, study.panels, study.utterances, other))
    assert answer.tables["alpha"]["quantity"].tolist() == ["alpha, nominal"]
    assert any("no order" in note for note in answer.notes)


def test_what_ratings_cannot_say_is_noted():
    study = draw(np.random.default_rng(7), Design(n=60)).study()

    def notes(table):
        return agreement.evaluate(type(study)(study.run, study.panels, study.utterances, table)).notes

    assert notes(None) == [agreement.NO_RATINGS]
    one = study.ratings.groupby("utterance_id", as_index=False).first().assign(count=1)
    assert "two ratings or more" in notes(one)[0]
    assert "how reliable" in notes(one.assign(count=3))[0]
    twice = pd.concat([one.assign(rater="r1"), one.assign(rater="r1", value="c1")])
    assert notes(twice)[0].startswith("60 ratings of a rater who had rated the same utterance")


def test_cremad_ratings_agree_as_the_package_says():
    source = outside_data("cremad")
    corpus = cremad.read_corpus(source)
    published = pd.read_csv(source / "tabulatedVotes.csv", index_col=0)["numResponses"]
    votes = condition_votes(corpus.ratings)
    assert (votes.shown, len(votes.ids)) == ("audio+video", 7442)
    assert votes.n.sum() == published[published.index >= 300_000].sum()
    assert value_of(alpha(votes.counts, "nominal")) == pytest.approx(
        krippendorff.alpha(value_counts=votes.counts, level_of_measurement="nominal")
    )
    found = reliability(votes, corpus.utterances.set_index("utterance_id")["group"].reindex(votes.ids))
    assert found["halves"]["estimate"] == pytest.approx(0.40, abs=0.01)
    assert found["spearman_brown"]["estimate"] == pytest.approx(0.57, abs=0.01)
    assert found["ceiling"]["estimate"] == pytest.approx(0.78, abs=0.01)
    assert found["ceiling"]["n_groups"] == 91


def test_variance_equals_numpy():
    counts, numbers = np.array([[2, 1, 3]]), np.array([[1.0, 4.0, 0.5]])
    expanded = np.repeat(numbers[0], counts[0])
    assert variance(counts, numbers)[0] == pytest.approx(expanded.var(ddof=1))
