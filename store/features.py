"""Feature sets: one HDF5 file per encoder, a contiguous matrix with an id, a status and a reason for each row.

A file is made whole (all rows `pending`, every dataset allocated) under a temporary name and then takes its
place, so a file under its own name is always complete. After that only raw values change: vectors first, flushed,
then their status. A process killed at any moment leaves a file that opens, in which no half-written row is `ok`.
Readers map the matrix and never lock; the one writer holds a lock file of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import h5py
import numpy as np

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.files import replacing
from mixed_signals.store.provenance import Recipe, fingerprint

FORMAT = 1
_REASON_BYTES = 200


class Status(IntEnum):
    """State of one row of a feature set; what is not `OK` reads as NaN."""

    PENDING = 0
    OK = 1
    MISSING = 2
    FAILED = 3


class FeatureSet:
    """One encoder's vectors for a corpus, read from a file.

    Parameters
    ----------
    path : Path
        The ``.h5`` file.

    Attributes
    ----------
    ids : ndarray of str, shape (N,)
    embedding : memmap, shape (N, D)
        Vectors in file order; rows whose status is not `ok` are NaN.
    status : ndarray of uint8, shape (N,)
    reasons : ndarray of str, shape (N,)
        Why a row is missing or failed; empty otherwise.
    dimensions : ndarray of str, shape (D,)
    provenance : dict
        ``recipe``, ``recipe_fingerprint``, ``versions`` (of libraries, one entry for each that rows were made
        with) and, for vectors made elsewhere, ``imported_from`` and ``source_sha256``.

    Raises
    ------
    MixedSignalsError
        If the file is not a feature set.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with h5py.File(path, "r", locking=False) as file:
                if file.attrs.get("format") != FORMAT:
                    raise MixedSignalsError(f"{path}: not a feature set of format {FORMAT}")
                matrix = file["embedding"]
                self.shape: tuple[int, int] = matrix.shape
                self.dtype = matrix.dtype
                self._offset = matrix.id.get_offset()
                self.ids = _text(file["utterance_id"])
                self.dimensions = _text(file["dimension"])
                self.status: np.ndarray = file["status"][:]
                self.reasons = _text(file["reason"])
                self.row_hashes = _text(file["row_hash"])
                self.provenance: dict[str, Any] = json.loads(file["provenance"][:].tobytes())
        except (OSError, KeyError, AttributeError, ValueError) as error:
            raise MixedSignalsError(
                f"{path}: not readable as a feature set ({error}); remove it and make it again"
            ) from error
        n, d = self.shape
        lengths = (len(self.ids), len(self.status), len(self.reasons), len(self.row_hashes))
        if set(lengths) != {n} or len(self.dimensions) != d or len(set(self.ids)) != n:
            raise MixedSignalsError(f"{path}: shapes do not match, or an utterance id repeats")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {name}" for name, n in self.coverage.items() if n)
        return f"<FeatureSet {self.key}: {len(self):,} x {self.shape[1]:,} {self.dtype} ({counts})>"

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.name.removesuffix(".h5")

    @property
    def modality(self) -> str:
        """text, audio or video."""
        return str(self.provenance["recipe"]["modality"])

    @property
    def key(self) -> str:
        """The set's key in a store, ``<modality>/<name>``."""
        return f"{self.modality}/{self.name}"

    @cached_property
    def embedding(self) -> np.ndarray:
        """Vectors in file order, memory-mapped, shape (N, D)."""
        return np.memmap(self.path, dtype=self.dtype, mode="r", offset=self._offset, shape=self.shape)

    @property
    def ok(self) -> np.ndarray:
        """Which rows hold a vector, shape (N,), bool."""
        return self.status == Status.OK

    @property
    def coverage(self) -> dict[str, int]:
        """Number of rows by status."""
        counts = Counter(int(value) for value in self.status)
        return {status.name.lower(): counts[status] for status in Status}

    def gaps(self) -> list[tuple[Status, str, list[str]]]:
        """Return the rows without a vector as (status, reason, ids), those that share a reason together."""
        found: dict[tuple[Status, str], list[str]] = {}
        for row in np.flatnonzero(~self.ok):
            found.setdefault((Status(self.status[row]), self.reasons[row]), []).append(self.ids[row])
        return [(status, reason, ids) for (status, reason), ids in found.items()]

    @property
    def recipe_fingerprint(self) -> str:
        """Identifies how the vectors are made."""
        return str(self.provenance["recipe_fingerprint"])

    @cached_property
    def content_fingerprint(self) -> str:
        """Identifies how the vectors are made, of what, and which of them are there."""
        rows = sorted(zip(self.ids, self.row_hashes, self.status.tolist(), strict=True))
        return fingerprint([self.recipe_fingerprint, rows])


@dataclass(frozen=True)
class Plan:
    """Which rows of a feature set have to be made, and why.

    Attributes
    ----------
    rows : ndarray of int
        Positions in the corpus, ascending.
    reasons : dict of str to int
        How many rows for each reason, e.g. ``{"audio changed": 12}``.
    keep : ndarray of int, shape (N,)
        For each corpus row the row of the present file that stays valid, or -1.
    current : bool
        Whether the present file already has these ids and row hashes in this order.
    """

    rows: np.ndarray
    reasons: dict[str, int]
    keep: np.ndarray
    current: bool


def plan_rows(
    existing: FeatureSet | None,
    recipe: Recipe,
    ids: Sequence[str],
    row_hashes: Sequence[str],
    *,
    retry_failed: bool = False,
) -> Plan:
    """Compare a feature set with what is asked for; nothing is written.

    Parameters
    ----------
    existing : FeatureSet or None
        What is on disk.
    recipe : Recipe
        How the vectors are to be made.
    ids, row_hashes : sequences of str, length N
        The corpus's utterances, and what each vector is made of.
    retry_failed : bool
        Whether rows that failed are tried again though their media did not change.

    Raises
    ------
    UsageError
        If the file on disk was made by another recipe.
    """
    n = len(ids)
    if existing is None:
        return Plan(np.arange(n), {"new": n} if n else {}, np.full(n, -1), current=False)
    if existing.recipe_fingerprint != recipe.fingerprint:
        raise UsageError(
            f"{existing.path}: made by another recipe ({_recipe_difference(existing, recipe)}); "
            "remove the file to make it again"
        )
    position = {utterance: row for row, utterance in enumerate(existing.ids)}
    keep = np.full(n, -1)
    why: Counter[str] = Counter()
    for row, (utterance, made_of) in enumerate(zip(ids, row_hashes, strict=True)):
        old = position.get(utterance)
        if old is None:
            why["new"] += 1
        elif existing.row_hashes[old] != made_of:
            why[f"{recipe.modality} changed"] += 1
        elif existing.status[old] == Status.PENDING:
            why["not yet done"] += 1
        elif existing.status[old] == Status.FAILED and retry_failed:
            why["failed before"] += 1
        else:
            keep[row] = old
    current = np.array_equal(existing.ids, np.asarray(ids, dtype=object)) and np.array_equal(
        existing.row_hashes, np.asarray(row_hashes, dtype=object)
    )
    return Plan(np.flatnonzero(keep < 0), dict(why), keep, current)


class FeatureWriter:
    """Write the planned rows of a feature set; a context manager that holds the set's lock.

    Parameters
    ----------
    path : Path
        The ``.h5`` file; made if absent, brought in line with the plan otherwise.
    plan : Plan
        From `plan_rows`, made for this file.
    recipe : Recipe
        How the vectors are made.
    ids, row_hashes : sequences of str, length N
        As given to `plan_rows`.
    dimensions : sequence of str, length D
        Names of the columns.
    versions : mapping of str to str, optional
        Versions of the libraries in use.
    source : mapping, optional
        Where vectors made elsewhere come from, for the provenance.

    Raises
    ------
    MixedSignalsError
        If another process writes this feature set.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        recipe: Recipe,
        ids: Sequence[str],
        row_hashes: Sequence[str],
        dimensions: Sequence[str],
        versions: Mapping[str, str] | None = None,
        source: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self._plan = plan
        self._recipe = recipe
        self._ids = ids
        self._row_hashes = row_hashes
        self._dimensions = dimensions
        self._versions = dict(versions or {})
        self._source = dict(source or {})
        self._lock = filelock.FileLock(str(path.with_name(f".{path.name}.lock")))

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise MixedSignalsError(f"{self.path}: another process is writing this feature set") from None
        try:
            if not self._plan.current or self._versions not in FeatureSet(self.path).provenance["versions"]:
                self._make_file()
            self._file = h5py.File(self.path, "r+", locking=False)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:
            self._lock.release()

    def write(
        self,
        rows: Sequence[int] | np.ndarray,
        vectors: np.ndarray,
        status: Sequence[int] | np.ndarray,
        reasons: Sequence[str],
    ) -> None:
        """Write one batch and flush it: vectors and reasons first, then the status that makes them count.

        Parameters
        ----------
        rows : sequence of int, length B
            Corpus positions.
        vectors : ndarray, shape (B, D)
            Ignored (NaN is kept) where the status is not `ok`. A vector with a value that is not finite
            makes its row `failed`.
        status : sequence of Status, length B
        reasons : sequence of str, length B
        """
        rows = np.asarray(rows)
        status = np.array(status, dtype=np.uint8)
        vectors = np.array(vectors, dtype=self._file["embedding"].dtype)
        reasons = list(reasons)
        for bad in np.flatnonzero((status == Status.OK) & ~np.isfinite(vectors).all(axis=1)):
            status[bad] = Status.FAILED
            reasons[bad] = "the encoder gave a value that is not finite"
        vectors[status != Status.OK] = np.nan
        order = np.argsort(rows)
        runs = np.split(order, np.flatnonzero(np.diff(rows[order]) != 1) + 1)
        reason_bytes = _fixed(reasons, _REASON_BYTES)
        for name, values in (("embedding", vectors), ("reason", reason_bytes)):
            for run in runs:
                self._file[name][rows[run[0]] : rows[run[-1]] + 1] = values[run]
        self._file.flush()
        for run in runs:
            self._file["status"][rows[run[0]] : rows[run[-1]] + 1] = status[run]
        self._file.flush()

    def _make_file(self) -> None:
        n, d = len(self._ids), len(self._dimensions)
        kept = self._plan.keep >= 0
        old = FeatureSet(self.path) if kept.any() else None
        before = old.provenance["versions"] if old is not None else []
        provenance = {
            "recipe": asdict(self._recipe),
            "recipe_fingerprint": self._recipe.fingerprint,
            "versions": before if self._versions in before else [*before, self._versions],
            **self._source,
        }
        status = np.zeros(n, np.uint8)
        reasons = _fixed([""] * n, _REASON_BYTES)
        if old is not None:
            status[kept] = old.status[self._plan.keep[kept]]
            reasons[kept] = _fixed(old.reasons[self._plan.keep[kept]], _REASON_BYTES)
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        with replacing(self.path) as temporary, h5py.File(temporary, "w", locking=False) as file:
            file.attrs["format"] = FORMAT
            matrix = file.create_dataset(
                "embedding", (n, d), np.float32, fillvalue=np.float32(np.nan), dcpl=early
            )
            if old is not None:
                for row in np.flatnonzero(kept):
                    matrix[row] = old.embedding[self._plan.keep[row]]
            file["utterance_id"] = _fixed(self._ids)
            file["row_hash"] = _fixed(self._row_hashes)
            file["dimension"] = _fixed(self._dimensions)
            file["status"] = status
            file["reason"] = reasons
            file["provenance"] = np.frombuffer(json.dumps(provenance, ensure_ascii=False).encode(), np.uint8)


def _fixed(texts: Sequence[str] | np.ndarray, width: int | None = None) -> np.ndarray:
    """Return UTF-8 bytes of one fixed width (cut at whole characters), which no reader has to unpickle."""
    encoded = [text.encode() for text in texts]
    if width is not None:
        encoded = [text[:width].decode(errors="ignore").encode() for text in encoded]
    widest = width or max(map(len, encoded), default=0)
    return np.array(encoded, dtype=f"S{max(widest, 1)}")


def _text(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.dtype.kind != "S":
        raise ValueError(f"{dataset.name} is not fixed-length text")
    return np.array([value.decode() for value in dataset[:]], dtype=object)


def _recipe_difference(existing: FeatureSet, recipe: Recipe) -> str:
    old, new = existing.provenance["recipe"], asdict(recipe)
    differences = [
        f"{key}: {old.get(key)!r} there, {value!r} now" for key, value in new.items() if old.get(key) != value
    ]
    return "; ".join(differences)
