"""The stages at work: decoded once for all, faults kept apart, stopped when it goes wrong, several processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from other_processes import environment, until
from small_encoders import (
    BatchedSeconds,
    Lengths,
    Marking,
    Seconds,
    Unloadable,
    make_sound,
    make_sounds,
    make_store,
    run,
)

from mixed_signals.extract import job, parcels, workers
from mixed_signals.extract.line import Line
from mixed_signals.extract.pipeline import Options, TooManyFailures
from mixed_signals.store import Corpus, MixedSignalsError, Status, Store, UsageError
from mixed_signals.store.merging import merge

LENGTHS = [800 + 160 * (7 * i % 13) for i in range(24)]


def test_one_decoding_serves_every_encoder_of_a_modality(tmp_path, monkeypatch):
    store = make_sounds(tmp_path, LENGTHS)
    outcomes = run(store, Seconds(), BatchedSeconds(rows=5), Seconds("twice", rate=16_000))
    keys = [outcome.features.key for outcome in outcomes]
    assert keys == ["audio/seconds", "audio/batched", "audio/batched.1.max", "audio/twice"]
    for outcome in outcomes:
        factor = 2 if outcome.features.key == "audio/twice" else 1
        np.testing.assert_allclose(outcome.features.embedding[:, 0], np.multiply(LENGTHS, factor), atol=40)
    (decoded,) = {outcome.spent["media_seconds"] for outcome in outcomes}
    assert decoded == pytest.approx(sum(LENGTHS) / 8000, rel=0.01)  # once, not once for each
    together = outcomes[2].features.embedding[:, 1]
    assert sorted(together) == [4] * 4 + [5] * 20


def test_layers_of_one_pass_are_made_in_one_pass_and_added_later(tmp_path):
    store = make_store(tmp_path, ["a", "bb", "ccc"])
    run(store, Lengths())
    both = Lengths(), Lengths(name="other")
    run(store, *both)
    assert [len(one.seen) for one in both] == [0, 3]


def test_a_file_that_crashes_hangs_or_raises_costs_its_own_row(tmp_path):
    lengths = [801, *LENGTHS, 802, 803]
    store = make_sounds(tmp_path, lengths)
    began = time.monotonic()
    (outcome,) = run(
        store, Seconds(exits=[801], hangs=[802], raises=[803]), options=Options(workers=2, timeout=2)
    )
    assert time.monotonic() - began < 30
    features = outcome.features
    bad = {
        0: "crashed its decoder (exit code 3)",
        len(lengths) - 2: "not read within 2 s",
        len(lengths) - 1: "ArithmeticError: 803 samples",
    }
    assert {row: features.reasons[row] for row in np.flatnonzero(features.status == Status.FAILED)} == bad
    good = [row for row in range(len(lengths)) if row not in bad]
    np.testing.assert_array_equal(features.embedding[good, 0], np.array(lengths)[good])


@pytest.mark.parametrize("limit", [2, 0.1])
def test_a_job_that_goes_wrong_is_stopped(tmp_path, limit):
    said = ["x", "broken", "y", "broken", "z", "broken"] + ["x"] * 14
    store = make_store(tmp_path, said)
    with pytest.raises(TooManyFailures, match="stopped, 3 of 20 rows failed"):
        run(store, Lengths(rows=1), options=Options(max_failures=limit))
    assert store["text/lengths"].coverage["failed"] == 3
    (outcome,) = run(store, Lengths(rows=1), options=Options(max_failures=limit))  # those are done with
    assert outcome.features.coverage["ok"] == 17


def test_vectors_that_cannot_be_kept_count_as_failures(tmp_path):
    class Huge(Lengths):
        def vectors(self, packed, one):
            return (np.array([1e9]),)

    store = make_store(tmp_path, ["x"] * 20)
    with pytest.raises(TooManyFailures, match=r"stopped, 4 of 20 rows failed.*does not fit float16.*\(u03\)"):
        run(store, Huge(), store_dtype="float16", options=Options(max_failures=2))


def test_a_share_of_failures_is_met_exactly(tmp_path):
    store = make_store(tmp_path, ["broken"] * 29 + ["x"] * 71)  # 0.29 * 100 is less than 29
    (outcome,) = run(store, Lengths(), options=Options(max_failures=0.29))
    assert outcome.features.coverage["failed"] == 29


def test_rows_that_an_encoder_has_are_not_read_for_it_again(tmp_path):
    def marked(name):
        encoder = Seconds(name)
        encoder.reader = Marking(tmp_path / name)
        return encoder

    store = make_sounds(tmp_path, [800, 960, 1120])
    run(store, marked("one"))
    (tmp_path / "one").unlink()
    (tmp_path / "media" / "u01.wav").unlink()
    make_sound(tmp_path / "media" / "u01.wav", 1280)
    run(store, marked("one"), marked("two"))
    assert (tmp_path / "one").read_text() == "1280\n"
    assert sorted((tmp_path / "two").read_text().split()) == ["1120", "1280", "800"]


def test_workers_that_are_killed_while_idle_cost_nothing(tmp_path):
    class Killing(BatchedSeconds):
        def encode(self, packed):
            if not self.seen:
                time.sleep(0.5)  # by now the workers wait for room
                for process in multiprocessing.active_children():
                    process.kill()
                time.sleep(0.5)
            return super().encode(packed)

    store = make_sounds(tmp_path, LENGTHS)
    outcome, _ = run(store, Killing(rows=4), options=Options(workers=1))
    assert outcome.features.embedding[:, 0].tolist() == LENGTHS


@pytest.mark.parametrize(
    ("trouble", "silence", "said"),
    [("hang", 2.0, "no decoding process took up its work"), ("die", 60.0, "end before they have begun")],
)
def test_readers_that_never_load_end_the_job(tmp_path, monkeypatch, trouble, silence, said):
    monkeypatch.setattr(workers, "_MOST_SILENCE", silence)
    encoder = Seconds()
    encoder.reader = Unloadable(trouble)
    with pytest.raises(MixedSignalsError, match=said):
        run(make_sounds(tmp_path, LENGTHS), encoder)


def test_a_lost_device_is_noticed_while_media_are_read(tmp_path):
    class Lost(BatchedSeconds):
        def encode(self, packed):
            raise RuntimeError("the device is lost")

    store = make_sounds(tmp_path, [4000, *[800] * 10])  # the longest is begun first
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="the device is lost"):
        run(store, Lost(rows=1, hangs=[4000]))
    assert time.monotonic() - began < 30


def test_a_job_that_is_over_before_its_workers_are_there_says_nothing(tmp_path, capfd):
    for number in range(2):
        run(make_sounds(tmp_path / str(number), [800]), Seconds(), options=Options(workers=3))
    assert capfd.readouterr().err == ""


def test_shards_of_another_number_are_refused_before_the_work(tmp_path):
    store = make_sounds(tmp_path, LENGTHS)
    run(store, Seconds(), shard=job.Shard(1, 3))
    with pytest.raises(UsageError, match="there are shards of 3 of audio/seconds"):
        job.plan(store, [Seconds()], shard=job.Shard(1, 2))
    assert len(job.plan(store, [Seconds("other")], shard=job.Shard(1, 2))) == 1


def test_as_many_failures_as_are_allowed_stop_nothing(tmp_path):
    store = make_store(tmp_path, ["broken", "broken", "x", "y"])
    (outcome,) = run(store, Lengths(), options=Options(max_failures=2))
    assert outcome.features.coverage == {"pending": 0, "ok": 2, "missing": 0, "failed": 2}


def test_an_error_of_the_network_ends_the_job_and_keeps_what_is_written(tmp_path):
    class Lost(Lengths):
        def encode(self, packed):
            if len(self.seen) >= 8:
                raise RuntimeError("the device is lost")
            return super().encode(packed)

    store = make_store(tmp_path, ["x"] * 20)
    with pytest.raises(RuntimeError, match="the device is lost"):
        run(store, Lost())
    assert store["text/lengths"].coverage["ok"] == 8
    assert not [thread for thread in threading.enumerate() if "_work" in thread.name]


def test_shards_made_apart_and_merged_are_the_whole(tmp_path):
    store = make_sounds(tmp_path, LENGTHS)
    (whole,) = run(store, Seconds("whole"))
    sizes = [len(run(store, Seconds(), shard=job.Shard(number, 3))[0].features) for number in (2, 1, 3)]
    assert sum(sizes) == len(LENGTHS)
    assert min(sizes) >= 5
    assert store.feature_sets() == ["audio/whole"]
    merged = merge(store, "audio/seconds")
    np.testing.assert_array_equal(merged.embedding, whole.features.embedding)
    (again,) = run(store, Seconds())
    assert again.task.idle


def test_shards_add_to_what_is_there_and_follow_a_corpus_that_changed(tmp_path):
    store = make_sounds(tmp_path, LENGTHS)
    run(store, Seconds())
    for old, new in (("u03", "renamed"), ("u04", "longer")):
        (tmp_path / "media" / f"{old}.wav").rename(tmp_path / "media" / f"{new}.wav")
    make_sound(tmp_path / "media" / "longer.wav", 4000)
    media = [
        {"u03.wav": "renamed.wav", "u04.wav": "longer.wav"}.get(m, m)
        for m in store.corpus.utterances["media"]
    ]
    changed = Corpus("c", store.corpus.utterances.assign(media=media), media_root=tmp_path / "media")
    store = Store.create(store.path, changed, replace=True)
    for number in (1, 2):
        run(store, Seconds(), shard=job.Shard(number, 2))
    merged = merge(store, "audio/seconds")
    assert merged.embedding[4, 0] == 4000
    assert np.delete(merged.embedding[:, 0], 4).tolist() == np.delete(LENGTHS, 4).tolist()
    assert run(store, Seconds())[0].task.idle
    assert store.shards() == {}


@pytest.mark.parametrize("virtual", [False, True])
def test_shards_of_a_corpus_that_shrank_leave_none_behind(tmp_path, virtual):
    store = make_store(tmp_path, ["x" * n for n in range(1, 13)])
    for number in range(1, 7):
        run(store, Lengths(), shard=job.Shard(number, 6))
    if virtual:
        merge(store, "text/lengths", virtual=True)
    store = Store.create(store.path, Corpus("c", store.corpus.utterances[:3]), replace=True)
    for number in range(1, 7):
        run(store, Lengths(), shard=job.Shard(number, 6))
    merged = merge(store, "text/lengths", virtual=virtual)
    at = merged.find(store.corpus.id_bytes)
    assert merged.embedding[at, 0].tolist() == [1, 2, 3]
    assert len(merged) == 3
    assert run(store, Lengths())[0].task.idle


def test_a_set_that_reads_its_shards_follows_a_changed_corpus_in_shards_alone(tmp_path):
    store = make_sounds(tmp_path, LENGTHS)
    for number in (1, 2):
        run(store, Seconds(), shard=job.Shard(number, 2))
    merge(store, "audio/seconds", virtual=True)
    assert run(store, Seconds())[0].task.idle
    make_sound(tmp_path / "media" / "u04.wav", 4000)
    store = Store.open(store.path)
    with pytest.raises(
        UsageError, match="its vectors lie in 2 shards; mixed-signals store merge STORE audio/seconds"
    ):
        run(store, Seconds())
    made = [run(store, Seconds(), shard=job.Shard(number, 2))[0] for number in (1, 2)]
    assert sum(len(one.features) for one in made) == len(LENGTHS)
    features = merge(store, "audio/seconds", virtual=True)
    at = features.find(store.corpus.id_bytes)
    assert features.embedding[at[4], 0] == 4000
    assert np.delete(features.embedding[at, 0], 4).tolist() == np.delete(LENGTHS, 4).tolist()


def test_the_log_says_where_the_time_went(tmp_path):
    class Slow(Lengths):
        def encode(self, packed):
            time.sleep(0.05)
            return super().encode(packed)

    (outcome,) = run(make_store(tmp_path, ["x"] * 20), Slow())
    said = outcome.features.jobs[-1]
    assert said == outcome.spent
    assert 0.25 <= said["encoding"] <= said["seconds"]
    assert said["rows"] == 20


def test_stages_overlap(tmp_path):
    """Reading, packing, encoding and writing of 10 batches, each 50 ms, end long before 40 times 50 ms."""
    began = time.monotonic()
    line = Line([lambda item: time.sleep(0.05) or item] * 4)
    for number in range(10):
        line.put(number)
    line.finish()
    assert time.monotonic() - began < 13 * 0.05 + 0.5
    assert line.waited[3] >= 0.1


def test_a_stopped_line_ends_what_it_began_and_nothing_else():
    done = []
    line = Line([lambda item: time.sleep(0.05) or item, done.append])
    for number in range(4):
        line.put(number)
    line.stop()
    assert done == sorted(done)
    assert 1 <= len(done) < 4


def test_a_line_whose_stopping_is_interrupted_hands_nothing_on(monkeypatch):
    done, go_on = [], threading.Event()
    line = Line([lambda item: go_on.wait() and item, done.append])
    line.put(1)

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        line.stop()
    go_on.set()
    time.sleep(0.5)
    assert done == []


def test_parcels_bring_arrays_as_they_were(tmp_path):
    content = {"small": np.arange(3), "large": [np.random.default_rng(0).random((200, 300)), "text"]}
    for folder in (tmp_path, tmp_path / "not there"):
        parcel = parcels.send(content, folder)
        assert bool(parcel.path) == folder.exists()
        got = parcels.receive(parcel)
        np.testing.assert_array_equal(got["large"][0], content["large"][0])
        np.testing.assert_array_equal(got["small"], content["small"])
        got["large"][0][:] = 0  # networks may write into what they get
    assert list(tmp_path.iterdir()) == []


def test_a_spool_of_a_killed_process_is_swept_away_and_no_other():
    with parcels.spool_folder() as folder:
        left = folder.parent / f"mixed-signals-{os.getpid()}"  # numbers of processes come again
        (left / "within").mkdir(parents=True)
        with parcels.spool_folder() as other:
            assert not left.exists()
            assert folder.exists()
        assert not other.exists()
    assert not folder.exists()


KILLED = """
import sys
from pathlib import Path
from small_encoders import Seconds, run
from mixed_signals.store import Store
if __name__ == "__main__":
    run(Store.open(sys.argv[1]), Seconds(hangs=[960]))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_ended_leaves_no_process_behind(tmp_path, how):
    store = make_sounds(tmp_path, LENGTHS)
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(store.path)],
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    path = store.feature_path("audio", "seconds")
    deadline = time.monotonic() + 60
    until(lambda: path.exists() and store["audio/seconds"].ok.sum() >= 10, 60, alive=process)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, said = process.communicate(timeout=30)
    assert said.count(b"Traceback") == said.count(b"KeyboardInterrupt") == (how == signal.SIGINT)

    def none_left():
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(none_left, deadline - time.monotonic())
    assert 10 <= store["audio/seconds"].ok.sum() < len(LENGTHS)


def test_a_script_without_a_guard_is_told(tmp_path):
    store = make_sounds(tmp_path, LENGTHS)
    script = tmp_path / "script.py"
    script.write_text(KILLED.replace('if __name__ == "__main__":', "if True:"))
    ran = subprocess.run(
        [sys.executable, str(script), str(store.path)],
        env=environment(),
        capture_output=True,
        timeout=60,
    )
    assert ran.returncode == 1
    assert ran.stderr.count(b"Traceback") == 1
    assert b'if __name__ == "__main__":' in ran.stderr.splitlines()[-1]
