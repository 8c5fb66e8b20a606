"""Media at an S3 server on this machine: decoded as local files are, by range, with a reason where that fails."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from media_files import frames, pictures, rising_tone, sound, write
from other_processes import environment
from s3_server import KEY, SECRET, s3_server
from small_encoders import Seconds, make_sound, run

from mixed_signals.extract import job
from mixed_signals.extract.media import Clip, Unreadable
from mixed_signals.extract.pipeline import Options
from mixed_signals.store import Corpus, Status, Store, remote

QUICK = Options(workers=1)


@pytest.fixture
def server(monkeypatch):
    return s3_server(monkeypatch)


@pytest.fixture
def place(server, request):
    """A folder of this test's own, ``bucket/folder``."""
    return f"media/{request.node.name.replace('[', '-').strip(']')}"


def sounds_at(server, place, folder, lengths):
    """Put sounds of these lengths on the server, and return a store of them, u00, u01, ..."""
    ids = [f"u{i:02d}" for i in range(len(lengths))]
    for utterance, n in zip(ids, lengths, strict=True):
        put_sound(server, place, folder, utterance, n)
    table = pd.DataFrame({"utterance_id": ids, "media": [f"{one}.wav" for one in ids]})
    return Store.create(folder / "s", Corpus("c", table, media_root=f"s3://{place}"))


def put_sound(server, place, folder, utterance, n):
    make_sound(folder / "media" / f"{utterance}.wav", n)
    server.put(f"{place}/{utterance}.wav", (folder / "media" / f"{utterance}.wav").read_bytes())


@pytest.mark.parametrize(
    "name", ["film.mp4", "film.mkv", "film.ts", "film.avi", "film.flv", "sound.wav", "sound.flac"]
)
def test_what_is_decoded_is_what_the_file_holds(server, place, tmp_path, name):
    suffix = name.rpartition(".")[2]
    codec = {"wav": "pcm_s16le", "flac": "flac"}.get(suffix, "aac")
    streams = [sound(rising_tone(8), codec)]
    if name.startswith("film"):
        streams.insert(0, pictures(200, gop=25))
    file = write(tmp_path / name, *streams)
    server.put(f"{place}/{name}", file.read_bytes())
    for cut in ({}, {"start": 2.3, "end": 3.1}, {"start": 6.9}):
        near, far = Clip("u", media=file, **cut), Clip("u", media=f"s3://{place}/{name}", **cut)
        np.testing.assert_array_equal(near.waveform(16_000), far.waveform(16_000))
        if name.startswith("film"):
            np.testing.assert_array_equal(frames(near, 5), frames(far, 5))


def test_a_segment_of_a_long_file_costs_its_own_bytes_and_the_index(server, place, tmp_path, monkeypatch):
    """An MP4 whose index is at the end, with pictures that do not compress."""
    monkeypatch.setattr(remote, "BLOCK_BYTES", 2**16)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    film = write(tmp_path / "long.mp4", pictures(2500, gop=1, picture=noise), sound(rising_tone(100), "aac"))
    content = film.read_bytes()
    index = len(content) - content.rindex(b"moov")
    server.put(f"{place}/long.mp4", content)
    far = Clip("u", media=f"s3://{place}/long.mp4", start=50.0, end=53.0)
    np.testing.assert_array_equal(
        far.waveform(16_000), Clip("u", media=film, start=50.0, end=53.0).waveform(16_000)
    )
    fetched = sum(one.bytes for one in server.gets(f"/{place}/long.mp4"))
    segment = len(content) * (3 + 1 + 1) / 100  # with the second before it, and what is read ahead
    elsewhere = 10 * 2**16  # the beginning, and the sound, which stands behind all pictures in this film
    assert fetched <= segment + index + elsewhere < len(content) / 10
    known = len(server.requests)
    frames(far, 5)  # the same thread goes on in what it has
    assert len(server.requests) - known <= 2


def test_rows_that_cannot_be_read_say_why_and_can_be_tried_again(server, place, tmp_path, monkeypatch):
    store = sounds_at(server, place, tmp_path, [8000, 9000, 40_000, 7000, 6000])
    table = store.corpus.utterances
    table.loc[3, "media"] = "none.wav"
    store = Store.create(store.path, Corpus("c", table, media_root=f"s3://{place}"), replace=True)
    server.refuse = {f"/{place}/u01.wav"}
    server.cut_after = 70_000  # of which only one has more
    server.put(f"{place}/u04.wav", b"")
    (outcome,) = run(store, Seconds(), options=QUICK)
    features = outcome.features
    assert [Status(one) for one in features.status] == [Status.OK, *[Status.FAILED] * 4]
    assert features.reasons[1] == "there is no permission to read it"
    assert features.reasons[2].startswith("it could not be read over the network (")
    assert features.reasons[3] == "the file does not exist"
    assert features.reasons[4] == "the file is empty"
    server.cut_after = None
    (task,) = job.plan(store, [Seconds()])
    assert task.idle  # not without being asked
    (again,) = run(store, Seconds(), options=QUICK, retry_failed=True)
    assert [Status(one) for one in again.features.status] == [
        Status.OK,
        Status.FAILED,
        Status.OK,
        Status.FAILED,
        Status.FAILED,
    ]


def test_only_what_changed_at_the_server_is_made_again(server, place, tmp_path):
    store = sounds_at(server, place, tmp_path, [8000 + k for k in range(10)])
    run(store, Seconds(), options=QUICK)
    server.requests.clear()
    (task,) = job.plan(store, [Seconds()])
    assert task.idle
    assert [one.method for one in server.requests] == ["GET"]  # one listing
    put_sound(server, place, tmp_path, "u04", 12_000)
    (task,) = job.plan(store, [Seconds()])
    assert task.plan.rows.tolist() == [4]


def test_lengths_are_guessed_by_the_sizes_that_were_listed(server, place, tmp_path):
    store = sounds_at(server, place, tmp_path, [8000 * (k + 1) for k in range(10)])
    job.plan(store, [Seconds()])
    server.requests.clear()
    lengths = job.rough_lengths(store, "audio")
    np.testing.assert_allclose(lengths, 0.5 * np.arange(1, 11), rtol=0.01)
    assert not server.requests


def test_the_web_is_read_by_range_too(server, place, tmp_path):
    film = write(tmp_path / "a b.mp4", pictures(50), sound(rising_tone(2), "aac"))
    server.put(f"{place}/a b.mp4", film.read_bytes())
    table = pd.DataFrame({"utterance_id": ["u"], "media": ["a b.mp4"]})
    store = Store.create(tmp_path / "s", Corpus("c", table, media_root=f"{server.url}/{place}"))
    (far,) = job.clips_of(store, with_media=True)
    np.testing.assert_array_equal(frames(far, 5), frames(Clip("u", media=film), 5))
    asked = server.gets(f"/{place}/a b.mp4")
    assert asked
    assert all(one.range for one in asked)
    (first,) = remote.look([far.media]).values()
    server.put(f"{place}/a b.mp4", film.read_bytes() + b"x")
    (second,) = remote.look([far.media]).values()
    assert (second.size, second.identity != first.identity) == (first.size + 1, True)


def test_a_playlist_at_a_url_leads_nowhere(server, place, tmp_path):
    film = write(tmp_path / "film.ts", pictures(25))
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {film}\n")
    for name in ("list.m3u8", "list.mp4"):
        server.put(f"{place}/{name}", (tmp_path / name).read_bytes())
        with pytest.raises(Unreadable, match="not readable as media"):
            frames(Clip("u", media=f"s3://{place}/{name}"), 10)


def test_commands_stream_and_no_key_stands_in_a_store_or_in_what_they_print(server, place, tmp_path):
    """A table with a local file, the same at a URL, and URLs that fail; the keys are in the environment."""
    for utterance, n in (("a", 16_000), ("b", 17_000), ("c", 18_000)):
        put_sound(server, place, tmp_path, utterance, n)
    server.refuse = {f"/{place}/b.wav"}
    server.cut_after = 34_500  # of which only c has more
    table, store = tmp_path / "t.csv", tmp_path / "s"
    urls = [f"{one},s3://{place}/{one}.wav" for one in "abcd"]
    table.write_text("\n".join(["utterance_id,media", "near,media/a.wav", *urls]))
    said = command("mixed_signals.analysis.app", "corpus", "import", "csv", table, "--store", store)
    said += command("mixed_signals.extract.cli", store, "--audio", "egemaps", "--workers", "1", "--debug")
    features = Store.open(store)["audio/egemaps"]
    assert features.coverage == {"pending": 0, "ok": 2, "missing": 0, "failed": 3}
    np.testing.assert_array_equal(features.embedding[0], features.embedding[1])
    assert "there is no permission to read it" in said
    signed = table.with_name("signed.csv")
    signed.write_text(f"utterance_id,media\na,https://me:{SECRET}@host/a.wav?X-Amz-Signature={KEY}")
    said += command(
        "mixed_signals.analysis.app", "corpus", "import", "csv", signed, "--store", tmp_path / "t", code=1
    )
    assert "holds credentials or a signature" in said
    said += command(
        "mixed_signals.extract.cli",
        store,
        "--audio",
        "egemaps",
        "--media-root",
        f"s3://{KEY}:{SECRET}@b",
        code=2,
    )
    files = [path for path in [*store.rglob("*"), *(tmp_path / "t").rglob("*")] if path.is_file()]
    assert len(files) >= 3
    for secret in (KEY, SECRET, "X-Amz", "Authorization"):
        assert secret not in said
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def command(module, *arguments, code=0):
    """Run a command in a process of its own, and return all that it prints."""
    source = f"from {module} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(COLUMNS="200"),
        cwd=Path(__file__).parent,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
