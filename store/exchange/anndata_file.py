"""AnnData files (``.h5ad``), as `export_features` writes them: `X`, the ids in `obs`, the dimensions in `var`.

::

    /X                       (N, D) numbers, dense
    /obs  /var               tables, whose attribute ``_index`` names the column of ids, and of dimensions
    /obs/vector_status       of each row, where it is there
    /uns/provenance/<modality>  JSON

Read with h5py: no AnnData needs to be installed, and nothing but plain numbers and text is taken.

Source: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.exchange.hdf5_file import inside, numbers, strings
from mixed_signals.store.exchange.matrices import (
    NO_VECTOR,
    Matrix,
    Request,
    as_matrix,
    as_texts,
    of_provenance,
    said_as_json,
    unreadable,
)


def read_h5ad(source: Path, request: Request) -> Matrix:
    """Read the matrix `X` with its ids and dimensions, and what the provenance says of the encoder.

    Raises
    ------
    UsageError
        If `X` is sparse, or something is not there or leads out of the file.
    MixedSignalsError
        If the file is not readable.
    """
    try:
        with h5py.File(source, "r", locking=False) as file:
            return _read(source, file)
    except MixedSignalsError:
        raise
    except Exception as error:  # damaged bytes make HDF5 raise nearly anything
        raise unreadable(source, error) from error


def _read(source: Path, file: h5py.File) -> Matrix:
    where = str(source)
    if isinstance(file.get("X"), h5py.Group):
        raise UsageError(f"{source}: X is sparse; write it dense (adata.X = adata.X.toarray())")
    vectors = as_matrix(numbers(file, "X", where), f"{source}: X")
    obs = inside(file, "obs", where)
    missing = None
    if "vector_status" in obs:
        missing = np.isin(strings(obs, "vector_status", where), NO_VECTOR)
    said = {}
    if "uns" in file and "provenance" in inside(file, "uns", where):
        provenance = inside(file["uns"], "provenance", where)
        said = {modality: said_as_json(strings(provenance, modality, where)) for modality in provenance}
    return Matrix(
        as_texts(_index(obs, where), f"{source}: obs", vectors.shape[0]),
        vectors,
        as_texts(_index(inside(file, "var", where), where), f"{source}: var", vectors.shape[1]),
        missing,
        **of_provenance(said),
    )


def _index(table: h5py.Group, where: str) -> np.ndarray:
    """Return the column that names a table's rows."""
    name = table.attrs.get("_index")
    if not isinstance(name, str):
        raise UsageError(f"{where}: {table.name} does not say which column names its rows (_index)")
    if isinstance(table.get(name), h5py.Group):  # text that may be missing
        return strings(inside(table, name, where), "values", where)
    return strings(table, name, where)
