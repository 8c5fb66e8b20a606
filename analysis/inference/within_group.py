"""Tests of what goes together within groups: rows of a group are permuted, or shifted in time.

The conventions are those of `analysis.inference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.inference.by_group import sign_flip
from mixed_signals.analysis.inference.result import Test, how_made, tail_share
from mixed_signals.models.intervals import FEWEST_GROUPS, group_codes

LONG_SERIES = 50  # rows of a group, in the mean

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


def group_permutation(
    statistic: Statistic,
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Test:
    """Test that x says nothing about y within groups, by permuting the rows of x within each group.

    For rows of a group that are exchangeable: one row as good as another, without an order in time (else
    `circular_shift`). Differences between groups are kept in every draw and count for nothing. Without groups (None)
    all rows are permuted. p is twice the smaller tail.

    Parameters
    ----------
    statistic : callable
        Takes x and y, in the same order, and returns a number.
    x, y : array-like of shape (N,)
    groups : array-like of shape (N,) or None
    resamples, seed : int
    """
    codes = _series(groups, len(np.asarray(x)))
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    rng = np.random.default_rng(seed)

    def rows() -> NDArray[np.intp]:
        found: NDArray[np.intp] = order[np.argsort(ordered + rng.random(len(ordered)))]
        return found

    what = "rows permuted" if groups is None else f"rows permuted within {codes.max(initial=-1) + 1} groups"
    found = _rearranged(statistic, x, y, codes, order, rows, resamples, what)
    return replace(found, n_groups=len(codes)) if groups is None else found


def circular_shift(
    statistic: Statistic,
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike | None,
    when: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Test:
    """Test that x says nothing about y where rows of a group follow each other in time, by shifting x in a circle.

    Within each group rows are sorted by `when`; in each draw x is moved on by as many rows as chance says, another
    number in each group, and what falls off at the end comes in at the start. That keeps what neighbours in time have
    in common, apart from the seam (Lancaster et al. 2018, Physics Reports 748). p is twice the smaller tail. The seam
    weighs in short series: with 42 groups of about 9 rows whose neighbours correlate by .9, 11% of nulls have p < .05
    (`within_groups` tests such series otherwise).

    Parameters
    ----------
    statistic : callable
        Takes x and y, in the same order, and returns a number.
    x, y : array-like of shape (N,)
    groups : array-like of shape (N,) or None
        Series in time; None for one.
    when : array-like of float, shape (N,)
    resamples, seed : int
    """
    n = len(np.asarray(x))
    codes = _series(groups, n)
    order = np.lexsort((np.asarray(when, dtype=np.float64), codes))
    sizes = np.bincount(codes)
    starts, size = np.repeat(np.cumsum(sizes) - sizes, sizes), np.repeat(sizes, sizes)
    place = np.arange(n) - starts
    rng = np.random.default_rng(seed)

    def rows() -> NDArray[np.intp]:
        shift = np.repeat(rng.integers(0, sizes), sizes)
        found: NDArray[np.intp] = order[starts + (place + shift) % size]
        return found

    what = f"circular shifts in time within {len(sizes)} groups"
    if len(sizes) and n / len(sizes) < LONG_SERIES:
        what += f" of {n / len(sizes):.0f} rows each (series this short are found alike a little too often)"
    return _rearranged(statistic, x, y, codes, order, rows, resamples, what)


def within_groups(
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    when: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Test:
    """Test that x and y do not go together within groups.

    The statistic is ``sum_i (x_i - x_g) (y_i - y_g)``, less the means of the row's group g, so that what lies between
    groups counts for nothing. What is rearranged depends on what is exchangeable:

    - rows without an order in time, of one group each or of none: `group_permutation`;
    - rows of which some have an order and some not: the groups' sums, by `sign_flip`;
    - series in time of `LONG_SERIES` rows and more in the mean, or of fewer than 8 groups: `circular_shift`;
    - shorter series, where a circle's seam weighs too much: the groups' sums, by `sign_flip`. Each has mean zero if
      x and y have nothing to do with each other, whatever neighbours in time have in common.

    Groups of one row say nothing here, and are left out.

    Parameters
    ----------
    x, y : array-like of shape (N,)
    groups : array-like of shape (N,) or None
        Without, all rows are one group.
    when : array-like of float, shape (N,), or None
        Place in time within the group; None where there is no order, NaN in the rows whose place is not known.
    resamples, seed : int
    """
    n = len(np.asarray(x))
    if not n:
        return Test(math.nan, math.nan, "no test: no rows", 0)
    codes = _series(groups, n)
    several = np.bincount(codes)[codes] > 1
    if not several.any():
        return Test(math.nan, math.nan, "no test: no group has two rows to rearrange", len(np.unique(codes)))
    codes = np.unique(codes[several], return_inverse=True)[1]
    sizes = np.bincount(codes)
    own = [np.asarray(v, dtype=np.float64)[several] for v in (x, y)]
    a, b = (v - (np.bincount(codes, weights=v) / sizes)[codes] for v in own)
    places = None if when is None else np.asarray(when, dtype=np.float64)[several]
    within = None if groups is None else codes

    def product(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float(first @ second)

    if places is None or not np.isfinite(places).any():
        return group_permutation(product, a, b, within, resamples=resamples, seed=seed)
    long_or_few = len(a) / len(sizes) >= LONG_SERIES or len(sizes) < FEWEST_GROUPS
    if long_or_few and np.isfinite(places).all():
        return circular_shift(product, a, b, within, places, resamples=resamples, seed=seed)
    return sign_flip(a * b, codes, resamples=resamples, seed=seed)


def _series(groups: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Return within which group each row may move: all in one where there are no groups."""
    return np.zeros(n, dtype=np.intp) if groups is None else group_codes(groups, n)


def _rearranged(
    statistic: Statistic,
    x: ArrayLike,
    y: ArrayLike,
    codes: NDArray[np.intp],
    order: NDArray[np.intp],
    rows: Callable[[], NDArray[np.intp]],
    resamples: int,
    what: str,
) -> Test:
    """Compare a statistic with those of x rearranged: `order` lines y up with what `rows` takes of x."""
    first, fixed = np.asarray(x), np.asarray(y)[order]
    sizes = np.bincount(codes)
    n_groups = len(sizes)
    observed = float(statistic(first[order], fixed)) if len(first) else math.nan
    if not np.isfinite(observed):
        return Test(observed, math.nan, "no test: the statistic is undefined here", n_groups)
    if sizes.max() < 2:
        return Test(observed, math.nan, "no test: no group has two rows to rearrange", n_groups)
    values = np.array([statistic(first[rows()], fixed) for _ in range(resamples)], dtype=np.float64)
    tails = [tail_share(values, observed, exact=False), tail_share(-values, -observed, exact=False)]
    return Test(observed, min(1.0, 2 * min(tails)), how_made(values, False, what), n_groups)
