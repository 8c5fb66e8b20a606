"""What the workers of a cluster do: read a shard, encode it, write it. Nothing here knows of Ray.

Each stage hands on what cannot be mended as `Broken`; the driver ends the job with it. A file that kills its decoder
kills a child process of the worker that reads (`extract.workers`), never that worker.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixed_signals.extract.batches import Batch, Encoding, columns, shared_batches
from mixed_signals.extract.encoders.base import Encoder, NetworkEncoder
from mixed_signals.extract.line import Line
from mixed_signals.extract.on_ray.parts import (
    Broken,
    Columns,
    Goal,
    Heard,
    Job,
    Made,
    Part,
    Written,
    as_block,
    from_block,
)
from mixed_signals.extract.on_ray.parts_file import read_part
from mixed_signals.extract.reading import readers_at_work
from mixed_signals.extract.reads import Read
from mixed_signals.store import FeatureSet, FeatureWriter, MixedSignalsError, Status, Store, remote
from mixed_signals.store.locks import lock_of, sole_writer
from mixed_signals.store.planning import plan_rows, recipe_difference
from mixed_signals.store.provenance import library_versions
from mixed_signals.store.verify import check_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_LOOKED_AT = 8  # media files elsewhere
_PATIENCE = 300.0  # seconds for an attempt that was held to be lost, or whose node was, to let go of a shard


class Decode:
    """Reads shards: each utterance once for all encoders, in decoding processes of this worker's own."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stack = ExitStack()
        self._broken: Broken | None = None
        self._seen = False
        with self._noted():
            self._encoders = _encoders(job, "cpu")
            readers = [encoder.reader for encoder in self._encoders]
            self._read = self._stack.enter_context(readers_at_work(readers, job.workers, job.memory))
            # Where readers give the vectors, nothing is left to encode.
            self._rest = None if needs_networks(self._encoders) else Encoding(self._encoders)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Turn a shard's place among the job's into what was heard of it; what was made, if no network is wanted."""
        if self._broken is None:
            with self._noted():
                part = read_part(self._job.parts, block["item"][0].as_py())
                self._see_media(part)
                heard = self._heard(part)
                return as_block(
                    heard if self._rest is None else _made(heard, self._job, self._encoders, self._rest)
                )
        return as_block(self._broken)

    def __del__(self) -> None:
        self._stack.close()

    def _see_media(self, part: Part) -> None:
        """Look once whether media elsewhere open from this node: without its keys or its network every row would fail.

        Raises
        ------
        MixedSignalsError
            If none of some of them does, and not because there is none.
        """
        urls = [clip.media for clip in part.clips if isinstance(clip.media, str)][:_LOOKED_AT]
        if urls and not self._seen:
            remote.look(urls)
            self._seen = True

    def _heard(self, part: Part) -> Heard:
        wanted: dict[int, set[int]] = {}
        for goal, rows in zip(self._job.goals, part.wanted, strict=True):
            for row in rows.tolist():
                wanted.setdefault(row, set()).add(goal.encoder)
        longest_first = sorted(wanted, key=lambda row: -part.lengths[row])
        by_whom = {row: tuple(sorted(wanted[row])) for row in longest_first}
        reads: list[dict[int, Read]] = [{} for _ in self._encoders]
        media_seconds = decode_seconds = 0.0
        for one in self._read(part.clips, by_whom, self._job.timeout, lambda: None):
            for number, read in one.reads.items():
                reads[number][one.row] = read
            media_seconds += one.media_seconds
            decode_seconds += one.work_seconds
        return Heard(replace(part, clips=[]), reads, media_seconds, decode_seconds)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except MixedSignalsError as error:
            self._broken = _told(error)


class Encode:
    """Encodes shards: the networks are loaded once, and a shard's batches are those of a job on one machine."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._broken: Broken | None = None
        try:
            self._encoders = _encoders(job, job.device)
            # Copies that are never told of memory that ran out, and so plan as another process would.
            self._planners = [copy(encoder) for encoder in self._encoders]
            self._encoding = Encoding(self._encoders)
            for encoder in self._encoders:
                if isinstance(encoder, NetworkEncoder):
                    encoder.load()
        except MixedSignalsError as error:
            self._broken = _told(error)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Turn what was `Heard` of a shard into what was `Made` of it."""
        heard = from_block(block)
        broken = self._broken or (heard if isinstance(heard, Broken) else None)
        if broken is None:
            try:
                return as_block(_made(heard, self._job, self._planners, self._encoding))
            except MixedSignalsError as error:
                broken = _told(error)
        return as_block(broken)


def write(block: pa.Table, job: Job) -> pa.Table:
    """Publish the shard's files: whole, read again and on the disk, or not at all. One that is there is left alone."""
    made = from_block(block)
    if isinstance(made, Broken):
        return block
    try:
        return as_block(_written(made, job))
    except MixedSignalsError as error:
        return as_block(_told(error))


def needs_networks(encoders: Sequence[Encoder]) -> bool:
    """Whether there is anything to do for a device."""
    return any(isinstance(encoder, NetworkEncoder) for encoder in encoders)


def _encoders(job: Job, device: str) -> list[Encoder]:
    """Make the job's encoders on this node, if it sees the same store and would make the same vectors.

    Raises
    ------
    MixedSignalsError
        If not.
    """
    with suppress(OSError):
        os.chdir(job.folder)  # where the paths of checkpoints begin
    _open(job)
    encoders = [one for one in job.request.make_encoders(device) if one.modality == job.modality]
    for goal in job.goals:
        encoder = encoders[goal.encoder]
        here = replace(encoder.outputs[goal.number].recipe, store_dtype=goal.recipe.store_dtype)
        if here.fingerprint != goal.recipe.fingerprint:
            raise MixedSignalsError(
                f"{goal.key}: its recipe is {here.fingerprint} on this node and {goal.recipe.fingerprint} where the "
                f"command was given ({recipe_difference(goal.recipe, here)}); install the same version of "
                "mixed-signals and the same weights on all nodes"
            )
    for encoder in encoders:
        encoder.prepare()
    return encoders


def _open(job: Job) -> Store:
    """Open the store, if it is the one that the command was given.

    Raises
    ------
    MixedSignalsError
        If this node sees none there, or another.
    """
    path = job.request.store
    if not (path / "corpus.json").is_file():
        raise MixedSignalsError(f"{path}: no store here; it must be on a file system that all nodes share")
    store = Store(path)
    if store.described["tables"] != job.tables:
        raise MixedSignalsError(
            f"{path}: another store than where the command was given, or its corpus was replaced meanwhile; it must be "
            "on a file system that all nodes share"
        )
    return store


def _made(heard: Heard, job: Job, planners: Sequence[Encoder], encoding: Encoding) -> Made:
    """Encode a shard; its batches are planned as `pipeline` plans them for the same rows."""
    part, began = heard.part, time.perf_counter()
    before = [dict(spent) for spent in encoding.spent]
    planned: list[list[np.ndarray]] = []
    for goal, rows in zip(job.goals, part.wanted, strict=True):
        batches = planners[goal.encoder].batches(part.lengths[rows]) if len(rows) else []
        planned.append([rows[np.sort(batch)] for batch in batches])
    todo = shared_batches(
        [(n, job.goals[n].encoder, rows) for n, batches in enumerate(planned) for rows in batches],
        part.lengths,
    )
    done: list[Batch] = []
    line = Line([encoding.pack, encoding.encode, done.append])
    try:
        for batch in todo:
            of = heard.reads[batch.encoder]
            batch.reads = {row: of[row] for row in batch.rows.tolist()}
            line.put(batch)
        line.finish()
    finally:
        line.stop()
    wall = time.perf_counter() - began + heard.decode_seconds
    return Made(
        part,
        [_columns_of(n, goal, part, planned[n], done, encoding) for n, goal in enumerate(job.goals)],
        [_spent(n, goal, part, heard, encoding, before, wall, job) for n, goal in enumerate(job.goals)],
    )


def _columns_of(
    number: int, goal: Goal, part: Part, planned: list[np.ndarray], done: Sequence[Batch], encoding: Encoding
) -> Columns | None:
    """Put together what became of the rows of one goal."""
    wanted = part.wanted[number]
    if not len(wanted):
        return None
    n, width = len(wanted), len(goal.dimensions)
    vectors, status, reasons = np.empty((n, width), np.float32), np.empty(n, np.uint8), [""] * n
    for batch in done:
        if number in batch.tasks:
            at = np.searchsorted(wanted, batch.rows)
            vectors[at], status[at], said = columns(batch.content, goal.number, width)
            for row, reason in zip(at.tolist(), said, strict=True):
                reasons[row] = reason
    batches = [np.searchsorted(wanted, rows) for rows in planned]
    versions = library_versions(encoding.encoders[goal.encoder].libraries)
    return Columns(vectors, status, reasons, batches, versions)


def _spent(
    number: int,
    goal: Goal,
    part: Part,
    heard: Heard,
    encoding: Encoding,
    before: Sequence[dict[str, float]],
    wall: float,
    job: Job,
) -> dict[str, Any]:
    """Say where the time went, as a feature set's log has it."""
    encoder, spent = encoding.encoders[goal.encoder], encoding.spent[goal.encoder]
    took = {step: spent[step] - before[goal.encoder].get(step, 0.0) for step in ("pack", "encode")}
    return {
        "shard": f"{part.number}/{job.of}",
        "rows": len(part.wanted[number]),
        "seconds": round(wall, 3),
        "packing": round(took["pack"], 3),
        "encoding": round(took["encode"], 3),
        "decoding": round(heard.decode_seconds, 3),
        "workers": job.workers if goal.modality != "text" else 0,
        "media_seconds": round(heard.media_seconds, 3),
        "device": getattr(encoder, "device", "cpu"),
    }


def _written(made: Made, job: Job) -> Written:
    """Publish what there is of each goal, and say what became of it."""
    store, part = _open(job), made.part
    last = [("", "")] * len(job.goals)
    failed = [0] * len(job.goals)
    for number, (goal, of_goal) in enumerate(zip(job.goals, made.columns, strict=True)):
        if of_goal is None:
            continue
        began = time.perf_counter()
        path = store.shard_path(goal.modality, goal.name, part.number, job.of)
        with sole_writer(path, patience=_PATIENCE):
            before = job.before[number].get(part.number)
            if not _is_published(path, goal, part, number, before):
                _publish(path, goal, part, number, of_goal, made.spent[number])
            features = FeatureSet(path)
            lost = np.flatnonzero(features.status == Status.FAILED)
            failed[number] = len(lost)
            if len(lost):
                last[number] = (features.ids[lost[-1]], features.reasons[lost[-1]])
        made.spent[number]["writing"] = round(time.perf_counter() - began, 3)
    return Written(part.number, [len(rows) for rows in part.wanted], failed, last, made.spent)


def _is_published(path: Path, goal: Goal, part: Part, number: int, before: int | None) -> bool:
    """Whether an attempt at this shard that the cluster thought lost came to its end after all."""
    if not path.exists() or path.stat().st_mtime_ns == before:
        return False
    mine = part.wanted[number]
    plan = plan_rows(FeatureSet(path), goal.recipe, part.ids[mine], part.hashes[number], part.entries[mine])
    return plan.current and not len(plan.rows)


def _publish(path: Path, goal: Goal, part: Part, number: int, made: Columns, spent: dict[str, Any]) -> None:
    """Write a shard's file beside its place, read every byte again, and let it take its place."""
    for begins in (
        f".{path.name}.",
        f"..{path.name}.",
    ):  # by an attempt that was killed: its own, and its writer's
        for left in path.parent.glob(f"{begins}*.tmp*"):
            left.unlink(missing_ok=True)
    mine = part.wanted[number]
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    writer = FeatureWriter(
        temporary,
        goal.recipe,
        part.ids[mine],
        part.hashes[number],
        goal.dimensions,
        entry_hashes=part.entries[mine],
        versions=made.versions,
        trained_on=goal.trained_on,
        batches=lambda todo: made.batches,
    )
    with writer:
        writer.write(np.arange(len(mine)), made.vectors, made.status, made.reasons)
        writer.note(spent)
    check_vectors(FeatureSet(temporary))
    _flush(temporary)
    os.replace(temporary, path)
    _flush(path.parent)
    lock_of(temporary).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _told(error: MixedSignalsError) -> Broken:
    return Broken(f"node {socket.gethostname()}: {error}")
