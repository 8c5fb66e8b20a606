"""The feature sets of fine-tuned encoders, made as any other: by extraction.

Of the designs three-way and split a feature set is what one encoder gives, pooled; of nested the log-odds of several
encoders, which are kept beside their checkpoints and put together here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.extract import job as extraction
from mixed_signals.extract import pipeline
from mixed_signals.extract.checkpoints import resolve
from mixed_signals.extract.encoders.base import Encoder
from mixed_signals.extract.encoders.transformer import Readout, TransformerEncoder
from mixed_signals.extract.finetune.designs import Member, Training
from mixed_signals.extract.finetune.job import Family, Job, Options, feature_set, reasons_left_out
from mixed_signals.extract.finetune.log_odds import LogOdds
from mixed_signals.extract.job import Task
from mixed_signals.store import FeatureSet, FeatureWriter, Recipe, Status
from mixed_signals.store.planning import plan_rows
from mixed_signals.store.provenance import fingerprint

_AT_ONCE = 4  # encoders on the device, for which media are decoded together
_LOG_ODDS = "log_odds.h5"


def make_features(
    job: Job, options: Options | None = None, *, on_rows: Callable[[int], None] | None = None
) -> list[FeatureSet]:
    """Make the feature sets of a job whose encoders are trained; what is there already is not made again.

    Parameters
    ----------
    job : Job
    options : Options, optional
    on_rows : callable, optional
        Called with the number of rows just written.

    Returns
    -------
    list of FeatureSet
        In the order of families and members.
    """
    options = options or Options()
    running = pipeline.Options(workers=options.workers, timeout=options.timeout)
    sets: list[FeatureSet] = []
    for family in job.families:
        of_one = _log_odds_tasks if job.design.kind == "nested" else _pooled_tasks
        makers = list(range(len(job.design.trainings if job.design.kind == "nested" else job.design.members)))
        made = []
        for start in range(0, len(makers), _AT_ONCE):
            tasks = [of_one(job, family, number) for number in makers[start : start + _AT_ONCE]]
            outcomes = pipeline.run(job.store, tasks, running, on_progress=on_rows)
            made += [(task, outcome.features) for task, outcome in zip(tasks, outcomes, strict=True)]
        if job.design.kind == "nested":
            sets += [_put_together(job, family, number, made) for number in range(len(job.design.members))]
        else:
            sets += [features for _, features in made]
    return sets


def rows_to_make(job: Job) -> int:
    """Return how many rows the encoders write, of all feature sets together, where none is there."""
    n = len(job.design.trainings if job.design.kind == "nested" else job.design.members)
    return n * len(job.families) * len(job.store.corpus)


def trained_encoder(
    job: Job, family: Family, training: Training, *, scaled: bool = True
) -> TransformerEncoder:
    """Return an encoder with the weights that a training gave it, not loaded.

    Parameters
    ----------
    job : Job
    family : Family
    training : Training
    scaled : bool
        Whether its vectors are scaled to length one where those of the encoder are.
    """
    base = family.encoder
    checkpoint = resolve(str(family.checkpoint(job.design, training)), fetch=False)
    readouts = () if scaled else (Readout("last", base.own_pooling.partition(",")[0]),)
    return type(base)(checkpoint, readouts, device=base.device, dtype=base.dtype)


def _pooled_tasks(job: Job, family: Family, number: int) -> Task:
    """Return the task of a member whose vectors come from one encoder."""
    member = job.design.members[number]
    ((name, ids),) = member.makers
    training = job.design.training(name)
    (task,) = extraction.plan(job.store, [trained_encoder(job, family, training)])
    source = {**_fold(job, family, member), "checkpoint": _place(job, family, training)}
    return replace(task, left_out=reasons_left_out(job, ids, training.seen), source=source)


def _log_odds_tasks(job: Job, family: Family, number: int) -> Task:
    """Return the task of an encoder that makes rows of several members."""
    training = job.design.trainings[number]
    folder = family.checkpoint(job.design, training)
    encoder: Encoder = LogOdds(trained_encoder(job, family, training, scaled=False), folder)
    (task,) = extraction.plan(job.store, [encoder])
    path = folder / _LOG_ODDS
    existing = FeatureSet(path) if path.exists() else None
    todo = plan_rows(existing, task.recipe, job.store.corpus.id_bytes, task.row_hashes, task.entry_hashes)
    wanted = [
        one for m in job.design.members for name, ids in m.makers if name == training.name for one in ids
    ]
    return replace(task, path=path, plan=todo, left_out=reasons_left_out(job, wanted, training.seen))


def _put_together(
    job: Job, family: Family, number: int, made: Sequence[tuple[Task, FeatureSet]]
) -> FeatureSet:
    """Write a member whose rows come from several encoders."""
    member, store = job.design.members[number], job.store
    by_name = {t.name: one for t, one in zip(job.design.trainings, made, strict=True)}
    ids = store.corpus.ids
    first = by_name[member.makers[0][0]][0]
    vectors = np.full((len(ids), len(first.output.dimensions)), np.nan, np.float32)
    status = np.full(len(ids), Status.MISSING, np.uint8)
    reasons = np.full(len(ids), "without a label", dtype=object)
    made_by, versions = [], []
    for name, rows in member.makers:
        task, features = by_name[name]
        here = np.flatnonzero(np.isin(ids, rows))
        there = features.find(store.corpus.id_bytes[here])
        features.read(there, read := np.empty((len(here), vectors.shape[1]), np.float32))
        vectors[here], status[here], reasons[here] = read, features.status[there], features.reasons[there]
        training = job.design.training(name)
        made_by.append(
            {
                "weights": task.recipe.weights,
                "checkpoint": _place(job, family, training),
                "trained_on": sorted(training.seen),
                "rows": list(rows),
            }
        )
        versions += [one for one in features.provenance["versions"] if one not in versions]
    called = feature_set(job.design, family, number)
    recipe: Recipe = replace(
        first.recipe, encoder=called, weights=fingerprint([maker["weights"] for maker in made_by])
    )
    path = store.feature_path(family.encoder.modality, called)
    with FeatureWriter(
        path,
        recipe,
        store.corpus.id_bytes,
        first.row_hashes,
        first.output.dimensions,
        entry_hashes=first.entry_hashes,
        versions=versions,
        trained_on=sorted({one for maker in made_by for one in maker["trained_on"]}),
        source={**_fold(job, family, member), "made_by": made_by},
    ) as writer:
        for at in writer.batches:
            writer.write(at, vectors[at], status[at], reasons[at].tolist())
    return FeatureSet(path)


def _fold(job: Job, family: Family, member: Member) -> dict[str, Any]:
    fit = job.design.cross_fit(member, family.name)
    return {} if fit is None else {"cross_fitted": fit.as_provenance()}


def _place(job: Job, family: Family, training: Training) -> str:
    """Return the folder of a checkpoint, from that of the store."""
    folder: Path = family.checkpoint(job.design, training)
    return folder.relative_to(job.store.path).as_posix()
