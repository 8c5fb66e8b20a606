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
    Corpus,
    InvalidCorpus,
)
from mixed_signals.store.errors import MixedSignalsError, UsageError

_NUMBERS = ("start", "end", "count")
_NAMES = {
    "utterance_id",
    "media",
    "label",
    "group",
    "split",
    "value",
    "rater",
    "shown",
}  # spaces around them mean nothing


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
    media_root = media_root or sources[0].parent
    if not media_root.is_dir():
        raise UsageError(f"{media_root}: the media root is not a folder (--media-root)")
    tables = [_utterances(source, columns, media_root) for source in sources]
    rated = [] if ratings is None else [_ratings(ratings)]
    try:
        return Corpus(
            name=name,
            utterances=pd.concat([table for table, _ in tables], ignore_index=True),
            ratings=rated[0][0] if rated else None,
            media_root=media_root,
        )
    except InvalidCorpus as error:
        if not error.problems:
            raise InvalidCorpus(", ".join(map(str, sources)), error.lines) from None
        places = {"utterances": [place for _, part in tables for place in part]}
        places |= {"ratings": rated[0][1]} if rated else {}
        lines = []
        for table, row, column, fault in error.problems:
            theirs = columns.get(column, column) if table == "utterances" else column
            lines.append(f"{places[table][row]}, column {theirs}: {fault}")
        raise InvalidCorpus(name, lines) from None


def _utterances(source: Path, columns: Mapping[str, str], media_root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows under our column names, and where each stands."""
    table, lines = _read(source)
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            has = ", ".join(table.columns)
            raise UsageError(f"{source}: no column {theirs!r} ({_flag(ours)}); it has: {has}")
    if "utterance_id" not in columns and "utterance_id" not in table.columns:
        raise UsageError(
            f"{source}: no column 'utterance_id'; name the column that holds ids with --id "
            f"(it has: {', '.join(table.columns)})"
        )
    taken = {ours: table[theirs] for ours, theirs in columns.items()}
    clash = [ours for ours in columns if ours in table.columns and ours not in columns.values()]
    if clash:
        raise UsageError(
            f"{source}: has a column {clash[0]!r} beside {columns[clash[0]]!r} ({_flag(clash[0])}); rename one of them"
        )
    # The group and the label keep their own names too (fit-heads --group speaker); others were only renamed.
    renamed = {theirs for ours, theirs in columns.items() if ours not in ("group", "label")}
    table = table.drop(columns=[*renamed]).assign(**taken)
    _clean(source, table, lines, columns)
    if "media" in table.columns:
        table["media"] = table["media"].map(lambda media: _below(media, media_root))
    return table, [f"{source} line {line}" for line in lines]


def _below(media: object, root: Path) -> object:
    """Return an absolute path below the media root as a relative one, and anything else as it is."""
    if isinstance(media, str) and Path(media).is_absolute():
        path = Path(media)
        for base in (root, root.resolve()):
            if path.is_relative_to(base):
                return path.relative_to(base).as_posix()
    return media


def _flag(column: str) -> str:
    return "--id" if column == "utterance_id" else f"--{column}"


def _ratings(source: Path) -> tuple[pd.DataFrame, list[str]]:
    table, lines = _read(source)
    for column in ("utterance_id", "value"):
        if column not in table.columns:
            raise UsageError(f"{source}: no column {column!r}; it has: {', '.join(table.columns)}")
    _clean(source, table, lines, {})
    kept = table[[column for column in RATING_COLUMNS if column in table.columns]]
    return kept, [f"{source} line {line}" for line in lines]


def _clean(source: Path, table: pd.DataFrame, lines: Sequence[int], columns: Mapping[str, str]) -> None:
    """Strip names and turn numbers into float64, in place; raise with file, line, column and mend for bad cells."""
    for column in _NAMES & set(table.columns):
        table[column] = [value.strip() if isinstance(value, str) else value for value in table[column]]
    problems = []
    for column in [name for name in _NUMBERS if name in table.columns]:
        numbers = []
        for line, value in zip(lines, table[column], strict=True):
            text = _text(value)
            try:
                number = float(text) if text else math.nan
                if math.isinf(number):
                    raise ValueError
            except ValueError:
                where = f"line {line}, column {columns.get(column, column)}"
                problems.append((line, f"{where}: {text!r} is not a number; write e.g. 12.5"))
                number = math.nan
            numbers.append(number)
        table[column] = numbers
    if problems:
        raise InvalidCorpus(str(source), [problem for _, problem in sorted(problems)])


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
    except UnicodeDecodeError:
        raise MixedSignalsError(f"{source}: not UTF-8 text; save it as UTF-8") from None
    except (ValueError, csv.Error, OSError) as error:
        raise MixedSignalsError(f"{source}: not readable ({error})") from error


def _read_csv(source: Path) -> tuple[pd.DataFrame, list[int]]:
    rows, lines, problems = [], [], []
    with source.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.reader(handle)
        header = [column.strip() for column in next(reader, [])]
        if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), None)):
            raise UsageError(f"{source}: separated by {other!r}, it seems; save it with commas")
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
    with source.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, start=1):
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
