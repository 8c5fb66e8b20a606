"""Agreement of raters who are known by name, beyond chance: Fleiss' and Cohen's kappa by channel.

Conventions
-----------
Both are ``(P - P_e) / (1 - P_e)``: observed agreement, beyond what raters who ignore the utterance would reach.

- Fleiss' kappa (Fleiss 1971, Psychological Bulletin 76): ``P`` is the mean over utterances of the share of pairs of
  their raters who agree, ``P_e = sum_k p_k^2`` with ``p_k`` the mean over utterances of the share of votes for ``k``;
  in this form (Gwet 2014, Handbook of Inter-Rater Reliability, 4th edition, chapter 2) utterances may have different
  numbers of raters, and any raters of a larger crowd. Utterances with one rater are left out.
- Cohen's kappa (Cohen 1960, Educational and Psychological Measurement 20) where a channel has exactly two raters:
  ``P`` is the share of utterances in which they agree, ``P_e = sum_k p_1k p_2k`` of their own shares.

Without names nobody knows that the votes of an utterance are of different people: then there is no kappa. If a rater
judged an utterance twice in a channel, the first judgement is used.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.ambiguity.ratings import Floats, ambiguity
from mixed_signals.models.intervals import Interval, sums_interval

FLEISS, COHEN = "Fleiss' kappa", "Cohen's kappa"


def raters_are_known(ratings: pd.DataFrame) -> bool:
    """Return whether each row is the judgement of one rater with a name."""
    if "rater" not in ratings or ratings.empty:
        return False
    return bool((ratings["rater"].fillna("").astype(str) != "").all() and (ratings["count"] == 1).all())


def fleiss_kappa(
    counts: NDArray[np.int64],
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return Fleiss' kappa of votes (N, K), at least two in each row.

    Examples
    --------
    >>> round(fleiss_kappa(np.array([[2, 0], [1, 1], [0, 3]])).estimate, 3)
    0.333
    """
    share = counts / counts.sum(axis=1, keepdims=True)
    columns = np.column_stack([np.ones(len(counts)), 1 - ambiguity(counts), share])

    def kappa(sums: Floats) -> Floats:
        n, agree, by_value = sums[..., 0], sums[..., 1], sums[..., 2:]
        return _beyond(agree / n, np.sum((by_value / n[..., None]) ** 2, axis=-1))

    return sums_interval(kappa, columns, groups, limits=(-1, 1), resamples=resamples, seed=seed)


def cohen_kappa(
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    n_values: int,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return Cohen's kappa of what two raters said of the same utterances, arrays of int (N,) from 0 to n_values - 1.

    Examples
    --------
    >>> cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2).estimate
    0.5
    """
    one = np.eye(n_values)
    columns = np.column_stack([np.ones(len(first)), first == second, one[first], one[second]])

    def kappa(sums: Floats) -> Floats:
        n, agree, a, b = np.split(sums, [1, 2, 2 + n_values], axis=-1)
        return _beyond((agree / n)[..., 0], np.sum(a * b, axis=-1) / n[..., 0] ** 2)

    return sums_interval(kappa, columns, groups, limits=(-1, 1), resamples=resamples, seed=seed)


def _beyond(observed: Floats, chance: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)


def channel_kappa(
    ratings: pd.DataFrame, groups: pd.Series | None = None, *, resamples: int = 1000, seed: int = 0
) -> tuple[str, Interval, int] | None:
    """Return the kappa of one channel: its name, its value and the number of raters; None if no two met.

    Parameters
    ----------
    ratings : DataFrame
        ``utterance_id, rater, value``, of one channel, raters known.
    groups : Series by utterance id, optional
    resamples, seed : int
        Of the interval.
    """
    once = ratings.drop_duplicates(["utterance_id", "rater"])
    row, ids = pd.factorize(once["utterance_id"].astype(object), sort=True)
    value, values = pd.factorize(once["value"].astype(str).astype(object), sort=True)
    rater, raters = pd.factorize(once["rater"].astype(object), sort=True)
    counts = np.bincount(row * len(values) + value, minlength=len(ids) * len(values)).reshape(len(ids), -1)
    met = counts.sum(axis=1) >= 2
    if not met.any():
        return None
    by = None if groups is None else groups.reindex(ids[met]).to_numpy()
    if len(raters) > 2:
        return FLEISS, fleiss_kappa(counts[met], by, resamples=resamples, seed=seed), len(raters)
    said = np.zeros((len(ids), 2), dtype=np.intp)
    said[row, rater] = value
    first, second = said[met].T
    return COHEN, cohen_kappa(first, second, len(values), by, resamples=resamples, seed=seed), 2
