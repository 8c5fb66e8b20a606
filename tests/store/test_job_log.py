"""What jobs say of themselves is kept beside the vectors, and never stands in the way of them."""

import json
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixed_signals.store import Corpus, FeatureSet, FeatureWriter, MixedSignalsError, Recipe, Status, Store
from mixed_signals.store.cli import app
from mixed_signals.store.job_log import read_jobs, with_jobs
from mixed_signals.store.layout import LOG_BYTES
from mixed_signals.store.terminal import run_app
from mixed_signals.store.verify import check_vectors

IDS = ["a", "b", "c"]
EMPTY = np.zeros(LOG_BYTES, np.uint8)


def writer_of(path, ids=IDS):
    return FeatureWriter(path, Recipe("enc", "audio"), ids, ["h"] * len(ids), ["x", "y"])


def write(path, *jobs, ids=IDS):
    """Make every row that is not there, and say the jobs."""
    with writer_of(path, ids) as writer:
        rows = writer.plan.rows
        writer.write(rows, np.ones((len(rows), 2)), [Status.OK] * len(rows), [""] * len(rows))
        for job in jobs:
            writer.note(job)
    return FeatureSet(path)


def scribble(features, noise):
    """Put bytes at the start of the log."""
    with features.path.open("r+b") as file:
        file.seek(features.blocks["log"].offset)
        file.write(noise)
    return FeatureSet(features.path)


def test_what_jobs_say_comes_back_newest_last(tmp_path):
    path = tmp_path / "enc.h5"
    assert write(path).jobs == []
    first, second = {"rows": 3, "waited": {"decode": 0.5}}, {"rows": 0}
    assert write(path, first).jobs == [first]
    assert write(path, second).jobs == [first, second]


def test_it_stays_when_the_file_is_made_anew(tmp_path):
    path = tmp_path / "enc.h5"
    write(path, {"rows": 3})
    features = write(path, {"rows": 1}, ids=["d", *IDS])
    assert features.ok.sum() == 4
    assert features.jobs == [{"rows": 3}, {"rows": 1}]


def test_an_interrupted_job_says_what_it_did(tmp_path):
    path = tmp_path / "enc.h5"

    def interrupted():
        with writer_of(path) as writer:
            try:
                raise KeyboardInterrupt
            finally:
                writer.note({"rows": 0})

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert FeatureSet(path).jobs == [{"rows": 0}]


def test_the_oldest_jobs_go_when_the_log_is_full():
    log = EMPTY
    for number in range(1000):
        log = with_jobs(log, [{"job": number}])
    jobs = [job["job"] for job in read_jobs(log)]
    assert jobs == list(range(jobs[0], 1000))
    assert 400 < len(jobs) < 700
    np.testing.assert_array_equal(with_jobs(EMPTY, [{"job": n} for n in range(1000)]), log)


@pytest.mark.parametrize("job", [{"said": "x" * LOG_BYTES}, {"said": object()}])
def test_what_cannot_be_kept_is_refused_and_the_log_stays(tmp_path, job):
    path = tmp_path / "enc.h5"
    with writer_of(path) as writer:
        writer.note({"rows": 1})
        with pytest.raises((ValueError, TypeError)):
            writer.note(job)
    assert FeatureSet(path).jobs == [{"rows": 1}]


def test_numbers_of_arrays_and_no_numbers_are_kept_as_json_has_them(tmp_path):
    said = {"rows": np.int64(3), "share": np.float32(0.5), "left": float("nan"), "where": "caf\u00e9\ud800"}
    features = write(tmp_path / "enc.h5", said)
    assert features.jobs == [{"rows": 3, "share": 0.5, "left": None, "where": "caf\u00e9\ud800"}]


def test_it_changes_nothing_that_is_counted_on(tmp_path):
    path = tmp_path / "enc.h5"
    before = write(path)
    after = write(path, {"rows": 3})
    assert after.is_sealed()
    assert after.content_fingerprint == before.content_fingerprint
    assert np.array_equal(after.embedding, before.embedding)


@settings(max_examples=20)
@given(noise=st.binary(min_size=1, max_size=300) | st.text('[]{}"\n:1\\u,', min_size=1).map(str.encode))
def test_noise_in_the_log_breaks_nothing(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("noise") / "enc.h5"
    features = scribble(write(path, {"rows": 3}, {"rows": 4}), noise)
    assert all(isinstance(job, dict) for job in features.jobs)
    check_vectors(features)
    assert write(path, {"rows": 5}).jobs[-1] == {"rows": 5}
    assert write(path, {"rows": 6}, ids=IDS[::-1]).jobs[-1] == {"rows": 6}


@pytest.mark.parametrize("noise", [b"[" * LOG_BYTES, b'{"a":' * 1000, b"9" * LOG_BYTES, b"\xff" * LOG_BYTES])
def test_a_log_full_of_nonsense_says_nothing_and_is_written_over(tmp_path, noise):
    path = tmp_path / "enc.h5"
    assert scribble(write(path), noise).jobs == []
    assert write(path, {"rows": 1}).jobs == [{"rows": 1}]


def test_a_log_that_was_being_written_at_a_kill_keeps_the_lines_that_are_whole(tmp_path):
    path = tmp_path / "enc.h5"
    old, new = [{"job": n, "said": "x" * 50} for n in range(100)], {"job": 100, "said": "y" * 90}
    features = write(path, *old)
    before, kept = features.jobs, features.blocks["log"].array(features.buffer).copy()
    half = with_jobs(kept, [new])[: LOG_BYTES // 2]
    found = scribble(features, half.tobytes()).jobs
    assert [job for job in found if job in before] == found
    assert len(found) >= len(before) - 3


def test_a_log_of_another_size_is_refused(tmp_path):
    features = write(tmp_path / "enc.h5")
    with h5py.File(features.path, "r+") as file:
        del file["log"]
        file["log"] = np.zeros(LOG_BYTES * 2, np.uint8)
    with pytest.raises(MixedSignalsError, match=r"shapes do not match \(log has 16,384, expected 8,192\)"):
        FeatureSet(features.path)


@pytest.fixture
def shown(tmp_path, monkeypatch, capsys):
    import pandas as pd

    store = Store.create(tmp_path / "store", Corpus("made up", pd.DataFrame({"utterance_id": IDS})))

    def show(*jobs, flags=()):
        write(store.feature_path("audio", "enc"), *jobs)
        words = ["mixed-signals store", "show", str(store.path), "audio/enc", *flags]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stopped:
            run_app(app)
        out, err = capsys.readouterr()
        assert (stopped.value.code, err) == (0, "")
        return out

    return show


def test_show_tells_of_the_last_job_whatever_it_says(shown):
    assert "last job" not in shown()
    out = shown({"rows": 9}, {"rows": 3, "media_seconds": 12.5, "waited": {"decode": 1.5, "encode": 2}})
    lines = [" ".join(line.split()) for line in out.splitlines()]
    at = lines.index("last job rows 3")
    assert lines[at + 1 : at + 3] == ["media seconds 12.5", "waited decode 1.5, encode 2"]
    assert "rows 9" not in out
    assert "\x1b" not in shown({"said": "\x1b[2J", "listed": [[1]]})


def test_show_as_json_has_every_job(shown):
    said = json.loads(shown({"rows": 3}, {"share": float("inf")}, flags=["--json"]))
    assert said["jobs"] == [{"rows": 3}, {"share": None}]
