"""Robustness: when to trust the fusion, and what it takes to break it.

Conventions
-----------
Four questions: what abstaining gains (`analysis.robustness.selective`), whether probabilities happen as often as
they say (`analysis.robustness.calibration`), how well models do on utterances that people contest, and what changed
rows do (`analysis.perturbing`). What training with other weights would change is asked apart
(`analysis.robustness.reweighting`), since it trains.

- Scores: accuracy and log loss (natural logarithm); of interval targets the absolute and the squared error. Outputs are
  averaged over seeds and partitions first.
- Contested: no value has more than half of the votes (`analysis.ambiguity.ratings.vote_table`); not defined for the
  numbers that an interval target is made of.
- Stress: one modality of the held-out rows is dropped, exchanged with that of a row of another class and the same group
  (swap), given noise of `SCALE` standard deviations, or permuted among the rows of its fold; the heads are those that
  did not see the rows. ``change`` is after less before, of the same rows. The unimodal model of that modality is
  changed alike, which says whether the models' divergence rises; without its modality it has nothing to say, so that
  there is no divergence after a drop. One draw of the noise and of the exchanges stands for all. Of large runs the
  heads of the first seeds alone are asked, before and after, so that a change costs about `MOST_PREDICTIONS`
  predictions.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.ambiguity.ratings import vote_table
from mixed_signals.analysis.findings import Answer, Finding, against, finding, records, side, with_interval
from mixed_signals.analysis.inference import sign_flip, with_test
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.perturbing import Change, HeldOut, drop, noise, permute, swap
from mixed_signals.analysis.robustness.calibration import N_BINS, OVERCONFIDENCE, TOP, calibration_table
from mixed_signals.analysis.robustness.selective import (
    BOTH,
    CONFIDENCE,
    DIVERGENCE,
    ORACLE,
    RANDOM,
    SPREAD,
    curve_table,
    divergence,
    doubts_of,
    selective_table,
)
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import (
    UNLIMITED,
    Interval,
    Limits,
    mean_interval,
    ratios_apart,
    sums_interval,
)
from mixed_signals.models.measures import absolute_error, accuracy, log_loss
from mixed_signals.store.errors import UsageError

SCALE = 1.0
MOST_PREDICTIONS = 30_000
ABSTAIN = "What does abstaining gain, and does disagreement add to confidence?"
CALIBRATED = "Do the fusion's probabilities happen as often as they say?"
PARTS = "Do models do worse where people do not agree?"
STRESS = "What does it take to break the fusion, and does disagreement give warning?"

Floats = NDArray[np.float64]


def row_scores(panel: Panel, said: Floats) -> dict[str, tuple[Floats, Limits]]:
    """Return the scores of outputs (N, C) by utterance, (N,) each, with the limits of their means."""
    if panel.kind == "interval":
        away = absolute_error(panel.truth, said[:, 0])
        errors = away.columns[:, 0]
        return {"absolute error": (errors, away.limits), "squared error": (errors**2, away.limits)}
    found = {"accuracy": accuracy(panel.truth, said), "log loss": log_loss(panel.truth, said)}
    return {name: (measure.columns[:, 0], measure.limits) for name, measure in found.items()}


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
    draws = {"resamples": resamples, "seed": seed}
    rows: list[dict[str, object]] = []
    for model in panel.models:
        for measure, (values, limits) in row_scores(panel, panel.mean(model)).items():
            found: dict[str, Interval] = {}
            for part, mine in (("contested", contested & rated), ("uncontested", ~contested & rated)):
                found[part] = mean_interval(values[mine], groups[mine], limits=limits, **draws)
            here = contested[rated].astype(np.float64)
            x = values[rated]
            found["difference"] = sums_interval(
                ratios_apart,
                np.column_stack([x * here, here, x * (1 - here), 1 - here]),
                groups[rated],
                limits=_of_change(limits),
                **draws,
            )
            named = {"head": panel.head, "model": model, "measure": measure}
            rows += [{**named, "part": part, **vars(interval)} for part, interval in found.items()]
    return pd.DataFrame(rows)


def _of_change(limits: Limits) -> Limits:
    """Return the limits of the difference of two means that are between `limits`."""
    low, high = limits
    return (low - high, high - low) if np.isfinite(high) else UNLIMITED


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
        without a modality say how it was ``before``. Measures are those of `row_scores` and how far the unimodal models
        are apart (``divergence``, of interval targets ``spread``).

    Raises
    ------
    UsageError
        If the run is in no store, or its features or heads are gone or are others by now.
    """
    seeds = panel.seeds[: max(1, MOST_PREDICTIONS // panel.folds.size)]
    unchanged = {model: panel.outputs[model][:, : len(seeds)] for model in panel.models}
    before = row_scores(panel, unchanged[FUSION].mean(axis=(0, 1)))
    apart = SPREAD if panel.kind == "interval" else DIVERGENCE
    before[apart] = divergence(panel, unchanged), (0.0, np.inf)
    rows: list[dict[str, object]] = []

    def add(modality: str, change: str, quantity: str, measure: str, values: Floats, limits: Limits) -> None:
        named = {"head": panel.head, "modality": modality, "change": change, "measure": measure}
        interval = mean_interval(values, panel.groups, limits=limits, **study.for_intervals)
        test = sign_flip(values, panel.groups, **study.for_tests) if quantity == "change" else None
        rows.append({**named, "quantity": quantity, **with_test(interval, test), "n_seeds": len(seeds)})

    for measure, (values, limits) in before.items():
        add("", "", "before", measure, values, limits)
    fusion = HeldOut(study, panel, seeds=seeds)
    for modality in panel.unimodals:
        alone = HeldOut(study, panel, modality, seeds)
        for name, change in changes_of(modality).items():
            after = row_scores(panel, fusion.said(change).mean(axis=(0, 1)))
            if name != "drop":
                after[apart] = divergence(panel, unchanged | {modality: alone.said(change)}), (0.0, np.inf)
            for measure, (values, limits) in after.items():
                add(modality, name, "after", measure, values, limits)
                add(modality, name, "change", measure, values - before[measure][0], _of_change(limits))
    columns = ["head", "modality", "change", "measure", "quantity", "estimate", "low", "high", "p"]
    return pd.DataFrame(rows)[[*columns, "n", "n_groups", "n_seeds", "method"]]


def evaluate(study: Study, panel: Panel) -> Answer:
    """Return how far one head can be trusted.

    Tables ``risk_coverage`` (curves), ``selective`` (areas), ``calibration``, ``parts`` and ``stress``; those that the
    data cannot give are left out, and a note says why.
    """
    tables, findings, notes = {}, [], []
    doubts = doubts_of(panel)
    tables["risk_coverage"] = curve_table(panel, doubts)
    tables["selective"] = selective_table(panel, doubts)
    findings += _selective_findings(tables["selective"])
    methods = [
        "Abstaining was judged by the areas under the risk-coverage curve [Geifman 2017; Geifman 2019] and under the "
        "generalised one [Traub 2024], as expectations over the orders of tied utterances; intervals are by "
        "delete-a-group jackknife."
    ]
    if panel.kind == "interval":
        notes.append(
            f"{panel.head}: the heads of an interval target give values and no probabilities: there is no confidence "
            "to abstain by or to calibrate; abstaining is by the spread of the unimodal models' values alone."
        )
    else:
        if BOTH not in doubts:
            notes.append(
                f"{panel.head}: confidence and divergence are not combined, which needs two groups or more."
            )
        tables["calibration"] = calibration_table(panel, **study.for_intervals)
        findings += _calibration_findings(tables["calibration"])
        methods += [
            "Disagreement was added to confidence by logistic regression of the fusion's errors on the log-odds of its "
            "highest probability and on the Jensen-Shannon divergence of the unimodal models [Lin 1991], cross-fitted "
            "on held-out groups.",
            f"Calibration is the debiased squared error over {N_BINS} bins of equal mass [Kumar 2019; Broecker 2012], "
            "from products of utterances of different groups.",
        ]
    parts = _parts(study, panel)
    if isinstance(parts, str):
        notes.append(parts)
    else:
        tables["parts"] = parts
        findings += _part_findings(parts)
    try:
        tables["stress"] = stress_table(study, panel)
    except UsageError as error:
        notes.append(f"{panel.head}: no stress test: {error}.")
    else:
        findings += _stress_findings(tables["stress"])
        methods.append(
            "In the stress test each modality of the held-out rows was dropped, swapped with that of another class and "
            f"the same group, given gaussian noise of {SCALE:g} standard deviation, or permuted, and predicted by the "
            "heads that had not seen the rows; changes were tested by flipping the signs of whole groups."
        )
    return Answer(tables, findings, notes, methods)


def _parts(study: Study, panel: Panel) -> pd.DataFrame | str:
    """Return the table of parts, or why there is none."""
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
    return part_table(panel, contested, rated, **study.for_intervals)


def _selective_findings(table: pd.DataFrame) -> list[Finding]:
    findings = []
    for row in records(table):
        score, measure, other = row["score"], row["measure"], row["against"]
        of = f"{measure} of {score}" if row["loss"] == "error" else f"{measure} of {score}, {row['loss']}"
        value = with_interval(row, digits=4)
        if other:
            of = f"{of}, less that of {other}"
            adds = ": disagreement adds to confidence" if score == BOTH and side(row, 0.0) == "below" else ""
            said = f"{row['head']}: {of}, is {value}{against(row)}{adds}."
            findings.append(finding(ABSTAIN, of, row, said))
        elif score in (CONFIDENCE, DIVERGENCE, BOTH, SPREAD):
            best, random = (f"{row['estimate'] - row[f'over_{name}']:.4f}" for name in (ORACLE, RANDOM))
            said = f"{row['head']}: {of} is {value}; the best order has {best}, a random one {random}."
            findings.append(finding(ABSTAIN, of, row, said))
    return findings


def _calibration_findings(table: pd.DataFrame) -> list[Finding]:
    says = {
        TOP: "squared calibration error of the top label",
        OVERCONFIDENCE: "highest probability less accuracy",
    }
    findings = []
    for row in records(table[(table["model"] == FUSION) & table["quantity"].isin(list(says))]):
        value = with_interval(row, digits=4) if row["quantity"] == TOP else with_interval(row, "points")
        said = f"{row['head']}: the fusion's {says[row['quantity']]} is {value}{against(row)}."
        findings.append(finding(CALIBRATED, f"fusion, {row['quantity']}", row, said))
    return findings


def _part_findings(table: pd.DataFrame) -> list[Finding]:
    findings = []
    main = "accuracy" if "accuracy" in set(table["measure"]) else "absolute error"
    for row in records(table[(table["part"] == "difference") & (table["measure"] == main)]):
        said = (
            f"{row['head']}: {main} of {_named(row['model'])} on contested utterances, less that on uncontested ones, "
            f"is {with_interval(row, 'points' if main == 'accuracy' else '')}{against(row)}."
        )
        findings.append(finding(PARTS, f"{row['model']}, {main} on contested less uncontested", row, said))
    return findings


def _named(model: str) -> str:
    return "the fusion" if model == FUSION else model


def _stress_findings(table: pd.DataFrame) -> list[Finding]:
    done = {
        "drop": "without {}",
        "swap": "with {} of another class",
        "noise": f"with noise of {SCALE:g} SD on {{}}",
        "permute": "with {} permuted",
    }
    findings = []
    main = "accuracy" if "accuracy" in set(table["measure"]) else "absolute error"
    for row in records(
        table[(table["quantity"] == "change") & table["measure"].isin([main, DIVERGENCE, SPREAD])]
    ):
        unit = {"accuracy": "points", DIVERGENCE: "bits"}.get(row["measure"], "")
        what = f"the fusion's {main}" if row["measure"] == main else f"the unimodal models' {row['measure']}"
        said = (
            f"{row['head']}: {done[row['change']].format(row['modality'])}, {what} changes by "
            f"{with_interval(row, unit)}{against(row)}."
        )
        quantity = f"{row['change']} {row['modality']}, change of {row['measure']}"
        findings.append(finding(STRESS, quantity, row, said))
    return findings
