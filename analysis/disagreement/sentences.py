"""What a table of rates says, in sentences."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from mixed_signals.analysis.findings import (
    DISAGREE,
    Finding,
    Row,
    against,
    finding,
    percent,
    records,
    side,
    with_interval,
    with_p,
)
from mixed_signals.analysis.panel import FUSION

FLOOR = "Is that more than two seeds of the same model disagree?"
RESAMPLING = "Is that more than training on other groups changes?"
CHANCE = "Is that more than models of such accuracy disagree anyway?"
SAME = "Is that more than two models of one modality disagree?"
SHIFT = "Is the fusion nearer to the truth than a single modality is?"

_UNITS = {"label": "%", "jsd": "bits", "difference": "SD", "error": "SD"}
_DISTANCES = {
    "label": "disagreement",
    "jsd": "Jensen-Shannon divergence",
    "margin": "the margin shift",
    "p_true": "the difference in the probability of the true label",
    "difference": "the difference",
}
_FLOORS = {"seeds": (FLOOR, "the seed floor"), "bags": (RESAMPLING, "the resampling floor")}


def rate_findings(rates: pd.DataFrame, silent: Collection[str] = ()) -> list[Finding]:
    """Return findings on how often each pair of models disagrees, and on what that stands beside.

    Parameters
    ----------
    rates : DataFrame
        From `analysis.disagreement.rate_table`.
    silent : collection of str
        Models that are not shown to say anything of the target: what they disagree on is no modality's disagreement.
    """
    pairs: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in records(rates):
        key = tuple(row[name] for name in ("head", "first", "second", "measure"))
        pairs.setdefault(key, {})[row["quantity"]] = row
    found: list[Finding | None] = []
    for cells in pairs.values():
        if "generalised" in cells:
            found.append(_generalised(cells["generalised"]))
            continue
        any_cell = next(iter(cells.values()))
        measure, fused = any_cell["measure"], any_cell["second"] == FUSION
        first = measure in ("label", "difference")
        if first or (measure == "p_true" and fused):
            found.append(_rate(cells["rate"]))
        if first:
            found += [_agreement(cells), _same(cells, silent)]
            if not fused:  # a fusion contains the modality: it is bound to be nearer than independent models
                found.append(_chance(cells))
        if first or (fused and measure in ("jsd", "margin")):
            found.append(_excess(cells))
        if fused and measure in ("p_true", "error"):
            found.append(_shift(cells["shift"]))
    return [each for each in found if each is not None]


def _between(row: Row) -> str:
    return f"{row['first']} and {'the fusion' if row['second'] == FUSION else row['second']}"


def _quantity(row: Row) -> str:
    of = "" if row["measure"] in ("label", "difference") else f" of {row['measure']}"
    return f"{row['first']} against {row['second']}, {row['quantity'].replace('_', ' ')}{of}"


def _amount(value: float, measure: str) -> str:
    return percent(value) if measure == "label" else f"{value:.2f} {_UNITS.get(measure, '')}".rstrip()


def _beyond(row: Row) -> str:
    """Return a difference with its interval and p."""
    unit = "points" if row["measure"] == "label" else _UNITS.get(row["measure"], "")
    return with_interval(row, unit) + with_p(row)


def _rate(row: Row) -> Finding:
    measure, pair = row["measure"], _between(row)
    if measure == "label":
        said = f"{pair} give different labels for {with_interval(row, '%')} of utterances"
    elif measure == "difference":
        said = f"the values of {pair} differ by {with_interval(row, 'SD')} of the truth on average"
    else:
        said = f"{pair} differ by {with_interval(row)} in the probability of the true label on average"
    return finding(DISAGREE, _quantity(row), row, f"{row['head']}: {said}.")


def _generalised(row: Row) -> Finding:
    said = (
        f"the Jensen-Shannon divergence of all unimodals at once is {with_interval(row, 'bits')} on average"
    )
    return finding(DISAGREE, "unimodals, divergence", row, f"{row['head']}: {said}.")


def _agreement(cells: dict[str, Row]) -> Finding:
    row = cells.get("kappa") or cells["concordance"]
    name = "Cohen's kappa" if row["quantity"] == "kappa" else "the concordance correlation"
    value = "undefined here" if np.isnan(row["estimate"]) else with_interval(row)
    return finding(DISAGREE, _quantity(row), row, f"{row['head']}: {name} of {_between(row)} is {value}.")


def _chance(cells: dict[str, Row]) -> Finding:
    row, measure = cells["beyond_chance"], cells["rate"]["measure"]
    observed, chance = (_amount(cells[name]["estimate"], measure) for name in ("rate", "chance"))
    said = (
        f"{row['head']}: {_DISTANCES[measure]} of {_between(row)}, {observed}, {_stands(row)} the {chance} of "
        f"independent models with the same mistakes; the difference is {_beyond(row)}."
    )
    return finding(CHANCE, _quantity(row), row, said)


def _same(cells: dict[str, Row], silent: Collection[str]) -> Finding | None:
    row, measure = cells["beyond_same_modality"], cells["rate"]["measure"]
    if np.isnan(row["estimate"]):
        return None
    observed, same = (_amount(cells[name]["estimate"], measure) for name in ("rate", "same_modality"))
    claim = "modality disagreement" if side(row, 0.0) == "above" else "no modality disagreement is claimed"
    if mute := [model for model in (row["first"], row["second"]) if model in silent]:
        of = " and ".join("the fusion" if model == FUSION else model for model in mute)
        claim = f"no modality disagreement is claimed, since {of} is not shown to say anything of the target"
    said = (
        f"{row['head']}: {_DISTANCES[measure]} of {_between(row)}, {observed}, {_stands(row)} the {same} of two models "
        f"of one modality; the difference is {_beyond(row)}: {claim}."
    )
    return finding(SAME, _quantity(row), row, said)


def _excess(cells: dict[str, Row]) -> Finding | None:
    row, measure = cells["excess"], cells["rate"]["measure"]
    if np.isnan(row["estimate"]):
        return None
    question, floor = _FLOORS[row["repeats"]]
    between, itself = (_amount(cells[name]["estimate"], measure) for name in ("between", "floor"))
    single = "single seeds" if row["repeats"] == "seeds" else "single fits"
    exchanged = " by exchanging trainings, on these utterances alone" if row["p"] >= 0 else ""
    said = (
        f"{row['head']}: {_DISTANCES[measure]} of {_between(row)} in {single}, {between}, {_stands(row)} {floor} of "
        f"{itself}; the excess is {_beyond(row)}{exchanged}."
    )
    return finding(question, _quantity(row), row, said)


def _shift(row: Row) -> Finding:
    if row["measure"] == "error":
        what = f"the fusion's absolute error less that of {row['first']}"
    else:
        what = f"the fusion's probability of the true label less that of {row['first']}"
    return finding(SHIFT, _quantity(row), row, f"{row['head']}: {what} is {_beyond(row)}{against(row)}.")


def _stands(row: Row) -> str:
    where = side(row, 0.0)
    return f"is {where}" if where else "stands (without an interval) beside"
