"""Feature sets and views for elsewhere: what is written says everything, and comes in again the same."""

import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
from exchange_files import IDS, save_npz
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_store import planted_store, utterance_table

from mixed_signals.store import (
    Corpus,
    MixedSignalsError,
    Store,
    UsageError,
    export_features,
    export_views,
    import_features,
)


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))


@settings(max_examples=15)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 4)),
        elements=st.floats(width=32, allow_subnormal=True),
    ),
    st.sampled_from([".npz", ".parquet"]),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1),
        unique_by=str.rstrip,
        min_size=5,
    ),
)
def test_what_is_exported_comes_in_again_the_same(vectors, ending, names):
    with tempfile.TemporaryDirectory() as folder:
        table = utterance_table(7, 2).assign(utterance_id=[*(f"a{name}" for name in names[:5]), "ü", "last"])
        store = Store.create(Path(folder) / "s", Corpus("c", table))
        ids = table["utterance_id"].tolist()[: len(vectors)]
        first = import_features(store, save_npz(Path(folder) / "x.npz", ids, vectors), "audio", "one")
        path = export_features(store, "audio/one", Path(folder) / f"y{ending}")
        again = import_features(store, path, "audio", "two")
        np.testing.assert_array_equal(again.ids, first.ids)
        np.testing.assert_array_equal(again.dimensions, first.dimensions)
        np.testing.assert_array_equal(again.status, first.status)
        np.testing.assert_array_equal(again.embedding[again.ok], first.embedding[first.ok])
        assert np.isnan(again.embedding[~again.ok]).all()


def test_an_npz_holds_everything_without_pickle(store, tmp_path):
    import json

    source = save_npz(tmp_path / "x.npz", ["u001", "u000"], [[1, np.nan], [2, 3]], dimension=["é", "f"])
    features = import_features(store, source, "video", "face")
    with np.load(export_features(store, "video/face", tmp_path / "y.npz")) as arrays:
        assert arrays["utterance_id"].tolist() == IDS
        assert arrays["embedding"].dtype == np.float32
        assert arrays["dimension"].tolist() == ["é", "f"]
        assert arrays["status"].tolist() == ["ok", "failed", "missing", "missing"]
        assert arrays["reason"].tolist() == features.reasons.tolist()
        assert json.loads(str(arrays["provenance"])) == {"video": features.provenance}


def test_an_export_replaces_a_file_only_when_told_to(tmp_path):
    store = planted_store(tmp_path, n=8, n_groups=2)
    path = tmp_path / "x.npz"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"is there already; .* --replace"):
        export_features(store, "text/planted", path)
    assert path.read_text() == "mine"
    export_features(store, "text/planted", path, replace=True)
    assert np.load(path)["embedding"].shape == (8, 6)
    with pytest.raises(UsageError, match=r"written are \.npz, \.parquet, \.h5ad, not \.mat"):
        export_features(store, "text/planted", tmp_path / "x.mat")
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith("x")) == ["x.npz"]


def test_dimensions_that_parquet_cannot_tell_apart_are_refused(store, tmp_path):
    source = save_npz(tmp_path / "x.npz", IDS, np.eye(4), dimension=["a", "a", "status", "b"])
    import_features(store, source, "audio", "a")
    with pytest.raises(UsageError, match=r"two columns .* 'a'; export to \.npz"):
        export_features(store, "audio/a", tmp_path / "y.parquet")
    assert not (tmp_path / "y.parquet").exists()


def test_an_anndata_file_holds_vectors_utterances_dimensions_and_provenance(tmp_path):
    anndata = pytest.importorskip("anndata")
    table = utterance_table(4, 2).assign(
        start=[0.5, 1, np.nan, 2], turn=[1, 2, 3, 4], **{"a/b": ["x", None, "y", "z"]}
    )
    store = Store.create(tmp_path / "s", Corpus("c", table))
    import_features(store, save_npz(tmp_path / "x.npz", IDS[1:], np.eye(3)), "audio", "a")
    written = anndata.read_h5ad(export_features(store, "audio/a", tmp_path / "y.h5ad"))
    assert written.X.dtype == np.float32
    assert np.isnan(written.X[0]).all()
    np.testing.assert_array_equal(written.X[1:], np.eye(3))
    assert written.obs_names.tolist() == IDS
    assert written.obs["label"].tolist() == table["label"].tolist()
    assert written.obs["turn"].tolist() == [1, 2, 3, 4]
    assert written.obs["a_b"].tolist() == ["x", "", "y", "z"]
    np.testing.assert_array_equal(written.obs["start"], table["start"])
    assert written.obs["vector_status"].tolist() == ["missing", "ok", "ok", "ok"]
    assert written.var_names.tolist() == ["a_0", "a_1", "a_2"]
    assert set(written.var["modality"]) == {"audio"}
    assert '"imported_from": "x.npz"' in written.uns["provenance"]["audio"]


def test_names_that_anndata_cannot_hold_become_names_that_it_can(tmp_path):
    anndata = pytest.importorskip("anndata")
    names = ["a/b", "a_b", "a_b_2", ".", "_index", "vector_status"]
    store = Store.create(
        tmp_path / "s", Corpus("c", utterance_table(4, 2).assign(**{name: name for name in names}))
    )
    import_features(store, save_npz(tmp_path / "x.npz", IDS, np.eye(4)), "audio", "a")
    obs = anndata.read_h5ad(export_features(store, "audio/a", tmp_path / "y.h5ad")).obs
    extra = [name for name in obs if name not in store.corpus.utterances]
    assert extra == ["a_b_2_2", "column.", "column_index", "vector_status_2", "vector_reason"]
    assert obs["a_b"].tolist() == ["a/b"] * 4
    assert obs["vector_status_2"].tolist() == ["vector_status"] * 4
    assert obs["vector_status"].tolist() == ["ok"] * 4


def test_what_anndata_cannot_hold_is_one_line(tmp_path):
    pytest.importorskip("anndata")
    table = utterance_table(4, 2).assign(**{"a\0b": ["x"] * 4})
    store = Store.create(tmp_path / "s", Corpus("c", table))
    import_features(store, save_npz(tmp_path / "x.npz", IDS, np.eye(4)), "audio", "a")
    with pytest.raises(MixedSignalsError, match=r"y\.h5ad: not written \(.*\)$"):
        export_features(store, "audio/a", tmp_path / "y.h5ad")
    assert not list(tmp_path.glob("*y.h5ad*"))


@pytest.mark.parametrize("ending", ["npz", "parquet", "h5ad"])
def test_a_full_disk_is_one_line_that_names_the_file(store, tmp_path, ending):
    if ending == "h5ad":
        pytest.importorskip("anndata")
    vectors = np.random.default_rng(0).normal(size=(4, 5000))
    import_features(store, save_npz(tmp_path / "x.npz", IDS, vectors), "audio", "a")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(MixedSignalsError) as caught:
            export_features(store, "audio/a", tmp_path / f"y.{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    why = "not written (" if ending == "h5ad" else "file too large: make room and run the same command again"
    assert f"y.{ending}: {why}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*y.*"))


def test_joined_views_say_which_modality_a_row_lacks(tmp_path):
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))
    import_features(store, save_npz(tmp_path / "x.npz", IDS[1:], np.ones((3, 2))), "text", "a")
    import_features(store, save_npz(tmp_path / "x.npz", IDS[:2], np.full((2, 1), 2)), "video", "b")
    views = store.views(text="a", video="b", missing="mask")
    with np.load(export_views(views, tmp_path / "y.npz")) as arrays:
        assert arrays["utterance_id"].tolist() == IDS
        assert arrays["dimension"].tolist() == ["text:a_0", "text:a_1", "video:b_0"]
        assert arrays["status"].tolist() == ["missing", "ok", "missing", "missing"]
        assert arrays["reason"].tolist() == ["without text", "", "without video", "without video"]
        np.testing.assert_array_equal(arrays["embedding"], views.X)
    anndata = pytest.importorskip("anndata")
    written = anndata.read_h5ad(export_views(views, tmp_path / "y.h5ad"))
    assert written.var["modality"].tolist() == ["text", "text", "video"]
    assert written.var["feature_set"].tolist() == ["a", "a", "b"]
    assert sorted(written.uns["provenance"]) == ["text", "video"]


def test_without_anndata_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    store = planted_store(tmp_path, n=8, n_groups=2)
    with pytest.raises(MixedSignalsError, match=r"pip install 'mixed-signals\[anndata\]'"):
        export_features(store, "text/planted", tmp_path / "x.h5ad")
    assert not list(tmp_path.glob("*x.h5ad*"))
