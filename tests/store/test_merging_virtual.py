"""A feature set that reads from its shards: the same set, no space doubled, and no other vectors in silence."""

import json
import os
import shutil
import signal

import h5py
import numpy as np
import pandas as pd
import pytest

from mixed_signals.store import (
    Corpus,
    FeatureSet,
    FeatureWriter,
    MixedSignalsError,
    Recipe,
    Status,
    Store,
    UsageError,
    examine,
    export_features,
    merge,
)
from mixed_signals.store.blocks import row_blocks
from mixed_signals.store.cli import app
from mixed_signals.store.planning import plan_rows
from mixed_signals.store.terminal import run_app
from mixed_signals.store.verify import check_files

N, D, OF = 60, 16, 3
KEY = "text/enc"
RECIPE = Recipe("enc", "text")
CORPUS = Corpus(
    "made up",
    pd.DataFrame({"utterance_id": [f"u{i:02d}" for i in range(N)], "text": [f"words {i}" for i in range(N)]}),
)
VECTORS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
STATUS = np.where(np.arange(N) % 11 == 5, Status.FAILED, Status.OK)


def make(store, path, rows, *, recipe=RECIPE, vectors=VECTORS, stop_after=None):
    """Write rows of the corpus as an extraction does."""
    corpus = store.corpus
    hashes, entries = corpus.text_hash_bytes[rows], corpus.entry_hash_bytes("text")[rows]
    names = [f"d{column}" for column in range(D)]
    with FeatureWriter(path, recipe, corpus.id_bytes[rows], hashes, names, entry_hashes=entries) as writer:
        at = np.arange(len(rows))[:stop_after]
        reasons = ["" if STATUS[row] == Status.OK else f"reason {row}" for row in rows[at]]
        writer.write(at, vectors[rows[at]], STATUS[rows[at]], reasons)
        writer.note({"made": path.name})
    return FeatureSet(path)


def shard(store, number, **options):
    rows = np.random.default_rng(3).permutation(N) % OF == number - 1
    return make(store, store.shard_path("text", "enc", number, OF), np.flatnonzero(rows), **options)


@pytest.fixture
def sharded(tmp_path):
    store = Store.create(tmp_path / "store", CORPUS)
    for number in range(1, OF + 1):
        shard(store, number)
    return store


@pytest.fixture
def store(sharded):
    merge(sharded, KEY, virtual=True)
    return sharded


@pytest.fixture
def call(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        monkeypatch.setattr("sys.argv", ["store", words[0], str(store.path), *words[1:]])
        with pytest.raises(SystemExit) as ended:
            run_app(app)
        return ended.value.code, *capsys.readouterr()

    return run


def check_same(features):
    """The set holds, by utterance, what one job would have written."""
    at = features.find(CORPUS.id_bytes)
    out = np.empty((N, D), np.float32)
    features.read(at, out)
    expected = np.where(STATUS[:, None] == Status.OK, VECTORS, np.nan)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(features.embedding[at], expected)
    np.testing.assert_array_equal(features.status[at], STATUS)
    assert [features.reasons[row] for row in at] == [
        "" if s == Status.OK else f"reason {i}" for i, s in enumerate(STATUS)
    ]
    assert features.is_sealed()


def test_it_reads_as_the_set_that_merging_makes(store, tmp_path):
    other = Store.open(shutil.copytree(store.path, tmp_path / "other"))
    features, contiguous = store[KEY], merge(other, KEY)
    assert features.virtual
    assert not contiguous.virtual
    check_same(features)
    check_same(contiguous)
    assert features.content_fingerprint == contiguous.content_fingerprint
    assert features.jobs == contiguous.jobs == [{"made": f"enc.{i}of3.h5"} for i in (1, 2, 3)]
    one, two = (s.views(text="enc", target="utterance_id") for s in (store, other))
    np.testing.assert_array_equal(one.X, two.X)
    assert one.ids.tolist() == two.ids.tolist()
    for key in (slice(3, 50), slice(None), np.array([5, 0, 59, 5]), np.arange(N) % 2 == 0, 7):
        assert features.stored[key].shape == features.embedding[key].shape
        np.testing.assert_array_equal(features.stored[key], features.embedding[key])
    np.testing.assert_array_equal(
        np.concatenate([block for _, block in row_blocks(features)]), features.embedding
    )


def test_no_rows_are_read_as_none(store):
    features = store[KEY]
    for none in (slice(0, 0), [], np.zeros(N, bool)):
        assert features.stored[none].shape == (0, D)
    features.read(np.arange(0), np.empty((0, D), np.float32))
    views = store.views(text="enc", target="utterance_id")
    assert views.select(np.zeros(len(views), bool)).X.shape == (0, D)


def test_no_vector_is_written_twice_and_the_shards_stay(store):
    path = store.feature_path("text", "enc")
    assert len(store.shards()[KEY]) == OF
    assert store.unmerged() == {}
    with h5py.File(path) as file:
        assert file["embedding"].is_virtual
        assert all(not os.path.isabs(source.file_name) for source in file["embedding"].virtual_sources())
    assert not any(VECTORS[row].tobytes() in path.read_bytes() for row in range(N))


def test_other_readers_of_hdf5_see_the_vectors(store):
    with h5py.File(store.feature_path("text", "enc")) as file:
        np.testing.assert_array_equal(file["embedding"][:], store[KEY].embedding)


def test_a_store_that_is_copied_takes_its_shards_along(store, tmp_path):
    moved = shutil.copytree(store.path, tmp_path / "elsewhere" / "moved")
    shutil.rmtree(store.path)
    check_same(Store.open(moved)[KEY])


def test_a_set_handed_to_another_process_is_opened_there(store):
    import pickle

    check_same(pickle.loads(pickle.dumps(store[KEY])))


def test_a_shard_that_is_gone_is_named_wherever_the_set_is_used(store, call):
    opened = store[KEY]
    gone = store.shard_path("text", "enc", 2, OF)
    gone.unlink()
    said = "enc.2of3.h5: is gone since enc.h5 was made to read from it; put it back"
    for use in (
        lambda: store[KEY],
        lambda: opened.read(np.arange(N), np.empty((N, D), np.float32)),
        lambda: opened.embedding,
    ):
        with pytest.raises(MixedSignalsError, match=said):
            use()
    code, out, _ = call("verify")
    assert code == 1
    assert "is gone" in out
    assert "merge --virtual again" in out
    assert said in call("ls")[2]


def test_a_shard_that_was_made_again_is_named(store):
    opened = store[KEY]
    path = store.shard_path("text", "enc", 2, OF)
    path.unlink()
    shard(store, 2)
    check_same(store[KEY])  # the same bytes again
    path.unlink()
    shard(store, 2, vectors=VECTORS + 1)
    with pytest.raises(MixedSignalsError, match=r"enc\.2of3\.h5: was made again, with other vectors,"):
        store[KEY].read(np.arange(N), np.empty((N, D), np.float32))
    corrupt = [file for file in check_files(store) if not file.ok]
    assert [file.path for file in corrupt] == ["features/text/enc.h5"]
    path.unlink()
    shard(store, 2, recipe=Recipe("enc", "text", layer="3"))
    for use in (lambda: store[KEY], lambda: opened.stored[:]):
        with pytest.raises(MixedSignalsError, match=r"enc\.2of3\.h5: has changed since"):
            use()
    path.write_bytes(b"")
    with pytest.raises(MixedSignalsError, match=r"enc\.2of3\.h5: has changed since"):
        _ = store[KEY]


def test_a_flipped_bit_is_found_in_its_shard(store):
    path = store.shard_path("text", "enc", 3, OF)
    features = FeatureSet(path)
    content = bytearray(path.read_bytes())
    content[features.blocks["embedding"].offset] ^= 1
    path.write_bytes(content)
    found = {file.path: file for file in check_files(store) if not file.ok}
    assert list(found) == ["features/text/.shards/enc.3of3.h5"]
    assert len(next(iter(found.values())).rows) == 1


def test_merging_it_makes_one_file_and_removes_the_shards(store, call):
    said = "no shards to merge; named, text/enc would be copied from shards into one file\n"
    assert call("merge") == (0, said, "")
    assert store[KEY].virtual
    code, out, _ = call("merge", KEY)
    assert code == 0
    assert "virtual" not in out
    assert not store.shards()
    check_same(store[KEY])
    assert store[KEY].ids.tolist() == CORPUS.ids.tolist()


def test_commands_say_that_it_is_virtual_and_over_how_many_files(store, call):
    shutil.rmtree(store.path / "features" / "text")
    for number in range(1, OF + 1):
        shard(store, number)
    code, out, _ = call("merge", "--virtual")
    assert (code, "virtual over 3 files" in out) == (0, True)
    assert "in 3 shards" in call("ls")[1]
    assert "not merged" not in call("ls")[1]
    assert json.loads(call("ls", "--json")[1])["feature_sets"][0]["files"] == 4
    assert "virtual: vectors in 3 shards" in " ".join(call("show", KEY)[1].split())
    assert call("verify")[0] == 0
    assert not any("shard" in finding.what for finding in examine(store))


def test_an_export_holds_the_vectors(store, tmp_path):
    written = np.load(export_features(store, KEY, tmp_path / "out.npz"))
    order = np.argsort(written["utterance_id"])
    np.testing.assert_array_equal(
        written["embedding"][order], store[KEY].embedding[np.argsort(store[KEY].ids)]
    )


def test_an_extraction_finds_nothing_to_do_and_does_not_write_into_it(store):
    corpus = store.corpus
    entries = corpus.entry_hash_bytes("text")
    plan = plan_rows(store[KEY], RECIPE, corpus.id_bytes, corpus.text_hash_bytes, entries)
    assert plan.current
    assert not len(plan.rows)
    changed = corpus.text_hash_bytes.copy()
    changed[4] = b"another"
    plan = plan_rows(store[KEY], RECIPE, corpus.id_bytes, changed, entries)
    assert plan.rows.tolist() == [4]
    assert not plan.current
    with pytest.raises(
        UsageError, match=r"its vectors lie in 3 shards; mixed-signals store merge STORE text/enc makes"
    ):
        make(store, store.feature_path("text", "enc"), np.arange(N))
    check_same(store[KEY])


def test_shards_made_after_the_corpus_changed_are_taken_by_merging_again(store):
    table = CORPUS.utterances.assign(text=[f"words {i}" if i != 7 else "other words" for i in range(N)])
    changed = Store.create(store.path, Corpus("made up", table), replace=True)
    with pytest.raises(MixedSignalsError, match="the corpus says something else now of 1 \\(u07\\)"):
        merge(changed, KEY, virtual=True)
    for number in range(1, OF + 1):
        shard(changed, number)
    check_same(merge(changed, KEY, virtual=True))


def test_a_set_with_vectors_of_its_own_is_not_taken_for_one(sharded):
    make(sharded, sharded.feature_path("text", "enc"), np.arange(N))
    with pytest.raises(
        UsageError, match="has vectors of its own, which no shard has; merge without --virtual"
    ):
        merge(sharded, KEY, virtual=True)


def test_shards_that_are_not_complete_are_refused(sharded):
    sharded.shard_path("text", "enc", 1, OF).unlink()
    with pytest.raises(MixedSignalsError, match="its shards are not complete"):
        merge(sharded, KEY, virtual=True)
    shard(sharded, 1, stop_after=3)
    with pytest.raises(MixedSignalsError, match="not finished: 1/3"):
        merge(sharded, KEY, virtual=True)
    assert sharded.feature_sets() == []


@pytest.mark.parametrize("virtual", [True, False], ids=["made", "made one file"])
def test_killed_at_any_moment_it_is_there_as_before_or_as_after(tmp_path, virtual):
    base = Store.create(tmp_path / "base", CORPUS)
    for number in range(1, OF + 1):
        shard(base, number)
    if not virtual:
        merge(base, KEY, virtual=True)
    killed = 0
    for moment in range(1, 60, 3):
        copy = Store.open(shutil.copytree(base.path, tmp_path / str(moment)))
        pid = os.fork()
        if not pid:
            _merge_and_die(copy, virtual, moment)
        _, ended = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(ended)
        if copy.feature_sets() and copy.shards():
            assert (
                copy[KEY].virtual or not virtual
            )  # while it is made one file, shards and file are both there
        if copy.shards():
            merge(copy, KEY, virtual=virtual and (not copy.feature_sets() or copy[KEY].virtual))
        check_same(copy[KEY])
        assert copy[KEY].virtual == virtual
    assert killed > 3


def _merge_and_die(store, virtual, moment):
    calls = 0

    def dying(real, half):
        def call(*words, **options):
            nonlocal calls
            calls += 1
            if calls == moment:
                half(*words)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **options)

        return call

    try:
        write, remove, take = os.pwrite, os.unlink, os.replace
        os.pwrite = dying(write, lambda file, data, at: write(file, data[: len(data) // 2], at))
        os.unlink = dying(remove, lambda *words: None)
        os.replace = dying(take, lambda *words: None)
        merge(store, KEY, virtual=virtual)
    finally:
        os._exit(0)


def test_a_full_disk_leaves_the_set_that_was_there(store, monkeypatch):
    real = os.pwrite

    def full(file, data, offset):
        if offset > 4096:
            raise OSError(28, "No space left on device")
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    for virtual in (True, False):
        with pytest.raises(MixedSignalsError, match="no space left on device"):
            merge(store, KEY, virtual=virtual)
    monkeypatch.undo()
    assert store[KEY].virtual
    check_same(store[KEY])


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../../secret.h5"},
        {"file": "/etc/passwd"},
        {"rows": 10**12},
        {"embedding": -4},
        {"embedding": 2**40},
        {"seal": "00"},
        {"rows": 1.5},
    ],
    ids=str,
)
def test_pieces_that_lead_elsewhere_are_refused(store, change):
    path = store.feature_path("text", "enc")
    block = FeatureSet(path).blocks["pieces"]
    content = bytearray(path.read_bytes())
    pieces = json.loads(content[block.offset : block.stop])
    pieces[0] |= change
    said = json.dumps(pieces, separators=(",", ":")).encode()
    content[block.offset : block.stop] = said.ljust(block.stop - block.offset)
    path.write_bytes(content)
    with pytest.raises(MixedSignalsError, match="which files its vectors lie in is not readable"):
        FeatureSet(path)


def test_a_link_in_the_place_of_a_shard_is_not_followed(store, tmp_path):
    path = store.shard_path("text", "enc", 1, OF)
    elsewhere = shutil.move(path, tmp_path / "elsewhere.h5")
    path.symlink_to(elsewhere)
    with pytest.raises(MixedSignalsError, match=r"enc\.1of3\.h5: cannot be read"):
        _ = store[KEY]


def test_many_shards_take_no_more_open_files_than_some(tmp_path):
    """Whatever a process may have open: shards are opened by turns, and a set is read file by file."""
    resource = pytest.importorskip("resource")
    store = Store.create(tmp_path / "store", CORPUS)
    for number in range(N):
        make(store, store.shard_path("text", "enc", number + 1, N), np.array([number]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    here = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (here + 12, hard))
        check_same(merge(store, KEY, virtual=True))
        check_same(merge(store, KEY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert store.shards() == {}


@pytest.mark.parametrize("gone", [False, True], ids=["written", "removed"])
def test_a_shard_that_changes_while_it_is_closed_ends_the_merge(sharded, gone):
    path, verified = sharded.shard_path("text", "enc", 2, OF), []

    def change(rows):
        verified.append(rows)
        if len(verified) == OF:
            path.unlink()
            if not gone:
                shard(sharded, 2, vectors=VECTORS + 1)

    said = "is gone since the merge began" if gone else "was written while it was merged"
    with pytest.raises(MixedSignalsError, match=rf"enc\.2of3\.h5: {said}; run the same command again"):
        merge(sharded, KEY, on_progress=change)
