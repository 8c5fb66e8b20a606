"""What readers make of one utterance, in whatever process: a value, or the reason why there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np

from mixed_signals.extract.encoders.base import PictureReader, Reader, SoundReader, TextReader
from mixed_signals.extract.media import Absent, Clip, Unreadable
from mixed_signals.store import Status
from mixed_signals.store.urls import redacted

_TEXTS = 256  # transcripts that are read at once


class Read(NamedTuple):
    """What a reader made of one utterance: a value where the status is `ok`, else a reason."""

    status: Status
    value: Any = None
    reason: str = ""


class Decoded(NamedTuple):
    """One utterance, read: by number of the reader what it made of it, seconds of media, seconds of work."""

    row: int
    reads: Mapping[int, Read]
    media_seconds: float = 0.0
    work_seconds: float = 0.0


def fault(error: Exception) -> Read:
    """Return what became of an utterance whose reading raised this."""
    if isinstance(error, Absent):
        return Read(Status.MISSING, reason=str(error))
    if isinstance(error, Unreadable):
        return Read(Status.FAILED, reason=str(error))
    return Read(Status.FAILED, reason=redacted(f"{type(error).__name__}: {error}"))


def read_texts(
    readers: Sequence[TextReader], clips: Sequence[Clip], wanted: Mapping[int, Sequence[int]]
) -> Iterator[Decoded]:
    """Read transcripts, some at a time, each by the readers that want it (their numbers, by row)."""
    for reader in readers:
        reader.load()
    todo = iter(list(wanted.items()))
    while some := list(islice(todo, _TEXTS)):
        began = time.perf_counter()
        reads: dict[int, dict[int, Read]] = {row: {} for row, _ in some}
        for number, reader in enumerate(readers):
            mine = [row for row, of in some if number in of]
            read = _texts_or_faults(reader, [clips[row].text.strip() for row in mine])
            for row, one in zip(mine, read, strict=True):
                reads[row][number] = one
        share = (time.perf_counter() - began) / len(some)
        for row, _ in some:
            yield Decoded(row, reads[row], 0.0, share)


def _texts_or_faults(reader: TextReader, said: list[str]) -> list[Read]:
    spoken = [text for text in said if text]
    try:
        values = iter([Read(Status.OK, value) for value in reader.read(spoken)] if spoken else [])
    except Exception as error:  # one text's fault is its own
        if len(said) == 1:
            return [fault(error)]
        return [read for text in said for read in _texts_or_faults(reader, [text])]
    silent = Read(Status.MISSING, reason="empty transcript")
    return [next(values) if text else silent for text in said]


def read_media(readers: Sequence[Reader], clip: Clip) -> tuple[list[Read], float]:
    """Decode one utterance's media once, for all of these readers; return what they made of it, and its seconds."""
    if isinstance(readers[0], SoundReader):
        return _read_sound(cast(Sequence[SoundReader], readers), clip)
    return _read_pictures(cast(Sequence[PictureReader], readers), clip)


def _read_sound(readers: Sequence[SoundReader], clip: Clip) -> tuple[list[Read], float]:
    try:
        waveforms = clip.waveforms({reader.rate for reader in readers})
    except Exception as error:  # whatever a codec throws is this row's reason
        return [fault(error)] * len(readers), 0.0
    first = readers[0].rate
    reads = [_value_or_fault(reader.read, waveforms[reader.rate]) for reader in readers]
    return reads, len(waveforms[first]) / first


def _read_pictures(readers: Sequence[PictureReader], clip: Clip) -> tuple[list[Read], float]:
    span = _Span()
    try:
        *looks, _ = clip.look([*readers, span])
    except Exception as error:
        return [fault(error)] * len(readers), 0.0
    reads = [
        fault(seen) if isinstance(seen, Exception) else _value_or_fault(reader.read, seen)
        for reader, seen in zip(readers, looks, strict=True)
    ]
    return reads, span.seconds


def _value_or_fault(read: Callable[[Any], Any], content: Any) -> Read:
    try:
        return Read(Status.OK, read(content))
    except Exception as error:
        return fault(error)


class _Span:
    """Looks at no picture; notes how long there are any."""

    seconds = 0.0

    def times(self, start: float, stop: float) -> np.ndarray:
        self.seconds = stop - start
        return np.empty(0)

    def look(self, picture: np.ndarray) -> None:
        raise NotImplementedError("there is no time to look at")
