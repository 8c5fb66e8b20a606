"""What the tables of `analysis.dominance` say, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixed_signals.analysis.findings import (
    Finding,
    Row,
    against,
    finding,
    p_value,
    percent,
    records,
    with_interval,
)
from mixed_signals.analysis.panel import Panel

IMPORTANCE = "How much does each modality contribute to what the fusion decides?"
MISLEADS = "Is the fusion wrong more often where one modality dominates and no other supports it?"
FOLLOWS = "Does the fusion's decision follow a modality that is exchanged?"
ADDITIVE = "Does the fusion do more than add up its modalities?"
RANKED = ("shapley share", "leave-one-out", "gate", "contribution", "permutation")
_CALLED = {
    "shapley share": "Shapley values",
    "leave-one-out": "leaving out",
    "gate": "gates",
    "contribution": "logit contributions",
    "permutation": "permuting",
}


def importance_findings(panel: Panel, table: pd.DataFrame) -> list[Finding]:
    """Return a finding per modality, which names two measures at least, and one on how the measures rank them."""
    findings = []
    rows = {(row["modality"], row["measure"]): row for row in records(table)}
    for m in panel.unimodals:
        said = {name: rows[m, name] for name in (*RANKED, "shapley") if (m, name) in rows}
        parts = [_importance(panel, name, row) for name, row in said.items() if name != "shapley"]
        if not parts:
            continue
        first = next(iter(said))
        head = "shapley" if "shapley" in said else first
        opening = f"{m}: "
        if head == "shapley":
            towards = "value" if panel.kind == "interval" else "decision"
            opening = (
                f"{m} adds {with_interval(said['shapley'], _unit(panel))} towards the fusion's {towards}; "
            )
        verdict = f"{opening}{'; '.join(parts)}."
        findings.append(_finding(panel, IMPORTANCE, f"{m}, {head}", said[head], verdict))
    if ranking := _ranking_finding(panel, table):
        findings.append(ranking)
    return findings


def _unit(panel: Panel) -> str:
    return "of the variance" if panel.kind == "interval" else "nats"


def _importance(panel: Panel, measure: str, row: Row) -> str:
    score = ("", "of R squared") if panel.kind == "interval" else ("points", "of accuracy")
    return {
        "shapley share": f"its share of absolute Shapley values is {with_interval(row, '%')}",
        "leave-one-out": f"leaving it out costs {with_interval(row, _unit(panel))}",
        "gate": f"its gate is {with_interval(row)}",
        "contribution": f"its logit contribution is {with_interval(row)}"
        if panel.kind != "interval"
        else f"its contribution is {with_interval(row)}",
        "permutation": f"permuting it costs {with_interval(row, score[0])} {score[1]}",
    }[measure]


def _ranking_finding(panel: Panel, table: pd.DataFrame) -> Finding | None:
    """Return which measures rank the modalities alike, and which do not; None with fewer than two measures."""
    orders: dict[str, list[str]] = {}
    for measure in RANKED:
        mine = table[(table["measure"] == measure) & table["estimate"].notna()]
        if len(mine):
            sorted_ = mine.sort_values("estimate", ascending=False, kind="stable")
            orders.setdefault(", ".join(sorted_["modality"]), []).append(_CALLED[measure])
    n_measures = sum(map(len, orders.values()))
    if n_measures < 2:
        return None
    by_size = sorted(orders.items(), key=lambda item: -len(item[1]))
    agreeing = len(by_size[0][1])
    if len(orders) == 1:
        said = f"all {n_measures} measures of importance rank {by_size[0][0]} in this order."
    else:
        told = "; ".join(f"{' and '.join(measures)} rank {order}" for order, measures in by_size)
        said = f"measures of importance disagree: {told}; none should be read alone."
    row = {
        "estimate": agreeing / n_measures,
        "low": np.nan,
        "high": np.nan,
        "n": int(table["n"].max()),
        "n_groups": int(table["n_groups"].max()),
        "method": "no interval: the largest share of measures that give one order",
    }
    return _finding(panel, IMPORTANCE, "measures that agree on the order of modalities, share", row, said)


def dominance_findings(panel: Panel, table: pd.DataFrame) -> list[Finding]:
    """Return a finding for each modality that ever dominates unsupported, and for any of them."""
    findings = []
    for modality, part in table.groupby("modality", sort=False):
        rows = {row["quantity"]: row for row in records(part)}
        share, alone = rows["dominates"], rows["dominates unsupported"]
        wrong, difference = (
            rows["wrong where it dominates unsupported"],
            rows["difference from matched rows"],
        )
        said = (
            f"{modality} dominates {with_interval(share, '%')} of utterances, unsupported by the other "
            f"modalities {with_interval(alone, '%')}"
        )
        if wrong["n"] == 0:
            findings.append(
                _finding(panel, MISLEADS, f"{modality}, dominates unsupported", alone, f"{said}.")
            )
            continue
        interval = panel.kind == "interval"
        unit, rate = (
            ("of the variance", "the fusion's squared error is")
            if interval
            else ("%", "the fusion is wrong in")
        )
        said += f"; there {rate} {with_interval(wrong, unit)}"
        if difference["n"] == 0:
            said += ", and no row of the same group and confidence is there to compare with."
        else:
            said += (
                f"; less what it is in rows of the same group and confidence: "
                f"{with_interval(difference, 'of the variance' if interval else 'points')}"
                f"{_against_zero(difference)}."
            )
        findings.append(
            _finding(panel, MISLEADS, f"{modality}, difference from matched rows", difference, said)
        )
    return findings


def exchange_findings(panel: Panel, table: pd.DataFrame) -> list[Finding]:
    """Return a finding for each modality that was exchanged."""
    findings = []
    of = "of the same group" if panel.has_groups else "of the same fold"
    for modality, part in table.groupby("modality", sort=False):
        rows = {row["quantity"]: row for row in records(part)}
        follows, control, difference = (
            rows[name] for name in ("follows another class", "follows, control", "difference")
        )
        becomes = (
            "the fusion's value moves towards that row's side of the median"
            if panel.kind == "interval"
            else "the fusion decides for that row's class"
        )
        kind = "from the other half of the values" if panel.kind == "interval" else "of another class"
        own = "from their own half" if panel.kind == "interval" else "of their own class"
        said = (
            f"with the {modality} of a row {kind} {of}, {becomes} in {with_interval(follows, '%')} of rows, "
            f"with that of another row {own} in {percent(control['estimate'])}: a difference of "
            f"{with_interval(difference, 'points')}{_against_zero(difference)}."
        )
        findings.append(_finding(panel, FOLLOWS, f"{modality}, exchange less control", difference, said))
    return findings


def additivity_findings(panel: Panel, table: pd.DataFrame) -> list[Finding]:
    """Return the finding on the additive projection."""
    rows = {row["quantity"]: row for row in records(table)}
    gap, rest = rows["gap"], rows["variance not additive"]
    score, unit = ("R squared", "") if panel.kind == "interval" else ("accuracy", "points")
    error = gap["draws_error"] * (1 if panel.kind == "interval" else 100)
    drawn = f" (standard error of the {gap['n_draws']} draws {error:.2f})" if gap["n_draws"] else ""
    said = (
        f"on {gap['n']} rows of one fold, the head's {score} less that of its additive projection is "
        f"{with_interval(gap, unit)}{drawn}{_against_zero(gap)}; {percent(rest['estimate'])} of the variance of its "
        "outputs is not additive."
    )
    return [_finding(panel, ADDITIVE, "additive-interaction gap", gap, said)]


def _against_zero(row: Row) -> str:
    """Return ", above 0 (p = 0.004)", or what of it there is."""
    tested = p_value(row.get("p", np.nan))
    return against(row) + (f" ({tested})" if tested else "")


def _finding(panel: Panel, question: str, quantity: str, row: Row, verdict: str) -> Finding:
    return finding(question, quantity, {**row, "head": panel.head}, f"{panel.head}: {verdict}")
