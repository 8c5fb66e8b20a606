"""Tests of a mean, of right answers and of a slope, each from sums by group: whole groups are flipped or permuted.

The conventions are those of `analysis.inference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from mixed_signals.analysis.inference.result import Test, how_made, tail_share
from mixed_signals.models.intervals import FEWEST_GROUPS, group_codes, sums_by

MOST_ENUMERATED = 4096
_ZERO = 1e-12  # what a difference that should be zero is left with by rounding, at most
_CELLS = 2**21  # of the arrays that one round fills


def sign_flip(
    values: ArrayLike, groups: ArrayLike | None = None, *, resamples: int = 1000, seed: int = 0
) -> Test:
    """Test that values are symmetric about zero (have mean zero) by flipping the signs of whole groups.

    With the sums ``S_g`` of G groups the statistic is ``t = sum_g S_g / sqrt(sum_g S_g^2)``, compared with those of
    ``+-S_g`` (Winkler et al. 2014, NeuroImage 92: sign flips of whole exchangeability blocks).

    Parameters
    ----------
    values : array-like of shape (N,)
    groups : array-like of shape (N,) or None
    resamples, seed : int
        Of random flips; all 2^G are made where these are few.

    Examples
    --------
    >>> sign_flip([1.0, 2.0, 1.5, 0.5, 1.0, 2.0, 1.0, 0.5]).p
    0.0078125
    """
    sums = _group_sums(groups, np.asarray(values, dtype=np.float64))[:, 0]
    size = math.sqrt(float(sums @ sums))
    if size <= _ZERO * len(np.asarray(values)):
        return Test(math.nan, math.nan, "no test: nothing but zeros", len(sums))
    what = f"sign flips of {len(sums)} groups"
    statistic = float(sums.sum()) / size
    return _flip_test(lambda signs: signs @ sums / size, statistic, len(sums), what, resamples, seed)


def mcnemar(
    first_right: ArrayLike,
    second_right: ArrayLike,
    groups: ArrayLike | None = None,
    method: str = "obuchowski",
) -> Test:
    """Test that two answers are right equally often, for rows in groups: McNemar's test, clustered.

    With ``d_g`` the rows of group g that only the first has right less those that only the second has, and ``n_g`` its
    rows::

        obuchowski  (G - 1) / G * (sum_g d_g)^2 / sum_g d_g^2           (Obuchowski 1998, Statistics in Medicine 17)
        durkalski   (sum_g d_g / n_g)^2 / sum_g (d_g / n_g)^2           (Durkalski et al. 2003, ibid. 22)

    each compared with chi-square on one degree of freedom. (The first is Obuchowski's statistic as Yang, Sun and Hardin
    2010, Biometrical Journal 52, simplify it.) Where every row is a group, Durkalski's is McNemar's own, without
    continuity correction. Obuchowski's is about the difference over rows, Durkalski's about its mean over groups.

    Parameters
    ----------
    first_right, second_right : array-like of bool, shape (N,)
    groups : array-like of shape (N,) or None
    method : {"obuchowski", "durkalski"}

    Examples
    --------
    >>> first, second = np.ones(40, dtype=bool), np.arange(40) % 4 > 0
    >>> round(mcnemar(first, second, method="durkalski").statistic, 6)
    10.0
    """
    differences = np.asarray(first_right, dtype=np.float64) - np.asarray(second_right, dtype=np.float64)
    sums = _group_sums(groups, np.column_stack([differences, np.ones(len(differences))]))
    d, n_groups = sums[:, 0], len(sums)
    factor = (n_groups - 1) / n_groups
    if method == "durkalski":
        d, factor = d / sums[:, 1], 1.0
    elif method != "obuchowski":
        raise ValueError(f"method {method!r}: obuchowski or durkalski")
    named = f"McNemar's test clustered by group ({method.title()}), {n_groups} groups"
    if not d.any():
        return Test(math.nan, math.nan, "no test: no group where one is right more often", n_groups)
    statistic = factor * float(d.sum() ** 2 / (d @ d))
    if n_groups < FEWEST_GROUPS:
        return Test(statistic, math.nan, f"{named}: no p, at least {FEWEST_GROUPS} are needed", n_groups)
    return Test(statistic, float(chi2.sf(statistic, 1)), named, n_groups)


def cochran(
    right: ArrayLike, groups: ArrayLike | None = None, *, resamples: int = 1000, seed: int = 0
) -> Test:
    """Test that K answers are right equally often: Cochran's Q, its channels permuted with each group moved as one.

    With ``C_k`` right answers of channel k and ``R_i`` of row i (Cochran 1950, Biometrika 37)::

        Q = (K - 1) (K sum_k C_k^2 - (sum_k C_k)^2) / (K sum_i R_i - sum_i R_i^2)

    In each draw the channels of every group are exchanged with one another in the same way for all its rows.

    Parameters
    ----------
    right : array-like of bool, shape (N, K)
    groups : array-like of shape (N,) or None
    resamples, seed : int
    """
    X = np.asarray(right, dtype=np.float64)
    sums = _group_sums(groups, X)
    n_groups, K = sums.shape
    rows, total = X.sum(axis=1), X.sum()
    scale = K * total - rows @ rows
    if scale == 0:
        return Test(math.nan, math.nan, "no test: all channels are right on the same rows", n_groups)

    def q_of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (K - 1) * (K * (counts**2).sum(axis=-1) - total**2) / scale
        return found

    orders = np.array(list(permutations(range(K)))) if K <= 7 else None
    exact = orders is not None and len(orders) ** n_groups <= MOST_ENUMERATED
    if orders is not None and exact:
        chosen = np.stack(np.meshgrid(*[range(len(orders))] * n_groups, indexing="ij"), axis=-1)
        values = q_of(_permuted(sums, orders[chosen.reshape(-1, n_groups)]))
    else:
        rng = np.random.default_rng(seed)
        parts = []
        for n in _rounds(resamples, n_groups * K):
            order = np.argsort(rng.random((n, n_groups, K)), axis=-1)
            parts.append(q_of(_permuted(sums, order)))
        values = np.concatenate(parts)
    statistic = float(q_of(X.sum(axis=0)))
    what = f"Cochran's Q, channels permuted within {n_groups} groups"
    return Test(statistic, tail_share(values, statistic, exact), how_made(values, exact, what), n_groups)


def _permuted(sums: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return counts by channel, shape (B, K), for the order of the channels in each group, shape (B, G, K)."""
    found: NDArray[np.float64] = np.take_along_axis(sums[None], order, axis=2).sum(axis=1)
    return found


def freedman_lane(
    y: ArrayLike,
    x: ArrayLike,
    covariates: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Test:
    """Test that x adds nothing linear to covariates in saying y.

    After Freedman and Lane (1983, Journal of Business and Economic Statistics 1): y is fitted by the covariates alone,
    the residuals e are rearranged and added to the fit, and the full model is fitted to that. Residuals of rows in
    groups are rearranged by flipping the signs of whole groups (Winkler et al. 2014, NeuroImage 92), which keeps any
    dependence within a group, whether x varies within groups or between them. The statistic is Student's t of x with
    the standard error clustered by group. With ``x~`` what is left of x after the covariates ``Z`` (and a constant),
    ``s_g`` the sign of a group and ``r`` the residuals of the full model::

        b = sum_g s_g (x~' e)_g / x~' x~
        t = b x~' x~ / sqrt(sum_g (x~' r)_g^2)

    Parameters
    ----------
    y, x : array-like of float, shape (N,)
    covariates : array-like of float, shape (N, Q) or (N,)
        A constant is added.
    groups : array-like of shape (N,) or None
    resamples, seed : int
        Of random flips; all 2^G are made where these are few.
    """
    target, added = np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)
    Q = _orthonormal(np.column_stack([np.ones(len(target)), np.asarray(covariates, dtype=np.float64)]))
    e, rest = target - Q @ (Q.T @ target), added - Q @ (Q.T @ added)
    size = float(rest @ rest)
    n_groups = len(np.unique(group_codes(groups, len(target))))
    if size <= 1e-10 * float(added @ added):
        return Test(math.nan, math.nan, "no test: the covariates determine x", n_groups)
    if float(e @ e) <= 1e-20 * float(target @ target):
        return Test(math.nan, math.nan, "no test: the covariates determine y", n_groups)
    # by group: x~'e, x~'x~, x~'Q and Q'e
    sums = _group_sums(groups, np.column_stack([rest * e, rest**2, rest[:, None] * Q, Q * e[:, None]]))
    both, squares, across, left = np.split(sums, [1, 2, 2 + Q.shape[1]], axis=1)
    u, q = both[:, 0], squares[:, 0]

    def t_of(signs: NDArray[np.float64]) -> NDArray[np.float64]:
        slope = signs @ u / size
        scores = signs * u - (signs @ left) @ across.T - slope[:, None] * q
        found: NDArray[np.float64] = slope * size / np.sqrt((scores**2).sum(axis=1))
        return found

    what = f"Freedman-Lane, residuals' signs flipped by {n_groups} groups"
    statistic = float(t_of(np.ones((1, n_groups)))[0])
    return _flip_test(t_of, statistic, n_groups, what, resamples, seed)


def _orthonormal(Z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of what the columns span, shape (N, rank)."""
    scale = np.linalg.norm(Z, axis=0)
    U, values, _ = np.linalg.svd(Z / np.where(scale > 0, scale, 1.0), full_matrices=False)
    basis: NDArray[np.float64] = U[:, values > 1e-10 * values[0]]
    return basis


def _group_sums(groups: ArrayLike | None, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums by group, shape (G, K), of columns (N, K) or (N,)."""
    return sums_by(group_codes(groups, len(columns)), columns.reshape(len(columns), -1))


def _rounds(resamples: int, width: int) -> list[int]:
    """Return how many rearrangements to make at once, in turn, where each fills `width` cells."""
    most = max(1, _CELLS // width)
    return [min(most, resamples - done) for done in range(0, resamples, most)]


def _flip_test(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    statistic: float,
    n_groups: int,
    what: str,
    resamples: int,
    seed: int,
) -> Test:
    """Compare a statistic with those of flipped signs, given as (B, G): random ones, or all where these are few."""
    exact = 2**n_groups <= MOST_ENUMERATED
    if exact:
        values = function(_signs(np.arange(2**n_groups)[:, None] >> np.arange(n_groups) & 1))
    else:
        rng = np.random.default_rng(seed)
        rounds = _rounds(resamples, n_groups)
        values = np.concatenate([function(_signs(rng.integers(0, 2, (n, n_groups)))) for n in rounds])
    p = tail_share(np.abs(values), abs(statistic), exact)
    return Test(statistic, p, how_made(values, exact, what), n_groups)


def _signs(bits: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)
