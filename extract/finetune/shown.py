"""What ``finetune-encoders`` prints: the plan before it, how training goes, what was made."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mixed_signals.extract.finetune import card
from mixed_signals.extract.finetune.designs import Training
from mixed_signals.extract.finetune.in_turn import Step
from mixed_signals.extract.finetune.job import Family, Job
from mixed_signals.extract.finetune.room import Room
from mixed_signals.store import FeatureSet
from mixed_signals.store.cross_fits import alignment_notes
from mixed_signals.store.terminal import counted, describe_ids, note, stderr, stdout

_NAMES = {
    "three-way": "p0f1: encoder of the first half of fold 1's training groups, p1f1: of the second",
    "nested": "f1: encoder without fold 1, f1f2: without folds 1 and 2",
    "split": "one encoder, on the predefined rows",
}
_TELL_AGAIN = 30.0  # seconds between lines of progress where there is no terminal


def print_notes(job: Job) -> None:
    """Print what the caller should know."""
    for said in job.notes:
        note(said)


def print_plan(job: Job, room: Room) -> None:
    """Say which encoders are trained on what, by which recipe, which feature sets come of it, and their size."""
    console, settings = stdout(), job.request.settings
    for family in job.families:
        table = _table("encoder", "trained on", "stopped on", "makes", "state")
        for training in job.design.trainings:
            made = {
                one
                for member in job.design.members
                for name, ids in member.makers
                if name == training.name
                for one in ids
            }
            table.add_row(
                training.name,
                f"{len(training.train_ids):,}",
                f"{len(training.validation_ids):,}",
                f"{len(made):,}",
                _state(family, training),
            )
        _print_of(family, table)
        done = len(set(family.keys).intersection(job.store.feature_sets()))
        console.print(
            f"{family.modality}: {counted(len(family.keys), 'feature set')} of {family.name} ({done} there)",
            soft_wrap=True,
        )
    console.print(f"numbers of utterances; {_NAMES[job.design.kind]}", soft_wrap=True)
    console.print(
        f"recipe: {settings.layers}, at most {counted(settings.epochs, 'epoch')}, learning rate "
        f"{settings.learning_rate:g} (linear layer {settings.head_learning_rate:g}), batches of "
        f"{settings.batch_size * settings.accumulate}, {settings.dtype}",
        soft_wrap=True,
    )
    console.print(f"disk: {_of_room(room)}", soft_wrap=True)
    _note_stopping(job)
    if job.design.aligned:
        _print_notes_on_alignment(f"{family.modality}/{family.name}" for family in job.families)


def _of_room(room: Room) -> str:
    if not room.to_stay:
        return "nothing more"
    of = []
    if room.n_checkpoints:
        of.append(f"{counted(room.n_checkpoints, 'checkpoint')} {decimal(room.checkpoints)}")
    if room.features:
        of.append(f"feature sets {decimal(room.features)}")
    meanwhile = f", and {decimal(room.at_work)} while they are trained" if room.at_work else ""
    return f"about {decimal(room.to_stay)} more ({', '.join(of)}){meanwhile}; {decimal(room.free)} are free"


def warn_of_room(job: Job, room: Room) -> None:
    """Say so where the disk has less room than a job needs."""
    if not room.enough:
        note(
            f"{job.store.path}: about {decimal(room.to_stay + room.at_work)} are needed on this disk and "
            f"{decimal(room.free)} are free: make room, or put the store on a larger disk"
        )


def print_trained(job: Job) -> None:
    """Print the score of each encoder, and the rows that could not be trained on."""
    measures = set[str]()
    left_out = defaultdict[tuple[str, str], set[str]](set)
    never_stopped = []
    for family in job.families:
        table = _table("encoder", "score", "epoch", "seconds")
        for training in job.design.trainings:
            said = card.finished(family.checkpoint(training))
            if said is None:
                continue
            score = "-"
            if said["score"] is not None:
                measures.add(said["measure"])
                score = f"{said['score']:.3f}"
            elif said["validation_ids"]:
                never_stopped.append(f"{family.modality}/{said['name']}")
            table.add_row(
                training.name, score, f"{said['epoch']} of {said['epochs']}", f"{said['seconds']:.1f}"
            )
            for one, reason in said["left_out"].items():
                left_out[family.modality, reason].add(one)
        _print_of(family, table)
    if measures:
        stdout().print(
            f"score: {', '.join(sorted(measures))} of the rows that the epoch was chosen on, which is no result; "
            f"{_NAMES[job.design.kind]}",
            soft_wrap=True,
        )
    for (modality, reason), ids in left_out.items():
        note(f"{modality}: not trained on {describe_ids(sorted(ids))}: {reason}")
    _note_stopping(job)
    if never_stopped:
        note(
            f"no early stopping, for none of their validation rows can be read: {describe_ids(never_stopped)}"
        )


def _note_stopping(job: Job) -> None:
    """Say which encoders have no rows to stop on, their rows being of too few groups, or rows of one class alone."""
    without = [training.name for training in job.design.trainings if not training.validation_ids]
    if without and job.request.settings.validation:
        note(f"{', '.join(without)}: no group can be spared to stop on, so that all epochs are trained")
    alike = [
        training.name
        for training in job.design.trainings
        if len({job.labels.values[one] for one in training.validation_ids}) == 1
    ]
    if alike:
        note(
            f"{', '.join(alike)}: the rows to stop on are all of one class, which any encoder that names no other gets "
            "right: a score that says little"
        )


def print_aligned(sets: Sequence[FeatureSet]) -> None:
    """Print how near the frames of encoders were before they were aligned and after, where they were."""
    aligned = [features for features in sets if features.aligned]
    if not aligned:
        return
    table = _table("feature set", "anchors", "misfit before", "misfit after")
    for features in aligned:
        said = features.provenance["aligned"]
        table.add_row(
            features.key,
            f"{said['anchors']:,}",
            *(f"{said[f'error_{when}']:.1%}" for when in ("before", "after")),
        )
    stdout().print(table)
    stdout().print(
        "misfit: how far the two encoders' vectors of an utterance are apart, as a share of how far they are from "
        "their mean (0%: one frame); after: on rows that the map was not fitted on",
        soft_wrap=True,
    )
    _print_notes_on_alignment(features.key for features in aligned)


def _print_notes_on_alignment(keys: Iterable[str]) -> None:
    for said in alignment_notes(keys):
        stdout().print(said, style="yellow", soft_wrap=True)


def print_idle(job: Job) -> None:
    """Say that there is nothing to do, and where everything is."""
    stdout().print(f"nothing to do: {_made(job)}", soft_wrap=True)


def print_done(job: Job, n_trained: int, seconds: float) -> None:
    """Say where what was made is, and how long all of it took."""
    stdout().print(
        f"{counted(n_trained, 'encoder')} trained; {_made(job)}; {_duration(seconds)} in all",
        soft_wrap=True,
    )


def _made(job: Job) -> str:
    """Say which feature sets there are, and where."""
    there = job.store.inside("features")
    of = ", ".join(
        f"{counted(len(family.keys), 'feature set')} of {family.modality}/{family.name}"
        for family in job.families
    )
    n = sum(len(family.keys) for family in job.families)
    return f"{of} {'is' if n == 1 else 'are'} in {there}"


def print_next(job: Job) -> None:
    """Say how heads are trained on what was made."""
    names = ",".join(f"{family.modality}={family.name}" for family in job.families)
    said = " --split split" if job.design.kind == "split" else ""
    if job.request.target != "label":
        said += f" --target {job.request.target}"
    stdout().print(f"next: fit-heads {job.store.path} --features {names}{said}", soft_wrap=True)


@contextmanager
def training_shown(
    at_once: int = 1,
) -> Iterator[tuple[Callable[[Step], None], Callable[[str, int], None]]]:
    """Show how trainings go: the present one, its loss, its best validation score, the time that is left.

    Yields what is called after each step, and what is called for each utterance that was read (modality, of how many).

    Parameters
    ----------
    at_once : int
        How many encoders are trained at the same time.
    """
    console = stderr()
    shown = _Shown(at_once)
    with _Bar(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=None)
        told, of_training = time.monotonic(), ""

        def show(step: Step) -> None:
            nonlocal told, of_training
            line = shown.line(step)
            progress = step.progress
            if console.is_terminal:
                done = (progress.epoch - 1) * progress.steps + progress.step
                total = progress.epochs * progress.steps
                bar.told = line
                bar.update(task, description=shown.name(step), completed=done, total=total)
            elif shown.name(step) != of_training or time.monotonic() - told > _TELL_AGAIN:
                told, of_training = time.monotonic(), shown.name(step)
                console.print(f"{of_training}: {line}", soft_wrap=True)

        def show_reading(modality: str, total: int) -> None:
            name = f"{modality}: reading"
            if bar.tasks[task].description != name:
                bar.told = ""
                bar.reset(task, total=total, description=name)
            bar.advance(task)

        yield show, show_reading


class _Bar(Progress):
    """A bar, and below it what is told of the training, over as many lines as the terminal is narrow."""

    def __init__(self, **options: Any) -> None:
        self.told = ""
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            **options,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """Give the bar and the line."""
        yield self.make_tasks_table(self.tasks)
        if self.told:
            yield Text(self.told)


class _Shown:
    """What is told of a step."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._began: dict[int, float] = {}

    def name(self, step: Step) -> str:
        return f"{step.modality} {step.progress.training} ({step.number} of {step.of})"

    def line(self, step: Step) -> str:
        progress = step.progress
        score = "" if progress.score is None else f", best validation {progress.measure} {progress.score:.3f}"
        left = f"{_duration(progress.seconds_left)} of this encoder"
        if step.of > 1:
            left += f", {_duration(self._left(step))} of all {step.of}"
        return (
            f"epoch {progress.epoch} of {progress.epochs}, loss {progress.loss:.3f}{score}, "
            f"{progress.rows_per_second:.0f} rows/s; left: {left}"
        )

    def _left(self, step: Step) -> float:
        """Return the seconds until all trainings are done, if those to come take as long as this one."""
        began = self._began.setdefault(step.number, time.monotonic())
        whole = time.monotonic() - began + step.progress.seconds_left
        to_come = step.of - len(self._began)
        return step.progress.seconds_left + -(-to_come // self._at_once) * whole


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _state(family: Family, training: Training) -> str:
    if card.finished(family.checkpoint(training)) is not None:
        return "trained"
    return "begun" if family.working(training).exists() else "to be trained"


def _print_of(family: Family, table: Table) -> None:
    """Print a table with a row for each encoder, below the name of their family, which may be longer than its rows."""
    console = stdout()
    console.print(f"{family.modality}/{family.name}", soft_wrap=True)
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(columns[0], overflow="fold")
    for number, name in enumerate(columns[1:], start=1):
        table.add_column(name, justify="right" if number < 4 else "left", no_wrap=True)
    return table
