"""The simulation of known truth: it is what it says, and it would not let a broken method pass."""

import numpy as np
import pandas as pd
import pytest
from calibration_checks import (
    ALPHA,
    Claim,
    Setting,
    claim_of,
    covers,
    paired,
    percentile_bootstrap,
    splits,
    truths,
    unfit,
)
from calibration_runs import simulate
from planted_study import Design, autocorrelated, draw, group_numbers, grouped_normal
from scipy.stats import norm

from mixed_signals.analysis.panel import FUSION, make_panels
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import mean_interval
from mixed_signals.store import Store


def intraclass(values, groups):
    """Return the intra-class correlation by analysis of variance, of groups of one size."""
    table = values.reshape(groups.max() + 1, -1)
    size = table.shape[1]
    between, within = size * table.mean(axis=1).var(ddof=1), table.var(axis=1, ddof=1).mean()
    return (between - within) / (between + (size - 1) * within)


@pytest.mark.parametrize("icc", [0, 0.1, 0.3])
def test_groups_have_the_correlation_that_was_chosen(icc):
    rng = np.random.default_rng(0)
    groups = group_numbers(rng, 40_000, 2000, uneven=False)
    values = grouped_normal(rng, groups, icc)[:, 0]
    assert values.std() == pytest.approx(1, abs=0.02)
    assert intraclass(values, groups) == pytest.approx(icc, abs=0.02)


@pytest.mark.parametrize("uneven", [True, False])
def test_every_group_has_rows(uneven):
    groups = group_numbers(np.random.default_rng(0), 400, 91, uneven=uneven)
    counts = np.bincount(groups)
    assert len(groups) == 400
    assert counts.min() >= 1
    assert (counts.max() > 2 * counts.min()) == uneven


def test_rows_of_a_series_go_with_their_past():
    values = autocorrelated(np.random.default_rng(0), np.zeros(20_000, dtype=int), 0.8)
    assert np.corrcoef(values[1:], values[:-1])[0, 1] == pytest.approx(0.8, abs=0.02)


def test_models_are_as_good_as_the_strength_of_their_evidence_says():
    strengths = {"text": 1.5, "audio": 1.0, "video": 0.5}
    panel = draw(np.random.default_rng(0), Design(50_000, strengths=strengths, noise=0.0)).panel
    every = {"text": [1.5], "audio": [1.0], "text+video": [1.5, 0.5], FUSION: list(strengths.values())}
    for model, parts in every.items():
        right = (panel.labels(model)[0] == panel.truth).mean()
        assert right == pytest.approx(norm.cdf(np.sqrt(np.square(parts).sum() / 2)), abs=0.01), model


def test_what_is_planted_is_there():
    design = Design(
        4000, conflict={"audio": 0.25}, same={"video": "text"}, raters_see="conflict", n_classes=4
    )
    drawn = draw(np.random.default_rng(0), design)
    led = drawn.conflicted["audio"]
    assert led.mean() == pytest.approx(0.25, abs=0.03)
    right = drawn.panel.labels("audio")[0] == drawn.panel.truth
    assert right[~led].mean() > right[led].mean() + 0.3
    np.testing.assert_array_equal(drawn.evidence["video"], drawn.evidence["text"])
    assert drawn.contested[led].mean() > drawn.contested[~led].mean() + 0.3
    votes = drawn.votes
    assert (votes.sum(axis=1) == design.n_raters).all()
    assert (votes.max(axis=1) == np.where(drawn.contested, 4, 7)).all()


@pytest.mark.parametrize("kind", ["nominal", "ordinal", "interval"])
def test_tables_and_arrays_are_one_study(tmp_path, kind):
    drawn = draw(np.random.default_rng(0), Design(120, kind=kind, n_classes=3, n_partitions=2, n_seeds=2))
    (panel,), notes = make_panels(drawn.predictions(), kind=kind)
    assert not notes
    for model, outputs in drawn.panel.outputs.items():
        np.testing.assert_array_equal(panel.outputs[model], outputs)
    for name in ("ids", "truth", "folds", "prior"):
        np.testing.assert_array_equal(getattr(panel, name), getattr(drawn.panel, name))
    drawn.run(np.random.default_rng(1)).save(drawn.store(tmp_path / "store", width=5), "run")
    opened = Study.open(Store.open(tmp_path / "store"), "run").panels[0]
    np.testing.assert_array_equal(opened.groups, drawn.panel.groups)
    np.testing.assert_array_equal(opened.when, drawn.panel.when)


def test_the_same_seed_gives_the_same_study():
    first, again, other = (draw(np.random.default_rng(seed), Design(60)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.predictions(), again.predictions())
    assert not np.array_equal(first.panel.outputs["text"], other.panel.outputs["text"])


def grouped_shares(n_groups, icc, interval_of):
    """Return a check: does the interval of a share of grouped rows cover it? The share is 0.3."""
    limit = norm.ppf(0.3)

    def check(rng, setting):
        groups = group_numbers(rng, 400, n_groups)
        low, high = interval_of(rng, grouped_normal(rng, groups, icc)[:, 0] < limit, groups)
        return {"interval of a share": float(low <= 0.3 <= high)}

    return check


def ours(rng, values, groups):
    found = mean_interval(values, groups, limits=(0, 1), seed=int(rng.integers(1 << 31)))
    return found.low, found.high


def of_rows(rng, values, groups):
    return ours(rng, values, None)


@pytest.mark.parametrize(
    ("n_groups", "icc", "interval_of", "met"),
    [
        (8, 0.1, ours, True),
        (42, 0.1, ours, True),
        (8, 0.1, percentile_bootstrap, False),
        (8, 0.3, of_rows, False),
    ],
)
def test_an_interval_that_does_not_cover_is_found_out(n_groups, icc, interval_of, met):
    check = grouped_shares(n_groups, icc, interval_of)
    (measure,) = simulate([(check, Setting(n_groups, icc), 200 if interval_of is of_rows else 1000)])
    assert measure.met == met, measure
    assert measure.verdict == ("met" if met else "NOT MET")


def test_tests_that_forget_groups_or_take_seeds_for_folds_are_found_out():
    measures = simulate([(unfit, Setting(8, 0.3), 150), (splits, Setting(20, 0.1), 150)])
    found = {measure.name: measure for measure in measures}
    assert found["McNemar that takes rows for groups"].observed > 0.3
    assert found["t over seeds and folds"].observed > 0.12
    assert found["interval that takes rows for groups"].observed < 0.8
    assert found["corrected resampled t over folds and partitions"].met
    as_if_used = [
        m._replace(claim=Claim("size" if m.claim.nominal == ALPHA else "coverage", m.claim.nominal))
        for m in measures
        if m.claim.kind == "broken" and not m.name.startswith("percentile")
    ]
    assert [m.verdict for m in as_if_used] == ["NOT MET"] * 3


def test_tests_of_pairs_keep_their_size():
    measures = simulate([(paired, Setting(20, 0.3), 200)])
    assert len(measures) == 4
    assert all(measure.met and measure.claim.nominal == ALPHA for measure in measures), measures


def test_no_answer_is_no_miss():
    def check(rng, setting):
        return {"interval of a share": covers(mean_interval([0, 1, 1], ["a", "b", "c"]), 0.5)}

    (measure,) = simulate([(check, Setting(3, 0), 10)])
    assert (measure.n, measure.unanswered) == (0, 1)
    assert not measure.met, "a method that never answers is not calibrated"


def test_draws_do_not_depend_on_the_number_of_processes():
    plan = [(splits, Setting(20, 0.1), 110)]
    assert simulate(plan) == simulate(plan, n_jobs=2)


def test_what_is_true_does_not_depend_on_the_number_of_groups():
    assert claim_of("interval of x").nominal == 0.95
    true = truths(0.1, 2)
    assert 0 < true["a rare share (text right, fusion wrong)"] < 0.12
    assert 0.5 < true["AUROC of divergence for contested utterances"] < 0.8
