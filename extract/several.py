"""One job on several devices of a machine: a process each, with a shard that has utterances of every length."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from mixed_signals.extract.children import cores, end_with_parent, out_of_reach
from mixed_signals.extract.job import Shard, refuse_other_shards
from mixed_signals.extract.pipeline import Options, prepare, run
from mixed_signals.extract.request import Request
from mixed_signals.store import FeatureSet, MixedSignalsError
from mixed_signals.store.merging import merge

_ENDING_SECONDS = 10.0


def run_on_devices(
    request: Request,
    keys: Sequence[str],
    devices: Sequence[str],
    options: Options,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> list[FeatureSet]:
    """Make feature sets on several devices, and merge what each of them made.

    Parameters
    ----------
    request : Request
    keys : sequence of str
        The feature sets that it makes.
    devices : sequence of str
    options : Options
        The decoding processes are shared out among the devices.
    on_progress : callable, optional
        Called with the number of rows just written, of any feature set.

    Raises
    ------
    UsageError
        If there are shards of another number.
    MixedSignalsError
        If a device's process failed or died; what was done is kept.
    """
    store = request.open()
    refuse_other_shards(store, keys, len(devices))
    context = multiprocessing.get_context("spawn")
    share = replace(options, workers=max(1, (options.workers or cores()) // len(devices)))
    processes: dict[Any, BaseProcess] = {}
    try:
        for number, device in enumerate(devices, start=1):
            # A pipe for each: a process that dies holds up no other.
            reports, reporter = context.Pipe(duplex=False)
            shard = Shard(number, len(devices))
            process = context.Process(
                target=_work, args=(request, device, shard, share, reporter), name=device
            )
            with out_of_reach(), reporter:
                process.start()
            processes[reports] = process
        errors = _follow(processes, on_progress or (lambda rows: None))
    finally:
        end_processes(list(processes.values()))
    if errors:
        raise MixedSignalsError(
            f"{'; '.join(errors)}; what was done is kept, the same command goes on from there"
        )
    apart = store.shards()
    return [merge(store, key) if key in apart else store[key] for key in keys]


def _follow(processes: dict[Any, BaseProcess], on_progress: Callable[[int], None]) -> list[str]:
    """Pass progress on until every process has ended; return what went wrong."""
    errors: list[str] = []
    open_ = list(processes)
    reports: Any
    while open_:
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
            if isinstance(said, int):
                on_progress(said)
            else:
                errors.append(said)
    return errors


def end_processes(processes: Sequence[BaseProcess]) -> None:
    """End processes in order; a network that takes too long over its batch is not waited for."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + _ENDING_SECONDS
    for process in processes:
        process.join(max(until - time.monotonic(), 0))
        process.kill()
        process.join()


def _work(request: Request, device: str, shard: Shard, options: Options, reporter: Any) -> None:
    """Make one shard."""
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        store = request.open()
        tasks = request.plan(store, request.make_encoders(device), shard)
        prepare(tasks)
        run(store, tasks, options, on_progress=reporter.send)
    except MixedSignalsError as error:
        reporter.send(f"{device}: {error}")
