"""Child processes: how many, Ctrl-C is their parent's to handle, and they end when it does, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def out_of_reach() -> Iterator[None]:
    """Keep Ctrl-C, which a terminal sends to all of a job's processes, from those begun inside the block.

    Threads begun inside hand that on to processes that they begin later.
    """
    resource_tracker.ensure_running()  # beginning it lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(last: Callable[[], object] = lambda: None) -> None:
    """End this process as soon as its parent is no more; what it is at is given up, and `last` called."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            last()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def limit_memory(n_bytes: int) -> None:
    """Let this process and its children take so much memory of their own; asking for more fails, or ends it.

    What it shares with others and files that it maps do not count (``RLIMIT_DATA`` of Linux); elsewhere less may count.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or n_bytes < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, hard))


def refuse_half_begun() -> None:
    """End a process that is not there to do what the script says that Python imports to begin it.

    A script without ``if __name__ == "__main__":`` would run its job again in every child process.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)


def cores() -> int:
    """Return how many processors this process may use: of a shared machine often a part."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
