"""Damaged files cost a row and nothing else: what is read of them is sound or pictures, or a reason."""

import multiprocessing
from concurrent.futures import TimeoutError as Hang

import numpy as np
import pytest
from media_files import frames, pictures, rising_tone, sound, write

from mixed_signals.extract.media import Absent, Clip, Unreadable

SECONDS, RATE, LIMIT = 1, 16_000, 20.0

KINDS = {
    "wav": [sound(rising_tone(SECONDS))],
    "flac": [sound(rising_tone(SECONDS), "flac")],
    "mp3": [sound(rising_tone(SECONDS), "libmp3lame")],
    "ogg": [sound(rising_tone(SECONDS), "libopus")],
    "mp4": [pictures(25, b_frames=2), sound(rising_tone(SECONDS), "aac")],
    "mkv": [pictures(25, gop=5), sound(rising_tone(SECONDS), "flac")],
    "mpg": [pictures(25, "mpeg1video"), sound(rising_tone(SECONDS), "mp2")],
    "avi": [pictures(25, "mpeg4", b_frames=2), sound(rising_tone(SECONDS), "libmp3lame")],
    "webm": [pictures(25, "libvpx"), sound(rising_tone(SECONDS), "libopus")],
    "ts": [pictures(25, gop=5), sound(rising_tone(SECONDS), "aac")],
}
FILMS = ("mp4", "mkv", "mpg", "avi", "webm", "ts")
ROUNDS = 3


def flip(data, rng):
    """Change one byte in a hundred."""
    for at in rng.integers(0, len(data), max(1, len(data) // 100)):
        data[at] ^= 1 << rng.integers(8)
    return data


def flip_header(data, rng):
    """Change bytes among the first thousand, where sizes, rates and counts are."""
    for at in rng.integers(0, min(1000, len(data)), 8):
        data[at] = rng.integers(256)
    return data


def flip_tail(data, rng):
    """Change bytes among the last thousand, where mp4 has its tables."""
    for at in rng.integers(max(0, len(data) - 1000), len(data), 8):
        data[at] = rng.integers(256)
    return data


def cut(data, rng):
    return data[: rng.integers(1, len(data))]


def zero(data, rng):
    start = rng.integers(0, len(data))
    stop = min(len(data), start + rng.integers(1, len(data) // 3))
    data[start:stop] = bytes(stop - start)
    return data


def swap(data, rng):
    """Let two pieces change places."""
    a, b, c = sorted(rng.integers(0, len(data), 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def head(data, rng):
    return data[: rng.integers(4, 64)]


MUTATIONS = (flip, flip_header, flip_tail, cut, zero, swap, head)


def read(media):
    """Return what becomes of a file's sound and of its picture: what came out, or the name of why nothing did."""
    clip = Clip("u", media=media)
    outcomes = []
    for attempt in (lambda: clip.waveform(RATE), lambda: frames(clip, 10)):
        try:
            outcomes.append(attempt())
        except (Absent, Unreadable) as reason:
            outcomes.append(type(reason).__name__)
    return outcomes


def read_all(media):
    """Read files in worker processes; return what became of each, a crash and a hang among it."""
    from pebble import ProcessExpired, ProcessPool

    with ProcessPool(max_workers=2, context=multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.schedule(read, [path], timeout=LIMIT) for path in media]
        outcomes = []
        for path, task in zip(media, tasks, strict=True):
            try:
                outcomes.append(task.result())
            except (ProcessExpired, Hang) as fault:
                outcomes.append(f"{path.name}: {type(fault).__name__}")
    return outcomes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {kind: write(folder / f"whole.{kind}", *streams) for kind, streams in KINDS.items()}


@pytest.fixture(scope="module")
def mutated(whole, tmp_path_factory):
    """Every kind of file changed in every way, several times."""
    folder = tmp_path_factory.mktemp("mutated")
    media = []
    for k, (kind, path) in enumerate(whole.items()):
        for m, mutation in enumerate(MUTATIONS):
            for n in range(ROUNDS):
                media.append(folder / f"{kind}_{mutation.__name__}_{n}.{kind}")
                rng = np.random.default_rng([k, m, n])
                media[-1].write_bytes(bytes(mutation(bytearray(path.read_bytes()), rng)))
    return media


def test_whole_files_are_read(whole):
    """What the mutations start from: every kind has its sound, and the films have their pictures."""
    for kind, path in whole.items():
        samples, shown = read(path)
        assert len(samples) == pytest.approx(RATE * SECONDS, rel=0.1)
        if kind in FILMS:
            assert len(shown) in (10, 11)  # the picture may begin a little later than the file
        else:
            assert shown == "Absent"


def test_no_mutated_file_crashes_hangs_or_gives_what_is_no_sound_or_picture(mutated):
    assert len(mutated) >= 200
    counts = dict.fromkeys(("sound", "pictures", "Absent", "Unreadable"), 0)
    for path, outcome in zip(mutated, read_all(mutated), strict=True):
        assert isinstance(outcome, list), outcome
        samples, shown = outcome
        if isinstance(samples, str):
            counts[samples] += 1
        else:
            counts["sound"] += 1
            assert samples.dtype == np.float32, path
            assert samples.ndim == 1, path
            assert np.isfinite(samples).all(), path
            assert len(samples) >= 0.02 * RATE, path
        if isinstance(shown, str):
            counts[shown] += 1
        else:
            counts["pictures"] += 1
            assert shown, path
            for picture in shown:
                assert picture.dtype == np.uint8, path
                assert picture.ndim == 3, path
                assert picture.shape[2] == 3, path
    assert min(counts.values()) > 20, counts  # the mutations neither spoil everything nor nothing


def test_what_is_left_of_a_film_cut_in_its_second_half_is_what_was_there(whole, tmp_path):
    for kind in ("wav", "mp3", "mkv", "mpg", "avi"):
        data = whole[kind].read_bytes()
        part = tmp_path / f"part.{kind}"
        part.write_bytes(data[: int(0.7 * len(data))])
        (samples, shown), (all_samples, all_shown) = read(part), read(whole[kind])
        assert 0.5 * RATE < len(samples) < len(all_samples), kind
        np.testing.assert_allclose(samples[:4000], all_samples[:4000], atol=1e-3)
        if kind in FILMS:
            assert 5 <= len(shown) <= len(all_shown), kind
            np.testing.assert_array_equal(shown[:5], all_shown[:5])


@pytest.mark.parametrize("extension", ["mp4", "wav", "txt", "jpg", "mkv", "m3u8", "g722", ""])
def test_a_wrong_extension_changes_nothing(whole, tmp_path, extension):
    for kind in KINDS:
        renamed = tmp_path / f"{kind}.{extension}"
        renamed.write_bytes(whole[kind].read_bytes())
        for one, other in zip(read(renamed), read(whole[kind]), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"{kind} as {extension}")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_file_is_unreadable_whatever_its_name(tmp_path, kind):
    (tmp_path / f"empty.{kind}").write_bytes(b"")
    assert read(tmp_path / f"empty.{kind}") == ["Unreadable", "Unreadable"]
