"""What the tables of `analysis.robustness` say, in sentences."""

from __future__ import annotations

import pandas as pd

from mixed_signals.analysis.findings import Finding, against, called, finding, records, side, with_interval
from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.robustness.calibration import OVERCONFIDENCE, TOP
from mixed_signals.analysis.robustness.selective import (
    BOTH,
    CONFIDENCE,
    DIVERGENCE,
    ORACLE,
    RANDOM,
    SPREAD,
)
from mixed_signals.analysis.robustness.stress import SCALE

ABSTAIN = "What does abstaining gain, and does disagreement add to confidence?"
CALIBRATED = "Do the fusion's probabilities happen as often as they say?"
PARTS = "Do models do worse where people do not agree?"
STRESS = "What does it take to break the fusion, and does disagreement give warning?"


def selective_findings(table: pd.DataFrame) -> list[Finding]:
    """Return findings on what abstaining gains."""
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


def calibration_findings(table: pd.DataFrame) -> list[Finding]:
    """Return findings on the fusion's calibration."""
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


def part_findings(table: pd.DataFrame) -> list[Finding]:
    """Return findings on how much worse models do on contested utterances."""
    findings = []
    main = "accuracy" if "accuracy" in set(table["measure"]) else "absolute error"
    for row in records(table[(table["part"] == "difference") & (table["measure"] == main)]):
        said = (
            f"{row['head']}: {main} of {called(row['model'])} on contested utterances, less that on uncontested ones, "
            f"is {with_interval(row, 'points' if main == 'accuracy' else '')}{against(row)}."
        )
        findings.append(finding(PARTS, f"{row['model']}, {main} on contested less uncontested", row, said))
    return findings


def stress_findings(table: pd.DataFrame) -> list[Finding]:
    """Return findings on what changed modalities do."""
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
        unit = {"accuracy": "points", DIVERGENCE: "bits", SPREAD: "SD"}.get(row["measure"], "")
        what = f"the fusion's {main}" if row["measure"] == main else f"the unimodal models' {row['measure']}"
        said = (
            f"{row['head']}: {done[row['change']].format(row['modality'])}, {what} changes by "
            f"{with_interval(row, unit)}{against(row)}."
        )
        quantity = f"{row['change']} {row['modality']}, change of {row['measure']}"
        findings.append(finding(STRESS, quantity, row, said))
    return findings
