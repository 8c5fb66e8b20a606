"""Two models lined up, of one run or of two: the same cells in the same order, or a reason why that cannot be.

A *cell* is a partition, a fold and an utterance: an out-of-fold prediction, averaged over seeds. Two models can be
compared where both predict an utterance in the same fold of the same partition; with other folds, each was trained on
rows that the other was tested on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.panel import FUSION, Panel, check_kind
from mixed_signals.models.intervals import group_codes, sums_by
from mixed_signals.models.metrics import averaged_over_partitions
from mixed_signals.store import Run, UsageError
from mixed_signals.store.predictions import read_outcomes


@dataclass(frozen=True)
class Predicted:
    """One model's out-of-fold outputs, averaged over seeds, a row for each of its cells.

    Attributes
    ----------
    name : str
        What verdicts call it.
    kind : str
        Of the target.
    classes : tuple of str
    cells : DataFrame of R rows
        ``partition, fold, utterance_id``.
    truth : array, shape (R,)
        Class numbers, or values of an interval target.
    outputs : array of float, shape (R, C)
        Probabilities, or values of an interval target with C = 1.
    groups : Series or None
        Group by utterance id; "" for none.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    cells: pd.DataFrame
    truth: NDArray[Any]
    outputs: NDArray[np.float64]
    groups: pd.Series | None

    @cached_property
    def units(self) -> NDArray[np.intp]:
        """Number of each row's group, shape (R,); an utterance without one is a group of its own in all partitions."""
        codes, ids = pd.factorize(self.cells["utterance_id"].to_numpy(object))
        found: NDArray[np.intp] = (
            codes
            if self.groups is None
            else group_codes(self.groups.reindex(ids).to_numpy(object), len(ids))[codes]
        )
        return found


def of_panel(panel: Panel, model: str = FUSION, name: str = "", *, in_roles: bool = False) -> Predicted:
    """Return a model of a panel, averaged over seeds; partitions are numbered anew.

    Parameters
    ----------
    panel : Panel
    model, name : str
        Which, and what verdicts call it.
    in_roles : bool
        Whether partitions are the roles of cross-fitted encoders (`Study.views_by_fold`): the same folds, over which
        outputs are averaged too, so that a row counts once.
    """
    outputs = panel.mean(model)[None] if in_roles else panel.seed_mean(model)
    P, N = outputs.shape[:2]
    cells = {
        "partition": np.repeat(np.arange(P), N),
        "fold": panel.folds[:P].ravel(),
        "utterance_id": np.tile(panel.ids, P),
    }
    return Predicted(
        name or model,
        panel.kind,
        panel.classes,
        pd.DataFrame(cells),
        np.tile(panel.truth, P),
        outputs.reshape(P * N, -1),
        None if panel.groups is None else pd.Series(panel.groups, index=panel.ids),
    )


def of_run(run: Run, model: str, groups: pd.Series | None = None) -> Predicted:
    """Return a model of a run, averaged over seeds and orders of the training rows, and over roles (see `of_panel`).

    Parameters
    ----------
    run : Run
    model : str
        ``<head>:<modalities>``.
    groups : Series by utterance id, optional

    Raises
    ------
    UsageError
        If the run has no such model, or its target is multilabel.
    """
    check_kind(run)
    predictions = run.predictions
    rows = predictions[predictions["model"] == model]
    if rows.empty:
        known = ", ".join(dict.fromkeys(predictions["model"].astype(str)))
        raise UsageError(f"{called(run)}: no model {model!r}; it has {known}")
    classes = () if run.kind == "interval" else run.classes
    if run.info.get("views_by_fold"):
        rows = averaged_over_partitions(rows, run.kind, classes)
    truth, outputs = read_outcomes(rows, run.kind, classes)
    cell = rows.groupby(["partition", "fold", "utterance_id"], sort=False).ngroup().to_numpy()
    first = np.unique(cell, return_index=True)[1]
    return Predicted(
        f"{run.name}: {model}" if run.name else model,
        run.kind,
        classes,
        rows[["partition", "fold", "utterance_id"]].iloc[first].reset_index(drop=True),
        truth[first],
        sums_by(cell, outputs.reshape(len(rows), -1)) / np.bincount(cell)[:, None],
        groups,
    )


def paired(first: Predicted, second: Predicted) -> tuple[Predicted, Predicted]:
    """Return two models on the cells that both have, in the same order.

    Raises
    ------
    UsageError
        If kind or classes of the target differ, no utterance is shared, a shared one has another truth, no partition is
        shared, or shared utterances lie in other folds.
    """
    both = f"{first.name} and {second.name}"
    if (first.kind, first.classes) != (second.kind, second.classes):
        of = " and ".join(f"{o.kind} ({', '.join(o.classes) or 'values'})" for o in (first, second))
        raise UsageError(f"{both} have different targets, {of}; compare runs with one --target")
    a, b = (o.cells.assign(row=np.arange(len(o.cells))) for o in (first, second))
    ids = set(a["utterance_id"]), set(b["utterance_id"])
    n_shared = len(ids[0] & ids[1])
    of_all = f"{n_shared:,} of {len(ids[0]):,} and {len(ids[1]):,} utterances"
    if not n_shared:
        raise UsageError(f"{both} share no utterance; compare runs of one corpus")
    cells = a.merge(b, on=["partition", "utterance_id"], suffixes=("", "_second"), validate="one_to_one")
    if cells.empty:
        raise UsageError(f"{both} share {of_all}, but no partition; fit both with the same folds")
    rows = cells["row"].to_numpy(), cells["row_second"].to_numpy()
    moved = int((cells["fold"] != cells["fold_second"]).sum())
    if moved:
        raise UsageError(
            f"{both} share {of_all}, but have other folds: {moved:,} of {len(cells):,} shared rows are in another one; "
            "fit both with the same folds"
        )
    differ = ~np.isclose(first.truth[rows[0]], second.truth[rows[1]])
    if differ.any():
        which = cells["utterance_id"].iloc[int(differ.argmax())]
        raise UsageError(
            f"{both} have different targets: {int(differ.sum()):,} of {len(cells):,} shared rows, such as "
            f"{which}, have another truth; compare runs with one --target"
        )
    return _taken(first, rows[0]), _taken(second, rows[1])


def _taken(model: Predicted, rows: NDArray[np.intp]) -> Predicted:
    cells = model.cells.iloc[rows].reset_index(drop=True)
    return replace(model, cells=cells, truth=model.truth[rows], outputs=model.outputs[rows])


def called(run: Run) -> str:
    """Return how messages call a run."""
    return f"run {run.name!r}" if run.name else "the run"
