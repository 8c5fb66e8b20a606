"""``fit-heads`` and ``analyze-disagreement`` on cross-fitted features: folds of their own, honest about the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_store import add_vectors, planted_store
from typer.testing import CliRunner

from mixed_signals.analysis import analyze
from mixed_signals.models.cli import app
from mixed_signals.models.refits import bagged, halved
from mixed_signals.store import (
    CrossFit,
    FeatureWriter,
    Recipe,
    Status,
    UsageError,
    cross_fitted_views,
    folds,
    load_run,
)
from mixed_signals.store.cross_fits import ALIGNED


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with text and video features that are cross-fitted in two folds, two halves each; the video's aligned."""
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
                    source={
                        "cross_fitted": fit.as_provenance(),
                        **({"aligned": {"anchors": 9}} if modality == "video" else {}),
                    },
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
    assert run.info["overrides"] == [f"{ALIGNED}: video/tuned"]
    assert f"{ALIGNED}: video/tuned" in printed.replace("\n", " ")
    assert (rows["label_true"] == rows["label_pred"]).mean() > 0.7


def test_probabilities_are_averaged_over_the_two_roles_before_they_are_scored(store, printed):
    run = load_run(store, "cross")
    for model in ("logistic:text", "majority"):
        rows = run.predictions[run.predictions["model"] == model]
        shares = [f"p_{name}" for name in run.info["classes"]]
        mean = rows.groupby("utterance_id")[shares].mean()
        true = (
            rows.drop_duplicates("utterance_id").set_index("utterance_id")["label_true"].reindex(mean.index)
        )
        said = mean.idxmax(axis=1).str.removeprefix("p_")
        metrics = run.metrics[run.metrics["model"] == model].set_index("metric")
        assert metrics.loc["accuracy", "estimate"] == pytest.approx((said == true).mean())
        assert metrics.loc["accuracy", "n"] == len(store.corpus.ids)


def test_folds_of_ones_own_are_refused_with_cross_fitted_features(store):
    found = fit(store, "--features", "text=tuned", "--folds", "4")
    assert isinstance(found.exception, UsageError)
    assert "cross-fitted features have folds of their own" in str(found.exception)
    found = fit(store, "--features", "text=tuned,text=planted")
    assert isinstance(found.exception, UsageError)
    assert "name one" in str(found.exception)


def test_an_analysis_perturbs_rows_and_says_that_encoders_are_taken_as_they_are(store, printed):
    result = analyze(store, "cross", heads=["logistic"], resamples=100, refit=False)
    assert len(result.table("utterances")) == len(store.corpus)
    assert any(
        "Encoders were fine-tuned for each fold and are taken as they are" in n for n in result.warnings
    )
    assert "its heads, those trained again" in result.methods
    assert result.table("rates")["estimate"].notna().any()
    assert result.table("stress")["estimate"].notna().all()


def test_heads_fitted_again_see_their_own_fold_and_nothing_else(store):
    views, own, group = cross_fitted_views(store, {"text": "tuned", "audio": "planted", "video": "tuned"})
    given = {"group": group, "n_jobs": 1}
    keys = ["modalities", "partition", "fold", "seed", "utterance_id"]
    for refit, what, more in (
        (bagged, [("text",), ("text", "audio")], {"n_bags": 2}),
        (halved, ["text", "audio"], {}),
    ):
        together = refit(views, "logistic", what, own, views_by_fold=True, **more, **given)
        alone = [
            refit(one, "logistic", what, [f], **more, **given) for f, one in zip(own, views, strict=True)
        ]
        tables = [table.set_index(keys).sort_index() for table in (together, pd.concat(alone))]
        assert tables[0].index.equals(tables[1].index)
        np.testing.assert_allclose(tables[0]["p_warm"], tables[1]["p_warm"], atol=1e-6)
        assert (together.groupby(["modalities", "seed"])["utterance_id"].value_counts() == 2).all()


def test_refits_refuse_views_whose_encoders_saw_the_test_rows_and_views_for_other_folds(store):
    views, own, group = cross_fitted_views(store, {"text": "tuned", "video": "tuned"})
    turned = [*views[1:], views[0]]
    for refit, what in ((bagged, [("text",)]), (halved, ["text"])):
        with pytest.raises(UsageError, match="among those that an encoder's weights were trained on"):
            refit(turned, "logistic", what, own, views_by_fold=True, group=group)
        with pytest.raises(UsageError, match="4 views for 3 folds"):
            refit(views, "logistic", what, own[:3], views_by_fold=True, group=group)


def test_log_odds_of_two_classes_have_no_halves(store):
    (fold, *_), one = folds(store.views(text="planted"), 2), store.views(text="planted")
    number = np.asarray(one["text"])[:, :1]
    two = np.concatenate([number, -number], axis=1)
    add_vectors(store, "text/two", two)
    with pytest.raises(UsageError, match=r"text \(two\) has one column, or two that say the same"):
        halved(store.views(text="two"), "logistic", ["text"], [fold], n_jobs=1)
