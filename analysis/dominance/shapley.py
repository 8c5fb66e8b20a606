"""What each modality adds to the value of a subset of modalities: exact Shapley values from a model for every subset.

Conventions
-----------
The value of a subset of modalities is that of the model which was *trained* on it; nothing is masked or imputed. Of a
nominal or ordinal target, for utterance i and a class c_i::

    v(S)_i = mean over partitions and seeds of log max(p_S(c_i), FLOOR)      in nats
    v(nothing)_i = mean over partitions of log max(class frequency of c_i among the training rows, FLOOR)

with c_i the fusion's decision (the class of the highest probability averaged over seeds and partitions), which asks
what made the fusion decide as it did, or the label, which asks what helped. Of an interval target, with t_i the
fusion's value averaged over seeds and partitions, or the true value::

    v(S)_i = - mean over partitions and seeds of (f_S - t_i)^2 / variance of the truth

and f_nothing the mean of the training rows. The Shapley value of modality m among M (Shapley 1953) is::

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! * (v(S with m) - v(S))

and the values of all modalities sum to v(all) - v(nothing). A modality *dominates* an utterance where |phi_m| is at
least half of the sum of all |phi|. It is *unsupported* where every other unimodal gives the fusion's decision less than
the prior does (interval: its value is farther from the fusion's than the training mean is).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from mixed_signals.analysis.panel import FUSION, Panel

FLOOR = 1e-6
TOWARDS = ("decision", "label")


def decision(panel: Panel) -> NDArray[np.intp]:
    """Return the fusion's decision, from probabilities averaged over seeds and partitions, shape (N,)."""
    return panel.mean(FUSION).argmax(axis=1)


def subset_values(panel: Panel, towards: str = "decision") -> NDArray[np.float64]:
    """Return the value of every subset of modalities for every utterance.

    Parameters
    ----------
    panel : Panel
        With a model for every subset.
    towards : {"decision", "label"}
        Whether the class (value) is the fusion's, or the true one.

    Returns
    -------
    array, shape (2 ** M, N)
        Row b is the subset of the modalities m with bit m of b set; row 0, nothing, is NaN where there is no prior.
    """
    every = range(len(panel.unimodals))
    found = np.full((2 ** len(every), len(panel.ids)), np.nan)
    if panel.prior is not None:
        found[0] = _value(panel, panel.prior[:, None], towards)
    for size in every:
        for members in combinations(every, size + 1):
            model = panel.model_of([panel.unimodals[m] for m in members])
            found[sum(1 << m for m in members)] = _value(panel, panel.outputs[model], towards)
    return found


def _value(panel: Panel, outputs: NDArray[np.float64], towards: str) -> NDArray[np.float64]:
    """Return the value of outputs (P, S, N, C), shape (N,)."""
    if panel.kind == "interval":
        target = panel.truth if towards == "label" else panel.mean(FUSION)[:, 0]
        missed: NDArray[np.float64] = ((outputs[..., 0] - target) ** 2).mean(axis=(0, 1))
        return -missed / panel.deviation**2
    target = panel.truth if towards == "label" else decision(panel)
    given = outputs[:, :, np.arange(len(target)), target]
    logs: NDArray[np.float64] = np.log(np.maximum(given, FLOOR)).mean(axis=(0, 1))
    return logs


def shapley_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Shapley value of each of M modalities.

    Parameters
    ----------
    values : array, shape (2 ** M, ...)
        Value of each subset, as `subset_values` orders them.

    Returns
    -------
    array, shape (M, ...)

    Examples
    --------
    >>> shapley_values(np.array([0.0, 1.0, 2.0, 5.0])).tolist()
    [2.0, 3.0]
    """
    n = len(values).bit_length() - 1
    phi = np.zeros((n, *values.shape[1:]))
    for subset in range(len(values)):
        size = subset.bit_count()
        for m in range(n):
            if not subset >> m & 1:
                weight = factorial(size) * factorial(n - size - 1) / factorial(n)
                phi[m] += weight * (values[subset | 1 << m] - values[subset])
    return phi


def left_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return v(all) - v(all but m) for each modality m, shape (M, ...), for values as of `shapley_values`."""
    every = len(values) - 1
    without = [every & ~(1 << m) for m in range(every.bit_length())]
    return np.stack([values[every] - values[subset] for subset in without])


def dominant(phi: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which modalities' |phi| is at least half of the sum over modalities, shape (M, N), for phi (M, N).

    Examples
    --------
    >>> dominant(np.array([[3.0, 1.0], [-1.0, 1.0], [1.0, 1.0]])).tolist()
    [[True, False], [False, False], [False, False]]
    """
    size = np.abs(phi)
    total = size.sum(axis=0)
    return (size >= total / 2) & (total > 0)


def unsupported(panel: Panel) -> NDArray[np.bool_]:
    """Return for each modality whether all others give the fusion's decision less than the prior, shape (M, N).

    Raises
    ------
    ValueError
        If the panel has no prior.
    """
    if panel.prior is None:
        raise ValueError("no prior")
    if panel.kind == "interval":
        prior = _value(panel, panel.prior[:, None], "decision")
        given = [_value(panel, panel.outputs[m], "decision") for m in panel.unimodals]
    else:
        rows, chosen = np.arange(len(panel.ids)), decision(panel)
        prior = panel.prior.mean(axis=0)[rows, chosen]
        given = [panel.mean(m)[rows, chosen] for m in panel.unimodals]
    return _all_others([own < prior for own in given])


def _all_others(which: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return for each of M arrays (N,) where all of the others are true, shape (M, N)."""
    return np.stack([np.all([w for j, w in enumerate(which) if j != m], axis=0) for m in range(len(which))])
