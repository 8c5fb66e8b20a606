"""The corpus: utterances with media, text, labels and groups, and the ratings people gave them.

Tables
------
utterances : one row per utterance
    `utterance_id` (text, unique, required), `media` (path below the media root), `start` and `end`
    (seconds into the media; empty means from its beginning, to its end), `text`, `label`, `group`
    (speaker or dialog: what must not be shared between training and test rows), `split`; further
    columns are kept for slicing.
ratings : one row per judgement
    `utterance_id`, `rater` (may be empty), `shown` (text, audio, video, or several joined by ``+``),
    `value`, `count` (how many gave this value; 1 unless votes are aggregated).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from mixed_signals.store.errors import MixedSignalsError, UsageError

MODALITIES = ("text", "audio", "video")
UTTERANCE_COLUMNS = ("utterance_id", "media", "start", "end", "text", "label", "group", "split")
RATING_COLUMNS = ("utterance_id", "rater", "shown", "value", "count")
_SHOWN_PROBLEMS = 20


class Problem(NamedTuple):
    """One fault of a table: which table, which row (from 0), which of our columns, and what is wrong."""

    table: str
    row: int
    column: str
    fault: str


class InvalidCorpus(MixedSignalsError):  # noqa: N818 - reads as what it says
    """The tables break the rules of a corpus; the message lists where and how to mend it.

    Attributes
    ----------
    lines : list of str
        One line for every fault found.
    problems : list of Problem
        The same, for a reader that knows where its rows stand; empty where the fault is not of a row.
    """

    def __init__(self, source: str, lines: list[str], problems: Sequence[Problem] = ()) -> None:
        self.lines, self.problems = lines, list(problems)
        shown = [f"{source}: {lines[0]}"] if len(lines) == 1 else [f"{source}: {len(lines)} problems"]
        if len(lines) > 1:
            shown += [f"  {line}" for line in lines[:_SHOWN_PROBLEMS]]
        if len(lines) > _SHOWN_PROBLEMS:
            shown.append(f"  and {len(lines) - _SHOWN_PROBLEMS} more")
        super().__init__("\n".join(shown))


@dataclass(frozen=True)
class Target:
    """A column that heads learn to predict.

    Parameters
    ----------
    name : str
        The column of the utterances table.
    kind : str
        ``"nominal"`` is the only kind so far.
    classes : tuple of str
        The labels, in the order of the probability columns.
    """

    name: str
    kind: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """Validated utterances and ratings.

    Parameters
    ----------
    name : str
        What the corpus is called in reports.
    utterances : DataFrame
        One row per utterance (see the module's docstring).
    ratings : DataFrame, optional
        One row per judgement.
    media_root : Path, optional
        The folder below which every media path lies.

    Attributes
    ----------
    targets : tuple of Target
        The declared targets: ``label`` when the utterances have labels. `target` makes one of any column.

    Raises
    ------
    InvalidCorpus
        If an id repeats or is empty, an end is not after its start, a media path leaves the media
        root, or a rating names an unknown utterance. All faults are listed, none is dropped.
    ValueError
        If a start, end or count is not a number.
    """

    name: str
    utterances: pd.DataFrame
    ratings: pd.DataFrame | None = None
    media_root: Path | None = None
    targets: tuple[Target, ...] = field(init=False)

    def __post_init__(self) -> None:
        if "utterance_id" not in self.utterances.columns:
            raise InvalidCorpus(self.name, ["the utterances have no column utterance_id"])
        utterances = _plain(self.utterances, UTTERANCE_COLUMNS)
        if not len(utterances):
            raise InvalidCorpus(self.name, ["there is no utterance"])
        problems = _utterance_problems(utterances)
        ratings = None
        if self.ratings is not None and len(self.ratings):
            ratings = _plain(self.ratings, RATING_COLUMNS)
            ratings["count"] = ratings["count"].fillna(1)
            problems += _rating_problems(ratings, set(utterances["utterance_id"]))
        if problems:
            lines = [f"{p.table} row {p.row + 1}, {p.column}: {p.fault}" for p in problems]
            raise InvalidCorpus(self.name, lines, problems)
        if ratings is not None:
            ratings["count"] = ratings["count"].astype("int64")
        object.__setattr__(self, "utterances", utterances)
        object.__setattr__(self, "ratings", ratings)
        targets = (self.target("label"),) if (utterances["label"] != "").any() else ()
        object.__setattr__(self, "targets", targets)

    def __len__(self) -> int:
        return len(self.utterances)

    def __str__(self) -> str:
        lines = [f"corpus {self.name}: {len(self):,} utterances"]
        for target in self.targets:
            counts = self.utterances[target.name].value_counts()
            lines.append(f"  {target.name}: " + ", ".join(f"{c} {counts[c]:,}" for c in target.classes))
        groups = set(self.utterances["group"]) - {""}
        lines.append(f"  groups: {len(groups):,}" if groups else "  groups: none")
        if self.ratings is not None:
            lines.append(f"  ratings: {int(self.ratings['count'].sum()):,}")
        return "\n".join(lines)

    @property
    def ids(self) -> np.ndarray:
        """Utterance ids in corpus order, shape (N,), as Python strings."""
        return self.utterances["utterance_id"].to_numpy(dtype=object)

    def target(self, name: str) -> Target:
        """Return the column `name` as a target: its values are the classes, empty cells are no label.

        Raises
        ------
        UsageError
            If there is no such column, or it is empty.
        """
        column = self.utterances.get(name)
        classes = () if column is None else tuple(sorted({_text(v) for v in column.dropna()} - {""}))
        if not classes:
            known = ", ".join(map(str, self.utterances.columns))
            raise UsageError(
                f"no labels in a column {name!r} (the utterances have: {known}); name the column of labels with "
                "--target, or with --label when importing"
            )
        return Target(name, "nominal", classes)

    def labels(self, target: str) -> np.ndarray:
        """Return the labels of a target, shape (N,), as Python strings; empty where there is none."""
        column = self.utterances[self.target(target).name]
        labels: np.ndarray = column.astype(object).where(column.notna(), "").map(_text).to_numpy(dtype=object)
        return labels

    def media_path(self, media: str) -> Path | None:
        """Return the file of a media entry, or None where it is empty.

        Raises
        ------
        MixedSignalsError
            If a symbolic link leads out of the media root.
        """
        if not media:
            return None
        root = (self.media_root or Path()).resolve()
        path = (root / media).resolve()
        if not path.is_relative_to(root):
            raise MixedSignalsError(f"{media}: leads out of the media root {root}")
        return path


def _plain(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Give the named columns their types (text as Python strings, empty for none; numbers as float64)."""
    table = table.reset_index(drop=True).copy()
    for column in columns:
        if column in ("start", "end", "count"):
            values = table[column] if column in table else pd.Series(np.nan, index=table.index)
            table[column] = pd.to_numeric(values, errors="raise").astype("float64")
        else:
            values = table[column] if column in table else pd.Series("", index=table.index)
            table[column] = values.astype(object).where(values.notna(), "").map(_text).astype(object)
    others = [column for column in table.columns if column not in columns]
    return table[[*columns, *others]]


def _text(value: object) -> str:
    """Return a cell as text; whole numbers without a decimal point, which a gap in their column gives them."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _utterance_problems(table: pd.DataFrame) -> list[Problem]:
    problems: list[Problem] = []
    first: dict[str, int] = {}
    columns = (table[name] for name in ("utterance_id", "start", "end", "media"))
    for row, (utterance, start, end, media) in enumerate(zip(*columns, strict=True)):
        found: list[tuple[str, str]] = []
        if utterance == "":
            found.append(("utterance_id", "is empty; every row needs one"))
        elif first.setdefault(utterance, row) != row:
            found.append(("utterance_id", f"{utterance!r} stands in an earlier row too; ids must be unique"))
        if start < 0:
            found.append(("start", f"{start:g} is before the beginning"))
        begin = 0.0 if np.isnan(start) else start
        if end <= begin:
            found.append(("end", f"{end:g} is not after the start, {begin:g}"))
        path = PurePosixPath(media)
        if path.is_absolute() or ".." in path.parts:
            found.append(("media", f"{media!r} is not a path below the media root"))
        problems += [Problem("utterances", row, column, fault) for column, fault in found]
    return problems


def _rating_problems(table: pd.DataFrame, known: set[str]) -> list[Problem]:
    problems: list[Problem] = []
    columns = (table[name] for name in ("utterance_id", "value", "shown", "count"))
    for row, (utterance, value, shown, count) in enumerate(zip(*columns, strict=True)):
        found: list[tuple[str, str]] = []
        if utterance not in known:
            found.append(("utterance_id", f"{utterance!r} is not an utterance of the corpus"))
        if value == "":
            found.append(("value", "is empty"))
        unknown = [part for part in shown.split("+") if part not in MODALITIES] if shown else []
        if unknown:
            found.append(("shown", f"{unknown[0]!r} is none of {', '.join(MODALITIES)}"))
        if count < 1 or count % 1:
            found.append(("count", f"{count:g} is not a positive whole number"))
        problems += [Problem("ratings", row, column, fault) for column, fault in found]
    return problems
