"""Scores of out-of-fold predictions for every kind of target, each with an interval that respects groups.

Probabilities (of an interval target: values) are averaged over seeds and orders first. All rows are scored together,
whatever their partition and fold, but for areas under curves, which are computed within folds and then averaged: scores
of different folds come from different models and are not comparable. (Nor are values: what predicts the mean of its
training rows correlates with the truth a little below zero, since a fold's mean and the mean of the others differ in
opposite directions.)

=========== =========================================================================================================
nominal     accuracy, macro F1, weighted F1, balanced accuracy, log loss, Brier, calibration error, AUROC
ordinal     those, QWK, rank MAE
multilabel  macro F1, micro F1, subset accuracy, Hamming loss, log loss, Brier, AUROC, average precision
interval    CCC, Pearson, MAE, RMSE, R2
=========== =========================================================================================================

The formulas are in `mixed_signals.models.measures` and, of areas, in `mixed_signals.models.areas`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from mixed_signals.models.areas import auroc as auroc
from mixed_signals.models.areas import mean_areas
from mixed_signals.models.intervals import Interval, blocks_jackknife, sums_by, sums_interval
from mixed_signals.models.measures import MEASURES, indicators
from mixed_signals.store.predictions import KEYS, METRIC_COLUMNS, probability_columns, read_outcomes

SPREAD = {
    "nominal": ("accuracy", "log loss"),
    "ordinal": ("accuracy", "log loss"),
    "multilabel": ("macro F1", "log loss"),
    "interval": ("CCC", "MAE"),
}
_AREAS = {"nominal": ("AUROC",), "ordinal": ("AUROC",), "multilabel": ("AUROC", "average precision")}


def score(
    predictions: pd.DataFrame, kind: str, classes: tuple[str, ...], groups: Mapping[str, str] | None
) -> pd.DataFrame:
    """Return the metrics of every model.

    Parameters
    ----------
    predictions : DataFrame
        Out-of-fold predictions (see `mixed_signals.store.predictions`).
    kind : str
        Of the target: nominal, ordinal, multilabel or interval.
    classes : tuple of str
        In the order of the probability columns (ordinal: rising); empty where the target is interval.
    groups : mapping of utterance id to group, or None
        What the intervals delete, in all partitions at once; utterances where there are no groups.

    Returns
    -------
    DataFrame
        ``model, head, modalities, metric, estimate, low, high, n, n_groups, method``; `n` counts rows
        (utterances x partitions).
    """
    tables = [score_model(table, kind, classes, groups) for table in _models(predictions)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=METRIC_COLUMNS)


def score_model(
    predictions: pd.DataFrame, kind: str, classes: tuple[str, ...], groups: Mapping[str, str] | None
) -> pd.DataFrame:
    """Return the metrics of one model, from its rows alone; all else as for `score`."""
    rows, truth, outputs = _averaged(predictions, kind, classes)
    unit = _units(rows["utterance_id"], groups)
    results = {}
    for name, make in MEASURES[kind].items():
        measure = make(truth, outputs)
        results[name] = sums_interval(measure.function, measure.columns, unit, limits=measure.limits)
    if kind in _AREAS:
        fold = rows.groupby(["partition", "fold"], sort=False).ngroup().to_numpy()
        results |= zip(_AREAS[kind], _areas(truth, outputs, fold, unit), strict=False)
    model = rows[["model", "head", "modalities"]].iloc[0].tolist()
    found = [(*model, name, *vars(interval).values()) for name, interval in results.items()]
    return pd.DataFrame(found, columns=METRIC_COLUMNS)


def seed_spread(predictions: pd.DataFrame, kind: str, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return how much training again, with another seed or order, changes a model's scores.

    The intervals of `score` say what other groups would change; this is the other source of noise, on its own.

    Parameters
    ----------
    predictions, kind, classes
        As for `score`.

    Returns
    -------
    DataFrame
        ``model, metric, n_seeds, mean, sd`` for the metrics of `SPREAD`, each computed over all rows of one training.
        `n_seeds` counts trainings (pairs of a seed and an order) that predict every row of the model; models with fewer
        than two are left out. `sd` has n - 1 in its denominator.
    """
    found = []
    for table in _models(predictions):
        training = table.groupby(["seed", "order"], sort=False).ngroup().to_numpy()
        n_rows = len(table[["utterance_id", "partition", "fold"]].drop_duplicates())
        whole = np.bincount(training) == n_rows
        if whole.sum() < 2:
            continue
        truth, outputs = read_outcomes(table, kind, classes)
        for metric in SPREAD[kind]:
            measure = MEASURES[kind][metric](truth, outputs)
            values = pd.Series(measure.function(sums_by(training, measure.columns)[whole]))
            found.append((table["model"].iloc[0], metric, len(values), values.mean(), values.std()))
    return pd.DataFrame(found, columns=["model", "metric", "n_seeds", "mean", "sd"])


def averaged_over_partitions(predictions: pd.DataFrame, kind: str, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return predictions in one partition, each training's outputs averaged over the partitions that there were.

    For folds that are tested in several partitions because encoder and heads change places: their probabilities (of an
    interval target: values) are averaged before they are scored.

    Parameters
    ----------
    predictions, kind, classes
        As for `score`.

    Returns
    -------
    DataFrame
        A row for each utterance, model, fold, seed and order; without ``label_pred``, which averages may change. Of a
        model that has not each seed and order in each fold (``chosen``, where heads of some folds depend on no seed)
        these are averaged first, so that each partition counts the same.
    """
    outputs = ["y_pred"] if kind == "interval" else probability_columns(classes)
    truth = "y_true" if kind == "interval" else "label_true"
    columns = {truth: "first"} | dict.fromkeys(outputs, "mean")

    def without(table: pd.DataFrame, *names: str) -> pd.DataFrame:
        keys = [name for name in KEYS if name not in names]
        return table.groupby(keys, sort=False).agg(columns).reset_index().assign(**dict.fromkeys(names, 0))

    tables = [
        table if _each_training_everywhere(table) else without(table, "seed", "order")
        for table in _models(predictions)
    ]
    return without(pd.concat(tables, ignore_index=True), "partition")


def _each_training_everywhere(table: pd.DataFrame) -> bool:
    """Return whether a model has each of its trainings in each of its folds."""
    cells = table[["partition", "fold", "seed", "order"]].drop_duplicates()
    folds, trainings = (
        cells[names].drop_duplicates() for names in (["partition", "fold"], ["seed", "order"])
    )
    return len(cells) == len(folds) * len(trainings)


def _models(predictions: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Give each model's rows."""
    return (table for _, table in predictions.groupby("model", sort=False))


def _averaged(
    predictions: pd.DataFrame, kind: str, classes: tuple[str, ...]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return a row for each partition and utterance, what is true of it, and its outputs averaged over trainings."""
    truth, outputs = read_outcomes(predictions, kind, classes)
    row = predictions.groupby(["partition", "fold", "utterance_id"], sort=False).ngroup().to_numpy()
    first = np.unique(row, return_index=True)[1]
    averaged = sums_by(row, outputs.reshape(len(row), -1)) / np.bincount(row)[:, None]
    return predictions.iloc[first], truth[first], averaged.reshape(len(first), *outputs.shape[1:])


def _units(ids: pd.Series, groups: Mapping[str, str] | None) -> np.ndarray:
    """Return the number of each row's group; an utterance without one is a group of its own in all partitions."""
    named = pd.Series(np.nan, index=ids.index, dtype=object) if groups is None else ids.map(groups)
    codes, names = pd.factorize(named.where(named != ""))
    alone = codes < 0
    codes[alone] = len(names) + pd.factorize(ids[alone])[0]
    return codes


def _areas(truth: np.ndarray, P: np.ndarray, fold: np.ndarray, unit: np.ndarray) -> list[Interval]:
    positives = indicators(truth, P.shape[1])
    if truth.ndim == 1 and P.shape[1] == 2:  # both classes have the same area
        P, positives = P[:, 1:], positives[:, 1:]
    return blocks_jackknife(
        lambda blocks: np.array(mean_areas(P, positives, fold, blocks)), len(P), unit, limits=(0.0, 1.0)
    )
