"""The trainings of a job on several devices of a machine: a process for each, with trainings of its own.

The encoders of a design do not depend on one another, so that no training has to be spread over devices.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mixed_signals.extract.children import cores, end_with_parent
from mixed_signals.extract.finetune.job import Job, Options, Request, Step, plan, train_encoders
from mixed_signals.extract.side_by_side import run_side_by_side
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

    def pass_on(said: tuple[str, Step]) -> None:
        name, step = said
        if on_step is not None:
            on_step(replace(step, number=names.index(name) + 1, of=len(names)))

    calls = [
        (devices[number], (job.request, devices[number], names[number::n], share)) for number in range(n)
    ]
    run_side_by_side(_work, calls, pass_on)


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
