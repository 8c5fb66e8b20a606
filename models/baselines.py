"""Sentinels: what can be scored without looking at any feature. Every score is read beside them.

majority
    The class frequencies of each fold's training rows.
group-majority
    What a random split that shares groups between training and test rows would score from the group alone:
    rows are split at random, and each test row gets the class frequencies of its own group's training rows
    (smoothed by one row of the overall frequencies). A model that does not beat it has not shown more than
    that speakers or dialogs differ in their labels. (Where every group has all labels equally often it falls
    below chance: a test row's label is the one that its group's training rows have least.)
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
    views: Views, groups: np.ndarray, n_folds: int, partition: int
) -> list[tuple[Fold, np.ndarray, np.ndarray]]:
    """Return (fold, test ids, probabilities (n, K)) of each group's own class frequencies under a random split.

    Parameters
    ----------
    views : Views
    groups : ndarray of str, shape (N,)
    n_folds, partition : int
        Of the random split, which shares groups on purpose.
    """
    from mixed_signals.store import folds as make_folds

    onehot = _onehot(views)
    position = {utterance: row for row, utterance in enumerate(views.ids)}
    codes = np.unique(groups, return_inverse=True)[1]
    results = []
    for fold in make_folds(views, n_folds, group=None, partition=partition):
        train = [position[utterance] for utterance in fold.train_ids]
        test = [position[utterance] for utterance in fold.test_ids]
        counts = np.zeros((codes.max() + 1, onehot.shape[1]))
        np.add.at(counts, codes[train], onehot[train])
        smoothed = counts + onehot[train].mean(axis=0)
        probabilities = smoothed / smoothed.sum(axis=1, keepdims=True)
        results.append((fold, fold.test_ids, probabilities[codes[test]]))
    return results


def _onehot(views: Views) -> np.ndarray:
    """Return class membership, shape (N, K)."""
    return (views.y[:, None] == np.array(views.classes, dtype=object)[None, :]).astype(np.float64)
