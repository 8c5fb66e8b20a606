"""The first stage of the job: each utterance decoded once, in a worker process, for all the encoders of its modality.

A file that crashes its decoder, or holds it up past a time-out, costs its own row: the worker is replaced, and what the
others do goes on. A row whose worker died is tried once more, since the system may have ended it for want of memory.
"""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np

from mixed_signals.extract.encoders.base import PictureReader, Reader, SoundReader, TextReader
from mixed_signals.extract.media import Absent, Clip, Unreadable
from mixed_signals.extract.parcels import Parcel, receive, send, spool_folder
from mixed_signals.store import MixedSignalsError, Status

_TEXTS = 256  # transcripts that are read at once
_TRIES = 2


class Read(NamedTuple):
    """What a reader made of one utterance: a value where the status is `ok`, else a reason."""

    status: Status
    value: Any = None
    reason: str = ""


class Decoded(NamedTuple):
    """One utterance, read: for each reader what it made of it, seconds of media, seconds of work."""

    row: int
    reads: Sequence[Read]
    media_seconds: float = 0.0
    work_seconds: float = 0.0


def fault(error: Exception) -> Read:
    """Return what became of an utterance whose reading raised this."""
    if isinstance(error, Absent):
        return Read(Status.MISSING, reason=str(error))
    if isinstance(error, Unreadable):
        return Read(Status.FAILED, reason=str(error))
    return Read(Status.FAILED, reason=f"{type(error).__name__}: {error}")


@contextmanager
def reading(
    readers: Sequence[Reader],
    clips: Sequence[Clip],
    rows: Iterable[int],
    *,
    workers: int = 1,
    timeout: float | None = None,
) -> Iterator[Iterator[Decoded]]:
    """Read utterances with every reader; worker processes begin at once, and end with the block.

    Parameters
    ----------
    readers : sequence of Reader
        All of one modality.
    clips : sequence of Clip
    rows : iterable of int
        Which of the clips, in the order in which they are begun.
    workers : int
        Processes that decode media; text is read in this one.
    timeout : float, optional
        Seconds after which an utterance is given up.

    Yields
    ------
    iterator of Decoded
        As they come; those of media not quite in the order of `rows`.

    Raises
    ------
    MixedSignalsError
        If a reader cannot be loaded.
    """
    if isinstance(readers[0], TextReader):
        yield _read_texts(cast(Sequence[TextReader], readers), clips, list(rows))
        return
    with spool_folder() as spool, _Pool(readers, spool, workers) as pool:
        yield pool.read(clips, iter(rows), timeout)


def _read_texts(readers: Sequence[TextReader], clips: Sequence[Clip], rows: list[int]) -> Iterator[Decoded]:
    for reader in readers:
        reader.load()
    for begin in range(0, len(rows), _TEXTS):
        some = rows[begin : begin + _TEXTS]
        said = [clips[row].text.strip() for row in some]
        began = time.perf_counter()
        columns = [_texts_or_faults(reader, said) for reader in readers]
        share = (time.perf_counter() - began) / len(some)
        for row, *reads in zip(some, *columns, strict=True):
            yield Decoded(row, reads, 0.0, share)


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


class _Pool:
    """Worker processes, each with all the readers."""

    def __init__(self, readers: Sequence[Reader], spool: Path, workers: int) -> None:
        from pebble import ProcessPool

        self._readers, self._ahead = readers, 4 * workers
        self._pool = ProcessPool(
            workers,
            initializer=_begin_worker,
            initargs=[tuple(readers), spool],
            context=multiprocessing.get_context("spawn"),
        )
        self._ended: queue.SimpleQueue[tuple[int, int, Any]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._pool.active  # noqa: B018 (looking at it starts the processes)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def read(self, clips: Sequence[Clip], rows: Iterator[int], timeout: float | None) -> Iterator[Decoded]:
        from pebble import ProcessExpired

        def begin(row: int, tried: int = 1) -> None:
            future = self._pool.schedule(_read_here, args=[clips[row]], timeout=timeout)
            future.add_done_callback(lambda done: self._ended.put((row, tried, done)))

        under_way = 0
        for row in islice(rows, self._ahead):
            begin(row)
            under_way += 1
        while under_way:
            row, tried, done = self._ended.get()
            error = done.exception()
            if isinstance(error, ProcessExpired) and tried < _TRIES:
                begin(row, tried + 1)
                continue
            under_way -= 1
            for following in islice(rows, 1):
                begin(following)
                under_way += 1
            if error is not None:
                yield Decoded(row, [_lost(error, timeout)] * len(self._readers))
                continue
            parcel, media_seconds, work_seconds = done.result()
            yield Decoded(row, receive(parcel), media_seconds, work_seconds)


def _lost(error: BaseException, timeout: float | None) -> Read:
    """Return what became of an utterance whose worker did not come back."""
    from pebble import ProcessExpired

    if isinstance(error, TookTooLong):
        return Read(Status.FAILED, reason=f"not read within {timeout:g} s")
    if isinstance(error, ProcessExpired):
        return Read(Status.FAILED, reason=f"crashed its decoder (exit code {error.exitcode})")
    raise MixedSignalsError(str(error)) from error


_readers: tuple[Reader, ...] = ()
_spool = Path()
_broken: Exception | None = None


def _begin_worker(readers: tuple[Reader, ...], spool: Path) -> None:
    """Load the readers in a worker process, which uses one thread and leaves Ctrl-C to its parent."""
    import signal
    from multiprocessing.util import Finalize

    global _readers, _spool, _broken
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _readers, _spool = readers, spool
    try:
        for reader in readers:
            reader.load()
            Finalize(
                None, reader.close, exitpriority=1
            )  # earlier than atexit, while native threads still run
    except Exception as error:
        _broken = error


def _read_here(clip: Clip) -> tuple[Parcel, float, float]:
    if _broken is not None:
        raise RuntimeError(f"a decoding process could not begin: {type(_broken).__name__}: {_broken}")
    began = time.perf_counter()
    if isinstance(_readers[0], SoundReader):
        reads, media_seconds = _read_sound(cast(Sequence[SoundReader], _readers), clip)
    else:
        reads, media_seconds = _read_pictures(cast(Sequence[PictureReader], _readers), clip)
    return send(reads, _spool), media_seconds, time.perf_counter() - began


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
