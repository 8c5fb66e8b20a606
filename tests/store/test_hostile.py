"""A stranger's files: each is refused with a clear error, nothing outside the store is read, nothing is executed."""

import json
import shutil

import h5py
import numpy as np
import pytest
from small_store import planted_store

from mixed_signals.store import FeatureSet, InvalidCorpus, MixedSignalsError, Store
from mixed_signals.store.provenance import file_hash

SECRET = np.arange(48, dtype=np.float32).reshape(8, 6)


@pytest.fixture
def store(tmp_path):
    """A small store, and outside it a secret that its files try to reach."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["embedding"] = SECRET
        file["text"] = np.full(8, b"secret")
    (tmp_path / "secret.bin").write_bytes(SECRET.tobytes())
    return planted_store(tmp_path, n=8, n_groups=2)


def replaced(file, name, make):
    """Put another object in the place of a dataset."""
    shape = file[name].shape
    del file[name]
    make(file, name, shape)


def external_link(file, name, shape):
    file[name] = h5py.ExternalLink("../../../secret.h5", "embedding")


def soft_link(file, name, shape):
    file.create_group("elsewhere")["x"] = np.zeros(shape, np.float32)
    file[name] = h5py.SoftLink("/elsewhere/x")


def external_storage(file, name, shape):
    file.create_dataset(name, shape, np.float32, external=[("../../../secret.bin", 0, SECRET.nbytes)])


def virtual(file, name, shape):
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[:] = h5py.VirtualSource("../../../secret.h5", "embedding", shape)
    file.create_virtual_dataset(name, layout)


def chunked(file, name, shape):
    file.create_dataset(name, shape, np.float32, chunks=True)


def objects(file, name, shape):
    file.create_dataset(name, shape, h5py.string_dtype())


def references(file, name, shape):
    file.create_dataset(name, shape, h5py.ref_dtype)


def group(file, name, shape):
    file.create_group(name)


def fewer_rows(file, name, shape):
    file[name] = np.zeros((shape[0] - 1, *shape[1:]), np.float32)


def one_axis(file, name, shape):
    file[name] = np.zeros(shape[0], np.float32)


def complex_numbers(file, name, shape):
    file[name] = np.zeros(shape, np.complex64)


MATRICES = {
    external_link: "embedding is a ExternalLink to somewhere else",
    soft_link: "embedding is a SoftLink to somewhere else",
    external_storage: "embedding lies in another file",
    virtual: "embedding is a virtual dataset over other files",
    chunked: "embedding is not contiguous",
    objects: "embedding holds object",
    references: "embedding holds object",
    group: "embedding is not a dataset",
    fewer_rows: "shapes do not match",
    one_axis: r"embedding has the shape \(8,\)",
    complex_numbers: "embedding holds complex64",
}


@pytest.mark.parametrize(
    ("make", "named"), MATRICES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_matrix_that_leads_elsewhere_is_refused(store, make, named):
    with h5py.File(store.feature_path("text", "planted"), "r+") as file:
        replaced(file, "embedding", make)
    with pytest.raises(MixedSignalsError, match=rf"planted\.h5: .*{named}"):
        store.views(text="planted")
    assert len(store.views(audio="planted")) == 8


def test_text_as_objects_is_refused_rather_than_unpickled(store):
    with h5py.File(store.feature_path("text", "planted"), "r+") as file:
        replaced(file, "utterance_id", objects)
    with pytest.raises(MixedSignalsError, match="utterance_id holds object, not plain text"):
        store["text/planted"]


def changed(name, change):
    def apply(file):
        values = file[name][:]
        change(values)
        file[name][:] = values

    return apply


def repeat_an_id(values):
    values[1] = values[0]


def no_utf8(values):
    values[0] = b"\xff\xfe"


def unknown_status(values):
    values[0] = 9


def no_json(values):
    values[:] = ord("{")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed("utterance_id", repeat_an_id), "an utterance id repeats"),
        (changed("utterance_id", no_utf8), "utterance_id is not UTF-8"),
        (changed("status", unknown_status), "a status of 9"),
        (changed("provenance", no_json), "its provenance is not readable"),
        (lambda file: file.attrs.__setitem__("format", 99), "not of format 3"),
    ],
)
def test_values_that_cannot_be_are_refused(store, change, named):
    with h5py.File(store.feature_path("text", "planted"), "r+") as file:
        change(file)
    with pytest.raises(MixedSignalsError, match=named):
        store.views(text="planted")


def test_a_file_cut_short_is_refused(store):
    path = store.feature_path("text", "planted")
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(MixedSignalsError, match=r"planted\.h5"):
            FeatureSet(path)


def test_noise_in_the_header_never_gets_through_unnoticed(store):
    """Whatever bytes of HDF5's own are changed: refused with our error, or read with the same values."""
    path = store.feature_path("text", "planted")
    content, vectors = path.read_bytes(), np.array(store["text/planted"].embedding)
    rng = np.random.default_rng(0)
    for _ in range(300):
        noisy = bytearray(content)
        for place in rng.integers(0, 4096, rng.integers(1, 4)):
            noisy[place] = rng.integers(0, 256)
        path.write_bytes(noisy)
        try:
            found = FeatureSet(path)
        except MixedSignalsError:
            continue
        assert found.shape == vectors.shape


def test_a_feature_set_in_another_modalitys_folder_is_refused(store):
    shutil.copy(store.feature_path("text", "planted"), store.feature_path("audio", "planted"))
    with pytest.raises(MixedSignalsError, match="is a feature set of text"):
        store.views(audio="planted")


@pytest.mark.parametrize(
    "name", ["utterances.parquet", "features/text/planted.h5", "features/text", "corpus.json"]
)
def test_a_link_out_of_the_store_is_refused(store, tmp_path, name):
    outside = tmp_path / "outside"
    shutil.move(store.path / name, outside)
    (store.path / name).symlink_to(outside)
    with pytest.raises(MixedSignalsError, match="a link that leads out of the store"):
        Store.open(store.path).views(text="planted")


def test_a_link_within_the_store_and_to_it_is_fine(store, tmp_path):
    (tmp_path / "link").symlink_to(store.path)
    assert len(Store.open(tmp_path / "link").views(text="planted")) == 8


@pytest.mark.parametrize(
    "media", ["../x.wav", "/etc/passwd", "a/../../x", "file:///etc/passwd", "..\\x", "C:\\x"]
)
def test_media_paths_that_climb_are_refused_when_a_store_is_opened(store, media):
    path = store.path / "utterances.parquet"
    table = store.corpus.utterances.copy()
    table["media"] = [media, *[""] * 7]
    table.to_parquet(path)
    described = json.loads((store.path / "corpus.json").read_text())
    described["tables"]["utterances.parquet"] = file_hash(path)
    (store.path / "corpus.json").write_text(json.dumps(described))
    with pytest.raises(InvalidCorpus, match="utterances row 1, media"):
        Store.open(store.path).corpus  # noqa: B018


def test_a_table_that_is_not_the_corpuss_own_is_refused(store):
    path = store.path / "utterances.parquet"
    table = store.corpus.utterances.copy()
    table["label"] = "calm"
    table.to_parquet(path)
    with pytest.raises(MixedSignalsError, match=r"utterances\.parquet: does not belong to corpus\.json"):
        Store.open(store.path).views(text="planted")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"media_root": 3},
        {"targets": [{"name": "label", "kind": "magic"}]},
        {"targets": [{"name": "label", "run": "rm"}]},
        {"targets": 7},
        {"tables": {}},
        {"tables": 7},
        {"name": None},
    ],
)
def test_a_corpus_file_that_cannot_be_is_refused(store, change):
    path = store.path / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(MixedSignalsError):
        Store.open(store.path).corpus  # noqa: B018


@pytest.mark.parametrize("content", ["7", "{}", '{"tables": 7}', '{"tables": {}}', "["])
def test_a_waiting_corpus_that_cannot_be_is_refused(store, content):
    (store.path / ".new-corpus.json").write_text(content)
    with pytest.raises(MixedSignalsError, match="new-corpus"):
        Store.open(store.path)


def test_run_and_feature_names_stay_in_their_folders(store):
    for name in ("../x", "..", "/etc/passwd", "a/b", "", "x\0"):
        with pytest.raises(MixedSignalsError, match="use letters"):
            store.feature_path("text", name)
        with pytest.raises(MixedSignalsError, match="use letters"):
            store.run_path(name)
