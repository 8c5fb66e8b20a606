"""Shards become one feature set, or are refused with what to do; no kill and no full disk loses a row."""

import json
import os
import random
import shutil
import signal
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    merge,
    merging,
    writing,
)
from mixed_signals.store.cli import app
from mixed_signals.store.locks import sole_writer
from mixed_signals.store.provenance import row_hashes
from mixed_signals.store.terminal import run_app
from mixed_signals.store.verify import check_files, check_vectors

N, D, OF = 60, 16, 3
KEY = "audio/enc"
NAMES = [f"d{column}" for column in range(D)]
RECIPE = Recipe("enc", "audio")
EVERYTHING = np.arange(N)


def table_of(n=N):
    """Utterances, two to a recording; the last two are the same part of the same recording."""
    rows = np.arange(n)
    start = rows % 2 * 1.5
    start[-1] = start[-2]
    return pd.DataFrame(
        {
            "utterance_id": [f"u{row:02d}" for row in rows],
            "media": [f"{row // 2}.wav" for row in rows],
            "start": start,
            "end": start + 1,
        }
    )


def vectors_of(rows):
    return np.sin(np.outer(np.asarray(rows) + 1, np.arange(1, D + 1))).astype(np.float32)


def status_of(rows):
    """Every eleventh utterance is missing, every thirteenth failed."""
    rows = np.asarray(rows)
    return np.where(rows % 11 == 5, Status.MISSING, np.where(rows % 13 == 8, Status.FAILED, Status.OK))


def in_batches(rows):
    order = random.Random(0).sample(list(rows), len(rows))
    return [np.array(order[i : i + 4]) for i in range(0, len(order), 4)]


def write(
    store, members, path, *, media="1", stop_after=None, mended=False, job=None, recipe=RECIPE, **options
):
    """Make the rows of these utterances as an extraction does."""
    corpus = store.corpus
    table = corpus.utterances.iloc[members]
    hashes = row_hashes("media", table["media"] + media, table["start"], table["end"])
    entries = corpus.entry_hash_bytes("audio")[members]
    options = {"batches": in_batches, "versions": {"lib": "1"}, "dimensions": NAMES, **options}
    ids = corpus.id_bytes[members]
    with FeatureWriter(path, recipe, ids, hashes, entry_hashes=entries, **options) as writer:
        for batch in writer.batches[:stop_after]:
            rows = members[batch]
            status = np.where(mended, Status.OK, status_of(rows))
            reasons = [
                "" if one == Status.OK else f"reason {row}" for row, one in zip(rows, status, strict=True)
            ]
            writer.write(batch, vectors_of(rows), status, reasons)
        if job is not None:
            writer.note(job)
    return FeatureSet(path)


def members_of(number, of=OF):
    return EVERYTHING[number - 1 :: of]


def shard(store, number, of=OF, members=None, **options):
    members = members_of(number, of) if members is None else np.asarray(members)
    return write(store, members, store.shard_path("audio", "enc", number, of), **options)


def whole(store, members=EVERYTHING, **options):
    return write(store, np.asarray(members), store.feature_path("audio", "enc"), **options)


def shards(store, *numbers):
    for number in numbers or range(1, OF + 1):
        shard(store, number)


CORPUS = Corpus("made up", table_of())


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store", CORPUS)


def replaced(store, table):
    return Store.create(store.path, Corpus("made up", table), replace=True)


def check_whole(features, expected=None):
    """The merged set is what one job would have made: ids, vectors bit by bit, statuses, reasons."""
    assert features.path.name == "enc.h5"
    assert features.ids.tolist() == CORPUS.ids.tolist()
    np.testing.assert_array_equal(features.status, status_of(EVERYTHING) if expected is None else expected)
    ok = features.ok
    assert features.stored[ok].tobytes() == vectors_of(EVERYTHING)[ok].tobytes()
    assert np.isnan(features.stored[~ok]).all()
    assert features.reasons.tolist() == ["" if good else f"reason {row}" for row, good in enumerate(ok)]
    assert features.is_sealed()
    np.testing.assert_array_equal(
        features.checksums, np.where(ok, writing.row_checksums(np.array(features.stored)), 0)
    )


def left(store):
    """Every file beside the corpus, but the writer's lock."""
    files = (path.relative_to(store.path / "features") for path in (store.path / "features").rglob("*"))
    return sorted(path.as_posix() for path in files if path.suffix == ".h5" or ".shards" in path.parts)


def refused(store, match, kind=MixedSignalsError):
    """The merge is refused, and no byte of the store is another."""
    before = {path: path.read_bytes() for path in (store.path / "features").rglob("*.h5")}
    with pytest.raises(kind, match=match) as caught:
        merge(store, KEY)
    assert {path: path.read_bytes() for path in (store.path / "features").rglob("*.h5")} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shards_become_what_one_job_would_have_made(store):
    for number in (1, 2, 3):
        shard(store, number, versions={"lib": str(number % 2)}, job={"shard": number})
    apart = [shard(store, number) for number in (1, 2, 3)]
    features = merge(store, KEY)
    check_whole(features)
    assert left(store) == ["audio/enc.h5"]
    assert features.provenance["versions"] == [{"lib": "1"}, {"lib": "0"}]
    assert features.jobs == [{"shard": number} for number in (1, 2, 3)]
    alone = whole(Store.create(store.path.parent / "other", store.corpus))
    assert features.content_fingerprint == alone.content_fingerprint
    batches = {
        frozenset(members_of(n)[one.batches == b]) for n, one in enumerate(apart, 1) for b in one.batches
    }
    assert {frozenset(np.flatnonzero(features.batches == b)) for b in features.batches} == batches


def test_shards_are_not_listed_as_feature_sets_and_have_numbers_from_one(store):
    shards(store, 1, 3)
    assert store.feature_sets() == []
    assert [(str(one), one.path.name) for one in store.shards()[KEY]] == [
        ("1/3", "enc.1of3.h5"),
        ("3/3", "enc.3of3.h5"),
    ]
    with pytest.raises(UsageError, match="its shards are there: mixed-signals store merge"):
        store[KEY]
    for number, of in ((0, 3), (4, 3), (1, 0), (-1, -1)):
        with pytest.raises(UsageError, match="write i/n"):
            store.shard_path("audio", "enc", number, of)
    with pytest.raises(UsageError, match="use letters"):
        store.shard_path("audio", "../enc", 1, 2)


def test_shards_of_ten_and_more_stand_in_order(store):
    for number in (10, 2, 1):
        shard(store, number, 12)
    (store.path / "features/audio/.shards/enc.0of3.h5").write_bytes(b"")
    (store.path / "features/audio/.shards/other.h5").write_bytes(b"")
    assert [one.number for one in store.shards()[KEY]] == [1, 2, 10]


def test_a_shard_that_was_interrupted_goes_on_where_it_was(store):
    alone = shard(store, 2)
    alone_vectors, batches = np.array(alone.stored), alone.batches.tolist()
    alone.path.unlink()
    half = shard(store, 2, stop_after=2)
    assert half.coverage["pending"] == len(members_of(2)) - 8
    members = members_of(2)
    with FeatureWriter(
        half.path,
        RECIPE,
        store.corpus.id_bytes[members],
        half.row_hash_bytes.copy(),
        NAMES,
        entry_hashes=store.corpus.entry_hash_bytes("audio")[members],
        versions={"lib": "1"},
    ) as writer:
        assert writer.plan.reasons == {"not yet done": len(members) - 8}
        assert [sorted(batch) for batch in in_batches(range(len(members)))[2:]] == [
            list(b) for b in writer.batches
        ]
    done = shard(store, 2)
    assert done.batches.tolist() == batches
    np.testing.assert_array_equal(done.stored, alone_vectors)


def test_shards_that_are_not_there_or_not_finished_are_named(store):
    shard(store, 1, 6)
    shard(store, 3, 6, stop_after=1)
    shard(store, 5, 6)
    said = refused(store, r"enc\.h5: its shards are not complete")
    assert "(not there: 2/6, 4/6, 6/6, not finished: 3/6)" in said
    assert said.endswith("run extract-features again with --ray, or with --shard 2/6 (and 3/6, 4/6, 6/6)")


def test_utterances_that_came_into_the_corpus_since_are_named(store):
    shards(store)
    more = pd.concat([table_of(), pd.DataFrame({"utterance_id": ["new"], "media": ["n.wav"]})])
    refused(replaced(store, more), r"in none of them: 1 \(new\)\); .*--shard 1/3 \(and 2/3, 3/3\)")


def test_a_corpus_that_changed_between_shards_is_refused(store):
    shards(store)
    table = table_of()
    table.loc[[4, 7], "end"] += 0.25
    store = replaced(store, table)
    said = refused(store, r"enc\.2of3\.h5: the corpus says something else now of 2 \(u04, u07\)")
    assert said.endswith(
        "run extract-features again with --ray, or with --shard 2/3: it makes only what changed"
    )
    shard(store, 2)
    assert merge(store, KEY).is_sealed()


def test_utterances_that_left_the_corpus_are_refused(store):
    shards(store)
    store = replaced(store, table_of().drop(index=[5, 9]))
    refused(store, r"enc\.1of3\.h5: the corpus no longer has 1 \(u09\); .*--shard 1/3")


def test_an_utterance_in_two_shards_is_refused(store):
    shards(store, 1, 2)
    shard(store, 3, members=[*members_of(3)[:5], 1, *members_of(3)[5:]])
    refused(store, r"enc\.3of3\.h5: shard 2/3 has rows of the same utterances: 1 \(u01\); .*2/3 \(and 3/3\)")


def test_one_part_of_media_that_changed_between_shards_is_refused(store):
    shards(store, 1, 2)
    shard(store, 3, media="2")
    said = r"u59 is of the same media as u58 of shard 2/3, but they changed in between; .*--shard 2/3 \(and 3/3\)"
    refused(store, said)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"recipe": Recipe("enc", "audio", pooling="max")},
            r"another recipe \(pooling: '' there, 'max' now\)",
        ),
        ({"dimensions": NAMES[::-1]}, "has other dimensions"),
        ({"trained_on": ["u01"]}, "were trained on other utterances"),
    ],
)
@pytest.mark.parametrize("of_whole", [False, True])
def test_what_was_made_in_another_way_is_refused(store, options, match, of_whole):
    shards(store, 1, 2)
    if of_whole:
        shard(store, 3)
        whole(store, **options)
    else:
        shard(store, 3, **options)
    name = "enc.h5" if of_whole else "enc.3of3.h5"
    refused(store, rf"{name}: .*{match}.* than .*enc\.1of3\.h5; remove the one that is not wanted")


def test_shards_of_two_jobs_are_refused(store):
    shards(store, 1, 2)
    shard(store, 1, 2)
    refused(store, r"\.shards: there are shards of 2 and of 3; remove those that are not wanted")


def test_a_set_of_another_modality_is_refused(store):
    shards(store)
    folder = store.path / "features" / "video"
    shutil.copytree(store.path / "features/audio/.shards", folder / ".shards")
    with pytest.raises(MixedSignalsError, match="is a feature set of audio; move it"):
        merge(store, "video/enc")


def flip(features, block, offset):
    """Change a bit of a block."""
    at = features.blocks[block].offset + offset
    content = bytearray(features.path.read_bytes())
    content[at] ^= 1
    features.path.write_bytes(content)


def test_a_corrupt_row_is_refused_with_its_file_and_its_name(store):
    shards(store)
    features = shard(store, 2)
    row = 3
    flip(features, "embedding", row * D * 4 + 5)
    said = refused(store, r"enc\.2of3\.h5: 1 of 20 rows are not what was written: 1 \(u10\)")
    assert said.endswith("remove it, then run extract-features again with --ray, or with --shard 2/3")
    features.path.unlink()
    shard(store, 2)
    check_whole(merge(store, KEY))


@pytest.mark.parametrize("block", ["batch", "dimension", "provenance", "row_hash", "utterance_id"])
def test_a_head_that_is_not_what_was_written_is_refused(store, block):
    shards(store)
    flip(shard(store, 2), block, 0)
    refused(store, r"enc\.[12]of3\.h5")


def test_a_shard_that_is_being_written_is_refused(store):
    shards(store)
    with sole_writer(store.shard_path("audio", "enc", 2, OF)):
        refused(store, rf"enc\.2of3\.h5: process {os.getpid()} on .* is writing this feature set; wait")
    check_whole(merge(store, KEY))


def test_a_shard_outside_the_store_is_refused(store, tmp_path):
    shards(store)
    path = store.shard_path("audio", "enc", 2, OF)
    shutil.move(path, tmp_path / "outside.h5")
    path.symlink_to(tmp_path / "outside.h5")
    with pytest.raises(MixedSignalsError, match="a link that leads out of the store"):
        merge(store, KEY)
    assert (tmp_path / "outside.h5").exists()


def test_rows_that_the_set_has_stay_and_shards_give_the_rest(store):
    some = EVERYTHING[::4]
    rest = np.setdiff1d(EVERYTHING, some)
    before = whole(store, some, versions={"lib": "0"}, job={"shard": 0})
    shard(store, 1, 2, rest[:10], job={"shard": 1})
    shard(store, 2, 2, rest[10:], versions={"lib": "2"})
    features = merge(store, KEY)
    check_whole(features)
    np.testing.assert_array_equal(features.row_hash_bytes[some], before.row_hash_bytes)
    assert features.provenance["versions"] == [{"lib": "0"}, {"lib": "1"}, {"lib": "2"}]
    assert features.jobs == [{"shard": 0}, {"shard": 1}]


def test_what_the_set_has_of_an_older_corpus_does_not_stay(store):
    whole(store)
    table = table_of()
    table.loc[[4, 7], "end"] += 0.25
    store = replaced(store, table)
    shard(store, 1, 2, [4])
    said = refused(store, r"its shards are not complete \(not there: 2/2\)")
    shard(store, 2, 2, [8])
    said = refused(store, r"\(the corpus says something else now of 1 \(u07\)\)")
    assert said.endswith("run extract-features again without --shard")
    shard(store, 2, 2, [7])
    features = merge(store, KEY)
    check_whole(features)
    np.testing.assert_array_equal(features.entry_hash_bytes, store.corpus.entry_hash_bytes("audio"))


def test_rows_of_media_that_changed_take_the_place_of_those_of_the_set(store):
    before = whole(store)
    changed = shard(store, 1, 2, [4, 5], media="2")
    shard(store, 2, 2, [8, 9], media="2")
    features = merge(store, KEY)
    check_whole(features)
    other = np.flatnonzero(features.row_hash_bytes != before.row_hash_bytes)
    assert other.tolist() == [4, 5, 8, 9]
    np.testing.assert_array_equal(features.row_hash_bytes[4:6], changed.row_hash_bytes)


def test_rows_of_other_media_that_are_older_than_the_set_are_refused(store):
    old = shard(store, 1, 1, [4, 5], media="0")
    features = whole(store)
    os.utime(old.path, ns=(0, features.path.stat().st_mtime_ns - 1))
    said = refused(
        store, r"enc\.1of1\.h5: made of other media than .*enc\.h5, which was written later: 2 \(u04, u05\)"
    )
    assert said.endswith("with --shard 1/1, or remove the one that is out of date")
    shard(store, 1, 1, [8])  # an extraction now finds that the set has those rows
    check_whole(merge(store, KEY))


def test_a_shard_that_is_not_finished_with_changed_media_is_refused(store):
    whole(store)
    shard(store, 1, 1, range(10), media="2", stop_after=1)
    refused(store, r"not finished: 1/1")


def test_rows_that_failed_and_were_tried_again_are_taken_the_others_stay_failed(store):
    whole(store)
    failed = np.flatnonzero(status_of(EVERYTHING) == Status.FAILED)
    assert len(failed) == 4
    shard(store, 1, 2, failed[:2], mended=True)
    shard(store, 2, 2, failed[2:3])  # failed again
    expected = status_of(EVERYTHING)
    expected[failed[:2]] = Status.OK
    check_whole(merge(store, KEY), expected)


def test_rows_that_failed_and_wait_to_be_tried_again_are_not_passed_over(store):
    whole(store)
    failed = np.flatnonzero(status_of(EVERYTHING) == Status.FAILED)
    shard(store, 1, 1, failed, mended=True, stop_after=0)
    refused(store, r"not finished: 1/1")


def test_shards_of_what_the_set_has_by_now_are_put_away(store):
    shards(store, 1, 2)
    shard(store, 3, stop_after=2)
    before = whole(store, mended=True).path.read_bytes()
    check_whole(merge(store, KEY), np.full(N, Status.OK))
    assert store[KEY].path.read_bytes() == before
    assert left(store) == ["audio/enc.h5"]


def test_half_precision_comes_through_bit_by_bit(store):
    recipe = Recipe("enc", "audio", store_dtype="float16")
    apart = [shard(store, number, recipe=recipe) for number in (1, 2, 3)]
    features = merge(store, KEY)
    assert features.dtype == np.float16
    for number, one in enumerate(apart, 1):
        assert features.stored[members_of(number)].tobytes() == np.array(one.stored).tobytes()


def test_every_row_is_counted_when_it_is_read_and_when_it_is_written(store, monkeypatch):
    monkeypatch.setattr(merging, "_BLOCK_BYTES", 2 * D * 4)
    whole(store, EVERYTHING[:30])
    shards(store)
    seen = []
    check_whole(merge(store, KEY, on_progress=seen.append))
    assert sum(seen) == 2 * N
    assert len(seen) > 6


def test_shards_of_other_sets_stay(store):
    shards(store)
    other = shard(store, 1)
    shutil.copy(other.path, other.path.with_name("other.1of3.h5"))
    merge(store, KEY)
    assert left(store) == ["audio/.shards", "audio/.shards/other.1of3.h5", "audio/enc.h5"]


@settings(max_examples=15)
@given(
    places=st.lists(st.integers(0, 3), min_size=N, max_size=N),
    also=st.lists(st.booleans(), min_size=N, max_size=N),
    seed=st.integers(0, 9),
)
def test_however_rows_are_shared_out_the_whole_comes_of_them(tmp_path_factory, places, also, seed):
    """Each row is in the set (0) or in one of three shards, some in both; the set may stand in another order."""
    store = Store.create(tmp_path_factory.mktemp("shared") / "store", CORPUS)
    places, also = np.array(places), np.array(also)
    mine = np.flatnonzero((places == 0) | also)
    if len(mine):
        whole(store, np.random.default_rng(seed).permutation(mine))
    there = [number for number in (1, 2, 3) if (places == number).any()]
    for number in there:
        shard(store, number, members=np.flatnonzero(places == number))
    if there:
        check_whole(merge(store, KEY))


def killed_child(store, moment):
    """Merge in a child process that dies by SIGKILL when it writes or removes for the n-th time."""
    pid = os.fork()
    if pid:
        return pid
    try:
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

        write, remove, take = os.pwrite, os.unlink, os.replace
        os.pwrite = dying(write, lambda file, data, at: write(file, data[: len(data) // 2], at))
        os.unlink = dying(remove, lambda *words: None)
        os.replace = dying(take, lambda *words: None)
        merging._BLOCK_BYTES = 2 * D * 4
        merge(store, KEY)
    finally:
        os._exit(0)


def test_a_merge_killed_at_any_moment_ends_right_when_it_is_run_again(tmp_path):
    """A set with stale, failed and absent rows, and shards for these; half the merges are killed twice."""
    rng = random.Random(0)
    store = Store.create(tmp_path / "store", CORPUS)
    whole(store, EVERYTHING[:40], job={"job": "first"})
    failed = np.flatnonzero(status_of(EVERYTHING[:40]) == Status.FAILED)
    shard(store, 1, 2, [0, 1, *failed[:1]], media="2", mended=True, job={"shard": 1})
    shard(store, 2, 2, [*failed[1:], *range(40, N)], mended=True, job={"shard": 2})
    expected = np.where(EVERYTHING < 40, status_of(EVERYTHING), Status.OK)
    expected[failed] = Status.OK
    halfway = 0
    for number in range(24):
        copy = Store.open(shutil.copytree(store.path, tmp_path / str(number)))
        for _ in range(1 + number % 2):
            pid = killed_child(copy, rng.randint(*rng.choice([(1, 69), (60, 69)])))
            _, ended = os.waitpid(pid, 0)
            halfway += os.WIFSIGNALED(ended)
            check_vectors(copy[KEY])
            if not copy.shards():
                break
        features = merge(copy, KEY) if copy.shards() else copy[KEY]
        check_whole(features, expected)
        assert features.jobs == [{"job": "first"}, {"shard": 1}, {"shard": 2}]
        assert left(copy)[-1] == "audio/enc.h5"
        assert not copy.shards()
    assert halfway > 8


def test_a_disk_that_fills_up_keeps_the_shards(store, monkeypatch):
    shards(store)
    real, calls = os.pwrite, []

    def full(file, data, offset):
        calls.append(offset)
        if len(calls) > 40:
            raise OSError(28, "No space left on device")
        return real(file, data, offset)

    monkeypatch.setattr(merging, "_BLOCK_BYTES", D * 4)
    monkeypatch.setattr(writing.os, "pwrite", full)
    with pytest.raises(MixedSignalsError, match="no space left on device; what was written is kept"):
        merge(store, KEY)
    monkeypatch.undo()
    assert len(store.shards()[KEY]) == OF
    check_whole(merge(store, KEY))


def test_doctor_tells_of_shards_left_over(store):
    whole(store)
    shards(store, 1, 2)
    (found,) = [one for one in examine(store) if one.check == "unmerged-shards"]
    assert (found.severity, found.where, found.count) == ("warning", KEY, 2)
    assert found.what == "2 shards not merged (of 3)"
    assert "store merge STORE audio/enc" in found.mend


def test_verify_reads_shards_too(store):
    shards(store)
    flip(shard(store, 2), "embedding", 0)
    seen = []
    files = {file.path: file for file in check_files(store, seen.append)}
    assert sum(seen) == N
    assert files["features/audio/.shards/enc.1of3.h5"].ok
    corrupt = files["features/audio/.shards/enc.2of3.h5"]
    assert corrupt.rows == ("u01",)
    assert corrupt.mend == "remove it, then run extract-features again with --ray, or with --shard 2/3"


@pytest.fixture
def call(store, monkeypatch, capsys):
    def run(command, *words):
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["mixed-signals store", command, str(store.path), *words])
        with pytest.raises(SystemExit) as stopped:
            run_app(app)
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run


def test_the_command_merges_whatever_has_shards(store, call):
    assert call("merge") == (0, "no shards to merge\n", "")
    shards(store)
    shutil.copytree(store.path / "features/audio/.shards", store.path / "features/video/.shards")
    shutil.copy(store.shard_path("audio", "enc", 1, 3), store.shard_path("audio", "other", 1, 3))
    code, out, err = call("merge")
    assert code == 1
    assert out.startswith("<FeatureSet audio/enc: 60 x 16 float32 (")
    assert "other.h5: its shards are not complete" in err
    assert "error: " in err.splitlines()[-1]
    assert "move it to that folder" in err.splitlines()[-1]
    assert sorted(store.shards()) == ["audio/other", "video/enc"]


def test_the_command_takes_names_and_says_what_has_shards(store, call):
    shards(store)
    assert call("merge", "audio/other")[0] == 2
    code, _, err = call("merge", "audio/other", KEY)
    assert code == 2
    assert "no shards of 'audio/other'" in err
    check_whole(store[KEY])


def test_ls_tells_of_shards_in_one_line(store, call):
    assert "shards" not in call("ls")[1]
    shard(store, 1, stop_after=1)
    shard(store, 2)
    code, out, err = call("ls")
    assert (code, err) == (0, "")
    line = (
        "audio/enc: 2 of 3 shards there and not merged, 1 of them unfinished: see mixed-signals store merge"
    )
    assert line in out.splitlines()
    said = json.loads(call("ls", "--json")[1])["shards"]
    assert [(one["key"], one["number"], one["of"], one["coverage"]["pending"]) for one in said] == [
        (KEY, 1, 3, 16),
        (KEY, 2, 3, 0),
    ]
    store.shard_path("audio", "enc", 3, 3).write_bytes(b"nonsense")
    assert "enc.3of3.h5: damaged" in json.loads(call("ls", "--json")[1])["shards"][2]["error"]
    assert "3 of 3 shards" in call("ls")[1]
    assert call("verify")[0] == 1


def test_a_long_merge_shows_its_progress(store, call, monkeypatch):
    from mixed_signals.store import cli

    monkeypatch.setattr(cli, "_SLOW_BYTES", 0)
    shards(store)
    assert f"merging {KEY}: {2 * N} done" in call("merge")[2]
