"""Whatever changes in a store's files is seen, and named."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixed_signals.store import Corpus, FeatureWriter, Recipe, Status, Store, blocks
from mixed_signals.store.files import write_json, write_parquet
from mixed_signals.store.verify import check_files

N, D = 10, 6
IDS = [f"u{i}" for i in range(N)]
STATUS = np.array([Status.OK] * 7 + [Status.MISSING, Status.FAILED, Status.PENDING])


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return a store with ratings, a feature set with rows of every status, and a run."""
    path = tmp_path_factory.mktemp("sound") / "store"
    table = pd.DataFrame({"utterance_id": IDS, "label": ["calm", "warm"] * (N // 2)})
    ratings = pd.DataFrame({"utterance_id": IDS, "value": "calm"})
    store = Store.create(path, Corpus("planted", table, ratings))
    recipe = Recipe("enc", "audio")
    X = np.random.default_rng(0).normal(size=(N, D))
    with FeatureWriter(store.feature_path("audio", "enc"), recipe, IDS, IDS, list("abcdef")) as writer:
        rows = np.flatnonzero(STATUS != Status.PENDING)
        writer.write(rows, X[rows], STATUS[rows], [""] * len(rows))
    run = store.run_path("first")
    write_parquet(run / "predictions.parquet", pd.DataFrame({"utterance_id": IDS * 100, "p_calm": 0.5}))
    write_parquet(run / "gates.parquet", pd.DataFrame({"utterance_id": IDS}))
    write_json(run / "metrics.json", [{"model": "logistic:audio"}])
    write_json(run / "run.json", {"seed": 0})
    write_json(run / "heads" / "xgboost.audio.json", {"trees": []})
    (run / "notes.txt").write_text("not ours")
    return path


@pytest.fixture
def store(sound, tmp_path):
    return Store.open(shutil.copytree(sound, tmp_path / "store"))


def corrupt(store):
    return {file.path: file for file in check_files(store) if not file.ok}


def size_of(path):
    return sum(one.stat().st_size for one in ([path] if path.is_file() else path.iterdir()))


def write_at(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_every_file_of_a_sound_store_is_read_and_right(store):
    files = check_files(store)
    assert [file.path for file in files] == [
        "corpus.json",
        "utterances.parquet",
        "ratings.parquet",
        "features/audio/enc.h5",
        "runs/first/gates.parquet",
        "runs/first/heads",
        "runs/first/metrics.json",
        "runs/first/predictions.parquet",
        "runs/first/run.json",
    ]
    assert all(file.ok and not file.mend for file in files)
    assert all(file.bytes == size_of(store.path / file.path) for file in files)


def test_progress_counts_every_row(store):
    seen = []
    check_files(store, seen.append)
    assert sum(seen) == N


@settings(max_examples=40)
@given(row=st.integers(0, 6), byte=st.integers(0, D * 4 - 1), bit=st.integers(0, 7))
def test_any_bit_that_flips_in_a_vector_names_its_row(sound, tmp_path_factory, row, byte, bit):
    store = Store.open(shutil.copytree(sound, tmp_path_factory.mktemp("flipped") / "store"))
    features = store["audio/enc"]
    offset = features.blocks["embedding"].offset + row * D * 4 + byte
    write_at(features.path, offset, bytes([features.path.read_bytes()[offset] ^ (1 << bit)]))
    (file,) = corrupt(store).values()
    assert file.rows == (f"u{row}",)
    assert file.what == "1 of 10 rows are not what was written"
    assert "extract" in file.mend


def test_rows_are_counted_on_from_block_to_block(store, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 2 * D * 4)
    features = store["audio/enc"]
    for row in (1, 5):
        write_at(features.path, features.blocks["embedding"].offset + row * D * 4, b"\x42")
    (file,) = corrupt(store).values()
    assert file.rows == ("u1", "u5")


@pytest.mark.parametrize(("row", "seen"), [(7, True), (8, True), (9, False)])
def test_a_row_without_a_vector_holds_nan_unless_it_is_pending(store, row, seen):
    features = store["audio/enc"]
    write_at(features.path, features.blocks["embedding"].offset + row * D * 4, np.float32(1).tobytes())
    assert [file.rows for file in corrupt(store).values()] == ([(f"u{row}",)] if seen else [])


@pytest.mark.parametrize("name", ["utterances.parquet", "ratings.parquet"])
def test_a_table_that_changed(store, name):
    path = store.path / name
    write_at(path, path.stat().st_size // 2, b"\xff\x00\xff")
    (file,) = corrupt(store).values()
    assert file.path == name
    assert "--replace" in file.mend


def test_files_that_are_gone(store):
    for name in ("ratings.parquet", "runs/first/run.json"):
        (store.path / name).unlink()
    assert {name: file.what for name, file in corrupt(store).items()} == {
        "ratings.parquet": "is not there",
        "runs/first/run.json": "is not there",
    }


@pytest.mark.parametrize("content", ["no json", "[]", "{}", '{"tables": {"../x": ""}}'])
def test_a_description_without_checksums(store, content):
    (store.path / "corpus.json").write_text(content)
    assert list(corrupt(store)) == ["corpus.json"]


@pytest.mark.parametrize(
    "name",
    ["features/audio/enc.h5", "runs/first/predictions.parquet", "runs/first/metrics.json"],
)
def test_a_file_that_was_cut(store, name):
    os.truncate(store.path / name, 20)
    (file,) = corrupt(store).values()
    assert file.path == name
    assert str(store.path) not in file.what
    assert file.mend.startswith("remove")


@pytest.mark.parametrize(
    "change",
    [
        {"media_root": 5},
        {"targets": [{"name": "label", "kind": "magic"}]},
        {"targets": [{"name": "effort", "kind": "ordinal", "classes": ["low"]}]},
    ],
)
def test_a_description_that_no_command_can_use(store, change):
    path = store.path / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (file,) = corrupt(store).values()
    assert file.path == "corpus.json"
    assert str(store.path) not in file.what
    assert "--replace" in file.mend


def test_nothing_is_read_that_a_link_leads_out_to(store, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(store.path / "runs/first", outside)
    (outside / "secret.json").write_text("no json")
    (store.path / "runs/evil").symlink_to(outside)
    (store.path / "runs/first/metrics.json").unlink()
    (store.path / "runs/first/metrics.json").symlink_to(outside / "metrics.json")
    (store.path / "runs/first/heads/secret.json").symlink_to(outside / "secret.json")
    (store.path / "ratings.parquet").rename(tmp_path / "ratings.parquet")
    (store.path / "ratings.parquet").symlink_to(tmp_path / "ratings.parquet")
    found = corrupt(store)
    assert sorted(found) == ["ratings.parquet", "runs/evil", "runs/first/heads", "runs/first/metrics.json"]
    assert all("a link that leads out of the store" in file.what for file in found.values())
    assert all(file.bytes == 0 for file in found.values())


@pytest.mark.parametrize("name", ["ratings.parquet", "features/audio/enc.h5", "runs/first/heads/x.json"])
def test_a_pipe_is_refused_and_not_waited_for(store, name):
    (store.path / name).unlink(missing_ok=True)
    os.mkfifo(store.path / name)
    (file,) = corrupt(store).values()
    assert "no ordinary file; remove it" in file.what


def test_json_that_is_nested_beyond_reason_is_corrupt(store):
    (store.path / "runs/first/metrics.json").write_text("[" * 100_000)
    assert list(corrupt(store)) == ["runs/first/metrics.json"]


def test_a_bad_head_is_named(store):
    (store.path / "runs/first/heads/gated.audio.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    (file,) = corrupt(store).values()
    assert file.path == "runs/first/heads"
    assert "gated.audio.safetensors: not readable as safetensors" in file.what
