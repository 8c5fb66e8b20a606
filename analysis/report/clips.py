"""Cutting one utterance out of a recording, exact at both ends, as what every browser plays.

Films become H.264 and AAC in MP4, sound AAC in M4A (VP8 and Opus in WebM where the build of FFmpeg has no H.264
encoder). Pictures are turned upright, at most `TALLEST` pixels high and `FASTEST` a second; those between are left
out, and the time stamps of the others stay, so a variable frame rate stays one.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.codec.context import Flags
from av.sidedata.sidedata import Type as SideData

from mixed_signals.analysis.report.recordings import Unreadable, decoded, film_of, opened, sound_of
from mixed_signals.store.files import replacing

TALLEST = 640
"""Pixels from top to bottom of a clip's pictures, at most."""

FASTEST = 30
"""Pictures a second, at most."""

LONGEST_GAP = 300.0
"""Seconds between two time stamps from which on they are held to be wrong."""

_CLOCK = Fraction(1, 90_000)
_TICK = 1e-3  # seconds by which time stamps may be rounded
_GAP = 0.01  # seconds between time stamps and samples from which on something is missing
_AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


class Recipe(NamedTuple):
    """How clips are encoded: encoders with their options, containers, and what the files end in."""

    film: str
    film_options: dict[str, str]
    sound: str
    container: str
    container_options: dict[str, str]
    film_suffix: str
    sound_suffix: str


MP4 = Recipe(
    "libx264",
    {"preset": "veryfast", "crf": "23", "bf": "0"},
    "aac",
    "mp4",
    {"movflags": "faststart"},
    ".mp4",
    ".m4a",
)
WEBM = Recipe(
    "libvpx", {"deadline": "realtime", "cpu-used": "4", "crf": "12"}, "libopus", "webm", {}, ".webm", ".weba"
)


class _Piece(NamedTuple):
    """A frame and when it is due, in seconds from the start of the clip."""

    time: float
    frame: Any


def default_recipe() -> Recipe:
    """Return MP4 where this build of FFmpeg encodes H.264, and else WebM."""
    try:
        av.codec.Codec(MP4.film, "w")
    except av.codec.codec.UnknownCodecError:
        return WEBM
    return MP4


def cut(source: Path, start: float, end: float | None, stem: Path, recipe: Recipe | None = None) -> Path:
    """Cut a clip out of a recording.

    Parameters
    ----------
    source : Path
    start : float
        Seconds from the start of the recording (the earliest of its streams).
    end : float or None
        None: to its end.
    stem : Path
        The clip's file without suffix.
    recipe : Recipe, optional

    Returns
    -------
    Path
        The file: `stem` and the recipe's suffix for films or for sound.

    Raises
    ------
    Unreadable
        If the recording cannot be read, or holds nothing between start and end.
    """
    recipe = recipe or default_recipe()
    with opened(source) as seen, opened(source) as heard:
        film, sound = film_of(seen), sound_of(heard)
        pictures = _begun(_pictures(seen, film, start, end) if film else iter(()))
        samples = _begun(_samples(heard, sound, start, end) if sound else iter(()))
        if pictures is None and samples is None:
            if film is None and sound is None:
                raise Unreadable("it holds neither sound nor pictures")
            until = "the end" if end is None else f"{end:g} s"
            raise Unreadable(f"it holds nothing between {start:g} s and {until}")
        target = stem.with_name(stem.name + (recipe.sound_suffix if pictures is None else recipe.film_suffix))
        with (
            replacing(target) as temporary,
            av.open(
                str(temporary), "w", format=recipe.container, options=recipe.container_options
            ) as container,
        ):
            _encode(container, recipe, pictures, samples)
    return target


def _begun(pieces: Iterator[_Piece]) -> Iterator[_Piece] | None:
    """Return an iterator that gives something, or None for one that does not."""
    first = next(pieces, None)
    return None if first is None else itertools.chain([first], pieces)


def _encode(
    container: Any, recipe: Recipe, pictures: Iterator[_Piece] | None, samples: Iterator[_Piece] | None
) -> None:
    """Encode pictures and samples into a container, in step with each other."""
    tracks = []
    if pictures is not None:
        first = next(pictures)
        video = container.add_stream(recipe.film, rate=FASTEST, options=recipe.film_options)
        video.width, video.height, video.pix_fmt = first.frame.width, first.frame.height, "yuv420p"
        video.codec_context.time_base, video.codec_context.thread_count = _CLOCK, 1
        video.codec_context.flags |= Flags.frame_duration
        for what in ("colorspace", "color_primaries", "color_trc"):
            setattr(video.codec_context, what, getattr(first.frame, what))
        tracks.append((video, itertools.chain([first], pictures)))
    if samples is not None:
        first = next(samples)
        rate = first.frame.sample_rate if first.frame.sample_rate in _AAC_RATES else 48_000
        audio = container.add_stream(
            recipe.sound, rate=48_000 if recipe is WEBM else rate, layout=first.frame.layout.name
        )
        audio.bit_rate = 64_000 * first.frame.layout.nb_channels
        tracks.append((audio, itertools.chain([first], samples)))
    container.start_encoding()
    due = [zip(itertools.repeat(stream), pieces, strict=False) for stream, pieces in tracks]
    for stream, piece in heapq.merge(*due, key=lambda entry: entry[1].time):
        container.mux(stream.encode(piece.frame))
    for stream, _ in tracks:
        container.mux(stream.encode(None))


def _pictures(container: Any, stream: Any, start: float, end: float | None) -> Iterator[_Piece]:
    """Yield the pictures between start and end: first the one on screen at the start, upright, without crowding."""
    rate = float(stream.average_rate or 25)
    step = 0.75 * (math.ceil(rate / FASTEST - 0.01) / rate if rate > FASTEST else 1 / FASTEST)
    turned = None
    shown: tuple[float, Any] | None = None  # the picture whose turn is over when the next one comes
    last = start
    for time, frame in decoded(container, stream, start):
        if end is not None and time >= end - _TICK:
            last = end
            break
        last = time + max(float((frame.duration or 0) * stream.time_base), 1 / rate)
        if shown is not None and time > start + _TICK:
            if time - shown[0] < step:
                continue
            turned = turned or _Turned(stream, shown[1])
            yield turned.piece(max(shown[0] - start, 0.0), time - start, shown[1])
        shown = time, frame
    if shown is None or last <= start + _TICK:
        return
    last = last if end is None else min(last, end)
    turned = turned or _Turned(stream, shown[1])
    yield turned.piece(max(shown[0] - start, 0.0), last - start, shown[1])


class _Turned:
    """Turns pictures as the recording says, with square pixels, and makes large ones smaller."""

    def __init__(self, stream: Any, frame: Any) -> None:
        a, b, c, d = _display_matrix(frame)
        swapped = abs(b) > abs(a)
        width = frame.width * float(stream.sample_aspect_ratio or 1)
        height = float(frame.height)
        factor = min(1.0, TALLEST / (width if swapped else height))
        filters = [
            ("scale", f"{_even(width * factor)}:{_even(height * factor)}:out_range=tv"),
            ("setsar", "1"),
        ]
        if swapped:
            filters.append(("transpose", "cclock_flip"))  # rows become columns
            a, d = c, b
        filters += [("hflip", "")] * (a < 0) + [("vflip", "")] * (d < 0)
        graph = av.filter.Graph()
        graph.threads = 1
        nodes = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_CLOCK)
        ]
        nodes += [graph.add(name, arguments) for name, arguments in filters]
        nodes += [graph.add("format", "yuv420p"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        self._graph, self._size = graph, (frame.width, frame.height, frame.format.name)

    def piece(self, time: float, until: float, frame: Any) -> _Piece:
        if (frame.width, frame.height, frame.format.name) != self._size:
            raise Unreadable("the size of its pictures changes midway")
        frame.time_base, frame.pts = _CLOCK, round(time / _CLOCK)
        self._graph.vpush(frame)
        turned = self._graph.vpull()
        turned.pts, turned.duration = round(time / _CLOCK), round((until - time) / _CLOCK)
        turned.time_base, turned.pict_type = _CLOCK, 0
        return _Piece(time, turned)


def _even(pixels: float) -> int:
    return max(2, 2 * round(pixels / 2))


def _display_matrix(frame: Any) -> tuple[float, float, float, float]:
    """Return a, b, c, d, which display pixel (x, y) at (a x + c y, b x + d y)."""
    try:
        data = frame.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # PyAV cannot list side data of which it does not know one kind
        turn = np.exp(-1j * np.radians(frame.rotation))
        return turn.real, turn.imag, -turn.imag, turn.real
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return a, b, c, d


def _samples(container: Any, stream: Any, start: float, end: float | None) -> Iterator[_Piece]:
    """Yield the sound between start and end, cut to the sample; what is missing from the recording is silence."""
    rate = position = written = first = 0
    stop: int | None = None
    layout, resampler = "stereo", None
    for time, frame in decoded(container, stream, start):
        if resampler is None:
            rate = frame.sample_rate
            layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
            first = written = round(start * rate)
            stop = None if end is None else round(end * rate)
            position = round(time * rate)
        elif frame.sample_rate != rate:
            raise Unreadable(f"its sample rate changes from {rate} to {frame.sample_rate} Hz")
        stamped = round(time * rate)
        if abs(stamped - position) > _GAP * rate:
            position = stamped
        if stop is not None and position >= stop:
            break
        frame.pts = None
        samples = np.concatenate([part.to_ndarray() for part in resampler.resample(frame)], axis=1)
        begins, position = position, position + samples.shape[1]
        if begins - written > LONGEST_GAP * rate:
            raise Unreadable(f"its time stamps leave {(begins - written) / rate:.0f} s of sound out")
        if begins > written:
            samples = np.pad(samples, ((0, 0), (begins - written, 0)))
            begins = written
        samples = samples[:, written - begins : None if stop is None else max(stop - begins, 0)]
        if samples.shape[1]:
            piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
            piece.sample_rate, piece.time_base, piece.pts = rate, Fraction(1, rate), written - first
            yield _Piece((written - first) / rate, piece)
            written += samples.shape[1]
