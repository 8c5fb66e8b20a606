"""Clips hold what was between start and end and nothing else; browsers' codecs are told from others."""

from fractions import Fraction

import av
import numpy as np
import pytest
from media_files import RATE, frames, level, pictures, rising_tone, sound, write
from outside_data import outside_data

from mixed_signals.analysis.report.clips import MP4, WEBM, cut
from mixed_signals.analysis.report.recordings import Unreadable, decoded, film_of, opened, probe
from mixed_signals.extract.media import Clip


def click(seconds, at, rate=RATE):
    samples = np.zeros(int(seconds * rate), np.float32)
    samples[int(at * rate) : int(at * rate) + 48] = 0.9
    return samples


def shown(path):
    """Return time and grey level of each picture of a clip."""
    with av.open(str(path)) as clip:
        return [(frame.time, int(frame.to_ndarray(format="gray")[32, 32])) for frame in clip.decode(video=0)]


def heard(path):
    """Return a clip's seconds of sound, as its header tells, and its samples."""
    with av.open(str(path)) as clip:
        track = clip.streams.audio[0]
        samples = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in clip.decode(track)])
        return float(track.duration * track.time_base), samples


def near(levels):
    return pytest.approx(list(levels), abs=16)


def test_a_clip_begins_and_ends_with_the_right_picture_and_sample(tmp_path):
    film = write(tmp_path / "a.mp4", pictures(100), sound(click(4, 1.5), "aac"))
    clip = cut(film, 1.0, 2.2, tmp_path / "clip")
    assert clip.name == "clip.mp4"
    assert [grey for _, grey in shown(clip)] == near([level(k) for k in range(25, 55)])
    assert [time for time, _ in shown(clip)] == pytest.approx(np.arange(30) / 25, abs=1e-3)
    seconds, samples = heard(clip)
    assert seconds == pytest.approx(1.2, abs=1e-4)
    assert np.argmax(np.abs(samples)) / RATE == pytest.approx(0.5, abs=2e-3)
    with av.open(str(clip)) as opened_clip:
        assert opened_clip.duration / 1e6 == pytest.approx(1.2, abs=2e-3)
        assert opened_clip.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert clip.read_bytes().index(b"moov") < clip.read_bytes().index(b"mdat")


def test_a_start_between_two_pictures_shows_the_one_on_screen(tmp_path):
    film = write(tmp_path / "a.mp4", pictures(50))
    clip = cut(film, 0.5, 0.6, tmp_path / "clip")
    assert [time for time, _ in shown(clip)] == pytest.approx([0, 0.02, 0.06], abs=1e-3)
    assert [grey for _, grey in shown(clip)] == near([level(12), level(13), level(14)])


def test_a_clip_shorter_than_a_picture_has_that_picture(tmp_path):
    film = write(tmp_path / "a.mp4", pictures(50))
    assert [grey for _, grey in shown(cut(film, 1.005, 1.01, tmp_path / "clip"))] == near([level(25)])


def test_without_times_all_of_it_is_in_the_clip(tmp_path):
    film = write(tmp_path / "a.mp4", pictures(30), sound(rising_tone(1.2), "aac"))
    clip = cut(film, 0.0, None, tmp_path / "clip")
    assert len(shown(clip)) == 30
    assert heard(clip)[0] == pytest.approx(1.2, abs=0.03)


def test_sound_alone_becomes_m4a_cut_to_the_sample(tmp_path):
    wav = write(tmp_path / "a.wav", sound(rising_tone(3)))
    seconds, samples = heard(cut(wav, 1.0, 1.75, tmp_path / "clip"))
    assert seconds == 0.75
    expected = rising_tone(3)[RATE : RATE + len(samples)]
    assert np.abs(samples[2000:30000] - expected[2000:30000]).max() < 0.05


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_film_container_with_sound_alone_is_sound(tmp_path, suffix):
    path = write(tmp_path / f"a.{suffix}", sound(rising_tone(1), "aac"))
    assert probe(path) == ("audio", "audio/mp4")
    assert cut(path, 0.2, 0.4, tmp_path / "clip").name == "clip.m4a"


def test_sound_that_ends_early_leaves_pictures_and_pictures_that_end_early_leave_sound(tmp_path):
    film = write(tmp_path / "a.mp4", pictures(50), sound(rising_tone(1), "aac"))
    clip = cut(film, 1.4, 1.8, tmp_path / "one")
    with av.open(str(clip)) as opened_clip:
        assert not opened_clip.streams.audio
    film = write(tmp_path / "b.mp4", pictures(25), sound(rising_tone(2), "aac"))
    assert cut(film, 1.4, 1.8, tmp_path / "two").suffix == ".m4a"


@pytest.mark.parametrize("start", [3.0, 50.0])
def test_a_start_beyond_the_end_is_told(tmp_path, start):
    film = write(tmp_path / "a.mp4", pictures(50), sound(rising_tone(2), "aac"))
    with pytest.raises(Unreadable, match=f"nothing between {start:g} s and {start + 1:g} s"):
        cut(film, start, start + 1, tmp_path / "clip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1)])
def test_turned_and_mirrored_films_stand_upright(tmp_path, matrix):
    corner = np.full((64, 64, 3), 30, np.uint8)
    corner[:24, :40] = 220
    film = write(tmp_path / "a.mp4", pictures(3, matrix=matrix, picture=corner))
    (wanted,) = frames(Clip("a", media=film, start=0.0, end=0.04), 25)
    with av.open(str(cut(film, 0.0, None, tmp_path / "clip"))) as clip:
        got = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(got.astype(int) - wanted.astype(int)).mean() < 6
    assert np.abs(got.astype(int) - corner.astype(int)).mean() > 20


def test_a_variable_frame_rate_stays_one(tmp_path):
    path, stamps = tmp_path / "a.mp4", [0, 40, 100, 400, 440, 900, 1000]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        video.codec_context.time_base = Fraction(1, 1000)
        for k, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level(k), np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    clip = cut(path, 0.1, 0.95, tmp_path / "clip")
    assert [time for time, _ in shown(clip)] == pytest.approx([0, 0.3, 0.34, 0.8], abs=1e-3)
    assert [grey for _, grey in shown(clip)] == near([level(k) for k in (2, 3, 4, 5)])


@pytest.mark.parametrize(("rate", "kept"), [(50, 25), (60, 30), (25, 25), (10, 10)])
def test_at_most_thirty_pictures_a_second_evenly(tmp_path, rate, kept):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, width=64, height=64, pix_fmt="yuv420p")
        for _ in range(rate):
            container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(video.encode(None))
    times = [time for time, _ in shown(cut(path, 0.0, 1.0, tmp_path / "clip"))]
    assert times == pytest.approx(np.arange(kept) / kept, abs=1e-3)


@pytest.mark.parametrize(("size", "matrix", "becomes"), [
    ((1600, 1280), None, (800, 640)),
    ((1280, 720), (0, 1, -1, 0), (360, 640)),
    ((320, 240), None, (320, 240)),
])  # fmt: skip
def test_large_pictures_become_smaller(tmp_path, size, matrix, becomes):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, width=size[0], height=size[1], pix_fmt="yuv420p")
        if matrix:
            a, b, c, d = (65536 * value for value in matrix)
            video.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        container.mux(video.encode(av.VideoFrame(*size, "yuv420p")))
        container.mux(video.encode(None))
    with av.open(str(cut(path, 0.0, None, tmp_path / "clip"))) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == becomes


def test_a_long_film_is_not_decoded_from_its_beginning(tmp_path):
    film = write(tmp_path / "a.mp4", pictures(1500, gop=25))
    with opened(film) as container:
        time, _ = next(decoded(container, film_of(container), 50.0))
    assert 47 < time <= 50
    assert [grey for _, grey in shown(cut(film, 50.0, 50.1, tmp_path / "clip"))] == near(
        [level(k) for k in (1250, 1251, 1252)]
    )


def test_lost_sound_is_silence_and_the_rest_stays_in_step(tmp_path):
    path = write(
        tmp_path / "a.mkv",
        pictures(75),
        sound(click(3, 2.5), keep=lambda seconds: not 1 <= seconds < 2),
    )
    _, samples = heard(cut(path, 0.5, 3.0, tmp_path / "clip"))
    assert np.argmax(np.abs(samples)) / RATE == pytest.approx(2.0, abs=3e-3)


def test_without_an_encoder_of_h264_clips_are_webm(tmp_path):
    film = write(tmp_path / "a.mp4", pictures(50), sound(click(2, 1.0), "aac"))
    clip = cut(film, 0.6, 1.4, tmp_path / "clip", WEBM)
    assert clip.name == "clip.webm"
    assert probe(clip) == ("video", "video/webm")
    assert len(shown(clip)) == 20
    wav = write(tmp_path / "a.wav", sound(rising_tone(1)))
    assert probe(cut(wav, 0.0, 0.5, tmp_path / "clip", WEBM)) == ("audio", "audio/webm")
    assert MP4.film == "libx264"


@pytest.mark.parametrize(
    ("name", "streams", "type_"),
    [
        ("a.mp4", (pictures(5), sound(rising_tone(0.2), "aac")), "video/mp4"),
        ("a.mov", (pictures(5), sound(rising_tone(0.2), "libmp3lame")), "video/mp4"),
        ("a.webm", (pictures(5, "libvpx"), sound(rising_tone(0.2), "libopus")), "video/webm"),
        ("a.wav", (sound(rising_tone(0.2)),), "audio/wav"),
        ("a.wav", (sound(rising_tone(0.2), "pcm_f32le"),), "audio/wav"),
        ("a.mp3", (sound(rising_tone(0.2), "libmp3lame"),), "audio/mpeg"),
        ("a.flac", (sound(rising_tone(0.2), "flac"),), "audio/flac"),
        ("a.ogg", (sound(rising_tone(0.2), "libopus"),), "audio/ogg"),
        ("a.m4a", (sound(rising_tone(0.2), "aac"),), "audio/mp4"),
        ("a.mkv", (pictures(5), sound(rising_tone(0.2), "aac")), ""),
        ("a.mkv", (pictures(5, "libvpx"), sound(rising_tone(0.2), "libopus")), ""),
        ("a.mp4", (pictures(5, "mpeg4"),), ""),
        ("a.avi", (pictures(5, "mpeg4"), sound(rising_tone(0.2))), ""),
        ("a.mpg", (pictures(5, "mpeg1video"), sound(rising_tone(0.2), "mp2")), ""),
        ("a.mpg", (pictures(5, "mpeg2video"),), ""),
        ("a.wmv", (pictures(5, "wmv2"),), ""),
        ("a.flv", (pictures(5, "flv"),), ""),
        ("a.wav", (sound(rising_tone(0.2), "pcm_s24le"),), ""),
        ("a.wav", (sound(rising_tone(0.2), "adpcm_ms"),), ""),
        ("a.aiff", (sound(rising_tone(0.2), "pcm_s16be"),), ""),
    ],
)
def test_what_all_browsers_play_is_told_from_the_rest_and_all_of_it_can_be_cut(
    tmp_path, name, streams, type_
):
    path = write(tmp_path / name, *streams)
    kind = "video" if len(streams) == 2 or "pictures" in streams[0].__qualname__ else "audio"
    assert probe(path) == (kind, type_)
    assert probe(cut(path, 0.04, 0.16, tmp_path / "clip")) == (kind, f"{kind}/mp4")


def test_a_playlist_and_a_text_are_no_recordings(tmp_path):
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    (tmp_path / "b.mp4").write_text("this is no film")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(Unreadable):
            probe(tmp_path / name)
        with pytest.raises(Unreadable):
            cut(tmp_path / name, 0.0, None, tmp_path / "clip")


def test_grid_film_of_1991s_codec_is_cut_exactly(tmp_path):
    film = outside_data("grid") / "brbk7n.mpg"
    assert probe(film) == ("video", "")
    clip = cut(film, 0.5, 1.7, tmp_path / "clip")
    assert probe(clip) == ("video", "video/mp4")
    assert heard(clip)[0] == pytest.approx(1.2, abs=1e-4)
    with av.open(str(clip)) as opened_clip, av.open(str(film)) as whole:
        first = next(opened_clip.decode(video=0)).to_ndarray(format="gray").astype(int)
        source = [frame.to_ndarray(format="gray").astype(int) for frame in whole.decode(video=0)]
    assert np.argmin([np.abs(first - picture).mean() for picture in source]) == 12  # on screen from 0.48 s on
