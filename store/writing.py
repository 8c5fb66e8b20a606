"""Feature sets, written: made whole, then filled batch by batch; whatever is written stays.

A file is made under a temporary name with every row `pending` and its room on the disk reserved, and then takes its own
name. After that only bytes of pending rows change: vector, reason and checksum first, the status that makes them count
last. A process killed at any moment leaves a file that opens, in which no half-written row is `ok`; what it leaves in
pending rows no reader looks at, and a writer that ends in order leaves NaN there. After a loss of power the checksums
tell (``mixed-signals store verify``).

Batches are planned once, when the file is made, and kept in it. A batch of which any row is pending is handed out
whole, so an encoder whose numbers depend on what shares a batch gives the same vectors after an interruption.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xxhash

from mixed_signals.store.disk import put, reserve, room_or_error, write_all
from mixed_signals.store.errors import UsageError
from mixed_signals.store.features import FeatureSet, Status
from mixed_signals.store.files import replacing
from mixed_signals.store.job_log import with_jobs
from mixed_signals.store.layout import REASON_BYTES, define_blocks, seal
from mixed_signals.store.locks import sole_writer
from mixed_signals.store.planning import plan_rows
from mixed_signals.store.provenance import Recipe, as_bytes
from mixed_signals.store.virtual import refuse_virtual

_PIECE_BYTES = 1 << 20


class FeatureWriter:
    """Make the rows of a feature set that are not there; a context manager that holds the set's lock.

    Parameters
    ----------
    path : Path
        The ``.h5`` file; made if absent, brought in line with what is asked otherwise.
    recipe : Recipe
        How the vectors are made.
    ids, row_hashes : sequences of str or arrays of bytes, length N
        The corpus's utterances, and what each vector is made of.
    dimensions : sequence of str, length D
        Names of the columns.
    entry_hashes : ndarray of bytes, shape (N,), optional
        What the corpus says of each utterance (`Corpus.entry_hash_bytes`); empty where that is not known.
    versions : mapping of str to str, or sequence of them, optional
        Versions of the libraries in use; several where the rows were made with several.
    trained_on : sequence of str
        Ids of the utterances that the encoder's weights were trained on.
    source : mapping, optional
        What else the provenance says: where vectors made elsewhere come from, which of several encoders made which row
        (``made_by``), for which fold they are (``cross_fitted``).
    retry_failed : bool or ndarray of bool, shape (N,)
        Whether rows that failed are tried again, or which.
    batches : callable, optional
        From the rows to be made (ascending corpus positions) to arrays of rows that are encoded together; called when
        the file is made. All in one batch by default.
    replace_virtual : bool
        Whether a set that lies in several files gives way to the new one; without, it is refused.

    Attributes
    ----------
    plan : Plan
        Which rows are to be made, as found under the lock.
    batches : list of ndarray of int
        The batches that are not done, each with all its rows, ascending.
    failures : list of (row, reason)
        What it wrote as failed so far, also where a vector could not be kept.

    Raises
    ------
    UsageError
        If the file on disk was made by another recipe, or with other dimensions, or its vectors lie in several files.
    MixedSignalsError
        If another process writes this feature set, or the disk is full.
    ValueError
        If ids repeat, there are not as many hashes as ids, or there is no id or no dimension.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        ids: Sequence[str] | np.ndarray,
        row_hashes: Sequence[str] | np.ndarray,
        dimensions: Sequence[str],
        *,
        entry_hashes: np.ndarray | None = None,
        versions: Mapping[str, str] | Sequence[Mapping[str, str]] = (),
        trained_on: Sequence[str] = (),
        source: Mapping[str, Any] | None = None,
        retry_failed: bool | np.ndarray = False,
        batches: Callable[[np.ndarray], Sequence[np.ndarray]] | None = None,
        replace_virtual: bool = False,
    ) -> None:
        self.path = path
        self._recipe = recipe
        self._ids, self._row_hashes = as_bytes(ids), as_bytes(row_hashes)
        self._dimensions = dimensions
        self._entry_hashes = np.full(len(ids), b"") if entry_hashes is None else entry_hashes
        self._versions = [dict(one) for one in ([versions] if isinstance(versions, Mapping) else versions)]
        self._trained_on = list(trained_on)
        self._source = dict(source or {})
        self._retry_failed = retry_failed
        self._replace_virtual = replace_virtual
        if (
            len({len(ids), len(row_hashes), len(self._entry_hashes)}) > 1
            or not len(ids)
            or not len(dimensions)
        ):
            raise ValueError("there are not as many hashes as ids, or there is no id or no dimension")
        if not (self._ids[1:] > self._ids[:-1]).all() and len(set(self._ids.tolist())) < len(ids):
            raise ValueError("ids repeat")
        self._make_batches = batches or (lambda rows: [rows])

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(room_or_error(self.path, kept=True))
            stack.enter_context(sole_writer(self.path))
            existing = FeatureSet(self.path) if self.path.exists() else None
            if existing is not None and self._replace_virtual and existing.virtual:
                existing = None
            if existing is not None:
                refuse_virtual(existing)
            if existing is not None and list(existing.dimensions) != list(self._dimensions):
                raise UsageError(
                    f"{self.path}: has other dimensions ({existing.shape[1]:,} there, {len(self._dimensions):,} now, "
                    "or called otherwise); give the new one a name of its own (--name), or remove the file"
                )
            self.plan = plan_rows(
                existing,
                self._recipe,
                self._ids,
                self._row_hashes,
                self._entry_hashes,
                retry_failed=self._retry_failed,
            )
            if existing is None or not self._goes_on(existing):
                self._make_file(existing)
            features = FeatureSet(self.path)
            self._blocks, self._status = features.blocks, features.status
            self._log = self._blocks["log"].array(features.buffer).copy()
            self.batches = _unfinished(features.batches, features.status)
            self.failures: list[tuple[int, str]] = []
            self._file = os.open(self.path, os.O_RDWR)
            stack.callback(os.close, self._file)
            stack.callback(self._blank_pending)
            if existing is not None:
                self._clear_reasons(features)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(
        self,
        rows: Sequence[int] | np.ndarray,
        vectors: np.ndarray,
        status: Sequence[int] | np.ndarray,
        reasons: Sequence[str],
    ) -> int:
        """Write one batch: vectors, reasons and checksums first, then the status that makes them count.

        Rows that are done already stay as they are.

        Parameters
        ----------
        rows : sequence of int, length B
            Corpus positions.
        vectors : ndarray, shape (B, D)
            Ignored (NaN is kept) where the status is not `ok`. A vector with a value that is not finite, or that
            does not fit the type it is stored as, makes its row `failed`.
        status : sequence of Status, length B
        reasons : sequence of str, length B

        Returns
        -------
        int
            How many rows were written.

        Raises
        ------
        MixedSignalsError
            If the disk is full; what was written before stays.
        ValueError
            If these are not B rows of the set with a vector (D,), a status and a reason each; nothing is written.
        """
        at, made = np.asarray(rows, dtype=np.intp), np.asarray(vectors)
        became = np.array(status, dtype=np.uint8)
        steps = np.diff(at, prepend=-2, append=-2)
        rising = bool((steps[:-1] > 0).all())
        self._check(at, made, became, reasons, rising)
        if not rising or self._status[at].any():
            order = np.argsort(at, kind="stable")
            order = order[self._status[at[order]] == Status.PENDING]
            at, made, became = at[order], made[order], became[order]
            reasons = [reasons[i] for i in order]
            steps = np.diff(at, prepend=-2, append=-2)
        runs = np.flatnonzero(steps != 1).tolist()
        with np.errstate(over="ignore", invalid="ignore"):
            kept = np.ascontiguousarray(made, dtype=self._blocks["embedding"].dtype)
        said = list(reasons)
        columns = _stored(kept, made, became, said)
        for name, values in columns.items():
            for begin, end in pairwise(runs):
                put(self._file, self._blocks[name], int(at[begin]), values[begin:end])
        self._status[at] = became
        self.failures += [(int(at[one]), said[one]) for one in np.flatnonzero(became == Status.FAILED)]
        return len(at)

    def note(self, *jobs: Mapping[str, Any]) -> None:
        """Add what a job says of itself to the file's log: one write, at the end of the job, however it ended.

        Parameters
        ----------
        *jobs : mapping
            What JSON can hold, e.g. ``{"rows": 480, "seconds": 12.5}``. The oldest are dropped when the log is full.

        Raises
        ------
        ValueError
            If it does not fit the log, or is not what JSON can hold.
        """
        self._log = with_jobs(self._log, jobs)
        put(self._file, self._blocks["log"], 0, self._log)

    def _check(
        self, at: np.ndarray, made: np.ndarray, became: np.ndarray, reasons: Sequence[str], rising: bool
    ) -> None:
        """Refuse a batch that would end up in other rows than its own."""
        expected = (len(at), self._blocks["embedding"].shape[1])
        if len(at) and made.shape != expected:
            raise ValueError(f"vectors of shape {made.shape}, expected {expected}")
        if not len(at) == len(became) == len(reasons) or not (rising or len(np.unique(at)) == len(at)):
            raise ValueError(
                f"{len(at)} rows with {len(became)} statuses and {len(reasons)} reasons, or a row twice"
            )
        if len(at) and (at.min() < 0 or at.max() >= len(self._status)):
            raise ValueError(f"rows {at.min()} to {at.max()} of a set of {len(self._status)}")
        if ((became < Status.OK) | (became > Status.FAILED)).any():
            raise ValueError(f"a status of {became.max()}; a written row is ok, missing or failed")

    def _clear_reasons(self, features: FeatureSet) -> None:
        """Take out what an interrupted writer said of rows that it did not get to finish."""
        block = self._blocks["reason"]
        said = block.array(features.buffer)
        for row in np.flatnonzero((features.status == Status.PENDING) & (said != b"")).tolist():
            put(self._file, block, row, np.zeros(1, block.dtype))

    def _blank_pending(self) -> None:
        """Leave no zeros, and no half of a vector, where nothing was made."""
        block = self._blocks["embedding"]
        for rows in _stretches(np.flatnonzero(self._status == Status.PENDING), block.row_bytes):
            put(self._file, block, rows[0], np.full((len(rows), block.shape[1]), np.nan, block.dtype))

    def _goes_on(self, existing: FeatureSet) -> bool:
        """Whether the file can be filled as it is: with our rows and provenance, and those to be made all pending."""
        return (
            self.plan.current
            and bool((existing.status[self.plan.rows] == Status.PENDING).all())
            and (not len(self.plan.rows) or not self._new_versions(existing.provenance["versions"]))
            and existing.says(self._trained_on, self._source)
        )

    def _make_file(self, existing: FeatureSet | None) -> None:
        n, keep = len(self._ids), self.plan.keep
        texts = {
            "utterance_id": self._ids,
            "row_hash": self._row_hashes,
            "entry_hash": self._entry_hashes,
            "dimension": as_bytes(self._dimensions),
        }
        provenance = np.frombuffer(json.dumps(self._provenance(existing)).encode(), np.uint8)
        dtype = np.dtype(self._recipe.store_dtype)
        types = {name: values.dtype for name, values in texts.items()}
        types |= {"embedding": dtype, "reason": np.dtype(f"S{REASON_BYTES}")}
        made = define_blocks(n, len(self._dimensions), types, len(provenance))
        whole = texts | {"provenance": provenance, "batch": self._numbered_batches(existing)}
        whole["seal"] = seal(whole)
        if existing is not None:
            # Where nothing is kept, the empty bytes of a new file already say pending, no reason, no checksum.
            held = keep >= 0
            whole["status"] = np.where(held, existing.status[keep], Status.PENDING).astype(np.uint8)
            whole["checksum"] = np.where(held, existing.checksums[keep], 0).astype(np.uint64)
            whole["reason"] = as_bytes(np.where(held, existing.reasons[keep], ""), REASON_BYTES)
            whole["log"] = existing.blocks["log"].array(existing.buffer)
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):  # by a writer that was killed
            left.unlink()
        with replacing(self.path) as temporary:
            file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                reserve(file, made.size)
                for offset, piece in made.pieces:
                    write_all(file, piece, offset)
                for name, values in whole.items():
                    put(file, made.blocks[name], 0, values)
                if existing is not None:
                    for rows in _stretches(np.flatnonzero(keep >= 0), made.blocks["embedding"].row_bytes):
                        put(file, made.blocks["embedding"], rows[0], existing.stored[keep[rows]])
            finally:
                os.close(file)

    def _provenance(self, existing: FeatureSet | None) -> dict[str, object]:
        held = existing is not None and bool((self.plan.keep >= 0).any())
        before = existing.provenance["versions"] if existing is not None and held else []
        return {
            "recipe": asdict(self._recipe),
            "versions": [*before, *self._new_versions(before)],
            "trained_on": self._trained_on,
            **self._source,
        }

    def _new_versions(self, known: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        return [versions for versions in self._versions if versions not in known]

    def _numbered_batches(self, existing: FeatureSet | None) -> np.ndarray:
        """Return the batch of each row, shape (N,): those that the file has stay, rows made again get new ones."""
        todo, numbers = self.plan.rows, np.full(len(self._ids), -1, np.int32)
        if existing is not None and self.plan.current:
            numbers[:] = existing.batches
            todo = todo[existing.status[todo] != Status.PENDING]
        batches = list(self._make_batches(todo)) if len(todo) else []
        if not np.array_equal(np.sort(np.concatenate([todo[:0], *batches])), todo):
            raise ValueError("the batches are not the rows that are to be made, each once")
        for number, rows in enumerate(batches, start=int(numbers.max(initial=-1)) + 1):
            numbers[rows] = number
        return numbers


def row_checksums(vectors: np.ndarray) -> np.ndarray:
    """Return the XXH3 (64 bits) of each row's bytes, shape (B,), uint64."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, vectors), np.uint64, len(vectors))


def _stored(
    kept: np.ndarray, made: np.ndarray, status: np.ndarray, reasons: list[str]
) -> dict[str, np.ndarray]:
    """Return what is written of a batch, in this order: the status that makes the rest count comes last."""
    # Sums of rows are quicker than a look at every value; one of finite values that overflows is looked at again.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = kept.astype(np.float32, copy=False) @ np.ones(kept.shape[1], np.float32)
    sound = np.isfinite(sums)
    sound[~sound] = np.isfinite(kept[~sound]).all(axis=1)
    if kept.dtype == np.float16:
        sound &= kept.any(axis=1) | ~made.any(axis=1)
    for bad in np.flatnonzero((status == Status.OK) & ~sound):
        status[bad] = Status.FAILED
        reasons[bad] = _why_not_kept(made[bad], kept.dtype)
    ok = status == Status.OK
    columns = {"embedding": kept, "checksum": row_checksums(kept)}
    if not ok.all():
        columns["embedding"] = np.where(ok[:, None], kept, np.array(np.nan, kept.dtype))
        columns["checksum"] = np.where(ok, columns["checksum"], np.uint64(0))
    if any(reasons):
        columns["reason"] = as_bytes(reasons, REASON_BYTES)
    return columns | {"status": status}


def _stretches(rows: np.ndarray, row_bytes: int) -> Iterator[np.ndarray]:
    """Yield ascending rows in pieces that follow one another, none much larger than the processor's cache."""
    step = max(1, _PIECE_BYTES // row_bytes)
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        yield from (run[begin : begin + step] for begin in range(0, len(run), step))


def _unfinished(batches: np.ndarray, status: np.ndarray) -> list[np.ndarray]:
    """Return the batches with a pending row, whole."""
    todo = np.unique(batches[status == Status.PENDING])
    rows = np.flatnonzero(np.isin(batches, todo))
    rows = rows[np.argsort(batches[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(batches[rows])) + 1) if len(rows) else []


def _why_not_kept(vector: np.ndarray, dtype: np.dtype) -> str:
    if np.isfinite(vector).all():
        return f"{np.abs(vector).max():.3g} does not fit {dtype}; extract with --store-dtype float32"
    return "the encoder gave a value that is not finite"
