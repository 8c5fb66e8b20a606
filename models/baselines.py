"""Sentinels: what can be scored without looking at any feature. Every score is read beside them.

majority
    The class frequencies of each fold's training rows.
group-majority
    What knowing the speaker or dialog alone would score: the class frequencies of the other rows of each row's group,
    drawn towards the overall frequencies as far as the groups do not differ. With n_g other rows, c_g their counts,
    f the overall frequencies and rho the intraclass correlation of the labels::

        p = (c_g + k f) / (n_g + k)        k = (1 - rho) / rho

    (Dirichlet-multinomial with its concentration from rho; rho by analysis of variance over the class indicators,
    Fleiss 1981, at least 0.) A split that shares groups between training and test rows lets any model reach it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixed_signals.store import Fold, Views

Baseline = list[tuple[Fold, np.ndarray, np.ndarray]]
"""For each fold its test ids and their class probabilities, shape (n, K)."""


def majority(views: Views, folds: Sequence[Fold]) -> Baseline:
    """Return the class frequencies of each fold's training rows."""
    onehot = _onehot(views)
    position = {utterance: row for row, utterance in enumerate(views.ids)}
    results = []
    for fold in folds:
        frequencies = onehot[[position[utterance] for utterance in fold.train_ids]].mean(axis=0)
        results.append((fold, fold.test_ids, np.tile(frequencies, (len(fold.test_ids), 1))))
    return results


def group_majority(views: Views, folds: Sequence[Fold], groups: np.ndarray) -> Baseline:
    """Return what each row's group, of `groups` (N,), says of it."""
    onehot = _onehot(views)
    position = {utterance: row for row, utterance in enumerate(views.ids)}
    codes = np.unique(groups, return_inverse=True)[1]
    correlation = intraclass_correlation(onehot, codes)
    overall = onehot.mean(axis=0)
    probabilities = np.tile(overall, (len(onehot), 1))
    if correlation > 0:
        weight = (1 - correlation) / correlation
        counts = np.zeros((codes.max() + 1, onehot.shape[1]))
        np.add.at(counts, codes, onehot)
        others = counts[codes] - onehot
        probabilities = (others + weight * overall) / (others.sum(axis=1, keepdims=True) + weight)
    return [
        (fold, fold.test_ids, probabilities[[position[utterance] for utterance in fold.test_ids]])
        for fold in folds
    ]


def intraclass_correlation(indicators: np.ndarray, codes: np.ndarray) -> float:
    """Return how alike the labels within a group are: 0 as between groups (or less alike), 1 all the same.

    Parameters
    ----------
    indicators : ndarray, shape (N, K)
        Class membership, 0 or 1; sums of squares are added over classes.
    codes : ndarray of int, shape (N,)
        Group numbers, 0 to G - 1.
    """
    n, sizes = len(codes), np.bincount(codes)
    n_groups = len(sizes)
    if n_groups < 2 or n == n_groups:
        return 0.0
    sums = np.zeros((n_groups, indicators.shape[1]))
    np.add.at(sums, codes, indicators)
    means = sums / sizes[:, None]
    between = (sizes[:, None] * (means - indicators.mean(axis=0)) ** 2).sum() / (n_groups - 1)
    within = ((indicators - means[codes]) ** 2).sum() / (n - n_groups)
    typical = (n - (sizes**2).sum() / n) / (n_groups - 1)
    total = between + (typical - 1) * within
    return float(np.clip((between - within) / total, 0.0, 1.0)) if total > 0 else 0.0


def _onehot(views: Views) -> np.ndarray:
    """Return class membership, shape (N, K)."""
    return (views.y[:, None] == np.array(views.classes, dtype=object)[None, :]).astype(np.float64)
