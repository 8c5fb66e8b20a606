import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_store import planted_store, utterance_table

from mixed_signals.store import Corpus, MixedSignalsError, Store, UsageError, folds, import_features

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


orders = st.permutations(range(12)).flatmap(lambda p: st.integers(1, 12).map(lambda k: p[:k]))


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(MODALITIES, orders)))
def test_rows_are_joined_by_id_whatever_their_order_and_gaps(rows):
    with tempfile.TemporaryDirectory() as folder:
        store = store_with(Path(folder), rows)
        names = dict.fromkeys(MODALITIES, "m")
        masked = store.views(**names, missing="mask")
        have = [set(rows[m]) for m in MODALITIES]
        expected = sorted(set.union(*have))
        assert list(masked.ids) == [f"u{i:03d}" for i in expected]
        for column, modality in enumerate(MODALITIES):
            here = np.array([i in have[column] for i in expected])
            np.testing.assert_array_equal(masked.present[:, column], here)
            values = masked.X[:, masked.blocks[modality]][:, 0]
            np.testing.assert_array_equal(values[here], np.array(expected)[here] + 1000 * column)
            assert np.isnan(values[~here]).all()
        complete = sorted(set.intersection(*have))
        if complete:
            assert list(store.views(**names).ids) == [f"u{i:03d}" for i in complete]
        else:
            with pytest.raises(MixedSignalsError, match="no utterance is left"):
                store.views(**names)


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


def test_a_corpus_without_groups_must_say_so(tmp_path):
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(20).drop(columns="group")))
    np.savez(tmp_path / "m.npz", utterance_id=store.corpus.ids.astype(str), embedding=np.zeros((20, 1)))
    import_features(store, tmp_path / "m.npz", "text", "m")
    views = store.views(text="m")
    assert views.groups is None
    with pytest.raises(UsageError, match="no groups"):
        folds(views, 4)
    assert len(folds(views, 4, group=None)) == 4


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet"])
def test_matrices_with_ids_come_in_by_id(tmp_path, ending):
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))
    source = tmp_path / f"x.{ending}"
    frame = pd.DataFrame({"utterance_id": ["u002", "u000"], "smile": [2.0, 0.0], "frown": [np.nan, 1.0]})
    if ending == "npz":
        matrix = frame[["smile", "frown"]].to_numpy()
        np.savez(
            source,
            utterance_id=frame["utterance_id"].to_numpy(str),
            embedding=matrix,
            dimension=["smile", "frown"],
        )
    else:
        frame.to_csv(source, index=False) if ending == "csv" else frame.to_parquet(source)
    features = import_features(store, source, "video", "face")
    assert list(features.dimensions) == ["smile", "frown"]
    assert features.coverage == {"pending": 0, "ok": 1, "missing": 2, "failed": 1}
    np.testing.assert_array_equal(features.embedding[0], [0, 1])


def test_a_matrix_without_ids_or_with_strangers_is_refused(tmp_path):
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))
    source = tmp_path / "x.npz"
    np.savez(source, embedding=np.zeros((4, 2)))
    with pytest.raises(UsageError, match="joined by utterance id only"):
        import_features(store, source, "video", "face")
    np.savez(source, utterance_id=["u000", "zz"], embedding=np.zeros((2, 2)))
    with pytest.raises(UsageError, match=r"1 of 2 ids are not in the corpus, e.g. zz; --ignore-extra"):
        import_features(store, source, "video", "face")
    assert import_features(store, source, "video", "part", ignore_extra=True).ok.sum() == 1
    np.savez(source, utterance_id=["u000", "u000"], embedding=np.zeros((2, 2)))
    with pytest.raises(UsageError, match="more than once"):
        import_features(store, source, "video", "face")
    np.savez(source, utterance_id=np.array(["u000"], dtype=object), embedding=np.zeros((1, 2)))
    with pytest.raises(MixedSignalsError, match="not readable"):
        import_features(store, source, "video", "face")
    for content in (b"", b"PK\x03\x04 cut off"):
        source.write_bytes(content)
        with pytest.raises(MixedSignalsError, match="not readable"):
            import_features(store, source, "video", "face")
    assert store.feature_sets() == ["video/part"]
