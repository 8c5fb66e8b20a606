"""The table of utterances: what each model of one head says of each, and how far they are apart."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixed_signals.analysis.disagreement.distances import (
    distances,
    jensen_shannon,
    margin,
    n_labels,
    unimodal_divergence,
)
from mixed_signals.analysis.disagreement.floors import Excesses
from mixed_signals.analysis.disagreement.rates import pairs_of
from mixed_signals.analysis.panel import FUSION, Panel


def utterance_table(panel: Panel, excess: Excesses | None = None) -> pd.DataFrame:
    """Return one row for each utterance, from outputs averaged over seeds and partitions.

    Parameters
    ----------
    panel : Panel
    excess : mapping of (distance, pair) to Excess, optional
        From `analysis.disagreement.floors.excess_values`.

    Returns
    -------
    DataFrame
        ``head, utterance_id, label_true``; for each model ``m`` (a modality or ``fusion``) its label ``label_<m>``,
        the probability of that label ``p_label_<m>`` and of the true one ``p_true_<m>``; ``n_labels``, the number of
        different labels among the unimodals; ``jsd``, the Jensen-Shannon divergence of the unimodals at once.

        Of an interval target: ``head, utterance_id, y_true``; for each model its value ``y_<m>``; ``spread``, the
        standard deviation of the unimodals' values in those of the truth.

        Then, for each unimodal ``m`` with the fusion (``<m>``) and each pair of unimodals (``<m>+<n>``):
        ``jsd_<pair>``, in bits, and ``margin_shift_<pair>``, from the first to the second and with its sign (of an
        interval target ``difference_<pair>``, with its sign, in standard deviations), averaged over partitions; and
        ``excess_<pair>``, that of different labels (of values), NaN where it was not measured.
    """
    seed_mean = {model: panel.seed_mean(model) for model in panel.models}
    columns: dict[str, object] = {"head": panel.head, "utterance_id": panel.ids}
    columns |= _values_by_model(panel) if panel.kind == "interval" else _labels_by_model(panel)
    interval = panel.kind == "interval"
    columns["spread" if interval else "jsd"] = unimodal_divergence(panel)
    if interval:
        signed = {model: values[..., 0] / panel.deviation for model, values in seed_mean.items()}
    else:
        signed = {model: margin(p, panel.truth) for model, p in seed_mean.items()}
    nearest = distances(panel)[0].name
    for first, second in pairs_of(panel):
        name = first if second == FUSION else f"{first}+{second}"
        if not interval:
            columns[f"jsd_{name}"] = jensen_shannon(seed_mean[first], seed_mean[second]).mean(axis=0)
        shift = "difference" if interval else "margin_shift"
        columns[f"{shift}_{name}"] = (signed[second] - signed[first]).mean(axis=0)
        measured = (excess or {}).get((nearest, (first, second)))
        columns[f"excess_{name}"] = measured.excess if measured else np.nan
    return pd.DataFrame(columns)


def _labels_by_model(panel: Panel) -> dict[str, object]:
    classes = np.array(panel.classes, dtype=object)
    rows = np.arange(len(panel.ids))
    columns: dict[str, object] = {"label_true": classes[panel.truth]}
    labels = {}
    for model in panel.models:
        p = panel.mean(model)
        labels[model] = p.argmax(axis=1)
        columns[f"label_{model}"] = classes[labels[model]]
        columns[f"p_label_{model}"] = p[rows, labels[model]]
        columns[f"p_true_{model}"] = p[rows, panel.truth]
    columns["n_labels"] = n_labels([labels[m] for m in panel.unimodals])
    return columns


def _values_by_model(panel: Panel) -> dict[str, object]:
    return {"y_true": panel.truth, **{f"y_{model}": panel.mean(model)[:, 0] for model in panel.models}}
