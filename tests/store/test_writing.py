"""What is written stays: interruptions, kills at any moment, two writers, a full disk."""

import json
import multiprocessing
import os
import pickle
import random
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
from full_disk import limited

from mixed_signals.store import (
    FeatureSet,
    FeatureWriter,
    MixedSignalsError,
    Recipe,
    Status,
    UsageError,
    writing,
)
from mixed_signals.store.writing import row_checksums

RECIPE = Recipe("enc", "audio")
N, WIDTH = 240, 64
IDS = [f"u{row}" for row in range(N)]
HASHES = ["h"] * N
DIMENSIONS = [str(column) for column in range(WIDTH)]


def in_batches(rows):
    """Batches of seven, over rows in an order of their own."""
    order = random.Random(0).sample(list(rows), len(rows))
    return [np.array(order[i : i + 7]) for i in range(0, len(order), 7)]


def encode(batch):
    """Vectors that depend on what shares the batch, as those of a padded batch do."""
    return (np.sin(batch)[:, None] + np.sum(batch) * np.arange(WIDTH)).astype(np.float32)


def write_all(path, stop_after=None):
    writer = FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS, batches=in_batches)
    with writer:
        for batch in writer.batches[:stop_after]:
            writer.write(batch, encode(batch), [Status.OK] * len(batch), [""] * len(batch))
    return FeatureSet(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("whole") / "enc.h5")


def check(path, whole):
    """The invariant: the file opens, and each row is either done, bit for bit, or pending."""
    features = FeatureSet(path)
    assert set(features.status.tolist()) <= {Status.PENDING, Status.OK}
    np.testing.assert_array_equal(features.embedding[features.ok], whole.embedding[features.ok])
    np.testing.assert_array_equal(
        features.checksums[features.ok], row_checksums(whole.embedding)[features.ok]
    )
    return features


def test_batches_are_handed_out_whole_each_once(whole, tmp_path):
    with FeatureWriter(tmp_path / "enc.h5", RECIPE, IDS, HASHES, DIMENSIONS, batches=in_batches) as writer:
        assert [list(b) for b in writer.batches] == [sorted(b) for b in in_batches(range(N))]
    assert (whole.batches >= 0).all()
    assert whole.ok.all()


def test_what_goes_on_equals_what_was_never_interrupted_bit_for_bit(whole, tmp_path):
    path = tmp_path / "enc.h5"
    half = write_all(path, stop_after=11)
    assert half.coverage["ok"] == 77
    assert half.coverage["pending"] == N - 77
    assert np.isnan(half.embedding[~half.ok]).all()
    # One row of a batch is all that reached the disk.
    torn = in_batches(range(N))[11]
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS, batches=in_batches) as writer:
        assert list(writer.batches[0]) == sorted(torn)
        writer.write(torn[:1], encode(np.sort(torn))[np.sort(torn) == torn[0]], [Status.OK], [""])
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS, batches=in_batches) as writer:
        assert list(writer.batches[0]) == sorted(torn)
    features = write_all(path)
    assert features.ok.all()
    np.testing.assert_array_equal(features.embedding, whole.embedding)


def test_rows_that_are_done_are_not_written_again(tmp_path):
    path = tmp_path / "enc.h5"
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        assert writer.write([3, 1], np.ones((2, WIDTH)), [1, 1], ["", ""]) == 2
        assert writer.write([1, 2], np.zeros((2, WIDTH)), [1, 1], ["", ""]) == 1
    features = FeatureSet(path)
    np.testing.assert_array_equal(features.embedding[1:4, 0], [1, 0, 1])


@pytest.mark.parametrize(
    "batch",
    [
        ([0, 1], np.ones((1, WIDTH)), [1, 1], ["", ""]),
        ([0, 1], np.ones((2, WIDTH + 1)), [1, 1], ["", ""]),
        ([0, 1], np.ones((2, WIDTH)), [1], ["", ""]),
        ([0, 1], np.ones((2, WIDTH)), [1, 1], [""]),
        ([0, 0], np.ones((2, WIDTH)), [1, 1], ["", ""]),
        ([-1], np.ones((1, WIDTH)), [1], [""]),
        ([N], np.ones((1, WIDTH)), [1], [""]),
        ([0], np.ones((1, WIDTH)), [9], [""]),
        ([0], np.ones((1, WIDTH)), [0], [""]),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_before_a_byte_of_it_is_written(tmp_path, batch):
    path = tmp_path / "enc.h5"
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"row|shape|status"):
            writer.write(*batch)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("ids", "hashes", "dimensions"),
    [(["a", "a"], ["h", "h"], ["x"]), (["a", "b"], ["h"], ["x"]), (["a"], ["h"], [])],
)
def test_a_set_that_cannot_be_is_not_begun(tmp_path, ids, hashes, dimensions):
    with pytest.raises(ValueError, match=r"ids repeat|as many hashes"):
        FeatureWriter(tmp_path / "enc.h5", RECIPE, ids, hashes, dimensions)


def test_other_dimensions_under_the_same_recipe_are_refused(tmp_path):
    path = tmp_path / "enc.h5"
    write_all(path, stop_after=2)
    for dimensions in (DIMENSIONS[::-1], DIMENSIONS[1:]):
        with (
            pytest.raises(UsageError, match="has other dimensions"),
            FeatureWriter(path, RECIPE, IDS, HASHES, dimensions),
        ):
            pass


def test_what_an_interrupted_writer_said_of_a_row_is_gone_when_the_row_is_done(tmp_path, monkeypatch):
    path = tmp_path / "enc.h5"
    real = writing.put

    def stop_before_status(file, block, row, values):
        if block.dtype == np.uint8:
            raise KeyboardInterrupt
        real(file, block, row, values)

    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        monkeypatch.setattr(writing, "put", stop_before_status)
        with pytest.raises(KeyboardInterrupt):
            writer.write([3], np.ones((1, WIDTH)), [Status.FAILED], ["timeout"])
        monkeypatch.undo()
    assert FeatureSet(path).reasons[3] == "timeout"
    features = write_all(path)
    assert features.ok.all()
    assert not any(features.reasons)


def test_rows_that_are_tried_again_leave_the_batches_of_the_others_as_they_were(whole, tmp_path):
    path = tmp_path / "enc.h5"
    options = {"batches": in_batches}
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS, **options) as writer:
        first, second = writer.batches[:2]
        writer.write(first, encode(first), [Status.FAILED] * len(first), ["busy"] * len(first))
        writer.write(second, encode(second), [Status.OK] * len(second), [""] * len(second))
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS, retry_failed=True, **options) as writer:
        todo = {tuple(batch) for batch in writer.batches}
        for batch in writer.batches:
            writer.write(batch, encode(batch), [Status.OK] * len(batch), [""] * len(batch))
    assert {tuple(sorted(batch)) for batch in in_batches(range(N))[2:]} <= todo
    rest = np.setdiff1d(np.arange(N), first)
    np.testing.assert_array_equal(FeatureSet(path).embedding[rest], whole.embedding[rest])


def test_what_killed_writers_left_behind_is_cleared_away(tmp_path):
    path = tmp_path / "enc.h5"
    (tmp_path / ".enc.h5.123.tmp").write_bytes(b"half a file")
    write_all(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".enc.h5.lock", "enc.h5"]


def test_links_in_the_place_of_our_own_files_are_not_followed(tmp_path):
    path, victim = tmp_path / "enc.h5", tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".enc.h5.{os.getpid()}.tmp").symlink_to(victim)
    write_all(path)
    (tmp_path / ".other.h5.lock").symlink_to(victim)
    with pytest.raises(MixedSignalsError, match="a link in the place of a lock"):
        write_all(tmp_path / "other.h5")
    assert victim.read_text() == "precious"


def test_an_opened_set_goes_to_another_process_unless_it_was_made_anew(tmp_path):
    path = tmp_path / "enc.h5"
    features = write_all(path, stop_after=3)
    sent = pickle.dumps(features)
    again = pickle.loads(sent)
    np.testing.assert_array_equal(again.embedding, features.embedding)
    write_all(path)
    np.testing.assert_array_equal(pickle.loads(sent).status, features.status)  # as it was when it was sent
    with FeatureWriter(path, RECIPE, IDS[::-1], HASHES, DIMENSIONS):
        pass
    with pytest.raises(MixedSignalsError, match="was made anew"):
        pickle.loads(sent)


def test_a_new_library_version_alone_makes_nothing_again(tmp_path):
    path = tmp_path / "enc.h5"
    for version, rows in (("1", [0]), ("2", []), ("2", [1])):
        options = {"versions": {"lib": version}}
        with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS, **options) as writer:
            for row in rows:
                writer.write([row], np.ones((1, WIDTH)), [1], [""])
    features = FeatureSet(path)
    assert features.coverage["ok"] == 2
    assert features.provenance["versions"] == [{"lib": "1"}, {"lib": "2"}]


def killed_child(path, moment):
    """Write in a child process that dies by SIGKILL: at a random system call, or after a random time."""
    pid = os.fork()
    if pid:
        return pid
    try:
        calls, real = 0, os.pwrite

        def pwrite(file, data, offset):
            nonlocal calls
            calls += 1
            if calls == moment:
                real(file, data[: len(data) // 2], offset)  # half of it reaches the file
                os.kill(os.getpid(), signal.SIGKILL)
            return real(file, data, offset)

        if isinstance(moment, int):
            writing.os.pwrite = pwrite
        write_all(path)
    finally:
        os._exit(0)


def test_a_process_killed_at_any_of_150_moments_leaves_a_file_that_opens(whole, tmp_path):
    """Half the kills hit a chosen write half-way, half come at a random time; then the job is finished."""
    seed = time.time_ns()
    print("seed", seed)  # shown where the test fails
    rng = random.Random(seed)
    survived = interrupted = 0
    for number in range(150):
        path = tmp_path / f"{number}.h5"
        by_call = number % 2 == 0
        pid = killed_child(path, rng.randint(1, 900) if by_call else 0.5)
        if not by_call:
            time.sleep(rng.uniform(0.0, 0.03))
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if not path.exists():
            assert not list(tmp_path.glob(f"{number}.h5"))
            continue
        survived += 1
        interrupted += not check(path, whole).ok.all()
        finished = write_all(path)
        assert finished.ok.all()
        np.testing.assert_array_equal(finished.embedding, whole.embedding)
    assert survived > 50
    assert interrupted > 30


def hold(path, ready, go_on):
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        writer.write([0], np.ones((1, WIDTH)), [1], [""])
        ready.set()
        go_on.wait(30)


def test_two_processes_contend_for_a_feature_set(tmp_path):
    path, spawn = tmp_path / "enc.h5", multiprocessing.get_context("spawn")
    ready, go_on = spawn.Event(), spawn.Event()
    owner = spawn.Process(target=hold, args=(path, ready, go_on))
    owner.start()
    assert ready.wait(30)
    with (
        pytest.raises(MixedSignalsError, match=rf"process {owner.pid} on {socket.gethostname()} \(since"),
        FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS),
    ):
        pass
    assert FeatureSet(path).coverage["ok"] == 1  # a reader is not blocked
    assert write_all(tmp_path / "other.h5").ok.all()  # nor is the writer of another feature set
    os.kill(owner.pid, signal.SIGKILL)  # the lock is free the moment its owner is dead
    owner.join()
    assert write_all(path).ok.all()
    assert json.loads((tmp_path / ".enc.h5.lock").read_text())["pid"] == os.getpid()


def test_a_second_writer_finds_what_the_first_has_done_meanwhile(tmp_path):
    """The plan is made under the lock: what another process finished between plan and lock is not lost."""
    path = tmp_path / "enc.h5"
    writer = FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS)
    write_all(path, stop_after=3)
    with writer:
        assert len(writer.plan.rows) == N - 21


def test_a_full_disk_is_one_error_and_the_job_goes_on_once_there_is_room(whole, tmp_path):
    path = tmp_path / "enc.h5"
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {os.path.dirname(__file__)!r})
import test_writing, mixed_signals.store
try:
    test_writing.write_all(Path({str(path)!r}))
except mixed_signals.store.MixedSignalsError as error:
    print(error)
"""
    ran = limited(script, 40_000)  # the matrix alone is 61,440 bytes
    assert ran.stdout == (f"{path}: file too large: make room and run the same command again\n"), ran.stderr
    assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == [".enc.h5.lock"]
    np.testing.assert_array_equal(write_all(path).embedding, whole.embedding)


def test_a_disk_that_fills_up_between_batches_keeps_what_was_written(whole, tmp_path, monkeypatch):
    path, real, calls = tmp_path / "enc.h5", os.pwrite, []

    def full(file, data, offset):
        calls.append(offset)
        if len(calls) > 60:
            raise OSError(28, "No space left on device")
        return real(file, data, offset)

    monkeypatch.setattr(writing.os, "pwrite", full)
    with pytest.raises(MixedSignalsError, match="no space left on device; what was written is kept"):
        write_all(path)
    monkeypatch.undo()
    assert 0 < check(path, whole).coverage["ok"] < N
    np.testing.assert_array_equal(write_all(path).embedding, whole.embedding)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_small_file_system_that_is_full(whole, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    try:
        (folder / "ballast").write_bytes(b"\0" * 200_000)
        with pytest.raises(MixedSignalsError, match="no space left on device: make room"):
            write_all(folder / "enc.h5")
        assert not (folder / "enc.h5").exists()
        (folder / "ballast").unlink()
        np.testing.assert_array_equal(write_all(folder / "enc.h5").embedding, whole.embedding)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
