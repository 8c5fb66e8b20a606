"""An assembly line: steps in a row, each in a thread of its own, with short queues between them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

_ROOM = 2  # finished items that wait before each step
_LOOK_SECONDS = 0.2  # how often a waiting thread looks whether the line was stopped
_END = object()  # the last item of every line


class Line:
    """Steps that overlap: while one item is in the second step, the next is in the first.

    Parameters
    ----------
    steps : sequence of callables
        Each takes what the one before it returned.

    Attributes
    ----------
    waited : list of float
        For each step the seconds that it waited for something to work on.
    """

    def __init__(self, steps: Sequence[Callable[[Any], Any]]) -> None:
        self.waited = [0.0] * len(steps)
        self._queues = [queue.Queue[Any](_ROOM) for _ in steps]
        self._stop = threading.Event()
        self._last = threading.Lock()  # held while the last step is at work
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(number, step), daemon=True)
            for number, step in enumerate(steps)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, item: Any) -> None:
        """Give the first step an item; waits while the line is full, and raises what a step raised."""
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._queues[0].put(item, timeout=_LOOK_SECONDS)
                return
        self.check()

    def check(self) -> None:
        """Raise what a step raised."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait until every item is through; raises what a step raised."""
        self.put(_END)
        for thread in self._threads:
            while thread.is_alive():  # a bare join could not be interrupted on every system
                thread.join(_LOOK_SECONDS)
        self.check()

    def stop(self) -> None:
        """Let every step end the item it is at, and the last step what has come as far as that; nothing else begins.

        Where this is interrupted, only the last step still ends its item.
        """
        self._stop.set()
        try:
            for thread in self._threads:
                thread.join()
        except BaseException:
            self._last.acquire()  # for good: the last step begins nothing any more
            raise

    def _work(self, number: int, step: Callable[[Any], Any]) -> None:
        try:
            while True:
                began = time.perf_counter()
                item = self._next(number)
                self.waited[number] += time.perf_counter() - began
                if item is not _END:
                    with self._last if number + 1 == len(self._queues) else nullcontext():
                        item = step(item)
                if number + 1 < len(self._queues):
                    self._hand_on(number + 1, item)
                if item is _END:
                    return
        except BaseException as error:  # whatever it is, it belongs to whoever runs the line
            self._error = self._error or error
            self._stop.set()

    def _next(self, number: int) -> Any:
        """Return what the step is to work on, or the end of the line."""
        last = number == len(self._queues) - 1
        while True:
            before_is_over = number == 0 or not self._threads[number - 1].is_alive()
            if self._stop.is_set() and not last:
                return _END
            try:
                return self._queues[number].get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if self._stop.is_set() and before_is_over:
                    return _END

    def _hand_on(self, number: int, item: Any) -> None:
        """Give the next step an item, unless that step is over."""
        while self._threads[number].is_alive():
            with suppress(queue.Full):
                self._queues[number].put(item, timeout=_LOOK_SECONDS)
                return
