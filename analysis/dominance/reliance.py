"""What the fusion loses, and what it decides, when a modality of its held-out rows is permuted or exchanged.

Conventions
-----------
Scores of rows are those of outputs averaged over seeds, then of partitions: right or wrong (1 or 0), and of an interval
target 1 - squared error / variance of the truth, whose mean is R squared.

- *Permutation* ("perceptual") score of a modality (Gat, Schwartz and Schwing 2021): mean score minus mean score when
  the modality is permuted over the test rows of each fold, averaged over `PERMUTATIONS` permutations; *normalised* it
  is divided by the score (their normalisation by the model).
- *Exchange*: each row gets the modality of a random row of another class c, of the same group and fold, and, as
  control, that of another row of its own class. The fusion *follows* where its decision is c after the exchange; the
  control is how often it is that same c after the exchange within the class. Rows that have no such partner are left
  out. An interval target has two "classes", below and above the median; the fusion follows where its value moves
  towards that of the donor's class, and how far it moves, in deviations of the truth, stands for whether its decision
  changes.

Both are made with at most `MOST_SEEDS` trainings of the fusion, on at most `MOST_ROWS` utterances drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixed_signals.analysis.dominance.additivity import Projection, centred_logs, project
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.perturbing import (
    HeldOut,
    Vectors,
    draw_donors,
    exchange,
    kinds_of,
    permute,
)
from mixed_signals.analysis.scores import wrong
from mixed_signals.analysis.study import Study

MOST_ROWS = 2000
MOST_SEEDS = 3
PERMUTATIONS = 3
PROJECTED_ROWS = 500
PROJECTION_DRAWS = 30
_PROJECTED_VALUES = 6e7  # that are put before a head for one projection


@dataclass(frozen=True)
class Exchanged:
    """What the fusion made of one modality's exchange, for the n rows that have both partners; averages of partitions.

    Attributes
    ----------
    rows : array of int, shape (n,)
        Of the panel.
    follows, control : array, shape (n,)
        How often it follows the row of another class; and after the exchange within the class.
    changes, control_changes : array, shape (n,)
        How often its decision changes (interval: how far its value moves).
    """

    rows: NDArray[np.intp]
    follows: NDArray[np.float64]
    control: NDArray[np.float64]
    changes: NDArray[np.float64]
    control_changes: NDArray[np.float64]


def open_fusion(study: Study, panel: Panel) -> HeldOut:
    """Return the fusion's held-out heads, of the first trainings, and a random part of the rows where these are many.

    Raises
    ------
    UsageError
        See `HeldOut`.
    """
    n = len(panel.ids)
    rows = np.zeros(n, dtype=bool)
    rows[np.random.default_rng(study.seed).permutation(n)[:MOST_ROWS]] = True
    return HeldOut(study, panel, FUSION, panel.seeds[:MOST_SEEDS], rows)


def goodness(panel: Panel, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's score for outputs (P, S, N, C), shape (N,): see the module's conventions."""
    return np.asarray((1 - wrong(panel, outputs.mean(axis=1))).mean(axis=0))


def unchanged(held: HeldOut) -> NDArray[np.float64]:
    """Return the run's own outputs of the trainings whose heads are held, shape (P, S, N, C)."""
    panel = held.panel
    return panel.outputs[held.model][:, [panel.seeds.index(seed) for seed in held.seeds]]


def permuted_scores(held: HeldOut, modality: str) -> NDArray[np.float64]:
    """Return the scores of the rows asked for when a modality is permuted, mean of permutations, shape (n,)."""
    found = [goodness(held.panel, held.said(permute(modality), draw)) for draw in range(PERMUTATIONS)]
    return np.asarray(np.mean(found, axis=0)[held.rows])


def exchanged(held: HeldOut, modality: str) -> Exchanged | None:
    """Return what the fusion makes of rows with another row's modality; None where no row has partners."""
    panel = held.panel
    others, own = _donors(held, same=False), _donors(held, same=True)
    usable = held.rows & (others >= 0).all(axis=0) & (own >= 0).all(axis=0)
    if not usable.any():
        return None
    rows = np.flatnonzero(usable)
    before = unchanged(held).mean(axis=1)[:, rows]
    after = held.said(exchange(modality, others)).mean(axis=1)[:, rows]
    control = held.said(exchange(modality, own)).mean(axis=1)[:, rows]
    towards = kinds_of(panel)[others[:, rows]]
    if panel.kind == "interval":
        direction = np.where(towards > 0, 1, -1)
        moved, moved_control = ((each - before)[..., 0] for each in (after, control))
        measures = (
            moved * direction > 0,
            moved_control * direction > 0,
            np.abs(moved) / panel.deviation,
            np.abs(moved_control) / panel.deviation,
        )
    else:
        decided, kept, was = (each.argmax(axis=-1) for each in (after, control, before))
        measures = (decided == towards, kept == towards, decided != was, kept != was)
    return Exchanged(rows, *(np.asarray(each).mean(axis=0) for each in measures))


def _donors(held: HeldOut, *, same: bool) -> NDArray[np.intp]:
    """Return a row of the same group and fold for each partition and row, shape (P, N), -1 where there is none."""
    panel = held.panel
    groups, kinds = panel.group_numbers(), kinds_of(panel)
    rng = np.random.default_rng([held.study.seed, int(same)])
    return np.stack(
        [draw_donors(kinds, groups * (folds.max() + 2) + folds + 1, rng, same=same) for folds in panel.folds]
    )


@dataclass(frozen=True)
class Projected:
    """The additive projection of one head on rows that it has not seen.

    Attributes
    ----------
    rows : array of int, shape (n,)
        Of the panel.
    projection : Projection
    full, additive : array, shape (n,)
        Scores of the head, and of its projection.
    changed : array of bool, shape (n,), or None
        Where the projection decides otherwise; None of an interval target.
    error : float
        Standard error that the draws leave in the mean of `additive`, 0 where all pairs were taken.
    n_draws : int
        0 where all pairs were taken.
    """

    rows: NDArray[np.intp]
    projection: Projection
    full: NDArray[np.float64]
    additive: NDArray[np.float64]
    changed: NDArray[np.bool_] | None
    error: float
    n_draws: int


def projected(held: HeldOut) -> Projected:
    """Return the additive projection of the first training's head of the first fold, on up to 500 of its test rows.

    Fewer rows where the feature sets are so wide that the pairs would take long.
    """
    panel, study = held.panel, held.study
    about, X = next(iter(held.parts()))
    head = held.heads[about.fold.partition, about.fold.fold][0]
    blocks = {m: about.blocks[m] for m in panel.unimodals}
    n_draws = 0 if len(blocks) == 2 else PROJECTION_DRAWS
    affordable = _PROJECTED_VALUES / X.shape[1]
    most = np.sqrt(affordable) if n_draws == 0 else affordable / (n_draws * (len(blocks) + 1))
    rng = np.random.default_rng(study.seed)
    taken = np.sort(rng.permutation(len(X))[: max(2, min(PROJECTED_ROWS, int(most)))])
    rows, nominal = about.rows[taken], panel.kind != "interval"
    known = [panel.classes.index(str(label)) for label in head.coding_.classes] if nominal else [0]

    def function(vectors: Vectors) -> NDArray[np.float64]:
        said = held.outputs(about, vectors, [head])[0][:, known]
        return centred_logs(said) if nominal else said

    found = project(function, X[taken], blocks, n_draws, rng)

    def scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
        said = np.array(known)[values.argmax(axis=1)] if nominal else values
        return 1 - wrong(panel, np.eye(len(panel.classes))[said] if nominal else values, rows)

    changed = found.full.argmax(axis=1) != found.additive.argmax(axis=1) if nominal else None
    error = found.error(lambda values: float(scores(values).mean()))
    return Projected(rows, found, scores(found.full), scores(found.additive), changed, error, n_draws)
