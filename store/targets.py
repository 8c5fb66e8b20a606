"""Targets: what heads learn to predict, and how it stands in the cells of a column or in the ratings.

Kinds
-----
nominal : one of several classes, such as an emotion.
ordinal : one of several classes in rising order, such as low, mid, high.
interval : a number, such as arousal from 1 to 5.
multilabel : any number of classes at once, joined by ``|`` in the cell; ``none`` says that someone looked and no
    class applies, an empty cell that nobody looked.

A nominal or ordinal target with `votes` has no column: its values are those of the ratings, counted per
utterance, and its label is the value with strictly most votes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixed_signals.store import cells
from mixed_signals.store.errors import UsageError
from mixed_signals.store.provenance import MODALITIES as MODALITIES

KINDS = ("nominal", "ordinal", "interval", "multilabel")
_NONE = cells.NONE
_SHOWN_CLASSES = 12


@dataclass(frozen=True)
class Target:
    """Something that heads learn to predict.

    Parameters
    ----------
    name : str
        A column of the utterances table; with `votes`, a name of its own.
    kind : str
        ``"nominal"``, ``"ordinal"``, ``"interval"`` or ``"multilabel"``.
    classes : tuple of str
        The classes in the order of the probability columns (ordinal: rising); empty for interval. A nominal or
        multilabel target that leaves them out gets those that occur, sorted.
    range : tuple of float, optional
        Interval: the lowest and the highest value possible.
    votes : str, optional
        Take the labels from the ratings: ``"any"`` of them, or those made of what was shown (``"audio+video"``).

    Raises
    ------
    UsageError
        If these do not fit together.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    votes: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.range is not None:
            object.__setattr__(self, "range", tuple(map(float, self.range)))
        if self.votes not in (None, "any"):
            object.__setattr__(self, "votes", canonical_shown(str(self.votes)))
        if fault := self._fault():
            raise UsageError(f"target {self.name!r}: {fault}")

    def _fault(self) -> str | None:
        if not self.name:
            return "has no name"
        if self.kind not in KINDS:
            return f"kind {self.kind!r} is none of {', '.join(KINDS)}"
        twice = [name for place, name in enumerate(self.classes) if name in self.classes[:place]]
        if twice:
            return f"class {twice[0]!r} comes twice"
        if "" in self.classes:
            return "a class is empty"
        if self.kind == "ordinal" and len(self.classes) < 2:
            return "an ordinal target needs its classes in rising order, e.g. low|mid|high"
        if self.kind == "interval" and self.classes:
            return "an interval target has a range, no classes"
        if self.kind == "multilabel" and any(name == _NONE or "|" in name for name in self.classes):
            return f"no class can be called {_NONE!r} (it says that none applies) or hold a |"
        if self.range is not None:
            if self.kind != "interval":
                return f"a range is for interval targets, not for {self.kind} ones"
            if not (all(map(math.isfinite, self.range)) and self.range[0] < self.range[1]):
                return f"the range {self.range[0]:g}..{self.range[1]:g} does not rise"
        if self.votes is not None:
            if self.kind not in ("nominal", "ordinal"):
                return f"votes make nominal or ordinal targets, not {self.kind} ones"
            if self.votes != "any" and not set(self.votes.split("+")) <= set(MODALITIES):
                return (
                    f"votes {self.votes!r}: use any, or what was shown: {', '.join(MODALITIES)}, joined by +"
                )
        return None

    @property
    def about(self) -> str:
        """What it is, without its classes: ``interval 1..5``; ``nominal, votes of audio+video``."""
        if self.votes is not None:
            return f"{self.kind}, votes of {self.votes}"
        return self.kind if self.range is None else f"{self.kind} {self.range[0]:g}..{self.range[1]:g}"

    def __str__(self) -> str:
        """Return the name and what it is: ``effort (ordinal: low|mid|high)``."""
        classes = f": {shortened(self.classes, '|')}" if self.classes else ""
        return f"{self.name} ({self.about}{classes})"


def parse_target(name: str, value: str) -> Target:
    """Return the target of a flag such as ``--target arousal=interval:1..5``.

    `value` is ``nominal``, ``nominal:angry|sad``, ``ordinal:low|mid|high``, ``interval``, ``interval:1..5``,
    ``multilabel``, ``multilabel:angry|sad``, ``votes`` or ``votes:audio+video``.

    Raises
    ------
    UsageError
        If it is something else.
    """
    kind, _, rest = value.partition(":")
    if kind == "votes":
        return Target(name, "nominal", votes=rest or "any")
    if kind != "interval":
        return Target(name, kind, tuple(part.strip() for part in rest.split("|")) if rest else ())
    low, _, high = rest.partition("..")
    try:
        return Target(name, kind, range=(float(low), float(high)) if rest else None)
    except ValueError:
        raise UsageError(
            f"target {name!r}: range {rest!r} is not two numbers; write e.g. interval:1..5"
        ) from None


def canonical_shown(shown: str) -> str:
    """Return what was shown in one order, each part once: audio+video for video+audio. Unknown parts stay."""
    parts = shown.split("+")
    return "+".join(
        [m for m in MODALITIES if m in parts] + [part for part in parts if part not in MODALITIES]
    )


def with_classes(target: Target, column: pd.Series) -> Target:
    """Return the target with the classes that occur in its cells (for votes: in the values), if it names none."""
    if target.classes or target.kind == "interval":
        return target
    found = set(cells.texts(column).unique()) - {""}
    if target.kind == "multilabel":
        found = {part.strip() for cell in found for part in cell.split("|")} - {"", _NONE}
    return replace(target, classes=tuple(sorted(found)))


def cell_faults(target: Target, column: pd.Series) -> list[cells.Fault]:
    """Return the row of every cell that cannot stand in the target's column, and why."""
    if target.kind == "interval":
        return _interval_faults(target, column)
    codes, values = pd.factorize(cells.texts(column).to_numpy(dtype=object))
    wrong = {code: fault for code, value in enumerate(values) if (fault := _class_fault(target, value))}
    rows = np.flatnonzero(np.isin(codes, list(wrong)))
    return [(int(row), wrong[codes[row]]) for row in rows]


def _class_fault(target: Target, cell: str) -> str | None:
    parts = [cell] if target.kind != "multilabel" else [part.strip() for part in cell.split("|")]
    if cell == "" or (target.kind == "multilabel" and parts == [_NONE]):
        return None
    unknown = [part for part in parts if part not in target.classes]
    if not unknown:
        return None
    mend = "mend the cell, or add the class to the target"
    if target.kind == "multilabel":
        mend = f"{_NONE!r} stands alone" if _NONE in unknown else f"join classes by |; {mend}"
    return f"{unknown[0]!r} is none of the classes {shortened(target.classes, ', ')}; {mend}"


def _interval_faults(target: Target, column: pd.Series) -> list[cells.Fault]:
    values, faults = cells.numbers(column)
    if target.range is not None:
        low, high = target.range
        for row in np.flatnonzero((values < low) | (values > high)):
            fault = f"{values[row]:g} is not within {low:g} to {high:g}; mend the cell or the target's range"
            faults.append((int(row), fault))
    return faults


def cell_labels(target: Target, column: pd.Series) -> np.ndarray:
    """Return a column's labels.

    Returns
    -------
    ndarray
        Nominal, ordinal: (N,) Python strings, "" for none. Interval: (N,) float64, NaN for none. Multilabel:
        (N, C) float64 of 0 and 1, NaN rows where nobody looked.
    """
    if target.kind == "interval":
        return cells.numbers(column)[0]
    texts = cells.texts(column).to_numpy(dtype=object)
    if target.kind != "multilabel":
        return texts
    codes, values = pd.factorize(texts)
    held = [{part.strip() for part in value.split("|")} for value in values]
    rows = np.array([[name in parts for name in target.classes] for parts in held], dtype=np.float64)
    rows[[value == "" for value in values]] = np.nan
    return rows[codes]


def voted(target: Target, ratings: pd.DataFrame) -> pd.Series:
    """Return which ratings the votes of a target are, as a mask over their rows."""
    if target.votes == "any":
        return pd.Series(True, index=ratings.index)
    return ratings["shown"] == target.votes


def count_votes(target: Target, ids: np.ndarray, ratings: pd.DataFrame) -> np.ndarray:
    """Return the votes for each class, shape (N, C), float64, a row for each of `ids`."""
    used = ratings[voted(target, ratings)]
    rows = cells.positions(used["utterance_id"], ids)
    columns = cells.positions(used["value"], target.classes)
    shape = (len(ids), len(target.classes))
    flat = np.bincount(rows * shape[1] + columns, weights=used["count"], minlength=math.prod(shape))
    return flat.reshape(shape)


def winners(target: Target, votes: np.ndarray) -> np.ndarray:
    """Return the class with strictly most votes, shape (N,), Python strings; "" for a tie and for no votes."""
    most = votes.max(axis=1, initial=0)
    clear = (votes == most[:, None]).sum(axis=1) == 1
    classes = np.array([*target.classes, ""], dtype=object)
    return classes[np.where(clear & (most > 0), votes.argmax(axis=1), -1)]


def summary(target: Target, labels: np.ndarray) -> str:
    """Return one line about a target and its labels: how many have each class, or the range seen."""
    head = target.name if target.about == "nominal" else f"{target.name} ({target.about})"
    if target.kind == "interval":
        seen = labels[~np.isnan(labels)]
        values = f"{seen.min():g} to {seen.max():g}, mean {seen.mean():.3g}, in " if len(seen) else ""
        return f"{head}: {values}{len(seen):,} of {len(labels):,}"
    n_labelled = len(labels)
    if target.kind == "multilabel":
        looked = labels[~np.isnan(labels).any(axis=1)]
        n_labelled = len(looked)
        counts = dict(zip(target.classes, looked.sum(axis=0), strict=True))
        counts[_NONE] = (looked.sum(axis=1) == 0).sum()
    else:
        found = pd.Series(labels).value_counts()
        counts = {name: found.get(name, 0) for name in target.classes}
        if target.votes is None:
            n_labelled -= found.get("", 0)
        else:
            counts["tied or without votes"] = found.get("", 0)
    said = shortened([f"{name} {int(n):,}" for name, n in counts.items()], ", ")
    return f"{head}: {said}" + (
        f"; {n_labelled:,} of {len(labels):,} labelled" if n_labelled < len(labels) else ""
    )


def shortened(names: Iterable[str], mark: str) -> str:
    """Join names, the first dozen of many."""
    listed = list(names)
    more = len(listed) - _SHOWN_CLASSES
    return mark.join(listed[:_SHOWN_CLASSES]) + (f"{mark}and {more:,} more" if more > 0 else "")
