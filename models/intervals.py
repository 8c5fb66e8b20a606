"""Intervals for statistics of grouped utterances: the delete-a-group jackknife.

Conventions
-----------
Utterances of one group (speaker, dialog) are not independent, so whole groups are deleted, never rows. With
``G`` groups, ``t`` the statistic of all utterances and ``t_g`` the one without group ``g``::

    variance = (G - 1) / G * sum_g (t_g - t)^2
    interval = t -+ quantile_of_student_t(G - 1) * sqrt(variance)

This is the cluster jackknife "CV3" (MacKinnon, Nielsen and Webb 2023, Journal of Applied Econometrics 38),
centred on the estimate. With fewer than `FEWEST_GROUPS` groups the estimate stands alone. Utterances without a
group are each a group of their own.

All intervals are conditional on the trained models: they say what other groups from the same population would
change, not what training again would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.stats import t as student_t

FEWEST_GROUPS = 8
MOST_DELETIONS = 200

Limits = tuple[float, float]
UNLIMITED: Limits = (-np.inf, np.inf)


@dataclass(frozen=True)
class Interval:
    """An estimate, its interval (both ends NaN where there is none), and what was done.

    Attributes
    ----------
    estimate, low, high : float
    n, n_groups : int
        Utterances and groups behind the estimate.
    method : str
        How the interval was made, or why there is none.
    """

    estimate: float
    low: float
    high: float
    n: int
    n_groups: int
    method: str


def group_codes(groups: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Return group numbers 0 to G - 1, shape ``(n,)``; a missing group (None, NaN, "") is a group of its own.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        Group names, ``None`` if the utterances have no groups.
    n : int
        Number of utterances.
    """
    if groups is None:
        return np.arange(n)
    if np.asarray(groups).dtype.kind in "iu" and np.size(groups) == n:
        return pd.factorize(np.asarray(groups))[0]
    names_of_rows = pd.Series(np.asarray(groups, dtype=object))
    if len(names_of_rows) != n:
        raise ValueError(f"{len(names_of_rows)} groups for {n} utterances")
    codes, names = pd.factorize(names_of_rows.where(names_of_rows != ""))
    alone = codes < 0
    return np.where(alone, len(names) + np.cumsum(alone) - 1, codes)


def group_jackknife(
    statistic: Callable[[NDArray[np.intp]], float],
    n: int,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    limits: Limits = UNLIMITED,
) -> Interval:
    """Return the interval of any statistic, computed anew without each group in turn.

    Parameters
    ----------
    statistic : callable
        Takes the row numbers to use and returns a number, NaN where it is undefined.
    n : int
        Number of utterances (rows).
    groups : array-like of shape (n,) or None
        Group of each row. Beyond `MOST_DELETIONS` groups, that many blocks of whole groups are deleted instead.
    level : float
        Coverage.
    limits : (float, float)
        What the statistic can be at least and at most; an end beyond is drawn back to it.

    Examples
    --------
    >>> x = np.arange(16.0)
    >>> group_jackknife(lambda rows: float(np.median(x[rows])), 16, np.repeat(range(8), 2)).estimate
    7.5
    """
    codes = group_codes(groups, n)
    n_groups = len(np.unique(codes))
    rows = np.arange(n)
    estimate = float(statistic(rows)) if n else np.nan
    if n_groups < FEWEST_GROUPS or not np.isfinite(estimate):
        return _finish(estimate, None, n, n_groups, "groups", level, limits)
    blocks = codes if n_groups <= MOST_DELETIONS else codes % MOST_DELETIONS
    deleted = np.array([statistic(rows[blocks != block]) for block in np.unique(blocks)], dtype=np.float64)
    unit = "groups" if blocks is codes else f"groups in {MOST_DELETIONS} blocks"
    return _finish(estimate, deleted, n, n_groups, unit, level, limits)


def blocks_jackknife(
    function: Callable[[NDArray[np.intp]], NDArray[np.float64]],
    n: int,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    limits: Limits = UNLIMITED,
) -> list[Interval]:
    """Return the intervals of `group_jackknife` for statistics whose delete-one values are found all at once.

    Parameters
    ----------
    function : callable
        Takes the number of each row's block, 0 to B - 1, and returns M statistics of all rows, each followed by those
        without each block, shape (M, B + 1).
    n, groups, level, limits
        As for `group_jackknife`; n is at least 1.
    """
    codes = group_codes(groups, n)
    n_groups = len(np.unique(codes))
    blocks = codes if n_groups <= MOST_DELETIONS else codes % MOST_DELETIONS
    unit = "groups" if blocks is codes else f"groups in {MOST_DELETIONS} blocks"
    return [
        _finish(
            float(values[0]),
            values[1:] if n_groups >= FEWEST_GROUPS else None,
            n,
            n_groups,
            unit,
            level,
            limits,
        )
        for values in function(blocks)
    ]


def sums_jackknife(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    columns: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    limits: Limits = UNLIMITED,
) -> Interval:
    """Return the interval of a statistic that depends on the utterances through column sums alone.

    The same numbers as `group_jackknife` up to `MOST_DELETIONS` groups, without visiting the utterances again for
    each group.

    Parameters
    ----------
    function : callable
        Maps sums of shape ``(..., K)`` to statistics of shape ``(...)``.
    columns : array-like of shape (n, K)
        What is summed over utterances.
    groups, level, limits
        As for `group_jackknife`; every group is deleted, however many there are.
    """
    values = np.asarray(columns, dtype=np.float64)
    n = len(values)
    sums = sums_by(group_codes(groups, n), values)
    n_groups = len(sums)
    total = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(function(total)) if n else np.nan
        deleted = function(total - sums) if n_groups >= FEWEST_GROUPS else None
    return _finish(estimate, deleted, n, n_groups, "groups", level, limits)


def sums_by(codes: NDArray[Any], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of each group's rows, shape (G, K), for group numbers (n,) from 0 to G - 1 and columns (n, K)."""
    n = len(codes)
    rows_of = csr_array((np.ones(n), (codes, np.arange(n))), shape=(int(codes.max(initial=-1)) + 1, n))
    return np.asarray(rows_of @ columns)  # several times faster than np.add.at


def mean_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    limits: Limits = UNLIMITED,
) -> Interval:
    """Return the mean over utterances (each counts once, whatever its group's size) with its interval.

    Parameters
    ----------
    values : array-like of shape (n,)
    groups, level, limits
        As for `group_jackknife`.

    Examples
    --------
    >>> result = mean_interval([0, 1, 0, 1, 1, 1, 1, 1, 0, 0], limits=(0, 1))
    >>> round(result.estimate, 2), round(result.low, 2), round(result.high, 2)
    (0.6, 0.23, 0.97)
    """
    x = np.asarray(values, dtype=np.float64)
    columns = np.column_stack([x, np.ones(len(x))])
    return sums_jackknife(lambda s: s[..., 0] / s[..., 1], columns, groups, level=level, limits=limits)


def _finish(
    estimate: float,
    deleted: NDArray[Any] | None,
    n: int,
    n_groups: int,
    unit: str,
    level: float,
    limits: Limits,
) -> Interval:
    """Turn an estimate and its delete-one values into an interval, or say why there is none."""

    def alone(why: str) -> Interval:
        return Interval(estimate, np.nan, np.nan, n, n_groups, f"no interval: {why}")

    if not np.isfinite(estimate):
        return alone("the statistic is undefined here")
    if deleted is None:
        return alone(f"{n_groups} groups, at least {FEWEST_GROUPS} are needed")
    if not np.isfinite(deleted).all():
        return alone("the statistic is undefined without one of the groups")
    size = len(deleted)
    spread = float(np.sqrt((size - 1) / size * np.sum((deleted - estimate) ** 2)))
    if spread <= 1e-12 * max(1.0, abs(estimate)):
        return alone("it does not vary between groups")
    reach = float(student_t.ppf((1 + level) / 2, size - 1)) * spread
    low, high = max(limits[0], estimate - reach), min(limits[1], estimate + reach)
    method = f"{level:.0%} delete-a-group jackknife, t({size - 1}), {n_groups} {unit}"
    return Interval(estimate, low, high, n, n_groups, method)
