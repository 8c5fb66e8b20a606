"""Findings: what the tables of one analysis say, as sentences with their numbers.

What a study is about is said beforehand (`--primary`); all else is exploratory. A sentence says "above" or "below"
only where the whole interval is, "not distinguishable from" where it covers the reference, and gives the estimate
alone where there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.analysis.panel import FUSION

DISAGREE = "Do the models of single modalities and the fusion give different labels?"
TYPES = "What does the fusion make of its modalities?"

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
    overrides : tuple of str
        What was overridden in the runs that it rests on, or is experimental in them.
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
    overrides: tuple[str, ...] = ()


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
        (see `analysis.sources`).
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


def called(model: str) -> str:
    """Return how sentences call a model: ``the fusion``, or its modalities."""
    return f"the {model}" if model == FUSION else model


def percent(value: float) -> str:
    """Return a share as text, ``12.3%``."""
    return f"{100 * value:.1f}%"


def with_interval(row: Row, unit: str = "", digits: int | None = None) -> str:
    """Return ``estimate unit (low to high)``, or the estimate alone; "%" and "points" are of 100.

    With one digit of 100, else with two, and with more where nothing of the numbers would be left.
    """
    scale, usual = (100, 1) if unit in ("%", "points") else (1, 2)
    if digits is None:
        size = scale * float(np.nan_to_num(np.abs([row["estimate"], row["low"], row["high"]])).max())
        digits = usual if not 1e-12 < size < 0.5 * 10**-usual else min(4, 1 - math.floor(math.log10(size)))
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


def against(row: Row, reference: float = 0.0) -> str:
    """Return where an interval is, ``, above 0.5``, or nothing where there is none."""
    where = side(row, reference)
    return f", {where} {reference:g}" if where else ""


def p_value(p: float) -> str:
    """Return ``p = 0.012``, ``p < 0.001``, or nothing where there is no p.

    Examples
    --------
    >>> p_value(0.0123), p_value(1e-5), p_value(math.nan)
    ('p = 0.012', 'p < 0.001', '')
    """
    if math.isnan(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def with_p(row: Row) -> str:
    """Return the row's ``, p = 0.012``, or nothing where there is no p."""
    said = p_value(row["p"])
    return f", {said}" if said else ""


def finding(question: str, quantity: str, row: Row, verdict: str) -> Finding:
    """Return the finding that a row of a table holds.

    Parameters
    ----------
    question, quantity, verdict : str
        See `Finding`.
    row : mapping
        With ``estimate, low, high, n, n_groups, method`` and, where there are such, ``head`` and ``p``.
    """
    return Finding(
        question=question,
        quantity=quantity,
        estimate=float(row["estimate"]),
        low=float(row["low"]),
        high=float(row["high"]),
        p=float(row.get("p", math.nan)),
        n=int(row["n"]),
        n_groups=int(row["n_groups"]),
        method=row["method"],
        primary=False,
        verdict=verdict,
        head=str(row.get("head", "")),
    )
