"""Feature sets from elsewhere: a file of vectors with ids, brought into a store by id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mixed_signals.store.errors import UsageError
from mixed_signals.store.exchange.matrices import Matrix, Request, refuse_strangers
from mixed_signals.store.features import FeatureSet, Status
from mixed_signals.store.folder import Store
from mixed_signals.store.provenance import Recipe, file_hash, fingerprint
from mixed_signals.store.writing import FeatureWriter


class _Reader(NamedTuple):
    """Which module of this package reads a kind of file, by which function, and the flags that it takes."""

    module: str
    function: str
    flags: tuple[str, ...] = ()


# A new kind of file is one new module and one line here.
_READERS = {
    ".npz": _Reader("matrices", "read_npz", ("key",)),
    ".parquet": _Reader("matrices", "read_table"),
    ".h5ad": _Reader("anndata_file", "read_h5ad"),
    ".csv": _Reader("matrices", "read_table"),
    ".pkl": _Reader("mmsa", "read_pickle", ("key",)),
    ".csd": _Reader("csd", "read_sequence", ("key", "entry")),
    ".pt": _Reader("torch_file", "read_torch", ("key",)),
    ".pth": _Reader("torch_file", "read_torch", ("key",)),
}


def import_features(
    store: Store,
    source: str | Path,
    modality: str,
    name: str,
    *,
    ignore_extra: bool = False,
    key: str | None = None,
    entry: str | None = None,
) -> FeatureSet:
    """Bring vectors with ids into a store as a feature set.

    Parameters
    ----------
    store : Store
    source : path
        ``.npz`` with arrays ``utterance_id`` (N,) and ``embedding`` (N, D), and if wanted ``dimension``
        (D,); ``.csv`` or ``.parquet`` with a column ``utterance_id`` and one column a dimension; ``.h5ad`` (see
        `anndata_file`); ``.pt`` or ``.pth`` with tensors (see `torch_file`); ``.pkl`` as MMSA publishes CMU-MOSI,
        CMU-MOSEI and CH-SIMS (see `mmsa`); ``.csd`` of the CMU Multimodal SDK (see `csd`).
    modality, name : str
        Where the feature set goes: ``<modality>/<name>``.
    ignore_extra : bool
        Whether rows of utterances that the corpus does not have are left out rather than refused.
    key : str, optional
        What the file calls the vectors, where it is not the usual name.
    entry : str, optional
        For ``.csd``: the corpus column whose values name the file's entries, e.g. the video. Each utterance then
        gets the steps between its start and end.

    Returns
    -------
    FeatureSet
        A row for every utterance of the corpus; those that the source lacks are `missing`, those with a
        value that is not finite are `failed`.

    Raises
    ------
    UsageError
        If the source has no ids, an id repeats or is not in the corpus, or the set is there already.
    MixedSignalsError
        If the source is not readable, or holds more than data.
    """
    source = Path(source)
    path = store.feature_path(modality, name)
    if path.exists():
        raise UsageError(
            f"{modality}/{name}: is in the store already; choose another --name, or remove {path}"
        )
    matrix = _read(source, Request(store.corpus, modality, name, key, entry, ignore_extra))
    if not matrix.ids:
        raise UsageError(f"{source}: holds no rows")
    theirs = [utterance.strip() for utterance in matrix.ids]
    repeated = len(theirs) - len(set(theirs))
    if repeated:
        raise UsageError(f"{source}: {repeated} utterance ids come more than once; keep one row of each")
    ids = store.corpus.ids
    refuse_strangers(source, theirs, ids, ignore_extra, "ids")

    found = pd.Index(theirs).get_indexer(pd.Index(ids))
    has = found >= 0
    if matrix.missing is not None:
        has &= ~matrix.missing[found]
    vectors = np.where(has[:, None], matrix.vectors[found], np.float32(np.nan))
    status = np.select([~has, np.isfinite(vectors).all(axis=1)], [Status.MISSING, Status.OK], Status.FAILED)
    reasons = {
        Status.OK: "",
        Status.MISSING: f"not in {source.name}",
        Status.FAILED: f"a value that is not finite in {source.name}",
    }
    recipe = Recipe(
        encoder=name,
        modality=modality,
        layer="",
        dtype="",
        pooling=matrix.pooling,
        preprocessing={"dimensions": fingerprint(list(matrix.dimensions))},
    )
    made_of = [hashlib.sha256(vector.tobytes()).hexdigest()[:32] for vector in vectors]
    origin: dict[str, Any] = {"imported_from": source.name, "source_sha256": file_hash(source)}
    origin |= {flag: value for flag, value in (("key", key), ("entry", entry)) if value}
    origin |= {"aligned": matrix.aligned} if matrix.aligned else {}
    said = store.corpus.entry_hash_bytes(modality)
    with FeatureWriter(
        path,
        recipe,
        ids,
        made_of,
        matrix.dimensions,
        entry_hashes=said,
        trained_on=matrix.trained_on,
        source=origin,
    ) as writer:
        if "new" not in writer.plan.reasons:
            raise UsageError(f"{modality}/{name}: was put into the store meanwhile; choose another --name")
        try:
            writer.write(np.arange(len(ids)), vectors, status, [reasons[Status(value)] for value in status])
        except BaseException:  # an interruption too: the same call is then as new
            path.unlink()
            raise
    return FeatureSet(path)


def _read(source: Path, request: Request) -> Matrix:
    """Read a file by its ending."""
    if not source.is_file():
        raise UsageError(f"{source}: no such file")
    ending = source.suffix.lower()
    if ending not in _READERS:
        raise UsageError(f"{source}: read are {', '.join(_READERS)}, not {ending or 'a bare name'}")
    module, function, flags = _READERS[ending]
    for flag in ("key", "entry"):
        if getattr(request, flag) is not None and flag not in flags:
            raise UsageError(f"--{flag}: means nothing for {ending} files; leave it out")
    read: Callable[[Path, Request], Matrix] = getattr(
        import_module(f"mixed_signals.store.exchange.{module}"), function
    )
    return read(source, request)
