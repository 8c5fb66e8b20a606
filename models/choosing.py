"""Choices that are made inside a training fold, as all tuning is: which feature set, and which head.

feature set
    Where a modality has several, each training fold takes the one on whose vectors a logistic (interval target: ridge)
    regression has the smallest loss on rows that inner folds hold out.
head
    The model ``chosen`` of a subset of modalities is, in each fold, the head with the smallest such loss, averaged over
    seeds and orders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.heads import head_spec
from mixed_signals.models.material import Choice, Material

CHOSEN = "chosen"


def choose_features(material: Material, train: np.ndarray, weights: np.ndarray | None = None) -> Choice:
    """Return for each modality which of its candidates the training rows (of the material) speak for.

    Parameters
    ----------
    material : Material
    train : ndarray of int
    weights : ndarray, shape (N,), optional
        Of the material's rows; see `Problem`.
    """
    open_to_choice = {m: c for m, c in material.candidates.items() if len(c) > 1}
    if not open_to_choice:
        return {}
    spec = head_spec("ridge" if material.kind == "interval" else "logistic")
    losses: dict[str, list[float]] = {}
    for modality, candidates in open_to_choice.items():
        blocks = {str(number): (c.start, c.stop) for number, c in enumerate(candidates)}
        problem = Problem(material.X, material.y, blocks, material.groups, material.votes, weights)
        fits = [
            Fit(
                spec.make(material.kind, material.classes, {modality: (0, c.stop - c.start)}),
                (str(n),),
                train,
            )
            for n, c in enumerate(candidates)
        ]
        type(fits[0].head).fit_many(problem, fits)
        losses[modality] = [fit.head.inner_loss_ for fit in fits]
        if np.isnan(losses[modality]).all():
            raise ValueError(
                f"too few training rows to hold any out and choose {modality} features by; name one feature set"
            )
    return {modality: int(np.nanargmin(found)) for modality, found in losses.items()}


def choose_heads(results: pd.DataFrame, heads: Sequence[str]) -> pd.DataFrame:
    """Return which head each fold chooses for each subset of modalities.

    Parameters
    ----------
    results : DataFrame
        ``head, modalities, partition, fold, inner_loss``, a row for each fitted head.
    heads : sequence of str
        Among which to choose; the first one wins a tie.

    Returns
    -------
    DataFrame
        ``modalities, partition, fold, head``.
    """
    keys = ["modalities", "partition", "fold"]
    table = results[results["head"].isin(heads) & results["inner_loss"].notna()]
    means = table.groupby([*keys, "head"], sort=False)["inner_loss"].mean().reset_index()
    means["rank"] = means["head"].map({name: place for place, name in enumerate(heads)})
    best = means.sort_values(["inner_loss", "rank"], kind="stable").drop_duplicates(keys)
    return best[[*keys, "head"]].sort_values(keys, kind="stable").reset_index(drop=True)
