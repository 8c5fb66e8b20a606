"""Scores as functions of sums over rows: all that an interval has to know of the rows.

Each function takes what is true and what was predicted, as `mixed_signals.store.predictions.read_outcomes` gives them,
and returns a `Measure`; `MEASURES` names those of each kind of target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mixed_signals.models.intervals import Limits

N_BINS = 15
_UNIT, _POSITIVE, _CORRELATION = (0.0, 1.0), (0.0, np.inf), (-1.0, 1.0)


class Measure(NamedTuple):
    """A score of rows.

    Attributes
    ----------
    columns : ndarray, shape (N, K)
        What is summed over rows.
    function : callable
        Maps sums (..., K) to scores (...).
    limits : (float, float)
        The least and the greatest score possible.
    """

    columns: np.ndarray
    function: Callable[[np.ndarray], np.ndarray]
    limits: Limits


def accuracy(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Share of rows whose most probable class is the label."""
    return _mean_of(P.argmax(axis=1) == truth, _UNIT)


def macro_f1(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Mean of the classes' F1 over those that occur or are predicted.

    ``F1_k = 2 hits_k / (rows of class k + rows predicted as k)``; multilabel: predicted is what has p > 0.5.
    """
    return _by_class(truth, P, lambda hits, true, named: _weighted(_f1(hits, true, named), true + named > 0))


def weighted_f1(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Mean of the classes' F1, weighted by how many rows each has."""
    return _by_class(truth, P, lambda *counts: _weighted(_f1(*counts), counts[1]))


def micro_f1(truth: np.ndarray, P: np.ndarray) -> Measure:
    """F1 of all labels of all classes together: 2 hits / (labels + predicted labels)."""
    return _by_class(truth, P, lambda *counts: _f1(*(count.sum(axis=-1) for count in counts)))


def balanced_accuracy(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Mean over the classes that occur of the share of their rows that are predicted as such."""
    return _by_class(truth, P, lambda hits, true, _: _weighted(hits / np.maximum(true, 1), true > 0))


def log_loss(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Mean of -log p(label), natural logarithm, p at least 1e-12; multilabel: mean over classes as well."""
    if truth.ndim == 2:
        likelihood = np.where(truth, P, 1 - P)
        return _mean_of(-np.log(np.clip(likelihood, 1e-12, None)).mean(axis=1), _POSITIVE)
    return _mean_of(-np.log(np.clip(P[np.arange(len(P)), truth], 1e-12, None)), _POSITIVE)


def brier(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Mean over rows of sum_k (p_k - [class k is the label])^2, 0 to 2 (Brier 1950, Monthly Weather Review 78).

    Multilabel: of the mean over classes, 0 to 1.
    """
    squared = (P - indicators(truth, P.shape[1])) ** 2
    if truth.ndim == 2:
        return _mean_of(squared.mean(axis=1), _UNIT)
    return _mean_of(squared.sum(axis=1), (0.0, 2.0))


def calibration_error(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Calibration error expected of the predicted label, with 15 bins of equal width (Guo et al. 2017, ICML).

    With the rows' highest probabilities in bins b of (0, 1/15], (1/15, 2/15], ...::

        ECE = sum_b |sum over rows in b of ([label is right] - p)| / N

    It is biased upwards: noise within a bin cannot cancel, so that a calibrated model has more than zero as well, the
    more so the fewer rows there are (Roelofs et al. 2022, AISTATS). Compare it among models on the same rows only.
    """
    top = P.max(axis=1)
    bins = np.clip(np.ceil(top * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    columns = np.zeros((len(P), N_BINS + 1))
    columns[np.arange(len(P)), bins] = (P.argmax(axis=1) == truth) - top
    columns[:, -1] = 1
    return Measure(columns, lambda s: np.abs(s[..., :-1]).sum(axis=-1) / s[..., -1], _UNIT)


def weighted_kappa(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Cohen's kappa of the ranks with quadratic weights (Cohen 1968, Psychological Bulletin 70).

    ``1 - sum_ij (i - j)^2 c_ij / sum_ij (i - j)^2 r_i q_j / N`` with c_ij rows of class i predicted as j, r_i rows of
    class i and q_j rows predicted as j: the concordance correlation of the ranks (Fleiss and Cohen 1973, Educational
    and Psychological Measurement 33).
    """
    return concordance(truth.astype(np.float64), P.argmax(axis=1).astype(np.float64))


def rank_error(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Mean distance, in ranks, of the most probable class from the label."""
    return _mean_of(np.abs(P.argmax(axis=1) - truth), _POSITIVE)


def subset_accuracy(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Share of rows of which every class is right."""
    return _mean_of(((P > 0.5) == truth).all(axis=1), _UNIT)


def hamming_loss(truth: np.ndarray, P: np.ndarray) -> Measure:
    """Share of wrong classes, over all rows and classes."""
    return _mean_of(((P > 0.5) != truth).mean(axis=1), _UNIT)


def concordance(truth: np.ndarray, values: np.ndarray) -> Measure:
    """Concordance correlation (Lin 1989, Biometrics 45).

    ``2 s_xy / (s_x^2 + s_y^2 + (mean_x - mean_y)^2)`` with N in the denominators; NaN where all numbers are one.
    """

    def function(sums: np.ndarray) -> np.ndarray:
        mean_x, mean_y, xx, yy, xy = _moments(sums)
        return _over(2 * xy, xx + yy + (mean_x - mean_y) ** 2)

    return Measure(_moment_columns(truth, values), function, _CORRELATION)


def pearson(truth: np.ndarray, values: np.ndarray) -> Measure:
    """Pearson's correlation, NaN where one side does not vary."""

    def function(sums: np.ndarray) -> np.ndarray:
        _, _, xx, yy, xy = _moments(sums)
        return _over(xy, np.sqrt(xx * yy))

    return Measure(_moment_columns(truth, values), function, _CORRELATION)


def absolute_error(truth: np.ndarray, values: np.ndarray) -> Measure:
    """Mean absolute error, in the target's unit."""
    return _mean_of(np.abs(values - truth), _POSITIVE)


def squared_error(truth: np.ndarray, values: np.ndarray) -> Measure:
    """Root of the mean squared error, in the target's unit."""
    mean = _mean_of((values - truth) ** 2, _POSITIVE)
    return mean._replace(function=lambda s: np.sqrt(s[..., 0] / s[..., 1]))


def determination(truth: np.ndarray, values: np.ndarray) -> Measure:
    """1 - sum (y - value)^2 / sum (y - mean of y)^2, at most 1; NaN where the truth does not vary."""

    def function(sums: np.ndarray) -> np.ndarray:
        _, _, xx, _, _ = _moments(sums)
        return 1 - _over(sums[..., -1] / sums[..., 0], xx)

    columns = np.column_stack([_moment_columns(truth, values), (truth - values) ** 2])
    return Measure(columns, function, (-np.inf, 1.0))


_NOMINAL: dict[str, Callable[[np.ndarray, np.ndarray], Measure]] = {
    "accuracy": accuracy,
    "macro F1": macro_f1,
    "weighted F1": weighted_f1,
    "balanced accuracy": balanced_accuracy,
    "log loss": log_loss,
    "Brier": brier,
    "calibration error": calibration_error,
}
MEASURES: dict[str, dict[str, Callable[[np.ndarray, np.ndarray], Measure]]] = {
    "nominal": _NOMINAL,
    "ordinal": {**_NOMINAL, "QWK": weighted_kappa, "rank MAE": rank_error},
    "multilabel": {
        "macro F1": macro_f1,
        "micro F1": micro_f1,
        "subset accuracy": subset_accuracy,
        "Hamming loss": hamming_loss,
        "log loss": log_loss,
        "Brier": brier,
    },
    "interval": {
        "CCC": concordance,
        "Pearson": pearson,
        "MAE": absolute_error,
        "RMSE": squared_error,
        "R2": determination,
    },
}


def indicators(truth: np.ndarray, n_classes: int) -> np.ndarray:
    """Return which class each row has, shape (N, C), bool; that of several labels is as it was."""
    if truth.ndim == 2:
        return truth
    onehot: np.ndarray = truth[:, None] == np.arange(n_classes)[None, :]
    return onehot


def _mean_of(values: np.ndarray, limits: Limits) -> Measure:
    columns = np.column_stack([values, np.ones(len(values))])
    return Measure(columns, lambda s: s[..., 0] / s[..., 1], limits)


def _by_class(truth: np.ndarray, P: np.ndarray, function: Callable[..., np.ndarray]) -> Measure:
    """Return a function of the hits, the rows and the predicted rows of each class, (..., C) each."""
    n_classes = P.shape[1]
    true = indicators(truth, n_classes)
    named = P > 0.5 if truth.ndim == 2 else indicators(P.argmax(axis=1), n_classes)
    columns = np.hstack([true & named, true, named]).astype(np.float64)
    return Measure(columns, lambda s: function(*np.split(s, 3, axis=-1)), _UNIT)


def _f1(hits: np.ndarray, true: np.ndarray, named: np.ndarray) -> np.ndarray:
    return 2 * hits / np.maximum(true + named, 1)


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _over((values * weights).sum(axis=-1), weights.sum(axis=-1))


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the ratio, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: np.ndarray = np.where(denominator > 0, numerator / denominator, np.nan)
    return ratio


def _moment_columns(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return 1, x, y, xx, yy and xy by row, both less the mean of x, which loses fewer digits."""
    x, y = x - x.mean(), y - x.mean()
    return np.column_stack([np.ones(len(x)), x, y, x * x, y * y, x * y])


def _moments(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return means of x and y, variances of x and y and their covariance (N in the denominator)."""
    x, y, xx, yy, xy = np.moveaxis(sums[..., 1:6] / sums[..., :1], -1, 0)
    var_x, var_y = (np.where(s - m * m > 1e-12 * s, s - m * m, 0.0) for s, m in ((xx, x), (yy, y)))
    return x, y, var_x, var_y, xy - x * y
