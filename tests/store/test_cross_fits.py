"""Cross-fitted feature sets: each fold has its own, and no head tests on a row that taught one of its encoders."""

from __future__ import annotations

import numpy as np
import pytest
from small_store import utterance_table

from mixed_signals.models import sweep
from mixed_signals.store import (
    Corpus,
    CrossFit,
    FeatureWriter,
    Fold,
    MixedSignalsError,
    Recipe,
    Status,
    Store,
    UsageError,
    cross_fitted_views,
    folds,
)
from mixed_signals.store.cross_fits import ALIGNED, alignment_notes

N, GROUPS = 24, 6


@pytest.fixture
def store(tmp_path):
    made = Store.create(tmp_path / "s", Corpus("c", utterance_table(N, GROUPS)))
    write(made, "audio", "plain", made.corpus.ids)
    return made


def write(store, modality, name, ids, *, width=2, **said):
    """Write a feature set whose rows are there for some ids."""
    there = np.isin(store.corpus.ids, list(ids))
    status = np.where(there, Status.OK, Status.MISSING)
    rng = np.random.default_rng(len(name))
    path = store.feature_path(modality, name)
    recipe = Recipe(name, modality, weights=name)
    columns = [f"{name}_{i}" for i in range(width)]
    with FeatureWriter(path, recipe, store.corpus.ids, ["h"] * N, columns, **said) as writer:
        vectors = np.where(there[:, None], rng.normal(size=(N, width)), np.nan)
        writer.write(range(N), vectors, status.tolist(), [""] * N)


def three_way(store, modality="text", name="tuned", *, n_folds=3, leave_out=(), taught=None, aligned=None):
    """Write the family of a three-way design, for the folds that `folds` makes."""
    made = folds(store.views(audio="plain"), n_folds)
    groups = dict(zip(store.corpus.ids, store.corpus.utterances["group"], strict=True))
    for fold in made:
        names = sorted({groups[i] for i in fold.train_ids})
        halves = [[i for i in fold.train_ids if (names.index(groups[i]) % 2) == half] for half in (0, 1)]
        for half, (trained, heads) in enumerate([(halves[0], halves[1]), (halves[1], halves[0])]):
            fit = CrossFit(
                name, "three-way", half, fold.fold, 2, n_folds, "group", tuple(heads), tuple(fold.test_ids)
            )
            if fit.member in leave_out:
                continue
            write(
                store,
                modality,
                fit.member,
                {*heads, *fold.test_ids},
                trained_on=taught or trained,
                source={"cross_fitted": fit.as_provenance(), **(aligned or {})},
            )
    return made


def test_each_fold_is_trained_and_tested_on_its_own_vectors(store):
    made = three_way(store)
    views, own, group = cross_fitted_views(store, {"text": "tuned", "audio": "plain"})
    assert group == "group"
    assert [(f.partition, f.fold) for f in own] == [(p, f) for p in (0, 1) for f in range(3)]
    assert {tuple(v.ids) for v in views} == {tuple(store.corpus.ids)}
    run = sweep(views, ("logistic",), "all", own, (0,), views_by_fold=True, n_jobs=1)
    for fold, seen in zip(own, views, strict=True):
        assert seen.sources["text"].name == f"tuned.p{fold.partition}f{fold.fold}"
        assert set(fold.test_ids) == set(made[fold.fold].test_ids)
        assert seen.present[np.isin(seen.ids, [*fold.train_ids, *fold.test_ids])].all()
        head = run.heads[f"logistic.text.p{fold.partition}.f{fold.fold}.o0.s0"]
        assert head.features_["text"]["name"] == seen.sources["text"].name
    tested = run.predictions[run.predictions["model"] == "logistic:text+audio"]
    assert (tested.groupby("utterance_id").size() == 2).all()
    chosen = {(c["partition"], c["fold"]): c["features"] for c in run.info["chosen_features"]}
    assert chosen == {(f.partition, f.fold): f"tuned.p{f.partition}f{f.fold}" for f in own}


def test_each_half_is_trained_on_what_the_other_half_is_not(store):
    three_way(store)
    _, own, _ = cross_fitted_views(store, {"text": "tuned"})
    for fold in range(3):
        first, second = (set(f.train_ids) for f in own if f.fold == fold)
        assert not first & second
        assert first | second == set(store.corpus.ids) - set(own[fold].test_ids)


def test_a_family_whose_encoders_saw_test_rows_is_refused(store):
    three_way(store, taught=store.corpus.ids[:4].tolist())
    views, own, _ = cross_fitted_views(store, {"text": "tuned"})
    with pytest.raises(UsageError, match="4 test utterances are among those that an encoder's weights were"):
        sweep(views, ("logistic",), "all", own, (0,), views_by_fold=True, n_jobs=1)


def test_test_rows_whose_group_trained_an_encoder_are_refused_though_no_head_is_trained_on_it(store):
    ids, groups = store.corpus.ids, store.corpus.utterances["group"].to_numpy()
    write(
        store, "text", "once", ids, trained_on=[i for i in ids[:GROUPS] if groups[list(ids).index(i)] == "g3"]
    )
    known = np.isin(groups[GROUPS:], ["g0", "g1", "g2"])
    fold = Fold(0, 0, ids[GROUPS:][known], ids[GROUPS:][~known])
    views, n = store.views(text="once"), N // GROUPS - 1
    with pytest.raises(
        UsageError, match=rf"{n} test rows are of groups \(1, e.g. g3\) that are trained on too"
    ):
        sweep(views, ("logistic",), "all", [fold], (0,), n_jobs=1)
    sweep(store.views(audio="plain"), ("logistic",), "all", [fold], (0,), n_jobs=1)


def taught_in_every_group(store, *, audio):
    """Write text that was trained on two rows of each group, and audio of these rows; return their ids."""
    taught = store.corpus.ids[: 2 * GROUPS].tolist()
    write(store, "text", "once", store.corpus.ids, trained_on=taught)
    write(store, "audio", "some", audio)
    return taught


def test_speakers_that_an_encoder_knows_are_found_among_rows_that_the_views_lack(store):
    others = store.corpus.ids[2 * GROUPS :]
    taught_in_every_group(store, audio=others)
    views = store.views(text="once", audio="some")
    assert set(views.ids) == set(others)
    with pytest.raises(UsageError, match=rf"{N - 2 * GROUPS} test rows are of groups \({GROUPS}, e.g. g0"):
        sweep(views, ("logistic",), "all", folds(views, 3), (0,), n_jobs=1)


def test_speakers_that_an_encoder_knows_are_found_among_rows_without_a_label(tmp_path):
    labels = utterance_table(N, GROUPS)["label"].to_numpy()
    other = np.where(np.arange(N) < 2 * GROUPS, "", labels)
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(N, GROUPS).assign(mood=other)))
    taught_in_every_group(store, audio=store.corpus.ids)
    views = store.views(text="once", target="mood")
    with pytest.raises(UsageError, match=r"test rows are of groups .* trained on too"):
        sweep(views, ("logistic",), "all", folds(views, 3), (0,), n_jobs=1)


def test_leave_to_test_trained_rows_is_none_to_test_others_of_their_speakers(store):
    taught = taught_in_every_group(store, audio=store.corpus.ids)
    views = store.views(text="once")
    call = {"folds": folds(views, 3), "seeds": (0,), "n_jobs": 1, "allow_trained_rows": True}
    with pytest.raises(UsageError, match=rf"{N - len(taught)} test rows are of groups"):
        sweep(views, ("logistic",), "all", **call)
    said = sweep(views, ("logistic",), "all", **call, allow_shared_groups=True).info["overrides"]
    assert [one.partition(" ")[0] for one in said] == [str(len(taught)), str(N - len(taught))]


def test_a_run_on_aligned_vectors_says_so_and_older_files_are_not_aligned(store):
    three_way(store)
    views, own, _ = cross_fitted_views(store, {"text": "tuned", "audio": "plain"})
    assert sweep(views, ("logistic",), "all", own, (0,), views_by_fold=True, n_jobs=1).info["overrides"] == []
    three_way(store, name="near", aligned={"aligned": {"anchors": 4}})
    assert store["text/near.p0f0"].aligned
    assert not store["text/tuned.p0f0"].aligned
    views, own, _ = cross_fitted_views(store, {"text": "near", "audio": "plain"})
    run = sweep(views, ("logistic",), "all", own, (0,), views_by_fold=True, n_jobs=1)
    assert run.info["overrides"] == [f"{ALIGNED}: text/near"]
    assert alignment_notes([]) == []


def test_only_encoders_that_made_a_vector_of_the_fold_count(store):
    ids = store.corpus.ids
    rows = [ids[:12].tolist(), ids[12:].tolist()]
    made_by = [
        {"weights": "a", "trained_on": rows[1][:3], "rows": rows[0]},
        {"weights": "b", "trained_on": rows[0][:5], "rows": rows[1]},
    ]
    write(store, "text", "two", ids, trained_on=[*rows[0][:5], *rows[1][:3]], source={"made_by": made_by})
    features = store["text/two"]
    assert features.trained_for(rows[0]) == set(rows[1][:3])
    assert features.trained_for([rows[1][0]]) == set(rows[0][:5])
    assert features.trained_for(ids) == {*rows[0][:5], *rows[1][:3]}
    assert store.views(text="two").trained_for(rows[0]) == set(rows[1][:3])


def test_a_family_that_is_not_whole_or_of_other_folds_is_refused(store):
    three_way(store, leave_out=("tuned.p1f2",))
    with pytest.raises(UsageError, match="5 of its 6 feature sets are there"):
        cross_fitted_views(store, {"text": "tuned"})
    three_way(store, name="whole")
    three_way(store, "video", "other", n_folds=2)
    with pytest.raises(UsageError, match="were cross-fitted on other folds"):
        cross_fitted_views(store, {"text": "whole", "video": "other"})
    with pytest.raises(UsageError, match="no cross-fitted feature set among plain"):
        cross_fitted_views(store, {"audio": "plain"})


def test_a_family_with_vectors_that_are_not_made_yet_is_refused(store):
    three_way(store)
    features = store["text/tuned.p1f2"]
    at = features.blocks["status"].offset + int(np.flatnonzero(features.ok)[0])
    with features.path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([Status.PENDING]))
    with pytest.raises(UsageError, match=r"text/tuned\.p1f2: 1 vector not made yet"):
        cross_fitted_views(store, {"text": "tuned"})


def test_a_member_under_another_name_is_refused(store):
    three_way(store)
    store.feature_path("text", "tuned.p0f0").rename(store.feature_path("text", "other.p0f0"))
    with pytest.raises(MixedSignalsError, match=r"was made as tuned\.p0f0"):
        cross_fitted_views(store, {"text": "other"})


def test_a_sweep_that_would_fit_on_all_rows_is_refused(store):
    three_way(store)
    views, own, _ = cross_fitted_views(store, {"text": "tuned"})
    with pytest.raises(UsageError, match="no head can be fitted on all rows"):
        sweep(views, ("logistic",), "all", own, (0,), views_by_fold=True, refit=True)
    with pytest.raises(UsageError, match="6 views for 5 folds"):
        sweep(views, ("logistic",), "all", own[:-1], (0,), views_by_fold=True)
