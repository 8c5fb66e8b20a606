"""Sound and picture against films made here, in which sample and frame numbers can be read off."""

import av
import numpy as np
import pytest
from outside_data import outside_data

from mixed_signals.extract.media import Absent, Clip, Unreadable

RATE, FPS, SECONDS = 48_000, 20, 3


def write_film(path, *, sound=True, picture=True, channels=1, seconds=SECONDS, loudness=0.5):
    """Frame k is a flat grey of level 4 k; the sound is a ramp in each channel, from 0 to `loudness`."""
    with av.open(str(path), "w") as container:
        if picture:
            video = container.add_stream("png", rate=FPS)
            video.width, video.height, video.pix_fmt = 66, 50, "rgb24"  # a width that decoders pad
        if sound:
            audio = container.add_stream("pcm_f32le", rate=RATE, layout="stereo" if channels == 2 else "mono")
        if picture:
            for k in range(FPS * seconds):
                grey = np.full((50, 66, 3), 4 * k, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(video.encode(None))
        if sound:
            ramp = np.linspace(0, loudness, RATE * seconds, dtype=np.float32)
            signal = np.stack([ramp, np.zeros_like(ramp)][:channels], axis=1)
            for start in range(0, len(signal), 4096):
                piece = np.ascontiguousarray(signal[start : start + 4096].reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(
                    piece, format="flt", layout="stereo" if channels == 2 else "mono"
                )
                frame.sample_rate, frame.pts = RATE, start
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "ramp.mov")


@pytest.mark.parametrize(("start", "end"), [(None, None), (0.5, 1.0), (1.7, 2.3), (2.5, None), (2.0, 3.5)])
def test_sound_is_cut_to_the_sample(film, start, end):
    samples = Clip("u", media=film, start=start, end=end).waveform(RATE)
    ramp = np.linspace(0, 0.5, RATE * SECONDS, dtype=np.float32)
    expected = ramp[round((start or 0) * RATE) : None if end is None else round(end * RATE)]
    np.testing.assert_allclose(samples, expected, atol=1e-6)
    assert samples.dtype == np.float32


def test_time_stamps_in_whole_milliseconds_shift_a_late_cut_by_less_than_one(tmp_path):
    film = write_film(tmp_path / "ramp.mkv", picture=False)
    samples = Clip("u", media=film, start=2.0, end=2.5).waveform(RATE)
    expected = np.linspace(0, 0.5, RATE * SECONDS)[2 * RATE : round(2.5 * RATE)]
    assert np.abs(samples - expected).max() < 0.5 / SECONDS * 1e-3


def test_stereo_is_mixed_and_resampled(tmp_path):
    samples = Clip("u", media=write_film(tmp_path / "two.mov", channels=2)).waveform(16_000)
    assert abs(len(samples) - 16_000 * SECONDS) <= 32
    middle = slice(1000, 16_000 * SECONDS - 1000)
    np.testing.assert_allclose(samples[middle], np.linspace(0, 0.25, 16_000 * SECONDS)[middle], atol=1e-3)


@pytest.mark.parametrize("rate", [5, 10, 20, 7, 40])
@pytest.mark.parametrize(("start", "end"), [(None, None), (0.5, 1.0), (1.7, 2.3)])
def test_each_picture_is_the_one_on_screen(film, start, end, rate):
    pictures = list(Clip("u", media=film, start=start, end=end).frames(rate))
    begin, finish = start or 0.0, SECONDS if end is None else end
    times = begin + np.arange(round((finish - begin) * rate + 0.499)) / rate
    times = times[times < finish - 1e-6]
    assert [int(p[25, 33, 0]) for p in pictures] == [4 * int(t * FPS + 1e-6) for t in times]
    assert all(p.flags["C_CONTIGUOUS"] and p.shape == (50, 66, 3) and p.dtype == np.uint8 for p in pictures)


def level(k):
    """A grey that tells a frame from its neighbours whatever the codec rounds: they differ by 60 or more."""
    return 20 + 70 * k % 210


def numbered_film(path, codec, *, gap=None, seconds=8, gop=64):
    """H.264 in which frame k is a flat grey of level `level(k)`, and a tone; packets in the gap are lost."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        video.options = {"crf": "1", "g": str(gop), "sc_threshold": "0"}
        audio = container.add_stream(codec, rate=RATE, layout="mono")
        for k in range(25 * seconds):
            grey = np.full((64, 64, 3), level(k), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(video.encode(None))
        time = np.arange(RATE * seconds) / RATE
        ramp = (0.9 * time / seconds * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        for start in range(0, len(ramp), 960):
            frame = av.AudioFrame.from_ndarray(ramp[None, start : start + 960], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            for packet in audio.encode(frame):
                at = float(packet.pts * packet.time_base)
                if gap is None or not gap[0] <= at < gap[1]:
                    container.mux(packet)
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("name", ["film.ts", "film.mp4", "film.mkv"])
@pytest.mark.parametrize("start", [2.2, 4.9, 6.3])
def test_a_cut_far_from_a_key_frame_has_its_own_pictures(tmp_path, name, start):
    film = numbered_film(tmp_path / name, "aac")
    pictures = list(Clip("u", media=film, start=start, end=start + 0.5).frames(10))
    with av.open(str(film)) as container:  # in MPEG-TS the sound begins a little before the picture
        lead = float(container.streams.video[0].start_time * container.streams.video[0].time_base)
        lead -= container.start_time / 1e6
    expected = [level(int((start + k / 10 - lead) * 25 + 0.03)) for k in range(5)]
    np.testing.assert_allclose([p[32, 32].mean() for p in pictures], expected, atol=10)


def test_sound_stays_in_step_after_lost_packets(tmp_path):
    """Loudness tells the time: it rises evenly, and is that of its own time after the gap as before it."""
    film = numbered_film(tmp_path / "film.mkv", "pcm_s16le", gap=(3.0, 4.5))
    whole = Clip("u", media=film).waveform(RATE)
    late = Clip("u", media=film, start=4.0, end=6.0).waveform(RATE)

    def time_of(samples):
        return np.abs(samples).max() / 0.9 * 8

    assert time_of(whole[int(5.9 * RATE) : 6 * RATE]) == pytest.approx(6.0, abs=0.05)
    assert time_of(late[-4800:]) == pytest.approx(6.0, abs=0.05)
    assert (late[: int(0.45 * RATE)] == 0).all()
    assert len(late) == 2 * RATE


def test_a_cut_of_which_little_is_there_is_refused(film):
    with pytest.raises(Unreadable, match=r"only 0.5 s of sound between 2.5 s and 9 s"):
        Clip("u", media=film, start=2.5, end=9.0).waveform(RATE)
    with pytest.raises(Unreadable, match=r"only 0.5 s of picture between 2.5 s and 9 s"):
        list(Clip("u", media=film, start=2.5, end=9.0).frames(10))
    with pytest.raises(Unreadable, match="only 1 ms of sound"):
        Clip("u", media=film, start=1.0, end=1.001).waveform(RATE)


def test_what_is_not_there_is_absent_and_what_cannot_be_read_is_unreadable(tmp_path, film):
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mov").write_bytes(film.read_bytes()[:200])
    for name in ("text.mp4", "empty.mp4", "cut.mov", "none.mp4"):
        clip = Clip("u", media=tmp_path / name)
        with pytest.raises(Unreadable):
            clip.waveform(16_000)
        with pytest.raises(Unreadable):
            list(clip.frames(10))
    for call in (lambda: Clip("u").waveform(16_000), lambda: list(Clip("u").frames(10))):
        with pytest.raises(Absent, match="no media"):
            call()
    with pytest.raises(Absent, match="no audio track"):
        Clip("u", media=write_film(tmp_path / "mute.mov", sound=False)).waveform(16_000)
    with pytest.raises(Absent, match="no video stream"):
        list(Clip("u", media=write_film(tmp_path / "dark.mov", picture=False)).frames(10))
    with pytest.raises(Absent, match="silent"):
        Clip("u", media=write_film(tmp_path / "silent.mov", loudness=0.0)).waveform(16_000)
    with pytest.raises(Unreadable, match="between 7 s and 8 s"):
        Clip("u", media=film, start=7, end=8).waveform(16_000)
    with pytest.raises(Unreadable, match="between 7 s and 8 s"):
        list(Clip("u", media=film, start=7, end=8).frames(10))


def test_a_late_segment_equals_the_same_part_of_the_whole():
    """Real MPEG-1, H.264 and AAC: a cut does not depend on where decoding began."""
    for media in (outside_data("grid") / "bbaf2n.mpg", outside_data("clips") / "no_face.mp4"):
        whole = Clip("u", media=media).waveform(16_000)
        part = Clip("u", media=media, start=1.5, end=2.25).waveform(16_000)
        assert len(part) == 12_000
        np.testing.assert_allclose(part[200:-200], whole[24_000:36_000][200:-200], atol=1e-3)
        pictures = list(Clip("u", media=media).frames(10))
        later = list(Clip("u", media=media, start=1.5, end=2.0).frames(10))
        assert len(later) == 5
        for one, other in zip(later, pictures[15:20], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_file_of_two_bytes_is_unreadable(tmp_path):
    (tmp_path / "x.flac").write_bytes(b"xx")
    with pytest.raises(Unreadable):
        Clip("u", media=tmp_path / "x.flac").waveform(16000)
