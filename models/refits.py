"""Heads fitted again to other training rows, or to parts of the features: how much two models of one kind disagree.

bagged
    A head that draws nothing at random has no seeds to compare. What it owes to the training rows that it happened to
    have shows when it is fitted to bootstrap samples of them (Breiman 1996, "Bagging predictors", Machine Learning 24),
    here of whole groups: as many as the fold trains on, drawn with replacement, each as often as it comes.
by_feature_set
    Models of one modality, each on one of its feature sets: what two encoders make of the same rows and speakers is not
    what tells modalities apart.
halved
    Where there is one feature set: two models of one modality that share no feature. The columns are split in two at
    random.

All take the whole recipe again, the choices inside the training rows with it. Folds are those of a sweep; one that had
views of its own (cross-fitted features) has them here too.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.models.base import MEMORY
from mixed_signals.models.blocks import Done, run_blocks
from mixed_signals.models.gathering import predictions_table, tested_heads
from mixed_signals.models.heads import head_spec
from mixed_signals.models.intervals import group_codes
from mixed_signals.models.material import Candidate, Choice, Material, Subset, groups_named, material
from mixed_signals.models.plan import (
    Block,
    check_folds,
    named_subsets,
    plan,
    trained_rows,
    views_of_folds,
)
from mixed_signals.store import Fold, UsageError, Views

Choices = Mapping[tuple[int, int], Choice]

HALVES = ("a", "b")
_DRAWS = 100  # of a bag, before it is given up


def bagged(
    views: Views | Sequence[Views],
    head: str,
    subsets: str | Sequence[Subset],
    folds: Sequence[Fold],
    *,
    views_by_fold: bool = False,
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
    views_by_fold : bool
        As for `sweep`.
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
        If the head, a subset or a fold is unknown or wrong, a test row taught an encoder, or no bag with all classes
        and modalities can be drawn.
    """
    if n_bags < 2:
        raise UsageError(f"n_bags: at least 2, not {n_bags}")
    begun = _begun(views, folds, group, normalize, views_by_fold)
    whole, first = begun.material, begun.seen[0][1][0]
    spec, chosen = head_spec(head), named_subsets(whole.modalities, subsets)
    codes = group_codes(groups_named(first, group), len(first))
    bags = [_Bags(several[0], codes, seed) for _, several in begun.seen]
    blocks: list[Block] = []
    numbers: list[int] = []
    for bag in range(n_bags):
        drawn = [own.draw(fold, bag) for own, fold in zip(bags, folds, strict=True)]
        made = plan(
            whole,
            [spec],
            chosen,
            [fold for fold, _ in drawn],
            (0,),
            1,
            refit=False,
            weights={(fold.partition, fold.fold): counts for fold, counts in drawn},
            choices=begun.choices,
        )
        blocks += [replace(block, part=len(blocks) + number) for number, block in enumerate(made)]
        numbers += [bag] * len(made)
    done = run_blocks(whole, blocks, n_jobs=_workers(n_jobs), memory=memory, on_progress=on_progress)
    told = [_told(finished, seed=bag) for finished, bag in zip(done, numbers, strict=True)]
    return predictions_table(whole, tested_heads(told, [spec], chosen), {})


def by_feature_set(
    views: Views | Sequence[Views],
    head: str,
    modalities: Sequence[str],
    folds: Sequence[Fold],
    *,
    seeds: Sequence[int] = (0,),
    group: str | None = "group",
    normalize: bool = False,
    n_jobs: int | None = None,
    memory: int = MEMORY,
    on_progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Fit a head to each of a modality's feature sets by itself, and predict each fold's test rows.

    Parameters
    ----------
    views : several Views
        As for `sweep`.
    head : str
        Its name, with settings where wanted.
    modalities : sequence of str
        Of which there are several feature sets; each by itself.
    folds : sequence of Fold
    seeds : sequence of int
        Of the heads, as for `sweep`.
    group, normalize, n_jobs, memory, on_progress
        As for `sweep`; it fits a head for each feature set, fold and seed.

    Returns
    -------
    DataFrame
        As `mixed_signals.store.predictions` has it; `modalities` is ``text.1``, ``text.2``, ..., in the order of the
        views.

    Raises
    ------
    UsageError
        If the head, a modality or a fold is unknown or wrong, or a modality has a single feature set.
    """
    whole = _begun(views, folds, group, normalize).material
    parts: dict[str, tuple[Candidate, ...]] = {}
    for modality in _single(whole, modalities):
        sets = whole.candidates[modality]
        if len(sets) < 2:
            raise UsageError(
                f"{modality} has one feature set ({sets[0].name}): there is no other to set beside it"
            )
        parts |= {f"{modality}.{number}": (each,) for number, each in enumerate(sets, start=1)}
    return _fitted(replace(whole, candidates=parts), None, head, folds, seeds, n_jobs, memory, on_progress)


def halved(
    views: Views | Sequence[Views],
    head: str,
    modalities: Sequence[str],
    folds: Sequence[Fold],
    *,
    views_by_fold: bool = False,
    seeds: Sequence[int] = (0,),
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
        As for `sweep`. Of several feature sets of a modality each half chooses for itself, in each training fold,
        unless `views_by_fold`.
    head : str
        Its name, with settings where wanted.
    modalities : sequence of str
        Which to halve; each by itself.
    folds : sequence of Fold
    views_by_fold : bool
        As for `sweep`.
    seeds : sequence of int
        Of the heads, as for `sweep`.
    group, normalize
        As for `sweep`.
    seed : int
        Of the split. A modality is split alike whichever others are named, and so are its feature sets of one width.
    n_jobs, memory, on_progress
        As for `sweep`; it fits ``2 * len(modalities)`` heads for each fold and seed.

    Returns
    -------
    DataFrame
        As `mixed_signals.store.predictions` has it; `modalities` is ``text.a`` or ``text.b``.

    Raises
    ------
    UsageError
        If the head, a modality or a fold is unknown or wrong, a test row taught an encoder, or a modality has a single
        column, or two that say the same.
    """
    begun = _begun(views, folds, group, normalize, views_by_fold)
    named = _single(begun.material, modalities)
    halves, choices = _halves(begun.material, named, seed), begun.choices
    if choices is not None:
        choices = {
            place: {f"{m}.{half}": own[m] for m in named for half in HALVES} for place, own in choices.items()
        }
    return _fitted(halves, choices, head, folds, seeds, n_jobs, memory, on_progress)


def _single(whole: Material, modalities: Sequence[str]) -> list[str]:
    """Return the modalities that are named, checked."""
    return [name for (name,) in named_subsets(whole.modalities, [(name,) for name in modalities])]


def _fitted(
    parts: Material,
    choices: Choices | None,
    head: str,
    folds: Sequence[Fold],
    seeds: Sequence[int],
    n_jobs: int | None,
    memory: int,
    on_progress: Callable[[int], None] | None,
) -> pd.DataFrame:
    """Return the predictions of a head that is fitted to each part of the features by itself."""
    spec, subsets = head_spec(head), [(part,) for part in parts.modalities]
    blocks = plan(parts, [spec], subsets, folds, seeds, 1, refit=False, choices=choices)
    done = run_blocks(parts, blocks, n_jobs=_workers(n_jobs), memory=memory, on_progress=on_progress)
    return predictions_table(parts, tested_heads(done, [spec], subsets), {})


@dataclass(frozen=True)
class _Begun:
    """What is fitted again: each fold with its views, their arrays, and which candidates a fold sees if not all."""

    seen: list[tuple[Fold, list[Views]]]
    material: Material
    choices: Choices | None


def _begun(
    views: Views | Sequence[Views],
    folds: Sequence[Fold],
    group: str | None,
    normalize: bool,
    views_by_fold: bool = False,
) -> _Begun:
    several = [views] if isinstance(views, Views) else list(views)
    check_folds(folds, several[0].ids)
    seen = views_of_folds(several, folds, by_fold=views_by_fold)
    trained_rows(seen, allowed=False)
    shared = material(several, groups_named(several[0], group), normalize=normalize)
    return _Begun(seen, shared, shared.choices_of(seen) if views_by_fold else None)


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


def _halves(whole: Material, modalities: Sequence[str], seed: int) -> Material:
    """Return the material whose modalities are the halves of some."""
    columns: list[np.ndarray] = []
    candidates: dict[str, Any] = {}
    start = 0
    for modality in modalities:
        split = []
        for whole_set in whole.candidates[modality]:
            if _says_one_number(whole.X[:, whole_set.start : whole_set.stop]):
                raise UsageError(
                    f"{modality} ({whole_set.name}) has one column, or two that say the same: no halves"
                )
            rng = np.random.default_rng([seed, 0, zlib.crc32(modality.encode())])
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


def _says_one_number(block: np.ndarray) -> bool:
    """Return whether columns are one, or two of which one follows from the other, as log-odds of two classes do."""
    if block.shape[1] != len(HALVES):
        return block.shape[1] < len(HALVES)
    there = block[np.isfinite(block).all(axis=1)].astype(np.float64)
    return bool(np.linalg.matrix_rank(there - there.mean(axis=0), rtol=1e-5) < len(HALVES))
