"""Matrices with ids, what every reader gives; and the plain ones: ``.npz``, ``.csv`` and ``.parquet``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mixed_signals.store.cells import texts as cell_texts
from mixed_signals.store.corpus import Corpus
from mixed_signals.store.errors import MixedSignalsError, UsageError

_NO_IDS = (
    "rows are joined by utterance id only, never by their order; write the id of each row beside it, under "
    "that name, and import again"
)
_ERROR_LENGTH = 200
_NO_VECTOR = ("missing", "pending")


@dataclass(frozen=True)
class Request:
    """What is asked of a reader.

    Attributes
    ----------
    corpus : Corpus
        The utterances that the vectors are for.
    modality : str
        text, audio or video.
    key : str or None
        What the file calls the vectors, where it is not what the reader expects.
    entry : str or None
        The corpus column that names the file's entries, where they are not called as the utterances.
    ignore_extra : bool
        Whether what belongs to no utterance of the corpus is left out rather than refused.
    """

    corpus: Corpus
    modality: str
    key: str | None = None
    entry: str | None = None
    ignore_extra: bool = False


@dataclass(frozen=True)
class Matrix:
    """What a file holds.

    Attributes
    ----------
    ids : list of str, length N
    vectors : ndarray of float32, shape (N, D)
    dimensions : list of str, length D
    missing : ndarray of bool, shape (N,), or None
        Rows that the file names but has nothing for; None where there is no such row.
    pooling : str
        How the steps of a sequence became one vector; empty where the file holds vectors.
    """

    ids: list[str]
    vectors: np.ndarray
    dimensions: list[str]
    missing: np.ndarray | None = None
    pooling: str = ""


def read_npz(source: Path, request: Request) -> Matrix:
    """Read the arrays `utterance_id` (N,), `embedding` (N, D) and, if there, `dimension` (D,) and `status` (N,).

    Raises
    ------
    UsageError
        If an array is not there, or their shapes do not match.
    MixedSignalsError
        If the file is not readable.
    """
    key = request.key or "embedding"
    wanted = ("utterance_id", key, "dimension", "status")
    try:
        with np.load(source, allow_pickle=False) as file:
            arrays = {name: file[name] for name in wanted if name in file.files}
            names = file.files
    except Exception as error:  # damaged bytes make numpy, zipfile and zlib raise nearly anything
        raise unreadable(source, error) from error
    for name in ("utterance_id", key):
        if name not in names:
            raise lacking(source, name, names)
    vectors = as_matrix(arrays[key], f"{source}: {key}")
    ids = as_texts(arrays["utterance_id"], f"{source}: utterance_id", len(vectors))
    status = arrays.get("status")
    return Matrix(
        ids,
        vectors,
        as_texts(arrays["dimension"], f"{source}: dimension", vectors.shape[1])
        if "dimension" in arrays
        else numbered(source, vectors.shape[1]),
        None if status is None else np.isin(as_texts(status, f"{source}: status", len(vectors)), _NO_VECTOR),
    )


def read_table(source: Path, request: Request) -> Matrix:
    """Read a table with a column (in Parquet also an index) `utterance_id` and a column of numbers a dimension.

    A column `status` of text says which rows are missing, as in what `export_features` writes.

    Raises
    ------
    UsageError
        If there are no ids, no other column, or another column of text.
    MixedSignalsError
        If the file is not readable.
    """
    try:
        table = _load(source)
    except Exception as error:  # as above, of pandas and pyarrow
        raise unreadable(source, error) from error
    if "utterance_id" not in table:
        raise lacking(source, "utterance_id", map(str, table.columns))
    ids = table.pop("utterance_id").tolist()
    missing = None
    if "status" in table and table["status"].dtype == object:
        missing = table.pop("status").isin(_NO_VECTOR).to_numpy()
    texts = [str(name) for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    if texts or table.shape[1] == 0:
        raise UsageError(
            f"{source}: columns that are not numbers: {one_line(', '.join(texts)) or 'there is no other'}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = table.to_numpy(dtype=np.float32, na_value=np.nan)
    return Matrix(ids, vectors, [str(name) for name in table.columns], missing)


def _load(source: Path) -> pd.DataFrame:
    """Return a table, `utterance_id` (wherever it stands) and a `status` of text as columns of Python strings."""
    is_csv = source.suffix.lower() == ".csv"
    table = pd.read_csv(source, converters={"utterance_id": str}) if is_csv else pd.read_parquet(source)
    if table.index.name == "utterance_id" and "utterance_id" not in table:
        table = table.reset_index()
    for name in ("utterance_id", "status"):
        if name in table and (name == "utterance_id" or not pd.api.types.is_numeric_dtype(table[name])):
            table[name] = cell_texts(table[name])
    return table


def as_matrix(values: np.ndarray, what: str) -> np.ndarray:
    """Return numbers as float32, shape (N, D); what is too large for float32 becomes infinite.

    Raises
    ------
    UsageError
        If they are not numbers, or not a matrix.
    """
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "biuf":
        raise UsageError(
            f"{what} is {values.dtype} of shape {values.shape}; expected numbers, (N, D), a row an id"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, dtype=np.float32)


def as_texts(values: np.ndarray, what: str, length: int) -> list[str]:
    """Return text (as Unicode, UTF-8 or Python strings) or whole numbers as Python strings.

    Raises
    ------
    UsageError
        If they are something else, or there are not `length` of them.
    """
    if values.shape != (length,) or values.dtype.kind not in "OUSiu":
        raise UsageError(
            f"{what} is {values.dtype} of shape {values.shape}; expected {length:,} texts, one a row"
        )
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    except ValueError as error:
        raise UsageError(f"{what} is not UTF-8; write it as text") from error


def numbered(source: Path, count: int) -> list[str]:
    """Return names for dimensions that have none."""
    return [f"{source.stem}_{i}" for i in range(count)]


def refuse_strangers(
    source: Path, names: Iterable[str], known: Iterable[str], ignore_extra: bool, what: str, mend: str = ""
) -> None:
    """Refuse names that belong to no utterance of the corpus.

    Raises
    ------
    UsageError
        If there are some and they are not to be left out, or all are.
    """
    found = set(names)
    strangers = sorted(found - set(known))
    if strangers and not (ignore_extra and len(strangers) < len(found)):
        if len(strangers) < len(found):
            mend = "--ignore-extra leaves them out"
        raise UsageError(
            f"{source}: {len(strangers)} of {len(found)} {what} are not in the corpus, "
            f"e.g. {one_line(', '.join(strangers[:3]))}{mend and '; ' + mend}"
        )


def lacking(source: Path, name: str, has: Iterable[str]) -> UsageError:
    """Return the error of a file that lacks something by name; of ids it says why they are needed."""
    mend = _NO_IDS if name in ("utterance_id", "id") else "--key says what the file calls it"
    return UsageError(f"{source}: no {name!r} (it has: {one_line(', '.join(has))}); {mend}")


def unreadable(source: Path, error: Exception) -> MixedSignalsError:
    """Return the error of a file that is damaged or of another kind than its name says, in one line."""
    said = one_line(str(error)) or type(error).__name__
    return MixedSignalsError(f"{source}: not readable ({said})")


def one_line(text: str) -> str:
    """Return what a file says, fit for a message: short, in one line, without control characters."""
    cut = text if len(text) <= _ERROR_LENGTH else f"{text[:_ERROR_LENGTH]}..."
    return " ".join("".join(letter if letter.isprintable() else " " for letter in cut).split())
