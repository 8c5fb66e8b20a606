"""The rules for the two tables of a corpus: types for their columns, and every cell that breaks a rule by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from mixed_signals.store import cells, urls
from mixed_signals.store.targets import MODALITIES, Target, canonical_shown

UTTERANCE_COLUMNS = ("utterance_id", "media", "start", "end", "text", "label", "group", "split")
OPTIONAL_COLUMNS = ("speaker", "dialog", "turn", "transcript_source", "transcript_confidence")
RATING_COLUMNS = ("utterance_id", "rater", "shown", "value", "count")
_NUMBERS = ("start", "end", "count", "turn", "transcript_confidence")
# What may not stand in a media entry: an absolute path or a home, a drive, a scheme, a backslash, a control character
# or half of one, a step up.
_NOT_BELOW = re.compile(r"^[/~]|^[A-Za-z]:|://|\\|[\x00-\x1f\x7f-\x9f\ud800-\udfff]|(?:^|/)\.\.(?:/|$)")
_SUSPECT = ("..", ":", "=", "%3", "\\", "\n/", "\n~")
_LOOSE = ("//", "/./", "\n./", "/\n", "/.\n")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_ID = 500  # bytes
_MOST_VOTES = 10**9
_LAST_TURN = 10**15  # well within what float64 tells apart


class Problem(NamedTuple):
    """One fault of a table: which table, which row (from 0), which of our columns, and what is wrong."""

    table: str
    row: int
    column: str
    fault: str


def checked_utterances(
    table: pd.DataFrame, targets: Sequence[Target] = ()
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the utterances with all our columns, each of its type, and what breaks the rules.

    In a column of a multilabel target, of those that are declared, a list is joined by ``|``.
    """
    optional = [column for column in OPTIONAL_COLUMNS if column in table]
    kinds = {target.name: target.kind for target in targets if target.votes is None}
    table, problems = _typed("utterances", table, [*UTTERANCE_COLUMNS, *optional], kinds)
    faulty = partial(_problems, "utterances")

    ids, start, end, media = (table[column] for column in ("utterance_id", "start", "end", "media"))
    table["media"] = _one_spelling(media)
    begin = start.fillna(0)
    problems += faulty("utterance_id", ids == "", lambda _: "is empty; every row needs one")
    problems += faulty(
        "utterance_id",
        ids.duplicated() & (ids != ""),
        lambda row: f"{ids[row]!r} stands in an earlier row too; ids must be unique",
    )
    problems += faulty(
        "utterance_id",
        np.array([not one.isprintable() and bool(_CONTROL.search(one)) for one in ids]),
        lambda row: f"{ids[row]!r} holds a control character; remove it",
    )
    problems += faulty(
        "utterance_id",
        np.array([len(one.encode()) > _LONGEST_ID for one in ids]),
        lambda _: f"is longer than {_LONGEST_ID} bytes in UTF-8; shorten it",
    )
    problems += faulty("start", start < 0, lambda row: f"{start[row]:g} is before the beginning")
    problems += faulty(
        "end", end <= begin, lambda row: f"{end[row]:g} is not after the start, {begin[row]:g}"
    )
    astray = _media_faults(media) | _media_faults(table["media"])
    problems += [Problem("utterances", row, "media", astray[row]) for row in sorted(astray)]
    if "transcript_confidence" in table:
        sure = table["transcript_confidence"]
        fault = "is not within 0 to 1; write a probability"
        problems += faulty(
            "transcript_confidence", (sure < 0) | (sure > 1), lambda row: f"{sure[row]:g} {fault}"
        )
    if "turn" in table:
        turn = table["turn"]
        fault = "is not a whole number of at most 15 digits"
        problems += faulty(
            "turn", (turn % 1 > 0) | (turn.abs() >= _LAST_TURN), lambda row: f"{turn[row]:g} {fault}"
        )
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
        "value", table["value"] == "", lambda _: "is empty; leave the row out if nobody judged"
    )
    codes, shown = pd.factorize(table["shown"].to_numpy(dtype=object))
    strange = [next((part for part in _parts(one) if part not in MODALITIES), None) for one in shown]
    wrong = np.array([part is not None for part in strange])[codes]
    problems += faulty(
        "shown", wrong, lambda row: f"{strange[codes[row]]!r} is none of {', '.join(MODALITIES)}"
    )
    problems += faulty(
        "count",
        (count < 1) | (count % 1 > 0) | (count > _MOST_VOTES),
        lambda row: f"{count[row]:g} is not a whole number from 1 to {_MOST_VOTES:,}",
    )
    canonical = np.array([canonical_shown(one) for one in shown], dtype=object)
    table["shown"] = pd.Series(canonical[codes], dtype=object)
    table["count"] = count.clip(1, _MOST_VOTES).astype("int64")
    return table, problems


def _typed(
    what: str, table: pd.DataFrame, columns: Sequence[str], kinds: Mapping[str, str] = {}
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the table with our columns first, every column of one type, and the faults of cells.

    Ours are text (Python strings, empty for none) or numbers (float64). `kinds` are those of declared targets. Spaces
    around text mean nothing, except in `text` itself.
    """
    table = table.reset_index(drop=True)
    typed: dict[str, pd.Series | np.ndarray] = {}
    problems: list[Problem] = []
    for column in [*columns, *(column for column in table.columns if column not in columns)]:
        ours = column in columns
        is_number = ours and column in _NUMBERS
        if column not in table:
            empty, dtype = (np.nan, np.float64) if is_number else ("", object)
            typed[column] = pd.Series(empty, index=table.index, dtype=dtype)
            continue
        read = cells.numbers if is_number else partial(_values, ours=ours, kind=kinds.get(column))
        typed[column], faults = read(table[column])
        problems += [Problem(what, row, column, fault) for row, fault in faults]
    return pd.DataFrame(typed, index=table.index), problems


def _values(column: pd.Series, *, ours: bool, kind: str | None) -> tuple[pd.Series, list[cells.Fault]]:
    """Return a column as text, or one that is not ours as values of any one type, and the faults of its cells."""
    if getattr(column.dtype, "storage", "") == "pyarrow":  # text, which holds no half character
        return cells.texts(column if column.name == "text" else column.str.strip()), []
    faults: list[cells.Fault] = []
    if ours or kind is not None:
        column, faults = cells.single(
            column, multilabel=kind == "multilabel", truth=not ours or column.name == "label"
        )
    column = cells.texts(column) if ours else cells.of_one_type(column)
    if cells.is_text(column):
        column, broken = cells.whole(column)
        faults += broken
        if column.name != "text":
            column = cells.stripped(column)
    return column, faults


def _media_faults(media: pd.Series) -> dict[int, str]:
    """Return what is wrong with media entries that are neither paths below a folder nor URLs, by row."""
    lines = "\n" + "\n".join(media)
    if "".join(media).isprintable() and not any(mark in lines for mark in _SUSPECT):
        return {}
    return {row: fault for row, entry in enumerate(media) if (fault := _media_fault(entry))}


def _media_fault(entry: str) -> str:
    if urls.is_signed(entry):
        return f"{urls.redacted(entry)!r} {urls.WITH_CREDENTIALS}"
    if urls.is_url(entry) and urls.folder_of(entry) is None:
        fault = urls.fault_of(entry)
        return f"{urls.redacted(entry)!r} {fault}" if fault else ""
    if _NOT_BELOW.search(entry):
        return (
            f"{urls.redacted(entry)!r} is not a path below the media root; write it relative to that, with /"
        )
    return ""


def _one_spelling(media: pd.Series) -> pd.Series:
    """Return the entries without what a path can do without: a.wav for ./a.wav, a/b for a//b; URLs as they are."""
    lines = "\n" + "\n".join(media) + "\n"
    if not any(mark in lines for mark in _LOOSE):
        return media
    return pd.Series([_plain(entry) for entry in media], index=media.index, dtype=object)


def _plain(entry: str) -> str:
    if urls.is_url(entry):
        return entry
    plain = str(PurePosixPath(entry)).strip() if entry else ""
    return plain if plain == entry else _plain(plain)


def _problems(
    what: str, column: str, mask: np.ndarray | pd.Series, fault: Callable[[int], str]
) -> list[Problem]:
    return [Problem(what, row, column, fault(row)) for row in np.flatnonzero(mask).tolist()]


def _parts(shown: str) -> list[str]:
    return shown.split("+") if shown else []
