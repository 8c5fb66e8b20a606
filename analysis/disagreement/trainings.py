"""Two models in several trainings: what lies between them, and what training alone would put there.

Conventions
-----------
With ``d`` a distance of two models' outputs for an utterance (see `analysis.disagreement.distances`) and ``m_s`` the
model ``m`` of training ``s``, means over pairs of trainings ``s, s'``:

- ``between``: mean of ``d(m_s, F_s')``.
- ``floor``: half of the sum of the means of ``d(m_s, m_s')`` and ``d(F_s, F_s')``.
- ``excess``: ``between - floor``, for each utterance, which may be negative and is never clipped.

A pair counts where the two trainings share neither seed nor order of the rows (as far as there are several of each),
since what they share may make them alike.

Groups and trainings are both samples. The interval of a mean excess over groups is widened in quadrature by that of a
delete-one-training jackknife (Tukey 1958), each side for itself (as in Zou and Donner 2008). The test asks whether the
two models differ by more than their trainings: under the null all trainings are of one kind, so that it does not matter
which are called ``m`` and which ``F``; all ways to call half of them ``m`` are tried, or as many as are drawn, and
those with no smaller mean excess counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from mixed_signals.analysis.disagreement.distances import Distance, Values
from mixed_signals.models.intervals import Interval, Limits

_AT_ONCE = 1 << 19  # numbers of one view that are compared at a time
_MOST_SPLITS = 2000  # that are tried one and all

Trainings = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Excess:
    """Two models in S trainings each.

    Attributes
    ----------
    between, floor : ndarray, shape (N,)
        Of each utterance.
    means : ndarray, shape (2S, 2S)
        Mean distance of each two of all trainings, the first model's first; NaN for pairs that do not count.
    units : ndarray of int, shape (S,)
        What is deleted at a time: the number of each training's seed, or of its order where there is one seed.
    """

    between: Values
    floor: Values
    means: Values
    units: NDArray[np.intp]

    @property
    def excess(self) -> Values:
        """What lies between beyond the floor, shape (N,)."""
        return self.between - self.floor

    def widened(self, interval: Interval, limits: Limits, level: float = 0.95) -> Interval:
        """Return an interval of the mean excess over groups, widened by what other trainings would change."""
        units = np.unique(self.units)
        kept = [np.tile(self.units != unit, 2) for unit in units]
        halves = np.repeat([1.0, 0.0], len(self.units))
        deleted = np.array([_mean_excess(self.means[np.ix_(k, k)], halves[None, k])[0] for k in kept])
        n = len(units)
        if n < 3 or not np.isfinite(deleted).all() or not np.isfinite(interval.low):
            return interval
        spread = np.sqrt((n - 1) / n * np.sum((deleted - deleted.mean()) ** 2))
        reach = float(student_t.ppf((1 + level) / 2, n - 1)) * spread
        estimate = interval.estimate
        return replace(
            interval,
            low=max(limits[0], estimate - float(np.hypot(estimate - interval.low, reach))),
            high=min(limits[1], estimate + float(np.hypot(interval.high - estimate, reach))),
            method=f"{interval.method}, widened by a delete-one-training jackknife, t({n - 1})",
        )

    def test(self, resamples: int, seed: int) -> tuple[float, str]:
        """Return p and how it was made; see this module's conventions."""
        n = len(self.units)
        observed = _mean_excess(self.means, np.repeat([1.0, 0.0], n)[None])[0]
        every = comb(2 * n, n) <= _MOST_SPLITS
        if every:
            chosen = np.array(list(combinations(range(2 * n), n)))
        else:
            rng = np.random.default_rng(seed)
            chosen = rng.random((resamples, 2 * n)).argpartition(n, axis=1)[:, :n]
        split = np.zeros((len(chosen), 2 * n))
        np.put_along_axis(split, chosen, 1.0, axis=1)
        above = int(np.sum(_mean_excess(self.means, split) >= observed - 1e-12))
        if every:
            return above / len(split), f"permutation of trainings, all {len(split)} splits, one-sided"
        return (1 + above) / (1 + resamples), f"permutation of trainings, {resamples} splits, one-sided"


def compared_trainings(trainings: Trainings) -> NDArray[np.bool_]:
    """Return which pairs of trainings count, shape (S, S): those that share neither seed nor order."""
    allowed = ~np.eye(len(trainings), dtype=bool)
    for values in map(np.array, zip(*trainings, strict=True)):
        if len(np.unique(values)) > 1:
            allowed &= values[:, None] != values[None, :]
    return allowed


def excesses(
    distance: Distance,
    views: dict[str, NDArray[Any]],
    pairs: Sequence[tuple[str, str]],
    trainings: Trainings,
) -> dict[tuple[str, str], Excess]:
    """Return what lies between models beyond their trainings.

    Parameters
    ----------
    distance : Distance
    views : dict of model to array, shape (P, S, N) or (P, S, N, K)
        Of the models' outputs.
    pairs : sequence of (model, model)
    trainings : sequence of (seed, order), length S
    """
    allowed = compared_trainings(trainings)
    seeds = np.array(trainings)
    units = seeds[:, 0] if len(np.unique(seeds[:, 0])) > 1 else seeds[:, 1]
    itself = {model: between_trainings(distance, view, view, allowed) for model, view in views.items()}
    found = {}
    for first, second in pairs:
        between, across = between_trainings(distance, views[first], views[second], allowed)
        (one, of_one), (other, of_other) = itself[first], itself[second]
        means = np.block([[of_one, across], [across.T, of_other]])
        found[first, second] = Excess(between, (one + other) / 2, means, units)
    return found


def between_trainings(
    distance: Distance, a: NDArray[Any], b: NDArray[Any], allowed: NDArray[np.bool_]
) -> tuple[Values, Values]:
    """Return the mean distance over partitions and pairs of trainings that count.

    Pair by pair in rounds: in round ``r`` training ``s`` of `a` meets ``s - r`` of `b`.

    Parameters
    ----------
    distance : Distance
    a, b : arrays, shape (P, S, N) or (P, S, N, K)
        Views of two models' outputs; the same array for a model and itself.
    allowed : ndarray of bool, shape (S, S)
        Which pairs count; symmetric, none of a training with its own number.

    Returns
    -------
    by_utterance : ndarray, shape (N,)
    by_pair : ndarray, shape (S, S)
        NaN for pairs that do not count.
    """
    n_partitions, n_trainings, n = a.shape[:3]
    rounds = range(1, n_trainings // 2 + 1 if a is b else n_trainings)
    by_utterance, by_pair = np.zeros(n), np.zeros((n_trainings, n_trainings))
    every = np.arange(n_trainings)
    step = max(1, _AT_ONCE * n // a.size)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        mine, others = np.ascontiguousarray(a[:, :, rows]), np.ascontiguousarray(b[:, :, rows])
        for r in rounds:
            for here, there in ((slice(r, None), slice(None, -r)), (slice(None, r), slice(-r, None))):
                met = distance.between(mine[:, here], others[:, there]).sum(axis=0)
                s, t = every[here], every[there]
                twice = 2 if a is b and 2 * r != n_trainings else 1  # the other way round is met in no round
                by_utterance[rows] += twice * (allowed[s, t] @ met)
                by_pair[s, t] += met.sum(axis=1)
                if twice == 2:
                    by_pair[t, s] += met.sum(axis=1)
    by_pair = np.where(allowed, by_pair / (n_partitions * n), np.nan)
    return by_utterance / (n_partitions * max(allowed.sum(), 1)), by_pair


def _mean_excess(means: Values, first: Values) -> Values:
    """Return the mean excess, shape (B,), where trainings are called the first model's as `first` (B, T) says."""
    counts, values = np.isfinite(means).astype(float), np.nan_to_num(means)
    second = 1 - first

    def mean(one: Values, other: Values) -> Values:
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Values = ((one @ values) * other).sum(axis=1) / ((one @ counts) * other).sum(axis=1)
        return found

    return mean(first, second) - (mean(first, first) + mean(second, second)) / 2
