"""What a table of rates says, in sentences, and how it was made."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from mixed_signals.analysis.disagreement.floors import Repeated
from mixed_signals.analysis.disagreement.same_modality import FEATURE_SETS, SameModality
from mixed_signals.analysis.findings import (
    DISAGREE,
    Finding,
    Row,
    against,
    called,
    finding,
    percent,
    records,
    side,
    with_interval,
    with_p,
)
from mixed_signals.analysis.panel import FUSION, Panel

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
    return f"{row['first']} and {called(row['second'])}"


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
        of = " and ".join(map(called, mute))
        claim = f"no modality disagreement is claimed, since {of} is not shown to say anything of the target"
    sets = f" ({row['repeats']} of their own)" if FEATURE_SETS in row["repeats"] else ""
    said = (
        f"{row['head']}: {_DISTANCES[measure]} of {_between(row)}, {observed}, {_stands(row)} the {same} of two models "
        f"of one modality{sets}; the difference is {_beyond(row)}: {claim}."
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


def rate_methods(panel: Panel, repeated: Repeated, same: SameModality) -> list[str]:
    """Return the sentences of a methods section."""
    if panel.kind == "interval":
        said = [
            "Disagreement of two models is the absolute difference of their values in standard deviations of the "
            "truth, beside Lin's concordance correlation [Lin 1989]."
        ]
    else:
        said = [
            "Disagreement of two models is the share of utterances to which they give different labels, the "
            "Jensen-Shannon divergence of their probabilities in bits [Lin 1991], the shift of the true class's margin "
            "[Schapire 1998] and the difference in the probability of the true class; the first and the last between a "
            "unimodal model and the fusion follow [Srikanth 2025]. Agreement beyond the labels' marginals is Cohen's "
            "kappa [Cohen 1960]."
        ]
    said.append(
        "Disagreement by accuracy alone is that of models with the same mistakes that are independent given the truth "
        "(after [Geirhos 2020])."
    )
    if repeated.panel:
        again = {
            "seeds": f"{len(repeated.panel.seeds)} seeds",
            "bags": f"{len(repeated.panel.seeds)} fits to groups drawn from the training groups with "
            "replacement, as in [Breiman 1996]",
        }[repeated.kind]
        said.append(
            f"The excess over the floor compares two models in different trainings ({again}) with each of them in two "
            "trainings; it is unbiased, zero in expectation for models that differ by training alone, and not clipped "
            "[Szekely 2013; Fuglede 2004]. Its interval over groups is widened by a jackknife over trainings "
            "[Tukey 1958; Zou 2008], and its p is that of exchanging trainings between the two models."
        )
    if same.panel:
        pairs = "; ".join(f"{m}: {', '.join(sets)}" for m, sets in same.sets.items())
        fitted = f"fitted to feature sets of their own ({pairs})" if pairs else ""
        if set(same.models) - set(same.sets):
            fitted = " or ".join(filter(None, [fitted, "trained on disjoint halves of its features"]))
        said.append(
            f"Modality disagreement is claimed only above that of two models of one modality, {fitted}."
        )
    return said
