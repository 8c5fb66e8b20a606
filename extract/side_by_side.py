"""Work in several processes at once, each with a name and a pipe of its own, until all have ended."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from mixed_signals.extract.children import out_of_reach
from mixed_signals.store import MixedSignalsError

_ENDING_SECONDS = 10.0


def run_side_by_side(
    work: Callable[..., None],
    calls: Sequence[tuple[str, tuple[Any, ...]]],
    on_said: Callable[[Any], None],
    *,
    one_for_all: bool = False,
) -> None:
    """Do the same work with several arguments, a process for each.

    Parameters
    ----------
    work : callable
        Takes the arguments of a call and, last, the connection by which it tells: text where it failed, else progress.
    calls : sequence of (str, tuple)
        The name of the process (a device), and the arguments.
    on_said : callable
        Called with the progress that any of them tells.
    one_for_all : bool
        Whether none can go on without the others.

    Raises
    ------
    MixedSignalsError
        If one failed or died; the others are let finish, or with `one_for_all` ended at once.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Any, BaseProcess] = {}
    try:
        for name, arguments in calls:
            # A pipe for each: a process that dies holds up no other.
            reports, reporter = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(*arguments, reporter), name=name)
            with out_of_reach(), reporter:
                process.start()
            processes[reports] = process
        errors = _follow(processes, on_said, 1 if one_for_all else len(calls))
    finally:
        _end(list(processes.values()))
    if errors:
        raise MixedSignalsError(
            f"{'; '.join(errors)}; what was done is kept, the same command goes on from there"
        )


def _follow(processes: dict[Any, BaseProcess], on_said: Callable[[Any], None], most_errors: int) -> list[str]:
    """Pass progress on until every process has ended, or as many have failed; return what went wrong."""
    errors: list[str] = []
    open_ = list(processes)
    reports: Any
    while open_ and len(errors) < most_errors:
        for reports in wait(open_):
            try:
                said = reports.recv()
            except (EOFError, OSError):  # it ended
                open_.remove(reports)
                process = processes[reports]
                process.join()
                if process.exitcode:
                    errors.append(f"{process.name}: its process ended with exit code {process.exitcode}")
                continue
            if isinstance(said, str):
                errors.append(said)
            else:
                on_said(said)
    return errors[:most_errors]


def _end(processes: Sequence[BaseProcess]) -> None:
    """End processes in order; a network that takes too long over its batch is not waited for."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + _ENDING_SECONDS
    for process in processes:
        process.join(max(until - time.monotonic(), 0))
        process.kill()
        process.join()
