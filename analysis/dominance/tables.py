"""The tables of `analysis.dominance`, which has their conventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.dominance.matching import matched
from mixed_signals.analysis.dominance.reliance import Exchanged, Projected
from mixed_signals.analysis.inference import sign_flip, with_test
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.scores import Floats, confidence, wrong
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import UNLIMITED, Interval, Limits, mean_interval, ratio_interval

ANY = "any modality"
Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A study and a panel, and intervals by the rules of both."""

    study: Study
    panel: Panel

    def mean(self, values: ArrayLike, rows: Any = slice(None), limits: Limits = UNLIMITED) -> Interval:
        """Return the mean of values of some rows of the panel."""
        return mean_interval(values, self._groups(rows), limits=limits, **self.study.resampling)

    def ratio(
        self, above: Floats, below: Floats, rows: Any = slice(None), limits: Limits = UNLIMITED
    ) -> Interval:
        """Return the ratio of two sums over some rows of the panel."""
        return ratio_interval(above, below, self._groups(rows), limits=limits, **self.study.resampling)

    def difference(self, values: Floats, rows: Any = slice(None)) -> Row:
        """Return the fields of a mean that is tested against zero."""
        interval = self.mean(values, rows)
        if not len(values):
            return with_test(interval)
        return with_test(interval, sign_flip(values, self._groups(rows), **self.study.resampling))

    def _groups(self, rows: Any) -> NDArray[np.object_] | None:
        return None if self.panel.groups is None else self.panel.groups[rows]


def named(panel: Panel, modality: str, measure: str, interval: Interval) -> Row:
    """Return a row of the table `dominance`."""
    return {"head": panel.head, "modality": modality, "measure": measure, **vars(interval)}


def means(asked: Asked, measure: str, values: Floats, limits: Limits = UNLIMITED) -> list[Row]:
    """Return a row of the table `dominance` per modality: the means of values (M, N)."""
    return [
        named(asked.panel, m, measure, asked.mean(own, limits=limits))
        for m, own in zip(asked.panel.unimodals, values, strict=True)
    ]


def long(panel: Panel, columns: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Return one row per utterance and modality of arrays (M, N)."""
    n, m = len(panel.ids), len(panel.unimodals)
    keys = {
        "head": np.full(n * m, panel.head, dtype=object),
        "utterance_id": np.tile(panel.ids, m),
        "modality": np.repeat(np.array(panel.unimodals, dtype=object), n),
    }
    return pd.DataFrame(keys | {name: values.ravel() for name, values in columns.items()})


def ranked(table: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """Return the measures by modality, with their ranks among modalities, 1 for the largest estimate."""
    rank = table.groupby("measure")["estimate"].rank(ascending=False, method="min")
    order = {name: place for place, name in enumerate(panel.unimodals)}
    return (
        table.assign(rank=rank)
        .sort_values("modality", key=lambda column: column.map(order), kind="stable")
        .reset_index(drop=True)
    )


def dominant_rows(asked: Asked, which: NDArray[np.bool_], alone: NDArray[np.bool_]) -> pd.DataFrame:
    """Return how often a modality dominates, and how wrong the fusion is where it does so unsupported."""
    panel, rows = asked.panel, []
    missed, sure, groups = wrong(panel, panel.mean(FUSION)), confidence(panel), panel.group_numbers()
    both = which & alone
    limits: Limits = (0, np.inf) if panel.kind == "interval" else (0, 1)
    cases = [*zip(panel.unimodals, which, both, strict=True), (ANY, which.any(axis=0), both.any(axis=0))]
    for name, dominates, case in cases:
        beside = matched(case, missed, sure, groups)
        found = np.flatnonzero(case & np.isfinite(beside))
        quantities: dict[str, Row] = {
            "dominates": vars(asked.mean(dominates, limits=(0, 1))),
            "dominates unsupported": vars(asked.mean(case, limits=(0, 1))),
        }
        for quantity, at in (
            ("wrong where it dominates unsupported", np.flatnonzero(case)),
            ("wrong where it dominates supported", np.flatnonzero(dominates & ~case)),
            ("wrong elsewhere", np.flatnonzero(~dominates)),
        ):
            quantities[quantity] = vars(asked.mean(missed[at], at, limits))
        quantities["wrong in matched rows"] = vars(asked.mean(beside[found], found, limits))
        quantities["difference from matched rows"] = asked.difference((missed - beside)[found], found)
        rows += [
            {"head": panel.head, "modality": name, "quantity": quantity, "p": np.nan, **row}
            for quantity, row in quantities.items()
        ]
    return pd.DataFrame(rows)


def exchange_rows(asked: Asked, modality: str, found: Exchanged | None) -> list[Row]:
    """Return what the fusion makes of one modality's exchange; nothing where no row could be exchanged."""
    if found is None:
        return []
    limits: Limits = (0, np.inf) if asked.panel.kind == "interval" else (0, 1)
    quantities = {
        "follows another class": vars(asked.mean(found.follows, found.rows, (0, 1))),
        "follows, control": vars(asked.mean(found.control, found.rows, (0, 1))),
        "difference": asked.difference(found.follows - found.control, found.rows),
        "changes": vars(asked.mean(found.changes, found.rows, limits)),
        "changes, control": vars(asked.mean(found.control_changes, found.rows, limits)),
    }
    return [
        {"head": asked.panel.head, "modality": modality, "quantity": quantity, "p": np.nan, **row}
        for quantity, row in quantities.items()
    ]


def additivity_table(asked: Asked, found: Projected) -> pd.DataFrame:
    """Return scores of one head and its additive projection, and what the draws leave open."""
    full, rows = found.projection.full, found.rows
    residual = ((full - found.projection.additive) ** 2).sum(axis=1)
    spread = ((full - full.mean(axis=0)) ** 2).sum(axis=1)
    quantities = {
        "score": asked.mean(found.full, rows),
        "score of the additive projection": asked.mean(found.additive, rows),
        "gap": asked.mean(found.full - found.additive, rows),
        "variance not additive": asked.ratio(residual, spread, rows, (0, np.inf)),
    }
    if found.changed is not None:
        quantities["decisions changed"] = asked.mean(found.changed, rows, (0, 1))
    errors = {"score of the additive projection": found.error, "gap": found.error}
    return pd.DataFrame(
        [
            {
                "head": asked.panel.head,
                "quantity": quantity,
                **vars(interval),
                "n_draws": found.n_draws,
                "draws_error": errors.get(quantity, np.nan),
            }
            for quantity, interval in quantities.items()
        ]
    )
