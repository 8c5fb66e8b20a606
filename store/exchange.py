"""Feature sets from elsewhere: a matrix with utterance ids, brought into a store by id."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.features import FeatureSet, FeatureWriter, Status, plan_rows
from mixed_signals.store.folder import Store
from mixed_signals.store.provenance import Recipe, file_hash, row_hash

_ENDINGS = (".npz", ".parquet", ".csv")


def import_features(
    store: Store, source: str | Path, modality: str, name: str, *, ignore_extra: bool = False
) -> FeatureSet:
    """Bring a matrix with ids into a store as a feature set.

    Parameters
    ----------
    store : Store
    source : path
        ``.npz`` with arrays ``utterance_id`` (N,) and ``embedding`` (N, D), and if wanted ``dimension``
        (D,); or ``.csv`` / ``.parquet`` with a column ``utterance_id`` and one column a dimension.
    modality, name : str
        Where the feature set goes: ``<modality>/<name>``.
    ignore_extra : bool
        Whether rows of utterances that the corpus does not have are left out rather than refused.

    Returns
    -------
    FeatureSet
        A row for every utterance of the corpus; those that the source lacks are `missing`, those with a
        value that is not finite are `failed`.

    Raises
    ------
    UsageError
        If the source has no ids, an id repeats or is not in the corpus, or the set is there already.
    """
    source = Path(source)
    if not source.is_file():
        raise UsageError(f"{source}: no such file")
    path = store.feature_path(modality, name)
    if path.exists():
        raise UsageError(f"{modality}/{name}: is in the store already; choose another name")
    ids, vectors, dimensions = _read(source)
    if not ids:
        raise UsageError(f"{source}: holds no rows")
    position = {utterance: row for row, utterance in enumerate(ids)}
    if len(position) != len(ids):
        raise UsageError(f"{source}: {len(ids) - len(position)} utterance ids come more than once")
    corpus_ids = list(store.corpus.ids)
    strangers = sorted(set(ids) - set(corpus_ids))
    if strangers and not (ignore_extra and len(strangers) < len(ids)):
        examples = ", ".join(strangers[:3])
        mend = "; --ignore-extra leaves them out" if len(strangers) < len(ids) else ""
        raise UsageError(
            f"{source}: {len(strangers)} of {len(ids)} ids are not in the corpus, e.g. {examples}{mend}"
        )
    recipe = Recipe(
        encoder=name, modality=modality, layer="", preprocessing={"imported_dimensions": dimensions}
    )
    made_of = [
        row_hash(vectors[position[utterance]].tobytes().hex())
        if utterance in position
        else row_hash("absent")
        for utterance in corpus_ids
    ]
    plan = plan_rows(None, recipe, corpus_ids, made_of)
    origin = {"imported_from": source.name, "source_sha256": file_hash(source)}
    with FeatureWriter(path, plan, recipe, corpus_ids, made_of, dimensions, source=origin) as writer:
        rows = np.array([position.get(utterance, -1) for utterance in corpus_ids])
        has_row = rows >= 0
        writer.write(
            np.arange(len(corpus_ids)),
            np.where(has_row[:, None], vectors[rows], np.nan),
            np.where(has_row, Status.OK, Status.MISSING),
            ["" if has else f"not in {source.name}" for has in has_row],
        )
    return FeatureSet(path)


def _read(source: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Return ids, float32 vectors (N, D) and dimension names."""
    if source.suffix not in _ENDINGS:
        raise UsageError(f"{source}: read are {', '.join(_ENDINGS)}, not {source.suffix or 'a bare name'}")
    try:
        if source.suffix == ".npz":
            return _read_npz(source)
        table = (
            pd.read_csv(source, converters={"utterance_id": str})
            if source.suffix == ".csv"
            else pd.read_parquet(source)
        )
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise MixedSignalsError(f"{source}: not readable ({error})") from error
    _need(source, "utterance_id", table.columns)
    values = table.drop(columns="utterance_id")
    texts = [str(column) for column in values.columns if not pd.api.types.is_numeric_dtype(values[column])]
    if texts or values.shape[1] == 0:
        raise UsageError(f"{source}: columns that are not numbers: {', '.join(texts) or 'there is no other'}")
    return (
        [str(value) for value in table["utterance_id"]],
        values.to_numpy(dtype=np.float32, na_value=np.nan),
        [str(column) for column in values.columns],
    )


def _read_npz(source: Path) -> tuple[list[str], np.ndarray, list[str]]:
    with np.load(source, allow_pickle=False) as arrays:
        for name in ("utterance_id", "embedding"):
            _need(source, name, arrays.files)
        ids = [str(value) for value in arrays["utterance_id"]]
        vectors = np.asarray(arrays["embedding"], dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(ids):
            raise UsageError(f"{source}: embedding is {vectors.shape}; expected ({len(ids)}, D), a row an id")
        if "dimension" in arrays.files:
            dimensions = [str(value) for value in arrays["dimension"]]
        else:
            dimensions = [f"{source.stem}_{i}" for i in range(vectors.shape[1])]
    if len(dimensions) != vectors.shape[1]:
        raise UsageError(f"{source}: {len(dimensions)} dimension names for {vectors.shape[1]} columns")
    return ids, vectors, dimensions


def _need(source: Path, name: str, has: object) -> None:
    names = [str(value) for value in has]  # type: ignore[attr-defined]
    if name not in names:
        raise UsageError(
            f"{source}: no {name!r} (it has: {', '.join(names)}); rows are joined by utterance id only"
        )
