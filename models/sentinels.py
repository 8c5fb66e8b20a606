"""Sentinels: what can be scored without looking at any feature. Every score is read beside them.

majority
    The class frequencies (of an interval target: the mean value) of each fold's training rows.
group-majority
    What knowing the speaker or dialog alone would score: the class frequencies (mean value) of the other rows of each
    row's group, drawn towards those of all rows as far as the groups do not differ. With n_g other rows, c_g the sums
    of their class memberships (values), f the overall mean and rho the intraclass correlation of the labels::

        p = (c_g + k f) / (n_g + k)        k = (1 - rho) / rho

    (Dirichlet-multinomial with its concentration from rho, or the shrunken mean of a random-effects model; rho by
    analysis of variance, over the class indicators where there are classes, Fleiss 1981, at least 0.) A split that
    shares groups between training and test rows lets any model reach it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixed_signals.models.intervals import group_codes
from mixed_signals.store import Fold, Views

Baseline = list[tuple[Fold, np.ndarray, np.ndarray]]
"""For each fold its test ids (n,) and their class probabilities, shape (n, K); interval: their values, shape (n,)."""


def majority(views: Views, folds: Sequence[Fold]) -> Baseline:
    """Return the class frequencies, or the mean value, of each fold's training rows."""
    columns, position = _columns(views), pd.Index(views.ids)
    results = []
    for fold in folds:
        mean = columns[position.get_indexer(fold.train_ids)].mean(axis=0)
        said = np.tile(mean, (len(fold.test_ids), 1))
        results.append((fold, fold.test_ids, _as_asked(views, said)))
    return results


def group_majority(views: Views, folds: Sequence[Fold], groups: np.ndarray) -> Baseline:
    """Return what each row's group says of it.

    Parameters
    ----------
    views : Views
    folds : sequence of Fold
    groups : ndarray, shape (N,)
        A row whose group is not known (None, NaN or empty) is a group of its own.
    """
    columns, position = _columns(views), pd.Index(views.ids)
    codes = group_codes(groups, len(columns))
    correlation = intraclass_correlation(columns, codes)
    overall = columns.mean(axis=0)
    said = np.tile(overall, (len(columns), 1))
    if correlation > 0:
        weight = (1 - correlation) / correlation
        others = _sums(columns, codes)[codes] - columns
        n_others = np.bincount(codes)[codes] - 1
        known = n_others > 0
        said[known] = (others[known] + weight * overall) / (n_others[known, None] + weight)
    return [
        (fold, fold.test_ids, _as_asked(views, said[position.get_indexer(fold.test_ids)])) for fold in folds
    ]


def intraclass_correlation(columns: np.ndarray, codes: np.ndarray) -> float:
    """Return how alike the labels within a group are: 0 as between groups (or less alike), 1 all the same.

    Parameters
    ----------
    columns : ndarray, shape (N, C)
        Class memberships, 0 or 1, or values; sums of squares are added over columns.
    codes : ndarray of int, shape (N,)
        Group numbers, 0 to G - 1.
    """
    n, sizes = len(codes), np.bincount(codes)
    n_groups = len(sizes)
    if n_groups < 2 or n == n_groups:
        return 0.0
    means = _sums(columns, codes) / sizes[:, None]
    between = (sizes[:, None] * (means - columns.mean(axis=0)) ** 2).sum() / (n_groups - 1)
    within = ((columns - means[codes]) ** 2).sum() / (n - n_groups)
    typical = (n - (sizes**2).sum() / n) / (n_groups - 1)
    total = between + (typical - 1) * within
    return float(np.clip((between - within) / total, 0.0, 1.0)) if total > 0 else 0.0


def _columns(views: Views) -> np.ndarray:
    """Return class memberships, shape (N, K), or the values of an interval target, shape (N, 1)."""
    if views.kind == "interval":
        return np.asarray(views.y, dtype=np.float64)[:, None]
    if views.kind == "multilabel":
        return np.asarray(views.y, dtype=np.float64)
    return (views.y[:, None] == np.array(views.classes, dtype=object)[None, :]).astype(np.float64)


def _as_asked(views: Views, said: np.ndarray) -> np.ndarray:
    """Return probabilities (n, K) as they are, and values (n, 1) as (n,)."""
    return said[:, 0] if views.kind == "interval" else said


def _sums(columns: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the sums of columns (N, C) within groups, shape (G, C)."""
    return np.stack([np.bincount(codes, weights=column) for column in columns.T], axis=1)
