"""The stress test: what changing one modality of the held-out rows does, as `analysis.robustness` says."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixed_signals.analysis.disagreement.distances import unimodal_divergence
from mixed_signals.analysis.inference import sign_flip, with_test
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.perturbing import Change, HeldOut, drop, noise, permute, swap
from mixed_signals.analysis.robustness.parts import of_change
from mixed_signals.analysis.robustness.selective import DIVERGENCE, SPREAD
from mixed_signals.analysis.scores import Floats, RowScores, row_scores
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import Limits, mean_interval

SCALE = 1.0
MOST_PREDICTIONS = 30_000


def changes_of(modality: str) -> dict[str, Change]:
    """Return the changes of the stress test by name."""
    return {
        "drop": drop(modality),
        "swap": swap(modality),
        "noise": noise(modality, SCALE),
        "permute": permute(modality),
    }


def stress_table(study: Study, panel: Panel) -> pd.DataFrame:
    """Return what changing one modality of the held-out rows does to the fusion and to the models' divergence.

    Parameters
    ----------
    study : Study
    panel : Panel

    Returns
    -------
    DataFrame
        ``head, modality, change, measure, quantity, estimate, low, high, p, n, n_groups, n_seeds, method``, where
        `quantity` is ``after`` or, tested by flipping the signs of whole groups, ``change``, after less before. Rows
        without a modality say how it was ``before``. Measures are those of `analysis.scores.row_scores` and how far the
        unimodal models are apart (``divergence`` in bits, of interval targets ``spread`` in standard deviations).

    Raises
    ------
    UsageError
        If the run is in no store, or its features or heads are gone or are others by now.
    """
    seeds = panel.seeds[: max(1, MOST_PREDICTIONS // panel.folds.size)]
    unchanged = {model: panel.outputs[model][:, : len(seeds)] for model in panel.models}
    before = row_scores(panel, unchanged[FUSION].mean(axis=(0, 1)))
    apart = SPREAD if panel.kind == "interval" else DIVERGENCE
    before[apart] = RowScores(unimodal_divergence(panel, unchanged), (0.0, np.inf))
    rows: list[dict[str, object]] = []

    def add(modality: str, change: str, quantity: str, measure: str, values: Floats, limits: Limits) -> None:
        named = {"head": panel.head, "modality": modality, "change": change, "measure": measure}
        interval = mean_interval(values, panel.groups, limits=limits, **study.resampling)
        test = sign_flip(values, panel.groups, **study.resampling) if quantity == "change" else None
        rows.append({**named, "quantity": quantity, **with_test(interval, test), "n_seeds": len(seeds)})

    for measure, (values, limits) in before.items():
        add("", "", "before", measure, values, limits)
    fusion = HeldOut(study, panel, seeds=seeds)
    for modality in panel.unimodals:
        alone = HeldOut(study, panel, modality, seeds)
        for name, change in changes_of(modality).items():
            after = row_scores(panel, fusion.said(change).mean(axis=(0, 1)))
            if name != "drop":
                changed = unchanged | {modality: alone.said(change)}
                after[apart] = RowScores(unimodal_divergence(panel, changed), (0.0, np.inf))
            for measure, (values, limits) in after.items():
                add(modality, name, "after", measure, values, limits)
                add(modality, name, "change", measure, values - before[measure].by_row, of_change(limits))
    columns = ["head", "modality", "change", "measure", "quantity", "estimate", "low", "high", "p"]
    return pd.DataFrame(rows)[[*columns, "n", "n_groups", "n_seeds", "method"]]
