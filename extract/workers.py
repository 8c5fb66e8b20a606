"""Worker processes that decode; one that crashes, or is held up past a time-out, costs an utterance, not the job.

The worker is replaced, and what the others do goes on. An utterance whose worker died is tried once more, since the
system may have ended it for want of memory.
"""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any, Self

from mixed_signals.extract.children import end_with_parent, limit_memory, out_of_reach
from mixed_signals.extract.encoders.base import Reader
from mixed_signals.extract.media import Clip
from mixed_signals.extract.parcels import Parcel, receive, send
from mixed_signals.extract.reads import Decoded, Read, read_media
from mixed_signals.store import MixedSignalsError, Status

_TRIES = 2
_LOOK_SECONDS = 0.5  # how often it is looked about while nothing comes
_MOST_SILENCE = 600.0  # seconds in which no worker is at work, after which none is counted on any more


class _Context(SpawnContext):
    """Keeps the locks that it makes: a process that is just beginning still looks for them when the pool has closed."""

    def __init__(self) -> None:
        self._locks: list[Any] = []

    def RLock(self) -> Any:  # noqa: N802 - what multiprocessing calls it
        self._locks.append(super().RLock())
        return self._locks[-1]


class Workers:
    """Worker processes, each with all the readers."""

    def __init__(
        self, readers: Sequence[Reader], spool: Path, workers: int, memory: int | None = None
    ) -> None:
        self._readers, self._spool = tuple(readers), spool
        self._workers, self._memory = workers, memory

    def __enter__(self) -> Self:
        self._begin_pool()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def read(
        self,
        clips: Sequence[Clip],
        wanted: Mapping[int, Sequence[int]],
        timeout: float | None,
        meanwhile: Callable[[], None],
    ) -> Iterator[Decoded]:
        """Yield utterances as they are read; the arguments are those of `reading`."""
        from pebble import ProcessExpired

        rows, tries, vain = iter(list(wanted)), dict[int, int](), 0
        while True:
            for row in islice(rows, 4 * self._workers - len(tries)):
                tries[row] = 1
                self._begin(row, clips[row], wanted[row], timeout)
            if not tries:
                return
            row, done = self._next(meanwhile)
            error = done.exception()
            if isinstance(error, BrokenProcessPool):
                vain += 1
                if vain > _TRIES:
                    raise MixedSignalsError(
                        "the decoding processes end before they have begun, and say above why if they know; a script "
                        'of your own must do its work under: if __name__ == "__main__":'
                    )
                self._begin_pool()
                for row in tries:
                    self._begin(row, clips[row], wanted[row], timeout)
                continue
            vain = 0
            if isinstance(error, ProcessExpired) and tries[row] < _TRIES:
                tries[row] += 1
                self._begin(row, clips[row], wanted[row], timeout)
                continue
            del tries[row]
            if error is not None:
                yield Decoded(row, dict.fromkeys(wanted[row], _lost(error, timeout)))
                continue
            parcel, media_seconds, work_seconds = done.result()
            yield Decoded(row, receive(parcel), media_seconds, work_seconds)

    def _begin_pool(self) -> None:
        """Begin worker processes, in the place of those there were: they break where one dies that was idle."""
        from pebble import ProcessPool

        if (broken := getattr(self, "_pool", None)) is not None:
            broken.stop()
            broken.join()
        self._context = _Context()
        self._pool: Any = ProcessPool(
            self._workers,
            initializer=_begin_worker,
            initargs=[self._readers, self._spool, self._memory],
            context=self._context,
        )
        self._ended = queue.SimpleQueue[tuple[int, Future[Any]]]()
        self._under_way = dict[int, Future[Any]]()
        with out_of_reach():
            self._pool.active  # noqa: B018 (looking at it starts the processes)

    def _begin(self, row: int, clip: Clip, readers: Sequence[int], timeout: float | None) -> None:
        ended = self._ended
        try:
            future = self._pool.schedule(_read_here, args=[clip, readers], timeout=timeout)
        except RuntimeError:  # the pool broke just now
            future = Future[Any]()
            future.set_exception(BrokenProcessPool())
        self._under_way[row] = future
        future.add_done_callback(lambda done: ended.put((row, done)))

    def _next(self, meanwhile: Callable[[], None]) -> tuple[int, Future[Any]]:
        """Return what ended next.

        Raises
        ------
        MixedSignalsError
            If no worker takes up anything.
        """
        silent_since = time.monotonic()
        while True:
            meanwhile()
            try:
                row, done = self._ended.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if any(future.running() for future in self._under_way.values()):
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since > _MOST_SILENCE:
                    raise MixedSignalsError(
                        f"no decoding process took up its work within {_MOST_SILENCE:g} s; see what holds up the "
                        "loading of its libraries (a network drive, say), and run the same command again"
                    ) from None
                continue
            del self._under_way[row]
            return row, done


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


def _begin_worker(readers: tuple[Reader, ...], spool: Path, memory: int | None) -> None:
    """Load the readers in a worker process, which uses one thread and leaves Ctrl-C to its parent."""
    from multiprocessing.util import Finalize

    global _readers, _spool, _broken
    end_with_parent(partial(shutil.rmtree, spool, ignore_errors=True))
    if memory is not None:
        limit_memory(memory)
    _readers, _spool = readers, spool
    try:
        for reader in readers:
            reader.load()
            Finalize(
                None, reader.close, exitpriority=1
            )  # earlier than atexit, while native threads still run
    except Exception as error:
        _broken = error


def _read_here(clip: Clip, numbers: Sequence[int]) -> tuple[Parcel, float, float]:
    if _broken is not None:
        raise RuntimeError(f"a decoding process could not begin: {type(_broken).__name__}: {_broken}")
    began = time.perf_counter()
    readers = [_readers[number] for number in numbers]
    reads, media_seconds = read_media(readers, clip)
    sent = send(dict(zip(numbers, reads, strict=True)), _spool)
    return sent, media_seconds, time.perf_counter() - began
