"""Splits inside a training fold, for choosing penalties and stopping early, with groups kept together."""

from __future__ import annotations

import numpy as np


def inner_folds(
    y: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (training rows, validation rows) pairs, stratified, with groups kept together where there are any.

    Parameters
    ----------
    y : ndarray of int, shape (N,)
        Class codes.
    groups : ndarray, shape (N,), or None
        Rows of one group never stand on both sides. With fewer groups than folds, rows are split freely.
    n_folds : int
    seed : int

    Returns
    -------
    list of (ndarray, ndarray)
        Only those pairs in which every class is trained on; empty if there is none.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    n_classes = len(np.unique(y))
    if groups is not None and len(np.unique(groups)) >= n_folds:
        codes = np.unique(groups, return_inverse=True)[1]
        pairs = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(y, y, codes)
    elif np.bincount(y).max() >= n_folds:
        pairs = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(y, y)
    else:
        return []
    return [(train, held) for train, held in pairs if len(held) and len(np.unique(y[train])) == n_classes]
