"""The rules for the two tables of a corpus: types for their columns, and every cell that breaks a rule by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from mixed_signals.store import cells
from mixed_signals.store.targets import MODALITIES, canonical_shown

UTTERANCE_COLUMNS = ("utterance_id", "media", "start", "end", "text", "label", "group", "split")
OPTIONAL_COLUMNS = ("speaker", "dialog", "turn", "transcript_source", "transcript_confidence")
RATING_COLUMNS = ("utterance_id", "rater", "shown", "value", "count")
_MIXED = ("mixed", "mixed-integer")
_NUMBERS = ("start", "end", "count", "turn", "transcript_confidence")
# What may not stand in a media entry: an absolute path or a home, a drive, a scheme, a backslash, a control character
# or half of one, a step up.
_NOT_BELOW = re.compile(r"^[/~]|^[A-Za-z]:|://|\\|[\x00-\x1f\x7f-\x9f\ud800-\udfff]|(?:^|/)\.\.(?:/|$)")
_SUSPECT = ("..", ":", "\\", "\n/", "\n~")


class Problem(NamedTuple):
    """One fault of a table: which table, which row (from 0), which of our columns, and what is wrong."""

    table: str
    row: int
    column: str
    fault: str


def checked_utterances(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the utterances with all our columns, each of its type, and what breaks the rules."""
    optional = [column for column in OPTIONAL_COLUMNS if column in table]
    table, problems = _typed("utterances", table, [*UTTERANCE_COLUMNS, *optional])
    faulty = partial(_problems, "utterances")

    ids, start, end, media = (table[column] for column in ("utterance_id", "start", "end", "media"))
    begin = start.fillna(0)
    problems += faulty("utterance_id", ids == "", lambda _: "is empty; every row needs one")
    problems += faulty(
        "utterance_id",
        ids.duplicated() & (ids != ""),
        lambda row: f"{ids[row]!r} stands in an earlier row too; ids must be unique",
    )
    problems += faulty("start", start < 0, lambda row: f"{start[row]:g} is before the beginning")
    problems += faulty(
        "end", end <= begin, lambda row: f"{end[row]:g} is not after the start, {begin[row]:g}"
    )
    problems += faulty(
        "media",
        _leads_away(media),
        lambda row: f"{media[row]!r} is not a path below the media root; write it relative to that, with /",
    )
    if "transcript_confidence" in table:
        sure = table["transcript_confidence"]
        fault = "is not within 0 to 1; write a probability"
        problems += faulty(
            "transcript_confidence", (sure < 0) | (sure > 1), lambda row: f"{sure[row]:g} {fault}"
        )
    if "turn" in table:
        turn = table["turn"]
        problems += faulty("turn", turn % 1 > 0, lambda row: f"{turn[row]:g} is not a whole number")
        within = "dialog" if "dialog" in table else "group"
        known = turn.notna() & (table[within] != "")
        problems += faulty(
            "turn",
            table.duplicated([within, "turn"]) & known,
            lambda row: f"{turn[row]:g} stands in an earlier row of {within} {table[within][row]!r} too",
        )
        if not problems:
            table["turn"] = turn.astype("Int64")
    return table, problems


def checked_ratings(table: pd.DataFrame, ids: pd.Series) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the ratings with all our columns, each of its type, and what breaks the rules."""
    table, problems = _typed("ratings", table, RATING_COLUMNS)
    faulty = partial(_problems, "ratings")

    rated, count = table["utterance_id"], table["count"].fillna(1)
    problems += faulty(
        "utterance_id",
        cells.positions(rated, ids) < 0,
        lambda row: f"{rated[row]!r} is not an utterance of the corpus",
    )
    problems += faulty(
        "value", table["value"] == "", lambda _: "is empty; leave the row away if nobody judged"
    )
    codes, shown = pd.factorize(table["shown"].to_numpy(dtype=object))
    strange = [next((part for part in _parts(one) if part not in MODALITIES), None) for one in shown]
    wrong = np.array([part is not None for part in strange])[codes]
    problems += faulty(
        "shown", wrong, lambda row: f"{strange[codes[row]]!r} is none of {', '.join(MODALITIES)}"
    )
    problems += faulty(
        "count",
        (count < 1) | (count % 1 > 0),
        lambda row: f"{count[row]:g} is not a positive whole number",
    )
    canonical = np.array([canonical_shown(one) for one in shown], dtype=object)
    table["shown"] = pd.Series(canonical[codes], dtype=object)
    table["count"] = count.astype("int64")
    return table, problems


def _typed(what: str, table: pd.DataFrame, columns: Iterable[str]) -> tuple[pd.DataFrame, list[Problem]]:
    """Give our columns their types (text as Python strings, empty for none; numbers as float64); the rest follows."""
    table = table.reset_index(drop=True)
    typed: dict[str, pd.Series | np.ndarray] = {}
    problems: list[Problem] = []
    for column in columns:
        is_number = column in _NUMBERS
        if column not in table:
            empty, dtype = (np.nan, np.float64) if is_number else ("", object)
            typed[column] = pd.Series(empty, index=table.index, dtype=dtype)
        elif is_number:
            typed[column], faults = cells.numbers(table[column])
            problems += [Problem(what, row, column, fault) for row, fault in faults]
        else:
            typed[column] = cells.texts(table[column])
    for column in table.columns:
        typed.setdefault(column, _one_type(table[column]))
    return pd.DataFrame(typed, index=table.index), problems


def _one_type(column: pd.Series) -> pd.Series:
    """Return a column that a Parquet file can hold: cells of several types, or lists, become text."""
    mixed = column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) in _MIXED
    return cells.texts(column) if mixed else column


def _leads_away(media: pd.Series) -> np.ndarray:
    """Return which media entries are not paths below a folder, shape (N,)."""
    lines = "\n" + "\n".join(media)
    if "".join(media).isprintable() and not any(mark in lines for mark in _SUSPECT):
        return np.zeros(len(media), bool)
    return np.array([bool(_NOT_BELOW.search(entry)) for entry in media])


def _problems(
    what: str, column: str, mask: np.ndarray | pd.Series, fault: Callable[[int], str]
) -> list[Problem]:
    return [Problem(what, row, column, fault(row)) for row in np.flatnonzero(mask).tolist()]


def _parts(shown: str) -> list[str]:
    return shown.split("+") if shown else []
