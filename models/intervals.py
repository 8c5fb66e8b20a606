"""Intervals for statistics of grouped utterances: bootstrap-t over groups, or the delete-a-group jackknife.

Conventions
-----------
Utterances of one group (speaker, dialog) are not independent, so whole groups are resampled or deleted, never rows.
Utterances without a group are each a group of their own. How many groups ``G`` there are decides what is done:

- 40 and more: bootstrap-t over groups (Efron 1981, Canadian Journal of Statistics 9; Davison and Hinkley 1997,
  Bootstrap Methods and Their Application). In each of ``B`` resamples ``G`` groups are drawn with replacement, group
  ``g`` ``w_bg`` times, and the statistic ``t_b`` is studentised by its own linearised standard error, which for a
  function ``f`` of the sums ``s_g`` of groups, with ``T_b = sum_g w_bg s_g``, is::

      se_b^2 = G / (G - 1) * sum_g w_bg (f'(T_b) . (s_g - T_b / G))^2
      z_b = (t_b - t) / se_b
      interval = t - (k-th largest z) * se  to  t - (k-th smallest z) * se,  k = (B + 1) (1 - level) / 2

  More than `MOST_BLOCKS` groups are put together at random, whole, into that many blocks.
- 8 to 39: delete-a-group jackknife. With ``t_g`` the statistic without group ``g``::

      se^2 = (G - 1) / G * sum_g (t_g - t)^2
      interval = t -+ quantile_of_student_t(G - 1) * se

  This is the cluster jackknife "CV3" (MacKinnon, Nielsen and Webb 2023, Journal of Applied Econometrics 38), centred
  on the estimate. What lies between 0 and 1 (`SHARE`) and reaches neither is taken on the scale of its log-odds: rare
  shares are covered too seldom otherwise.
- Fewer: the estimate stands alone.

Percentile intervals of resampled groups are not used: with few groups they cover far less than they say.
Statistics that are no function of sums (`group_jackknife`, `blocks_jackknife`) get the jackknife from 8 groups on.

All intervals are conditional on the trained models: they say what other groups from the same population would
change, not what training again would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import expit, logit
from scipy.stats import t as student_t

FEWEST_GROUPS = 8
FEWEST_RESAMPLED = 40
MOST_DELETIONS = 200
MOST_BLOCKS = 500
MOST_UNDEFINED = 0.02
_MOST_PAIRED = 6  # columns of which all products are summed: cheaper than each group's influence
_STEP = 1e-5  # of numerical derivatives, in standard errors of what is summed

Limits = tuple[float, float]
SHARE: Limits = (0.0, 1.0)
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
    """Return the interval of any statistic, computed anew without each group in turn, however many groups there are.

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


def sums_interval(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    columns: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    limits: Limits = UNLIMITED,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the interval of a statistic that depends on the utterances through column sums alone.

    Bootstrap-t over groups or, with fewer than `FEWEST_RESAMPLED` of them, the delete-a-group jackknife. The jackknife
    also stands in, and `method` says so, where the bootstrap-t is undefined in more than `MOST_UNDEFINED` of the
    resamples (a denominator is 0, or nothing varies).

    Parameters
    ----------
    function : callable
        Maps sums of shape ``(..., K)`` to statistics of shape ``(...)``, smoothly.
    columns : array-like of shape (n, K)
        What is summed over utterances.
    groups, level, limits
        As for `group_jackknife`; the jackknife deletes every group, however many there are.
    resamples, seed : int
        Of the bootstrap-t. Intervals of the same number of groups share their resamples.
    """
    values = np.asarray(columns, dtype=np.float64)
    n = len(values)
    sums = sums_by(group_codes(groups, n), values)
    n_groups = len(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = sums.sum(axis=0)
        estimate = float(function(total)) if n else np.nan
        if n_groups < FEWEST_GROUPS or not np.isfinite(estimate):
            return _finish(estimate, None, n, n_groups, "groups", level, limits)
        why = ""
        if n_groups >= FEWEST_RESAMPLED:
            found = _bootstrap_t(function, _in_blocks(sums, seed), level, resamples, seed)
            if not isinstance(found, str):
                unit = "groups" if n_groups <= MOST_BLOCKS else f"groups in {MOST_BLOCKS} blocks"
                method = f"{level:.0%} bootstrap-t, {resamples} resamples of {n_groups} {unit}"
                low, high = max(limits[0], found[0]), min(limits[1], found[1])
                return Interval(estimate, low, high, n, n_groups, method)
            why = f" ({found})"
        deleted = function(total - sums)
    return _finish(estimate, deleted, n, n_groups, f"groups{why}", level, limits)


def _in_blocks(sums: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return the sums of groups, or of random blocks of whole groups where there are too many, shape (G, K)."""
    if len(sums) <= MOST_BLOCKS:
        return sums
    return sums_by(np.random.default_rng(seed).permutation(len(sums)) % MOST_BLOCKS, sums)


@lru_cache(maxsize=8)
def _resamples(n_groups: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Return how often each resample has each group, shape (1 + B, G); the first has each once."""
    drawn = np.random.default_rng(seed).integers(0, n_groups, (resamples, n_groups))
    cells = drawn + n_groups * np.arange(1, resamples + 1)[:, None]
    weights = np.bincount(cells.ravel(), minlength=(resamples + 1) * n_groups).astype(np.float64)
    weights[:n_groups] = 1
    weights.setflags(write=False)
    return weights.reshape(resamples + 1, n_groups)


def _bootstrap_t(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    sums: NDArray[np.float64],
    level: float,
    resamples: int,
    seed: int,
) -> tuple[float, float] | str:
    """Return the ends of the interval, or why there are none."""
    values, spread = _linearised(function, sums, _resamples(len(sums), resamples, seed))
    estimate = values[0]
    if spread[0] <= 1e-12 * max(1.0, abs(estimate)):
        return "it does not vary between groups"
    studentised = (values[1:] - estimate) / spread[1:]
    undefined = 1 - np.isfinite(studentised).mean()
    if undefined > MOST_UNDEFINED:
        return f"the bootstrap-t is undefined in {undefined:.0%} of resamples"
    studentised = np.sort(studentised[~np.isnan(studentised)])  # infinite ones are known to lie at an end
    beyond = int((len(studentised) + 1) * (1 - level) / 2 + 1e-9)
    if beyond < 1 or not np.isfinite(studentised[[beyond - 1, -beyond]]).all():
        return "the bootstrap-t has too few resamples for this level"
    highest, lowest = studentised[-beyond], studentised[beyond - 1]
    return float(estimate - highest * spread[0]), float(estimate - lowest * spread[0])


def _linearised(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    sums: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the statistic in each resample and its linearised standard error (the infinitesimal jackknife).

    Parameters
    ----------
    function : callable
    sums : ndarray, shape (G, K)
    weights : ndarray, shape (B, G)
        How often each resample has each group.
    """
    n_groups = len(sums)
    mean, spread = sums.mean(axis=0), sums.std(axis=0) * np.sqrt(n_groups)
    moving = np.flatnonzero(spread > 1e-12 * np.abs(sums).sum(axis=0))
    standard = (sums[:, moving] - mean[moving]) / spread[moving]
    K = len(moving)
    first, second = np.triu_indices(K) if K <= _MOST_PAIRED else (np.arange(K), np.arange(K))
    both = weights @ np.hstack([standard, standard[:, first] * standard[:, second]])
    moved_by, products = both[:, :K], both[:, K:] - both[:, first] * both[:, second] / n_groups

    totals = np.tile(mean * n_groups, (len(weights), 1))
    totals[:, moving] += moved_by * spread[moving]
    values = function(totals)
    varies = products[:, first == second] > 1e-9 / n_groups  # what is constant needs no derivative
    slopes = np.zeros((len(weights), K))
    for k, column in enumerate(moving):
        step = totals.copy()
        step[:, column] += _STEP * spread[column]
        slopes[:, k] = np.where(varies[:, k], (function(step) - values) / _STEP, 0.0)

    if K <= _MOST_PAIRED:
        twice = np.where(first == second, 1, 2)
        squares = (slopes[:, first] * slopes[:, second] * products) @ twice
    else:
        influence = slopes @ standard.T
        influence -= (slopes * moved_by / n_groups).sum(axis=1)[:, None]
        influence *= influence
        squares = np.einsum("bg,bg->b", weights, influence)
    return values, np.sqrt(np.maximum(squares, 0) * n_groups / (n_groups - 1))


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
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the mean over utterances (each counts once, whatever its group's size) with its interval.

    Parameters
    ----------
    values : array-like of shape (n,)
    groups, level, limits, resamples, seed
        As for `sums_interval`.

    Examples
    --------
    >>> result = mean_interval([0, 1, 0, 1, 1, 1, 1, 1, 0, 0], limits=(0, 1))
    >>> round(result.estimate, 2), round(result.low, 2), round(result.high, 2)
    (0.6, 0.24, 0.88)
    """
    each_counts_once = np.ones(len(np.asarray(values)))
    return ratio_interval(
        values, each_counts_once, groups, level=level, limits=limits, resamples=resamples, seed=seed
    )


def ratio_interval(
    above: ArrayLike,
    below: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    limits: Limits = UNLIMITED,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the ratio of two sums over utterances with its interval.

    Parameters
    ----------
    above, below : array-like of shape (n,)
        What is summed.
    groups, level, limits, resamples, seed
        As for `sums_interval`.
    """
    columns = np.column_stack([np.asarray(each, dtype=np.float64) for each in (above, below)])
    return sums_interval(
        lambda s: s[..., 0] / s[..., 1],
        columns,
        groups,
        level=level,
        limits=limits,
        resamples=resamples,
        seed=seed,
    )


def ratios_apart(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``s_0 / s_1 - s_2 / s_3``, shape (...), for sums (..., 4): a function of `sums_interval`."""
    return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]


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
    as_odds = limits == SHARE and min(estimate, deleted.min()) > 0 and max(estimate, deleted.max()) < 1
    centre, values = (logit(estimate), logit(deleted)) if as_odds else (estimate, deleted)
    spread = float(np.sqrt((size - 1) / size * np.sum((values - centre) ** 2)))
    if spread <= 1e-12 * max(1.0, abs(centre)):
        return alone("it does not vary between groups")
    reach = float(student_t.ppf((1 + level) / 2, size - 1)) * spread
    low, high = max(limits[0], centre - reach), min(limits[1], centre + reach)
    scale = ""
    if as_odds:
        low, high, scale = float(expit(centre - reach)), float(expit(centre + reach)), " of log-odds"
    method = f"{level:.0%} delete-a-group jackknife{scale}, t({size - 1}), {n_groups} {unit}"
    return Interval(estimate, low, high, n, n_groups, method)
