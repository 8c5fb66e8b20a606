"""The encoders of a job, trained one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from mixed_signals.extract.children import refuse_half_begun
from mixed_signals.extract.finetune import card
from mixed_signals.extract.finetune.designs import Training
from mixed_signals.extract.finetune.inputs import Inputs
from mixed_signals.extract.finetune.job import Family, Job
from mixed_signals.extract.finetune.logs import board_writer
from mixed_signals.extract.finetune.network import lora_library
from mixed_signals.extract.finetune.ranks import ALONE, Ranks
from mixed_signals.extract.finetune.request import Options
from mixed_signals.extract.finetune.training import Progress, train
from mixed_signals.store import MixedSignalsError
from mixed_signals.store.files import write_json
from mixed_signals.store.locks import sole_writer
from mixed_signals.store.terminal import counted


@dataclass(frozen=True)
class Step:
    """How far the trainings are: the present one, its number of how many are to be done in this call."""

    modality: str
    number: int
    of: int
    progress: Progress


def train_encoders(
    job: Job,
    options: Options | None = None,
    todo: Sequence[tuple[Family, Training]] | None = None,
    *,
    ranks: Ranks = ALONE,
    on_step: Callable[[Step], None] | None = None,
    on_read: Callable[[str, int], None] | None = None,
) -> None:
    """Train the encoders that are not trained yet. What is finished stays, whatever happens later.

    Parameters
    ----------
    job : Job
    options : Options, optional
    todo : sequence of (Family, Training), optional
        Only some of those in `Job.todo`.
    ranks : Ranks
        The processes that train each of them together; the same trainings in all of them.
    on_step : callable, optional
        Called after each step of the optimiser.
    on_read : callable, optional
        Called for each utterance that was read, with the modality and how many there are to read.

    Raises
    ------
    MixedSignalsError
        If no utterance can be read, a training cannot go on, or another process is at it.
    """
    refuse_half_begun()
    options = options or Options()
    todo = job.todo if todo is None else todo
    if options.tensorboard:  # said before anything is read
        board_writer()
    if job.request.settings.layers == "lora":
        lora_library()
    for family in job.families:
        mine = [(number, one) for number, (of, one) in enumerate(todo, start=1) if of is family]
        if not mine:
            continue
        family.encoder.prepare()
        inputs = Inputs(
            job.store,
            family.encoder,
            workers=options.workers,
            timeout=options.timeout,
            memory=options.memory,
            max_seconds=job.request.settings.max_seconds,
            ranks=ranks,
        )
        _read(inputs, family.modality, [training for _, training in mine], on_read)
        for number, training in mine:

            def report(progress: Progress, number: int = number, modality: str = family.modality) -> None:
                if on_step is not None:
                    on_step(Step(modality, number, len(todo), progress))

            _train(job, family, training, inputs, options, report)


def _read(
    inputs: Inputs, modality: str, trainings: Sequence[Training], on_read: Callable[[str, int], None] | None
) -> None:
    """Read what the trainings learn from once, before the first of them."""
    wanted = sorted(frozenset().union(*(training.seen for training in trainings)))
    if not inputs.look(wanted, lambda: on_read(modality, len(wanted)) if on_read is not None else None):
        first = f"{wanted[0]}: {inputs.reasons[wanted[0]]}"
        moved = "" if modality == "text" else "; if the media have moved, say where they are (--media-root)"
        raise MixedSignalsError(
            f"{modality}: none of {counted(len(wanted), 'utterance')} can be read ({first}){moved}"
        )


def _train(
    job: Job,
    family: Family,
    training: Training,
    inputs: Inputs,
    options: Options,
    report: Callable[[Progress], None],
) -> None:
    """Train one encoder, and keep it; of several processes the first does."""
    leads = inputs.ranks.leads
    final, working = family.checkpoint(training), family.working(training)
    with sole_writer(final, "encoder") if leads else nullcontext():
        if inputs.ranks.all_gather(card.finished(final) is not None)[0]:  # by another call, meanwhile
            return
        recipe = job.recipes[final]
        if leads:
            write_json(working / card.RECIPE, recipe)
        try:
            trained = train(
                family.encoder,
                inputs,
                job.labels,
                training,
                job.request.settings,
                working,
                seed=job.request.seed,
                on_progress=report,
                tensorboard=options.tensorboard,
            )
            rows = {
                "trained_on": sorted(training.seen.union(family.encoder.trained_on)),
                "train_ids": list(training.train_ids),
                "validation_ids": list(training.validation_ids),
            }
            if leads:
                card.keep(trained, recipe, rows, working, final)
        finally:
            family.encoder.close()
