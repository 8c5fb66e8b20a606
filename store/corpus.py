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

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.store.errors import MixedSignalsError

MODALITIES = ("text", "audio", "video")
UTTERANCE_COLUMNS = ("utterance_id", "media", "start", "end", "text", "label", "group", "split")
RATING_COLUMNS = ("utterance_id", "rater", "shown", "value", "count")
_SHOWN_PROBLEMS = 20


class InvalidCorpus(MixedSignalsError):  # noqa: N818 - reads as what it says
    """The tables break the rules of a corpus; the message lists where and how to mend it.

    Attributes
    ----------
    problems : list of str
        One sentence for every fault found.
    """

    def __init__(self, source: str, problems: list[str]) -> None:
        self.problems = problems
        shown = problems[:_SHOWN_PROBLEMS]
        more = len(problems) - len(shown)
        lines = [f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
        lines += [f"  {problem}" for problem in shown]
        if more:
            lines.append(f"  and {more} more")
        super().__init__("\n".join(lines) if len(problems) > 1 else f"{source}: {problems[0]}")


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
        What can be predicted; ``label`` when the utterances have labels.

    Raises
    ------
    InvalidCorpus
        If an id repeats or is empty, an end is not after its start, a media path leaves the media
        root, or a rating names an unknown utterance. All faults are listed, none is dropped.
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
        problems = _utterance_problems(utterances)
        ratings = None
        if self.ratings is not None and len(self.ratings):
            ratings = _plain(self.ratings, RATING_COLUMNS)
            ratings["count"] = ratings["count"].fillna(1)
            problems += _rating_problems(ratings, set(utterances["utterance_id"]))
        if problems:
            raise InvalidCorpus(self.name, problems)
        if ratings is not None:
            ratings["count"] = ratings["count"].astype("int64")
        object.__setattr__(self, "utterances", utterances)
        object.__setattr__(self, "ratings", ratings)
        classes = tuple(sorted(set(utterances["label"]) - {""}))
        targets = (Target("label", "nominal", classes),) if classes else ()
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
        """Return the target called `name`.

        Raises
        ------
        MixedSignalsError
            If the corpus has no such target.
        """
        for target in self.targets:
            if target.name == name:
                return target
        known = ", ".join(target.name for target in self.targets) or "none: the utterances carry no labels"
        raise MixedSignalsError(f"corpus {self.name}: no target {name!r} (targets: {known})")

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


def _plain(table: pd.DataFrame, text_and_number_columns: tuple[str, ...]) -> pd.DataFrame:
    """Give the named columns their types (text as Python strings, empty for none; numbers as float64)."""
    table = table.reset_index(drop=True).copy()
    for column in text_and_number_columns:
        if column in ("start", "end", "count"):
            values = table[column] if column in table else pd.Series(np.nan, index=table.index)
            table[column] = pd.to_numeric(values, errors="raise").astype("float64")
        else:
            values = table[column] if column in table else pd.Series("", index=table.index)
            table[column] = values.astype(object).where(values.notna(), "").map(str).astype(object)
    others = [column for column in table.columns if column not in text_and_number_columns]
    return table[[*text_and_number_columns, *others]]


def _utterance_problems(table: pd.DataFrame) -> list[str]:
    problems: list[str] = []
    ids = table["utterance_id"]
    if not len(table):
        problems.append("there is no utterance")
    if (ids == "").any():
        problems.append(f"row {int(np.flatnonzero(ids == '')[0]) + 1}: utterance_id is empty")
    problems += [
        f"utterance {i}: the id comes {n} times; ids must be unique"
        for i, n in ids[ids != ""].value_counts().items()
        if n > 1
    ]
    for row in table[(table["start"] < 0) | (table["end"] <= table["start"].fillna(0))].itertuples():
        problems.append(f"utterance {row.utterance_id}: end {row.end} is not after start {row.start}")
    for row in table[table["media"] != ""].itertuples():
        path = PurePosixPath(str(row.media))
        if path.is_absolute() or ".." in path.parts:
            problems.append(
                f"utterance {row.utterance_id}: media {row.media!r} must be a path below the media root"
            )
    return problems


def _rating_problems(table: pd.DataFrame, known: set[Any]) -> list[str]:
    problems: list[str] = []
    for number, row in enumerate(table.itertuples(index=False), start=1):
        if row.utterance_id not in known:
            problems.append(f"rating {number}: utterance {row.utterance_id!r} is not in the corpus")
        if row.value == "":
            problems.append(f"rating {number}: value is empty")
        shown = str(row.shown).split("+") if row.shown else []
        if unknown := [part for part in shown if part not in MODALITIES]:
            problems.append(f"rating {number}: shown {unknown[0]!r} is none of {', '.join(MODALITIES)}")
        count = float(str(row.count))
        if count < 1 or count % 1:
            problems.append(f"rating {number}: count {row.count} is not a positive whole number")
    return problems
