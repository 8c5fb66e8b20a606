"""``fit-heads`` and ``analyze-disagreement`` on cross-fitted features: folds of their own, honest about the rest."""

from __future__ import annotations

import numpy as np
import pytest
from small_store import planted_store
from typer.testing import CliRunner

from mixed_signals.analysis import analyze
from mixed_signals.models.cli import app
from mixed_signals.store import CrossFit, FeatureWriter, Recipe, Status, UsageError, folds, load_run


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose text and video features are cross-fitted in two folds, two halves each."""
    made = planted_store(tmp_path_factory.mktemp("cross"), n=96, n_groups=8)
    ids, views = made.corpus.ids, made.views(text="planted", video="planted")
    parity = {i: int(g[1:]) // 2 % 2 for i, g in zip(ids, made.corpus.utterances["group"], strict=True)}
    for fold in folds(views, 2):
        for half in (0, 1):
            trained = [i for i in fold.train_ids if parity[i] == half]
            heads = [i for i in fold.train_ids if parity[i] != half]
            place = (half, fold.fold, 2, 2, "group", tuple(heads), tuple(fold.test_ids))
            fit = CrossFit("tuned", "three-way", *place)
            there = np.isin(ids, [*heads, *fold.test_ids])
            for modality in ("text", "video"):
                recipe = Recipe(fit.member, modality, weights=fit.member)
                names = [f"d{i}" for i in range(views[modality].shape[1])]
                with FeatureWriter(
                    made.feature_path(modality, fit.member),
                    recipe,
                    ids,
                    ["h"] * len(ids),
                    names,
                    trained_on=trained,
                    source={"cross_fitted": fit.as_provenance()},
                ) as writer:
                    vectors = np.where(there[:, None], views[modality], np.nan)
                    status = np.where(there, Status.OK, Status.MISSING).tolist()
                    writer.write(range(len(ids)), vectors, status, [""] * len(ids))
    return made


def fit(store, *flags):
    return CliRunner().invoke(app, [str(store.path), *flags])


@pytest.fixture(scope="module")
def printed(store):
    flags = ["--features", "text=tuned,video=tuned,audio=planted", "--heads", "logistic", "--jobs", "1"]
    found = fit(store, *flags, "--run", "cross")
    assert found.exit_code == 0, found.output
    return found.output


def test_a_cross_fitted_run_scores_every_row_in_both_halves(store, printed):
    run = load_run(store, "cross")
    assert "each fold has cross-fitted features of its own" in printed
    assert "no head is fitted on all rows" in printed
    rows = run.predictions[run.predictions["model"] == "logistic:text+audio+video"]
    assert (rows.groupby("utterance_id")["partition"].nunique() == 2).all()
    assert set(rows["utterance_id"]) == set(store.corpus.ids)
    assert run.info["overrides"] == []
    assert (rows["label_true"] == rows["label_pred"]).mean() > 0.7


def test_folds_of_ones_own_are_refused_with_cross_fitted_features(store):
    found = fit(store, "--features", "text=tuned", "--folds", "4")
    assert isinstance(found.exception, UsageError)
    assert "cross-fitted features have folds of their own" in str(found.exception)
    found = fit(store, "--features", "text=tuned,text=planted")
    assert isinstance(found.exception, UsageError)
    assert "name one" in str(found.exception)


def test_an_analysis_answers_what_takes_no_training_and_names_the_rest(store, printed):
    result = analyze(store, "cross", heads=["logistic"], resamples=100)
    assert len(result.table("utterances")) == len(store.corpus)
    assert any("cross-fitted features, which differ from fold to fold" in note for note in result.warnings)
    assert result.table("rates")["estimate"].notna().any()
