"""What the cells of a table say, whatever type its reader gave them: text, numbers, or values of one other type."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Fault = tuple[int, str]  # a row (from 0), and what is wrong with its cell and how to mend it

HALF_CHARACTER = "holds half a character (\\ud800 to \\udfff alone); remove it"
NONE = "none"  # in a multilabel cell: no class applies
_HALF = re.compile("[\ud800-\udfff]")
_LISTS = (list, tuple, np.ndarray)
_NO_VALUE = {"a list": _LISTS, "an object": (dict, set), "bytes": (bytes,), "a truth value": (bool, np.bool_)}
_READ_AS_NUMBERS = {str, int, float, type(None), type(pd.NA)}
# Whole numbers are kept as such below the first, and in a column with others below the second, exact in float64.
_WHOLE = {"integer": 2**63, "mixed-integer-float": 2**53}
_SHOWN = 40
_KEPT = ("boolean", "bytes", "date", "datetime", "datetime64", "time", "timedelta", "timedelta64")


def texts(column: pd.Series) -> pd.Series:
    """Return a column as Python strings (object dtype): "" for none, 1 for the 1.0 that a gap makes of it."""
    cells = column.to_numpy(dtype=object)
    if pd.api.types.infer_dtype(cells, skipna=False) != "string":
        cells = np.where(pd.isna(cells), "", cells)
    if pd.api.types.infer_dtype(cells, skipna=False) != "string":
        cells = np.array([_text(cell) for cell in cells], dtype=object)
    return pd.Series(cells, index=column.index, name=column.name, dtype=object)


def _text(cell: object) -> str:
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def single(column: pd.Series, *, multilabel: bool, truth: bool) -> tuple[pd.Series, list[Fault]]:
    """Return a column with one value in a cell, and the faults of cells that hold none (a list, an object).

    Parameters
    ----------
    column : Series
    multilabel : bool
        Whether a list is fine: it becomes its classes joined by ``|``, or ``none`` if it is empty.
    truth : bool
        Whether true and false are fine.
    """
    cells = column.to_numpy(dtype=object)
    wrong = {name: kinds for name, kinds in _NO_VALUE.items() if not (truth and bool in kinds)}
    named = {kind: name for kind in set(map(type, cells)) for name in wrong if issubclass(kind, wrong[name])}
    if not named:
        return column, []
    cells, faults = cells.copy(), []
    for row in [row for row, cell in enumerate(cells) if type(cell) in named]:
        cell, name = cells[row], named[type(cells[row])]
        joined = _joined(cell) if multilabel and name == "a list" else None
        if joined is None:
            mend = "each class as a text without a |" if multilabel else "one text or number"
            faults.append((row, f"{_shown(cell)} is {name}; write {mend}"))
        cells[row] = joined
    return pd.Series(cells, index=column.index, name=column.name, dtype=object), faults


def _joined(cell: list | tuple | np.ndarray) -> str | None:
    """Return the classes of a list as a multilabel cell; None if one could not stand there."""
    parts = cell.tolist() if isinstance(cell, np.ndarray) else cell
    classes = [_text(part).strip() for part in parts if type(part) in (str, int, float) and part == part]
    if len(classes) < len(parts) or any(name == "" or "|" in name for name in classes):
        return None
    return "|".join(classes) or NONE


def of_one_type(column: pd.Series) -> pd.Series:
    """Return a column that a Parquet file gives back as it was.

    Cells of several types, lists and objects become text (see `texts`), and so do whole numbers that are too large.
    """
    if column.dtype.kind in "biufmM":
        return column
    cells = pd.Series(column.to_numpy(dtype=object), index=column.index, name=column.name, dtype=object)
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    if kind in _WHOLE and all(abs(n) < _WHOLE[kind] for n in cells if isinstance(n, int)):
        cells = cells.astype("Int64" if kind == "integer" else "float64")
    elif kind not in ("floating", *_KEPT):
        cells = texts(cells)
    return cells


def is_text(column: pd.Series) -> bool:
    """Return whether every cell is a Python string, as `texts` leaves them."""
    return column.dtype == object and pd.api.types.infer_dtype(column, skipna=False) == "string"


def whole(column: pd.Series) -> tuple[pd.Series, list[Fault]]:
    """Return a column of text, empty where a cell holds half a character (no file can), and the faults of these."""
    text = "".join(column)
    if text.isascii() or not _HALF.search(text):
        return column, []
    broken = np.array([bool(_HALF.search(cell)) for cell in column])
    return column.mask(broken, ""), [(row, HALF_CHARACTER) for row in np.flatnonzero(broken).tolist()]


def stripped(column: pd.Series) -> pd.Series:
    """Return a column of text without the spaces around its cells."""
    cells = [cell.strip() for cell in column]
    return pd.Series(cells, index=column.index, name=column.name, dtype=object)


def _shown(cell: object) -> str:
    text = _text(cell)
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…")


def numbers(column: pd.Series, *, needed: bool = False) -> tuple[np.ndarray, list[Fault]]:
    """Return a column as numbers, shape (N,), float64 with NaN for none, and the faults of cells that are no number.

    Where each cell is `needed`, no fault says that one may be left empty.
    """
    mend = "write e.g. 12.5" + ("" if needed else ", or leave it empty")
    kinds = set() if column.dtype.kind in "iuf" else set(map(type, column.to_numpy(dtype=object)))
    if kinds - _READ_AS_NUMBERS:  # dates, durations and truth values are no numbers
        column = texts(column)
    try:
        read = pd.to_numeric(column, errors="coerce")
    except OverflowError:
        read = pd.to_numeric(texts(column), errors="coerce")
    found = read.to_numpy(dtype="float64", na_value=np.nan, copy=True)
    faults: list[Fault] = []
    unread = np.isnan(found) & column.notna().to_numpy()
    for row in np.flatnonzero(unread | np.isinf(found)):
        text = str(column.iloc[row]).strip()
        found[row] = _number(text)
        if np.isinf(found[row]):
            found[row] = np.nan
            faults.append((int(row), f"{_shown(text)} is not a number; {mend}"))
    return found, faults


def _number(text: str) -> float:
    """Return the number that a text says: NaN for none, infinity where it is no number."""
    try:
        return float(text or "nan") if "_" not in text else math.inf  # float() takes 1_000
    except ValueError:
        return math.inf


def positions(column: pd.Series, among: Iterable[str]) -> np.ndarray:
    """Return where in `among` each cell of a column of text stands, shape (N,), int64; -1 for nowhere."""
    large = pa.large_string()  # an array of the other kind holds no more than 2 GB
    found = pc.index_in(pa.array(column, large), value_set=pa.array(among, large))
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
