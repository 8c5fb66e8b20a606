"""Sound and picture against films made here, in which sample and frame numbers can be read off."""

import struct

import av
import numpy as np
import pytest
from media_files import (
    FPS,
    RATE,
    SECONDS,
    Steady,
    frames,
    level,
    pictures,
    rising_tone,
    sound,
    write,
    write_film,
)
from outside_data import outside_data

from mixed_signals.extract import film as film_module
from mixed_signals.extract.media import Absent, Clip, Unreadable


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


def test_several_rates_are_what_each_is_alone(film):
    clip = Clip("u", media=film, start=0.5, end=2.0)
    waveforms = clip.waveforms({8_000, 16_000, RATE})
    assert {rate: len(samples) for rate, samples in waveforms.items()} == {
        rate: pytest.approx(1.5 * rate, abs=2) for rate in (8_000, 16_000, RATE)
    }
    for rate, samples in waveforms.items():
        np.testing.assert_array_equal(samples, clip.waveform(rate))


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_samples_of_every_width_are_on_one_scale(tmp_path, codec):
    """Two channels, one of them at half of full scale and one silent: a quarter."""
    wave = tmp_path / "sound.wav"
    with av.open(str(wave), "w") as container:
        audio = container.add_stream(codec, rate=16_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.repeat(np.float32([[0.5], [0.0]]), 16_000, axis=1), format="fltp", layout="stereo"
        )
        frame.sample_rate = 16_000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    samples = Clip("u", media=wave).waveform(16_000)
    np.testing.assert_allclose(samples, 0.25, atol=0.005 if codec == "pcm_u8" else 1e-4)


@pytest.mark.parametrize("rate", [5, 10, 20, 7, 40])
@pytest.mark.parametrize(("start", "end"), [(None, None), (0.5, 1.0), (1.7, 2.3)])
def test_each_picture_is_the_one_on_screen(film, start, end, rate):
    shown = frames(Clip("u", media=film, start=start, end=end), rate)
    begin, finish = start or 0.0, SECONDS if end is None else end
    times = begin + np.arange(round((finish - begin) * rate + 0.499)) / rate
    times = times[times < finish - 1e-6]
    assert [int(p[25, 33, 0]) for p in shown] == [4 * int(t * FPS + 1e-6) for t in times]
    assert all(p.flags["C_CONTIGUOUS"] and p.shape == (50, 66, 3) and p.dtype == np.uint8 for p in shown)


def test_one_pass_serves_viewers_of_all_rates(film, monkeypatch):
    """Each sees what it would see alone, and a picture that several want is converted once."""
    converted = []
    upright = film_module._upright
    monkeypatch.setattr(film_module, "_upright", lambda frame: converted.append(frame.time) or upright(frame))
    clip = Clip("u", media=film, start=0.5, end=2.0)
    viewers = [Steady(rate) for rate in (5, 10, 10, 7)]
    together = clip.look(viewers)
    assert len(converted) == len(set(converted)) < sum(map(len, together))
    assert together == [frames(clip, viewer.rate, viewer.keep) for viewer in viewers]
    assert together[1] == together[2] != together[0]
    assert clip.look([]) == []


def test_a_viewer_that_fails_fails_alone(film):
    class Blind(Steady):
        def look(self, picture):
            if picture[25, 33, 0] > 80:
                raise Absent("no face")
            return super().look(picture)

    class Lost(Steady):
        def times(self, start, stop):
            raise ValueError("no times")

    clip = Clip("u", media=film)
    seen, blind, lost = clip.look([Steady(10), Blind(10), Lost(10)])
    assert seen == frames(clip, 10, Steady(10).keep)
    assert isinstance(blind, Absent)
    assert isinstance(lost, ValueError)


@pytest.mark.parametrize("name", ["film.mov", "film.mkv", "film.avi", "film.flv"])
@pytest.mark.parametrize(
    ("start", "end", "span"),
    [(None, None, (0, 3)), (1.0, None, (1, 3)), (1.0, 2.0, (1, 2)), (0.5, 3.4, (0.5, 3))],
)
def test_viewers_are_told_where_the_picture_ends(tmp_path, name, start, end, span):
    film, viewer = write(tmp_path / name, pictures(75, b_frames=2)), Steady(10)
    Clip("u", media=film, start=start, end=end).look([viewer])
    assert viewer.span == pytest.approx(span, abs=1e-3)


@pytest.mark.parametrize("seconds", [2.4, 1.2])
def test_a_film_shorter_than_the_file_tells_shows_its_last_frame_on(tmp_path, seconds):
    """The sound lasts 3 s and so does the file; less than half of the picture may be missing."""
    film = write(tmp_path / "film.mkv", sound(rising_tone(3)), pictures(round(25 * seconds)))
    clip = Clip("u", media=film, start=0.0, end=3.0)
    if seconds < 1.5:
        with pytest.raises(Unreadable, match=r"only 1.2 s of picture between 0 s and 3 s"):
            frames(clip, 10)
        return
    shown = [min(int(k / 10 * 25 + 0.01), 59) for k in range(30)]
    np.testing.assert_allclose(
        [p[32, 32].mean() for p in frames(clip, 10)], [level(k) for k in shown], atol=10
    )
    viewer = Steady(10)
    Clip("u", media=film).look([viewer])
    assert viewer.span == (0, pytest.approx(seconds, abs=2e-3))


def test_a_variable_frame_rate_is_kept_by_time_stamp(tmp_path):
    film, stamps = tmp_path / "film.mp4", np.array([0, 1, 2, 10, 11, 25, 40, 41, 60])
    with av.open(str(film), "w") as container:
        video = container.add_stream("libx264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        video.options = {"crf": "1"}
        for k, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level(k), np.uint8), format="rgb24")
            frame.pts = int(stamp)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    shown = frames(Clip("u", media=film, start=0.0, end=2.4), 10)
    on_screen = [np.flatnonzero(stamps <= time * 25 + 0.01)[-1] for time in np.arange(24) / 10]
    np.testing.assert_allclose([p[32, 32].mean() for p in shown], [level(k) for k in on_screen], atol=10)


CORNER = np.zeros((64, 64, 3), np.uint8)
CORNER[:16, :32] = 255  # wider than high, at the left of the top: no turn or mirror leaves it as it is


@pytest.mark.parametrize(
    ("matrix", "displayed"),
    [
        ((1, 0, 0, 1), CORNER),
        ((0, 1, -1, 0), np.rot90(CORNER, -1)),
        ((-1, 0, 0, -1), np.rot90(CORNER, 2)),
        ((0, -1, 1, 0), np.rot90(CORNER)),
        ((1, 0, 0, -1), CORNER[::-1]),
        ((-1, 0, 0, 1), CORNER[:, ::-1]),
        ((0, 1, 1, 0), CORNER.swapaxes(0, 1)),
        ((0, -1, -1, 0), np.rot90(CORNER, 2).swapaxes(0, 1)),
    ],
)
def test_pictures_are_turned_and_mirrored_as_the_file_says(tmp_path, matrix, displayed):
    film = write(tmp_path / "film.mp4", pictures(3, matrix=matrix, picture=CORNER))
    shown = frames(Clip("u", media=film), 10)
    assert len(shown) == 2
    for picture in shown:
        assert picture.flags["C_CONTIGUOUS"]
        assert np.abs(picture.astype(int) - displayed).max() < 30


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_photograph_is_turned_as_its_camera_was(tmp_path, orientation):
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[0x0112] = orientation
    image.fromarray(CORNER).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    displayed = np.rot90(CORNER, {1: 0, 3: 2, 6: -1}[orientation])
    (picture,) = frames(Clip("u", media=tmp_path / "photo.jpg"), 10)
    assert np.abs(picture.astype(int) - displayed).max() < 60


@pytest.mark.parametrize("name", ["film.ts", "film.mp4", "film.mkv"])
@pytest.mark.parametrize("start", [2.2, 4.9, 6.3])
def test_a_cut_far_from_a_key_frame_has_its_own_pictures(tmp_path, name, start):
    film = write(tmp_path / name, pictures(200, b_frames=2), sound(rising_tone(8), "aac"))
    shown = frames(Clip("u", media=film, start=start, end=start + 0.5), 10)
    with av.open(str(film)) as container:  # in MPEG-TS the sound begins a little before the picture
        lead = float(container.streams.video[0].start_time * container.streams.video[0].time_base)
        lead -= container.start_time / 1e6
    expected = [level(int((start + k / 10 - lead) * 25 + 0.03)) for k in range(5)]
    np.testing.assert_allclose([p[32, 32].mean() for p in shown], expected, atol=10)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("cut", [(None, None), (2.2, 2.7), (4.9, 5.4)])
def test_pictures_of_avi_are_in_step_though_it_keeps_no_time_of_showing(tmp_path, codec, b_frames, cut):
    film = write(tmp_path / "film.avi", pictures(150, codec, gop=25, b_frames=b_frames))
    shown = frames(Clip("u", media=film, start=cut[0], end=cut[1]), 10)
    start, end = cut[0] or 0.0, cut[1] or 6.0
    expected = [level(int((start + k / 10) * 25 + 0.03)) for k in range(round(10 * (end - start)))]
    np.testing.assert_allclose([p[32, 32].mean() for p in shown], expected, atol=10)


def test_a_stream_that_begins_midway_is_no_fault(tmp_path):
    """Joined recordings of which only the second has sound; it is not found by looking at both ends of the file."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mute = write(tmp_path / "mute.ts", pictures(200, gop=1, picture=noise)).read_bytes()
    loud = write(tmp_path / "loud.ts", pictures(25), sound(rising_tone(1), "aac")).read_bytes()
    (tmp_path / "joined.ts").write_bytes(mute + loud + mute)
    shown = frames(Clip("u", media=tmp_path / "joined.ts"), 25)
    assert len(shown) == 200


def test_sound_stays_in_step_after_lost_packets(tmp_path):
    """Loudness tells the time: it rises evenly, and is that of its own time after the gap as before it."""
    tone = sound(rising_tone(8), keep=lambda seconds: not 3.0 <= seconds < 4.5)
    film = write(tmp_path / "film.mkv", pictures(200), tone)
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
        frames(Clip("u", media=film, start=2.5, end=9.0), 10)
    with pytest.raises(Unreadable, match="only 1 ms of sound"):
        Clip("u", media=film, start=1.0, end=1.001).waveform(RATE)


def test_what_is_not_there_is_absent_and_what_cannot_be_read_is_unreadable(tmp_path, film):
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "empty.flac").write_bytes(b"")
    (tmp_path / "header.avi").write_bytes(b"RIFF\x04\x00\x00\x00AVI ")
    (tmp_path / "cut.mov").write_bytes(film.read_bytes()[:200])
    faults = {
        **dict.fromkeys(("text.mp4", "header.avi", "cut.mov"), "not readable as media"),
        **dict.fromkeys(("empty.mp4", "empty.flac"), "the file is empty"),
        "none.mp4": "the file does not exist",
    }
    for name, fault in faults.items():
        clip = Clip("u", media=tmp_path / name)
        with pytest.raises(Unreadable, match=fault):
            clip.waveform(16_000)
        with pytest.raises(Unreadable, match=fault):
            clip.look([])
    for call in (lambda: Clip("u").waveform(16_000), lambda: Clip("u").look([])):
        with pytest.raises(Absent, match="no media"):
            call()
    with pytest.raises(Absent, match="no audio track"):
        Clip("u", media=write_film(tmp_path / "mute.mov", sound=False)).waveform(16_000)
    with pytest.raises(Absent, match="no video stream"):
        Clip("u", media=write_film(tmp_path / "dark.mov", picture=False)).look([])
    with pytest.raises(Absent, match="silent"):
        Clip("u", media=write_film(tmp_path / "silent.mov", loudness=0.0)).waveform(16_000)
    with pytest.raises(Unreadable, match="between 7 s and 8 s"):
        Clip("u", media=film, start=7, end=8).waveform(16_000)
    with pytest.raises(Unreadable, match="between 7 s and 8 s"):
        Clip("u", media=film, start=7, end=8).look([])


def test_a_file_of_two_bytes_is_unreadable(tmp_path):
    (tmp_path / "x.flac").write_bytes(b"xx")
    with pytest.raises(Unreadable, match="not readable as media"):
        Clip("u", media=tmp_path / "x.flac").waveform(16_000)


def test_only_files_that_hold_media_themselves_are_read(tmp_path):
    """A playlist names other files, and FFmpeg would draw a text and give its picture."""
    write(tmp_path / "film.ts", pictures(25), sound(rising_tone(1), "aac"))
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.ts\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile film.ts\n")
    (tmp_path / "words.txt").write_text("what was said\n" * 30)
    for name in ("list.m3u8", "list.mp4", "words.txt"):
        with pytest.raises(Unreadable, match="not readable as media"):
            Clip("u", media=tmp_path / name).waveform(16_000)
        with pytest.raises(Unreadable, match="not readable as media"):
            Clip("u", media=tmp_path / name).look([])


def test_a_name_is_a_file_s_name_and_tags_may_be_in_any_encoding(tmp_path, monkeypatch):
    """`a:b.wav` names no protocol; tags are not read, whatever their bytes."""
    monkeypatch.chdir(tmp_path)
    write("tagged.wav", lambda file: file.metadata.update(title="ABCDEF") or sound(rising_tone(1))(file))
    data = (tmp_path / "tagged.wav").read_bytes()
    assert b"ABCDEF" in data
    name = type(tmp_path)("a:b 100%.wav")
    name.write_bytes(data.replace(b"ABCDEF", "Müller".encode("latin-1")))
    assert len(Clip("u", media=name).waveform(16_000)) == 16_000


@pytest.mark.parametrize(
    ("name", "codec", "fault"),
    [
        ("s.m4a", "aac", "not readable as media"),
        ("s.mka", "pcm_s16le", "the file breaks off at 1.6 s of 4 s"),
        ("s.aiff", "pcm_s16be", "the file breaks off at 1.6 s of 4 s"),
    ],
)
def test_a_file_that_breaks_off_before_half_of_what_it_tells_is_unreadable(tmp_path, name, codec, fault):
    whole = write(tmp_path / name, sound(rising_tone(4), codec), options={"movflags": "faststart"})
    assert len(Clip("u", media=whole).waveform(16_000)) == pytest.approx(64_000, abs=1100)
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(whole.read_bytes()[: int(0.4 * whole.stat().st_size)])
    with pytest.raises(Unreadable, match=fault):
        Clip("u", media=cut).waveform(16_000)


def test_sound_that_ends_before_half_of_the_film_is_whole(tmp_path):
    film = write(tmp_path / "film.mkv", pictures(100), sound(rising_tone(1)))
    assert len(Clip("u", media=film).waveform(RATE)) == RATE


def patch(path, where, value, form="<I"):
    data = bytearray(path.read_bytes())
    data[where : where + struct.calcsize(form)] = struct.pack(form, value)
    path.write_bytes(data)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000, 0])
def test_a_wave_file_written_into_a_pipe_is_whole(tmp_path, length):
    """Its header tells no length, or an impossible one."""
    wave = write(tmp_path / "sound.wav", sound(rising_tone(3)))
    patch(wave, wave.read_bytes().index(b"data") + 4, length)
    assert len(Clip("u", media=wave).waveform(RATE)) == 3 * RATE


@pytest.mark.parametrize("rate", [1, 500, 2_000_000_000])
def test_a_sample_rate_that_is_none_of_sound_is_refused(tmp_path, rate):
    """At 1 Hz a second of sound at 16 kHz would become 16,000 s."""
    wave = write(tmp_path / "sound.wav", sound(rising_tone(1)))
    patch(wave, 24, rate)
    with pytest.raises(Unreadable, match=f"a sample rate of {rate} Hz is none of sound"):
        Clip("u", media=wave).waveform(16_000)


def test_numbers_that_are_no_sound_are_refused(tmp_path):
    for value in (np.nan, np.inf, 1e30):
        wave = write(tmp_path / "sound.wav", sound(rising_tone(1), "pcm_f32le"))
        patch(wave, wave.read_bytes().index(b"data") + 8, value, "<f")
        with pytest.raises(Unreadable, match="no sound"):
            Clip("u", media=wave).waveform(16_000)


def test_a_jump_of_time_stamps_costs_a_row_and_no_memory(tmp_path):
    """Two pieces of half a second, the second of which is stamped as some hours later."""
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as container:
        video = container.add_stream("libx264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        tone = rising_tone(0.5)
        for later in (0, 3 * 3600):
            for k in range(12):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level(k), np.uint8), format="rgb24")
                frame.pts = 25 * later + k
                container.mux(video.encode(frame))
            piece = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            piece.sample_rate, piece.pts = RATE, RATE * later
            container.mux(audio.encode(piece))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    with pytest.raises(Unreadable, match=r"time stamps leave .* of sound out"):
        Clip("u", media=film).waveform(16_000)
    with pytest.raises(Unreadable, match=r"time stamps leave .* of picture out"):
        frames(Clip("u", media=film), 10)
    assert len(Clip("u", media=film, start=0.0, end=0.4).waveform(16_000)) == 6400
    assert len(frames(Clip("u", media=film, start=0.0, end=0.4), 10)) == 4


def test_more_sound_or_picture_than_an_utterance_has_is_refused(tmp_path, film, monkeypatch):
    monkeypatch.setattr("mixed_signals.extract.sound.MOST_SAMPLES", RATE)
    with pytest.raises(Unreadable, match="minutes of sound in one utterance"):
        Clip("u", media=film).waveform(RATE)
    assert len(Clip("u", media=film, start=1.0, end=1.9).waveform(RATE)) == round(0.9 * RATE)
    monkeypatch.setattr("mixed_signals.extract.film.LONGEST_FILM", 1.0)
    with pytest.raises(Unreadable, match="hours of picture in one utterance"):
        Clip("u", media=film).look([])
    monkeypatch.setattr("mixed_signals.extract.decoding.MOST_PIXELS", 50 * 66 // 2)
    with pytest.raises(Unreadable, match="not readable as media"):
        frames(Clip("u", media=film, start=1.0, end=1.9), 10)


def test_a_late_segment_equals_the_same_part_of_the_whole():
    """Real MPEG-1, H.264 and AAC: a cut does not depend on where decoding began."""
    for media in (outside_data("grid") / "bbaf2n.mpg", outside_data("clips") / "no_face.mp4"):
        whole = Clip("u", media=media).waveform(16_000)
        part = Clip("u", media=media, start=1.5, end=2.25).waveform(16_000)
        assert len(part) == 12_000
        np.testing.assert_allclose(part[200:-200], whole[24_000:36_000][200:-200], atol=1e-3)
        shown = frames(Clip("u", media=media), 10)
        later = frames(Clip("u", media=media, start=1.5, end=2.0), 10)
        assert len(later) == 5
        for one, other in zip(later, shown[15:20], strict=True):
            np.testing.assert_array_equal(one, other)


def test_real_recordings_are_read_from_end_to_end():
    """GRID's clips are 3 s of 25 frames a second; RAVDESS is 16 kHz already, and nothing of it is changed."""
    films = sorted(outside_data("grid").glob("*.mpg"))
    assert films
    for media in films:
        clip, viewer = Clip("u", media=media), Steady(25, lambda picture: picture.shape)
        assert clip.look([viewer]) == [[(288, 360, 3)] * 75]
        assert viewer.span == (0, pytest.approx(3.0))
        assert len(clip.waveform(16_000)) == pytest.approx(16_000 * 2.97, abs=400)
    sounds = sorted((outside_data("ravdess") / "audio").glob("*.flac"))[:3]
    assert sounds
    for media in sounds:
        samples = Clip("u", media=media).waveform(16_000)
        with av.open(str(media)) as container:
            read = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        np.testing.assert_array_equal(samples, np.concatenate(read) / np.float32(32_768))


def test_the_silent_clips_are_absent_and_their_pictures_are_there():
    clips = outside_data("clips")
    with pytest.raises(Absent, match="silent"):
        Clip("u", media=clips / "WolfgangLanger_Pexels.mp4").waveform(16_000)
    for name in ("single_face.mp4", "no_face.mp4", "WolfgangLanger_Pexels.mp4"):
        shapes = frames(Clip("u", media=clips / name), 5, lambda picture: picture.shape)
        assert len(set(shapes)) == 1
        assert len(shapes) >= 12
