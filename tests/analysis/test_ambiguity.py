"""The link of disagreement with ambiguity against libraries and what was planted, and what it adds to confidence."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_study import Design, draw
from scipy.stats import spearmanr
from sklearn.metrics import log_loss, roc_auc_score

from mixed_signals.analysis import ambiguity
from mixed_signals.analysis.ambiguity import control
from mixed_signals.analysis.ambiguity.control import control_table, length_scores, matched_pairs
from mixed_signals.analysis.ambiguity.link import disagreement_scores, link_table
from mixed_signals.analysis.ambiguity.raters import error_table, soft_label_table
from mixed_signals.analysis.ambiguity.ratings import condition_votes, vote_table
from mixed_signals.analysis.cross_fitting import cross_fit, standardised
from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.sources import SOURCES


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
    ratings = pd.DataFrame(rows, columns=["utterance_id", "shown", "value", "count"])
    return utterances, vote_table(ratings), groups


def rows_of(table, *keys):
    return {tuple(row[key] for key in keys): row for row in table.to_dict("records")}


def test_link_equals_the_libraries_for_every_score():
    utterances, votes, groups = made_up(np.random.default_rng(0), strength=0.3)
    table = link_table(utterances, votes.iloc[:-20], groups, scores=("jsd", "n_labels"), resamples=99)
    both = utterances.merge(votes.iloc[:-20], on="utterance_id")
    rows = rows_of(table, "score", "quantity")
    for score in ("jsd", "n_labels"):
        assert rows[score, "spearman"]["estimate"] == pytest.approx(
            spearmanr(both[score], both["ambiguity"]).statistic
        )
        assert rows[score, "auroc"]["estimate"] == pytest.approx(
            roc_auc_score(both["contested"], both[score])
        )
    assert np.isfinite(rows["jsd", "auroc"]["p"])
    assert np.isnan(rows["n_labels", "auroc"]["p"])
    means = both.groupby(both["n_labels"] > 1)["vote_entropy"].mean()
    assert rows["n_labels", "entropy_difference"]["estimate"] == pytest.approx(means[True] - means[False])
    assert {row["n"] for row in rows.values()} == {280}


def test_a_planted_link_is_found():
    rows = link_table(*made_up(np.random.default_rng(0), strength=0.9)).set_index("quantity")
    assert rows.loc["spearman", "low"] > 0.3
    assert rows.loc["auroc", "low"] > 0.6
    assert rows.loc["entropy_difference", "low"] > 0.1
    assert (rows.loc[["spearman", "auroc"], "p"] < 0.01).all()
    assert (rows["n_groups"] == 15).all()


def test_no_link_is_covered_as_often_as_the_intervals_say_and_seldom_significant():
    rng = np.random.default_rng(1)
    inside, small = {"spearman": 0, "auroc": 0, "entropy_difference": 0}, 0
    for _ in range(100):
        rows = link_table(*made_up(rng, n=150), resamples=99).set_index("quantity")
        for quantity, reference in (("spearman", 0), ("auroc", 0.5), ("entropy_difference", 0)):
            inside[quantity] += rows.loc[quantity, "low"] <= reference <= rows.loc[quantity, "high"]
        small += rows.loc["spearman", "p"] < 0.05
    assert all(88 <= hits <= 100 for hits in inside.values()), inside
    assert small <= 12


def test_what_groups_have_in_common_is_no_link_within_them():
    rng = np.random.default_rng(2)
    utterances, votes, groups = made_up(rng, n=600)
    level = rng.normal(size=15)[groups.str[1:].astype(int)]
    by_id = pd.Series(level, index=groups.index)
    utterances["jsd"] = level + 0.1 * rng.normal(size=600)
    votes["ambiguity"] = by_id.reindex(votes["utterance_id"]).to_numpy() + 0.1 * rng.normal(size=len(votes))
    row = link_table(utterances, votes, groups).iloc[0]
    assert row["estimate"] > 0.9
    assert row["p"] > 0.05


@pytest.mark.parametrize(("n", "how"), [(900, "circular shifts"), (300, "sign flips of 15 groups")])
def test_rows_in_time_are_shifted_or_in_short_series_their_groups_flipped_and_others_permuted(n, how):
    utterances, votes, groups = made_up(np.random.default_rng(3), n=n)
    when = pd.Series(np.arange(float(n)), index=groups.index)
    assert how in link_table(utterances, votes, groups, when, resamples=19)["method"].iloc[0]
    assert "rows permuted" in link_table(utterances, votes, groups, resamples=19)["method"].iloc[0]
    assert "rows permuted" in link_table(utterances, votes, resamples=19)["method"].iloc[0]


def test_no_shared_utterance_gives_an_empty_link():
    utterances, votes, groups = made_up(np.random.default_rng(4))
    table = link_table(utterances, votes.assign(utterance_id="elsewhere").iloc[:1], groups)
    assert (table["n"] == 0).all()
    assert table["estimate"].isna().all()


def test_scores_of_disagreement():
    panel = draw(np.random.default_rng(5), Design(n=50, n_classes=3, n_seeds=2, n_partitions=2)).panel
    scores = disagreement_scores(panel)
    assert list(scores)[:3] == ["jsd", "n_labels", "jsd text-audio"]
    assert "jsd video-fusion" in scores
    same = replace(panel, outputs=dict.fromkeys(panel.outputs, panel.outputs["text"]))
    assert disagreement_scores(same)["jsd"].max() == pytest.approx(0, abs=1e-9)
    assert (disagreement_scores(same)["n_labels"] == 1).all()
    labels = np.stack([panel.labels(m) for m in panel.unimodals])
    different = [np.mean([len(set(labels[:, p, i])) for p in range(2)]) for i in range(50)]
    np.testing.assert_allclose(scores["n_labels"], different)


def base_and_disagreement(rng, n, *, adds=0.0, curved=False):
    """Confidence drives what is contested and, partly, disagreement, which drives it by `adds` of its own."""
    base = rng.normal(size=(n, 3))
    disagreement = 0.7 * base[:, :1] + rng.normal(size=(n, 2))
    drive = np.exp(base[:, 0]) - 1 if curved else base[:, 0]
    drive = drive + adds * disagreement[:, 0]
    contested = rng.random(n) < 1 / (1 + np.exp(0.5 - drive))
    groups = np.array([f"g{i % 25}" for i in range(n)], dtype=object)
    return contested, pd.DataFrame(base), pd.DataFrame(disagreement), -base[:, 0], groups


def test_what_disagreement_adds_is_found():
    table = control_table(*base_and_disagreement(np.random.default_rng(6), 1500, adds=0.8))
    rows = {key[0]: row for key, row in rows_of(table, "quantity").items()}
    assert rows["log loss added"]["low"] > 0
    assert rows["log loss added"]["p"] < 0.01
    assert rows["AUROC added"]["low"] > 0
    assert rows["partial correlation"]["low"] > 0.1
    assert rows["AUROC, matched"]["low"] > 0.5


@pytest.mark.parametrize("curved", [False, True])
def test_disagreement_that_merely_goes_with_confidence_adds_nothing(curved):
    rng = np.random.default_rng(7)
    above = dict.fromkeys(("log loss added", "AUROC added", "partial correlation"), 0)
    small = 0
    for _ in range(20):
        made = base_and_disagreement(rng, 400, curved=curved)
        assert abs(np.corrcoef(made[0], made[2][0])[0, 1]) > 0.05
        rows = control_table(*made, resamples=99).set_index("quantity")
        for quantity in above:
            above[quantity] += rows.loc[quantity, "low"] > 0
        small += rows.loc["partial correlation", "p"] < 0.05
    assert above["log loss added"] <= 1, above
    assert all(count <= 3 for count in above.values()), above
    assert small <= 4


def test_what_is_added_is_that_of_regressions_on_held_out_groups():
    contested, base, disagreement, _, groups = base_and_disagreement(np.random.default_rng(8), 400)
    Z = standardised(base.to_numpy())
    these = np.column_stack([Z, Z**2])
    fitted = cross_fit(contested, [these, np.column_stack([these, disagreement])], groups)
    table = control_table(contested, base, disagreement, base[0].to_numpy(), groups).set_index("quantity")
    without, added = fitted.chances.T
    assert table.loc["log loss, these scores", "estimate"] == pytest.approx(log_loss(contested, without))
    theirs = [
        roc_auc_score(contested[fitted.fold == k], added[fitted.fold == k]) for k in np.unique(fitted.fold)
    ]
    assert table.loc["AUROC, with disagreement", "estimate"] == pytest.approx(np.mean(theirs))


def test_matched_pairs_equal_counting():
    rng = np.random.default_rng(10)
    score, contested, strata = (
        rng.integers(0, 5, 80).astype(float),
        rng.random(80) < 0.4,
        rng.integers(0, 6, 80),
    )
    below, pairs = matched_pairs(score, contested, strata)
    counted = [
        (score[i] > score[j]) + (score[i] == score[j]) / 2
        for i in range(80)
        for j in range(80)
        if contested[i] and not contested[j] and strata[i] == strata[j]
    ]
    assert below.sum() == pytest.approx(sum(counted))
    assert pairs.sum() == len(counted)


def test_length_and_duration_where_they_are_known():
    utterances = pd.DataFrame({"text": ["one two", "", "a"], "start": [0.0, 1, 1], "end": [1.0, 1, 3]})
    scores = length_scores(utterances, np.array([2, 0], dtype=object))
    np.testing.assert_allclose(scores, np.log([[2, 3], [3, 2]]))
    assert list(length_scores(utterances.assign(text="", end=np.nan), np.array([0, 1], dtype=object))) == []


def test_soft_labels_equal_their_definitions():
    drawn = draw(np.random.default_rng(11), Design(n=80, n_classes=3, n_partitions=2, rater_noise=0.2))
    panel, votes = drawn.panel, condition_votes(drawn.ratings(), drawn.panel.classes)
    rows = rows_of(soft_label_table(panel, votes, np.arange(80), panel.groups), "model", "quantity")
    shares = drawn.votes / drawn.votes.sum(axis=1, keepdims=True)
    p = panel.outputs["text"].mean(axis=1)
    expected = np.mean([-(shares * np.log(q)).sum() / 80 for q in p])
    assert rows["text", "cross-entropy"]["estimate"] == pytest.approx(expected)
    expected = np.mean([((q - shares) ** 2).sum() / 80 for q in p])
    assert rows["text", "Brier"]["estimate"] == pytest.approx(expected)
    expected = np.mean([((q - shares) ** 2).sum() / 80 for q in panel.prior])
    assert rows["prior", "Brier"]["estimate"] == pytest.approx(expected)
    assert ("text+audio", "Brier") in rows


def test_labels_and_ambiguity_from_the_same_votes_vary_together_and_from_disjoint_ones_do_not():
    rng = np.random.default_rng(12)
    drawn = draw(rng, Design(n=3000, n_groups=30))
    counts = rng.multinomial(4, [0.75, 0.25], size=3000)  # all alike: no utterance is more ambiguous
    row, value = np.nonzero(counts)
    names = np.array(drawn.panel.classes, dtype=object)
    table = pd.DataFrame({"utterance_id": drawn.panel.ids[row], "shown": "", "value": names[value]})
    votes = condition_votes(table.assign(count=counts[row, value]), drawn.panel.classes)
    first = np.zeros_like(drawn.panel.outputs[FUSION])
    first[..., 0] = 1
    panel = replace(drawn.panel, outputs={**drawn.panel.outputs, FUSION: first})
    rows = rows_of(error_table(panel, votes, np.arange(3000), panel.groups), "model", "raters")
    assert rows[FUSION, "disjoint"]["low"] < 0 < rows[FUSION, "disjoint"]["high"]
    assert rows[FUSION, "shared"]["low"] > 0.1


def test_a_study_whose_raters_see_the_conflict_is_answered_in_full():
    design = Design(n=1200, n_groups=45, n_classes=3, conflict={"audio": 0.3}, raters_see="conflict")
    study = draw(np.random.default_rng(13), design).study(resamples=199)
    answer = ambiguity.evaluate(study, study.panels[0])
    assert set(answer.tables) == {"link", "thresholds", "control", "soft_labels", "errors"}
    assert all(table.columns[0] == "head" for table in answer.tables.values())
    rows = rows_of(answer.tables["link"], "score", "quantity")
    assert rows["jsd", "auroc"]["low"] > 0.5
    assert rows["jsd", "spearman"]["p"] < 0.05
    assert "sign flips of 45 groups" in rows["jsd", "spearman"]["method"]
    assert "sign flips" in " ".join(answer.methods)
    thresholds = answer.tables["thresholds"]
    share = thresholds[thresholds["quantity"] == "share"].set_index("threshold")["estimate"]
    assert share.is_monotonic_increasing
    assert share[0.5] == pytest.approx(vote_table(study.ratings)["contested"].mean())
    control = {key[0]: row for key, row in rows_of(answer.tables["control"], "quantity").items()}
    assert control["log loss added"]["low"] > 0
    verdicts = [finding.verdict for finding in answer.findings]
    assert all(said.startswith("gated: ") and said.endswith(".") for said in verdicts)
    assert any("disagreement adds to these scores" in said for said in verdicts)
    assert not any("independent" in said for said in verdicts)
    cited = set(re.findall(r"\[(.+?)\]", " ".join(answer.methods)))
    assert {"Freedman 1983", "Winkler 2014"} <= cited <= set(SOURCES)
    assert any("duration of utterances" in note for note in answer.notes)


def test_raters_who_see_nothing_give_no_link():
    study = draw(np.random.default_rng(14), Design(n=800, conflict={"audio": 0.3})).study(resamples=199)
    answer = ambiguity.evaluate(study, study.panels[0])
    rows = rows_of(answer.tables["link"], "score", "quantity")
    assert rows["jsd", "auroc"]["low"] < 0.5 < rows["jsd", "auroc"]["high"]
    assert rows["jsd", "spearman"]["p"] > 0.05
    assert not any("adds to these scores:" in finding.verdict for finding in answer.findings)
    assert any("not distinguishable from 0.5" in finding.verdict for finding in answer.findings)


def test_an_interval_target_is_linked_by_variance_alone():
    design = Design(n=600, kind="interval", conflict={"audio": 0.4}, raters_see="conflict")
    study = draw(np.random.default_rng(15), design).study(resamples=199)
    answer = ambiguity.evaluate(study, study.panels[0])
    assert set(answer.tables) == {"link"}
    assert set(answer.tables["link"]["quantity"]) == {"spearman"}
    assert answer.tables["link"]["score"].iloc[0] == "spread"
    assert "no utterance is contested" in answer.notes[0]


def test_what_ratings_do_not_allow_is_noted_and_not_computed():
    drawn = draw(np.random.default_rng(16), Design(n=200))
    study = drawn.study(resamples=99)
    panel = study.panels[0]

    def answer(ratings, panel=panel):
        return ambiguity.evaluate(replace(study, ratings=ratings), panel)

    assert "no ratings" in answer(None).notes[0]
    few = study.ratings.assign(count=1)  # two votes each, of which one for another class
    found = answer(few)
    assert "errors" not in found.tables
    assert any("shared raters" in note for note in found.notes)
    assert any("0 uncontested utterances" in note for note in found.notes)
    other = study.ratings.assign(value=study.ratings["value"].replace("c0", "none"))
    found = answer(other)
    assert "soft_labels" not in found.tables
    assert any("shared raters" in note for note in found.notes)
    elsewhere = study.ratings.assign(utterance_id=study.ratings["utterance_id"] + "x")
    assert "none of its utterances" in answer(elsewhere).notes[0]
    for groups in (None, np.full(200, "", dtype=object)):  # a corpus without groups has empty ones
        without = answer(study.ratings, replace(panel, groups=groups, when=None))
        assert "AUROC, matched" not in set(without.tables["control"]["quantity"])
        assert any("no pairs within a group" in note for note in without.notes)
        tested = without.tables["link"].iloc[0]
        assert 0 < tested["p"] <= 1
        assert "rows permuted, 99 random draws" in tested["method"]


def test_a_fold_without_contested_rows_to_train_on_is_no_control(monkeypatch):
    monkeypatch.setattr(control, "FEWEST_CONTESTED", 1)
    contested = np.arange(100) < 5
    X = pd.DataFrame(np.random.default_rng(17).normal(size=(100, 1)))
    said = control_table(contested, X, X, X[0].to_numpy(), np.repeat(np.arange(20), 5))
    assert said == "contested utterances are in too few groups to hold groups out"
