"""Saved heads on other utterances."""

import numpy as np
import pytest
from small_store import add_vectors, planted_store, utterance_table
from typer.testing import CliRunner

from mixed_signals.models import load_head, predict, sweep
from mixed_signals.models.predict_cli import app
from mixed_signals.store import (
    Corpus,
    FeatureWriter,
    Fold,
    MixedSignalsError,
    Recipe,
    Status,
    Store,
    UsageError,
    folds,
)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    store = planted_store(tmp_path_factory.mktemp("origin"), n=120, strengths={"text": 1.0, "audio": 2.5})
    views = store.views(text="planted", audio="planted")
    run = sweep(views, ("logistic", "gated"), folds=folds(views, 4), seeds=(0, 1), refit=True)
    run.save(store, "first")
    return store


def other_store(folder, seed=9, width=6, **kept):
    """Make a store of other utterances without labels, whose vectors have the origin's recipe."""
    table = utterance_table(40, 4, seed).assign(utterance_id=[f"n{i:02d}" for i in range(40)])
    truth = table["label"].to_numpy()
    store = Store.create(folder / "other", Corpus("other", table.drop(columns="label")))
    rng = np.random.default_rng(seed)
    for modality in kept or {"text": None, "audio": None}:
        X = rng.normal(size=(40, width))
        X[:, 0] += np.where(truth == "warm", 1, -1) * (0.5 if modality == "text" else 1.25)
        add_vectors(store, f"{modality}/planted", X)
    return store, truth


def test_the_heads_of_a_run_predict_another_store_and_read_no_label(origin, tmp_path):
    store, truth = other_store(tmp_path)
    table = predict(store, origin, "first", "gated:text+audio")
    assert list(table["utterance_id"]) == list(store.corpus.ids)
    assert (table["label_pred"] == truth).mean() > 0.8
    heads = [
        load_head(origin.run_path("first", "heads", f"gated.text+audio.all.o0.s{seed}.safetensors"))
        for seed in (0, 1)
    ]
    vectors = [store[f"{m}/planted"].embedding[:] for m in ("text", "audio")]
    by_hand = np.mean([head.predict_proba(np.hstack(vectors)) for head in heads], axis=0)
    np.testing.assert_allclose(table[["p_calm", "p_warm"]], by_hand, atol=1e-6)


def test_rows_that_lack_a_modality_are_predicted_by_the_others_and_rows_without_any_left_out(
    origin, tmp_path
):
    store, _ = other_store(tmp_path, text=None)
    add_vectors(store, "audio/planted", np.zeros((15, 6)), store.corpus.ids[:15])
    assert len(predict(store, origin, "first", "gated:audio")) == 15
    assert len(predict(store, origin, "first", "gated:text+audio")) == 40


def test_feature_sets_of_another_recipe_are_refused(origin, tmp_path):
    store, _ = other_store(tmp_path, width=5)
    with pytest.raises(UsageError, match="text/planted: has another recipe"):
        predict(store, origin, "first", "logistic:text")


def test_wrong_names_are_told_with_those_there_are(origin, tmp_path):
    store, _ = other_store(tmp_path, text=None)
    with pytest.raises(UsageError, match="no run 'second'"):
        predict(store, origin, "second", "logistic:text")
    with pytest.raises(
        UsageError, match=r"no model 'ridge:text'.*gated:audio, gated:text\+audio, gated:text,"
    ):
        predict(store, origin, "first", "ridge:text")
    with pytest.raises(UsageError, match=r"no model 'gated' \(write HEAD:A\+B\)"):
        predict(store, origin, "first", "gated")
    with pytest.raises(UsageError, match="no feature set audio/planted"):
        predict(store, origin, "first", "logistic:audio")
    with pytest.raises(UsageError, match="no feature set text/mine"):
        predict(store, origin, "first", "logistic:text", {"text": "mine"})


def test_utterances_that_the_heads_were_fitted_on_are_not_predicted(origin):
    with pytest.raises(MixedSignalsError, match="the run or its encoders were trained on all that have text"):
        predict(origin, origin, "first", "logistic:text")


def test_rows_that_were_only_trained_on_are_not_predicted(tmp_path):
    """A predefined split tests a part of the rows; the heads that predict were fitted on all."""
    store = planted_store(tmp_path, n=96, strengths={"audio": 2.5})
    views = store.views(audio="planted")
    tested = views.ids[np.isin(views.groups, ["g0", "g1"])]
    fold = Fold(0, 0, np.setdiff1d(views.ids, tested)[:-5], tested)
    sweep(views, ("logistic",), folds=[fold], refit=True).save(store, "split")
    with pytest.raises(MixedSignalsError, match="no utterance to predict"):
        predict(store, store, "split", "logistic:audio")


def test_rows_that_trained_an_encoder_are_not_predicted(tmp_path):
    """They have no audio, so that no head was fitted on them."""
    store = planted_store(tmp_path, n=96, strengths={"text": 2.5})
    ids = store.corpus.ids
    groups = store.corpus.utterances["group"].to_numpy()
    taught = np.isin(groups, ["g0", "g1"])
    neither = np.isin(groups, ["g2"])
    X = np.random.default_rng(0).normal(size=(96, 3))
    for modality, there, trained_on in (("text", ids != "", ids[taught]), ("audio", ~taught & ~neither, ())):
        path, names = store.feature_path(modality, "tuned"), ["a", "b", "c"]
        with FeatureWriter(
            path, Recipe("tuned", modality), ids, ["h"] * 96, names, trained_on=trained_on
        ) as one:
            status = np.where(there, Status.OK, Status.MISSING).tolist()
            one.write(range(96), np.where(there[:, None], X, np.nan), status, [""] * 96)
    views = store.views(text="tuned", audio="tuned")
    sweep(views, ("logistic",), folds=folds(views, 2), refit=True).save(store, "run")
    assert set(predict(store, store, "run", "logistic:text")["utterance_id"]) == set(ids[neither])


def test_the_command_replaces_a_file_only_when_told_to(origin, tmp_path):
    store, _ = other_store(tmp_path)
    words = [str(store.path), "--from", str(origin.path), "--run", "first", "--model", "logistic:text"]
    words += ["--out", str(tmp_path / "p.csv")]
    assert CliRunner().invoke(app, words).exit_code == 0
    again = CliRunner().invoke(app, words)
    assert "is there already; choose another name, or replace it with --replace" in str(again.exception)
    assert CliRunner().invoke(app, [*words, "--replace"]).exit_code == 0


def test_a_run_that_normalises_without_a_named_group_normalises_by_the_corpus_groups(tmp_path):
    store, other = (planted_store(tmp_path / name, strengths={"audio": 2.5}) for name in ("a", "b"))
    views = store.views(audio="planted")
    made = folds(views, 4)
    for name, group in (("none", None), ("named", "group")):
        sweep(views, ("logistic",), folds=made, group=group, normalize=True, refit=True).save(store, name)
    one, two = (predict(other, store, name, "logistic:audio")["p_warm"] for name in ("none", "named"))
    np.testing.assert_allclose(one, two)


def test_a_store_without_the_column_that_a_run_normalises_by_is_refused(tmp_path, origin):
    table = utterance_table().assign(voice=lambda t: t["group"])
    store = Store.create(tmp_path / "s", Corpus("voices", table))
    add_vectors(store, "audio/planted", np.random.default_rng(0).normal(size=(96, 6)))
    views = store.views(audio="planted")
    made = folds(views, 4, group="voice")
    sweep(views, ("logistic",), folds=made, group="voice", normalize=True, refit=True).save(store, "r")
    with pytest.raises(UsageError, match="have no voice, by which the run normalises"):
        predict(origin, store, "r", "logistic:audio")
