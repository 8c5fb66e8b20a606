"""Which modality the fusion goes by, whether that misleads it, and whether its decision follows that modality.

Conventions
-----------
No single measure says how much a modality matters (a gate weighs features that may carry nothing, a Shapley value
compares models that were trained apart), so several stand side by side in one table, each with a group interval and
its rank among the modalities:

=========================  ============================================================================================
shapley                    mean Shapley value towards the fusion's decision (`analysis.dominance.shapley`)
shapley share              mean |phi_m| over the sum of all mean |phi|
shapley of the label       the same as the first, towards the label
leave-one-out              mean of v(all) - v(all but m), towards the decision, from models trained without m
leave-one-out, label       the same, towards the label
gate                       mean weight of the modality in the fusion, for heads with gates
contribution               mean class-centred logit that it adds for the predicted class, for the same; of an interval
                           target mean |value that it adds|
permutation                loss of score when it is permuted (`analysis.dominance.reliance`)
permutation, normalised    the same, over the score
=========================  ============================================================================================

Gates and contributions are averaged over seeds and partitions first. Beside them stands what the fusion does that is
no sum over modalities (`analysis.dominance.additivity`).

*Wrong* is 0 or 1, from probabilities averaged over seeds and partitions; of an interval target squared error over the
variance of the truth stands for it. Where a modality dominates unsupported, that is compared with rows of the same
group and decile of the fusion's confidence (`analysis.dominance.matching`). Confidence is the highest probability,
or, of an interval target, the distance of the fusion's value from the mean of the training rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.dominance.reliance import (
    MOST_SEEDS,
    PERMUTATIONS,
    exchanged,
    goodness,
    open_fusion,
    permuted_scores,
    projected,
    unchanged,
)
from mixed_signals.analysis.dominance.sentences import (
    additivity_findings,
    dominance_findings,
    exchange_findings,
    importance_findings,
)
from mixed_signals.analysis.dominance.shapley import (
    FLOOR,
    TOWARDS,
    dominant,
    left_out,
    shapley_values,
    subset_values,
    unsupported,
)
from mixed_signals.analysis.dominance.tables import (
    Asked,
    Floats,
    Row,
    additivity_table,
    dominant_rows,
    exchange_rows,
    long,
    means,
    named,
    ranked,
)
from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import Interval
from mixed_signals.store.errors import MixedSignalsError, UsageError


def gate_means(gates: pd.DataFrame, panel: Panel) -> tuple[Floats, Floats] | None:
    """Return gates and contributions of the fusion, averaged over seeds and partitions, shape (M, N) each.

    Parameters
    ----------
    gates : DataFrame
        A run's (see `mixed_signals.store.predictions`).
    panel : Panel

    Returns
    -------
    gates, contributions : arrays, or None
        None where the head has none for every utterance.
    """
    mine = gates[(gates["head"] == panel.head) & (gates["modalities"] == "+".join(panel.unimodals))]
    row = pd.Index(panel.ids).get_indexer(pd.Index(mine["utterance_id"]))
    column = pd.Index(panel.unimodals).get_indexer(pd.Index(mine["modality"]))
    known = (row >= 0) & (column >= 0)
    shape = (len(panel.unimodals), len(panel.ids))
    cell = (column * shape[1] + row)[known]
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    if not count.all():
        return None
    summed = [
        np.bincount(cell, mine[name].to_numpy(np.float64)[known], minlength=len(count)) / count
        for name in ("gate", "contribution")
    ]
    return summed[0].reshape(shape), summed[1].reshape(shape)


def evaluate(study: Study, panel: Panel) -> Answer:
    """Return importance measures, dominance and what follows from it, and the exchange of modalities.

    Tables
    ------
    dominance
        Per modality and measure: ``head, modality, measure, estimate, low, high, n, n_groups, method, rank``.
    shapley
        Per utterance and modality: ``head, utterance_id, modality, phi, phi_label, dominant, unsupported, gate,
        contribution``.
    dominant_rows
        Per modality, and for any: how often it dominates, dominates unsupported, and is wrong then.
    exchange
        Per modality: how often the fusion follows and changes, beside the control.
    additivity
        Scores of one head and of its additive projection.
    """
    asked, answer = Asked(study, panel), Answer()
    measures: list[Row] = []
    utterances: dict[str, NDArray[Any]] = {}
    _by_shapley(asked, answer, measures, utterances)
    _by_gates(asked, answer, measures, utterances)
    _by_perturbing(asked, answer, measures)
    if utterances:
        answer.tables["shapley"] = long(panel, utterances)
    if measures:
        table = ranked(pd.DataFrame(measures), panel)
        answer.tables["dominance"] = table
        answer.findings[:0] = importance_findings(panel, table)
    return answer


def _by_shapley(
    asked: Asked, answer: Answer, measures: list[Row], utterances: dict[str, NDArray[Any]]
) -> None:
    panel = asked.panel
    if not panel.has_all_subsets:
        answer.notes.append(
            f"{panel.head} has no model of every subset of its modalities: no Shapley values, no dominance and nothing "
            "about leaving a modality out (fit-heads with all subsets, which is its default)."
        )
        return
    values = {towards: subset_values(panel, towards) for towards in TOWARDS}
    for name, towards in (("leave-one-out", "decision"), ("leave-one-out, label", "label")):
        measures += means(asked, name, left_out(values[towards]))
    if panel.prior is None:
        answer.notes.append(
            f"{panel.head}: the run has no class frequencies of its training rows (its sentinel `majority`), which are "
            "the value of no modality: no Shapley values and no dominance (fit-heads again)."
        )
        return
    phi, phi_label = (shapley_values(values[towards]) for towards in TOWARDS)
    measures += means(asked, "shapley", phi)
    measures += means(asked, "shapley of the label", phi_label)
    size = np.abs(phi)
    for name, own in zip(panel.unimodals, size, strict=True):
        measures.append(
            named(panel, name, "shapley share", asked.ratio(own, size.sum(axis=0), limits=(0, 1)))
        )
    if len(panel.unimodals) == 2:
        answer.notes.append(
            f"{panel.head}: of two modalities one always has half of the sum or more: which of them dominates says "
            "something, that one does says nothing."
        )
    which, alone = dominant(phi), unsupported(panel)
    utterances |= {"phi": phi, "phi_label": phi_label, "dominant": which, "unsupported": alone}
    table = dominant_rows(asked, which, alone)
    answer.tables["dominant_rows"] = table
    answer.findings.extend(dominance_findings(panel, table))
    what = (
        "minus squared error over variance"
        if panel.kind == "interval"
        else f"log probability (at least log {FLOOR:g})"
    )
    answer.methods.append(
        "Each modality's part in the fusion's decision (label) is its exact Shapley value [Shapley 1953] over models "
        f"trained on every subset of modalities: the value of a subset is {what}, averaged over seeds and partitions, "
        "that of none the training prior's. A modality dominates where its absolute Shapley value is at least half of "
        "the sum, and is unsupported where every other unimodal gives the decision less than the prior. The fusion's "
        "errors there are compared with rows of the same group and decile of its confidence [Cochran 1968], with sign "
        "flips of whole groups."
    )


def _by_gates(asked: Asked, answer: Answer, measures: list[Row], utterances: dict[str, NDArray[Any]]) -> None:
    found = gate_means(asked.study.run.gates, asked.panel)
    if found is None:
        answer.notes.append(f"{asked.panel.head} has no gates: importance is judged by the other measures.")
        return
    gates, contributions = found
    utterances |= {"gate": gates, "contribution": contributions}
    measures += means(asked, "gate", gates, limits=(0, 1))
    sizes = np.abs(contributions) if asked.panel.kind == "interval" else contributions
    measures += means(asked, "contribution", sizes)


def _by_perturbing(asked: Asked, answer: Answer, measures: list[Row]) -> None:
    panel = asked.panel
    try:
        held = open_fusion(asked.study, panel)
        before = goodness(panel, unchanged(held))[held.rows]
        for m in panel.unimodals:
            lost = before - permuted_scores(held, m)
            measures.append(named(panel, m, "permutation", asked.mean(lost, held.rows)))
            normalised = asked.ratio(lost, before, held.rows)
            if before.sum() <= 0:
                normalised = Interval(
                    np.nan, np.nan, np.nan, normalised.n, normalised.n_groups, "no score to lose"
                )
            measures.append(named(panel, m, "permutation, normalised", normalised))
        swapped = [exchange_rows(asked, m, exchanged(held, m)) for m in panel.unimodals]
        projection = projected(held)
    except (MixedSignalsError, UsageError) as error:
        answer.notes.append(
            f"{panel.head}: no modality was permuted or exchanged, since its held-out heads or their features are not "
            f"there: {error}"
        )
        return
    table = pd.DataFrame([row for rows in swapped for row in rows])
    if len(table):
        answer.tables["exchange"] = table
        answer.findings.extend(exchange_findings(panel, table))
    without = [m for m, rows in zip(panel.unimodals, swapped, strict=True) if not rows]
    if without:
        answer.notes.append(
            f"{panel.head}: {', '.join(without)} could not be exchanged: no row has, in its group and fold, both a row "
            "of another class and another of its own."
        )
    if not panel.has_groups:
        answer.notes.append(
            f"{panel.head}: the corpus has no groups, so modalities were exchanged among all rows of a fold."
        )
    answer.tables["additivity"] = additivity_table(asked, projection)
    answer.findings.extend(additivity_findings(panel, answer.tables["additivity"]))
    trainings = "one training" if len(held.seeds) == 1 else f"{len(held.seeds)} trainings"
    drawn = (
        "over all pairs of rows"
        if not projection.n_draws
        else f"with {projection.n_draws} joint draws of the other modalities"
    )
    answer.methods.append(
        f"Held-out rows were perturbed for the heads of their own fold ({trainings}; at most {MOST_SEEDS} are used, on "
        f"{int(held.rows.sum())} utterances): each modality was permuted over the fold's test rows ({PERMUTATIONS} "
        "permutations), the loss of score being its perceptual score [Gat 2021], and exchanged with that of a row of "
        "another class of the same group, beside an exchange within the class as control. The additive projection "
        f"[Hessel 2020] of one head was taken on {len(projection.rows)} test rows of one fold, {drawn}."
    )
