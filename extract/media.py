"""Decoding with PyAV: an utterance's sound as mono samples, its picture as frames at a steady rate.

Times are seconds from the start of the file (the earliest of its streams). Start and end are honoured to the
sample before resampling, and to the frame by time stamp, so a variable frame rate does not shift anything. A late
cut is as exact as the container's time stamps: to the sample in mp4, mov, wav and flac, to less than a millisecond
in Matroska, whose stamps are whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SILENCE_DBFS = -80.0
"""Sound whose root mean square is below this level (relative to full scale) counts as silent."""

SHORTEST_SOUND = 0.02
"""Seconds of sound below which no encoder gets a frame."""

_SEEK_MARGIN = 1.0  # seconds before the start at which decoding begins, so that decoders have settled
_GAP = 0.01  # seconds between time stamps and samples from which on something is missing
_TICK = 1e-3  # seconds by which time stamps may be rounded


class Absent(Exception):  # noqa: N818 - a state of an utterance rather than a fault
    """The utterance has no such modality (no media, no audio track, silence, no face, no words)."""


class Unreadable(Exception):  # noqa: N818
    """The utterance's media is there but cannot be decoded."""


@dataclass(frozen=True)
class Clip:
    """One utterance as an encoder sees it.

    Attributes
    ----------
    utterance_id, text : str
    media : Path or None
    start, end : float or None
        Seconds into the media; None means from its beginning, to its end.
    """

    utterance_id: str
    text: str = ""
    media: Path | None = None
    start: float | None = None
    end: float | None = None

    def waveform(self, rate: int) -> np.ndarray:
        """Return the sound between start and end as mono float32 samples at `rate` Hz, shape (n,).

        Raises
        ------
        Absent
            If there is no media, no audio track, or nothing but silence.
        Unreadable
            If the file is not there or cannot be decoded, has less than half of what lies between start and end, or
            holds less than `SHORTEST_SOUND` of it.
        """
        with _opened(self.media) as container:
            if not container.streams.audio:
                raise Absent("no audio track")
            native, samples = _mono(container, self.start or 0.0, self.end)
        self._check_length(len(samples) / native, "sound")
        level = 10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-20)
        if level < SILENCE_DBFS:
            raise Absent(f"silent (below {SILENCE_DBFS:g} dBFS)")
        return samples if native == rate else _resampled(samples, native, rate)

    def frames(self, rate: float) -> Iterator[np.ndarray]:
        """Yield the pictures between start and end at `rate` frames per second, RGB uint8 (height, width, 3).

        At each step the picture on screen at that time is given; display rotation is applied.

        Raises
        ------
        Absent
            If there is no media or no video stream.
        Unreadable
            If the file is not there or cannot be decoded, or (after its last picture) if it has less than half of
            what lies between start and end.
        """
        with _opened(self.media) as container:
            stream = _film(container)
            if stream is None:
                raise Absent("no video stream")
            count = 0
            for frame in _steady(container, stream, self.start or 0.0, self.end, rate):
                count += 1
                yield _upright(frame)
        self._check_length(count / rate, "picture")

    def _check_length(self, seconds: float, what: str) -> None:
        """Refuse a cut of which less than half is in the file, and one too short to hear anything in."""
        start = self.start or 0.0
        if not seconds:
            raise Unreadable(f"no {what} between {start:g} s and {_end(self.end)}")
        if self.end is not None and seconds < 0.5 * (self.end - start):
            raise Unreadable(f"only {seconds:.2g} s of {what} between {start:g} s and {_end(self.end)}")
        if what == "sound" and seconds < SHORTEST_SOUND:
            raise Unreadable(f"only {1000 * seconds:.0f} ms of sound")


def _film(container: Any) -> Any:
    """Return the first video stream that is not a cover picture, or None."""
    from av.stream import Disposition

    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return films[0] if films else None


def _end(end: float | None) -> str:
    return "the end" if end is None else f"{end:g} s"


@contextmanager
def _opened(media: Path | None) -> Iterator[Any]:
    """Open a file and turn every decoding error inside the block into `Unreadable`."""
    import av

    if media is None:
        raise Absent("no media")
    if not media.is_file():
        raise Unreadable("is not a file" if media.exists() else "the file does not exist")
    try:
        with av.open(str(media)) as container:
            yield container
    except av.FFmpegError as error:
        raise Unreadable(f"not readable as media ({error.strerror or error})") from error


def _origin(container: Any) -> float:
    """Return the time stamp, in seconds, that counts as the file's beginning."""
    return float(container.start_time or 0) / 1_000_000


def _decoded(container: Any, stream: Any, start: float) -> Iterator[tuple[float, Any]]:
    """Yield (time, frame) from some frame at or before `start` on; frames without a time stamp are left out."""
    origin = _origin(container)

    def frames() -> Iterator[tuple[float, Any]]:
        for frame in container.decode(stream):
            if frame.time is not None:
                yield frame.time - origin, frame

    if start <= _SEEK_MARGIN or container.format.name == "mpeg":  # MPEG program streams break when sought in
        yield from frames()
        return
    container.seek(int((start - _SEEK_MARGIN + origin) / stream.time_base), stream=stream, backward=True)
    first = next(frames(), None)
    if first is None or first[0] > start:  # some containers (MPEG-TS) seek past what was asked for
        container.seek(0)
        yield from frames()
        return
    yield first
    yield from frames()


def _mono(container: Any, start: float, end: float | None) -> tuple[int, np.ndarray]:
    """Return the native sample rate and the samples between start and end, channels averaged.

    Gaps between time stamps (lost packets) are silence, so that sound stays in step with the picture.
    """
    import av

    stream = container.streams.audio[0]
    native = int(stream.rate)
    if not native:
        raise Unreadable("no sound can be read from it")
    planar = av.AudioResampler(format="fltp", layout=stream.layout, rate=native)
    first, last = round(start * native), None if end is None else round(end * native)
    position: int | None = None  # of the next sample, counted from the file's beginning
    pieces = []

    def keep(samples: np.ndarray, position: int) -> None:
        low, high = max(first - position, 0), len(samples)
        if last is not None:
            high = min(last - position, high)
        if low < high:
            pieces.append(samples[low:high])

    for time, frame in _decoded(container, stream, start):
        stamped = round(time * native)
        if position is None:
            position = stamped
        elif stamped - position > _GAP * native:
            keep(np.zeros(stamped - position, np.float32), position)
            position = stamped
        for converted in planar.resample(frame):
            samples = converted.to_ndarray().mean(axis=0)
            keep(samples, position)
            position += len(samples)
        if last is not None and position >= last:
            break
    return native, np.concatenate(pieces).astype(np.float32) if pieces else np.zeros(0, np.float32)


def _resampled(samples: np.ndarray, native: int, rate: int) -> np.ndarray:
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
    frame.sample_rate = native
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    pieces = [piece.to_ndarray()[0] for given in (frame, None) for piece in resampler.resample(given)]
    return np.concatenate(pieces)


def _steady(container: Any, stream: Any, start: float, end: float | None, rate: float) -> Iterator[Any]:
    """Yield the frame on screen at start, start + 1/rate, ... before the end (or the last frame's end)."""
    length = 1 / float(stream.average_rate or rate)
    shown = None
    step = 0

    def due_before(time: float) -> Iterator[None]:
        """Step through the times that are due before a time, or before the end."""
        nonlocal step
        while start + step / rate < (time if end is None else min(time, end)) - _TICK:
            yield
            step += 1

    last = start
    for time, frame in _decoded(container, stream, start):
        for _ in due_before(time):
            # Nothing is on screen before the first frame, unless it is that frame's time stamp that is rounded.
            if shown is not None or time - (start + step / rate) < length:
                yield frame if shown is None else shown
        if end is not None and time >= end:
            return
        shown, last = frame, time
    for _ in due_before(last + length):
        if shown is not None:
            yield shown


def _upright(frame: Any) -> np.ndarray:
    """Return the picture as displayed, in one block of memory (decoders pad their rows; native code may not)."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4))
