"""Disagreement between the unimodal models and the fusion of one head, beside what two seeds disagree.

Conventions
-----------
All functions take a `Panel` (see `mixed_signals.analysis.panel`): the same utterances, partitions and seeds for
every model. ``d(a, b)`` is 1 where two models give an utterance different labels, else 0.

- ``rate``: mean of ``d`` between two models, each labelled by its probabilities averaged over seeds.
- ``between``: mean of ``d(a_s, b_s')`` over pairs of different seeds ``s != s'``.
- ``floor``: half of mean ``d(a_s, a_s')`` plus mean ``d(b_s, b_s')``: what training again with another seed changes.
- ``excess``: ``between - floor``. If ``p`` and ``q`` are the chances of each label over seeds, its expectation is
  half of ``sum_c (p_c - q_c)^2``, so it is zero for two models that differ by their seeds alone. The estimate is
  unbiased, may be negative and is never clipped.

Rates are taken within a partition and averaged over partitions. Seeds are those of the run: intervals cover other
groups of utterances, not other seeds. The Jensen-Shannon divergence is in bits (logarithm to base 2): 0 for equal
distributions, at most 1 for two of them and ``log2(M)`` for ``M`` (Lin 1991, IEEE Trans. Information Theory 37).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.models.intervals import Limits, mean_interval

LIMITS: dict[str, Limits] = {"rate": (0, 1), "between": (0, 1), "floor": (0, 1), "excess": (-1, 1)}
NO_FLOOR = "not measured: the seed floor needs at least two seeds"
NO_SEED = "not measured: the head does not depend on a seed, so there is no seed noise"


def jensen_shannon(*distributions: ArrayLike) -> NDArray[np.float64]:
    """Return the Jensen-Shannon divergence, in bits, of distributions with equal weights.

    Entropy of the mean minus mean of the entropies.

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


def entropy(p: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy in bits over the last axis, with ``0 log 0 = 0``."""
    p = np.asarray(p, dtype=np.float64)
    return -np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=-1)


def between_seeds(a: NDArray[np.intp], b: NDArray[np.intp], n_classes: int) -> NDArray[np.float64]:
    """Return the mean of ``d(a_s, b_s')`` over partitions and ordered pairs of different seeds.

    Counted without visiting the pairs: of the ``S^2`` pairs, ``sum_c n_c(a) n_c(b)`` agree, and the ``S`` pairs of
    a seed with itself are taken off.

    Parameters
    ----------
    a, b : arrays of int, shape (P, S, N)
        Labels, at least two seeds.
    n_classes : int

    Returns
    -------
    array of shape (N,)
    """
    n_seeds = a.shape[1]
    agree = sum(np.sum(a == c, axis=1) * np.sum(b == c, axis=1) for c in range(n_classes))
    itself = np.sum(a != b, axis=1)
    return ((n_seeds**2 - agree - itself) / (n_seeds * (n_seeds - 1))).mean(axis=0)


def pair_measures(panel: Panel, first: str, second: str) -> dict[str, NDArray[np.float64]]:
    """Return the measures of one pair of models for every utterance, each of shape (N,).

    ``rate`` always; ``between``, ``floor`` and ``excess`` where the head has at least two seeds.
    """
    measures = {"rate": (panel.labels(first) != panel.labels(second)).mean(axis=0)}
    if len(panel.seeds) >= 2:
        a, b, n = panel.seed_labels(first), panel.seed_labels(second), len(panel.classes)
        measures["between"] = between_seeds(a, b, n)
        measures["floor"] = (between_seeds(a, a, n) + between_seeds(b, b, n)) / 2
        measures["excess"] = measures["between"] - measures["floor"]
    return measures


def disagreement_rates(panel: Panel, groups: ArrayLike | None = None) -> pd.DataFrame:
    """Return how often models of one head disagree, with group-jackknife intervals.

    Parameters
    ----------
    panel : Panel
    groups : array-like of shape (N,) or None
        Group of each of ``panel.ids``.

    Returns
    -------
    DataFrame
        One row for each pair of models (unimodals with the fusion first, then unimodals with each other) and each
        quantity of this module's conventions: ``head, first, second, quantity, estimate, low, high, n, n_groups,
        n_seeds, method``. With fewer than two seeds all but ``rate`` are NaN and ``method`` says why.
    """
    pairs = [*((m, FUSION) for m in panel.unimodals), *combinations(panel.unimodals, 2)]
    rows: list[dict[str, object]] = []
    for first, second in pairs:
        measures = pair_measures(panel, first, second)
        rate = mean_interval(measures["rate"], groups, limits=LIMITS["rate"])
        for quantity, limits in LIMITS.items():
            if quantity in measures:
                result = vars(mean_interval(measures[quantity], groups, limits=limits))
            else:
                unknown = dict.fromkeys(("estimate", "low", "high"), np.nan)
                result = {**vars(rate), **unknown, "method": NO_SEED if panel.deterministic else NO_FLOOR}
            named = {"head": panel.head, "first": first, "second": second, "quantity": quantity}
            rows.append({**result, **named, "n_seeds": len(panel.seeds)})
    return pd.DataFrame(rows)


def utterance_table(panel: Panel) -> pd.DataFrame:
    """Return one row for each utterance, from probabilities averaged over seeds and partitions.

    Returns
    -------
    DataFrame
        ``head, utterance_id, label_true``; for each model ``m`` (a modality or ``fusion``) its label ``label_<m>``,
        the probability of that label ``p_label_<m>`` and of the true one ``p_true_<m>``; ``n_labels``, the number
        of different labels among the unimodals; ``jsd``, the Jensen-Shannon divergence of the unimodals, and
        ``jsd_<m>``, that of unimodal ``m`` and the fusion, in bits and averaged over partitions.
    """
    classes = np.array(panel.classes, dtype=object)
    rows = np.arange(len(panel.ids))
    table: dict[str, object] = {
        "head": panel.head,
        "utterance_id": panel.ids,
        "label_true": classes[panel.truth],
    }
    labels = {}
    for model in panel.models:
        p = panel.mean(model)
        labels[model] = p.argmax(axis=1)
        table[f"label_{model}"] = classes[labels[model]]
        table[f"p_label_{model}"] = p[rows, labels[model]]
        table[f"p_true_{model}"] = p[rows, panel.truth]
    given = np.sort([labels[m] for m in panel.unimodals], axis=0)
    table["n_labels"] = 1 + np.sum(given[1:] != given[:-1], axis=0)
    seed_mean = {model: panel.outputs[model].mean(axis=1) for model in panel.models}
    table["jsd"] = jensen_shannon(*(seed_mean[m] for m in panel.unimodals)).mean(axis=0)
    for m in panel.unimodals:
        table[f"jsd_{m}"] = jensen_shannon(seed_mean[m], seed_mean[FUSION]).mean(axis=0)
    return pd.DataFrame(table)
