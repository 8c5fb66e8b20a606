"""Feature sets for elsewhere: ``.npz``, ``.parquet`` and ``.h5ad`` (AnnData)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.store.cells import texts
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.exchange.matrices import one_line
from mixed_signals.store.features import FeatureSet, Status
from mixed_signals.store.files import plain, replacing
from mixed_signals.store.folder import Store
from mixed_signals.store.views import Views, positions

ENDINGS = (".npz", ".parquet", ".h5ad")
_NO_NAMES = ("", ".", "_index")  # of an AnnData column


def export_features(store: Store, key: str, path: str | Path, *, replace: bool = False) -> Path:
    """Write one feature set, with every row it has, to a file of its own.

    Parameters
    ----------
    store : Store
    key : str
        ``<modality>/<name>``.
    path : path
        ``.npz``: `utterance_id` (N,) text, `embedding` (N, D) float32, `dimension` (D,), `status` (N,), `reason`
        (N,) and `provenance`, JSON. ``.parquet``: `utterance_id`, a float32 column a dimension, `status`; the
        provenance in its ``attrs``.
        ``.h5ad``: `X` float32, `obs` the utterances' columns with `vector_status` and `vector_reason`, `var` the
        dimensions, `uns` the provenance as JSON by modality. A row without a vector is NaN in all of them.
    replace : bool
        Whether a file that is there is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        If there is no such feature set, the ending is another, or the file is there already.
    MixedSignalsError
        If the set has utterances, texts or cuts that the corpus does not have now, ``.h5ad`` is asked for and AnnData
        is not installed, or the file cannot be written (a full disk, or a name
        that its kind of file cannot hold).
    """
    features = store[key]
    positions(store.corpus, features)
    utterances = store.corpus.utterances.set_index("utterance_id").reindex(features.ids).reset_index()
    words = np.array([status.name.lower() for status in Status], dtype=object)
    X = np.empty(features.shape, np.float32)
    features.read(np.arange(len(features)), X)
    return _write(
        _Table(
            utterances,
            X,
            _dimension_table(features, features.dimensions),
            words[features.status],
            features.reasons,
            {features.modality: features.provenance},
        ),
        Path(path),
        replace,
    )


def export_views(views: Views, path: str | Path, *, replace: bool = False) -> Path:
    """Write several feature sets, joined, to one file: their vectors side by side.

    Parameters
    ----------
    views : Views
    path : path
        As for `export_features`; dimensions are called ``<modality>:<dimension>``. A row that lacks a modality is
        NaN there, its `status` is ``missing`` and its `reason` says which.
    replace : bool
        Whether a file that is there is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        If the ending is another, or the file is there already.
    MixedSignalsError
        As for `export_features`.
    """
    reasons = np.full(len(views), "", dtype=object)
    for here, modality in zip(views.present.T, views.modalities, strict=True):
        reasons[~here] += np.where(reasons[~here] == "", f"without {modality}", f", {modality}").astype(
            object
        )
    dimensions = [
        _dimension_table(features, [f"{modality}:{name}" for name in features.dimensions])
        for modality, features in views.sources.items()
    ]
    return _write(
        _Table(
            views.utterances,
            views.X,
            pd.concat(dimensions),
            np.where(views.present.all(axis=1), "ok", "missing").astype(object),
            reasons,
            {modality: features.provenance for modality, features in views.sources.items()},
        ),
        Path(path),
        replace,
    )


@dataclass(frozen=True)
class _Table:
    """What is written: a row an utterance.

    Attributes
    ----------
    utterances : DataFrame, N rows
        The corpus's columns.
    X : ndarray of float32, shape (N, D)
    dimensions : DataFrame, D rows
        Indexed by name; the columns say which modality, feature set and dimension of it each is.
    status, reasons : ndarray of str, shape (N,)
    provenance : dict
        Of each modality.
    """

    utterances: pd.DataFrame
    X: np.ndarray
    dimensions: pd.DataFrame
    status: np.ndarray
    reasons: np.ndarray
    provenance: dict[str, dict[str, Any]]


def _dimension_table(features: FeatureSet, names: Any) -> pd.DataFrame:
    columns = {
        "modality": features.modality,
        "feature_set": features.name,
        "dimension": features.dimensions,
    }
    return pd.DataFrame(columns, index=pd.Index(names))


def _write(table: _Table, path: Path, replace: bool) -> Path:
    writers = dict(zip(ENDINGS, (_write_npz, _write_parquet, _write_h5ad), strict=True))
    ending = path.suffix.lower()
    if ending not in writers:
        raise UsageError(f"{path}: written are {', '.join(writers)}, not {ending or 'a bare name'}")
    if path.exists() and not replace:
        raise UsageError(f"{path}: is there already; choose another name, or replace it with --replace")
    try:
        with replacing(path) as temporary:
            writers[ending](table, temporary)
    except MixedSignalsError:
        raise
    except Exception as error:  # pyarrow, HDF5 and AnnData raise nearly anything
        said = one_line(str(error)) or type(error).__name__
        raise MixedSignalsError(f"{path}: not written ({said})") from error
    return path


def _as_json(provenance: dict[str, Any]) -> str:
    return json.dumps(plain(provenance), ensure_ascii=False, allow_nan=False)


def _write_npz(table: _Table, path: Path) -> None:
    with path.open("wb") as handle:
        np.savez(
            handle,
            utterance_id=table.utterances["utterance_id"].to_numpy(dtype=str),
            embedding=table.X,
            dimension=table.dimensions.index.to_numpy(dtype=str),
            status=table.status.astype(str),
            reason=table.reasons.astype(str),
            provenance=np.array(_as_json(table.provenance)),
        )


def _write_parquet(table: _Table, path: Path) -> None:
    names = pd.Index(["utterance_id", *table.dimensions.index, "status"])
    twice = names[names.duplicated()]
    if len(twice):
        raise UsageError(f"two columns of a .parquet would be called {twice[0]!r}; export to .npz")
    columns = dict(zip(table.dimensions.index, table.X.T, strict=True))
    ids = table.utterances["utterance_id"]
    frame = pd.DataFrame({"utterance_id": ids, **columns, "status": table.status})
    frame.attrs["provenance"] = plain(table.provenance)
    frame.to_parquet(path, index=False)


def _write_h5ad(table: _Table, path: Path) -> None:
    try:
        import anndata
    except ModuleNotFoundError:
        raise MixedSignalsError(
            ".h5ad needs AnnData, which is not installed: pip install 'mixed-signals[anndata]'"
        ) from None
    written = anndata.AnnData(
        X=table.X,
        obs=_writable(
            table.utterances.set_index("utterance_id"),
            vector_status=table.status,
            vector_reason=table.reasons,
        ),
        var=_writable(table.dimensions),
        uns={"provenance": {name: _as_json(said) for name, said in table.provenance.items()}},
    )
    written.write_h5ad(path, convert_strings_to_categoricals=False)


def _writable(table: pd.DataFrame, **more: np.ndarray) -> pd.DataFrame:
    """Return a table and more columns of text as AnnData writes them.

    That is: numbers, and all else as Python strings, under names that are not taken and that it can hold.
    """
    columns: dict[str, pd.Series] = {}
    for name, column in table.items():
        base = str(name).replace("/", "_")
        base = f"column{base}" if base in _NO_NAMES else base
        names = chain([base], (f"{base}_{number}" for number in count(2)))
        free = next(name for name in names if name not in columns and name not in more)
        columns[free] = column if pd.api.types.is_numeric_dtype(column) else texts(column)
    columns |= {name: pd.Series(values, table.index, dtype=object) for name, values in more.items()}
    return pd.DataFrame(columns, index=table.index.astype(object))
