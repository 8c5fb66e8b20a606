"""What every reader of a corpus layout needs: rows with the place where each stands, and errors that name it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mixed_signals.store import cells
from mixed_signals.store.corpus import Corpus, InvalidCorpus
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.targets import Target

# Whole numbers keep their type where some are missing: as float64, which pandas would make of them, large ones merge.
WHOLE_NUMBERS = {kind: pd.Int64Dtype() for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())}
WHOLE_NUMBERS |= {kind: pd.UInt64Dtype() for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())}


class Rows(NamedTuple):
    """One or several files' rows, and where each stands.

    Attributes
    ----------
    table : DataFrame
        Cells and columns as in the file (CSV: text).
    places : list of str
        For each row ``"<path> line 12"`` (CSV, JSON lines) or ``"<path> row 12"`` (Parquet).
    """

    table: pd.DataFrame
    places: list[str]


def read_rows(source: Path) -> Rows:
    """Read a table: ``.csv``, ``.jsonl`` or ``.parquet``.

    Raises
    ------
    UsageError
        If there is no such file, it is of another kind or separated by another mark than the comma, or a
        column name comes twice.
    InvalidCorpus
        If a row has more or fewer cells than the header, or a line is not a JSON object; by file and line.
    MixedSignalsError
        If the file is not readable, or not UTF-8.
    """
    if not source.is_file():
        raise UsageError(f"{source}: no such file")
    reader = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}.get(source.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{source}: read are .csv, .jsonl and .parquet, not {source.suffix or 'a bare name'}"
        )
    try:
        return reader(source)
    except UnicodeDecodeError:
        raise MixedSignalsError(f"{source}: not UTF-8 text; save it as UTF-8") from None
    except (ValueError, csv.Error, OSError) as error:
        raise MixedSignalsError(f"{source}: not readable ({error})") from error


def refuse_other_separators(source: Path, header: Sequence[str]) -> None:
    """Refuse the header of a CSV that is one cell with semicolons, tabs or bars in it.

    Raises
    ------
    UsageError
        Naming the mark.
    """
    if len(header) == 1:
        for mark, name in ((";", "';'"), ("\t", "tabs"), ("|", "'|'")):
            if mark in header[0]:
                raise UsageError(f"{source}: separated by {name}, it seems; save it with commas")


def need_columns(source: Path, table: pd.DataFrame, columns: Iterable[str]) -> None:
    """Refuse a table without the named columns.

    Raises
    ------
    UsageError
        Naming the first that is not there, and those that are.
    """
    for column in columns:
        if column not in table.columns:
            raise UsageError(f"{source}: no column {column!r}; it has: {', '.join(table.columns)}")


def corpus_of(
    name: str,
    utterances: Rows,
    ratings: Rows | None = None,
    *,
    media_root: Path | str | None = None,
    targets: Sequence[Target] = (),
    columns: Mapping[str, str] = {},
) -> Corpus:
    """Make a corpus of rows that stand in files.

    Parameters
    ----------
    name : str
    utterances, ratings : Rows
        Under our column names (see `mixed_signals.store.corpus`).
    media_root : Path or str, optional
        The folder or the URL below which media lie.
    targets : sequence of Target
        What is declared besides `label`.
    columns : mapping
        From our names of the utterances' columns to the file's own, for the messages.

    Raises
    ------
    InvalidCorpus
        If rows break the rules; each is listed with its place, the file's column and the mend.
    """
    try:
        return Corpus(
            name=name,
            utterances=utterances.table,
            ratings=None if ratings is None else ratings.table,
            media_root=media_root,
            declared=tuple(targets),
        )
    except InvalidCorpus as error:
        if not error.problems:
            raise
        places = {"utterances": utterances.places, "ratings": [] if ratings is None else ratings.places}
        lines = []
        for table, row, column, fault in error.problems:
            theirs = columns.get(column, column) if table == "utterances" else column
            lines.append(f"{places[table][row]}, column {theirs}: {fault}")
        raise InvalidCorpus(name, lines, error.problems) from None


def _read_csv(source: Path) -> Rows:
    rows, places, problems = [], [], []
    with source.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.reader(handle, strict=True)
        line = 1
        try:
            header = [column.strip() for column in next(reader, [])]
            refuse_other_separators(source, header)
            if len(set(header)) < len(header):
                raise UsageError(f"{source}: a column name comes twice: {', '.join(header)}")
            line = reader.line_num + 1
            for row in reader:
                if row:
                    if len(row) != len(header):
                        problems.append(f"line {line}: {len(row)} cells, the header has {len(header)}")
                    rows.append(row)
                    places.append(f"{source} line {line}")
                line = reader.line_num + 1
        except csv.Error as error:
            problems.append(f"line {line}: not readable ({error}); is a quote left open or not doubled?")
    if problems:
        raise InvalidCorpus(str(source), problems)
    return Rows(pd.DataFrame(rows, columns=header, dtype=object), places)


def _read_jsonl(source: Path) -> Rows:
    rows, places, problems = [], [], []
    with source.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                row = _JSON.decode(line)
                if "\\ud" in line.lower():
                    json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                problems.append(f"line {number}: {cells.HALF_CHARACTER}")
                continue
            except (ValueError, RecursionError) as error:
                problems.append(f"line {number}: not JSON ({error})")
                continue
            if not isinstance(row, dict):
                problems.append(f"line {number}: not an object with a key per column")
                continue
            rows.append(row)
            places.append(f"{source} line {number}")
    if problems:
        raise InvalidCorpus(str(source), problems)
    return Rows(pd.DataFrame(rows, dtype=object), places)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; one with a key twice, of which readers take one, is refused."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise ValueError(f"key {twice!r} comes twice; keep one")
    return found


_JSON = json.JSONDecoder(object_pairs_hook=_once)


def _read_parquet(source: Path) -> Rows:
    with pq.ParquetFile(source) as file:
        stored = file.read()
    problems = []
    for place, field in enumerate(stored.schema):
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            text, rows = _decoded(stored.column(place))
            stored = stored.set_column(place, field.name, text)
            fault = "not UTF-8 text; save it as text, or leave the column out"
            problems += [f"row {row + 1}, column {field.name}: {fault}" for row in rows]
    if problems:
        raise InvalidCorpus(str(source), problems)
    table = stored.to_pandas(types_mapper=WHOLE_NUMBERS.get)
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    return Rows(table, [f"{source} row {row}" for row in range(1, len(table) + 1)])


def _decoded(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, list[int]]:
    """Return a column of bytes as text, and the rows (from 0) of cells that are not UTF-8."""
    try:
        return column.cast(pa.large_string()), []
    except pa.ArrowInvalid:
        wrong = [row for row, cell in enumerate(column.to_pylist()) if not _is_utf8(cell or b"")]
        return column, wrong


def _is_utf8(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True
