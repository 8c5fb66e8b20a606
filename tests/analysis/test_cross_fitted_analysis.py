"""Analyses of runs on cross-fitted features: what is trained or perturbed again has each fold's own vectors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_store import planted_store
from typer.testing import CliRunner

from mixed_signals.analysis.cli import app
from mixed_signals.analysis.compare import compare, evaluate
from mixed_signals.analysis.disagreement.floors import repeated_panel
from mixed_signals.analysis.disagreement.same_modality import same_modality
from mixed_signals.analysis.pairing import of_run
from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.perturbing import HeldOut, drop, noise
from mixed_signals.analysis.report.tuned_encoders import cross_fitting
from mixed_signals.analysis.robustness.reweighting import (
    evaluate_training,
    inner_disagreement,
    weighted_outputs,
)
from mixed_signals.analysis.study import Study
from mixed_signals.extract.finetune.designs import Rows, nested, three_way
from mixed_signals.models import sweep
from mixed_signals.store import FeatureWriter, Recipe, Status, cross_fitted_views, folds

N, GROUPS = 72, 9
SMALL = "gated@max_epochs=12@n_scouts=0@learning_rate=0.02"
NAMES = {"text": "tuned", "audio": "planted", "video": "tuned"}
DESIGNS = {"three-way": three_way, "nested": nested}


def cross_fitted_store(folder, kind):
    """A store whose text and video are cross-fitted: each encoder turns the planted vectors its own way."""
    store = planted_store(folder, N, GROUPS, {"text": 3.0, "audio": 2.0, "video": 1.5})
    frozen = store.views(text="planted", audio="planted", video="planted")
    rows = Rows(frozen.ids, np.unique(frozen.y, return_inverse=True)[1], frozen.groups)
    design = DESIGNS[kind](rows, folds(frozen, 3), seed=0)
    for modality in ("text", "video"):
        for member in design.members:
            vectors = np.full((N, 6 if kind == "three-way" else 2), np.nan, np.float32)
            for name, ids in member.makers:
                made = np.isin(frozen.ids, ids)
                vectors[made] = encoded(frozen[modality][made], name, kind)
            write(store, modality, design, member, vectors)
    return store


def encoded(X, name, kind):
    rng = np.random.default_rng(list(name.encode()))
    if kind == "three-way":
        return X @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    half = X[:, :2] @ [0.8, 0.2 * rng.normal()]  # log-odds of two classes, centred
    return np.stack([half, -half], axis=1)


def write(store, modality, design, member, vectors):
    fit = design.cross_fit(member, "tuned")
    made_by = [
        {"weights": name, "trained_on": sorted(design.training(name).seen), "rows": list(ids)}
        for name, ids in member.makers
    ]
    taught = sorted({i for maker in made_by for i in maker["trained_on"]})
    columns = [f"d{i}" for i in range(vectors.shape[1])]
    ids, recipe = store.corpus.ids, Recipe(fit.member, modality, weights=fit.member)
    said = {"cross_fitted": fit.as_provenance(), "made_by": made_by}
    status = np.where(np.isnan(vectors[:, 0]), Status.MISSING, Status.OK).tolist()
    path = store.feature_path(modality, fit.member)
    with FeatureWriter(path, recipe, ids, ["h"] * N, columns, trained_on=taught, source=said) as writer:
        writer.write(range(N), vectors, status, [""] * N)


def run_of(store, name, **options):
    views, own, group = cross_fitted_views(store, NAMES)
    heads = ["logistic", SMALL]
    run = sweep(views, heads, folds=own, group=group, seeds=(0, 1), views_by_fold=True, n_jobs=1, **options)
    run.save(store, name)
    return Study.open(store, name)


@pytest.fixture(scope="module", params=list(DESIGNS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def store(tmp_path_factory, kind):
    return cross_fitted_store(tmp_path_factory.mktemp("s"), kind)


@pytest.fixture(scope="module")
def study(store):
    return run_of(store, "first")


def test_each_fold_has_the_views_that_its_heads_were_trained_on(study, store, kind):
    views, own, _ = cross_fitted_views(store, NAMES)
    assert len(study.views) == len(study.folds) == (6 if kind == "three-way" else 3)
    for found, mine, (fold, seen) in zip(study.folds, study.views, zip(own, views, strict=True), strict=True):
        assert (found.partition, found.fold) == (fold.partition, fold.fold)
        assert list(found.train_ids) == list(fold.train_ids)
        assert list(found.test_ids) == list(fold.test_ids)
        assert mine.sources["video"].name == f"tuned.p{fold.partition}f{fold.fold}"
        np.testing.assert_array_equal(mine.X, seen.X)
        assert study.views_of(found) == [mine]


@pytest.mark.parametrize("model", [FUSION, "text", "audio+video"])
def test_rows_that_are_left_as_they_are_get_the_runs_own_predictions(study, kind, model):
    for panel in study.panels:
        assert len(panel.folds) == (2 if kind == "three-way" else 1)
        assert len(panel.ids) == N
        held = HeldOut(study, panel, model)
        np.testing.assert_allclose(held.said(), panel.outputs[model], atol=1e-6)
        np.testing.assert_allclose(held.said(noise("text", 0.0)), panel.outputs[model], atol=1e-6)
        other = held.said(drop("audio")) if "audio" in model else held.said(noise("text", 3.0))
        assert (np.abs(other - panel.outputs[model]).max(axis=(1, 2, 3)) > 1e-2).all()


def test_models_are_compared_after_averaging_over_roles_as_they_are_scored(study):
    scores = study.run.metrics.set_index(["model", "metric"])["estimate"]
    for panel in study.panels:
        table = evaluate(study, panel).tables["comparison"].set_index(["second", "measure", "over"])
        assert set(table["n"]) == {N}
        assert table.loc[("audio", "accuracy", "folds"), "method"].startswith("3 folds")
        for modality in NAMES:
            whole, part = (f"{panel.head}:{subset}" for subset in ("text+audio+video", modality))
            for measure in ("accuracy", "log loss"):
                apart = scores[whole, measure] - scores[part, measure]
                assert table.loc[(modality, measure, "rows"), "estimate"] == pytest.approx(apart)
            direct = compare(of_run(study.run, whole), of_run(study.run, part), "accuracy", resamples=100)
            for over, found in (("folds", direct.folds), ("rows", direct.rows)):
                assert found.estimate == pytest.approx(table.loc[(modality, "accuracy", over), "estimate"])


@pytest.mark.parametrize("kind", ["three-way"], indirect=True)
def test_a_normalised_run_is_perturbed_as_it_was_trained(store):
    study = run_of(store, "normalised", normalize=True, subsets=[("text",), ("audio",), ("text", "audio")])
    for panel in study.panels:
        np.testing.assert_allclose(HeldOut(study, panel).said(), panel.outputs[FUSION], atol=1e-6)


def test_training_again_with_even_weights_is_the_run_itself(study):
    even = {(f.partition, f.fold): pd.Series(1.0, index=f.train_ids) for f in study.folds}
    for panel in study.panels:
        again = weighted_outputs(study, panel, even, n_jobs=1)
        np.testing.assert_allclose(again, panel.outputs[FUSION].mean(axis=1), atol=1e-5)


def test_the_floor_of_bags_is_measured_in_all_partitions(study):
    panel = study.panels[0]
    repeated = repeated_panel(study, panel)
    assert (repeated.kind, repeated.why) == ("bags", "")
    assert "which was turned off" in repeated_panel(replace(study, refit=False), panel).why
    assert repeated.panel.folds.tolist() == panel.folds.tolist()
    assert list(repeated.panel.ids) == list(panel.ids)
    for model in ("text", FUSION):
        right = (panel.outputs[model].mean(axis=1).argmax(axis=-1) == panel.truth).mean()
        bagged = (repeated.panel.outputs[model].mean(axis=1).argmax(axis=-1) == panel.truth).mean()
        assert bagged == pytest.approx(right, abs=0.08)
        assert right > 0.9  # a fold's head on another fold's vectors would be near a half


def test_models_of_one_modality_are_fitted_to_halves_where_there_are_any(study, kind):
    found = same_modality(study, study.panels[0])
    assert not found.sets
    if kind == "three-way":
        assert {m: len(models) for m, models in found.models.items()} == dict.fromkeys(NAMES, 2)
        assert found.why == ""
    else:  # log-odds of two classes are one number
        assert list(found.models) == ["audio"]
        assert "two that say the same" in found.why
    assert found.panel.folds.shape == study.panels[0].folds.shape


def test_views_of_other_folds_are_refused_since_their_encoders_saw_the_test_rows(store, study):
    tampered = Study.open(store, "first")
    chosen = tampered.run.info["chosen_features"]
    names = {(c["partition"], c["fold"], c["modality"]): c["features"] for c in chosen}
    for one in chosen:
        one["features"] = names[one["partition"], (one["fold"] + 1) % 3, one["modality"]]
    panel = tampered.panels[0]
    assert "among those that an encoder's weights were trained on" in repeated_panel(tampered, panel).why
    assert "among those that an encoder's weights were trained on" in same_modality(tampered, panel).why
    assert "trained on" in evaluate_training(tampered, panel).notes[0]


def test_training_rows_are_weighed_only_by_models_that_are_blind_to_them(study, kind):
    panel = study.panels[0]
    if kind == "nested":
        answer = evaluate_training(study, panel)
        assert not answer.findings
        assert answer.notes == [
            f"Training rows are not weighed by disagreement: encoders of their folds' vectors were trained on {N} of "
            "them, so that no model of inner folds is blind to these (finetune-encoders --design three-way makes "
            "features that are)."
        ]
        return
    fold = study.folds[4]
    apart = inner_disagreement(study, fold, n_jobs=1)
    assert list(apart.index) == list(fold.train_ids)
    assert apart.notna().all()


@pytest.mark.parametrize("kind", ["three-way"], indirect=True)
def test_the_command_measures_floors_and_the_stress_test_and_shows_them(store, study):
    call = [str(store.path), "--run", "first", "--head", "logistic", "--resamples", "100"]
    called = CliRunner().invoke(app, call)
    assert called.exit_code == 0, called.output
    said = " ".join(called.output.split())
    assert "Encoders were fine-tuned for each fold and are taken as they are" in said
    assert "could not be measured" not in said
    folder = store.path / "runs" / "first" / "analysis"
    stress = pd.read_parquet(folder / "tables" / "stress.parquet").query("measure == 'accuracy'")
    assert set(stress.loc[stress["quantity"] == "after", "modality"]) == set(NAMES)
    assert stress["estimate"].notna().all()
    found = {finding["quantity"]: finding for finding in json.loads((folder / "findings.json").read_text())}
    for name in ("text against fusion, excess", "audio against fusion, beyond same modality"):
        assert np.isfinite(found[name]["estimate"]), name
    assert np.isfinite(found["text, exchange less control"]["estimate"])
    page = (folder / "report" / "index.html").read_text()
    assert "text tuned (6 cross-fitted sets), audio planted, video tuned (6 cross-fitted sets)" in page
    header = page.partition("</header>")[0]
    assert (
        "<dt>Cross-fitted</dt><dd>three-way (of each fold&#39;s training groups one half trained the"
        in header
    )
    assert "vector spaces of encoders not aligned; group kept apart</dd>" in header


@pytest.mark.parametrize("kind", ["nested"], indirect=True)
def test_the_head_of_a_report_says_how_encoders_were_cross_fitted_and_what_was_left_out(store, study):
    assert cross_fitting(study, N).startswith(
        "nested (class log-odds, for each fold from encoders without it"
    )
    assert cross_fitting(study, N).endswith(
        "; no head was tested on rows that trained its encoder; group kept apart"
    )
    assert cross_fitting(study, N - 2).endswith("; 2 of 72 utterances left out, without a label or a vector")
    assert "aligned" not in cross_fitting(study, N)
    assert cross_fitting(replace(study, store=None), N) == ""
    info = {**study.run.info, "views_by_fold": False}
    assert cross_fitting(replace(study, run=replace(study.run, info=info)), N) == ""
