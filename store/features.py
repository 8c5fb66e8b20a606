"""Feature sets, read: one encoder's vectors for a corpus, a row per utterance.

Nothing but the list of blocks is read when a feature set is opened; the rest is mapped, and read where it is used. What
was opened stays what it is: a writer that puts a new file in the place of the old one does not touch it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.job_log import read_jobs
from mixed_signals.store.layout import read_blocks, seal, sealed_blocks
from mixed_signals.store.pieces import Pieces
from mixed_signals.store.provenance import Recipe, fingerprint

_BLOCK_BYTES = 1 << 19  # bytes copied at a time: they stay in the processor's cache
_MOST_THREADS = 4  # that copy at once: more do not help, memory is then the limit
_THREAD_BYTES = 1 << 26  # less is not worth a second thread


class Status(IntEnum):
    """State of one row of a feature set; what is not `OK` reads as NaN."""

    PENDING = 0
    OK = 1
    MISSING = 2
    FAILED = 3


class Maker(NamedTuple):
    """An encoder that made rows of a feature set.

    Attributes
    ----------
    weights : str
        Hash of its weights.
    trained_on : frozenset of str
        The utterances that it was trained on.
    rows : frozenset of str, or None
        The utterances whose vectors it made; None for all.
    """

    weights: str
    trained_on: frozenset[str]
    rows: frozenset[str] | None


class FeatureSet:
    """One encoder's vectors for a corpus, read from a file.

    Parameters
    ----------
    path : Path
        The ``.h5`` file.

    Attributes
    ----------
    shape : (int, int)
        N utterances, D dimensions.
    dtype : dtype
        float32 or float16, as stored; `read` gives float32.
    stored : ndarray or Pieces, shape (N, D)
        The matrix as it is in the file, memory-mapped and read-only; rows that are pending may hold anything. Of a set
        that lies in several files (`mixed_signals.store.merging`) a part of it is read where it is indexed.
    status : ndarray of uint8, shape (N,)
        As it was when the file was opened.
    checksums : ndarray of uint64, shape (N,)
        XXH3 of each vector's bytes, where the status is `ok`.
    batches : ndarray of int32, shape (N,)
        Which batch each row was planned in.
    buffer : memoryview
        The file's bytes.

    Raises
    ------
    MixedSignalsError
        If the file is not a feature set, or could lead out of itself (links, external or virtual data, objects).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as handle:
                self.blocks = read_blocks(handle, path)
                self.buffer = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise MixedSignalsError(f"{path}: not readable ({error})") from error
        self.shape: tuple[int, int] = self.blocks["embedding"].shape  # type: ignore[assignment]
        self.dtype = self.blocks["embedding"].dtype
        self.checksums = self._array("checksum")
        self.stored = self._matrix()
        self.batches = self._array("batch")
        self.status = self._array("status").copy()
        if self.status.max() > max(Status):
            raise MixedSignalsError(f"{path}: refused as a feature set: a status of {self.status.max()}")

    def _matrix(self) -> np.ndarray | Pieces:
        if "pieces" not in self.blocks:
            return self._array("embedding")
        described = self._array("pieces").tobytes()
        return Pieces.read(self.path, described, self.shape[1], self.dtype, self.checksums)

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (self.path, self._array("seal").tobytes(), self.status)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {name}" for name, n in self.coverage.items() if n)
        where = f", virtual over {len(self.files) - 1:,} files" if self.virtual else ""
        return f"<FeatureSet {self.key}: {len(self):,} x {self.shape[1]:,} {self.dtype} ({counts}){where}>"

    @property
    def virtual(self) -> bool:
        """Whether the vectors lie in other files, the shards that the set was made of."""
        return isinstance(self.stored, Pieces)

    @property
    def files(self) -> list[Path]:
        """The file, and those that the vectors lie in where these are others."""
        return [self.path, *(self.stored.files if isinstance(self.stored, Pieces) else [])]

    def check_files(self) -> None:
        """See that the files that the vectors lie in are there, and are those that the set was made of.

        Raises
        ------
        MixedSignalsError
            It names the file.
        """
        if isinstance(self.stored, Pieces):
            self.stored.check()

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.name.removesuffix(".h5")

    @property
    def modality(self) -> str:
        """text, audio or video."""
        return self.recipe.modality

    @property
    def key(self) -> str:
        """The set's key in a store, ``<modality>/<name>``."""
        return f"{self.modality}/{self.name}"

    @cached_property
    def embedding(self) -> np.ndarray:
        """Vectors in file order, shape (N, D); rows whose status is not `ok` are NaN.

        Memory-mapped and read-only, unless rows are pending or lie in several files: then it is a copy.
        """
        pending, stored = self.status == Status.PENDING, np.asarray(self.stored)
        if not pending.any():
            return stored
        return np.where(pending[:, None], np.array(np.nan, self.dtype), stored)

    @cached_property
    def ids(self) -> np.ndarray:
        """Utterance ids, shape (N,), as Python strings.

        Raises
        ------
        MixedSignalsError
            If an id repeats.
        """
        ids = self._texts("utterance_id")
        if len(set(ids)) != len(ids):
            raise MixedSignalsError(f"{self.path}: refused as a feature set: an utterance id repeats")
        return ids

    @property
    def id_bytes(self) -> np.ndarray:
        """Utterance ids as they are stored, shape (N,), UTF-8 of one fixed width."""
        return self._array("utterance_id")

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return where each of these ids stands, -1 for nowhere.

        Parameters
        ----------
        ids : ndarray of bytes, shape (N,)
            As `id_bytes` has them.

        Raises
        ------
        MixedSignalsError
            If an id repeats in the file.
        """
        mine = self.id_bytes
        if np.array_equal(mine, ids):
            return np.arange(len(ids))
        order = np.argsort(mine)
        if (mine[order[1:]] == mine[order[:-1]]).any():
            raise MixedSignalsError(f"{self.path}: refused as a feature set: an utterance id repeats")
        at = order.take(np.searchsorted(mine, ids, sorter=order), mode="clip")
        return np.where(mine[at] == ids, at, -1)

    @property
    def row_hash_bytes(self) -> np.ndarray:
        """What each row was made of, as stored, shape (N,), bytes."""
        return self._array("row_hash")

    @cached_property
    def row_hashes(self) -> np.ndarray:
        """What each row was made of, as a hash, shape (N,), as Python strings."""
        return self._texts("row_hash")

    @property
    def entry_hash_bytes(self) -> np.ndarray:
        """What the corpus said of each row when it was made, shape (N,), bytes; empty where it is not known.

        Of text its hash, of media which part of which entry: what can be compared without reading media.
        """
        return self._array("entry_hash")

    @cached_property
    def reasons(self) -> np.ndarray:
        """Why a row is missing or failed, shape (N,), as Python strings; empty otherwise."""
        return self._texts("reason")

    @cached_property
    def dimensions(self) -> np.ndarray:
        """Names of the dimensions, shape (D,), as Python strings."""
        return self._texts("dimension")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What the file says of where its vectors come from.

        ``recipe``; ``versions`` of libraries, one entry for each that rows were made with; ``trained_on``, the ids that
        the encoder's weights were trained on; where several encoders made the rows, ``made_by`` (see `makers`), and
        ``aligned`` where these were brought into one frame; for vectors made elsewhere ``imported_from`` and
        ``source_sha256``.
        """
        try:
            said = json.loads(self._array("provenance").tobytes())
            versions, trained_on = said["versions"], said["trained_on"]
            if (
                isinstance(said["recipe"], dict)
                and all(isinstance(text, str) for one in versions for item in one.items() for text in item)
                and all(isinstance(utterance, str) for utterance in trained_on)
            ):
                json.dumps(said, ensure_ascii=False).encode()  # no halves of characters
                return dict(said)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise MixedSignalsError(f"{self.path}: refused as a feature set: its provenance is not readable")

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """What the jobs that filled the file said of themselves (`FeatureWriter.note`), newest last.

        There is room for the last few only, and none is there where nothing was said or the log is not readable.
        """
        return read_jobs(self._array("log"))

    def is_sealed(self) -> bool:
        """Whether ids, row hashes, dimensions and provenance are, byte for byte, what was written."""
        sealed = seal({name: self._array(name) for name in sealed_blocks(self.blocks)})
        return bool((sealed == self._array("seal")).all())

    @cached_property
    def recipe(self) -> Recipe:
        """How the vectors were made."""
        try:
            return Recipe(**self.provenance["recipe"])
        except (TypeError, UsageError) as error:
            raise MixedSignalsError(
                f"{self.path}: refused as a feature set: its recipe is not readable ({error})"
            ) from error

    @property
    def imported(self) -> bool:
        """Whether the vectors were made elsewhere."""
        return "imported_from" in self.provenance

    @property
    def cross_fitted(self) -> bool:
        """Whether these are the vectors of one fold (`mixed_signals.store.cross_fits`)."""
        return "cross_fitted" in self.provenance

    @property
    def command(self) -> str:
        """The command that makes such a set, and brings it up to date."""
        return "finetune-encoders" if self.cross_fitted else "extract-features"

    @property
    def aligned(self) -> bool:
        """Whether vectors of several encoders were brought into one frame, which is experimental."""
        return "aligned" in self.provenance

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Ids of the utterances that the encoder's weights were trained on."""
        return tuple(self.provenance["trained_on"])

    @cached_property
    def makers(self) -> tuple[Maker, ...]:
        """The encoders whose vectors these are; one, unless the provenance says ``made_by``."""
        said = self.provenance.get("made_by")
        if said is None:
            return (Maker(self.recipe.weights, frozenset(self.trained_on), None),)
        try:
            return tuple(Maker(m["weights"], frozenset(m["trained_on"]), frozenset(m["rows"])) for m in said)
        except (TypeError, KeyError) as error:
            raise MixedSignalsError(
                f"{self.path}: refused as a feature set: which encoder made which row is not readable"
            ) from error

    def trained_for(self, ids: Collection[str]) -> frozenset[str]:
        """Return the utterances that trained an encoder which made any vector of these ones.

        Parameters
        ----------
        ids : collection of str
        """
        wanted = set(ids)
        makers = (m.trained_on for m in self.makers if m.rows is None or not wanted.isdisjoint(m.rows))
        return frozenset().union(*makers)

    def says(self, trained_on: Sequence[str], source: Mapping[str, Any]) -> bool:
        """Return whether the provenance says this, and no more, of what trained encoders and where vectors are from.

        Parameters
        ----------
        trained_on : sequence of str
        source : mapping
            As `FeatureWriter` takes them.
        """
        there = {key: value for key, value in self.provenance.items() if key not in ("recipe", "versions")}
        asked = json.loads(json.dumps({**source, "trained_on": sorted(trained_on)}))
        return bool({**there, "trained_on": sorted(there["trained_on"])} == asked)

    @property
    def ok(self) -> np.ndarray:
        """Which rows hold a vector, shape (N,), bool."""
        return self.status == Status.OK

    @property
    def coverage(self) -> dict[str, int]:
        """Number of rows by status."""
        counts = np.bincount(self.status, minlength=len(Status))
        return {status.name.lower(): int(counts[status]) for status in Status}

    def gaps(self) -> list[tuple[Status, str, list[str]]]:
        """Return the rows without a vector as (status, reason, ids), those that share a reason together."""
        found: dict[tuple[Status, str], list[str]] = {}
        for row in np.flatnonzero(~self.ok):
            found.setdefault((Status(self.status[row]), self.reasons[row]), []).append(self.ids[row])
        return [(status, reason, ids) for (status, reason), ids in found.items()]

    @property
    def recipe_fingerprint(self) -> str:
        """Identifies how the vectors are made."""
        return self.recipe.fingerprint

    @cached_property
    def content_fingerprint(self) -> str:
        """Identifies how the vectors are made, of what, and which of them are there."""
        order = np.argsort(self.id_bytes, kind="stable")
        parts = (self.id_bytes, self.row_hash_bytes, self.status)
        digests = [hashlib.sha256(part[order].tobytes()).hexdigest() for part in parts]
        return fingerprint([self.recipe_fingerprint, *digests])

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy vectors into an array.

        Parameters
        ----------
        rows : ndarray of int, shape (B,)
            Positions in the file; -1, and a row whose status is not `ok`, give NaN.
        out : ndarray of float32, shape (B, D)
            Where they go; any strides.
        """
        read_side_by_side([(self, np.where(self.ok[rows], rows, -1), out)])

    def _array(self, name: str) -> np.ndarray:
        return self.blocks[name].array(self.buffer)

    def _texts(self, name: str) -> np.ndarray:
        try:
            texts = [value.decode() for value in self._array(name).tolist()]
        except UnicodeDecodeError as error:
            raise MixedSignalsError(f"{self.path}: refused as a feature set: {name} is not UTF-8") from error
        return np.array(texts, dtype=object)


def _opened_again(path: Path, sealed: bytes, status: np.ndarray) -> FeatureSet:
    """Open the file of a set that was handed to another process; refuse it if its rows may stand elsewhere now."""
    features = FeatureSet(path)
    if features._array("seal").tobytes() != sealed:
        raise MixedSignalsError(f"{path}: was made anew since it was opened; open the store again")
    features.status = status
    return features


def read_side_by_side(parts: Sequence[tuple[FeatureSet, np.ndarray, np.ndarray]]) -> None:
    """Copy vectors of several feature sets into arrays, all of them a few rows at a time.

    Filling one wide matrix in the order of its memory costs what reading plain files costs; filling one block of its
    columns after the other costs half as much again.

    Parameters
    ----------
    parts : sequence of (FeatureSet, rows, out)
        As in `FeatureSet.read`, all of one length; the rows are `ok` or -1.
    """
    steps = []
    for features, rows, out in parts:
        if isinstance(features.stored, Pieces):
            features.stored.read_rows(rows, out)
        else:
            in_order = len(rows) > 0 and rows[0] >= 0 and bool((np.diff(rows) == 1).all())
            steps.append((features.stored, rows, out, in_order))
    if not steps:
        return
    row_bytes = sum(out.shape[1] * out.itemsize for _, _, out, _ in steps)
    n, step = len(parts[0][1]), max(1, _BLOCK_BYTES // row_bytes)

    def copy(first: int, stop: int) -> None:
        for begin in range(first, stop, step):
            end = min(begin + step, stop)
            for matrix, rows, out, in_file_order in steps:
                part, target = rows[begin:end], out[begin:end]
                if in_file_order:
                    target[:] = matrix[part[0] : part[-1] + 1]
                else:
                    target[:] = matrix[part]
                    target[part < 0] = np.nan

    threads = min(_MOST_THREADS, os.cpu_count() or 1, 1 + n * row_bytes // _THREAD_BYTES)
    bounds = np.linspace(0, n, threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(copy, bounds[:-1], bounds[1:]))
