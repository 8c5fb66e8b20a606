"""Training with weights from disagreement: the weights, where they come from, and what they are compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_study import Design, draw
from scipy.stats import ttest_1samp

from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.robustness.reweighting import (
    WEIGHTINGS,
    compare_training,
    evaluate_training,
    inner_disagreement,
    row_weights,
    weighted_outputs,
)
from mixed_signals.analysis.sources import SOURCES
from mixed_signals.analysis.study import Study
from mixed_signals.models import sweep
from mixed_signals.store import Fold


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_have_mean_one_whatever_is_tied_or_absent(weighting):
    rng = np.random.default_rng(0)
    apart = rng.random(200).round(1)
    apart[::7] = np.nan
    weights = row_weights(apart, weighting)
    assert weights.mean() == pytest.approx(1)
    assert weights.min() >= 0
    assert (weights[::7] == 1).all()
    assert len(set(weights[apart == 0.3])) == 1


def test_each_weighting_does_what_it_is_called():
    apart = np.linspace(0, 1, 1001)
    trust = row_weights(apart, "trust agreement")
    assert trust[[0, 500, 1000]] == pytest.approx([1.8, 1, 0.2], abs=1e-2)
    np.testing.assert_allclose(row_weights(apart, "trust conflict"), 2 - trust)
    easiest = row_weights(apart, "easiest part")
    assert (easiest > 0).mean() == pytest.approx(0.75, abs=1e-3)
    assert (np.diff(easiest) <= 0).all()
    staged = row_weights(apart, "staged exposure")
    assert staged[333] == staged[0]
    assert staged[1000] / staged[0] == pytest.approx(0.5, abs=1e-3)
    assert (np.diff(staged[340:]) < 0).all()


def run_of(folder, *, spoil=False, kind="nominal"):
    """A small run of two modalities; where spoiled, the labels of fold 0's test rows are others."""
    design = Design(
        n=120, n_groups=6, kind=kind, strengths={"text": 2.0, "audio": 1.5}, conflict={"audio": 0.3}
    )
    made = draw(np.random.default_rng(1), design)
    if spoil:
        tested = made.panel.groups < "speaker 002"
        made = replace(
            made, panel=replace(made.panel, truth=np.where(tested, 1 - made.panel.truth, made.panel.truth))
        )
    store = made.store(folder / "store")
    views = store.views(text="planted", audio="planted")
    head = "ridge" if kind == "interval" else "logistic"
    tested = views.groups < "speaker 002"
    split = [
        Fold(0, number, views.ids[~mine], views.ids[mine]) for number, mine in enumerate((tested, ~tested))
    ]
    run = sweep(views, [head], [("text",), ("audio",), ("text", "audio")], split, (0,), n_jobs=1)
    run.save(store, "first")
    return Study.open(store, "first")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("plain"))


def test_weights_know_nothing_of_the_rows_that_the_fold_tests(study, tmp_path):
    fold = study.folds[0]
    apart = inner_disagreement(study, fold, n_jobs=1)
    assert set(apart.index) == set(fold.train_ids)
    assert apart.notna().all()
    spoiled = run_of(tmp_path, spoil=True)
    other = next(f for f in spoiled.folds if set(f.train_ids) == set(fold.train_ids))
    changed = spoiled.utterances["label"] != study.utterances["label"]
    assert set(changed[changed].index) == set(fold.test_ids)
    pd.testing.assert_series_equal(inner_disagreement(spoiled, other, n_jobs=1), apart)


def test_even_weights_are_plain_training_and_others_are_not(study):
    panel = study.panels[0]
    plain = panel.outputs[FUSION].mean(axis=1)
    even = {(f.partition, f.fold): pd.Series(1.0, index=f.train_ids) for f in study.folds}
    np.testing.assert_allclose(weighted_outputs(study, panel, even, n_jobs=1), plain, atol=1e-6)
    odd = {key: pd.Series(np.resize([0.0, 2.0], len(w)), index=w.index) for key, w in even.items()}
    assert np.abs(weighted_outputs(study, panel, odd, n_jobs=1) - plain).max() > 0.01


def test_training_again_is_compared_by_folds_and_by_groups(study):
    panel = study.panels[0]
    answer = evaluate_training(study, panel, n_jobs=1)
    table = answer.tables["training"]
    assert set(table["weighting"]) == set(WEIGHTINGS)
    assert len(table) == len(WEIGHTINGS) * 2 * 2
    assert (table.loc[table["measure"] == "log loss", "estimate"].abs() > 1e-6).all()
    np.testing.assert_allclose(
        table.loc[table["over"] == "groups", "estimate"],
        (table["weighted"] - table["plain"])[table["over"] == "groups"],
    )
    for key in ("Bengio 2009", "Nadeau 2003"):
        assert f"[{key}]" in " ".join(answer.methods)
        assert key in SOURCES
    assert all(finding.verdict.startswith("logistic: ") for finding in answer.findings)
    assert "order" in answer.notes[0]


def test_a_known_gain_is_found_with_the_corrected_variance():
    made = draw(np.random.default_rng(2), Design(n=500, n_partitions=2, n_seeds=2))
    study, panel = made.study(), made.panel
    partitions = [{"partition": p, "fold": f, "trained_on": "the others"} for p in range(2) for f in range(5)]
    study.run.info["folds"] = partitions
    said = panel.outputs[FUSION].mean(axis=1)
    truth = np.eye(2)[panel.truth]
    better = 0.5 * said + 0.5 * truth
    table = compare_training(study, panel, {"easiest part": better, "staged exposure": said})
    table = table.set_index(["weighting", "measure", "over"])
    gain = table.loc[("easiest part", "accuracy", "folds")]
    right = [(v.argmax(axis=2) == panel.truth).astype(float) for v in (better, said)]
    values = [(right[0] - right[1])[p, panel.folds[p] == f].mean() for p in range(2) for f in range(5)]
    assert gain["estimate"] == pytest.approx(np.mean(values))
    half = ttest_1samp(values, 0).confidence_interval().high - np.mean(values)
    n_test = np.mean([(panel.folds[p] == f).sum() for p in range(2) for f in range(5)])
    wider = np.sqrt((1 / 10 + n_test / (500 - n_test)) * 10)
    assert gain["high"] - gain["estimate"] == pytest.approx(half * wider)
    assert gain["low"] > 0
    assert table.loc[("easiest part", "accuracy", "groups"), "low"] > 0
    same = table.loc[("staged exposure", "accuracy", "folds")]
    assert (same["estimate"], np.isnan(same["p"])) == (0, True)


def test_interval_targets_are_weighted_by_the_spread_of_values(tmp_path):
    study = run_of(tmp_path, kind="interval")
    apart = inner_disagreement(study, study.folds[0], n_jobs=1)
    assert apart.notna().all()
    assert (apart > 0).all()
