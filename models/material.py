"""What a sweep works on: the rows of views that belong together, as plain arrays.

Several views of the same rows may come in, which differ in the feature set of one modality or more: those are
candidates, among which each training fold chooses for itself (`mixed_signals.models.choosing`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixed_signals.models.base import Problem
from mixed_signals.store import Fold, UsageError, Views

Subset = tuple[str, ...]
Choice = Mapping[str, int]


@dataclass(frozen=True)
class Candidate:
    """A feature set that may stand for a modality.

    Attributes
    ----------
    name, recipe, content : str
        The feature set's name and fingerprints.
    start, stop : int
        Its columns in `Material.X`.
    """

    name: str
    recipe: str
    content: str
    start: int
    stop: int


@dataclass(frozen=True)
class Material:
    """Rows, targets and columns that the blocks of a sweep share.

    Attributes
    ----------
    ids : ndarray of str, shape (N,)
    X : ndarray of float32, shape (N, sum of D over all candidates)
        NaN where a modality is absent.
    candidates : dict of str to tuple of Candidate
        The feature sets of each modality, in the order text, audio, video.
    kind : str
    classes : tuple of str
    y : ndarray, shape (N,) or (N, C)
    votes : ndarray, shape (N, K), or None
    groups : ndarray of int, shape (N,), or None
        What inner folds keep together.
    """

    ids: np.ndarray
    X: np.ndarray
    candidates: dict[str, tuple[Candidate, ...]]
    kind: str
    classes: tuple[str, ...]
    y: np.ndarray
    votes: np.ndarray | None
    groups: np.ndarray | None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the order text, audio, video."""
        return tuple(self.candidates)

    def problem(self, choice: Choice, weights: np.ndarray | None = None) -> Problem:
        """Return what heads see when these candidates stand for the modalities, and rows have these weights (N,)."""
        blocks = {}
        for modality, candidates in self.candidates.items():
            chosen = candidates[choice.get(modality, 0)]
            blocks[modality] = (chosen.start, chosen.stop)
        return Problem(self.X, self.y, blocks, self.groups, self.votes, weights)

    def choices_of(
        self, views_of_folds: Iterable[tuple[Fold, Sequence[Views]]]
    ) -> dict[tuple[int, int], Choice]:
        """Return which candidates the feature sets of each fold's views are, the only ones that it sees."""
        names = {modality: [c.name for c in found] for modality, found in self.candidates.items()}
        return {
            (fold.partition, fold.fold): {m: names[m].index(views.sources[m].name) for m in views.modalities}
            for fold, (views,) in views_of_folds
        }

    def features(self, subset: Iterable[str], choice: Choice) -> dict[str, dict[str, str]]:
        """Return name and recipe of the feature sets that a head of these modalities sees."""
        chosen = {modality: self.candidates[modality][choice.get(modality, 0)] for modality in subset}
        return {modality: {"name": c.name, "recipe": c.recipe} for modality, c in chosen.items()}


def groups_named(views: Views, group: str | None) -> np.ndarray | None:
    """Return the groups that a call names by their column; the corpus's own, if any, for ``"group"`` and None."""
    return views.groups if group is None or group == "group" else views.groups_by(group)


def material(
    views: Views | Sequence[Views], groups: np.ndarray | None, *, normalize: bool = False
) -> Material:
    """Return the arrays of views.

    Parameters
    ----------
    views : Views, or several
        Several must have the same utterances and target.
    groups : ndarray, shape (N,), or None
    normalize : bool
        Whether each group's columns are brought to mean 0 and deviation 1 over all its rows, tested ones among them.

    Raises
    ------
    UsageError
        If several views do not fit together, or there is nothing to normalise by.
    """
    several = [views] if isinstance(views, Views) else list(views)
    first = several[0]
    for other in several[1:]:
        if not np.array_equal(other.ids, first.ids) or other.target != first.target:
            raise UsageError("views to choose between must have the same utterances and target")
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1]
    blocks: dict[str, list[np.ndarray]] = {}
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for each in several:
        for modality in each.modalities:
            described = each.features[modality]
            if described["name"] not in found.setdefault(modality, {}):
                found[modality][described["name"]] = (described["recipe"], described["content"])
                blocks.setdefault(modality, []).append(each[modality])
    candidates: dict[str, tuple[Candidate, ...]] = {}
    columns, start = [], 0
    for modality in [m for m in ("text", "audio", "video") if m in found]:
        made = []
        for (name, (recipe, content)), block in zip(found[modality].items(), blocks[modality], strict=True):
            made.append(Candidate(name, recipe, content, start, start + block.shape[1]))
            columns.append(block)
            start += block.shape[1]
        candidates[modality] = tuple(made)
    X = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
    if normalize:
        if codes is None:
            raise UsageError("normalisation by group needs groups (--group)")
        X = normalized(X, codes)
    return Material(first.ids, X, candidates, first.kind, first.classes, first.y, first.votes, codes)


def normalized(X: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return X with each group's columns at mean 0 and population deviation 1 over the rows that have them.

    A column that does not vary within a group is 0 there. This uses all rows of a group, whatever fold they are in: the
    result is transductive (no label is used, but a test row's neighbours are).

    Parameters
    ----------
    X : ndarray of float32, shape (N, D)
        NaN where a value is absent; it stays so.
    codes : ndarray of int, shape (N,)
        Group numbers.
    """
    out = np.empty_like(X)
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        part = X[rows].astype(np.float64)
        there = np.isfinite(part)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, part, 0).sum(axis=0) / count
        part -= mean
        scale = np.sqrt(np.where(there, part**2, 0).sum(axis=0) / count)
        out[rows] = part / np.where(scale > 1e-6 * np.maximum(np.abs(mean), 1e-6), scale, np.inf)
    return out


def arrays_hash(*parts: Any) -> str:
    """Return a short hash of arrays and plain values, for telling whether two sweeps work on the same."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            plain = part.astype(str) if part.dtype == object else np.ascontiguousarray(part)
            digest.update(f"{plain.dtype}{plain.shape}".encode())
            digest.update(plain.tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
