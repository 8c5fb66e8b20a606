"""How far apart two models' outputs for an utterance are.

Conventions
-----------
A `Distance` says what of a model's outputs is compared (`view`) and how (`between`). Of classes:

- ``label``: 1 where the labels differ, else 0.
- ``jsd``: the Jensen-Shannon divergence of the two distributions in bits, 0 for equal ones and at most 1 (Lin 1991,
  IEEE Trans. Information Theory 37); of ``M`` distributions at most ``log2(M)``.
- ``margin``: the absolute *margin shift*, the change of the true class's margin, 0 to 2. The margin is the probability
  of the true class minus the highest of another one (Schapire et al. 1998, Annals of Statistics 26): above 0 where the
  model is right. It is taken of the true class, not of the fusion's, since that depends on the fusion's own seed: two
  trainings of one model would then not be exchangeable, and the floor would be none.
- ``p_true``: absolute difference of the probabilities of the true class, 0 to 1 (the second measure of Srikanth et al.
  2025; with two classes it is half of ``margin``).

Of an interval target:

- ``difference``: absolute difference of the values, in standard deviations of the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.panel import Panel

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """A way to compare two models.

    Attributes
    ----------
    name : str
        The ``measure`` of tables.
    highest : float
        The largest distance there can be.
    view : callable
        Maps outputs (..., N, C) to what is compared, (..., N) or (..., N, K).
    between : callable
        Maps two views to distances (..., N).
    """

    name: str
    highest: float
    view: Callable[[Values], NDArray[Any]]
    between: Callable[..., Values]


def distances(panel: Panel) -> tuple[Distance, ...]:
    """Return the distances that a panel's kind of target has; the first is the one that the others stand beside."""
    if panel.kind == "interval":
        scale = panel.deviation
        return (Distance("difference", np.inf, lambda v: v[..., 0] / scale, _absolute),)
    truth = panel.truth
    return (
        Distance("label", 1.0, lambda p: p.argmax(axis=-1), _unequal),
        Distance("jsd", 1.0, _with_entropy, _divergence),
        Distance("margin", 2.0, lambda p: margin(p, truth), _absolute),
        Distance("p_true", 1.0, lambda p: of_class(p, truth), _absolute),
    )


def jensen_shannon(*distributions: ArrayLike) -> Values:
    """Return the Jensen-Shannon divergence, in bits, of distributions with equal weights.

    Entropy of the mean minus mean of the entropies (Lin 1991).

    Parameters
    ----------
    *distributions : array-like of shape (..., C)
        Two or more sets of distributions over the last axis.

    Returns
    -------
    array of shape (...)

    Examples
    --------
    >>> float(jensen_shannon([1.0, 0.0], [0.0, 1.0]))
    1.0
    """
    p = np.stack([np.asarray(d, dtype=np.float64) for d in distributions])
    return np.maximum(entropy(p.mean(axis=0)) - entropy(p).mean(axis=0), 0.0)


def unimodal_divergence(panel: Panel, changed: Mapping[str, Values] | None = None) -> Values:
    """Return how far all unimodals are apart, averaged over partitions, shape (N,).

    Their Jensen-Shannon divergence, in bits; of an interval target their *spread*, the standard deviation of their
    values (M in its denominator) in standard deviations of the truth.

    Parameters
    ----------
    panel : Panel
    changed : mapping of model to array of shape (P, S, N, C), optional
        Outputs to take in place of the panel's.
    """
    outputs = {**panel.outputs, **(changed or {})}
    said = np.stack([outputs[m].mean(axis=1) for m in panel.unimodals])
    return np.asarray(apart(said, panel.kind, panel.deviation).mean(axis=0))


def apart(outputs: Values, kind: str, scale: float = 1.0) -> Values:
    """Return how far M models are apart, shape (...), for outputs (M, ..., C); see `unimodal_divergence`."""
    return outputs[..., 0].std(axis=0) / scale if kind == "interval" else jensen_shannon(*outputs)


def entropy(p: ArrayLike) -> Values:
    """Return the entropy in bits over the last axis, with ``0 log 0 = 0``."""
    p = np.asarray(p, dtype=np.float64)
    bits: Values = -np.einsum("...c,...c->...", p, np.log2(np.maximum(p, np.finfo(np.float64).tiny)))
    return bits


def n_labels(labels: ArrayLike) -> NDArray[np.intp]:
    """Return how many different labels models give, shape (...), for labels of M models, shape (M, ...).

    Examples
    --------
    >>> n_labels([[0, 1], [0, 2], [1, 0]]).tolist()
    [2, 3]
    """
    given = np.sort(labels, axis=0)
    return np.asarray(1 + np.sum(given[1:] != given[:-1], axis=0))


def of_class(p: Values, classes: NDArray[np.intp]) -> Values:
    """Return the probability of one class of each utterance, shape (..., N), of p (..., N, C) and classes (N,)."""
    found: Values = p[..., np.arange(len(classes)), classes]
    return found


def margin(p: Values, classes: NDArray[np.intp]) -> Values:
    """Return the probability of one class of each utterance minus the highest of any other.

    Parameters
    ----------
    p : array of shape (..., N, C)
    classes : array of int, shape (N,)

    Returns
    -------
    array of shape (..., N)
        -1 to 1; above 0 where the class is the most probable one (Schapire et al. 1998).

    Examples
    --------
    >>> margin(np.array([[0.5, 0.25, 0.25]]), np.array([1])).tolist()
    [-0.25]
    """
    others = p.copy()
    others[..., np.arange(len(classes)), classes] = -np.inf
    highest: Values = others.max(axis=-1)
    return of_class(p, classes) - highest


def _with_entropy(p: Values) -> Values:
    """Return distributions with their entropy as a last column: each is needed in many pairs."""
    return np.concatenate([p, entropy(p)[..., None]], axis=-1)


def _divergence(a: Values, b: Values) -> Values:
    mean = (a + b) / 2
    return np.maximum(entropy(mean[..., :-1]) - mean[..., -1], 0.0)


def _absolute(a: Values, b: Values) -> Values:
    return np.abs(a - b)


def _unequal(a: NDArray[np.intp], b: NDArray[np.intp]) -> Values:
    return (a != b).astype(np.float64)
