"""How well models do where people do not agree: contested and uncontested utterances, scored apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.ambiguity.ratings import vote_table
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.scores import row_scores
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import (
    UNLIMITED,
    Interval,
    Limits,
    mean_interval,
    ratios_apart,
    sums_interval,
)


def part_table(
    panel: Panel,
    contested: NDArray[np.bool_],
    rated: NDArray[np.bool_],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how well each model does on contested and on uncontested utterances.

    Parameters
    ----------
    panel : Panel
    contested, rated : array of bool, shape (N,)
        Utterances that are not rated are left out.
    resamples, seed : int
        Of the intervals.

    Returns
    -------
    DataFrame
        ``head, model, measure, part, estimate, low, high, n, n_groups, method``, where `part` is ``contested``,
        ``uncontested`` or ``difference``, contested less uncontested.
    """
    groups = panel.groups if panel.groups is not None else np.full(len(panel.ids), "", dtype=object)
    drawn = {"resamples": resamples, "seed": seed}
    rows: list[dict[str, object]] = []
    for model in panel.models:
        for measure, (values, limits) in row_scores(panel, panel.mean(model)).items():
            found: dict[str, Interval] = {}
            for part, mine in (("contested", contested & rated), ("uncontested", ~contested & rated)):
                found[part] = mean_interval(values[mine], groups[mine], limits=limits, **drawn)
            here = contested[rated].astype(np.float64)
            x = values[rated]
            found["difference"] = sums_interval(
                ratios_apart,
                np.column_stack([x * here, here, x * (1 - here), 1 - here]),
                groups[rated],
                limits=of_change(limits),
                **drawn,
            )
            named = {"head": panel.head, "model": model, "measure": measure}
            rows += [{**named, "part": part, **vars(interval)} for part, interval in found.items()]
    return pd.DataFrame(rows)


def of_change(limits: Limits) -> Limits:
    """Return the limits of the difference of two means that are between `limits`."""
    low, high = limits
    return (low - high, high - low) if np.isfinite(high) else UNLIMITED


def parts_of(study: Study, panel: Panel) -> pd.DataFrame | str:
    """Return `part_table` by the study's ratings, or why there is none."""
    if panel.kind == "interval":
        return (
            f"{panel.head}: ratings of an interval target have no majority: no utterance is contested or not."
        )
    if study.ratings is None:
        return f"{panel.head}: the corpus has no ratings: contested utterances are not known."
    votes = vote_table(study.ratings).set_index("utterance_id")["contested"].reindex(panel.ids)
    rated = votes.notna().to_numpy()
    contested = votes.eq(True).to_numpy(dtype=bool)
    if not rated.any():
        return f"{panel.head}: no analysed utterance has two ratings or more: contested ones are not known."
    if contested.sum() in (0, rated.sum()):
        kind = "contested" if contested.any() else "uncontested"
        return (
            f"{panel.head}: all {rated.sum()} rated utterances are {kind}: there are no two parts to compare."
        )
    return part_table(panel, contested, rated, **study.resampling)
