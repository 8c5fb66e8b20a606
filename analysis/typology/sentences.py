"""What the tables of `analysis.typology` say, in sentences."""

from __future__ import annotations

import pandas as pd

from mixed_signals.analysis.findings import (
    TYPES,
    Finding,
    finding,
    percent,
    records,
    side,
    with_interval,
)
from mixed_signals.store.terminal import counted

_BEYOND = {"estimate": "beyond_chance", "low": "beyond_low", "high": "beyond_high"}


def type_findings(typology: pd.DataFrame) -> list[Finding]:
    """Return findings on the share of each type (see `typology_table`)."""
    says = {
        "agree right": "all modalities and the fusion are right",
        "fusion rescues": "the fusion is right although no modality is",
        "agree wrong": "all modalities give one and the same wrong label and the fusion is wrong",
        "all wrong": "all modalities are wrong, in different ways, and so is the fusion",
        "harmed": "some modality is right and none gives the fusion's wrong label",
    }
    findings = []
    for row in records(typology):
        named = row["type"].removeprefix(row["family"]).strip()
        right = "right" if row["family"] == "follows" else "wrong"
        what = says.get(row["type"]) or f"the fusion is {right} with {named} against the rest"
        steady = f" (same type in {row['stability']:.0%} of single seeds)" if row["stability"] >= 0 else ""
        beyond = {name: row[column] for name, column in _BEYOND.items()}
        where = side(beyond, 0.0) or "beside"
        said = (
            f"{row['head']}: in {with_interval(row, '%')} of utterances {what}{steady}; that is {where} the "
            f"{percent(row['chance'])} of independent models with the same mistakes."
        )
        findings.append(finding(TYPES, f"{row['type']}, share", row, said))
    return findings


def confirmation_findings(confirmed: pd.DataFrame) -> list[Finding]:
    """Return findings on how often what misled the fusion is confirmed (see `confirmation_table`)."""
    findings = []
    for row in records(confirmed[~confirmed["by_definition"].astype(bool)]):
        right = (
            f", {with_interval(row, '%')}: there it is confirmed" if row["confirmed"] else ": not confirmed"
        )
        said = (
            f"{row['head']}: of {counted(row['count'], 'utterance')} {row['type']}, the model of {row['without']} "
            f"alone is right on {row['confirmed']}{right}."
        )
        findings.append(finding(TYPES, f"{row['type']}, confirmed", row, said))
    return findings
