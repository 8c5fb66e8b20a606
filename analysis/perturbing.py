"""Perturbed rows: what a run's held-out heads say when a modality of their own test rows is changed.

Conventions
-----------
Each row is predicted by the heads of the fold that tests it, never by one that saw it in training. A *change* gets the
vectors of a fold's test rows as its heads get them (normalised by group where the run was; from feature sets of the
fold's own where these are cross-fitted), all modalities and candidate feature sets side by side, and returns them
changed. It is made once for each fold and partition, and every seed's head predicts the same changed rows, so that
outputs can be averaged over seeds as those of the run are. All draws come from the study's seed.

Ready changes: `drop`, `noise`, `permute`, `swap` and `exchange`. Of an absent modality (`drop`), gated and attention
heads make nothing, boosted trees go the way that they learnt, and logistic, ridge and stacked ones take the mean of
their training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.study import Study
from mixed_signals.models import load_head
from mixed_signals.store import Fold

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class TestRows:
    """The rows of a panel that one fold tests, and where their modalities stand.

    Attributes
    ----------
    fold : Fold
    partition : int
        Number of the fold's partition among those of the panel, from 0.
    rows : array of int, shape (n,)
        Rows of the panel.
    blocks : dict of str to slice
        Columns of each modality, all of its candidate feature sets in this fold.
    kinds : array of int, shape (n,)
        The class of each row; of an interval target 1 where the value is above the median of the panel, else 0.
    groups : array of int, shape (n,)
        Number of each row's group. Where the corpus has groups, a row without one is its own; where it has none, all
        rows are one group.
    every : array of float32, shape (all rows, D)
        Vectors of all rows of the run, those that the fold's heads see.
    training : array of int
        Which of these the fold is trained on.
    """

    __test__ = False  # no test of pytest's

    fold: Fold
    partition: int
    rows: NDArray[np.intp]
    blocks: dict[str, slice]
    kinds: NDArray[np.intp]
    groups: NDArray[np.intp]
    every: Vectors
    training: NDArray[np.intp]

    def deviation(self, modality: str) -> NDArray[np.float64]:
        """Return the population deviation of each column of a modality over the training rows that have it, (D_m,)."""
        block = self.every[self.training, self.blocks[modality]]
        there = np.isfinite(block).all(axis=1)
        return block[there].std(axis=0, dtype=np.float64) if there.any() else np.zeros(block.shape[1])


Change = Callable[[Vectors, TestRows, np.random.Generator], Vectors]
"""Takes vectors of a fold's test rows (n, D), which it leaves as they are, and returns changed ones (n, D)."""


def drop(modality: str) -> Change:
    """Return the change that takes a modality away (NaN)."""

    def change(X: Vectors, rows: TestRows, rng: np.random.Generator) -> Vectors:
        return _with(X, rows.blocks[modality], np.float32(np.nan))

    return change


def noise(modality: str, scale: float) -> Change:
    """Return the change that adds gaussian noise, `scale` times each column's deviation over the training rows."""

    def change(X: Vectors, rows: TestRows, rng: np.random.Generator) -> Vectors:
        block = rows.blocks[modality]
        drawn = rng.standard_normal((len(X), block.stop - block.start), dtype=np.float32)
        return _with(X, block, X[:, block] + drawn * (scale * rows.deviation(modality)).astype(np.float32))

    return change


def permute(modality: str) -> Change:
    """Return the change that gives each row the modality of another, by a permutation of the fold's test rows."""

    def change(X: Vectors, rows: TestRows, rng: np.random.Generator) -> Vectors:
        block = rows.blocks[modality]
        return _with(X, block, X[rng.permutation(len(X)), block])

    return change


def swap(modality: str, *, same: bool = False) -> Change:
    """Return the change that gives each row the modality of a row of another class (the same class) and its group.

    A row for which there is none keeps its own; see `draw_donors` for the choice.
    """

    def change(X: Vectors, rows: TestRows, rng: np.random.Generator) -> Vectors:
        donors = draw_donors(rows.kinds, rows.groups, rng, same=same)
        block = rows.blocks[modality]
        return _with(X, block, X[np.where(donors < 0, np.arange(len(X)), donors), block])

    return change


def exchange(modality: str, donors: NDArray[np.intp]) -> Change:
    """Return the change that gives each row the modality of its donor.

    Parameters
    ----------
    modality : str
    donors : array of int, shape (P, N)
        Row of the panel for each partition and row, tested by the same fold; negative: the row keeps its own.
    """

    def change(X: Vectors, rows: TestRows, rng: np.random.Generator) -> Vectors:
        place = np.full(donors.shape[1], -1)
        place[rows.rows] = np.arange(len(X))
        mine = donors[rows.partition, rows.rows]
        block = rows.blocks[modality]
        return _with(X, block, X[np.where(mine < 0, np.arange(len(X)), place[mine]), block])

    return change


def draw_donors(
    kinds: NDArray[np.intp], groups: NDArray[np.intp], rng: np.random.Generator, *, same: bool = False
) -> NDArray[np.intp]:
    """Return for each row one row of its group and of another class, or of its own class but not itself.

    Every such row is equally likely.

    Parameters
    ----------
    kinds, groups : arrays of int, shape (n,)
    rng : Generator
    same : bool
        Whether the class is to be the same.

    Returns
    -------
    array of int, shape (n,)
        -1 where there is none.

    Examples
    --------
    >>> draw_donors(np.array([0, 1, 0]), np.array([0, 0, 1]), np.random.default_rng(0)).tolist()
    [1, 0, -1]
    """
    order = np.lexsort((kinds, groups))
    kind, group = kinds[order], groups[order]
    new_group = np.concatenate([[True], group[1:] != group[:-1]])[: len(group)]
    start, size = _runs(new_group)  # of each row's group, in sorted rows
    own_start, own_size = _runs(new_group | np.concatenate([[True], kind[1:] != kind[:-1]])[: len(kind)])
    there = own_size - 1 if same else size - own_size
    drawn = rng.integers(0, np.maximum(there, 1))
    if same:
        found = own_start + drawn
        found += found >= np.arange(len(order))
    else:
        found = start + drawn
        found += np.where(found >= own_start, own_size, 0)
    donors = np.full(len(order), -1)
    donors[order[there > 0]] = order[found[there > 0]]
    return donors


def _runs(first: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return start and size of the run that each place is in, for runs that begin where `first` says."""
    starts = np.flatnonzero(first)
    run = np.cumsum(first) - 1
    return starts[run], np.diff(starts, append=len(first))[run]


def _with(X: Vectors, block: slice, values: Any) -> Vectors:
    changed = X.copy()
    changed[:, block] = values
    return changed


def kinds_of(panel: Panel) -> NDArray[np.intp]:
    """Return the class of each utterance; of an interval target 1 where it is above the median, else 0."""
    if panel.kind == "interval":
        return (panel.truth > np.median(panel.truth)).astype(np.intp)
    return panel.truth.astype(np.intp)


class HeldOut:
    """The held-out heads of one model of a panel, with the vectors of the rows they test; each file is read once.

    Parameters
    ----------
    study : Study
    panel : Panel
    model : str
        One of ``panel.outputs``.
    seeds : sequence of (seed, order), optional
        Those of the panel by default.
    rows : array of bool, shape (N,), optional
        Which rows are to be predicted, all by default. Changes are made with all rows of a fold all the same.

    Raises
    ------
    UsageError
        If the run is in no store, or its features or heads are gone or are others by now.
    """

    def __init__(
        self,
        study: Study,
        panel: Panel,
        model: str = FUSION,
        seeds: Sequence[tuple[int, int]] | None = None,
        rows: NDArray[np.bool_] | None = None,
    ) -> None:
        self.study, self.panel, self.model = study, panel, model
        self.seeds = tuple(panel.seeds if seeds is None else seeds)
        self.rows = np.ones(len(panel.ids), dtype=bool) if rows is None else rows
        partitions = sorted({fold.partition for fold in study.folds})
        self.folds = [(partitions.index(fold.partition), fold) for fold in study.folds]
        self.heads = {
            (fold.partition, fold.fold): [
                load_head(study.head_path(panel, model, fold, seed)) for seed in self.seeds
            ]
            for _, fold in self.folds
        }

    @cached_property
    def _tested(self) -> list[tuple[TestRows, NDArray[np.intp]]]:
        """The test rows of each fold that has some in the panel, and where they stand in its material."""
        panel, found = self.panel, []
        kinds, groups = kinds_of(panel), panel.group_numbers()
        place = pd.Index(self.study.views[0].ids)  # the same in all views
        where = place.get_indexer(pd.Index(panel.ids))
        for partition, fold in self.folds:
            rows = np.flatnonzero(panel.folds[partition] == fold.fold)
            if len(rows):
                own = self.study.materials[fold.partition, fold.fold]
                blocks = {m: slice(each[0].start, each[-1].stop) for m, each in own.candidates.items()}
                training = place.get_indexer(pd.Index(fold.train_ids))
                about = (blocks, kinds[rows], groups[rows], own.X, training)
                found.append((TestRows(fold, partition, rows, *about), where[rows]))
        return found

    def parts(self) -> Iterator[tuple[TestRows, Vectors]]:
        """Give the test rows of each fold that has some in the panel, with their vectors (n, D)."""
        for about, where in self._tested:
            yield about, about.every[where]

    def outputs(self, about: TestRows, X: Vectors, heads: Sequence[Any] | None = None) -> NDArray[np.float64]:
        """Return what heads of a fold, all by default, say of vectors, shape (S, n, C); interval targets: C = 1."""
        heads = self.heads[about.fold.partition, about.fold.fold] if heads is None else heads
        seen: dict[tuple[str, ...], Vectors] = {}
        said = np.zeros((len(heads), len(X), max(len(self.panel.classes), 1)))
        for head, own in zip(heads, said, strict=True):
            names = tuple(f"{m}/{described['name']}" for m, described in head.features_.items())
            if names not in seen:
                seen[names] = X[:, self._columns(about.fold, head)]
            if self.panel.kind == "interval":
                own[:, 0] = head.predict(seen[names])
            else:
                own[:, [self.panel.classes.index(str(label)) for label in head.coding_.classes]] = (
                    head.predict_proba(seen[names])
                )
        return said

    def _columns(self, fold: Fold, head: Any) -> NDArray[np.intp] | slice:
        """Return the columns of its fold's material that a head sees; a slice where they follow one another."""
        found, candidates = [], self.study.materials[fold.partition, fold.fold].candidates
        for modality, described in head.features_.items():
            mine = next(c for c in candidates[modality] if c.name == described["name"])
            found.append(np.arange(mine.start, mine.stop))
        columns = np.concatenate(found)
        whole = columns[-1] - columns[0] + 1 == len(columns)
        return slice(int(columns[0]), int(columns[-1]) + 1) if whole else columns

    def said(self, change: Change | None = None, draw: int = 0) -> NDArray[np.float64]:
        """Return the heads' outputs for changed rows, or for them as they are, shape (P, S, N, C).

        NaN for the rows of the panel that were not asked for.

        Parameters
        ----------
        change : callable, optional
        draw : int
            Number of the draw: another one makes other random choices.
        """
        panel = self.panel
        n_classes = max(len(panel.classes), 1)
        found = np.full((len(panel.folds), len(self.seeds), len(panel.ids), n_classes), np.nan)
        for about, X in self.parts():
            fold = about.fold
            rng = np.random.default_rng([self.study.seed, draw, fold.partition, fold.fold])
            changed = X if change is None else change(X, about, rng)
            wanted = self.rows[about.rows]
            if not wanted.any():
                continue
            found[about.partition][:, about.rows[wanted]] = self.outputs(about, changed[wanted])
        return found
