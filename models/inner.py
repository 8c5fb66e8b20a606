"""Splits inside a training fold, for choosing settings and stopping early, with groups kept together."""

from __future__ import annotations

import warnings

import numpy as np

from mixed_signals.models.base import Problem
from mixed_signals.models.coding import Coding
from mixed_signals.store.splits import strata


def inner_folds(
    problem: Problem, rows: np.ndarray, coding: Coding, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (training, held-out) pairs of rows, stratified, with groups kept together where there are any.

    Parameters
    ----------
    problem : Problem
        With its `groups`, rows of one group never stand on both sides; with fewer groups than folds there are as many
        folds as groups. Without, or with a single group, rows are split freely.
    rows : ndarray of int
        The rows of `problem` to split.
    coding : Coding
        Says what the folds are to have their shares of.
    n_folds : int
    seed : int
        The same rows and seed give the same folds.

    Returns
    -------
    list of (ndarray, ndarray)
        Rows of `problem`. Only those pairs in which every class that has labels (of rows with a weight, where there are
        weights) is trained on; empty if there is none.
    """
    key = (rows.tobytes(), coding.kind, n_folds, seed)
    if key not in problem.splits:
        problem.splits[key] = _split(problem, rows, coding.kind, n_folds, seed)
    pairs: list[tuple[np.ndarray, np.ndarray]] = problem.splits[key]
    return pairs


def _split(
    problem: Problem, rows: np.ndarray, kind: str, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    codes = strata(kind, problem.y[rows])
    classed = kind in ("nominal", "ordinal")
    weighty = problem.weights_of(rows) > 0
    n_classes = len(np.unique(codes[weighty]))
    group_codes = None
    if problem.groups is not None:
        group_codes = np.unique(problem.groups[rows], return_inverse=True)[1]
        if group_codes.max() == 0:
            group_codes = None
    if group_codes is not None:
        n_folds = min(n_folds, int(group_codes.max()) + 1)
    if np.bincount(codes).max() < n_folds:
        if classed or len(rows) < n_folds:
            return []
        codes = np.zeros_like(codes)
    splitter = (StratifiedKFold if group_codes is None else StratifiedGroupKFold)(
        n_folds, shuffle=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The least populated class"
        )  # rare classes are split as they can be
        pairs = list(splitter.split(codes, codes, group_codes))
    return [
        (rows[train], rows[held])
        for train, held in pairs
        if len(held)
        and weighty[train].any()
        and (not classed or len(np.unique(codes[train[weighty[train]]])) == n_classes)
    ]
