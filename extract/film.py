"""The pictures of a media file at wanted times: one pass serves many viewers, and each picture is converted once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mixed_signals.extract.decoding import (
    LONGEST_GAP,
    Absent,
    Unreadable,
    decoded,
    first_stamp,
    opened,
    packet_ends,
    require_half,
    told_end,
)

LONGEST_FILM = 4 * 3600.0
"""Seconds of picture that an utterance may have."""

_TICK = 1e-3  # seconds by which time stamps may be rounded


class Viewer(Protocol):
    """What looks at pictures at times of its own, as a `PictureReader` does."""

    def times(self, start: float, stop: float) -> np.ndarray:
        """Return the times to look at, in seconds, ascending, from `start` to before `stop`."""

    def look(self, picture: np.ndarray) -> Any:
        """Return what is kept of the picture on screen at one of these times, RGB uint8 (height, width, 3)."""


def look(
    media: Path | str | None, start: float, end: float | None, viewers: Sequence[Viewer]
) -> list[list[Any] | Exception]:
    """Show the pictures between start and end to all viewers, each at its own times.

    The picture on screen at a time is the last whose time stamp is not after it, and the first one before any; it
    is shown as displayed, turned and mirrored as the file says, and all viewers are given the same array.

    Returns
    -------
    list
        For each viewer what it kept, one entry per time, or the exception that it raised.

    Raises
    ------
    Absent
        If there is no media or no video stream.
    Unreadable
        If the file is not there or cannot be decoded, or has less than half of what lies between start and end.
    """
    begin, stop = _span(media, start, end)
    wanted = (stop if end is None else end) - start
    watching = [_Watching(viewer, begin, stop) for viewer in viewers]
    with opened(media) as container:
        stream = _film(container)
        shown, first, since, until = None, begin, begin, begin
        for time, frame in decoded(container, stream, begin):
            if shown is None:
                first, shown = max(time, begin), frame
            _require_no_gap(since, min(time, stop))
            _show(watching, shown, time - _TICK)
            if time >= stop or (time - begin >= 0.5 * wanted and all(one.done for one in watching)):
                until = stop
                break
            shown, since = frame, max(time, begin)
            until = time + max(float((frame.duration or 0) * stream.time_base), _frame_length(stream))
        require_half(min(until, stop) - first, wanted, "picture", start, end)
        _require_no_gap(since, stop)
        _show(watching, shown, float("inf"))
    return [one.looks if one.fault is None else one.fault for one in watching]


class _Watching:
    """What one viewer has seen so far, and what it waits for."""

    def __init__(self, viewer: Viewer, begin: float, stop: float) -> None:
        self._viewer = viewer
        self.looks: list[Any] = []
        self.fault: Exception | None = None
        try:
            self._times = list(viewer.times(begin, stop))
        except Exception as fault:
            self.fault = fault

    @property
    def done(self) -> bool:
        return self.fault is not None or len(self.looks) == len(self._times)

    def waits(self, before: float) -> bool:
        """Return whether there is a time before this one that it has not seen."""
        return not self.done and self._times[len(self.looks)] < before

    def see(self, picture: np.ndarray, before: float) -> None:
        try:
            while self.waits(before):
                self.looks.append(self._viewer.look(picture))
        except Exception as fault:
            self.fault = fault


def _show(watching: Sequence[_Watching], frame: Any, before: float) -> None:
    """Show a frame to all who wait for a picture before a time."""
    waiting = [one for one in watching if one.waits(before)]
    if waiting:
        picture = _upright(frame)
        for one in waiting:
            one.see(picture, before)


def _span(media: Path | str | None, start: float, end: float | None) -> tuple[float, float]:
    """Return from when to when there are pictures between start and end, in seconds; nothing is decoded."""
    with opened(media) as container:
        stream = _film(container)
        if stream is None:
            raise Absent("no video stream")
        begin = first_stamp(container, stream)
        if begin < start + _frame_length(
            stream
        ):  # its stamp may be rounded, or a little later than the sound's
            begin = start
        told = told_end(container, stream)
        if end is None or told is None or told < end:
            stop = packet_ends(container).get(stream.index, 0.0)
            stop = stop if end is None else min(stop, end)
        else:
            stop = end
    require_half(stop - begin, (stop if end is None else end) - start, "picture", start, end)
    if stop - begin > LONGEST_FILM:
        raise Unreadable(f"{(stop - begin) / 3600:.0f} hours of picture in one utterance")
    return begin, stop


def _film(container: Any) -> Any:
    """Return the first video stream that is not a cover picture, or None."""
    from av.stream import Disposition

    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return films[0] if films else None


def _frame_length(stream: Any) -> float:
    return 1 / float(stream.average_rate) if stream.average_rate else 0.04


def _require_no_gap(since: float, until: float) -> None:
    if until - since > LONGEST_GAP:
        raise Unreadable(f"its time stamps leave {until - since:.0f} s of picture out")


def _upright(frame: Any) -> np.ndarray:
    """Return the picture as displayed, in one block of memory (decoders pad their rows; native code may not)."""
    picture = frame.to_ndarray(format="rgb24", threads=1)  # threads of its own cost more than they do
    a, b, c, d = _display_matrix(frame)
    if abs(b) > abs(a):  # x and y change places
        picture, a, d = picture.swapaxes(0, 1), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _display_matrix(frame: Any) -> tuple[float, float, float, float]:
    """Return a, b, c, d, which display pixel (x, y) at (a x + c y, b x + d y)."""
    from av.sidedata.sidedata import Type

    try:
        data = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV cannot list side data of which it does not know one kind (EXIF)
        turn = np.exp(-1j * np.radians(frame.rotation))
        return turn.real, turn.imag, -turn.imag, turn.real
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return a, b, c, d
