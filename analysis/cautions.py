"""Sentences on what weakens an analysis: few groups, one seed, sentinels that win, folds that share groups."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mixed_signals.analysis.findings import percent, records
from mixed_signals.analysis.panel import Panel
from mixed_signals.models.intervals import FEWEST_GROUPS
from mixed_signals.store.terminal import counted


def cautions(
    panels: Sequence[Panel],
    n_groups: int | None,
    metrics: pd.DataFrame,
    *,
    groups_kept_apart: bool,
    cross_fitted: bool = False,
) -> list[str]:
    """Return sentences on what weakens the findings.

    Parameters
    ----------
    panels : sequence of Panel
    n_groups : int or None
        Groups of the analysed utterances; ``None`` if the corpus has none.
    metrics : DataFrame
        The run's metrics, sentinels among them.
    groups_kept_apart : bool
        Whether the run's folds kept groups apart.
    cross_fitted : bool
        Whether encoders were trained on the corpus, for each fold anew.
    """
    said = []
    if cross_fitted:
        said.append(
            "Encoders were fine-tuned for each fold and are taken as they are: floors and intervals cover the training "
            "of heads, not what encoders would make of another seed or other training rows."
        )
    if n_groups is not None and not groups_kept_apart:
        said.append(
            "The folds share groups between training and test rows: every score may rest on who is speaking."
        )
    if n_groups is None:
        said.append("The corpus has no groups: intervals take every utterance as independent.")
    elif n_groups < FEWEST_GROUPS:
        said.append(
            f"Only {n_groups} groups: estimates have no intervals (at least {FEWEST_GROUPS} are needed)."
        )
    for panel in panels:
        if panel.left_out:
            left_out = counted(panel.left_out, "utterance")
            said.append(f"{panel.head}: {left_out} left out, not predicted by every model.")
    return said + [sentence for panel in panels for sentence in _beaten_by_sentinel(panel, metrics)]


def _beaten_by_sentinel(panel: Panel, metrics: pd.DataFrame) -> list[str]:
    accuracy = [row for row in records(metrics) if row["metric"] == "accuracy"]
    sentinels = [row for row in accuracy if not row["modalities"]]
    if not sentinels:
        return []
    best = max(sentinels, key=lambda row: row["estimate"])
    mine = [row for row in accuracy if row["modalities"] and row["head"] == panel.head]
    beaten = [row["modalities"] for row in mine if row["estimate"] <= best["estimate"]]
    if not beaten:
        return []
    return [
        f"{panel.head}: {', '.join(beaten)} did no better than the sentinel {best['head']} (accuracy "
        f"{percent(best['estimate'])}), which sees no feature."
    ]
