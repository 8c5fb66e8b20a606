"""Sentinels: what can be scored without looking at any feature. Every score is read beside them.

majority
    The class frequencies of each fold's training rows.
group-majority
    The class frequencies of each row's own group, that row included: the most that can be scored by knowing the
    speaker or dialog alone. A model below it has not shown that it sees more than who is speaking; a split that
    shares groups between training and test rows lets any model reach it. (With few rows per group the bound is
    generous: a group of one row is always right.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixed_signals.store import Fold, Views


def majority(views: Views, folds: Sequence[Fold]) -> list[tuple[Fold, np.ndarray, np.ndarray]]:
    """Return (fold, test ids, probabilities (n, K)) of the class frequencies of each fold's training rows."""
    onehot = _onehot(views)
    position = {utterance: row for row, utterance in enumerate(views.ids)}
    results = []
    for fold in folds:
        frequencies = onehot[[position[utterance] for utterance in fold.train_ids]].mean(axis=0)
        results.append((fold, fold.test_ids, np.tile(frequencies, (len(fold.test_ids), 1))))
    return results


def group_majority(
    views: Views, folds: Sequence[Fold], groups: np.ndarray
) -> list[tuple[Fold, np.ndarray, np.ndarray]]:
    """Return (fold, test ids, probabilities (n, K)) of the class frequencies of each row's own group (N,)."""
    onehot = _onehot(views)
    position = {utterance: row for row, utterance in enumerate(views.ids)}
    codes = np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((codes.max() + 1, onehot.shape[1]))
    np.add.at(counts, codes, onehot)
    frequencies = (counts / counts.sum(axis=1, keepdims=True))[codes]
    return [
        (fold, fold.test_ids, frequencies[[position[utterance] for utterance in fold.test_ids]])
        for fold in folds
    ]


def _onehot(views: Views) -> np.ndarray:
    """Return class membership, shape (N, K)."""
    return (views.y[:, None] == np.array(views.classes, dtype=object)[None, :]).astype(np.float64)
