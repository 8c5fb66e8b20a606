"""What several questions ask of single utterances: how right outputs are, and how sure the fusion is of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.models.intervals import Limits
from mixed_signals.models.measures import absolute_error, accuracy, log_loss

DECILES = 10

Floats = NDArray[np.float64]


class RowScores(NamedTuple):
    """A score of each utterance, shape (N,), and the limits of its mean."""

    by_row: Floats
    limits: Limits


def row_scores(panel: Panel, outputs: Floats) -> dict[str, RowScores]:
    """Return the scores of outputs (N, C) by utterance.

    ``accuracy`` (1 where the label is right, else 0) and ``log loss`` (nats); of an interval target ``absolute error``
    and ``squared error``. They are those of `mixed_signals.models.measures` before any mean is taken.
    """
    if panel.kind == "interval":
        away = absolute_error(panel.truth, outputs[:, 0])
        errors = away.columns[:, 0]
        return {
            "absolute error": RowScores(errors, away.limits),
            "squared error": RowScores(errors**2, away.limits),
        }
    found = {"accuracy": accuracy(panel.truth, outputs), "log loss": log_loss(panel.truth, outputs)}
    return {name: RowScores(measure.columns[:, 0], measure.limits) for name, measure in found.items()}


def wrong(panel: Panel, outputs: Floats, rows: NDArray[np.intp] | slice = slice(None)) -> Floats:
    """Return how wrong outputs (..., n, C) of some rows of a panel are, shape (..., n).

    1 where the label is wrong, else 0; of an interval target squared error over the variance of the truth.
    """
    truth = panel.truth[rows]
    if panel.kind == "interval":
        return np.asarray((outputs[..., 0] - truth) ** 2 / panel.deviation**2)
    return np.asarray(outputs.argmax(axis=-1) != truth, dtype=np.float64)


def confidence(panel: Panel) -> Floats:
    """Return how sure the fusion is of each utterance, shape (N,).

    The highest of its probabilities, averaged over seeds and partitions. Of an interval target, which has no
    probabilities, the distance of its value from the mean of the training rows.

    Raises
    ------
    ValueError
        If the target is interval and the panel has no prior.
    """
    said = panel.mean(FUSION)
    if panel.kind != "interval":
        return said.max(axis=1)
    if panel.prior is None:
        raise ValueError("no prior")
    return np.abs(said - panel.prior.mean(axis=0))[:, 0]


def top_margin(p: Floats) -> Floats:
    """Return the highest probability less the second, shape (...), of p (..., C)."""
    two = np.partition(p, -2, axis=-1)[..., -2:]
    return np.asarray(two[..., 1] - two[..., 0])


def deciles(values: Floats) -> NDArray[np.intp]:
    """Return the decile of each value, 0 to 9, shape (N,); equal values are in one.

    Examples
    --------
    >>> deciles(np.array([0.5, 0.9, 0.7, 0.7])).tolist()
    [0, 7, 2, 2]
    """
    ranks = np.searchsorted(np.sort(values), values)
    return np.asarray(ranks * DECILES // len(values))
