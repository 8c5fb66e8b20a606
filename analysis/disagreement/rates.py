"""The table of rates of one head: every measure of every pair of its models, with intervals and tests.

The conventions are those of `analysis.disagreement`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.disagreement.chance import expected_difference, expected_disagreement, strata_of
from mixed_signals.analysis.disagreement.distances import (
    Values,
    distances,
    margin,
    of_class,
    unimodal_divergence,
)
from mixed_signals.analysis.disagreement.floors import Excesses, Pair, Repeated
from mixed_signals.analysis.disagreement.same_modality import SameModality, alike
from mixed_signals.analysis.disagreement.trainings import Excess
from mixed_signals.analysis.inference import sign_flip, with_test
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import Interval, Limits, group_codes, mean_interval, sums_interval
from mixed_signals.models.measures import concordance

UNIMODALS = "unimodals"  # all of them at once, where a row is not about a pair
_SHIFTING: dict[str, Callable[[Values, NDArray[np.intp]], Values]] = {"margin": margin, "p_true": of_class}

_COLUMNS = (
    "head", "first", "second", "measure", "quantity", "estimate", "low", "high", "p",
    "n", "n_groups", "n_seeds", "repeats", "method",
)  # fmt: skip

Key = tuple[str, str, str, str]


def pairs_of(panel: Panel) -> list[Pair]:
    """Return each unimodal with the fusion, then the unimodals with each other."""
    return [*((m, FUSION) for m in panel.unimodals), *combinations(panel.unimodals, 2)]


def rate_table(
    study: Study, panel: Panel, repeated: Repeated, excess: Excesses, same: SameModality
) -> pd.DataFrame:
    """Return every measure of every pair of one head's models, with intervals and tests.

    Parameters
    ----------
    study : Study
    panel : Panel
    repeated : Repeated
        Trainings of the same models again.
    excess : mapping of (distance, pair) to Excess
        What `analysis.disagreement.floors.excess_values` made of them.
    same : SameModality

    Returns
    -------
    DataFrame
        ``head, first, second, measure, quantity, estimate, low, high, p, n, n_groups, n_seeds, repeats, method``; see
        `analysis.disagreement`. `n_seeds` counts the trainings behind a row, and `repeats` says what they are: seeds or
        bags, or what models of one modality were fitted to (feature sets, halves). What was not measured is NaN, and
        `method` says why.
    """
    rows = _Rows(study, panel)
    pairs = pairs_of(panel)
    of_one_modality = same.values(panel)
    for distance in distances(panel):
        views = {model: distance.view(panel.seed_mean(model)) for model in panel.models}
        limits, both_ways = (0.0, distance.highest), (-distance.highest, distance.highest)
        for pair in pairs:
            first, second = pair
            of_pair = (*pair, distance.name)
            rate = distance.between(views[first], views[second]).mean(axis=0)
            rows.mean((*of_pair, "rate"), rate, limits)
            measured = excess.get((distance.name, pair))
            rows.mean((*of_pair, "between"), measured.between if measured else None, limits, repeated)
            rows.mean((*of_pair, "floor"), measured.floor if measured else None, limits, repeated)
            rows.excess((*of_pair, "excess"), measured, both_ways, repeated)
            twice, named = alike(of_one_modality, distance.name, pair), same.named(pair)
            rows.mean((*of_pair, "same_modality"), twice, limits, same.of(pair), said=named)
            beyond = None if twice is None else rate - twice
            rows.mean(
                (*of_pair, "beyond_same_modality"), beyond, both_ways, same.of(pair), tested=True, said=named
            )
            if distance.name in _SHIFTING:
                rows.mean(
                    (*of_pair, "shift"), (views[second] - views[first]).mean(axis=0), both_ways, tested=True
                )
            if distance.name in ("label", "difference"):
                chance = by_chance(panel, first, second)
                rows.mean((*of_pair, "chance"), chance, limits)
                rows.mean((*of_pair, "beyond_chance"), rate - chance, both_ways, tested=True)
                quantity, columns, function = _agreement(panel, first, second)
                rows.sums((*of_pair, quantity), columns, function)
    if panel.kind == "interval":
        values_of = {model: panel.seed_mean(model)[..., 0] for model in panel.models}
        errors = {model: np.abs(v - panel.truth).mean(axis=0) for model, v in values_of.items()}
        for first, second in pairs:
            shift = (errors[second] - errors[first]) / panel.deviation
            rows.mean((first, second, "error", "shift"), shift, (-np.inf, np.inf), tested=True)
    else:
        values = unimodal_divergence(panel)
        limits = (0.0, float(np.log2(len(panel.unimodals))))
        rows.mean((UNIMODALS, UNIMODALS, "jsd", "generalised"), values, limits)
    return rows.table()


def by_chance(panel: Panel, first: str, second: str) -> Values:
    """Return, by utterance, the rate of two models that are independent but for the truth (see `chance`).

    Returns
    -------
    array of shape (N,)
        Its mean is the rate expected of ``label``, or of ``difference`` where the target is interval.
    """
    if panel.kind == "interval":
        strata = strata_of(panel.truth)
        a, b = (panel.seed_mean(model)[..., 0] - panel.truth for model in (first, second))
        apart = [expected_difference(x, y, strata) for x, y in zip(a, b, strict=True)]
        return np.mean(apart, axis=0) / panel.deviation
    return _expected(panel, first, second, panel.truth)


def _expected(panel: Panel, first: str, second: str, strata: NDArray[np.intp]) -> Values:
    """Return the disagreement of labels that are independent within strata, averaged over partitions, shape (N,)."""
    pairs = zip(panel.labels(first), panel.labels(second), strict=True)
    return np.mean([expected_disagreement(a, b, strata, len(panel.classes)) for a, b in pairs], axis=0)


def _agreement(panel: Panel, first: str, second: str) -> tuple[str, Values, Callable[[Values], Values]]:
    """Return the coefficient of two models' agreement: its name, what it sums over utterances, and its formula."""
    if panel.kind == "interval":
        a, b = (panel.seed_mean(model)[..., 0] for model in (first, second))
        measure = concordance(a.ravel(), b.ravel())
        return "concordance", measure.columns.reshape(*a.shape, -1).mean(axis=0), measure.function
    rate = (panel.labels(first) != panel.labels(second)).mean(axis=0)
    expected = _expected(panel, first, second, np.zeros(len(panel.ids), dtype=np.intp))
    return "kappa", np.column_stack([rate, expected]), lambda s: 1 - s[..., 0] / s[..., 1]


class _Rows:
    """The rows of a table of rates, as they are found."""

    def __init__(self, study: Study, panel: Panel) -> None:
        self.study, self.panel = study, panel
        self.codes = group_codes(panel.groups, len(panel.ids))
        self.seeds = Repeated(panel, "seeds")
        self.rows: list[dict[str, Any]] = []

    def mean(
        self,
        key: Key,
        values: Values | None,
        limits: Limits,
        of: Repeated | None = None,
        *,
        tested: bool = False,
        said: str = "",
    ) -> None:
        """Add the mean of values by utterance, which are NaN for those that do not count, or say why there is none.

        What is `said` goes into the method.
        """
        of, codes = of or self.seeds, self.codes
        if values is None:
            n_groups = int(codes.max(initial=-1)) + 1
            why = f"not measured: {of.why}"
            self._add(key, Interval(np.nan, np.nan, np.nan, len(codes), n_groups, why), of)
            return
        known = np.isfinite(values)
        values, codes = values[known], codes[known]
        interval = mean_interval(values, codes, limits=limits, **self.study.resampling)
        if said:
            interval = replace(interval, method=f"{interval.method}; {said}")
        test = sign_flip(values, codes, **self.study.resampling) if tested else None
        self._add(key, interval, of, **with_test(interval, test))

    def excess(self, key: Key, found: Excess | None, limits: Limits, of: Repeated) -> None:
        """Add a mean excess, whose interval and test know of trainings as well as of groups."""
        if found is None:
            self.mean(key, None, limits, of)
            return
        known = np.isfinite(found.excess)
        over_groups = mean_interval(
            found.excess[known], self.codes[known], limits=limits, **self.study.resampling
        )
        p, how = found.test(**self.study.resampling)
        interval = found.widened(over_groups, limits)
        self._add(key, interval, of, p=p, method=f"{interval.method}; {how}")

    def sums(self, key: Key, columns: Values, function: Callable[[Values], Values]) -> None:
        """Add a coefficient of sums over utterances, -1 to 1."""
        interval = sums_interval(function, columns, self.codes, limits=(-1.0, 1.0), **self.study.resampling)
        self._add(key, interval, self.seeds)

    def _add(self, key: Key, interval: Interval, of: Repeated, **tested: Any) -> None:
        named = dict(zip(("first", "second", "measure", "quantity"), key, strict=True))
        about = {"n_seeds": len(of.panel.seeds) if of.panel else 0, "repeats": of.kind}
        self.rows.append({"head": self.panel.head, **named, **with_test(interval), **tested, **about})

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)[list(_COLUMNS)]
