"""The trainings of a job on several devices of a machine, with a process for each.

The encoders of a design do not depend on one another, so that each device may train some of them alone. Where there are
fewer encoders than devices all devices train each of them together.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from mixed_signals.extract.children import cores, end_with_parent
from mixed_signals.extract.finetune.in_turn import Step, train_encoders
from mixed_signals.extract.finetune.job import Job, plan
from mixed_signals.extract.finetune.ranks import ALONE, LeftAloneError, Place, joined
from mixed_signals.extract.finetune.request import Options, Request
from mixed_signals.extract.side_by_side import run_side_by_side
from mixed_signals.store import MixedSignalsError, UsageError

_ENDED_WITHIN = 20.0  # seconds in which a process whose partner is gone is ended by its parent, who says why


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
    names = _names(job)
    n = min(len(devices), len(names))
    calls = [
        (
            devices[number],
            (
                job.request,
                devices[number],
                names[number::n],
                _shared(options, n),
                torch.get_num_threads(),
                None,
            ),
        )
        for number in range(n)
    ]
    run_side_by_side(_work, calls, _passing_on(names, on_step, None))


def train_together(
    job: Job,
    devices: Sequence[str],
    options: Options,
    *,
    on_step: Callable[[Step], None] | None = None,
    on_read: Callable[[str, int], None] | None = None,
) -> None:
    """Train the encoders that are not trained yet, each on all of several devices.

    The steps are those of one device, of which each takes a share (`mixed_signals.extract.finetune.ranks`), and so is
    what is kept: a training that was begun on one device may go on on several, and the other way round.

    Parameters
    ----------
    job : Job
    devices : sequence of str
        GPUs; or ``cpu`` as often as there are to be processes.
    options : Options
        Decoding processes and memory are shared out among the devices.
    on_step, on_read : callable, optional
        As `train_encoders` takes them.

    Raises
    ------
    UsageError
        If accelerate is not installed, or these are no devices that can train together.
    MixedSignalsError
        If a device's process failed or died, with which the others end; what was done is kept.
    """
    check_together(devices)
    names, n = _names(job), len(devices)
    threads = max(1, torch.get_num_threads() // n)
    with meeting_place() as port:
        calls = [
            (device, (job.request, device, names, _shared(options, n), threads, Place(number, n, port)))
            for number, device in enumerate(devices)
        ]
        run_side_by_side(_work, calls, _passing_on(names, on_step, on_read), one_for_all=True)


def check_together(devices: Sequence[str]) -> None:
    """Make sure that devices can train one encoder together.

    Raises
    ------
    UsageError
        If they cannot, or accelerate is not installed.
    """
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise UsageError(
            "--spread: accelerate is not installed: pip install 'mixed-signals[finetune]', or leave the flag out"
        ) from None
    if len(devices) < 2:
        raise UsageError(
            "--spread: trains on several devices together: name them, e.g. --devices cuda:0,cuda:1"
        )
    chosen = [torch.device(one) for one in devices]
    kinds = {one.type for one in chosen}
    if kinds not in ({"cuda"}, {"cpu"}):
        raise UsageError(
            f"--spread: {', '.join(devices)}: use several GPUs, e.g. --devices cuda:0,cuda:1, or cpu,cpu"
        )
    if kinds == {"cuda"} and len({one.index or 0 for one in chosen}) < len(chosen):
        raise UsageError(f"--spread: {', '.join(devices)}: name each GPU once")


def _names(job: Job) -> list[str]:
    """Return what identifies the trainings to be done, in any process."""
    return [family.checkpoint(training).as_posix() for family, training in job.todo]


def _shared(options: Options, n: int) -> Options:
    """Return what each of n processes may use."""
    return replace(options, workers=max(1, (options.workers or cores()) // n), memory=options.memory // n)


def _passing_on(
    names: Sequence[str],
    on_step: Callable[[Step], None] | None,
    on_read: Callable[[str, int], None] | None,
) -> Callable[[tuple[str, Step | int]], None]:
    """Return what takes a training's name with a step, or a modality with the number of utterances to be read."""

    def pass_on(said: tuple[str, Step | int]) -> None:
        name, of_it = said
        if isinstance(of_it, Step):
            if on_step is not None:
                on_step(replace(of_it, number=names.index(name) + 1, of=len(names)))
        elif on_read is not None:
            on_read(name, of_it)

    return pass_on


@contextmanager
def meeting_place() -> Iterator[int]:
    """Let processes of this machine find one another; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        store = torch.distributed.TCPStore(
            "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
        yield port
        del store


def _work(
    request: Request,
    device: str,
    names: Sequence[str],
    options: Options,
    threads: int,
    place: Place | None,
    reporter: Any,
) -> None:
    """Do some of the trainings, or a share of each."""
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    torch.set_num_threads(threads)  # sums in the same order as there
    try:
        job = plan(request, device)
        named = {
            family.checkpoint(training).as_posix(): (family, training)
            for family in job.families
            for training in job.design.trainings
        }

        def tell_step(step: Step) -> None:
            reporter.send((names[step.number - 1], step))

        def tell_read(modality: str, n: int) -> None:
            reporter.send((modality, n))

        with nullcontext(ALONE) if place is None else joined(place, device) as ranks:
            train_encoders(
                job,
                options,
                [named[name] for name in names],
                ranks=ranks,
                on_step=tell_step if ranks.leads else None,
                on_read=None if place is None else tell_read,
            )
    except MixedSignalsError as error:
        reporter.send(f"{device}: {error}")
    except LeftAloneError:
        time.sleep(_ENDED_WITHIN)
        reporter.send(f"{device}: lost the connection to the other devices")
