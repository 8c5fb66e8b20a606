"""The trainings of a job on several devices of a machine: a process for each, with trainings of its own.

The encoders of a design do not depend on one another, so that no training has to be spread over devices.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from mixed_signals.extract.children import cores, end_with_parent, out_of_reach
from mixed_signals.extract.finetune.job import Job, Options, Request, Step, plan, train_encoders
from mixed_signals.extract.several import end_processes
from mixed_signals.store import MixedSignalsError


def train_on_devices(
    job: Job,
    devices: Sequence[str],
    options: Options,
    *,
    on_step: Callable[[Step], None] | None = None,
) -> None:
    """Train the encoders that are not trained yet, each on one of several devices.

    Parameters
    ----------
    job : Job
    devices : sequence of str
    options : Options
        Decoding processes and memory are shared out among the devices.
    on_step : callable, optional
        As `train_encoders` takes it; steps of all devices come as they are done.

    Raises
    ------
    MixedSignalsError
        If a device's process failed or died; what was done is kept.
    """
    names = [family.checkpoint(job.design, training).as_posix() for family, training in job.todo]
    n = min(len(devices), len(names))
    share = replace(
        options, workers=max(1, (options.workers or cores()) // max(n, 1)), memory=options.memory // max(n, 1)
    )
    context = multiprocessing.get_context("spawn")
    processes: dict[Any, BaseProcess] = {}
    try:
        for number in range(n):
            reports, reporter = context.Pipe(duplex=False)
            work = (job.request, devices[number], names[number::n], share, reporter)
            process = context.Process(target=_work, args=work, name=devices[number])
            with out_of_reach(), reporter:
                process.start()
            processes[reports] = process
        errors = _follow(processes, names, on_step or (lambda step: None))
    finally:
        end_processes(list(processes.values()))
    if errors:
        raise MixedSignalsError(
            f"{'; '.join(errors)}; what was done is kept, the same command goes on from there"
        )


def _follow(
    processes: dict[Any, BaseProcess], names: Sequence[str], on_step: Callable[[Step], None]
) -> list[str]:
    """Pass steps on until every process has ended; return what went wrong."""
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
            if isinstance(said, str):
                errors.append(said)
            else:
                name, step = said
                on_step(replace(step, number=names.index(name) + 1, of=len(names)))
    return errors


def _work(request: Request, device: str, names: Sequence[str], options: Options, reporter: Any) -> None:
    """Do some of the trainings."""
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        job = plan(request, device)
        mine = [
            (family, training)
            for family, training in job.todo
            if family.checkpoint(job.design, training).as_posix() in names
        ]

        def report(step: Step) -> None:
            family, training = mine[step.number - 1]
            reporter.send((family.checkpoint(job.design, training).as_posix(), step))

        train_encoders(job, options, mine, on_step=report)
    except MixedSignalsError as error:
        reporter.send(f"{device}: {error}")
