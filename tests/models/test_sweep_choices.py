"""What a sweep does besides fitting: partitions, orders, choices inside folds, normalisation, and going on."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from small_store import add_vectors, planted_store, utterance_table

from mixed_signals.models import head_spec, load_head, sweep
from mixed_signals.models.keeping import unfinished
from mixed_signals.models.material import material, normalized
from mixed_signals.models.plan import plan
from mixed_signals.store import (
    Corpus,
    Fold,
    MixedSignalsError,
    Store,
    Target,
    UsageError,
    folds,
    load_run,
    predefined_folds,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    strengths = {"text": 0.5, "audio": 2.5}
    return planted_store(tmp_path_factory.mktemp("choices"), n=120, strengths=strengths)


def add_labelled(store, name, strength):
    """Import another feature set of audio for the store's utterances, with the class in its first dimension."""
    table = store.corpus.utterances
    X = np.random.default_rng(5).normal(size=(len(table), 4))
    X[:, 0] += np.where(table["label"] == "warm", strength, -strength) / 2
    add_vectors(store, f"audio/{name}", X)


def test_partitions_change_the_folds_and_orders_and_seeds_do_not(store):
    views = store.views(text="planted", audio="planted")
    both = [fold for partition in (0, 1) for fold in folds(views, 4, partition=partition)]
    table = sweep(views, ("logistic", "gated@max_epochs=4"), folds=both, seeds=(0, 1), orders=2).predictions
    gated = table[table["model"] == "gated@max_epochs=4:text+audio"]
    counts = gated.groupby(["partition", "order", "seed"])["utterance_id"].agg(["size", "nunique"])
    assert len(counts) == 8
    assert (counts == 120).all().all()
    where = gated.drop_duplicates(["utterance_id", "partition", "fold"])
    assert len(where) == 240
    one, two = (where[where["partition"] == p].set_index("utterance_id")["fold"] for p in (0, 1))
    assert (one != two[one.index]).mean() > 0.3
    here = gated[(gated["partition"] == 0) & (gated["seed"] == 0)]
    one, two = (here[here["order"] == o].set_index("utterance_id")["p_warm"] for o in (0, 1))
    assert (one != two[one.index]).mean() > 0.9
    assert set(table[table["head"] == "logistic"]["order"]) == {0}


def test_each_fold_chooses_a_feature_set_by_its_training_rows(tmp_path):
    """One of two sets carries the label; the other carries it in the test rows of fold 0 alone, which must not help."""
    store = planted_store(tmp_path, n=120, strengths={"audio": 2.5})
    made = folds(store.views(audio="planted"), 4)
    table = store.corpus.utterances.set_index("utterance_id")
    X = np.random.default_rng(3).normal(size=(120, 4))
    tempting = table.index.isin(made[0].test_ids)
    X[tempting, 0] += np.where(table["label"] == "warm", 20, -20)[tempting]
    add_vectors(store, "audio/tempting", X, table.index)
    run = sweep(
        [store.views(audio=n) for n in ("tempting", "planted")], ("logistic",), folds=made, refit=True
    )
    chosen = pd.DataFrame(run.info["chosen_features"]).set_index("fold")["features"]
    assert chosen[0] == "planted"
    alone = sweep(store.views(audio="planted"), ("logistic",), folds=made)
    for fold in chosen.index[(chosen == "planted") & (chosen.index >= 0)]:
        mine, theirs = (
            r.predictions.query(f"fold == {fold} and head == 'logistic'")["p_warm"].to_numpy()
            for r in (run, alone)
        )
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert run.heads["logistic.audio.p0.f0.o0.s0"].features_["audio"]["name"] == "planted"


def test_each_fold_chooses_a_head_by_rows_held_out_of_its_training_rows(store):
    views = store.views(audio="planted")
    weak = "xgboost@max_trees=1@learning_rate=0.001"
    run = sweep(views, (weak, "logistic"), folds=folds(views, 4), seeds=(0, 1), choose=True)
    assert {choice["head"] for choice in run.info["chosen_heads"]} == {"logistic"}
    tables = run.predictions.set_index("utterance_id").groupby("model")
    chosen, logistic = tables.get_group("chosen:audio"), tables.get_group("logistic:audio")
    assert set(chosen["head"]) == {"chosen"}
    assert (chosen["p_warm"] == logistic["p_warm"].loc[chosen.index]).all()
    assert "chosen:audio" in set(run.metrics["model"])


def test_normalisation_removes_what_a_group_adds_and_is_said_to_be_transductive(tmp_path):
    store = planted_store(tmp_path, n=160, strengths={"audio": 2.5})
    table = store.corpus.utterances
    rng = np.random.default_rng(4)
    X = rng.normal(size=(160, 4))
    X[:, 0] += np.where(table["label"] == "warm", 1.2, -1.2)
    shift = rng.normal(size=8)[table["group"].str[1:].astype(int)] * 100
    add_vectors(store, "audio/voices", X + shift[:, None])
    views = store.views(audio="voices")
    made = folds(views, 4)

    def accuracy(run):
        found = run.metrics.query("model == 'logistic:audio' and metric == 'accuracy'")
        return float(found["estimate"].iloc[0])

    plain, normal = (sweep(views, ("logistic",), folds=made, normalize=flag) for flag in (False, True))
    assert accuracy(normal) > accuracy(plain) + 0.05
    assert "transductive" in normal.info["overrides"][0]
    assert plain.info["overrides"] == []


def test_normalised_groups_have_mean_0_and_deviation_1_and_gaps_stay():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(40, 3)) * 5 + 7).astype(np.float32)
    X[3, 1] = np.nan
    X[:20, 2] = 4
    codes = np.repeat([0, 1], 20)
    Z = normalized(X, codes)
    assert np.isnan(Z[3, 1])
    assert np.isfinite(np.delete(Z.ravel(), 10)).all()
    np.testing.assert_allclose(np.nanmean(Z[:20, :2], axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(Z[20:], axis=0), 1, atol=1e-5)
    assert (Z[:20, 2] == 0).all()


class StopError(Exception):
    pass


def test_an_interrupted_sweep_goes_on_and_ends_as_an_uninterrupted_one(store):
    views = store.views(text="planted", audio="planted")
    call = {
        "heads": ("logistic", "gated@max_epochs=4"),
        "folds": folds(views, 4),
        "seeds": (0, 1),
        "refit": True,
        "n_jobs": 1,
    }
    whole = sweep(views, **call)
    done = []

    def stop(n):
        done.append(n)
        if len(done) == 4:
            raise StopError

    with pytest.raises(StopError), unfinished(store, "long") as folder:
        sweep(views, **call, keep=folder, on_progress=stop)
    assert len(list(folder.glob("*.npz"))) >= 3
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    with unfinished(store, "long") as folder:
        first = []
        run = sweep(views, **call, keep=folder, on_progress=first.append)
        assert first[0] == sum(done) > 0  # what was kept is told of at once
        assert all((folder / name).stat().st_mtime_ns == time for name, time in before.items())
        run.save(store, "long")
    assert not folder.exists()
    saved = load_run(store, "long")
    pd.testing.assert_frame_equal(saved.predictions, whole.predictions, check_dtype=False)
    heads = sorted(path.name for path in store.run_path("long", "heads").iterdir())
    assert sorted(name.rsplit(".", 1)[0] for name in heads) == sorted(whole.heads)
    head = load_head(store.run_path("long", "heads", "gated@max_epochs=4.text+audio.all.o0.s1.safetensors"))
    np.testing.assert_allclose(
        head.predict_proba(views.X),
        whole.heads["gated@max_epochs=4.text+audio.all.o0.s1"].predict_proba(views.X),
        atol=1e-6,
    )


def begin(store, name, views, made):
    """Leave a run that is done but for its tables."""
    with contextlib.suppress(StopError), unfinished(store, name) as folder:
        sweep(views, ("logistic",), folds=made, keep=folder)
        raise StopError
    return folder


def test_a_run_is_not_finished_by_another_call(store):
    views = store.views(audio="planted")
    made = folds(views, 4)
    begin(store, "other", views, made)
    with (
        pytest.raises(UsageError, match="begun with other seeds; finish it"),
        unfinished(store, "other") as folder,
    ):
        sweep(views, ("logistic",), folds=made, seeds=(3,), keep=folder)
    with unfinished(store, "other", restart=True) as folder:
        assert len(sweep(views, ("logistic",), folds=made, seeds=(3,), keep=folder).predictions)


def test_two_processes_cannot_work_on_one_run(store):
    with unfinished(store, "mine"), pytest.raises(MixedSignalsError, match="writing this run"):  # noqa: SIM117
        with unfinished(store, "mine"):
            pass


@pytest.mark.parametrize("junk", [b"junk", b"", b"PK\x03\x04junk"])
def test_a_damaged_part_is_named(store, junk):
    views = store.views(audio="planted")
    made = folds(views, 4)
    name = f"bad{len(junk)}"
    folder = begin(store, name, views, made)
    next(folder.glob("*.npz")).write_bytes(junk)
    with pytest.raises(MixedSignalsError, match=r"npz: not readable"), unfinished(store, name) as folder:
        sweep(views, ("logistic",), folds=made, keep=folder)


def test_every_head_of_the_plan_is_in_one_block(store):
    views = store.views(text="planted", audio="planted")
    made = folds(views, 4)
    specs = [head_spec(name) for name in ("logistic", "gated", "gated@hidden=8", "mean")]
    shared = material(views, views.groups)
    blocks = plan(shared, specs, [("text",), ("audio",), ("text", "audio")], made, (0, 1), 2, refit=True)
    stems = [member.stem(block.fold) for block in blocks for member in block.members]
    assert len(stems) == len(set(stems)) == 5 * (3 + 2 * 3 * 4 + 1)
    assert len({block.key for block in blocks}) == len(blocks)
    sizes = [sum(len(member.subset) for member in block.members) for block in blocks]
    assert sizes == sorted(sizes, reverse=True)


def split_views(tmp_path, values):
    table = utterance_table(96, 8).assign(split=values)
    store = Store.create(tmp_path / "s", Corpus("split", table))
    add_labelled(store, "x", 3.0)
    return store.views(audio="x")


def test_a_predefined_split_tests_what_is_marked_test(tmp_path):
    values = np.resize(["train", "val", "test", "", "train"], 96)
    views = split_views(tmp_path, values)
    (fold,) = predefined_folds(views)
    assert set(fold.test_ids) == set(views.ids[values == "test"])
    assert set(fold.train_ids) == set(views.ids[(values == "train") | (values == "val")])
    with pytest.raises(UsageError, match="--allow-shared-groups"):  # a split by row shares every group
        sweep(views, ("logistic",), folds=[fold])


def test_a_column_of_folds_tests_each_value_once(tmp_path):
    views = split_views(tmp_path, [f"part{i % 8 % 3}" for i in range(96)])
    made = predefined_folds(views, "split")
    assert [len(fold.test_ids) for fold in made] == [36, 36, 24]
    run = sweep(views, ("logistic",), folds=made)
    assert (run.predictions.query("head == 'logistic'").groupby("utterance_id").size() == 1).all()
    with pytest.raises(UsageError, match="no column 'fold'"):
        predefined_folds(views, "fold")
    with pytest.raises(UsageError, match="has 1 values"):
        predefined_folds(split_views(tmp_path / "one", "train"), "split")


def test_rows_that_an_encoder_was_trained_on_are_refused_or_told(tmp_path, store, monkeypatch):
    views = store.views(audio="planted")
    made = folds(views, 4)
    seen = frozenset(made[1].test_ids[:5])
    monkeypatch.setattr(type(views), "trained_for", lambda self, ids: seen)
    with pytest.raises(UsageError, match=r"5 test utterances .* trained on.*--allow-trained-rows"):
        sweep(views, ("logistic",), folds=made)
    allowed = {
        "allow_trained_rows": True,
        "allow_shared_groups": True,
    }  # others of their groups are tested too
    run = sweep(views, ("logistic",), folds=made, **allowed)
    assert "5 test utterances" in run.info["overrides"][0]
    untouched = [fold for fold in made if not seen & set(fold.test_ids)]
    assert sweep(views, ("logistic",), folds=untouched).info["overrides"] == []


@pytest.mark.parametrize("kind", ["interval", "multilabel", "ordinal"])
def test_every_kind_of_target_is_learnt(tmp_path, kind):
    table, rng = utterance_table(120, 8), np.random.default_rng(0)
    signal = rng.normal(size=120)
    if kind == "interval":
        table["goal"], target = 3 + signal, Target("goal", "interval", range=(-5, 11))
    elif kind == "ordinal":
        table["goal"] = np.array(["low", "mid", "high"])[np.searchsorted([-0.5, 0.5], signal)]
        target = Target("goal", "ordinal", ("low", "mid", "high"))
    else:
        table["goal"] = [
            "|".join(n for n, on in (("up", s > 0), ("far", abs(s) > 0.7)) if on) or "none" for s in signal
        ]
        target = Target("goal", "multilabel", ("up", "far"))
    store = Store.create(tmp_path / "s", Corpus("kinds", table, declared=(target,)))
    X = rng.normal(size=(120, 4))
    X[:, 0] += 3 * signal
    X[:, 1] += 3 * np.abs(signal)
    for modality in ("audio", "video"):
        add_vectors(store, f"{modality}/x", X)
    views = store.views(audio="x", video="x", target="goal")
    linear = "ridge" if kind == "interval" else "logistic"
    heads = (linear, "xgboost@max_trees=60", "gated", "gated-attention@epochs=2", "mean", "stacking")
    run = sweep(views, heads, folds=folds(views, 3), seeds=(0,), refit=True)
    main = {"interval": "CCC", "multilabel": "macro F1", "ordinal": "accuracy"}[kind]
    scores = run.metrics[run.metrics["metric"] == main].set_index("model")["estimate"]
    for head in heads:
        if head.partition("@")[0] != "gated-attention":  # too few steps for a deep network to get far here
            assert scores[f"{head}:audio+video"] > 0.6, scores
    run.save(store, "kinds")
    again = load_run(store, "kinds")
    pd.testing.assert_frame_equal(again.predictions, run.predictions, check_dtype=False)
    saved = list(store.run_path("kinds", "heads").iterdir())
    assert saved
    for path in saved:
        load_head(path)


def test_a_run_is_not_finished_with_another_kind_of_target(tmp_path):
    """The cells are the same, so that rows and labels are; what is learnt, and the order of classes, is not."""
    table = utterance_table(96, 8).assign(size=np.resize(["a", "b", "c", "b"], 96))
    table["rank"] = table["size"]
    declared = (Target("size", "nominal", ("a", "b", "c")), Target("rank", "ordinal", ("a", "c", "b")))
    store = Store.create(tmp_path / "s", Corpus("kinds", table, declared=declared))
    add_labelled(store, "x", 3.0)
    nominal, ordinal = (store.views(audio="x", target=name) for name in ("size", "rank"))
    made = folds(nominal, 3)
    sweep(nominal, ("logistic",), folds=made, keep=tmp_path / "k")
    with pytest.raises(UsageError, match="begun with other classes, kind, target"):
        sweep(ordinal, ("logistic",), folds=made, keep=tmp_path / "k")


def test_a_call_that_failed_before_anything_was_kept_may_be_corrected(store, tmp_path):
    views = store.views(audio="planted")
    made = folds(views, 4)
    with pytest.raises(UsageError, match="softmax, sigmoid"):
        sweep(views, ("gated@gate=soft",), folds=made, seeds=(0,), keep=tmp_path / "k", n_jobs=1)
    assert sweep(views, ("logistic",), folds=made, keep=tmp_path / "k").heads


def test_choosing_a_feature_set_where_nothing_can_be_held_out_is_an_error_of_one_line(tmp_path):
    store = planted_store(tmp_path, n=96, strengths={"audio": 2.5})
    add_labelled(store, "other", 1.0)
    several = [store.views(audio=name) for name in ("planted", "other")]
    of_class = [several[0].ids[several[0].y == label] for label in ("calm", "warm")]
    rest = np.concatenate([ids[1:] for ids in of_class])
    few = Fold(0, 0, np.array([ids[0] for ids in of_class], dtype=object), rest)
    with pytest.raises(UsageError, match="fold 0 of partition 0: too few training rows"):
        sweep(several, ("logistic",), folds=[few], allow_shared_groups=True)
    one_class = Fold(0, 0, of_class[0], of_class[1])
    with pytest.raises(UsageError, match="fold 0 of partition 0: the training rows hold one class only"):
        sweep(several, ("logistic",), folds=[one_class], allow_shared_groups=True)


def test_folds_are_numbered_from_zero(store):
    views = store.views(audio="planted")
    made = folds(views, 4)
    with pytest.raises(UsageError, match="fold -1: folds are numbered from 0"):
        sweep(views, ("logistic",), folds=[Fold(0, -1, made[0].train_ids, made[0].test_ids)])
