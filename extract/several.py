"""One job on several devices of a machine: a process each, with a shard that has utterances of every length."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mixed_signals.extract.job import Shard
from mixed_signals.extract.pipeline import Options, prepare, run
from mixed_signals.extract.request import Request
from mixed_signals.store import FeatureSet, MixedSignalsError
from mixed_signals.store.merging import merge

_LOOK_SECONDS = 0.5  # how often it is seen to that the processes live


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
    MixedSignalsError
        If a device's process failed or died; what was done is kept.
    """
    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    workers = options.workers or os.cpu_count() or 1
    share = replace(options, workers=max(1, workers // len(devices)))
    processes = [
        context.Process(
            target=_work, args=(request, device, Shard(number, len(devices)), share, reports), name=device
        )
        for number, device in enumerate(devices, start=1)
    ]
    for process in processes:
        process.start()
    try:
        errors = _follow(processes, reports, on_progress or (lambda rows: None))
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if errors:
        raise MixedSignalsError(
            f"{'; '.join(errors)}; what was done is kept, the same command goes on from there"
        )
    store = request.open()
    apart = store.shards()
    return [merge(store, key) if key in apart else store[key] for key in keys]


def _follow(processes: Sequence[Any], reports: Any, on_progress: Callable[[int], None]) -> list[str]:
    """Pass progress on until every process has ended; return what went wrong."""
    errors = []
    while True:
        alive = any(process.is_alive() for process in processes)
        try:
            while True:
                said = reports.get(timeout=_LOOK_SECONDS if alive else 0)
                if isinstance(said, int):
                    on_progress(said)
                else:
                    errors.append(said)
        except queue.Empty:
            if not alive:
                break
    if not errors:
        errors = [
            f"{one.name}: its process ended with exit code {one.exitcode}"
            for one in processes
            if one.exitcode
        ]
    return errors


def _work(request: Request, device: str, shard: Shard, options: Options, reports: Any) -> None:
    """Make one shard; leave Ctrl-C to the process that began this one, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        store = request.open()
        tasks = request.plan(store, request.make_encoders(device), shard)
        prepare(tasks)
        run(store, tasks, options, on_progress=reports.put)
    except MixedSignalsError as error:
        reports.put(f"{device}: {error}")
