"""What the fusion made of its unimodals: a complete and exclusive typology of utterances.

Conventions
-----------
A model is right where its label is the true one. ``M`` names modalities in their order, joined by ``+``.

=================  ===============  ==================================================================
fusion             unimodals        type
=================  ===============  ==================================================================
right              all right        ``agree right``
right              none right       ``fusion rescues``
right              some right       ``follows M``, the right ones
wrong              none right       ``agree wrong`` if they give one label, else ``all wrong``
wrong              some right       ``misled by M``, those that gave the fusion's label
wrong              some or all      ``harmed`` where no unimodal gave the fusion's label
=================  ===============  ==================================================================

One label for each model and utterance: from probabilities averaged over seeds and partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.models.intervals import mean_interval

FAMILIES = ("agree right", "follows", "fusion rescues", "agree wrong", "all wrong", "misled by", "harmed")


def classify(
    truth: ArrayLike, unimodals: ArrayLike, fusion: ArrayLike, names: Sequence[str]
) -> NDArray[np.object_]:
    """Return the type of each utterance.

    Parameters
    ----------
    truth, fusion : array-like of shape (...)
        True labels and the fusion's.
    unimodals : array-like of shape (M, ...)
        Labels of each unimodal.
    names : sequence of M str
        Their modalities.

    Returns
    -------
    array of str, shape (...)

    Examples
    --------
    >>> classify([0, 0], [[0, 1], [1, 1]], [0, 1], ["text", "audio"]).tolist()
    ['follows text', 'agree wrong']
    """
    y, u, f = np.asarray(truth), np.asarray(unimodals), np.asarray(fusion)
    right = u == y
    with_fusion = u == f
    fusion_right = f == y
    none, every = ~right.any(axis=0), right.all(axis=0)
    one_label = (u == u[0]).all(axis=0)
    cases = [
        (fusion_right & every, "agree right"),
        (fusion_right & none, "fusion rescues"),
        (fusion_right, _named("follows", with_fusion, names)),
        (none & one_label, "agree wrong"),
        (none, "all wrong"),
        (with_fusion.any(axis=0), _named("misled by", with_fusion, names)),
    ]
    conditions, types = zip(*cases, strict=True)
    values = [np.broadcast_to(np.asarray(t, dtype=object), y.shape) for t in types]
    return np.select([np.broadcast_to(c, y.shape) for c in conditions], values, default="harmed")


def _named(family: str, members: NDArray[np.bool_], names: Sequence[str]) -> NDArray[np.object_]:
    """Return ``family`` followed by the names of the member modalities, for each utterance."""
    bits = np.tensordot(1 << np.arange(len(names)), members, axes=1)
    subsets = ["+".join(n for i, n in enumerate(names) if b >> i & 1) for b in range(1 << len(names))]
    return np.array([f"{family} {subset}" for subset in subsets], dtype=object)[bits]


def family(types: ArrayLike) -> NDArray[np.object_]:
    """Return the types without the modalities they name: one of `FAMILIES` each."""
    stems = {"follows", "misled by"}
    values = np.asarray(types, dtype=object)
    short = [next((s for s in stems if str(t).startswith(s)), t) for t in values.ravel()]
    return np.array(short, dtype=object).reshape(values.shape)


def utterance_types(panel: Panel) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Return the type of each utterance and its stability, both of shape (N,).

    Stability is the share of single seeds (and partitions) whose labels give the same type; NaN with one seed.
    """
    labels = {model: panel.mean(model).argmax(axis=-1) for model in panel.models}
    unimodals = [labels[m] for m in panel.unimodals]
    types = classify(panel.truth, unimodals, labels[FUSION], panel.unimodals)
    if len(panel.seeds) < 2:
        return types, np.full(len(types), np.nan)
    fusion = panel.seed_labels(FUSION)
    truth = np.broadcast_to(panel.truth, fusion.shape)
    singles = classify(truth, [panel.seed_labels(m) for m in panel.unimodals], fusion, panel.unimodals)
    return types, (singles == types).mean(axis=(0, 1))


def typology_table(panel: Panel, groups: ArrayLike | None = None) -> pd.DataFrame:
    """Return the types that occur, their shares with group-jackknife intervals, and their stability over seeds.

    Parameters
    ----------
    panel : Panel
    groups : array-like of shape (N,) or None
        Group of each of ``panel.ids``.

    Returns
    -------
    DataFrame
        ``head, type, family, count, estimate, low, high, stability, n, n_groups, method``, where ``estimate`` is the
        share; families in the order of `FAMILIES`, larger types first within one.
    """
    types, stability = utterance_types(panel)
    rows = []
    for name in sorted(set(types)):
        mine = types == name
        row = {"head": panel.head, "type": name, "family": family([name])[0], "count": int(mine.sum())}
        share = vars(mean_interval(mine, groups, limits=(0, 1)))
        rows.append({**row, **share, "stability": float(stability[mine].mean())})
    rows.sort(key=lambda row: (FAMILIES.index(row["family"]), -row["count"], row["type"]))
    return pd.DataFrame(rows)
