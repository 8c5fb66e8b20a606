"""Findings: what the tables of one analysis say, as sentences with their numbers.

Everything here is exploratory: no finding is primary and none has a p-value. A sentence says "above" or "below"
only where the whole interval is, "not distinguishable from" where it covers the reference, and gives the estimate
alone where there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.models.intervals import FEWEST_GROUPS
from mixed_signals.store.files import write_json
from mixed_signals.store.terminal import counted

DISAGREE = "Do the models of single modalities and the fusion give different labels?"
FLOOR = "Is that more than two seeds of the same model disagree?"
TYPES = "What does the fusion make of its modalities?"
LINK = "Does disagreement between modalities mark utterances that people find ambiguous?"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One answer, with the fields of ``findings.json`` (numbers that do not exist are NaN here, null there).

    Attributes
    ----------
    question : str
        What a reader asks.
    quantity : str
        What was estimated, in words that tell it from all others of its head: ``text against fusion, excess``.
    estimate, low, high : float
        With its interval.
    p : float
        Of the test that `method` names, NaN where none was made.
    n, n_groups : int
        Utterances and groups behind it.
    method : str
        How interval and test were made, or why there is none.
    primary : bool
        Whether the study was said, beforehand, to be about this; all else is exploratory.
    verdict : str
        A sentence.
    head : str
        Empty where it is not about a head.
    p_adjusted : float
        `p` after Holm's correction among what is primary, and Benjamini and Hochberg's among what is exploratory.
    """

    question: str
    quantity: str
    estimate: float
    low: float
    high: float
    p: float
    n: int
    n_groups: int
    method: str
    primary: bool
    verdict: str
    head: str = ""
    p_adjusted: float = math.nan


@dataclass(frozen=True)
class Answer:
    """What one question's module gives back.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Tidy tables by file name (without ending); those of several heads are put below each other, so that the first
        column of such a table is ``head``.
    findings : list of Finding
    notes : list of str
        Sentences: what the data cannot answer and what is missing, or what weakens the answer.
    methods : list of str
        Sentences for a paper's methods section: what was computed and how, with its sources by key in square brackets
        (see `mixed_signals.analysis.sources`).
    """

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def by_quantity(rates: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one dictionary for each pair of models: ``head, first, second``, and a row for each quantity."""
    pairs: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in records(rates):
        key = {name: row[name] for name in ("head", "first", "second")}
        pairs.setdefault(tuple(key.values()), key)[row["quantity"]] = row
    return list(pairs.values())


def percent(value: float) -> str:
    """Return a share as text, ``12.3%``."""
    return f"{100 * value:.1f}%"


def with_interval(row: Row, unit: str = "") -> str:
    """Return ``estimate unit (low to high)``, or the estimate alone; "%" and "points" are of 100."""
    scale, digits = (100, 1) if unit in ("%", "points") else (1, 2)
    rounded = (round(scale * float(row[name]), digits) + 0.0 for name in ("estimate", "low", "high"))
    estimate, low, high = (f"{number:.{digits}f}" for number in rounded)
    said = estimate + (unit if unit == "%" else f" {unit}".rstrip())
    return f"{said} ({low} to {high})" if np.isfinite(row["low"]) else said


def side(row: Row, reference: float) -> str:
    """Return "above", "below", "not distinguishable from", or "" where there is no interval."""
    if not np.isfinite(row["low"]):
        return ""
    if row["low"] > reference:
        return "above"
    return "below" if row["high"] < reference else "not distinguishable from"


def rate_findings(rates: pd.DataFrame) -> list[Finding]:
    """Return findings on how often each unimodal and the fusion disagree, and on the seed floor."""
    findings = []
    for pair in by_quantity(rates[rates["second"] == FUSION]):
        head, first = pair["head"], pair["first"]
        rate, between, floor, excess = (pair[name] for name in ("rate", "between", "floor", "excess"))
        said = f"{head}: {first} and the fusion give different labels for {with_interval(rate, '%')} of utterances."
        findings.append(_finding(DISAGREE, f"{head}: {first} against fusion, rate", rate, said))
        if np.isnan(excess["estimate"]):
            if all(finding.quantity != f"{head}: excess" for finding in findings):
                said = f"{head}: {excess['method']}."
                findings.append(_finding(FLOOR, f"{head}: excess", excess, said))
            continue
        where = side(excess, 0.0)
        verdict = f"is {where} the seed floor of" if where else "has no interval; the seed floor is"
        said = (
            f"{head}: disagreement of {first} and the fusion in single seeds, {percent(between['estimate'])}, "
            f"{verdict} {percent(floor['estimate'])}; the excess is {with_interval(excess, 'points')}."
        )
        findings.append(_finding(FLOOR, f"{head}: {first} against fusion, excess", excess, said))
    return findings


def type_findings(typology: pd.DataFrame) -> list[Finding]:
    """Return findings on the share of each type."""
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
        said = f"{row['head']}: in {with_interval(row, '%')} of utterances {what}{steady}."
        findings.append(_finding(TYPES, f"{row['head']}: {row['type']}, share", row, said))
    return findings


def link_findings(link: pd.DataFrame) -> list[Finding]:
    """Return findings on disagreement beside the ambiguity people see."""
    says = {
        "spearman": ("rank correlation of the modalities' divergence with the raters' ambiguity", 0.0, ""),
        "auroc": ("AUROC of the modalities' divergence for contested utterances", 0.5, ""),
        "entropy_difference": (
            "vote entropy where the modalities' labels differ, minus where they agree,",
            0.0,
            "bits",
        ),
    }
    findings = []
    for row in records(link):
        what, reference, unit = says[row["quantity"]]
        if np.isnan(row["estimate"]):
            said = (
                f"{row['head']}: {what} is undefined here (no variation among {row['n']} rated utterances)."
            )
        else:
            where = side(row, reference)
            against = f", {where} {reference:g}" if where else ""
            said = f"{row['head']}: {what} is {with_interval(row, unit)}{against}."
        findings.append(_finding(LINK, f"{row['head']}: {row['quantity']}", row, said))
    return findings


def _finding(question: str, quantity: str, row: Row, verdict: str) -> Finding:
    return Finding(
        question=question,
        quantity=quantity,
        estimate=float(row["estimate"]),
        low=float(row["low"]),
        high=float(row["high"]),
        p=np.nan,
        n=int(row["n"]),
        n_groups=int(row["n_groups"]),
        method=str(row["method"]),
        primary=False,
        verdict=verdict,
    )


def cautions(
    panels: Sequence[Panel], n_groups: int | None, metrics: pd.DataFrame, *, groups_kept_apart: bool
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
    """
    said = []
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
        if len(panel.seeds) < 2 and not panel.deterministic:
            said.append(f"{panel.head} has one seed: its seed floor cannot be measured.")
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


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write ``findings.json``: a list of objects, null for numbers that do not exist."""
    write_json(path, [asdict(finding) for finding in findings])
