"""What keeps repeated comparisons honest: over folds that share training rows, and over many tests at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from mixed_signals.analysis.findings import Finding


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
