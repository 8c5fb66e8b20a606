"""Scores of out-of-fold predictions, each with an interval that respects groups.

Probabilities are averaged over seeds first. With c_kj the number of rows of class k predicted as j:

accuracy      share of rows whose most probable class is the label
macro F1      mean over classes k of F1_k = 2 c_kk / (sum_j c_kj + sum_j c_jk); weighted F1: weighted by the
              classes' frequencies
AUROC         one class against the others, mean over classes, computed within folds and then averaged (scores
              of different folds come from different models and are not comparable)
log loss      mean of -log p(label), natural logarithm, p at least 1e-12
Brier         mean over rows of the sum over classes of (p - [class is the label])^2, 0 to 2
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from mixed_signals.models.intervals import Interval, group_jackknife, mean_interval, sums_jackknife
from mixed_signals.store.predictions import METRIC_COLUMNS, probability_columns


def score(
    predictions: pd.DataFrame, classes: tuple[str, ...], groups: Mapping[str, str] | None
) -> pd.DataFrame:
    """Return the metrics of every model.

    Parameters
    ----------
    predictions : DataFrame
        Out-of-fold predictions (see `mixed_signals.store.predictions`).
    classes : tuple of str
    groups : mapping of utterance id to group, or None
        What the intervals resample; utterances where there are no groups.

    Returns
    -------
    DataFrame
        ``model, head, modalities, metric, estimate, low, high, n, n_groups, method``; `n` counts rows
        (utterances x partitions).
    """
    columns = probability_columns(classes)
    rows = []
    for (model, head, modalities), table in predictions.groupby(["model", "head", "modalities"], sort=False):
        averaged = table.groupby(["partition", "fold", "utterance_id"], sort=False, as_index=False).agg(
            {"label_true": "first", **dict.fromkeys(columns, "mean")}
        )
        P = averaged[columns].to_numpy(dtype=np.float64)
        y = pd.Index(classes).get_indexer(pd.Index(averaged["label_true"], dtype=object))
        fold = averaged.groupby(["partition", "fold"], sort=False).ngroup().to_numpy()
        ids = averaged["utterance_id"]
        unit = (ids if groups is None else ids.map(groups)).to_numpy(dtype=object)
        for metric, interval in _intervals(y, P, fold, unit).items():
            values = (
                interval.estimate,
                interval.low,
                interval.high,
                interval.n,
                interval.n_groups,
                interval.method,
            )
            rows.append((model, head, modalities, metric, *values))
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def auroc(score: ArrayLike, positive: ArrayLike) -> float:
    """Return the chance that a positive has the higher score than a negative, ties counted half.

    The Mann-Whitney statistic over its maximum (Hanley and McNeil 1982, Radiology 143); NaN without positives or
    without negatives.

    Parameters
    ----------
    score : array-like of float, shape (N,)
    positive : array-like of bool, shape (N,)
    """
    chosen = np.asarray(positive, dtype=bool)
    n1, n0 = int(chosen.sum()), int((~chosen).sum())
    if n1 == 0 or n0 == 0:
        return float("nan")
    ranks = rankdata(np.asarray(score, dtype=np.float64))
    return float((ranks[chosen].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def _intervals(y: np.ndarray, P: np.ndarray, fold: np.ndarray, groups: np.ndarray) -> dict[str, Interval]:
    n_classes = P.shape[1]
    predicted = P.argmax(axis=1)
    confusion = np.zeros((len(y), n_classes * n_classes))
    confusion[np.arange(len(y)), y * n_classes + predicted] = 1

    def f1(sums: np.ndarray, weighted: bool) -> np.ndarray:
        table = sums.reshape(*sums.shape[:-1], n_classes, n_classes)
        hits = np.diagonal(table, axis1=-2, axis2=-1)
        true, named = table.sum(axis=-1), table.sum(axis=-2)
        with np.errstate(invalid="ignore"):
            per_class = np.where(true + named > 0, 2 * hits / np.maximum(true + named, 1), 0.0)
        weight = true if weighted else (true + named > 0)
        averaged: np.ndarray = (per_class * weight).sum(axis=-1) / weight.sum(axis=-1)
        return averaged

    def fold_auroc(rows: np.ndarray) -> float:
        areas = []
        for k in np.unique(fold[rows]):
            part = rows[fold[rows] == k]
            areas.append(_mean([auroc(P[part, c], y[part] == c) for c in range(n_classes)]))
        return _mean(areas)

    likelihood = np.clip(P[np.arange(len(y)), y], 1e-12, None)
    onehot = y[:, None] == np.arange(n_classes)[None, :]
    unit, positive = (0.0, 1.0), (0.0, np.inf)
    return {
        "accuracy": mean_interval(predicted == y, groups, limits=unit),
        "macro F1": sums_jackknife(lambda s: f1(s, weighted=False), confusion, groups, limits=unit),
        "weighted F1": sums_jackknife(lambda s: f1(s, weighted=True), confusion, groups, limits=unit),
        "AUROC": group_jackknife(fold_auroc, len(y), groups, limits=unit),
        "log loss": mean_interval(-np.log(likelihood), groups, limits=positive),
        "Brier": mean_interval(((P - onehot) ** 2).sum(axis=1), groups, limits=(0.0, 2.0)),
    }


def _mean(values: list[float]) -> float:
    """Return the mean of the values that are defined, NaN where none is."""
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")
