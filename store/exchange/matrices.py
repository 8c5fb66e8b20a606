"""Matrices with ids, what every reader gives; and the plain ones: ``.npz``, ``.csv`` and ``.parquet``."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from mixed_signals.store.cells import texts as cell_texts
from mixed_signals.store.corpora.reading import refuse_other_separators
from mixed_signals.store.corpus import Corpus
from mixed_signals.store.errors import MixedSignalsError, UsageError

_NO_IDS = (
    "rows are joined by utterance id only, never by their order; write the id of each row beside it, under "
    "that name, and import again"
)
_ERROR_LENGTH = 200
_NO_NUMBER = ["", "NA", "N/A", "NaN", "nan", "-nan", "null", "NULL", "None", "<NA>"]
NO_VECTOR = ("missing", "pending")
"""Statuses of rows that a file names and has nothing for."""
_UNNAMED = re.compile(r"Unnamed: \d+")
MOST_COMPRESSED = 1100  # bytes that one stored byte can stand for: just above what deflate does


@dataclass(frozen=True)
class Request:
    """What is asked of a reader.

    Attributes
    ----------
    corpus : Corpus
        The utterances that the vectors are for.
    modality : str
        text, audio or video.
    name : str
        What the feature set is to be called.
    key : str or None
        What the file calls the vectors, where it is not what the reader expects.
    entry : str or None
        The corpus column that names the file's entries, where they are not called as the utterances.
    ignore_extra : bool
        Whether what belongs to no utterance of the corpus is left out rather than refused.
    """

    corpus: Corpus
    modality: str
    name: str
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
    trained_on : tuple of str
        Ids of the utterances that the encoder's weights were trained on, where the file says so.
    aligned : dict
        How vectors of several encoders were brought into one frame, where the file says so; else empty.
    """

    ids: list[str]
    vectors: np.ndarray
    dimensions: list[str]
    missing: np.ndarray | None = None
    pooling: str = ""
    trained_on: tuple[str, ...] = ()
    aligned: dict[str, Any] = field(default_factory=dict)


def read_npz(source: Path, request: Request) -> Matrix:
    """Read the arrays `utterance_id` (N,), `embedding` (N, D) and, if there, `dimension` (D,) and `status` (N,).

    Of `provenance`, as `export_features` writes it, what the encoder was trained on and how it was aligned.

    Raises
    ------
    UsageError
        If an array is not there, or their shapes do not match.
    MixedSignalsError
        If the file is not readable.
    """
    key = request.key or "embedding"
    wanted = ("utterance_id", key, "dimension", "status", "provenance")
    try:
        refuse_inflated(source)
        with np.load(source, allow_pickle=False) as file:
            arrays = {name: file[name] for name in wanted if name in file.files}
            names = file.files
    except UsageError:
        raise
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
        else numbered(request.name, vectors.shape[1]),
        None if status is None else np.isin(as_texts(status, f"{source}: status", len(vectors)), NO_VECTOR),
        **of_provenance(said_as_json(arrays.get("provenance"))),
    )


def said_as_json(text: Any) -> Any:
    """Return what is written as JSON; None where it is not ours."""
    try:
        return None if text is None else json.loads(str(text))
    except (ValueError, RecursionError):
        return None


def of_provenance(provenance: Any) -> dict[str, Any]:
    """Return what provenance by modality, as we write it, says of a `Matrix`; nothing where it is other.

    That is ``trained_on``, the rows that trained any of the encoders, and ``aligned``.
    """
    said = (
        [one for one in provenance.values() if isinstance(one, dict)] if isinstance(provenance, dict) else []
    )
    ids = {utterance for one in said for utterance in one.get("trained_on", ()) if isinstance(utterance, str)}
    aligned = [one["aligned"] for one in said if isinstance(one.get("aligned"), dict)]
    return {"trained_on": tuple(sorted(ids)), "aligned": aligned[0] if aligned else {}}


def refuse_inflated(source: Path) -> None:
    """Refuse an archive with a file that claims to be larger than its stored bytes can account for.

    Raises
    ------
    UsageError
        Naming it.
    """
    with zipfile.ZipFile(source) as archive:
        for file in archive.infolist():
            if file.file_size > MOST_COMPRESSED * file.compress_size:
                claim = f"{one_line(file.filename)} claims {file.file_size:,} bytes and stores hardly any"
                raise UsageError(f"{source}: refused: {claim}")


def read_table(source: Path, request: Request) -> Matrix:
    """Read a table with a column (in Parquet also an index) `utterance_id` and a column of numbers a dimension.

    A column `status` of text says which rows are missing, as in what `export_features` writes.

    Raises
    ------
    UsageError
        If there are no ids, no other column, a column of text, one without a name or with that of a column of the
        corpus, or a CSV is separated by another mark than the comma, or has a row of more or fewer cells than the
        header.
    MixedSignalsError
        If the file is not readable.
    """
    try:
        table = _read_csv(source) if source.suffix.lower() == ".csv" else pd.read_parquet(source)
    except UsageError:
        raise
    except Exception as error:  # as above, of pandas and pyarrow
        raise unreadable(source, error) from error
    said = of_provenance(table.attrs.get("provenance"))
    if table.index.name == "utterance_id" and "utterance_id" not in table:
        table = table.reset_index()
    _refuse_names(source, [str(name) for name in table.columns], request.corpus.utterances.columns)
    ids = cell_texts(table.pop("utterance_id")).tolist()
    missing = None
    if "status" in table and (table["status"].isna().all() or not is_numeric_dtype(table["status"])):
        missing = cell_texts(table.pop("status")).isin(NO_VECTOR).to_numpy()
    texts = [str(name) for name in table.columns if not is_numeric_dtype(table[name])]
    if texts or table.shape[1] == 0:
        raise UsageError(
            f"{source}: columns that are not numbers: {one_line(', '.join(texts)) or 'there is no other'}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = table.to_numpy(dtype=np.float32, na_value=np.nan)
    return Matrix(ids, vectors, [str(name) for name in table.columns], missing, **said)


def _refuse_names(source: Path, names: list[str], of_corpus: Iterable[str]) -> None:
    """Refuse columns that are no dimensions, or cannot be told apart."""
    if "utterance_id" not in names:
        raise lacking(source, "utterance_id", names)
    index = pd.Index(names)
    if not index.is_unique:
        twice = str(index[index.duplicated()][0])
        raise UsageError(f"{source}: two columns {one_line(twice)!r}; rename one")
    for name in names:
        if not name.strip() or _UNNAMED.fullmatch(name):
            raise UsageError(
                f"{source}: a column without a name ({name!r}), such as the index that pandas writes; take it out "
                "(to_csv(..., index=False)), or give it a name"
            )
    shared = sorted(set(names) & set(of_corpus) - {"utterance_id", "status"})
    if shared:
        raise UsageError(
            f"{source}: {one_line(', '.join(shared))}: called as a column of the corpus, and would become a dimension; "
            "take it out, or rename it if it is one"
        )


def _read_csv(source: Path) -> pd.DataFrame:
    """Read a CSV whose rows all have the cells that the header has."""
    with source.open(newline="", encoding="utf-8-sig") as handle:
        names = [name.strip() for name in next(csv.reader(handle), [])]
    refuse_other_separators(source, names)
    _refuse_ragged(source, len(names))
    if len(set(names)) < len(names) or "utterance_id" not in names:
        return pd.DataFrame(columns=names)  # to be refused by its names
    return pd.read_csv(
        source,
        header=0,
        names=names,
        index_col=False,
        dtype={"utterance_id": object},
        keep_default_na=False,  # an id may be NA
        na_values={name: _NO_NUMBER for name in names if name != "utterance_id"},
        encoding="utf-8-sig",
    )


def _refuse_ragged(source: Path, n_cells: int) -> None:
    """Refuse rows with more or fewer cells than the header, and quotes that are left open, by line."""
    with source.open("rb") as file:
        if all(line.count(b",") == n_cells - 1 and b'"' not in line for line in file):
            return
    line = 1
    with source.open(newline="", encoding="utf-8-sig") as handle:
        rows = csv.reader(handle, strict=True)
        try:
            for row in rows:
                if row and len(row) != n_cells:
                    raise UsageError(
                        f"{source}: line {line}: {len(row)} cells, the header has {n_cells}; mend the line"
                    )
                line = rows.line_num + 1
        except csv.Error as error:
            raise UsageError(
                f"{source}: line {line}: not readable ({error}); is a quote left open or not doubled?"
            ) from None


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


def numbered(name: str, count: int) -> list[str]:
    """Return names for the dimensions of a feature set whose file names none."""
    return [f"{name}_{i}" for i in range(count)]


def refuse_strangers(
    source: Path, names: Iterable[str], known: Iterable[str], ignore_extra: bool, what: str, mend: str = ""
) -> None:
    """Refuse names that belong to no utterance of the corpus.

    Raises
    ------
    UsageError
        If there are some and they are not to be left out, or all are.
    """
    found, there = set(names), set(known) - {""}
    strangers = sorted(found - there)
    if strangers and len(strangers) == len(found):
        raise UsageError(
            f"{source}: none of its {len(found):,} {what} is in the corpus: it has {one_line(repr(strangers[0]))}, "
            f"the corpus {one_line(repr(min(there, default='')))}; "
            f"{mend or 'write them as the corpus does (--ignore-extra leaves out only some of them)'}"
        )
    if strangers and not ignore_extra:
        raise UsageError(
            f"{source}: {len(strangers):,} of {len(found):,} {what} are not in the corpus, "
            f"e.g. {one_line(', '.join(strangers[:3]))}; --ignore-extra leaves them out"
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
