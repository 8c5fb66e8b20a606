"""The feature sets of fine-tuned encoders, made as any other: by extraction.

Of the designs three-way and split a feature set is what one encoder gives, pooled. Where several encoders make one
feature set, what each gives is kept beside its checkpoint and put together here: of nested the log-odds, which need no
common frame; of three-way with aligned frames the pooled vectors, the second encoder's in the frame of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.extract import job as extraction
from mixed_signals.extract import pipeline
from mixed_signals.extract.checkpoints import resolve
from mixed_signals.extract.encoders.base import Encoder
from mixed_signals.extract.encoders.transformer import Readout, TransformerEncoder
from mixed_signals.extract.finetune import alignment
from mixed_signals.extract.finetune.designs import Member, Training
from mixed_signals.extract.finetune.job import Family, Job
from mixed_signals.extract.finetune.log_odds import LogOdds
from mixed_signals.extract.finetune.request import Options
from mixed_signals.extract.job import Task
from mixed_signals.store import FeatureSet, FeatureWriter, MixedSignalsError, Recipe, Status
from mixed_signals.store.cross_fits import LEFT_OUT
from mixed_signals.store.planning import plan_rows
from mixed_signals.store.provenance import as_bytes, fingerprint

_AT_ONCE = 4  # encoders on the device, for which media are decoded together
_LOG_ODDS, _POOLED = "log_odds.h5", "vectors"
_TAUGHT, _OTHER_FOLD, _UNLABELLED = LEFT_OUT


def plan_features(job: Job) -> list[Task]:
    """Return what the encoders of a job, which are trained, are to make: a task each, a family after the other."""
    of_one = _encoder_task if job.design.mixed else _member_task
    makers = range(len(job.design.trainings if job.design.mixed else job.design.members))
    return [of_one(job, family, number) for family in job.families for number in makers]


def rows_to_make(tasks: Sequence[Task]) -> int:
    """Return how many rows tasks write."""
    return sum(len(task.plan.rows) for task in tasks)


def is_made(job: Job, tasks: Sequence[Task]) -> bool:
    """Return whether tasks have nothing to do, and all feature sets are there."""
    there = set(job.store.feature_sets())
    return all(task.idle for task in tasks) and all(there.issuperset(family.keys) for family in job.families)


def make_features(
    job: Job,
    options: Options | None = None,
    tasks: Sequence[Task] | None = None,
    *,
    on_rows: Callable[[int], None] | None = None,
) -> list[FeatureSet]:
    """Make the feature sets of a job whose encoders are trained; what is there already is not made again.

    Parameters
    ----------
    job : Job
    options : Options, optional
    tasks : sequence of Task, optional
        What `plan_features` gave, if it was asked before.
    on_rows : callable, optional
        Called with the number of rows just written.

    Returns
    -------
    list of FeatureSet
        In the order of families and members.
    """
    options = options or Options()
    running = pipeline.Options(workers=options.workers, timeout=options.timeout)
    tasks = plan_features(job) if tasks is None else tasks
    n = len(tasks) // len(job.families)
    sets: list[FeatureSet] = []
    for at, family in enumerate(job.families):
        mine, made = tasks[n * at : n * (at + 1)], list[tuple[Task, FeatureSet]]()
        for start in range(0, n, _AT_ONCE):
            some = mine[start : start + _AT_ONCE]
            outcomes = pipeline.run(job.store, some, running, on_progress=on_rows)
            made += [(task, outcome.features) for task, outcome in zip(some, outcomes, strict=True)]
        if job.design.mixed:
            sets += [_put_together(job, family, number, made) for number in range(len(job.design.members))]
        else:
            sets += [features for _, features in made]
    return sets


def trained_encoder(family: Family, training: Training, *, scaled: bool = True) -> TransformerEncoder:
    """Return an encoder with the weights that a training gave it, not loaded.

    Parameters
    ----------
    family : Family
    training : Training
    scaled : bool
        Whether its vectors are scaled to length one where those of the encoder are.
    """
    base = family.encoder
    checkpoint = resolve(str(family.checkpoint(training)), fetch=False)
    readouts = () if scaled else (Readout("last", base.own_pooling.partition(",")[0]),)
    return type(base)(checkpoint, readouts, device=base.device, dtype=base.dtype)


def _member_task(job: Job, family: Family, number: int) -> Task:
    """Return the task of a member whose vectors come from one encoder."""
    member = job.design.members[number]
    ((name, ids),) = member.makers
    training = job.design.training(name)
    (task,) = extraction.plan(job.store, [trained_encoder(family, training)])
    source = {**_fold(job, family, member), "checkpoint": _place(job, family, training)}
    return replace(task, left_out=_left_out(job, ids, training), source=source)


def _encoder_task(job: Job, family: Family, number: int) -> Task:
    """Return the task of an encoder that makes rows of several members."""
    training = job.design.trainings[number]
    folder = family.checkpoint(training)
    nested = job.design.kind == "nested"
    trained = trained_encoder(family, training, scaled=not nested)
    encoder: Encoder = LogOdds(trained, folder) if nested else trained
    # Pooled, the encoder's own vectors are called apart from the member that has the encoder's name.
    (task,) = extraction.plan(job.store, [encoder], name="" if nested else _POOLED)
    path = own_file(job, family, training)
    existing = FeatureSet(path) if path.exists() else None
    todo = plan_rows(existing, task.recipe, job.store.corpus.id_bytes, task.row_hashes, task.entry_hashes)
    wanted = [one for member in job.design.members for one in member.needed_of(training.name)]
    return replace(task, path=path, plan=todo, left_out=_left_out(job, wanted, training))


def own_file(job: Job, family: Family, training: Training) -> Path:
    """Return where an encoder's own vectors are kept, of designs in which several make one feature set."""
    return family.checkpoint(training) / (_LOG_ODDS if job.design.kind == "nested" else f"{_POOLED}.h5")


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
    reasons = np.full(len(ids), _UNLABELLED, dtype=object)
    made_by, versions = [], []
    sets = {name: by_name[name][1] for name, _ in member.makers}
    to_frame, aligned = _alignment(member, sets) if member.anchors else (None, {})
    for name, rows in member.makers:
        task, features = by_name[name]
        here = np.flatnonzero(np.isin(ids, rows))
        there, read = _read(features, store.corpus.id_bytes[here])
        vectors[here] = read if to_frame is None or name == member.makers[0][0] else to_frame(read)
        status[here], reasons[here] = features.status[there], features.reasons[there]
        training = job.design.training(name)
        made_by.append(
            {
                "weights": task.recipe.weights,
                "checkpoint": _place(job, family, training),
                "trained_on": sorted(task.trained_on),
                "rows": list(rows),
            }
        )
        versions += [one for one in features.provenance["versions"] if one not in versions]
    called = family.feature_set(member)
    weights = [maker["weights"] for maker in made_by]
    weights += [alignment.METHOD, *map(list, member.anchors)] if member.anchors else []
    recipe: Recipe = replace(first.recipe, encoder=called, weights=fingerprint(weights))
    path = store.feature_path(family.modality, called)
    with FeatureWriter(
        path,
        recipe,
        store.corpus.id_bytes,
        first.row_hashes,
        first.output.dimensions,
        entry_hashes=first.entry_hashes,
        versions=versions,
        trained_on=sorted({one for maker in made_by for one in maker["trained_on"]}),
        source={**_fold(job, family, member), "made_by": made_by, **aligned},
    ) as writer:
        for at in writer.batches:
            writer.write(at, vectors[at], status[at], reasons[at].tolist())
    return FeatureSet(path)


def _alignment(
    member: Member, sets: Mapping[str, FeatureSet]
) -> tuple[alignment.Map, dict[str, dict[str, Any]]]:
    """Return the map from the frame of a member's second encoder into that of its first, and its provenance.

    Raises
    ------
    MixedSignalsError
        If no anchor of one of the trainings has a vector of both encoders.
    """
    (frame, _), (name, _) = member.makers
    anchors = as_bytes([one for half in member.anchors for one in half])
    half = np.repeat([0, 1], [len(half) for half in member.anchors])
    (at, theirs), (there, ours) = (_read(sets[one], anchors) for one in (name, frame))
    both = sets[name].ok[at] & sets[frame].ok[there]
    X, Y, half = theirs[both], ours[both], half[both]
    parts = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    if not all(map(len, parts)):
        raise MixedSignalsError(
            f"--align: none of the rows on which {frame} or {name} stopped early has a vector of both; see above what "
            "failed, mend it, or leave --align out"
        )
    return alignment.fit_map(X, Y), {"aligned": alignment.describe(parts, X, Y)}


def _read(features: FeatureSet, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where these rows are in a feature set, and their vectors; NaN where there is none."""
    there = features.find(ids)
    features.read(there, vectors := np.empty((len(ids), features.shape[1]), np.float32))
    return there, vectors


def _left_out(job: Job, made: Sequence[str], training: Training) -> dict[int, str]:
    """Return the corpus positions of which an encoder makes no vector, and why."""

    def reason(one: str) -> str:
        if one in training.seen:
            return _TAUGHT
        return _OTHER_FOLD if one in job.labels.values else _UNLABELLED

    wanted, ids = set(made), job.store.corpus.ids.tolist()
    return {position: reason(one) for position, one in enumerate(ids) if one not in wanted}


def _fold(job: Job, family: Family, member: Member) -> dict[str, Any]:
    fit = job.design.cross_fit(member, family.name)
    return {} if fit is None else {"cross_fitted": fit.as_provenance()}


def _place(job: Job, family: Family, training: Training) -> str:
    """Return the folder of a checkpoint, from that of the store."""
    folder: Path = family.checkpoint(training)
    return folder.relative_to(job.store.path).as_posix()
