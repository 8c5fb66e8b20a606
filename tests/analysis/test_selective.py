"""Risk-coverage against every order of tied rows, scikit-learn's AUROC, stored values, and planted errors."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_study import Design, draw
from sklearn.metrics import roc_auc_score
from synthetic_study import softmax

from mixed_signals.analysis.cross_fitting import cross_fit
from mixed_signals.analysis.disagreement.distances import unimodal_divergence
from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.robustness.selective import (
    BOTH,
    CONFIDENCE,
    DIVERGENCE,
    MOST_POINTS,
    ORACLE,
    RANDOM,
    SPREAD,
    combined_doubt,
    curve_table,
    doubts_of,
    risk_coverage,
    selective_areas,
    selective_table,
)
from mixed_signals.models.intervals import group_jackknife
from mixed_signals.store import UsageError


def in_order(losses):
    """Return AURC and AUGRC of losses in one order, by their definitions."""
    n, summed = len(losses), np.concatenate([[0.0], np.cumsum(losses)])
    aurc = sum(summed[k] / k for k in range(1, n + 1)) / n
    return aurc, sum((summed[k - 1] + summed[k]) / 2 / n for k in range(1, n + 1)) / n


rows = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 2)), min_size=1, max_size=6)


@settings(max_examples=40)
@given(rows)
def test_areas_are_means_over_all_orders_of_tied_rows(rows):
    losses, doubts = np.array(rows).T
    orders = [o for o in permutations(range(len(rows))) if (np.diff(doubts[list(o)]) >= 0).all()]
    expected = np.mean([in_order(losses[list(order)]) for order in orders], axis=0)
    found = selective_areas(losses, doubts)
    np.testing.assert_allclose([found.aurc[0], found.augrc[0]], expected, atol=1e-12)


def test_augrc_follows_from_accuracy_and_auroc():
    """The identity of Traub et al. (2024), with scikit-learn's AUROC, which counts ties half."""
    rng = np.random.default_rng(0)
    wrong = rng.random(500) < 0.3
    doubt = np.round(rng.normal(size=500) + wrong, 1)
    share = wrong.mean()
    expected = (1 - roc_auc_score(wrong, doubt)) * share * (1 - share) + share**2 / 2
    assert selective_areas(wrong, doubt).augrc[0] == pytest.approx(expected, abs=1e-12)


def test_the_curve_gives_the_value_that_torch_uncertainty_documents():
    """Its AURC's docstring (metrics/classification/risk_coverage.py): confidences .7, .6, .8, the second row wrong.

    It says 0.0833, the trapezoid over coverage 1/N to 1, divided by 1 - 1/N; ours is the mean of the risks.
    """
    coverage, risk, _ = risk_coverage([0, 1, 0], [0.3, 0.4, 0.2])
    assert np.trapezoid(risk, coverage) / (1 - 1 / 3) == pytest.approx(0.0833, abs=5e-5)
    assert selective_areas([0, 1, 0], [0.3, 0.4, 0.2]).aurc[0] == pytest.approx(1 / 9)


@pytest.mark.parametrize("digits", [1, 9])
def test_areas_without_a_block_are_those_of_the_other_rows(digits):
    rng = np.random.default_rng(1)
    n = 300
    losses, doubts, blocks = rng.exponential(size=n), rng.normal(size=n).round(digits), rng.integers(0, 20, n)
    found = selective_areas(losses, doubts, blocks)
    assert len(found.aurc) == 21
    for block in range(20):
        others = blocks != block
        alone = selective_areas(losses[others], doubts[others])
        assert found.aurc[1 + block] == pytest.approx(alone.aurc[0], abs=1e-12)
        assert found.augrc[1 + block] == pytest.approx(alone.augrc[0], abs=1e-12)


def test_the_oracle_is_the_least_and_random_order_leaves_the_mean_loss():
    rng = np.random.default_rng(2)
    losses = rng.exponential(size=80)
    least = selective_areas(losses, losses)
    for _ in range(20):
        some = selective_areas(losses, rng.normal(size=80))
        assert some.aurc[0] > least.aurc[0]
        assert some.augrc[0] > least.augrc[0]
    none = selective_areas(losses, np.zeros(80))
    assert none.aurc[0] == pytest.approx(losses.mean())
    assert none.augrc[0] == pytest.approx(losses.mean() / 2)


def test_curves_end_at_the_mean_loss_and_average_to_the_area():
    rng = np.random.default_rng(3)
    losses, doubts = rng.random(60) < 0.4, rng.integers(0, 5, 60)
    coverage, risk, generalised = risk_coverage(losses, doubts)
    assert risk.mean() == pytest.approx(selective_areas(losses, doubts).aurc[0])
    assert (coverage[-1], risk[-1], generalised[-1]) == pytest.approx((1, losses.mean(), losses.mean()))


@pytest.mark.parametrize(
    ("losses", "doubts", "message"),
    [
        ([0, 1], [0.1], "one of each for every utterance"),
        ([], [], "one of each"),
        ([0, -1], [0.1, 0.2], "not negative"),
        ([0, 1], [0.1, np.nan], "finite"),
    ],
)
def test_what_is_no_risk_is_refused(losses, doubts, message):
    with pytest.raises(UsageError, match=message):
        selective_areas(losses, doubts)


def planted(rng, *, adds, n=600, n_groups=20):
    """A panel whose fusion is wrong in a third of the rows, whatever it says of its confidence.

    Where `adds`, text and audio disagree in most of these rows and in few others; else at random.
    """
    panel = draw(rng, Design(n=n, n_groups=n_groups, n_classes=3, n_seeds=2)).panel
    truth = panel.truth
    wrong = rng.random(n) < 1 / 3
    apart = rng.random(n) < np.where(wrong, 0.8, 0.1) if adds else rng.random(n) < 0.3
    said = {
        FUSION: np.where(wrong, (truth + 1) % 3, truth),
        "text": truth,
        "audio": np.where(apart, (truth + 1) % 3, truth),
        "video": truth,
    }
    outputs = {
        model: softmax(
            rng.uniform(1, 3, n)[:, None] * np.eye(3)[labels] + 0.1 * rng.normal(size=(1, 2, n, 3))
        )
        for model, labels in said.items()
    }
    return replace(panel, outputs=outputs, between=())


def against_confidence(panel, measure="AURC"):
    table = selective_table(panel)
    mine = table[(table["score"] == BOTH) & (table["against"] == CONFIDENCE) & (table["measure"] == measure)]
    assert len(mine) == 1
    return mine.iloc[0]


def test_disagreement_adds_where_errors_are_where_modalities_disagree():
    panel = planted(np.random.default_rng(4), adds=True)
    for measure in ("AURC", "AUGRC"):
        assert against_confidence(panel, measure)["high"] < -0.02
    table = selective_table(panel).set_index(["score", "against", "measure"])["estimate"]
    assert table[BOTH, "", "AURC"] - table[CONFIDENCE, "", "AURC"] == pytest.approx(
        table[BOTH, CONFIDENCE, "AURC"]
    )


def test_disagreement_that_says_nothing_is_not_said_to_add():
    rng = np.random.default_rng(5)
    found = [against_confidence(planted(rng, adds=False, n=200)) for _ in range(25)]
    assert sum(row["high"] < 0 for row in found) <= 2
    assert np.mean([row["estimate"] for row in found]) > -0.005


def test_intervals_are_those_of_the_group_jackknife():
    panel = planted(np.random.default_rng(6), adds=True, n=240)
    table = selective_table(panel).set_index(["score", "against", "measure"])
    wrong = panel.mean(FUSION).argmax(axis=1) != panel.truth
    doubt = 1 - panel.mean(FUSION).max(axis=1)
    plain = group_jackknife(
        lambda r: float(selective_areas(wrong[r], doubt[r]).aurc[0]), len(wrong), panel.groups
    )
    mine = table.loc[(CONFIDENCE, "", "AURC")]
    assert [mine["estimate"], mine["low"], mine["high"]] == pytest.approx(
        [plain.estimate, plain.low, plain.high]
    )
    assert mine["n_groups"] == 20
    assert mine["over_oracle"] == pytest.approx(
        mine["estimate"] - table.loc[(ORACLE, "", "AURC"), "estimate"]
    )
    assert mine["over_random"] == pytest.approx(mine["estimate"] - wrong.mean())
    assert table.loc[(RANDOM, "", "AURC"), "estimate"] == pytest.approx(wrong.mean())


def test_scores_are_combined_on_held_out_groups_alone():
    rng = np.random.default_rng(7)
    scores, wrong = rng.normal(size=(120, 2)), rng.random(120) < 0.4
    with pytest.raises(UsageError, match="held-out groups"):
        combined_doubt(wrong, scores, np.full(120, "one"))
    groups = np.repeat([f"g{i}" for i in range(10)], 12)
    np.testing.assert_array_equal(
        combined_doubt(wrong, scores, groups), cross_fit(wrong, [scores], groups).chances[:, 0]
    )


def test_doubts_are_what_they_say():
    panel = planted(np.random.default_rng(8), adds=True, n=120)
    doubts = doubts_of(panel)
    said = panel.mean(FUSION)
    np.testing.assert_allclose(doubts[CONFIDENCE], 1 - said.max(axis=1))
    np.testing.assert_allclose(doubts["margin"], [1 - (sorted(p)[2] - sorted(p)[1]) for p in said])
    np.testing.assert_allclose(doubts["entropy"], -(said * np.log2(said)).sum(axis=1))
    labels = [panel.mean(m).argmax(axis=1) for m in panel.unimodals]
    assert doubts["labels"].tolist() == [len(set(row)) for row in zip(*labels, strict=True)]
    assert doubts[DIVERGENCE][doubts["labels"] > 1].min() > np.median(doubts[DIVERGENCE])
    same = unimodal_divergence(panel, dict.fromkeys(panel.unimodals, panel.outputs["text"]))
    assert np.abs(same).max() < 1e-12


def test_curves_for_a_plot_are_thinned():
    panel = planted(np.random.default_rng(9), adds=True)
    curves = curve_table(panel)
    sizes = curves.groupby("score").size()
    assert set(sizes.index) == {*doubts_of(panel), ORACLE}
    assert (sizes == MOST_POINTS).all()
    assert (curves.groupby("score")["coverage"].max() == 1).all()


def test_interval_targets_are_abstained_from_by_the_spread_of_their_models():
    rng = np.random.default_rng(10)
    panel = draw(rng, Design(kind="interval", conflict={"audio": 0.3}, n=600, n_seeds=2)).panel
    values = np.stack([panel.outputs[m].mean(axis=(0, 1))[:, 0] for m in panel.unimodals])
    np.testing.assert_allclose(doubts_of(panel)[SPREAD], values.std(axis=0) / panel.truth.std())
    table = selective_table(panel).set_index(["loss", "score", "against", "measure"])
    errors = np.abs(panel.mean(FUSION)[:, 0] - panel.truth)
    for loss, values in (("absolute error", errors), ("squared error", errors**2)):
        assert table.loc[(loss, RANDOM, "", "AURC"), "estimate"] == pytest.approx(values.mean())
        assert table.loc[(loss, SPREAD, RANDOM, "AUGRC"), "high"] < 0
    assert CONFIDENCE not in table.index.get_level_values("score")
