"""Tests that respect groups, comparisons over resamplings, and corrections for many tests: one set of rules for all.

Conventions
-----------
Rows of one group (speaker, dialog) are not independent: groups, not rows, are flipped, permuted or counted. Groups are
given as an array of names; rows without one ("" or None) are each a group of their own, and without groups (None) all
rows are. All tests are two-sided.

A permutation test compares its statistic with those of ``draws`` random rearrangements and gives
``p = (1 + count) / (1 + draws)``, where `count` rearrangements are at least as extreme: never 0, and valid for any
number of draws (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9). Where there are
at most `MOST_ENUMERATED` rearrangements, all are made (as `method` says), and p is their exact share, which with few
groups cannot be small: with G groups flipped, 2 / 2^G at least.

Seeds and partitions are to be averaged before anything is tested here: a seed is no observation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2
from scipy.stats import t as student_t

from mixed_signals.analysis.findings import Finding
from mixed_signals.models.intervals import FEWEST_GROUPS, Interval, group_codes, sums_by

MOST_ENUMERATED = 4096
LONG_SERIES = 50  # rows of a group, in the mean
_ZERO = 1e-12  # what a difference that should be zero is left with by rounding, at most
_CELLS = 2**21  # of the arrays that one round of draws fills

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


@dataclass(frozen=True)
class Test:
    """A test's result.

    Attributes
    ----------
    statistic : float
    p : float
        Two-sided; NaN where the test cannot be made.
    method : str
        What was done, or why it could not be.
    n_groups : int
    """

    statistic: float
    p: float
    method: str
    n_groups: int
    __test__ = False  # no class of tests, for pytest


@dataclass(frozen=True)
class ResampledT:
    """A mean difference over resamplings, with the interval and test of `corrected_resampled_t`.

    Attributes
    ----------
    estimate, low, high, p : float
        Interval and p are NaN where there are none.
    statistic : float
        Student's t.
    n_values : int
        Resamplings, J.
    method : str
    """

    estimate: float
    low: float
    high: float
    p: float
    statistic: float
    n_values: int
    method: str


def sign_flip(
    values: ArrayLike, groups: ArrayLike | None = None, *, draws: int = 1000, seed: int = 0
) -> Test:
    """Test that values are symmetric about zero (have mean zero) by flipping the signs of whole groups.

    With the sums ``S_g`` of G groups the statistic is ``t = sum_g S_g / sqrt(sum_g S_g^2)``, compared with those of
    ``+-S_g`` (Winkler et al. 2014, NeuroImage 92: sign flips of whole exchangeability blocks).

    Parameters
    ----------
    values : array-like of shape (N,)
    groups : array-like of shape (N,) or None
    draws, seed : int
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
    statistic = float(sums.sum()) / size
    flipped, exact = _flipped(lambda signs: signs @ sums / size, len(sums), draws, seed)
    what = f"sign flips of {len(sums)} groups"
    return Test(
        statistic, _share(np.abs(flipped), abs(statistic), exact), _said(flipped, exact, what), len(sums)
    )


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


def cochran(right: ArrayLike, groups: ArrayLike | None = None, *, draws: int = 1000, seed: int = 0) -> Test:
    """Test that K answers are right equally often: Cochran's Q, its channels permuted with each group moved as one.

    With ``C_k`` right answers of channel k and ``R_i`` of row i (Cochran 1950, Biometrika 37)::

        Q = (K - 1) (K sum_k C_k^2 - (sum_k C_k)^2) / (K sum_i R_i - sum_i R_i^2)

    In each draw the channels of every group are exchanged with one another in the same way for all its rows.

    Parameters
    ----------
    right : array-like of bool, shape (N, K)
    groups : array-like of shape (N,) or None
    draws, seed : int
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
        for n in _rounds(draws, n_groups * K):
            order = np.argsort(rng.random((n, n_groups, K)), axis=-1)
            parts.append(q_of(_permuted(sums, order)))
        values = np.concatenate(parts)
    statistic = float(q_of(X.sum(axis=0)))
    what = f"Cochran's Q, channels permuted within {n_groups} groups"
    return Test(statistic, _share(values, statistic, exact), _said(values, exact, what), n_groups)


def _permuted(sums: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return counts by channel, shape (B, K), for the order of the channels in each group, shape (B, G, K)."""
    found: NDArray[np.float64] = np.take_along_axis(sums[None], order, axis=2).sum(axis=1)
    return found


def group_permutation(
    statistic: Statistic,
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    draws: int = 1000,
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
    draws, seed : int
    """
    codes = _series(groups, len(np.asarray(x)))
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    rng = np.random.default_rng(seed)

    def rows() -> NDArray[np.intp]:
        found: NDArray[np.intp] = order[np.argsort(ordered + rng.random(len(ordered)))]
        return found

    what = "rows permuted" if groups is None else f"rows permuted within {codes.max(initial=-1) + 1} groups"
    found = _rearranged(statistic, x, y, codes, order, rows, draws, what)
    return replace(found, n_groups=len(codes)) if groups is None else found


def circular_shift(
    statistic: Statistic,
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike | None,
    when: ArrayLike,
    *,
    draws: int = 1000,
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
    draws, seed : int
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
    return _rearranged(statistic, x, y, codes, order, rows, draws, what)


def within_groups(
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    when: ArrayLike | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Test:
    """Test that x and y do not go together within groups.

    The statistic is ``sum_i (x_i - x_g) (y_i - y_g)``, less the means of the row's group g, so that what lies between
    groups counts for nothing. What is rearranged depends on what is exchangeable:

    - rows without an order in time: `group_permutation`;
    - series in time of `LONG_SERIES` rows and more in the mean, or of fewer than 8 groups: `circular_shift`;
    - shorter series, where a circle's seam weighs too much: the groups' sums, by `sign_flip`. Each has mean zero if
      x and y have nothing to do with each other, whatever neighbours in time have in common.

    Parameters
    ----------
    x, y : array-like of shape (N,)
    groups : array-like of shape (N,) or None
        Without, all rows are one group.
    when : array-like of float, shape (N,), or None
        Place in time within the group; None, or not all finite, where there is no order.
    draws, seed : int
    """
    n = len(np.asarray(x))
    if not n:
        return Test(math.nan, math.nan, "no test: no rows", 0)
    codes = _series(groups, n)
    sizes = np.bincount(codes)
    a, b = (v - (np.bincount(codes, weights=v) / sizes)[codes] for v in (np.asarray(x), np.asarray(y)))

    def product(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float(first @ second)

    if when is None or not np.isfinite(np.asarray(when, dtype=np.float64)).all():
        return group_permutation(product, a, b, groups, draws=draws, seed=seed)
    if n / len(sizes) >= LONG_SERIES or len(sizes) < FEWEST_GROUPS:
        return circular_shift(product, a, b, groups, when, draws=draws, seed=seed)
    return sign_flip(a * b, codes, draws=draws, seed=seed)


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
    draws: int,
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
    values = np.array([statistic(first[rows()], fixed) for _ in range(draws)], dtype=np.float64)
    tails = [_share(values, observed, exact=False), _share(-values, -observed, exact=False)]
    return Test(observed, min(1.0, 2 * min(tails)), _said(values, False, what), n_groups)


def freedman_lane(
    y: ArrayLike,
    x: ArrayLike,
    covariates: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    draws: int = 1000,
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
    draws, seed : int
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

    statistic = float(t_of(np.ones((1, n_groups)))[0])
    flipped, exact = _flipped(t_of, n_groups, draws, seed)
    what = f"Freedman-Lane, residuals' signs flipped by {n_groups} groups"
    return Test(
        statistic, _share(np.abs(flipped), abs(statistic), exact), _said(flipped, exact, what), n_groups
    )


def _orthonormal(Z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of what the columns span, shape (N, rank)."""
    scale = np.linalg.norm(Z, axis=0)
    U, values, _ = np.linalg.svd(Z / np.where(scale > 0, scale, 1.0), full_matrices=False)
    basis: NDArray[np.float64] = U[:, values > 1e-10 * values[0]]
    return basis


def corrected_resampled_t(
    differences: ArrayLike, n_train: ArrayLike, n_test: ArrayLike, *, level: float = 0.95
) -> ResampledT:
    """Test and interval for a difference measured on J folds of one or several partitions.

    Training rows are shared between folds, so that their differences are correlated and the usual t-test is far too
    sure. With mean ``d`` and variance ``s^2`` (J - 1 in its denominator) of the differences (Nadeau and Bengio 2003,
    Machine Learning 52)::

        t = d / sqrt((1 / J + n_test / n_train) s^2), Student's t with J - 1 degrees of freedom

    Parameters
    ----------
    differences : array-like of shape (J,)
        One for each fold of each partition, averaged over seeds: seeds are no resamplings.
    n_train, n_test : float, or array-like of shape (J,)
        Rows for training and for testing; means are taken.
    level : float
        Coverage.

    Examples
    --------
    >>> found = corrected_resampled_t([0.02, 0.05, 0.01, 0.04, 0.03], 80, 20)
    >>> round(found.estimate, 3), round(found.statistic, 2), round(found.p, 3)
    (0.03, 2.83, 0.047)
    """
    d = np.asarray(differences, dtype=np.float64)
    J, estimate = len(d), float(d.mean()) if len(d) else math.nan
    nothing = ResampledT(
        estimate, math.nan, math.nan, math.nan, math.nan, J, "no test: it takes two folds at least"
    )
    if J < 2:
        return nothing
    if not np.isfinite(d).all():
        return replace(nothing, method="no test: the measure is undefined in some folds")
    shares = np.asarray(n_test, dtype=np.float64).mean() / np.asarray(n_train, dtype=np.float64).mean()
    factor = 1 / J + float(shares)
    spread = math.sqrt(factor * float(d.var(ddof=1)))
    if not spread > 1e-12 * abs(estimate):
        return replace(nothing, method="no test: the folds do not differ")
    reach = float(student_t.ppf((1 + level) / 2, J - 1)) * spread
    statistic = estimate / spread
    method = f"{level:.0%} corrected resampled t({J - 1}), variance factor {factor:.3f}"
    p = 2 * float(student_t.sf(abs(statistic), J - 1))
    return ResampledT(estimate, estimate - reach, estimate + reach, p, statistic, J, method)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted so that the chance of any false rejection is kept (Holm 1979).

    ``max over j <= i of min(1, (m - j + 1) p_(j))`` for the i-th smallest of m (Scandinavian Journal of Statistics 6).
    NaN is passed through and not counted.

    Examples
    --------
    >>> holm([0.01, 0.04, np.nan, 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    return _adjusted(p, lambda q: np.maximum.accumulate(q * np.arange(len(q), 0, -1)))


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted so that the expected share of false ones among rejections is kept.

    ``min over j >= i of min(1, m p_(j) / j)`` for the i-th smallest of m (Benjamini and Hochberg 1995, Journal of the
    Royal Statistical Society B 57). NaN is passed through and not counted.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, np.nan, 0.03]).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    return _adjusted(p, lambda q: np.minimum.accumulate((q * len(q) / np.arange(1, len(q) + 1))[::-1])[::-1])


def _adjusted(p: ArrayLike, rule: Callable[[NDArray[np.float64]], NDArray[Any]]) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=np.float64)
    found = np.full(len(values), math.nan)
    order = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    found[order] = np.minimum(rule(values[order]), 1.0)
    return found


def adjust(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings with their p-values corrected: Holm over what is primary, Benjamini-Hochberg over the rest."""
    p = np.array([finding.p for finding in findings], dtype=np.float64)
    primary = np.array([finding.primary for finding in findings], dtype=bool)
    adjusted = np.full(len(p), math.nan)
    adjusted[primary], adjusted[~primary] = holm(p[primary]), benjamini_hochberg(p[~primary])
    return [replace(f, p_adjusted=float(q)) for f, q in zip(findings, adjusted, strict=True)]


def with_test(interval: Interval, test: Test | None = None) -> dict[str, Any]:
    """Return the columns of a table's row: those of an interval, with a test's `p` (NaN without) and its method."""
    if test is None:
        return {**vars(interval), "p": math.nan}
    return {**vars(interval), "p": test.p, "method": f"{interval.method}; {test.method}"}


def _group_sums(groups: ArrayLike | None, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums by group, shape (G, K), of columns (N, K) or (N,)."""
    return sums_by(group_codes(groups, len(columns)), columns.reshape(len(columns), -1))


def _rounds(draws: int, width: int) -> list[int]:
    """Return how many draws to make at once, in turn, where each fills `width` cells."""
    most = max(1, _CELLS // width)
    return [min(most, draws - done) for done in range(0, draws, most)]


def _flipped(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], n_groups: int, draws: int, seed: int
) -> tuple[NDArray[np.float64], bool]:
    """Return a statistic of flipped signs, given as (B, G), for random flips or for all, and whether these are all."""
    if 2**n_groups <= MOST_ENUMERATED:
        bits = np.arange(2**n_groups)[:, None] >> np.arange(n_groups) & 1
        return function(_signs(bits)), True
    rng = np.random.default_rng(seed)
    rounds = _rounds(draws, n_groups)
    return np.concatenate([function(_signs(rng.integers(0, 2, (n, n_groups)))) for n in rounds]), False


def _signs(bits: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)


def _share(values: NDArray[np.float64], observed: float, exact: bool) -> float:
    """Return the p-value of the upper tail; ties up to rounding count, as do values that are undefined."""
    count = int((~(values < observed - 1e-9 * max(1.0, abs(observed)))).sum())
    return count / len(values) if exact else (1 + count) / (1 + len(values))


def _said(values: NDArray[np.float64], exact: bool, what: str) -> str:
    """Return what was done in words."""
    return f"{what}, all {len(values):,}" if exact else f"{what}, {len(values):,} random draws"
