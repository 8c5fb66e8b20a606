"""What the cells of a table say, whatever type its reader gave them: text or numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Fault = tuple[int, str]  # a row (from 0), and what is wrong with its cell and how to mend it


def texts(column: pd.Series) -> pd.Series:
    """Return a column as Python strings (object dtype): "" for none, 1 for the 1.0 that a gap makes of it."""
    cells = column.to_numpy(dtype=object)
    if pd.api.types.infer_dtype(cells, skipna=False) != "string":
        cells = np.where(pd.isna(cells), "", cells)
    if pd.api.types.infer_dtype(cells, skipna=False) != "string":
        cells = np.array([_text(cell) for cell in cells], dtype=object)
    return pd.Series(cells, index=column.index, name=column.name, dtype=object)


def _text(cell: object) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def numbers(column: pd.Series) -> tuple[np.ndarray, list[Fault]]:
    """Return a column as numbers, shape (N,), float64 with NaN for none, and the faults of cells that are no number."""
    if column.dtype.kind in "mM":  # dates and durations are not seconds
        column = texts(column)
    found = pd.to_numeric(column, errors="coerce").to_numpy(dtype="float64", na_value=np.nan, copy=True)
    faults: list[Fault] = []
    unread = np.isnan(found) & column.notna().to_numpy()
    for row in np.flatnonzero(unread | np.isinf(found)):
        text = str(column.iloc[row]).strip()
        try:
            found[row] = float(text) if text else np.nan
        except ValueError:
            found[row] = np.inf
        if np.isinf(found[row]):
            found[row] = np.nan
            faults.append((int(row), f"{text!r} is not a number; write e.g. 12.5"))
    return found, faults


def positions(column: pd.Series, among: Iterable[str]) -> np.ndarray:
    """Return where in `among` each cell of a column of text stands, shape (N,), int64; -1 for nowhere."""
    found = pc.index_in(pa.array(column, pa.string()), value_set=pa.array(among, pa.string()))
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
