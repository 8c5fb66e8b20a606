"""Perturbed rows: predicted by the heads that have not seen them, changed as is said, and otherwise left alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_store import planted_store, utterance_table

from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.perturbing import (
    HeldOut,
    TestRows,
    draw_donors,
    drop,
    exchange,
    noise,
    permute,
    swap,
)
from mixed_signals.analysis.robustness.reweighting import evaluate_training
from mixed_signals.analysis.study import Study
from mixed_signals.models import sweep
from mixed_signals.store import Corpus, Store, UsageError, folds, import_features
from mixed_signals.store.targets import Target

SMALL = "gated@max_epochs=15@n_scouts=0@learning_rate=0.02"
NAMES = {"text": "planted", "audio": "planted"}


def study_of(store, views, heads, name="r", **options):
    run = sweep(views, heads, n_jobs=1, seeds=(3, 5), **options)
    run.save(store, name)
    return Study.open(store, name)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    store = planted_store(tmp_path_factory.mktemp("s"), 96, 12, {"text": 4.0, "audio": 0.5, "video": 0.5})
    views = store.views(text="planted", audio="planted", video="planted")
    several = [fold for p in (0, 1) for fold in folds(views, 2, partition=p)]
    every = ("text", "audio", "video")
    subsets = [*((m,) for m in every), ("audio", "video"), every]
    heads = ["logistic", SMALL, "xgboost@max_trees=5"]
    return study_of(store, views, heads, folds=several, subsets=subsets)


def rows_of(n=60, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 7)).astype(np.float32)
    blocks = {"text": slice(0, 3), "audio": slice(3, 7)}
    training = 3 * rng.normal(size=(500, 7)).astype(np.float32)
    kinds, groups = rng.integers(0, 3, n), rng.integers(0, 6, n)
    return X, TestRows(None, 0, np.arange(n), blocks, kinds, groups, training, np.arange(500))


@pytest.mark.parametrize("model", [FUSION, "text", "audio+video"])
def test_rows_that_are_left_as_they_are_get_the_runs_own_predictions(study, model):
    assert len(study.panels) == 3
    for panel in study.panels:
        assert panel.outputs[model].shape[0] == 2
        found = HeldOut(study, panel, model).said()
        np.testing.assert_allclose(found, panel.outputs[model], atol=1e-6)


def test_the_head_that_folds_chose_is_perturbed_with_the_heads_that_they_chose(tmp_path):
    store = planted_store(tmp_path, 96, 12, {"text": 2.0, "audio": 1.0})
    views = store.views(**NAMES)
    study = study_of(store, views, ["logistic", "xgboost@max_trees=5"], folds=folds(views, 3), choose=True)
    panel = next(panel for panel in study.panels if panel.head == "chosen")
    np.testing.assert_allclose(HeldOut(study, panel).said(), panel.outputs[FUSION], atol=1e-6)
    answer = evaluate_training(study, panel)
    assert not answer.findings
    assert "another head in each fold" in answer.notes[0]


def test_single_seeds_can_be_asked_for(study):
    panel = study.panels[1]
    found = HeldOut(study, panel, seeds=[(5, 0)]).said()
    np.testing.assert_allclose(found, panel.outputs[FUSION][:, 1:], atol=1e-6)
    assert np.abs(found - panel.outputs[FUSION][:, :1]).max() > 1e-3


def test_normalised_runs_and_feature_sets_that_folds_chose_are_read_as_they_were(tmp_path):
    store = planted_store(tmp_path, 96, 12, {"text": 1.5, "audio": 1.0})
    rng = np.random.default_rng(8)
    ids = store.corpus.ids.astype(str)
    np.savez(tmp_path / "other.npz", utterance_id=ids, embedding=rng.normal(3, 2, (96, 4)))
    import_features(store, tmp_path / "other.npz", "text", "other")
    sign = np.where(store.corpus.labels("label") == "warm", 1.0, -1.0)[:, None]
    again = (1.2 * sign + rng.normal(size=(96, 3))).astype(np.float32)
    np.savez(tmp_path / "third.npz", utterance_id=ids, embedding=again)
    import_features(store, tmp_path / "third.npz", "text", "third")
    views = [store.views(text=name, audio="planted") for name in ("planted", "other", "third")]
    study = study_of(store, views, ["logistic"], normalize=True)
    assert "|" in study.run.info["features"]["text"]["name"]
    panel = study.panels[0]
    np.testing.assert_allclose(HeldOut(study, panel).said(), panel.outputs[FUSION], atol=1e-6)
    assert not np.allclose(HeldOut(study, panel).said(drop("text")), panel.outputs[FUSION], atol=1e-2)


def labelled_store(folder, table, **corpus):
    store = Store.create(folder / "store", Corpus("made", table, **corpus))
    rng = np.random.default_rng(3)
    for modality in ("text", "audio"):
        X = rng.normal(size=(len(table), 5)).astype(np.float32)
        np.savez(folder / "x.npz", utterance_id=table["utterance_id"].to_numpy(str), embedding=X)
        import_features(store, folder / "x.npz", modality, "planted")
    return store


def test_a_class_that_a_fold_never_saw_has_probability_zero(tmp_path):
    table = utterance_table(96, 8)
    table.loc[table["group"] == "g0", "label"] = "rare"
    store = labelled_store(tmp_path, table)
    study = study_of(store, store.views(**NAMES), ["logistic"])
    panel = study.panels[0]
    found = HeldOut(study, panel).said()
    rare = panel.classes.index("rare")
    assert (found[:, :, panel.truth == rare, rare] == 0).all()
    np.testing.assert_allclose(found, panel.outputs[FUSION], atol=1e-6)


def test_interval_targets_give_values(tmp_path):
    table = utterance_table(96, 8)
    table["valence"] = np.random.default_rng(0).normal(size=96)
    store = labelled_store(tmp_path, table, declared=(Target("valence", "interval"),))
    study = study_of(store, store.views(**NAMES, target="valence"), ["ridge"])
    panel = study.panels[0]
    assert panel.kind == "interval"
    np.testing.assert_allclose(HeldOut(study, panel).said(), panel.outputs[FUSION], atol=1e-6)
    moved = HeldOut(study, panel).said(swap("text")) - panel.outputs[FUSION]
    assert np.abs(moved).max() > 1e-3


def test_dropping_the_modality_that_carries_all_leaves_chance_and_another_hardly_anything(study):
    for panel in study.panels:
        held = HeldOut(study, panel)
        right = {
            m: (held.said(drop(m)).mean(axis=(0, 1)).argmax(axis=1) == panel.truth).mean()
            for m in panel.unimodals
        }
        assert right["text"] < 0.7 < 0.85 < right["audio"], panel.head


def test_noise_harms_the_more_the_stronger_it_is(study):
    panel = study.panels[1]
    held = HeldOut(study, panel)
    right = [
        (held.said(noise("text", scale)).mean(axis=(0, 1)).argmax(axis=1) == panel.truth).mean()
        for scale in (0.0, 1.0, 10.0)
    ]
    assert right[0] > right[1] > right[2]
    np.testing.assert_allclose(held.said(noise("text", 0.0)), panel.outputs[FUSION], atol=1e-6)


def test_rows_that_were_not_asked_for_are_nan_and_the_others_are_the_same(study):
    panel = study.panels[0]
    some = np.arange(len(panel.ids)) % 4 == 0
    whole = HeldOut(study, panel).said(permute("text"))
    part = HeldOut(study, panel, rows=some).said(permute("text"))
    assert np.isnan(part[:, :, ~some]).all()
    np.testing.assert_allclose(part[:, :, some], whole[:, :, some], atol=1e-6)


def test_the_same_draw_gives_the_same_numbers_and_another_one_others(study):
    panel = study.panels[0]
    held = HeldOut(study, panel)
    first = held.said(permute("text"))
    np.testing.assert_array_equal(first, HeldOut(study, panel).said(permute("text")))
    assert not np.array_equal(first, held.said(permute("text"), draw=1))


def test_changes_touch_the_columns_of_their_modality_only_and_not_what_they_are_given():
    X, rows = rows_of()
    before = X.copy()
    rng = np.random.default_rng(0)
    for change in (drop("audio"), noise("audio", 2.0), permute("audio"), swap("audio")):
        changed = change(X, rows, rng)
        np.testing.assert_array_equal(changed[:, :3], X[:, :3])
        assert not np.array_equal(changed[:, 3:], X[:, 3:])
        np.testing.assert_array_equal(X, before)


def test_drop_leaves_nan_and_noise_has_the_deviation_of_the_training_rows():
    X, rows = rows_of(4000)
    rng = np.random.default_rng(0)
    assert np.isnan(drop("text")(X, rows, rng)[:, :3]).all()
    added = noise("text", 0.5)(X, rows, rng)[:, :3] - X[:, :3]
    np.testing.assert_allclose(added.std(axis=0), 0.5 * rows.every[:, :3].std(axis=0), rtol=0.06)


def test_permuting_keeps_all_vectors_and_swapping_takes_one_of_another_class_and_the_same_group():
    X, rows = rows_of(200)
    permuted = permute("audio")(X, rows, np.random.default_rng(0))[:, 3:]
    np.testing.assert_array_equal(np.sort(permuted[:, 0]), np.sort(X[:, 3]))
    for same in (False, True):
        swapped = swap("audio", same=same)(X, rows, np.random.default_rng(0))[:, 3]
        donor = np.array([np.flatnonzero(X[:, 3] == value)[0] for value in swapped])
        assert (rows.groups[donor] == rows.groups).all()
        assert ((rows.kinds[donor] == rows.kinds) == same).all()
        assert (donor != np.arange(200)).all()


def test_an_exchange_follows_the_donors_it_is_given_and_keeps_rows_without_one():
    X, rows = rows_of(6)
    donors = np.array([[3, -1, 0, 2, 5, 4]])
    changed = exchange("text", donors)(X, rows, np.random.default_rng(0))
    np.testing.assert_array_equal(changed[:, :3], X[[3, 1, 0, 2, 5, 4], :3])


@pytest.mark.parametrize("same", [False, True])
def test_every_possible_donor_is_equally_likely(same):
    kinds = np.array([0, 0, 0, 1, 2, 2, 0, 1])
    groups = np.array([0, 0, 0, 0, 0, 0, 1, 2])
    rng = np.random.default_rng(0)
    drawn = np.array([draw_donors(kinds, groups, rng, same=same) for _ in range(4000)])
    for i in range(8):
        possible = [
            j for j in range(8) if groups[j] == groups[i] and (kinds[j] == kinds[i]) == same and j != i
        ] or [-1]
        found, count = np.unique(drawn[:, i], return_counts=True)
        assert found.tolist() == possible
        np.testing.assert_allclose(count / 4000, 1 / len(possible), atol=0.04)


def test_features_that_changed_or_heads_that_are_gone_are_named(tmp_path):
    store = planted_store(tmp_path, 96, 8, {"text": 1.0, "audio": 1.0})
    study = study_of(store, store.views(**NAMES), ["logistic"])
    panel = study.panels[0]
    gone = study.head_path(panel, FUSION, study.folds[0], panel.seeds[0])
    gone.rename(gone.with_suffix(".away"))
    with pytest.raises(UsageError, match=r"no saved head logistic\.text\+audio"):
        HeldOut(study, panel).said(drop("text"))
    gone.with_suffix(".away").rename(gone)
    unsaved = Study(study.run, study.panels, study.utterances, None)
    with pytest.raises(UsageError, match="in no store"):
        HeldOut(unsaved, panel)
    rng = np.random.default_rng(0)
    (store.path / "features" / "text" / "planted.h5").unlink()
    source = tmp_path / "text.npz"
    np.savez(source, utterance_id=store.corpus.ids.astype(str), embedding=rng.normal(size=(96, 6)))
    again = Store.open(store.path)
    import_features(again, source, "text", "planted")
    with pytest.raises(UsageError, match="text/planted is another one"):
        HeldOut(Study.open(Store.open(store.path), "r"), panel).said(drop("text"))


def test_predictions_from_nowhere_say_what_is_missing(study):
    bare = pd.Series(study.run.info).drop("folds").to_dict()
    run = type(study.run)(study.run.predictions, study.run.gates, study.run.metrics, bare, "r")
    with pytest.raises(UsageError, match="does not say on what"):
        HeldOut(Study(run, study.panels, study.utterances, None), study.panels[0])
