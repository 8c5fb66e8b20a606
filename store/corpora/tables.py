"""Corpora as tables: CSV, JSON lines or Parquet, with any column names."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mixed_signals.store.corpus import (
    RATING_COLUMNS,
    UTTERANCE_COLUMNS,
    Corpus,
    InvalidCorpus,
)
from mixed_signals.store.errors import MixedSignalsError, UsageError

_NUMBERS = ("start", "end", "count")
_FLAGS = {"utterance_id": "--id", "value": "value", "count": "count", "shown": "shown", "rater": "rater"}


def read_corpus(
    sources: Sequence[Path],
    columns: Mapping[str, str],
    *,
    name: str,
    ratings: Path | None = None,
    media_root: Path | None = None,
) -> Corpus:
    """Read utterances, and ratings if there are any.

    Parameters
    ----------
    sources : sequence of Path
        One or several files with a row per utterance (``.csv``, ``.jsonl``, ``.parquet``).
    columns : mapping
        From our column names (`UTTERANCE_COLUMNS`) to the files', for those that are called otherwise.
    name : str
        Name of the corpus.
    ratings : Path, optional
        A file with the columns `utterance_id` and `value`, and if known `rater`, `shown`, `count`.
    media_root : Path, optional
        What media paths are relative to; the folder of the first source by default.

    Raises
    ------
    UsageError
        If a file or a named column is not there.
    InvalidCorpus
        If rows break the rules; each is listed with file, line, column and mend.
    """
    tables = [_utterances(source, columns) for source in sources]
    return Corpus(
        name=name,
        utterances=pd.concat(tables, ignore_index=True),
        ratings=None if ratings is None else _ratings(ratings),
        media_root=media_root or sources[0].parent,
    )


def _utterances(source: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    table, lines = _read(source)
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            flag = _FLAGS.get(ours, f"--{ours}")
            raise UsageError(f"{source}: no column {theirs!r} ({flag}); it has: {', '.join(table.columns)}")
    if "utterance_id" not in columns and "utterance_id" not in table.columns:
        raise UsageError(
            f"{source}: no column 'utterance_id'; name the column that holds ids with --id "
            f"(it has: {', '.join(table.columns)})"
        )
    for ours, theirs in columns.items():
        if ours == theirs:
            continue
        if ours in table.columns and ours not in columns.values():
            raise UsageError(f"{source}: has a column {ours!r} beside {theirs!r}; rename one of them")
        table[ours] = table[theirs]
    # The group keeps its own name too (fit-heads --group speaker); the other columns were only renamed.
    renamed = {theirs for ours, theirs in columns.items() if ours not in ("group", "label")}
    table = table.drop(columns=[c for c in renamed if c not in UTTERANCE_COLUMNS])
    _check(source, table, lines, required=("utterance_id",))
    return table


def _ratings(source: Path) -> pd.DataFrame:
    table, lines = _read(source)
    for column in ("utterance_id", "value"):
        if column not in table.columns:
            raise UsageError(f"{source}: no column {column!r}; it has: {', '.join(table.columns)}")
    _check(source, table, lines, required=("utterance_id", "value"))
    return table[[column for column in RATING_COLUMNS if column in table.columns]]


def _check(source: Path, table: pd.DataFrame, lines: Sequence[int], required: tuple[str, ...]) -> None:
    """Turn number columns into float64 in place; raise with file, line, column and mend for bad cells."""
    problems = []
    for column in required:
        for line, value in zip(lines, table[column], strict=True):
            if not _text(value):
                problems.append(f"line {line}, column {column}: empty; every row needs one")
    for column in set(_NUMBERS) & set(table.columns):
        numbers = []
        for line, value in zip(lines, table[column], strict=True):
            text = _text(value)
            try:
                number = float(text) if text else math.nan
                if math.isinf(number):
                    raise ValueError
            except ValueError:
                problems.append(f"line {line}, column {column}: {text!r} is not a number; write e.g. 12.5")
                number = math.nan
            numbers.append(number)
        table[column] = numbers
    if problems:
        raise InvalidCorpus(str(source), problems)


def _text(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()


def _read(source: Path) -> tuple[pd.DataFrame, Sequence[int]]:
    """Return the rows and the line (CSV, JSON lines) or row (Parquet) where each stands."""
    if not source.is_file():
        raise UsageError(f"{source}: no such file")
    reader = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}.get(source.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{source}: read are .csv, .jsonl and .parquet, not {source.suffix or 'a bare name'}"
        )
    try:
        return reader(source)
    except (ValueError, csv.Error, OSError) as error:
        raise MixedSignalsError(f"{source}: not readable ({error})") from error


def _read_csv(source: Path) -> tuple[pd.DataFrame, list[int]]:
    rows, lines, problems = [], [], []
    with source.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.reader(handle)
        header = [column.strip() for column in next(reader, [])]
        if len(set(header)) < len(header):
            raise UsageError(f"{source}: a column name comes twice: {', '.join(header)}")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                problems.append(f"line {reader.line_num}: {len(row)} cells, the header has {len(header)}")
            rows.append(row)
            lines.append(reader.line_num)
    if problems:
        raise InvalidCorpus(str(source), problems)
    return pd.DataFrame(rows, columns=header, dtype=object), lines


def _read_jsonl(source: Path) -> tuple[pd.DataFrame, list[int]]:
    rows, lines, problems = [], [], []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            problems.append(f"line {number}: not JSON ({error})")
            continue
        if not isinstance(row, dict):
            problems.append(f"line {number}: not an object with a key per column")
            continue
        rows.append(row)
        lines.append(number)
    if problems:
        raise InvalidCorpus(str(source), problems)
    return pd.DataFrame(rows, dtype=object), lines


def _read_parquet(source: Path) -> tuple[pd.DataFrame, range]:
    table = pd.read_parquet(source)
    return table, range(1, len(table) + 1)
