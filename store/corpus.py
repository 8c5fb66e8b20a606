"""The corpus: utterances with media, text, labels and groups, and the ratings people gave them.

Tables
------
utterances : one row per utterance
    `utterance_id` (text, unique, required), `media` (path below the media root, or a URL), `start` and `end`
    (seconds into the media; empty means from its beginning, to its end), `text`, `label`, `group`
    (speaker or dialog: what must not be shared between training and test rows), `split`. Kept where
    given: `speaker`, `dialog`, `turn` (whole number, the order in the dialog, unique within `dialog`,
    or within `group` where there is no such column), `transcript_source` (``manual`` or the
    recogniser's name), `transcript_confidence` (0 to 1). Further columns are kept for slicing, and as
    targets: numbers as they are, lists and cells of several types as text.
ratings : one row per judgement
    `utterance_id`, `rater` (may be empty), `shown` (text, audio, video, or several joined by ``+``),
    `value`, `count` (how many gave this value; 1 unless votes are aggregated).

Spaces around a cell mean nothing, except in `text`; and a media entry has one spelling (a.wav for ./a.wav).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mixed_signals.store import cells, targets, urls
from mixed_signals.store.checks import Problem, checked_ratings, checked_utterances
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.provenance import as_bytes, row_hashes
from mixed_signals.store.targets import MODALITIES as MODALITIES
from mixed_signals.store.targets import Target

_SHOWN_PROBLEMS = 20


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
    media_root : Path or str, optional
        The folder below which every media path lies, or its URL (``s3://bucket/folder``).
    declared : tuple of Target
        What heads may learn, besides the labels.

    Attributes
    ----------
    targets : tuple of Target
        The declared targets with their classes, and before them `label` when the utterances have labels and no
        declared target has that name. `target` makes one of any column.

    Raises
    ------
    InvalidCorpus
        If an id repeats or is empty, a number is none, an end is not after its start, a media path leaves the
        media root, a rating names an unknown utterance, a cell is no single value (a list, an object) or cannot be
        its target's. All faults are listed, one for a cell, none is dropped.
    UsageError
        If (and no row is faulty) a declared target has no column, no cells or no ratings; or the media root is a
        URL that is not taken (`store.urls`), such as one with credentials in it.
    """

    name: str
    utterances: pd.DataFrame
    ratings: pd.DataFrame | None = None
    media_root: Path | str | None = None
    declared: tuple[Target, ...] = ()
    targets: tuple[Target, ...] = field(init=False)

    def __post_init__(self) -> None:
        given = None if self.ratings is None or self.ratings.empty else self.ratings
        _refuse_columns(self.name, "utterances", self.utterances)
        declared = tuple(self.declared)
        utterances, problems = checked_utterances(self.utterances, declared)
        ratings = None
        if given is not None:
            _refuse_columns(self.name, "ratings", given)
            ratings, found = checked_ratings(given, utterances["utterance_id"])
            problems += found
        for attribute, value in (
            ("utterances", utterances),
            ("ratings", ratings),
            ("media_root", None if self.media_root is None else as_media_root(self.media_root)),
            ("declared", declared),
        ):
            object.__setattr__(self, attribute, value)
        try:
            problems += self._settle_targets()
        except UsageError:  # what faulty cells should have said may be what the target lacks
            if not problems:
                raise
        if problems:
            told: dict[tuple[str, int, str], Problem] = {}
            for problem in problems:
                told.setdefault(problem[:3], problem)
            problems = sorted(told.values(), key=lambda problem: (problem.table == "ratings", problem.row))
            lines = [f"{p.table} row {p.row + 1}, {p.column}: {p.fault}" for p in problems]
            raise InvalidCorpus(self.name, lines, problems)

    def _settle_targets(self) -> list[Problem]:
        """Set `targets`, and return the cells that cannot stand in them."""
        twice = [name for name, n in Counter(target.name for target in self.declared).items() if n > 1]
        if twice:
            raise UsageError(f"target {twice[0]!r} is declared twice")
        problems, settled = [], []
        for target in self.declared:
            column = self._cells(target)
            target = self._with_classes(target, column)
            settled.append(target)
            table, name = ("utterances", target.name) if target.votes is None else ("ratings", "value")
            for row, fault in targets.cell_faults(target, column):
                problems.append(Problem(table, int(column.index[row]), name, fault))
        object.__setattr__(self, "targets", tuple(settled))
        if "label" not in [target.name for target in settled] and (self.utterances["label"] != "").any():
            object.__setattr__(self, "targets", (self.target("label"), *settled))
        return problems

    def _cells(self, target: Target) -> pd.Series:
        """Return the column of a target, or the values of the ratings that are its votes."""
        column = self.utterances.get(target.name, pd.Series("", index=self.utterances.index))
        if target.votes is None:
            return column
        if (cells.texts(column) != "").any():
            raise UsageError(f"target {target.name!r} takes votes and is a column too; give it another name")
        if self.ratings is None:
            raise UsageError(
                f"target {target.name!r} takes votes and there are no ratings; give them (--ratings)"
            )
        values = self.ratings["value"][targets.voted(target, self.ratings)]
        if values.empty:
            shown = ", ".join(sorted(set(self.ratings["shown"]) - {""})) or "does not say"
            raise UsageError(f"target {target.name!r}: no rating was made of {target.votes} (shown: {shown})")
        return values

    def _with_classes(self, target: Target, column: pd.Series) -> Target:
        """Return the target with its classes; refuse a column that has nothing to learn from."""
        found = targets.with_classes(target, column)
        if (cells.texts(column) == "").all() or not (found.classes or found.kind == "interval"):
            known = ", ".join(map(str, self.utterances.columns))
            raise UsageError(
                f"no labels in a column {target.name!r} (the utterances have: {known}); name the column of labels "
                "with --target, or with --label when importing"
            )
        return found

    def __len__(self) -> int:
        return len(self.utterances)

    def __str__(self) -> str:
        lines = [f"corpus {self.name}: {len(self):,} utterances"]
        lines += [f"  {targets.summary(target, self.labels(target.name))}" for target in self.targets]
        groups = set(self.utterances["group"]) - {""}
        lines.append(f"  groups: {len(groups):,}" if groups else "  groups: none")
        splits = self.utterances["split"][self.utterances["split"] != ""].value_counts(sort=False)
        if len(splits):
            lines.append("  splits: " + targets.shortened([f"{s} {n:,}" for s, n in splits.items()], ", "))
        if self.ratings is not None:
            votes = self.ratings.groupby("shown")["count"].sum().sort_values(ascending=False, kind="stable")
            of = ", ".join(f"{shown or 'not said'} {n:,}" for shown, n in votes.items())
            lines.append(f"  ratings: {votes.sum():,}, by what was shown: {of}")
        return "\n".join(lines)

    @property
    def ids(self) -> np.ndarray:
        """Utterance ids in corpus order, shape (N,), as Python strings."""
        return self.utterances["utterance_id"].to_numpy(dtype=object)

    @cached_property
    def id_bytes(self) -> np.ndarray:
        """Utterance ids in corpus order, shape (N,), UTF-8 of one fixed width."""
        return as_bytes(self.ids)

    @cached_property
    def text_hash_bytes(self) -> np.ndarray:
        """What identifies each utterance's text, shape (N,), bytes."""
        return row_hashes("text", self.utterances["text"])

    @cached_property
    def cut_hash_bytes(self) -> np.ndarray:
        """What identifies which part of which media entry each utterance is, shape (N,), bytes."""
        table = self.utterances
        return row_hashes("cut", table["media"], table["start"], table["end"])

    def entry_hash_bytes(self, modality: str) -> np.ndarray:
        """Return what identifies what the corpus says of each utterance in a modality, shape (N,), bytes."""
        return self.text_hash_bytes if modality == "text" else self.cut_hash_bytes

    def target(self, name: str) -> Target:
        """Return a declared target, or the column `name` as a nominal one: its values are the classes.

        Raises
        ------
        UsageError
            If there is neither, or the column is empty.
        """
        for target in self.targets:
            if target.name == name:
                return target
        nominal = Target(name, "nominal")
        return self._with_classes(nominal, self._cells(nominal))

    def labels(self, name: str) -> np.ndarray:
        """Return the labels of a target.

        Returns
        -------
        ndarray
            Nominal, ordinal: (N,) Python strings, "" for none (votes: for a tie too). Interval: (N,) float64, NaN
            for none. Multilabel: (N, C) float64 of 0 and 1, NaN rows where nobody looked.
        """
        target = self.target(name)
        if target.votes is None:
            return targets.cell_labels(target, self.utterances[name])
        return targets.winners(target, self.votes(name))

    def votes(self, name: str) -> np.ndarray:
        """Return the votes of a target for each of its classes, shape (N, C), float64.

        Raises
        ------
        UsageError
            If the target takes no votes.
        """
        target = self.target(name)
        if target.votes is None or self.ratings is None:
            raise UsageError(
                f"target {name!r} takes no votes; declare one that does (--target {name}_votes=votes)"
            )
        return targets.count_votes(target, self.ids, self.ratings)

    def media_path(self, media: str) -> Path | str | None:
        """Return the file of a media entry, its URL where it is not on this machine, or None where it is empty.

        Raises
        ------
        MixedSignalsError
            If a symbolic link leads out of the media root.
        """
        if not media:
            return None
        if (url := self.media_url(media)) is not None:
            return url
        folder, _, name = media.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._inside(os.path.join(self._root, folder), media)
        path = f"{self._folders[folder]}/{name}"
        if name in ("", ".", "..") or os.path.islink(path):
            path = self._inside(path, media)
        return Path(path)

    def media_url(self, media: str) -> str | None:
        """Return the URL of a media entry, or None where it is of this machine, or empty."""
        if urls.is_url(media):
            return media
        return urls.below(self.media_root, media) if media and isinstance(self.media_root, str) else None

    def _inside(self, path: str, media: str) -> str:
        """Return what a path is behind symbolic links, if that is below the media root."""
        real = os.path.realpath(path)
        if real != self._root and not real.startswith(os.path.join(self._root, "")):
            raise MixedSignalsError(f"{media}: leads out of the media root {self._root}")
        return real

    @cached_property
    def _folders(self) -> dict[str, str]:
        """Folders of media entries, and what they are behind symbolic links: one look at each."""
        return {}

    @cached_property
    def _root(self) -> str:
        return os.path.realpath(self.media_root or "")


def _refuse_columns(name: str, what: str, table: pd.DataFrame) -> None:
    """Refuse a table without ids, with a column name twice or without one, and utterances without a row."""
    if "utterance_id" not in table.columns:
        raise InvalidCorpus(name, [f"the {what} have no column utterance_id"])
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise InvalidCorpus(name, [f"the {what} have two columns {twice!r}; rename one"])
    if not all(isinstance(column, str) and column.strip() for column in table.columns):
        fault = "have a column without a name; name it, or leave it out (pandas: to_csv with index=False)"
        raise InvalidCorpus(name, [f"the {what} {fault}"])
    if table.empty:
        raise InvalidCorpus(name, ["there is no utterance"])


def as_media_root(root: Path | str) -> Path | str:
    """Return a URL as it is, and a folder, also one as a ``file://`` URL, as a path.

    Raises
    ------
    UsageError
        If it is a URL that is not taken: of another protocol, or with credentials or a signature in it.
    """
    if isinstance(root, Path) or not urls.is_url(root.strip()):
        return Path(root)
    root = root.strip()
    folder = urls.folder_of(root)
    if folder is not None:
        return Path(folder)
    if fault := urls.fault_of(root):
        raise UsageError(f"{urls.redacted(root)}: the media root {fault} (--media-root)")
    return root
