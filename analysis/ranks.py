"""How well one score of utterances goes with another by its ranks: Spearman's correlation and AUROC, with intervals.

Neither is a function of sums, so that intervals are by jackknife (`mixed_signals.models.intervals`). Values are turned
into *levels* once, 0 for the least value, 1 for the next one: ranks of some of the rows are then found by counting.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixed_signals.models.areas import areas
from mixed_signals.models.intervals import Interval, blocks_jackknife, group_jackknife

Floats = NDArray[np.float64]


def levels(values: ArrayLike) -> NDArray[np.intp]:
    """Return the number of each value among the different ones, shape (N,)."""
    return np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)[1]


def centred_ranks(level: NDArray[np.intp]) -> Floats:
    """Return the mid-ranks of levels less their mean, shape (N,)."""
    count = np.bincount(level)
    ranks: Floats = (np.cumsum(count) - (count - 1) / 2)[level]
    return ranks - (len(level) + 1) / 2


def rank_correlation(x: ArrayLike, y: ArrayLike, *given: ArrayLike) -> float:
    """Return Spearman's rank correlation with mid-ranks, beyond the ranks of what is given (then a partial one).

    NaN where nothing is left of x or y.

    Examples
    --------
    >>> round(rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]), 3)
    0.8
    """
    return _of_levels(*map(levels, (x, y, *given)))


def rank_correlation_interval(
    x: ArrayLike, y: ArrayLike, *given: ArrayLike, groups: ArrayLike | None = None
) -> Interval:
    """Return `rank_correlation` with its delete-a-group jackknife interval."""
    of = [levels(values) for values in (x, y, *given)]
    return group_jackknife(
        lambda rows: _of_levels(*(level[rows] for level in of)), len(of[0]), groups, limits=(-1, 1)
    )


def auroc_interval(score: Floats, positive: NDArray[np.bool_], groups: ArrayLike | None = None) -> Interval:
    """Return the AUROC of a score for positives, with its delete-a-group jackknife interval."""
    if not len(score):
        return group_jackknife(lambda rows: np.nan, 0, groups)
    (found,) = blocks_jackknife(
        lambda blocks: areas(score, positive, blocks).auroc[None], len(score), groups, limits=(0, 1)
    )
    return found


def _of_levels(x: NDArray[np.intp], y: NDArray[np.intp], *given: NDArray[np.intp]) -> float:
    a, b = centred_ranks(x), centred_ranks(y)
    if given:
        Z = np.column_stack([centred_ranks(level) for level in given])
        a, b = (ranks - Z @ np.linalg.lstsq(Z, ranks)[0] for ranks in (a, b))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 1e-9 * len(x) else np.nan
