"""Areas under curves: AUROC and average precision, of all rows and without each block of them.

A block (what the jackknife deletes) changes both areas through counts alone: of positives and of negatives that reach
each positive's score. These counts are made once, and each block's share is taken off, so that nothing is ranked
again.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

_CELLS = 2**17  # of a table of counts, blocks x scores: what the processor's cache holds


def auroc(score: ArrayLike, positive: ArrayLike) -> float:
    """Return the chance that a positive has the higher score than a negative, ties counted half.

    The Mann-Whitney statistic over its maximum (Hanley and McNeil 1982, Radiology 143); NaN without positives or
    without negatives.

    Parameters
    ----------
    score : array-like of float, shape (N,)
    positive : array-like of bool, shape (N,)
    """
    chosen = np.asarray(positive, dtype=bool)
    n1, n0 = int(chosen.sum()), int((~chosen).sum())
    if n1 == 0 or n0 == 0:
        return float("nan")
    ranks = rankdata(np.asarray(score, dtype=np.float64))
    return float((ranks[chosen].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


class Areas(NamedTuple):
    """Areas of all rows, then without each block, shape (B + 1,) each; NaN where they are undefined."""

    auroc: np.ndarray
    precision: np.ndarray


def areas(score: np.ndarray, positive: np.ndarray, blocks: np.ndarray) -> Areas:
    """Return the areas of one class against the others.

    With the positives' distinct scores ``s_1 > s_2 > ...``, of which ``p_j`` positives have the j-th, and ``TP_j`` and
    ``FP_j`` the positives and negatives that score at least ``s_j``, ``T_j`` the negatives that score just that::

        AUROC              = 1 - sum_j p_j (FP_j - T_j / 2) / (n1 n0)
        average precision  = sum_j p_j / n1 * TP_j / (TP_j + FP_j)

    (Average precision as scikit-learn has it, without interpolation: Manning, Raghavan and Schütze 2008, section 8.4.)
    Undefined are AUROC without positives or negatives, and average precision without positives.

    Parameters
    ----------
    score : ndarray of float, shape (N,)
    positive : ndarray of bool, shape (N,)
    blocks : ndarray of int, shape (N,)
        The block of each row, from 0 on.
    """
    n_blocks = int(blocks.max()) + 1
    levels = np.unique(-score[positive])
    level = np.searchsorted(
        levels, -score
    )  # the first that a row reaches; the last column takes those that reach none
    width = len(levels) + 1
    tied = ~positive & (np.append(levels, np.nan)[level] == -score)
    kinds = [positive, ~positive, *([tied] if tied.any() else [])]
    whole = [np.bincount(level[kind], minlength=width) for kind in kinds]
    found = [np.array([_from_counts(*whole)]).reshape(2, 1)]
    order = np.argsort(blocks, kind="stable")
    step = max(1, _CELLS // width)
    starts = np.searchsorted(blocks[order], np.arange(0, n_blocks + step, step))
    for first, rows in zip(range(0, n_blocks, step), np.split(order, starts[1:-1]), strict=True):
        n = min(step, n_blocks - first)
        cell = (blocks[rows] - first) * width + level[rows]
        left = [
            total - np.bincount(cell[kind[rows]], minlength=n * width).reshape(n, width)
            for kind, total in zip(kinds, whole, strict=True)
        ]
        found.append(np.array(_from_counts(*left)))
    return Areas(*np.concatenate(found, axis=1))


def _from_counts(
    positives: np.ndarray, negatives: np.ndarray, ties: np.ndarray | int = 0
) -> tuple[np.ndarray, ...]:
    """Return both areas for counts by score, shape (..., J + 1), the last of rows below every positive."""
    hits, false = positives.cumsum(axis=-1), negatives.cumsum(axis=-1)
    n1, n0 = hits[..., -1], false[..., -1]
    above = (positives * (false - ties / 2)).sum(axis=-1)
    precision = (positives * (hits / np.maximum(hits + false, 1))).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - above / (n1 * n0), precision / n1


def mean_areas(scores: np.ndarray, positives: np.ndarray, fold: np.ndarray, blocks: np.ndarray) -> Areas:
    """Return areas within folds, averaged over classes and then over folds.

    Scores of different folds come from different models and are not comparable. Classes and folds where an area is
    undefined are passed over.

    Parameters
    ----------
    scores : ndarray of float, shape (N, C)
    positives : ndarray of bool, shape (N, C)
    fold : ndarray of int, shape (N,)
    blocks : ndarray of int, shape (N,)
    """
    n_blocks = int(blocks.max()) + 1
    by_fold = []
    for rows in _split(fold):
        present, own = np.unique(blocks[rows], return_inverse=True)
        by_class = np.array([areas(scores[rows, c], positives[rows, c], own) for c in range(scores.shape[1])])
        averaged = _mean(by_class)
        spread = np.repeat(
            averaged[:, :1], n_blocks + 1, axis=1
        )  # a block that is elsewhere changes nothing here
        spread[:, 1 + present] = averaged[:, 1:]
        by_fold.append(spread)
    return Areas(*_mean(np.array(by_fold)))


def _split(codes: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each code."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of the values that are defined, NaN where none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        averaged: np.ndarray = np.nanmean(values, axis=0)
    return averaged
