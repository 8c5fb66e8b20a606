"""Heads fitted again to other training rows, or to parts of the features: how much two models of one kind disagree.

bagged
    A head that draws nothing at random has no seeds to compare. What it owes to the training rows that it happened to
    have shows when it is fitted to bootstrap samples of them (Breiman 1996, "Bagging predictors", Machine Learning 24),
    here of whole groups: as many as the fold trains on, drawn with replacement, each as often as it comes.
halved
    Two models of one modality that share no feature: the columns are split in two at random. Both halves see the same
    rows and speakers, so that what they disagree about is not what tells modalities apart.

Both take the whole recipe again, the choices inside the training rows with it. Folds are those of a sweep, which has
checked them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.models.base import MEMORY
from mixed_signals.models.blocks import Done, run_blocks
from mixed_signals.models.gathering import predictions_table, tested_heads
from mixed_signals.models.heads import head_spec
from mixed_signals.models.intervals import group_codes
from mixed_signals.models.material import Material, Subset, groups_named, material
from mixed_signals.models.plan import Block, check_folds, named_subsets, plan
from mixed_signals.store import Fold, UsageError, Views

HALVES = ("a", "b")
_DRAWS = 100  # of a bag, before it is given up


def bagged(
    views: Views | Sequence[Views],
    head: str,
    subsets: str | Sequence[Subset],
    folds: Sequence[Fold],
    *,
    n_bags: int = 10,
    group: str | None = "group",
    normalize: bool = False,
    seed: int = 0,
    n_jobs: int | None = None,
    memory: int = MEMORY,
    on_progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Fit a head to bootstrap samples of each fold's training groups, and predict the fold's test rows.

    All models of a fold are fitted to the same bag of a number; bags of different numbers, or folds, are drawn
    independently. So ``d(m_b, F_c)`` with b other than c compares models of two independent samples. Rows that are not
    drawn are not there (not for standardisation or inner folds either); drawn ones weigh as often as their group
    comes. A bag that lacks a class or a modality of its fold is drawn again.

    Parameters
    ----------
    views : Views, or several
        As for `sweep`.
    head : str
        Its name, with settings where wanted; a seeded one has ``random_state=0`` in all bags.
    subsets : "all" or sequence of tuples
    folds : sequence of Fold
    n_bags : int
        At least 2.
    group : str or None
        The column whose values are drawn, or the corpus's groups; rows are drawn one by one where it has none.
    normalize : bool
        As for `sweep`.
    seed : int
        Of the bags.
    n_jobs, memory, on_progress
        As for `sweep`; it fits ``n_bags * len(folds)`` heads of each subset.

    Returns
    -------
    DataFrame
        As `mixed_signals.store.predictions` has it; `seed` is the number of the bag.

    Raises
    ------
    UsageError
        If the head, a subset or a fold is unknown or wrong, or no bag with all classes and modalities can be drawn.
    """
    if n_bags < 2:
        raise UsageError(f"n_bags: at least 2, not {n_bags}")
    first, whole = _begun(views, folds, group, normalize)
    spec, chosen = head_spec(head), named_subsets(whole.modalities, subsets)
    codes = group_codes(groups_named(first, group), len(first))
    bags = _Bags(first, codes, seed)
    blocks: list[Block] = []
    numbers: list[int] = []
    for bag in range(n_bags):
        drawn = [bags.draw(fold, bag) for fold in folds]
        weights = {(fold.partition, fold.fold): counts for fold, counts in drawn}
        made = plan(whole, [spec], chosen, [f for f, _ in drawn], (0,), 1, refit=False, weights=weights)
        blocks += [replace(block, part=len(blocks) + number) for number, block in enumerate(made)]
        numbers += [bag] * len(made)
    done = run_blocks(whole, blocks, n_jobs=_workers(n_jobs), memory=memory, on_progress=on_progress)
    told = [_told(finished, seed=bag) for finished, bag in zip(done, numbers, strict=True)]
    return predictions_table(whole, tested_heads(told, [spec], chosen), {})


def halved(
    views: Views | Sequence[Views],
    head: str,
    modalities: Sequence[str],
    folds: Sequence[Fold],
    *,
    seeds: Sequence[int] = (0,),
    n_splits: int = 1,
    group: str | None = "group",
    normalize: bool = False,
    seed: int = 0,
    n_jobs: int | None = None,
    memory: int = MEMORY,
    on_progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Fit a head to each of two random halves of a modality's columns, and predict each fold's test rows.

    Parameters
    ----------
    views : Views, or several
        As for `sweep`. Of several feature sets of a modality each half chooses for itself, in each training fold.
    head : str
        Its name, with settings where wanted.
    modalities : sequence of str
        Which to halve; each by itself.
    folds : sequence of Fold
    seeds : sequence of int
        Of the heads, as for `sweep`.
    n_splits : int
        How many ways of splitting the columns.
    group, normalize
        As for `sweep`.
    seed : int
        Of the splits. A modality is split alike whichever others are named.
    n_jobs, memory, on_progress
        As for `sweep`; each split fits ``2 * len(modalities)`` heads for each fold and seed.

    Returns
    -------
    DataFrame
        As `mixed_signals.store.predictions` has it; `modalities` is ``text.a`` or ``text.b``, and `order` is the number
        of the split (the order of training rows is 0 throughout).

    Raises
    ------
    UsageError
        If the head, a modality or a fold is unknown or wrong, or a modality has a single column.
    """
    if n_splits < 1:
        raise UsageError(f"n_splits: at least 1, not {n_splits}")
    _, whole = _begun(views, folds, group, normalize)
    spec = head_spec(head)
    named = [name for (name,) in named_subsets(whole.modalities, [(name,) for name in modalities])]
    tables = []
    for split in range(n_splits):
        parts = _halves(whole, named, (seed, split))
        subsets = [(part,) for part in parts.modalities]
        blocks = plan(parts, [spec], subsets, folds, seeds, 1, refit=False)
        done = run_blocks(parts, blocks, n_jobs=_workers(n_jobs), memory=memory, on_progress=on_progress)
        told = [_told(finished, order=split) for finished in done]
        tables.append(predictions_table(parts, tested_heads(told, [spec], subsets), {}))
    return pd.concat(tables, ignore_index=True)


def _begun(
    views: Views | Sequence[Views], folds: Sequence[Fold], group: str | None, normalize: bool
) -> tuple[Views, Material]:
    several = [views] if isinstance(views, Views) else list(views)
    check_folds(folds, several[0].ids)
    groups = groups_named(several[0], group)
    return several[0], material(several, groups, normalize=normalize)


def _workers(n_jobs: int | None) -> int:
    import joblib

    return n_jobs or joblib.cpu_count()


def _told(done: Done, **values: Any) -> Done:
    """Return finished heads that are said to have another seed or order."""
    fitted = [replace(each, member=replace(each.member, **values)) for each in done.fitted]
    return replace(done, fitted=fitted)


class _Bags:
    """Bootstrap samples of groups of training rows.

    Parameters
    ----------
    views : Views
    codes : ndarray of int, shape (N,)
        Group numbers.
    seed : int
    """

    def __init__(self, views: Views, codes: np.ndarray, seed: int) -> None:
        self._codes, self._seed, self._index = codes, seed, pd.Index(views.ids)
        self._marks = views.present  # what a bag must have a row of, if its fold has
        if views.kind in ("nominal", "ordinal"):
            labels = views.y[:, None] == np.array(views.classes, dtype=object)[None, :]
            self._marks = np.concatenate([self._marks, labels], axis=1)

    def draw(self, fold: Fold, bag: int) -> tuple[Fold, np.ndarray]:
        """Return a fold that trains on the rows drawn, and how often each of them was (n,), float64."""
        rows = self._index.get_indexer(fold.train_ids)
        names, own = np.unique(self._codes[rows], return_inverse=True)
        needed = self._marks[rows].any(axis=0)
        rng = np.random.default_rng([self._seed, fold.partition, fold.fold, bag])
        for _ in range(_DRAWS):
            counts = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[own]
            drawn = counts > 0
            if (self._marks[rows[drawn]].any(axis=0) == needed).all():
                return replace(fold, train_ids=fold.train_ids[drawn]), counts[drawn].astype(np.float64)
        raise UsageError(
            f"fold {fold.fold} of partition {fold.partition}: {_DRAWS} samples of its {len(names)} training groups "
            "all lack a class or a modality; ask for fewer folds, or leave bags out"
        )


def _halves(whole: Material, modalities: Sequence[str], seed: tuple[int, int]) -> Material:
    """Return the material whose modalities are the halves of some."""
    columns: list[np.ndarray] = []
    candidates: dict[str, Any] = {}
    start = 0
    for modality in modalities:
        rng = np.random.default_rng([*seed, zlib.crc32(modality.encode())])
        split = []
        for whole_set in whole.candidates[modality]:
            if whole_set.stop - whole_set.start < len(HALVES):
                raise UsageError(f"{modality} ({whole_set.name}) has one column, which has no halves")
            drawn = rng.permutation(np.arange(whole_set.start, whole_set.stop))
            split.append((whole_set, np.array_split(drawn, len(HALVES))))
        for number, half in enumerate(HALVES):
            made = []
            for whole_set, parts in split:
                columns.append(np.sort(parts[number]))
                made.append(replace(whole_set, start=start, stop=start + len(columns[-1])))
                start = made[-1].stop
            candidates[f"{modality}.{half}"] = tuple(made)
    return replace(whole, X=whole.X[:, np.concatenate(columns)], candidates=candidates)
