"""Splits inside a training fold, for choosing penalties and stopping early, with groups kept together."""

from __future__ import annotations

import warnings

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
        Rows of one group never stand on both sides; with fewer groups than folds there are as many folds as groups.
        None, or a single group, splits rows freely.
    n_folds : int
    seed : int

    Returns
    -------
    list of (ndarray, ndarray)
        Only those pairs in which every class is trained on; empty if there is none.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    n_classes = len(np.unique(y))
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1]
    if codes is not None and codes.max() > 0:
        n_folds = min(n_folds, codes.max() + 1)
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    else:
        codes = None
        splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    if np.bincount(y).max() < n_folds:
        return []
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The least populated class"
        )  # rare classes are split as they can be
        pairs = list(splitter.split(y, y, codes))
    return [(train, held) for train, held in pairs if len(held) and len(np.unique(y[train])) == n_classes]
