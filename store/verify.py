"""Are the files of a store what was written? Every byte that has a checksum is read again.

Vectors are held against the checksum of their row, the ids and provenance of a feature set against its seal, tables
against the SHA-256 in ``corpus.json``; the files of runs are read to their end. What is wrong is told apart from what
is merely not done: rows that are `pending` may hold half a vector, which nobody reads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mixed_signals.store.blocks import row_blocks
from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.features import FeatureSet, Status
from mixed_signals.store.files import read_json, read_parquet
from mixed_signals.store.folder import ShardFile, Store
from mixed_signals.store.pieces import Pieces
from mixed_signals.store.provenance import file_hash
from mixed_signals.store.writing import row_checksums

_TABLES = ("utterances.parquet", "ratings.parquet")
_RUN_FILES = ("run.json", "predictions.parquet", "gates.parquet", "metrics.json")
_IMPORT_AGAIN = "put a copy back, or import the corpus again with mixed-signals corpus import --replace"
_SHOWN_SHARDS = 20
_MAKE_AGAIN = "remove it, then extract or import it again"
_MERGE_AGAIN = "see to its shards, then run mixed-signals store merge --virtual again"
_FIT_AGAIN = "remove the run's folder, then fit it again under the same name"


@dataclass(frozen=True)
class CheckedFile:
    """One file of a store, or one folder of a run's small files, read again.

    Attributes
    ----------
    path : str
        Below the store, with ``/``.
    what : str
        What is wrong; empty where nothing is.
    mend : str
        What to do about it; empty where nothing is wrong.
    rows : tuple of str
        Ids of the utterances whose vectors are corrupt.
    bytes : int
        How much was read.
    seconds : float
        How long that took.
    """

    path: str
    what: str
    mend: str
    rows: tuple[str, ...]
    bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.what


class Corrupt(MixedSignalsError):  # noqa: N818 - reads as what it says
    """A file is not what was written.

    Attributes
    ----------
    rows : tuple of str
        Ids of the utterances whose vectors are corrupt.
    """

    def __init__(self, what: str, rows: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.rows = tuple(rows)


def check_files(store: Store, on_progress: Callable[[int], None] | None = None) -> list[CheckedFile]:
    """Read every file of a store again.

    Parameters
    ----------
    store : Store
    on_progress : callable, optional
        Called with the number of rows of feature sets just read.

    Returns
    -------
    list of CheckedFile
        The corpus first, then the feature sets, then the runs.
    """
    return [*_corpus_files(store), *_feature_files(store, on_progress), *_run_files(store)]


def _corpus_files(store: Store) -> Iterator[CheckedFile]:
    described = store.path / "corpus.json"
    try:
        recorded = _recorded_checksums(own_file(store, described))
    except (MixedSignalsError, OSError, RecursionError):
        recorded = {}
    tables = []
    for name, checksum in recorded.items():
        table = store.path / name
        tables.append(_checked(store, table, partial(_check_table, table, checksum), _IMPORT_AGAIN))
    look = partial(_check_corpus, store, described, all(table.ok for table in tables))
    yield _checked(store, described, look, _IMPORT_AGAIN)
    yield from tables


def _feature_files(store: Store, on_progress: Callable[[int], None] | None) -> Iterator[CheckedFile]:
    for key in store.feature_sets():
        path = store.path / "features" / f"{key}.h5"
        mend = _MERGE_AGAIN if _is_virtual(store, path) else _MAKE_AGAIN
        yield _checked(store, path, partial(_check_set, store, key, on_progress), mend)
    for shards in store.shards().values():
        for shard in shards:
            look = partial(_check_shard, store, shard, on_progress)
            yield _checked(store, shard.path, look, f"remove it, then {run_again(shard)}")


def _run_files(store: Store) -> Iterator[CheckedFile]:
    for run in sorted((store.path / "runs").glob("[!.]*/")):
        entries = {*run.glob("[!.]*"), *(run / name for name in _RUN_FILES)} if _is_own(store, run) else {run}
        for entry in sorted(entries):
            if entry.is_dir() or entry.suffix in _READERS:
                yield _checked(store, entry, partial(_check_readable, store, entry), _FIT_AGAIN)


def _checked(store: Store, path: Path, look: Callable[[], object], mend: str) -> CheckedFile:
    began = time.perf_counter()
    what = ""
    rows: tuple[str, ...] = ()
    size = 0
    try:
        size = sum(file.stat().st_size for file in _files(store, path))
        look()
    except FileNotFoundError:
        what = "is not there"
    except (MixedSignalsError, OSError, RecursionError) as error:
        what = str(error).removeprefix(f"{path}: ").removeprefix(f"{store.path}: ")
        what = what.replace(f"{store.path}{os.sep}", "")
        rows = error.rows if isinstance(error, Corrupt) else ()
    return CheckedFile(
        path=path.relative_to(store.path).as_posix(),
        what=what,
        mend=mend if what else "",
        rows=rows,
        bytes=size,
        seconds=time.perf_counter() - began,
    )


def _recorded_checksums(described: Path) -> dict[str, str]:
    """Return the SHA-256 of each table of the corpus, as ``corpus.json`` has it."""
    content = read_json(described)
    recorded = content.get("tables") if isinstance(content, dict) else None
    if not isinstance(recorded, dict) or _TABLES[0] not in recorded:
        raise Corrupt("has no checksums of the corpus's tables")
    return {name: recorded[name] for name in _TABLES if name in recorded}


def _check_corpus(store: Store, described: Path, tables_ok: bool) -> None:
    """Read the corpus as every command does, unless it is a table that is at fault."""
    _recorded_checksums(described)
    if tables_ok:
        _ = Store(store.path, store.media_root).corpus


def _check_table(path: Path, checksum: str) -> None:
    if file_hash(path) != checksum:
        raise Corrupt("its bytes are not those that were written")


def _check_set(store: Store, key: str, on_progress: Callable[[int], None] | None) -> None:
    features = store[key]
    if isinstance(features.stored, Pieces):  # the vectors are read as those of its shards
        features.stored.check_checksums()
        _check_seal(features)
        return
    check_vectors(features, on_progress)


def _is_virtual(store: Store, path: Path) -> bool:
    try:
        return FeatureSet(own_file(store, path)).virtual
    except (MixedSignalsError, OSError):
        return False


def _check_shard(store: Store, shard: ShardFile, on_progress: Callable[[int], None] | None) -> None:
    check_vectors(FeatureSet(own_file(store, shard.path)), on_progress)


def check_vectors(features: FeatureSet, on_progress: Callable[[int], None] | None = None) -> None:
    """Hold a file's head and every vector against their checksums, and see that missing and failed rows are NaN.

    Parameters
    ----------
    features : FeatureSet
    on_progress : callable, optional
        Called with the number of rows just read.

    Raises
    ------
    Corrupt
        If something is not what was written; it names the rows.
    """
    _check_seal(features)
    corrupt: list[np.ndarray] = []
    for start, block in row_blocks(features):
        rows = slice(start, start + len(block))
        status, checksums = features.status[rows], features.checksums[rows]
        ok = status == Status.OK
        wrong = ok & (row_checksums(block) != checksums)
        empty = (status == Status.MISSING) | (status == Status.FAILED)
        wrong[empty] = ~np.isnan(block[empty]).all(axis=1)
        corrupt.append(start + np.flatnonzero(wrong))
        if on_progress is not None:
            on_progress(len(block))
    found = features.ids[np.concatenate(corrupt)]
    if len(found):
        raise Corrupt(f"{len(found):,} of {len(features):,} rows are not what was written", found)


def _check_seal(features: FeatureSet) -> None:
    if not features.is_sealed():
        raise Corrupt("its ids, row hashes or provenance are not what was written")


def _check_readable(store: Store, path: Path) -> None:
    for file in _files(store, path):
        _READERS[file.suffix](file)


def run_again(*shards: ShardFile) -> str:
    """Say how shards are made again, on a Ray cluster or one by one: only what is not there is made."""
    first, *others = list_shards(shards).split(", ", 1)
    and_others = f" (and {others[0]})" if others else ""
    return f"run extract-features again with --ray, or with --shard {first}{and_others}"


def list_shards(shards: Sequence[ShardFile]) -> str:
    """Return the first shards as ``1/4, 3/4``."""
    more = ", ..." if len(shards) > _SHOWN_SHARDS else ""
    return ", ".join(map(str, shards[:_SHOWN_SHARDS])) + more


def own_file(store: Store, path: Path) -> Path:
    """Return the path of a file of a store, if it can be read to its end.

    Raises
    ------
    MixedSignalsError
        If a link leads out of the store, or it is a pipe or a device.
    FileNotFoundError
        If it is not there.
    """
    own = store.inside(*path.relative_to(store.path).parts)
    if not own.exists():
        raise FileNotFoundError(f"{path}: is not there")
    if not own.is_file():
        raise MixedSignalsError(f"{path}: refused: no ordinary file; remove it")
    return own


def _is_own(store: Store, folder: Path) -> bool:
    try:
        return store.inside(*folder.relative_to(store.path).parts).is_dir()
    except MixedSignalsError:
        return False


def _files(store: Store, path: Path) -> list[Path]:
    """Return the file, or the files of a folder that can be read again."""
    if _is_own(store, path):
        return [own_file(store, file) for file in sorted(path.rglob("*")) if file.suffix in _READERS]
    return [own_file(store, path)]


def _read_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise MixedSignalsError(f"{path}: not readable as safetensors ({error})") from error


_READERS: dict[str, Callable[[Path], object]] = {
    ".json": read_json,
    ".parquet": read_parquet,
    ".safetensors": _read_safetensors,
}
