"""The study of the sweep's benchmark: a store with a planted signal, its folds, and the heads that a loop would fit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmark_loops import Job
from scipy.stats import beta

from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.coding import Coding
from mixed_signals.models.heads import HEADS, head_spec
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.plan import all_subsets
from mixed_signals.store import Corpus, Fold, Store, Views, folds, import_features

MODALITIES = ("text", "audio", "video")
LABELS = ("calm", "warm")


def planted(folder: Path, n: int, n_groups: int, width: int, modalities: Sequence[str] = MODALITIES) -> Views:
    """Make a store of utterances whose modalities carry the label, and return its views.

    What is felt (the label, and as much that is not the label) shows weakly in each of 200 directions of every
    modality, beside what is the dialog's and what is the utterance's own. Direction k has a variance of about 1 / k,
    which falls as that of embeddings does, and columns mix all directions.
    """
    rng = np.random.default_rng(n)
    group = np.sort(rng.integers(n_groups, size=n))
    shares = beta(9, 11).ppf((np.arange(n_groups) + 0.5) / n_groups)
    warm = rng.random(n) < rng.permutation(shares)[group]
    felt = (2.0 * warm - 1 + rng.standard_normal(n)).astype(np.float32)
    ids = np.array([f"dialog{g:02d}_{i:06d}" for i, g in enumerate(group)])
    table = {
        "utterance_id": ids,
        "text": [f"utterance {i}" for i in range(n)],
        "label": np.where(warm, LABELS[1], LABELS[0]),
        "group": [f"dialog{g:02d}" for g in group],
    }
    folder.mkdir()
    store = Store.create(folder / "store", Corpus("made up", pd.DataFrame(table)))
    n_directions = min(200, width)
    deviation = np.arange(1, width + 1, dtype=np.float32)[:, None] ** -0.5
    for modality in modalities:
        X = rng.standard_normal((n, width), dtype=np.float32)
        shown = rng.choice([-0.8, 0.8], n_directions).astype(np.float32) / np.float32(n_directions**0.5)
        X[:, :n_directions] += np.outer(felt, shown)
        X += 0.5 * rng.standard_normal((n_groups, width), dtype=np.float32)[group]
        mixed = np.linalg.qr(rng.standard_normal((width, width), dtype=np.float32))[0] * deviation
        np.savez(folder / f"{modality}.npz", utterance_id=ids, embedding=X @ mixed)
        import_features(store, folder / f"{modality}.npz", modality, "planted")
    return store.views(**dict.fromkeys(modalities, "planted"))


def as_problem(views: Views) -> Problem:
    """Return what heads see of views, with labels of 0 and 1."""
    blocks = {modality: (block.start, block.stop) for modality, block in views.blocks.items()}
    y = (views.y == LABELS[1]).astype(np.int64)
    return Problem(views.X, y, blocks, np.unique(views.groups, return_inverse=True)[1])


def unfitted(head: str, problem: Problem, subset: Sequence[str], seed: int = 0) -> Any:
    """Return a head of ours, as it is asked for in a sweep."""
    stops = np.cumsum([0, *(stop - start for start, stop in (problem.blocks[m] for m in subset))]).tolist()
    return head_spec(head).make("nominal", (0, 1), dict(zip(subset, pairwise(stops), strict=True)), seed)


class Study:
    """Views with their folds and seeds, and the heads of a loop over them.

    Attributes
    ----------
    views : Views
    folds : list of Fold
    n_seeds : int
    subsets : list of tuple of str
    problem : Problem
        See `as_problem`.
    """

    def __init__(self, views: Views, n_folds: int, n_seeds: int) -> None:
        self.views, self.n_seeds = views, n_seeds
        self.folds = folds(views, n_folds)
        self.subsets = all_subsets(views.modalities)
        self.problem = as_problem(views)
        self._row = {utterance: row for row, utterance in enumerate(views.ids)}

    def rows(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self._row[i] for i in ids])

    def seeds_of(self, family: str) -> range:
        return range(self.n_seeds if HEADS[family].load("nominal").seeded else 1)

    def n_heads(self, family: str) -> int:
        return len(self.subsets) * len(self.folds) * len(self.seeds_of(family))

    def jobs(self, family: str, of_each: int) -> list[Job]:
        """Return the heads that a loop fits: so many of each subset, spread over folds and seeds."""
        inner = [self._inner(fold) for fold in self.folds]
        seeds = self.seeds_of(family)
        jobs = []
        for turn, (number, subset) in product(range(of_each), enumerate(self.subsets)):
            place = (number + turn) % len(self.folds)
            fold, train = self.folds[place], self.rows(self.folds[place].train_ids)
            blocks = [self.problem.blocks[m] for m in subset]
            jobs.append(
                Job(
                    subset,
                    fold.fold,
                    seeds[(3 * number + turn) % len(seeds)],
                    tuple(stop - start for start, stop in blocks),
                    np.concatenate([np.arange(*block) for block in blocks]),
                    train,
                    self.rows(fold.test_ids),
                    inner[place],
                )
            )
        return jobs

    def fits(self, head: str, subsets: Sequence[tuple[str, ...]], n_seeds: int) -> list[Fit]:
        """Return unfitted heads of ours on the training rows of the first fold."""
        train = self.rows(self.folds[0].train_ids)
        return [
            Fit(unfitted(head, self.problem, subset, seed), subset, train)
            for subset in subsets
            for seed in range(n_seeds)
        ]

    def _inner(self, fold: Fold) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the splits that our heads are chosen and stopped on, as numbers within the training rows."""
        train = self.rows(fold.train_ids)
        coding = Coding.of("nominal", self.problem.y[train])
        pairs = inner_folds(self.problem, train, coding, 4, seed=0)
        return [(np.searchsorted(train, rows), np.searchsorted(train, held)) for rows, held in pairs]
