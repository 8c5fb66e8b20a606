import pickle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_store import planted_store, utterance_table

from mixed_signals.models import sweep
from mixed_signals.store import (
    Corpus,
    FeatureWriter,
    MixedSignalsError,
    Recipe,
    Status,
    Store,
    Target,
    UsageError,
    export_features,
    folds,
    import_features,
)
from mixed_signals.store.provenance import row_hashes

MODALITIES = ("text", "audio", "video")


def store_with(folder, order_and_gaps):
    """A store whose vectors are functions of the id: text [i], audio [i + 1000], video [i + 2000]."""
    n = 12
    store = Store.create(folder / "s", Corpus("c", utterance_table(n, 4)))
    for modality, rows in order_and_gaps.items():
        offset = MODALITIES.index(modality)
        ids = np.array([f"u{row:03d}" for row in rows])
        vectors = np.array(rows, np.float32)[:, None] + 1000 * offset
        np.savez(folder / "m.npz", utterance_id=ids, embedding=vectors.reshape(len(rows), 1))
        import_features(store, folder / "m.npz", modality, "m")
    return store


def write_features(store, modality, rows, status):
    """Write a set whose vectors are functions of the id, in the order of `rows`, each with a status."""
    offset = 1000 * MODALITIES.index(modality)
    recipe = Recipe("m", modality)
    ids = [f"u{row:03d}" for row in rows]
    texts = dict(zip(store.corpus.ids, store.corpus.utterances["text"], strict=True))
    hashes = row_hashes("text", [texts[i] for i in ids])
    said = hashes if modality == "text" else None
    path = store.feature_path(modality, "m")
    with FeatureWriter(path, recipe, ids, hashes, ["x", "y"], entry_hashes=said) as writer:
        vectors = np.array(rows, np.float32)[:, None] + offset + [0, 0.5]
        done = [place for place, one in enumerate(status[: len(rows)]) if one != Status.PENDING]
        writer.write(done, vectors[done], [status[place] for place in done], [""] * len(done))


N = 12
orders = st.permutations(range(N)).flatmap(lambda p: st.integers(1, N).map(lambda k: p[:k]))
statuses = st.lists(st.sampled_from(list(Status)), min_size=N, max_size=N)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(dict.fromkeys(MODALITIES, st.tuples(orders, statuses))),
    st.sets(st.integers(0, N - 1)),
)
def test_rows_are_joined_by_id_whatever_their_order_subset_and_gaps(sets, unlabelled):
    """Any permutation, any subset, any pattern of missing, failed and pending rows and labels."""
    with tempfile.TemporaryDirectory() as folder:
        table = utterance_table(N, 4)
        table.loc[sorted(unlabelled), "label"] = ""
        if len(unlabelled) == N:
            table.loc[0, "label"] = "calm"
        store = Store.create(Path(folder) / "s", Corpus("c", table))
        for modality, (rows, status) in sets.items():
            write_features(store, modality, rows, status)
        labelled = set(np.flatnonzero(table["label"] != ""))
        have = [
            {row for row, one in zip(rows, status, strict=False) if one == Status.OK} & labelled
            for rows, status in (sets[modality] for modality in MODALITIES)
        ]
        names = dict.fromkeys(MODALITIES, "m")
        for missing, expected in (("mask", set.union(*have)), ("drop", set.intersection(*have))):
            if not expected:
                with pytest.raises(MixedSignalsError, match="no utterance is left"):
                    store.views(**names, missing=missing)
                continue
            views = store.views(**names, missing=missing)
            at = np.array(sorted(expected))
            assert list(views.ids) == [f"u{i:03d}" for i in at]
            assert list(views.y) == list(table["label"][at])
            for column, modality in enumerate(MODALITIES):
                here = np.isin(at, list(have[column]))
                np.testing.assert_array_equal(views.present[:, column], here)
                values = views.X[:, views.blocks[modality]]
                np.testing.assert_array_equal(values, views[modality])
                np.testing.assert_array_equal(values[here][:, 1], at[here] + 1000 * column + 0.5)
                assert np.isnan(values[~here]).all()
            chosen = views.select(views.ids[::2])
            np.testing.assert_array_equal(chosen.X, views.X[::2])
            np.testing.assert_array_equal(views.select(at % 3 == 0).X, views.X[at % 3 == 0])


def test_nothing_is_read_until_it_is_used(tmp_path):
    views = store_with(tmp_path, dict.fromkeys(MODALITIES, range(12))).views(**dict.fromkeys(MODALITIES, "m"))
    chosen = views.select(["u003", "u004"])
    assert "X" not in vars(views)
    assert np.shares_memory(chosen["audio"], chosen.sources["audio"].embedding)  # mapped, not copied
    np.testing.assert_array_equal(chosen["audio"][:, 0], [1003, 1004])
    assert not views.sources["audio"].embedding.flags.writeable
    with pytest.raises(
        UsageError, match=r"no modality 'smell' in these views \(they have: text, audio, video\)"
    ):
        views["smell"]


def test_views_say_what_they_are(tmp_path):
    store = store_with(tmp_path, {"text": [5, 3, 8], "audio": range(12)})
    assert repr(store.views(text="m", audio="m", missing="mask")) == (
        "12 utterances: text m (1 dims, 25% present); audio m (1 dims, 100% present)\n"
        "label: calm 6, warm 6\ngroups: 4"
    )
    assert repr(store.views(text="m", audio="m")).endswith("left out: 9 without text")


def test_views_as_pandas_and_torch(tmp_path):
    store = store_with(tmp_path, {"text": [5, 3, 8], "audio": range(12)})
    views = store.views(text="m", audio="m", missing="mask")
    frame = views.to_pandas()
    assert list(frame.index) == list(views.ids)
    assert frame.loc["u005", ("text", "m_0")] == 5
    assert np.isnan(frame.loc["u004", ("text", "m_0")])
    X, present, y = views.to_torch().tensors
    np.testing.assert_array_equal(X.numpy(), views.X)
    np.testing.assert_array_equal(present.numpy(), views.present)
    assert [views.classes[code] for code in y.tolist()] == list(views.y)


def test_each_kind_of_target_has_its_own_labels(tmp_path):
    table = utterance_table(12, 4).assign(
        arousal=[*range(11), None],
        feelings=["a|b", "none", "", *["a"] * 9],
        effort=["low", "high", "mid"] * 4,
    )
    ratings = pd.DataFrame(
        {"utterance_id": ["u000", "u001", "u001", "u002"], "value": list("xxyy"), "shown": "audio+video"}
    )
    declared = (
        Target("arousal", "interval", range=(0, 10)),
        Target("feelings", "multilabel"),
        Target("effort", "ordinal", ("low", "mid", "high")),
        Target("crowd", "nominal", votes="any"),
    )
    corpus = Corpus("c", table, ratings, declared=declared)
    store = Store.create(tmp_path / "s", corpus)
    assert store.corpus.targets[1:] == corpus.targets[1:]
    write_features(store, "text", range(12), [Status.OK] * 12)
    arousal = store.views(text="m", target="arousal")
    assert (arousal.kind, arousal.classes, len(arousal)) == ("interval", (), 11)
    assert arousal.y.dtype == np.float64
    assert arousal.left_out == {"without a label": 1}
    assert "arousal: 0 to 10, mean 5" in repr(arousal)
    assert arousal.to_torch().tensors[2].dtype.is_floating_point
    feelings = store.views(text="m", target="feelings")
    assert feelings.y[:2].tolist() == [[1, 1], [0, 0]]
    assert len(feelings) == 11
    assert "a 10, b 1" in repr(feelings)
    assert store.views(text="m", target="effort").classes == ("low", "mid", "high")
    crowd = store.views(text="m", target="crowd")
    assert list(crowd.ids) == ["u000", "u002"]  # a tie is no label
    assert crowd.votes.tolist() == [[1, 0], [0, 1]]
    for views in (arousal, feelings):
        tested = [i for fold in folds(views, 2) for i in fold.test_ids]
        assert sorted(tested) == sorted(views.ids)
    with pytest.raises(UsageError, match="'logistic' does not learn interval targets; use ridge"):
        sweep(arousal, ("logistic",))


def test_votes_for_a_class_that_wins_nowhere_are_kept(tmp_path):
    ratings = pd.DataFrame(
        {"utterance_id": ["u000"] * 5 + ["u001"], "value": list("aaabbc"), "shown": "audio"}
    )
    declared = (Target("crowd", "nominal", ("a", "b", "c", "d"), votes="any"),)
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(2, 1), ratings, declared=declared))
    write_features(store, "text", [0, 1], [Status.OK] * 2)
    views = store.views(text="m", target="crowd")
    assert views.classes == ("a", "b", "c")
    assert views.votes.tolist() == [[3, 2, 0], [0, 0, 1]]
    assert list(views.y) == ["a", "c"]


def test_vectors_made_elsewhere_go_stale_with_the_corpus_too(tmp_path):
    store = store_with(tmp_path, {"text": range(12)})
    table = store.corpus.utterances
    table.loc[3, "text"] = "other words"
    changed = Store.create(store.path, Corpus("c", table), replace=True)
    with pytest.raises(
        MixedSignalsError, match=r"the text of 1 utterances changed .*remove it and import it again"
    ):
        changed.views(text="m")
    with pytest.raises(MixedSignalsError, match="the text of 1 utterances changed"):
        export_features(changed, "text/m", tmp_path / "out.npz")


def test_views_are_asked_for_modalities_by_name(tmp_path):
    views = store_with(tmp_path, {"text": range(12)}).views(text="m")
    assert list(views) == ["text"]
    assert "text" in views
    assert "audio" not in views
    assert "0 utterances" in repr(views.select([]))
    with pytest.raises(UsageError, match="give a list of ids"):
        views.select("u001")


def test_a_mask_of_objects_is_a_mask(tmp_path):
    views = store_with(tmp_path, {"text": range(12)}).views(text="m")
    assert list(views.select(np.array([True] + [False] * 11, dtype=object)).ids) == ["u000"]


def test_views_go_to_other_processes(tmp_path):
    views = store_with(tmp_path, {"text": [5, 3, 8]}).views(text="m")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(views)).X, views.X)


def test_a_text_that_was_empty_and_now_is_there_is_told_apart_from_no_text(tmp_path):
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(12, 4)))
    write_features(store, "text", range(12), [Status.MISSING] + [Status.OK] * 11)
    table = store.corpus.utterances
    table.loc[0, "text"] = "now said"
    changed = Store.create(store.path, Corpus("c", table), replace=True)
    with pytest.raises(MixedSignalsError, match="the text of 1 utterances changed since it was made"):
        changed.views(text="m")


def test_rows_that_an_encoder_was_trained_on_are_not_tested_on(tmp_path):
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(24, 6)))
    recipe, ids = Recipe("tuned", "audio"), store.corpus.ids
    hashes, rng = ["h"] * 24, np.random.default_rng(0)
    path = store.feature_path("audio", "tuned")
    with FeatureWriter(path, recipe, ids, hashes, ["x"], trained_on=ids[:5].tolist()) as writer:
        writer.write(range(24), rng.normal(size=(24, 1)), [Status.OK] * 24, [""] * 24)
    views = store.views(audio="tuned")
    with pytest.raises(
        UsageError, match="5 test utterances are among those that an encoder's weights were trained on"
    ):
        sweep(views, ("logistic",), folds=folds(views, 3))
    unseen = views.select(ids[5:])
    with pytest.raises(UsageError, match="test rows are of groups"):  # of which others trained the encoder
        sweep(unseen, ("logistic",), folds=folds(unseen, 2))
    assert len(sweep(unseen, ("logistic",), folds=folds(unseen, 2), allow_shared_groups=True).predictions)


def test_labels_follow_their_ids(tmp_path):
    store = store_with(tmp_path, {"text": [5, 3, 8]})
    labels = store.corpus.utterances.set_index("utterance_id")["label"]
    views = store.views(text="m")
    assert list(views.y) == [labels[i] for i in views.ids]
    assert views.left_out == {"without text": 9}
    chosen = views.select(["u008", "u003"])
    assert list(chosen.ids) == ["u003", "u008"]
    np.testing.assert_array_equal(chosen.X[:, 0], [3, 8])
    with pytest.raises(MixedSignalsError, match="u000"):
        views.select(["u000"])
    with pytest.raises(MixedSignalsError, match="mask"):
        views.select(np.array([True]))


def test_vectors_of_other_utterances_are_refused(tmp_path):
    store = store_with(tmp_path, {"text": list(range(12))})
    other = Store.create(tmp_path / "o", Corpus("other", utterance_table(12).iloc[:5]))
    target = other.feature_path("text", "m")
    target.parent.mkdir(parents=True)
    target.write_bytes(store.feature_path("text", "m").read_bytes())
    with pytest.raises(
        MixedSignalsError, match=r"7 of 12 ids are not in corpus other, e.g. \['u005', 'u006', 'u007'\]"
    ):
        other.views(text="m")


def test_unknown_names_list_what_there_is(tmp_path):
    store = store_with(tmp_path, {"text": [0]})
    with pytest.raises(UsageError, match="text/m"):
        store.views(text="roberta")
    with pytest.raises(UsageError, match="letters, digits"):
        store.views(text="../../x")
    with pytest.raises(UsageError, match="name at least one"):
        store.views()


@pytest.mark.parametrize("partition", [0, 1])
def test_no_group_is_on_both_sides_and_every_row_is_tested_once(tmp_path, partition):
    views = planted_store(tmp_path).views(text="planted")
    made = folds(views, 4, partition=partition)
    group = dict(zip(views.ids, views.groups, strict=True))
    for fold in made:
        assert not {group[i] for i in fold.train_ids} & {group[i] for i in fold.test_ids}
        assert set(fold.train_ids) | set(fold.test_ids) == set(views.ids)
    assert sorted(i for fold in made for i in fold.test_ids) == sorted(views.ids)


def test_folds_depend_on_ids_and_partition_alone(tmp_path):
    table = utterance_table()
    views = []
    for name, frame in (("a", table), ("b", table.iloc[::-1])):
        store = Store.create(tmp_path / name, Corpus("c", frame))
        X = np.zeros((len(frame), 1))
        np.savez(tmp_path / "m.npz", utterance_id=frame["utterance_id"].to_numpy(str), embedding=X)
        import_features(store, tmp_path / "m.npz", "text", "m")
        views.append(store.views(text="m"))
    one, two = (folds(v, 4) for v in views)
    assert [set(f.test_ids) for f in one] == [set(f.test_ids) for f in two]
    assert [set(f.test_ids) for f in one] != [set(f.test_ids) for f in folds(views[0], 4, partition=1)]


def test_impossible_folds_are_refused(tmp_path):
    views = planted_store(tmp_path, n=24, n_groups=3).views(text="planted")
    with pytest.raises(UsageError, match="3 groups cannot make 5 folds"):
        folds(views, 5)
    with pytest.raises(UsageError, match="no column 'dialog'"):
        folds(views, 2, group="dialog")
    with pytest.raises(UsageError, match="at least 2"):
        folds(views, 1)


@pytest.mark.parametrize("kind", ["nominal", "interval", "multilabel"])
def test_few_rows_still_make_folds_or_say_what_is_too_few(tmp_path, kind):
    table = utterance_table(8, 8).assign(
        label=list("abcdefgh"), arousal=range(8), feelings=[f"x|y{i}" for i in range(8)]
    )
    declared = (Target("arousal", "interval"), Target("feelings", "multilabel"))
    store = Store.create(tmp_path / "s", Corpus("c", table, declared=declared))
    write_features(store, "text", range(8), [Status.OK] * 8)
    views = store.views(text="m", target={"nominal": "label", "interval": "arousal"}.get(kind, "feelings"))
    if kind == "nominal":
        with pytest.raises(UsageError, match="no class of label has 4 utterances; ask for fewer folds"):
            folds(views, 4)
    else:
        assert sorted(i for fold in folds(views, 4) for i in fold.test_ids) == sorted(views.ids)


def test_a_corpus_without_groups_must_say_so(tmp_path):
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(20).drop(columns="group")))
    np.savez(tmp_path / "m.npz", utterance_id=store.corpus.ids.astype(str), embedding=np.zeros((20, 1)))
    import_features(store, tmp_path / "m.npz", "text", "m")
    views = store.views(text="m")
    assert views.groups is None
    with pytest.raises(UsageError, match="no groups"):
        folds(views, 4)
    assert len(folds(views, 4, group=None)) == 4
