"""The job at work: read, pack, encode and write overlap, so that the slowest of them sets the pace.

Media are decoded in worker processes, once for all encoders of their modality. What was read is gathered into the
batches that were planned for each encoder; a batch is then packed in one thread, encoded in a second and written in a
third. What a reader gives as vectors goes straight to be written.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixed_signals.extract.batches import Batch, Encoding, columns, shared_batches
from mixed_signals.extract.children import cores, refuse_half_begun
from mixed_signals.extract.encoders.base import Encoder, NetworkEncoder
from mixed_signals.extract.job import Task, clips_of, rough_lengths
from mixed_signals.extract.line import Line
from mixed_signals.extract.reading import reading
from mixed_signals.extract.reads import Decoded
from mixed_signals.store import FeatureSet, FeatureWriter, MixedSignalsError, Status, Store
from mixed_signals.store.locks import remove_alone
from mixed_signals.store.provenance import MODALITIES, library_versions
from mixed_signals.store.terminal import describe_gap

_TIMEOUT = 600.0


@dataclass
class Options:
    """How a job is run; none of it changes a vector.

    Attributes
    ----------
    workers : int, optional
        Processes that decode. By default one for each core, or a quarter of them where networks run on the processor.
    timeout : float
        Seconds after which an utterance is given up.
    max_failures : int or float, optional
        The job stops when more rows of a feature set fail: a number of them, or (below 1) a share of those planned.
    """

    workers: int | None = None
    timeout: float = _TIMEOUT
    max_failures: float | None = None

    def stop_if_too_many(self, key: str, failed: int, planned: int, reason: str, utterance: str) -> None:
        """Raise an error where more rows of a feature set failed than are allowed.

        Parameters
        ----------
        key : str
            The feature set.
        failed, planned : int
            How many rows failed, of how many.
        reason, utterance : str
            The last of them.

        Raises
        ------
        TooManyFailures
        """
        limit = self.max_failures
        if limit is not None and (failed / planned if limit < 1 else failed) > limit:
            raise TooManyFailures(
                f"{key}: stopped, {failed:,} of {planned:,} rows failed, more than the "
                f"{limit:g}{'' if limit >= 1 else ' of all'} that --max-failures allows; "
                f"the last: {describe_gap('failed', reason, [utterance])}; what was done is kept"
            )


@dataclass
class Outcome:
    """What became of one task.

    Attributes
    ----------
    task : Task
    features : FeatureSet
        As it is on disk now.
    spent : dict
        Where the time went, as the feature set's log has it.
    """

    task: Task
    features: FeatureSet
    spent: dict[str, Any] = field(default_factory=dict)


class TooManyFailures(MixedSignalsError):  # noqa: N818 - reads as what it says
    """More rows failed than the caller allows."""


def prepare(tasks: Sequence[Task]) -> None:
    """Bring what the tasks need onto this machine, before any of them begins.

    Raises
    ------
    MixedSignalsError
        If weights cannot be had, or the system lacks a library.
    """
    for encoder in distinct(task.encoder for task in tasks if not task.idle):
        encoder.prepare()


def run(
    store: Store,
    tasks: Sequence[Task],
    options: Options | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Make the feature sets of one or more modalities. What is written stays, whatever happens later.

    Parameters
    ----------
    store : Store
    tasks : sequence of Task
        From `plan`, after `prepare`.
    options : Options, optional
    on_progress : callable, optional
        Called with the number of rows just written, of any feature set.

    Returns
    -------
    list of Outcome
        In the order of the tasks.

    Raises
    ------
    TooManyFailures
        If more rows fail than the options allow.
    MixedSignalsError
        If a reader cannot be loaded, or another process writes the same feature set.
    """
    refuse_half_begun()
    outcomes: dict[str, Outcome] = {}
    for modality in MODALITIES:
        mine = [task for task in tasks if task.recipe.modality == modality]
        busy = [task for task in mine if not task.idle]
        spent = _Modality(store, busy, options or Options(), on_progress).run() if busy else {}
        for task in mine:
            if not len(task.members):
                remove_alone(task.path)  # merging would look for utterances in it
            elif task.path.exists():
                outcomes[task.key] = Outcome(task, FeatureSet(task.path), spent.get(task.key, {}))
    return [outcomes[task.key] for task in tasks if task.key in outcomes]


class _Modality:
    """One run of all the tasks of one modality."""

    def __init__(
        self,
        store: Store,
        tasks: Sequence[Task],
        options: Options,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self.tasks, self.options = tasks, options
        self.modality = tasks[0].recipe.modality
        self.encoders = distinct(task.encoder for task in tasks)
        self.encoding = Encoding(self.encoders)
        self.clips = clips_of(store, with_media=self.modality != "text")
        self.lengths = rough_lengths(store, self.modality)
        self.ids = store.corpus.id_bytes
        self.on_progress = on_progress or (lambda rows: None)
        self.spent = self.encoding.spent
        self.media_seconds = self.decode_seconds = 0.0

    def run(self) -> dict[str, dict[str, Any]]:
        """Make the feature sets; return where the time went, by key."""
        began = time.perf_counter()
        with ExitStack() as stack:
            self.writers = [stack.enter_context(self._writer(task)) for task in self.tasks]
            batches = self._batches()
            before = [int(task.plan.rows.size) for task in self.tasks]
            try:
                if batches:
                    self._work(stack, batches)
            finally:
                wall = time.perf_counter() - began
                spent = {task.key: self._summary(task, wall) for task in self.tasks}
                for task, writer, rows in zip(self.tasks, self.writers, before, strict=True):
                    if rows:
                        writer.note(spent[task.key])
        return spent

    def _writer(self, task: Task) -> FeatureWriter:
        members = task.members

        def planned(rows: np.ndarray) -> list[np.ndarray]:
            left_out = np.isin(rows, list(task.left_out))
            made = rows[~left_out]
            batches = [made[np.sort(batch)] for batch in task.encoder.batches(self.lengths[members[made]])]
            return [*batches, rows[left_out]] if left_out.any() else batches

        return FeatureWriter(
            task.path,
            task.recipe,
            self.ids[members],
            task.row_hashes,
            task.output.dimensions,
            entry_hashes=task.entry_hashes,
            versions=library_versions(task.encoder.libraries),
            trained_on=task.trained_on,
            source=task.source,
            retry_failed=task.retry_failed,
            batches=planned,
        )

    def _batches(self) -> list[Batch]:
        """Return every encoder's batches, by corpus positions; what is left out is written right away."""
        wanted: list[tuple[int, int, np.ndarray]] = []
        for number, (task, writer) in enumerate(zip(self.tasks, self.writers, strict=True)):
            encoder = self.encoders.index(task.encoder)
            for planned in writer.batches:
                if planned[0] in task.left_out:
                    self._leave_out(task, writer, planned)
                else:
                    wanted.append((number, encoder, task.members[planned]))
        return shared_batches(wanted, self.lengths)

    def _leave_out(self, task: Task, writer: FeatureWriter, rows: np.ndarray) -> None:
        nothing = np.full((len(rows), len(task.output.dimensions)), np.nan, np.float32)
        reasons = [task.left_out[row] for row in rows.tolist()]
        self.on_progress(writer.write(rows, nothing, [Status.MISSING] * len(rows), reasons))

    def _work(self, stack: ExitStack, batches: list[Batch]) -> None:
        wanted: dict[int, list[Batch]] = defaultdict(list)
        for batch in batches:
            for row in batch.rows.tolist():
                wanted[row].append(batch)
        readers, at_work = [encoder.reader for encoder in self.encoders], {one.encoder for one in batches}
        workers, timeout = self._workers(), self.options.timeout
        for_whom = {row: tuple(sorted({batch.encoder for batch in those})) for row, those in wanted.items()}
        with reading(
            readers,
            self.clips,
            for_whom,
            workers=workers,
            timeout=timeout,
            meanwhile=lambda: self.line.check(),
        ) as decoded:
            for number, (encoder, spent) in enumerate(zip(self.encoders, self.spent, strict=True)):
                if isinstance(encoder, NetworkEncoder) and number in at_work:
                    loading = time.perf_counter()
                    encoder.load()
                    stack.callback(encoder.close)
                    spent["load"] = time.perf_counter() - loading
            self.line = Line([self.encoding.pack, self.encoding.encode, self._write])
            stack.callback(self.line.stop)
            for one in decoded:
                self._take(one, wanted.pop(one.row))
            self.line.finish()

    def _workers(self) -> int:
        on_processor = any(getattr(encoder, "device", "") == "cpu" for encoder in self.encoders)
        return self.options.workers or max(1, cores() // 4 if on_processor else cores())

    def _take(self, decoded: Decoded, batches: list[Batch]) -> None:
        """Put what was read of an utterance where it is wanted, and send on the batches that are complete."""
        self.media_seconds += decoded.media_seconds
        self.decode_seconds += decoded.work_seconds
        for batch in batches:
            batch.reads[decoded.row] = decoded.reads[batch.encoder]
            batch.waits_for -= 1
            if not batch.waits_for:
                self.line.put(batch)

    def _write(self, batch: Batch) -> None:
        began = time.perf_counter()
        for number in batch.tasks:
            task, encoded = self.tasks[number], batch.content
            rows = np.searchsorted(task.members, batch.rows)
            vectors, status, reasons = columns(encoded, task.number, len(task.output.dimensions))
            written = self.writers[number].write(rows, vectors, status, reasons)
            self._stop_if_too_many(number)
            self.on_progress(written)
        self.spent[batch.encoder]["write"] += time.perf_counter() - began

    def _stop_if_too_many(self, number: int) -> None:
        task, failures = self.tasks[number], self.writers[number].failures
        if failures:
            row, reason = failures[-1]
            last = self.clips[task.members[row]].utterance_id
            self.options.stop_if_too_many(task.key, len(failures), len(task.plan.rows), reason, last)

    def _summary(self, task: Task, wall: float) -> dict[str, Any]:
        number = self.encoders.index(task.encoder)
        line, spent = getattr(self, "line", None), self.spent[number]
        rows = len(task.plan.rows)
        return {
            "rows": rows,
            "seconds": round(wall, 3),
            "waited_for_decoding": round(line.waited[1], 3) if line else 0.0,
            "loading": round(spent["load"], 3),
            "packing": round(spent["pack"], 3),
            "encoding": round(spent["encode"], 3),
            "writing": round(spent["write"], 3),
            "decoding": round(self.decode_seconds, 3),
            "workers": self._workers() if self.modality != "text" else 0,
            "media_seconds": round(self.media_seconds, 3),
            "device": getattr(task.encoder, "device", "cpu"),
        }


def distinct(encoders: Iterable[Encoder]) -> list[Encoder]:
    """Return each encoder once, in order."""
    return list({id(encoder): encoder for encoder in encoders}.values())
