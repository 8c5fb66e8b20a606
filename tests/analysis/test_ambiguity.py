"""Ambiguity from votes against counting pairs, and its link to disagreement against scikit-learn and SciPy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, spearmanr
from sklearn.metrics import roc_auc_score

from mixed_signals.analysis.ambiguity import fullest_condition, link_table, spearman, vote_table
from mixed_signals.models.metrics import auroc


def ratings(rows):
    return pd.DataFrame(rows, columns=["utterance_id", "shown", "value", "count"])


@settings(deadline=None)
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


@settings(deadline=None)
@given(st.integers(0, 500))
def test_statistics_equal_the_libraries(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, 40), rng.integers(0, 6, 40)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert auroc(x, y > 2) == pytest.approx(roc_auc_score(y > 2, x))


def test_undefined_statistics_are_nan():
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(auroc([1, 2], [True, True]))


def made_up(rng, n=300, strength=0.0):
    """Utterances whose divergence goes with the raters' split by `strength`."""
    ids = [f"u{i:03d}" for i in range(n)]
    hard = rng.random(n)
    jsd = strength * hard + (1 - strength) * rng.random(n)
    against = rng.binomial(6, hard / 2)
    rows = [(i, "", "warm", 6 - k) for i, k in zip(ids, against, strict=True)]
    rows += [(i, "", "angry", k) for i, k in zip(ids, against, strict=True) if k]
    utterances = pd.DataFrame({"head": "gated", "utterance_id": ids, "jsd": jsd, "n_labels": 1 + (jsd > 0.5)})
    groups = pd.Series([f"g{i % 15}" for i in range(n)], index=ids)
    return utterances, vote_table(ratings(rows)), groups


def test_a_planted_link_is_found():
    rows = link_table(*made_up(np.random.default_rng(0), strength=0.9)).set_index("quantity")
    assert rows.loc["spearman", "low"] > 0.3
    assert rows.loc["auroc", "low"] > 0.6
    assert rows.loc["entropy_difference", "low"] > 0.1
    assert (rows["n_groups"] == 15).all()


def test_no_link_is_covered_as_often_as_the_intervals_say():
    rng = np.random.default_rng(1)
    inside = {"spearman": 0, "auroc": 0, "entropy_difference": 0}
    for _ in range(100):
        rows = link_table(*made_up(rng, n=150)).set_index("quantity")
        for quantity, reference in (("spearman", 0), ("auroc", 0.5), ("entropy_difference", 0)):
            inside[quantity] += rows.loc[quantity, "low"] <= reference <= rows.loc[quantity, "high"]
    assert all(88 <= hits <= 100 for hits in inside.values()), inside


def test_the_difference_is_that_of_the_means():
    utterances, votes, groups = made_up(np.random.default_rng(2))
    both = utterances.merge(votes.iloc[:-20], on="utterance_id")
    differ = both["n_labels"] > 1
    means = both.groupby(differ)["vote_entropy"].mean()
    rows = link_table(utterances, votes.iloc[:-20], groups).set_index("quantity")
    assert rows.loc["entropy_difference", "estimate"] == pytest.approx(means[True] - means[False])
    assert rows.loc["entropy_difference", "n"] == 280
