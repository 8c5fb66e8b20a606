"""What ``finetune-encoders`` prints: the plan before it, how training goes, what was made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mixed_signals.extract.finetune import card
from mixed_signals.extract.finetune.designs import Training
from mixed_signals.extract.finetune.job import Family, Job, Step, feature_set
from mixed_signals.store.terminal import counted, stderr, stdout

_TELL_AGAIN = 30.0  # seconds between lines of progress where there is no terminal


def print_notes(job: Job) -> None:
    """Print what the caller should know."""
    for note in job.notes:
        stderr().print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)


def print_plan(job: Job) -> None:
    """Say which encoders are trained on what, and which feature sets come of it."""
    table = _table("encoder", "trained on", "stopped on", "makes", "state")
    for family in job.families:
        for training in job.design.trainings:
            made = {
                one
                for member in job.design.members
                for name, ids in member.makers
                if name == training.name
                for one in ids
            }
            table.add_row(
                f"{family.encoder.modality}/{family.checkpoint(job.design, training).name}",
                f"{len(training.train_ids):,}",
                f"{len(training.validation_ids):,}",
                f"{len(made):,}",
                _state(job, family, training),
            )
    console = stdout()
    console.print(table)
    for family in job.families:
        sets = [feature_set(job.design, family, number) for number in range(len(job.design.members))]
        known = job.store.feature_sets()
        done = sum(f"{family.encoder.modality}/{name}" in known for name in sets)
        console.print(
            f"{family.encoder.modality}: {counted(len(sets), 'feature set')} of {family.name} ({done} there)",
            highlight=False,
        )


def print_trained(job: Job) -> None:
    """Print the score of each encoder."""
    table = _table("encoder", "score", "epoch", "seconds")
    measures = set()
    for family in job.families:
        for training in job.design.trainings:
            said = card.finished(family.checkpoint(job.design, training)) or {}
            measures.add(str(said["measure"]))
            score = "" if said["score"] is None else f"{said['score']:.3f}"
            epochs = f"{said['epoch']} of {said['epochs']}"
            table.add_row(
                f"{family.encoder.modality}/{said['name']}", score, epochs, f"{said['seconds']:.0f}"
            )
    console = stdout()
    console.print(table)
    console.print(f"score: {', '.join(sorted(measures))} of the rows that each stopped on", highlight=False)


def print_next(job: Job) -> None:
    """Say how heads are trained on what was made."""
    names = ",".join(f"{family.encoder.modality}={family.name}" for family in job.families)
    split = " --split split" if job.design.kind == "split" else ""
    stdout().print(
        f"next: fit-heads {job.store.path} --features {names}{split}", highlight=False, soft_wrap=True
    )


@contextmanager
def training_shown() -> Iterator[tuple[Callable[[Step], None], Callable[[str, int], None]]]:
    """Show how trainings go: the present one, its loss, its best validation score, the time that is left for all.

    Yields what is called after each step, and what is called for each utterance that was read (modality, of how many).
    """
    console = stderr()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    shown = _Shown()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=None, told="")
        told, of_training = time.monotonic(), ""

        def show(step: Step) -> None:
            nonlocal told, of_training
            line = shown.line(step)
            progress = step.progress
            if console.is_terminal:
                done = (progress.epoch - 1) * progress.steps + progress.step
                total = progress.epochs * progress.steps
                bar.update(task, description=shown.name(step), completed=done, total=total, told=line)
            elif shown.name(step) != of_training or time.monotonic() - told > _TELL_AGAIN:
                told, of_training = time.monotonic(), shown.name(step)
                console.print(f"{of_training}: {line}", highlight=False, soft_wrap=True)

        def show_reading(modality: str, total: int) -> None:
            name = f"{modality}: reading"
            if bar.tasks[task].description != name:
                bar.reset(task, total=total, description=name, told="")
            bar.advance(task)

        yield show, show_reading


class _Shown:
    """What is told of a step."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}

    def name(self, step: Step) -> str:
        return f"{step.modality} {step.progress.training} ({step.number} of {step.of})"

    def line(self, step: Step) -> str:
        progress = step.progress
        score = "" if progress.score is None else f", validation {progress.score:.3f}"
        return (
            f"epoch {progress.epoch} of {progress.epochs}, loss {progress.loss:.3f}{score}, "
            f"{progress.rows_per_second:.0f} rows/s, {_duration(self._left(step))} left"
        )

    def _left(self, step: Step) -> float:
        """Return the seconds until all trainings are done, if those to come take as long as this one."""
        began = self._began.setdefault(step.number, time.monotonic())
        whole = time.monotonic() - began + step.progress.seconds_left
        return step.progress.seconds_left + (step.of - step.number) * whole


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _state(job: Job, family: Family, training: Training) -> str:
    said: dict[str, Any] | None = card.finished(family.checkpoint(job.design, training))
    if said is not None:
        return "trained" if said["score"] is None else f"trained, {said['measure']} {said['score']:.3f}"
    return "begun" if family.working(job.design, training).exists() else "to be trained"


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if 0 < number < 4 else "left")
    return table
