"""Heads fitted again: to bootstrap samples of groups, and to halves of a modality's columns."""

import numpy as np
import pandas as pd
import pytest
from small_store import add_vectors, planted_store, utterance_table

from mixed_signals.models import LogisticHead, sweep
from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.intervals import group_codes
from mixed_signals.models.refits import _Bags, bagged, by_feature_set, halved
from mixed_signals.store import Corpus, Store, UsageError, folds

NAMES = dict.fromkeys(("text", "audio", "video"), "planted")
PAIR = [("text",), ("text", "audio")]


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    strengths = {"text": 1.0, "audio": 6.0, "video": 0.0}
    return planted_store(tmp_path_factory.mktemp("refits"), n=120, n_groups=15, strengths=strengths).views(
        **NAMES
    )


@pytest.fixture(scope="module")
def made(views):
    return folds(views, 3, partition=2)


def wide(table, values="p_warm", by=("seed",)):
    """One column for each model and seed, a row for each utterance."""
    return table.pivot_table(values, index="utterance_id", columns=["modalities", *by])


def test_every_model_predicts_every_utterance_once_in_each_bag(views, made):
    table = bagged(views, "logistic", PAIR, made, n_bags=3, n_jobs=1)
    counts = table.groupby(["model", "seed"])["utterance_id"].agg(["size", "nunique"])
    assert counts.index.tolist() == [(f"logistic:{m}", b) for m in ("text", "text+audio") for b in range(3)]
    assert (counts == 120).all().all()
    plain = sweep(views, ("logistic",), PAIR, made, (0,), n_jobs=1).predictions
    assert list(table.columns) == list(plain.columns)
    keys = ["utterance_id", "partition", "fold", "label_true"]
    plain = plain[plain["model"] == "logistic:text"]
    for _, bag in table[table["modalities"] == "text"].groupby("seed"):
        pd.testing.assert_frame_equal(bag[keys].reset_index(drop=True), plain[keys].reset_index(drop=True))
    apart = wide(table)["text"].diff(axis=1)[[1, 2]].abs().mean()
    assert (apart > 0.005).all()


def test_models_of_one_bag_are_fitted_to_one_sample_and_come_out_alike_in_any_company(views, made):
    alone = bagged(views, "logistic", [("text",)], made, n_bags=2, n_jobs=1)
    among = bagged(views, "logistic", "all", made, n_bags=3, n_jobs=1)
    among = among[(among["modalities"] == "text") & (among["seed"] < 2)]
    np.testing.assert_allclose(alone["p_warm"], among["p_warm"], atol=1e-6)
    other = bagged(views, "logistic", [("text",)], made, n_bags=2, n_jobs=1, seed=1)
    assert (alone["p_warm"] - other["p_warm"]).abs().mean() > 0.005


def test_a_bag_holds_whole_groups_as_often_as_they_were_drawn(views, made):
    codes = np.unique(views.groups, return_inverse=True)[1]
    by_id = dict(zip(views.ids, codes, strict=True))
    seen = []
    for fold in made:
        n_groups = len({by_id[i] for i in fold.train_ids})
        for bag in range(20):
            drawn, counts = _Bags(views, codes, 0).draw(fold, bag)
            assert set(drawn.train_ids) <= set(fold.train_ids)
            assert list(drawn.test_ids) == list(fold.test_ids)
            groups = pd.Series(counts).groupby([by_id[i] for i in drawn.train_ids])
            assert (groups.min() == groups.max()).all()
            assert (groups.size() == 8).all()
            assert groups.first().sum() == n_groups
            seen.append(groups.ngroups / n_groups)
    assert 0.6 < np.mean(seen) < 0.7  # 1 - 1/e, and a little for few groups
    assert len(set(seen)) > 1


def test_a_bag_s_head_is_the_one_that_its_rows_and_weights_make(views, made):
    table = bagged(views, "logistic", [("text",)], made, n_bags=2, n_jobs=1)
    codes = group_codes(views.groups, len(views))
    fold, counts = _Bags(views, codes, 0).draw(made[1], 1)
    rows = np.flatnonzero(np.isin(views.ids, fold.train_ids))
    weights = np.zeros(len(views))
    weights[rows] = counts
    X = np.asarray(views["text"])
    head = LogisticHead()
    problem = Problem(X, views.y, {"text": (0, X.shape[1])}, codes, weights=weights)
    LogisticHead.fit_many(problem, [Fit(head, ("text",), rows)])
    own = table[(table["fold"] == 1) & (table["seed"] == 1)]
    told = head.predict_proba(X[np.isin(views.ids, fold.test_ids)])
    np.testing.assert_allclose(own[["p_calm", "p_warm"]], told, atol=1e-6)


def labelled_store(folder, change):
    """A store of one modality whose utterances are those of `utterance_table`, changed."""
    table = change(utterance_table(96, 12))
    store = Store.create(folder / "s", Corpus("changed", table))
    X = np.random.default_rng(0).normal(size=(96, 1 if "narrow" in table else 4))
    add_vectors(store, "audio/x", X)
    return store.views(audio="x")


def test_a_class_of_one_group_is_in_every_bag_of_a_fold_that_has_it(tmp_path):
    views = labelled_store(
        tmp_path, lambda t: t.assign(label=np.where(t["group"] == "g3", "rare", t["label"]))
    )
    table = bagged(views, "logistic", "all", folds(views, 3), n_bags=8, n_jobs=1)
    groups = dict(zip(views.ids, views.groups, strict=True))
    tested_with_it = table.loc[table["utterance_id"].map(groups) == "g3", "fold"].iloc[0]
    trained = table["fold"] != tested_with_it
    assert (table.loc[trained, "p_rare"] > 0).all()
    assert (table.loc[~trained, "p_rare"] == 0).all()


def test_without_groups_rows_are_drawn_one_by_one(tmp_path):
    views = labelled_store(tmp_path, lambda t: t.drop(columns="group"))
    made = folds(views, 3, group=None)
    table = bagged(views, "logistic", "all", made, n_bags=2, n_jobs=1)
    assert (table.groupby("seed")["utterance_id"].nunique() == 96).all()
    _, counts = _Bags(views, group_codes(None, 96), 0).draw(made[0], 0)
    assert counts.sum() == len(made[0].train_ids) == 64
    assert len(counts) < 55


def test_halves_share_no_column(views, made):
    """Audio carries the label in one column: of two halves one knows it, and the other knows nothing."""
    best_half = set()
    for seed in range(6):
        table = halved(views, "logistic", ("audio",), made, seed=seed, n_jobs=1)
        assert list(table["model"].unique()) == ["logistic:audio.a", "logistic:audio.b"]
        right = (table["label_true"] == table["label_pred"]).groupby(table["modalities"]).mean()
        assert right.max() > 0.95
        assert right.min() < 0.7
        best_half.add(right.idxmax())
    assert best_half == {"audio.a", "audio.b"}  # splits are other ones


def test_each_feature_set_has_models_of_its_own(tmp_path):
    """Of two feature sets of audio one carries the label, and the other is noise."""
    store = planted_store(tmp_path, 96, 12, {"audio": 4.0, "video": 0.5})
    add_vectors(store, "audio/noise", np.random.default_rng(0).normal(size=(96, 3)))
    several = [store.views(audio=name, video="planted") for name in ("planted", "noise")]
    cut = folds(several[0], 3)
    table = by_feature_set(several, "logistic", ("audio",), cut, n_jobs=1)
    right = (table["label_true"] == table["label_pred"]).groupby(table["modalities"]).mean()
    assert list(right.index) == ["audio.1", "audio.2"]
    assert right["audio.1"] > 0.95
    assert right["audio.2"] < 0.7
    alone = sweep(several[0], ["logistic"], [("audio",)], cut, (0,), n_jobs=1).predictions
    own = table[table["modalities"] == "audio.1"].set_index("utterance_id")["p_warm"]
    told = alone[alone["modalities"] == "audio"].set_index("utterance_id")["p_warm"]
    np.testing.assert_allclose(own, told.reindex(own.index), atol=1e-6)
    with pytest.raises(UsageError, match="video has one feature set \\(planted\\)"):
        by_feature_set(several, "logistic", ("video",), cut)


def test_a_modality_is_halved_alike_whichever_others_are_named(views, made):
    one = halved(views, "logistic", ("video",), made, n_jobs=1)
    both = halved(views, "logistic", ("video", "text"), made, n_jobs=1)
    assert list(both["modalities"].unique()) == ["video.a", "video.b", "text.a", "text.b"]
    for half in ("video.a", "video.b"):
        told = [t[t["modalities"] == half]["p_warm"] for t in (one, both)]
        np.testing.assert_allclose(*told, atol=1e-6)
    other = halved(views, "logistic", ("video",), made, n_jobs=1, seed=1)
    assert (one["p_warm"] - other["p_warm"]).abs().max() > 0.001


def test_halves_are_fitted_with_every_seed(views, made):
    table = halved(views, "gated@max_epochs=3@hidden=4", ("text",), made, seeds=(0, 3), n_jobs=1)
    assert sorted(set(table["seed"])) == [0, 3]
    first, second = wide(table)["text.a"][0], wide(table)["text.a"][3]
    assert (first - second).abs().mean() > 1e-4


def test_what_cannot_be_fitted_again_is_refused(views, made, tmp_path):
    for call, said in (
        (lambda: bagged(views, "logistic", "all", made, n_bags=1), "n_bags: at least 2"),
        (lambda: bagged(views, "logistic", [("smell",)], made), "no 'smell' among"),
        (lambda: halved(views, "logistic", ("smell",), made), "no 'smell' among"),
        (lambda: halved(views, "mean", ("text",), made), "needs two modalities"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
    narrow = labelled_store(tmp_path, lambda t: t.assign(narrow="yes"))
    with pytest.raises(UsageError, match="audio \\(x\\) has one column"):
        halved(narrow, "logistic", ("audio",), folds(narrow, 3))
