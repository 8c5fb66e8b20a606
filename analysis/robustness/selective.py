"""Abstaining: what is gained by leaving out the utterances that a score doubts most (risk-coverage).

Conventions
-----------
A *doubt* is a score that is higher where the fusion should rather abstain. The ``N`` utterances are accepted in the
order of rising doubt; ``L_k`` is the loss of the first ``k``, summed. Coverage is ``k / N``, and::

    risk at k              = L_k / k
    generalised risk at k  = L_k / N
    AURC                   = sum_{k = 1..N} L_k / k / N
    AUGRC                  = sum_{k = 1..N} (L_{k-1} + L_k) / 2 / N^2

AURC is the mean of the selective risks (Geifman and El-Yaniv 2017; Geifman, Uziel and El-Yaniv 2019). AUGRC is the area
under the generalised risk (Traub et al. 2024) by the trapezoid rule from coverage 0 on, which for losses of 0 and 1
makes their identity exact: ``AUGRC = (1 - AUROC) a (1 - a) + (1 - a)^2 / 2``, with the accuracy ``a`` and the AUROC of
the doubt for errors. Both are losses: lower is better.

Tied utterances stand in random order, and both areas are the expectation over these orders, in closed form. A tied run
of ``m`` utterances with loss ``E`` after ``K`` others with loss ``L`` adds ``(L + t E / m) / (K + t)``, ``t = 1..m``,
which is ``E + (L - K E / m) (H_{K+m} - H_K)`` with the harmonic numbers ``H``; its mean place does the same for AUGRC.

The *oracle* accepts in the order of the loss itself, *random* accepts without any order: what can be had at best, and
for nothing.

The loss of nominal and ordinal targets is 0 or 1 (the fusion's label is wrong); that of interval targets is the squared
and the absolute error. Outputs are averaged over seeds and partitions first.

=========================  ============================================================================================
confidence                 1 - the fusion's highest probability
entropy                    of the fusion's probabilities, in bits
margin                     1 - the difference of the fusion's two highest probabilities
divergence                 Jensen-Shannon divergence of all unimodal models (Lin 1991), in bits
labels                     number of different labels among the unimodal models
confidence and divergence  chance of an error, by logistic regression on the log-odds of the highest probability and on
                           the divergence, fitted on other groups (cross-fitted)
spread                     interval targets: standard deviation of the unimodal models' values, in those of the truth
=========================  ============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.cross_fitting import cross_fit
from mixed_signals.analysis.disagreement.distances import entropy, n_labels, unimodal_divergence
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.scores import Floats, confidence, row_scores, top_margin
from mixed_signals.models.intervals import UNLIMITED, blocks_jackknife, group_codes
from mixed_signals.store.errors import UsageError

CONFIDENCE, DIVERGENCE, SPREAD = "confidence", "divergence", "spread"
BOTH = "confidence and divergence"
ORACLE, RANDOM = "oracle", "random"
MEASURES = ("AURC", "AUGRC")
MOST_POINTS = 200
_CELLS = 2**18  # of a table of counts, blocks x levels: what the processor's cache holds


class SelectiveAreas(NamedTuple):
    """Areas of all utterances, then without each block of them, shape (B + 1,) each."""

    aurc: Floats
    augrc: Floats


def validate(loss: ArrayLike, doubt: ArrayLike) -> tuple[Floats, Floats]:
    """Return losses and doubts as arrays of one length.

    Raises
    ------
    UsageError
        If they are empty, not of one length, or not finite, or a loss is negative.
    """
    losses, doubts = np.asarray(loss, dtype=np.float64), np.asarray(doubt, dtype=np.float64)
    if losses.ndim != 1 or losses.shape != doubts.shape or not losses.size:
        raise UsageError(
            f"risk-coverage: losses {losses.shape} and doubts {doubts.shape}; give one of each for every utterance"
        )
    if not (np.isfinite(losses).all() and np.isfinite(doubts).all() and losses.min() >= 0):
        raise UsageError("risk-coverage: losses and doubts must be finite, and losses not negative")
    return losses, doubts


def risk_coverage(loss: ArrayLike, doubt: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return the risk-coverage curve, expected over the orders of tied utterances.

    Parameters
    ----------
    loss : array-like of float, shape (N,)
    doubt : array-like of float, shape (N,)
        Higher where the model should rather abstain.

    Returns
    -------
    coverage, risk, generalised risk : arrays of float, shape (N,)
        Geifman and El-Yaniv (2017); Traub et al. (2024).

    Examples
    --------
    >>> coverage, risk, _ = risk_coverage([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.3])
    >>> risk.round(2).tolist()
    [0.0, 0.0, 0.33, 0.5]
    """
    losses, doubts = validate(loss, doubt)
    n = len(losses)
    level = np.unique(doubts, return_inverse=True)[1]
    expected = (np.bincount(level, weights=losses) / np.bincount(level))[np.sort(level)].cumsum()
    accepted = np.arange(1, n + 1)
    return accepted / n, expected / accepted, expected / n


def selective_areas(
    loss: ArrayLike, doubt: ArrayLike, blocks: NDArray[np.intp] | None = None
) -> SelectiveAreas:
    """Return AURC and AUGRC, expected over the orders of tied utterances, of all and without each block.

    Utterances are ordered once: a block changes both areas through counts and losses by level of doubt alone, and its
    share is taken off.

    Parameters
    ----------
    loss, doubt : array-like of float, shape (N,)
    blocks : array of int, shape (N,), optional
        Number of each utterance's block, from 0 on.

    Examples
    --------
    >>> selective_areas([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.3]).augrc.tolist()
    [0.125]
    >>> selective_areas([0, 1], [0.5, 0.5]).aurc.tolist()  # the mean of (1 + 1/2) / 2 and (0 + 1/2) / 2
    [0.5]
    """
    losses, doubts = validate(loss, doubt)
    level = np.unique(doubts, return_inverse=True)[1]
    width = int(level.max()) + 1
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, len(losses) + 1))])
    counts, sums = np.bincount(level), np.bincount(level, weights=losses)
    found = [_from_levels(counts[None], sums[None], harmonic)]
    if blocks is not None:
        n_blocks = int(blocks.max()) + 1
        order = np.argsort(blocks, kind="stable")
        step = max(1, _CELLS // width)
        starts = np.searchsorted(blocks[order], np.arange(0, n_blocks + step, step))
        for first, rows in zip(range(0, n_blocks, step), np.split(order, starts[1:-1]), strict=True):
            n = min(step, n_blocks - first)
            cell = (blocks[rows] - first) * width + level[rows]
            gone = np.bincount(cell, minlength=n * width).reshape(n, width)
            lost = np.bincount(cell, weights=losses[rows], minlength=n * width).reshape(n, width)
            found.append(_from_levels(counts - gone, np.maximum(sums - lost, 0.0), harmonic))
    return SelectiveAreas(*np.concatenate(found, axis=1))


def _from_levels(counts: NDArray[np.intp], losses: NDArray[Any], harmonic: Floats) -> Floats:
    """Return both areas for counts and summed losses by level of doubt, (B, J) each; NaN where nothing is left."""
    after = counts.cumsum(axis=1)
    before = after - counts
    lost_before = losses.cumsum(axis=1) - losses
    rate = losses / np.maximum(counts, 1)
    n = after[:, -1].astype(np.float64)
    risks = losses + (lost_before - before * rate) * (harmonic[after] - harmonic[before])
    places = losses * (n[:, None] - before - counts / 2)
    with np.errstate(invalid="ignore"):
        return np.array([risks.sum(axis=1) / n, places.sum(axis=1) / n**2])


def combined_doubt(error: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> Floats:
    """Return the chance of an error by logistic regression on scores, each utterance's fitted on other groups.

    See `analysis.cross_fitting`.

    Parameters
    ----------
    error : array-like of bool, shape (N,)
    scores : array-like of float, shape (N, K)
    groups : array-like of str, shape (N,), or None

    Raises
    ------
    UsageError
        If there is a single group.
    """
    fitted = cross_fit(error, [scores], groups)
    if fitted is None:
        raise UsageError("one group: scores are combined on held-out groups, two or more are needed")
    return fitted.chances[:, 0]


def losses_of(panel: Panel) -> dict[str, Floats]:
    """Return the fusion's losses by name, each of shape (N,)."""
    scores = row_scores(panel, panel.mean(FUSION))
    if panel.kind == "interval":
        return {name: scores[name].by_row for name in ("squared error", "absolute error")}
    return {"error": 1 - scores["accuracy"].by_row}


def doubts_of(panel: Panel) -> dict[str, Floats]:
    """Return the doubts by name, each of shape (N,); their combination only where there are two groups."""
    apart = unimodal_divergence(panel)
    if panel.kind == "interval":
        return {SPREAD: apart}
    said, first = panel.mean(FUSION), confidence(panel)
    doubts = {
        CONFIDENCE: 1 - first,
        "entropy": entropy(said),
        "margin": 1 - top_margin(said),
        DIVERGENCE: apart,
        "labels": n_labels([panel.mean(m).argmax(axis=1) for m in panel.unimodals]).astype(np.float64),
    }
    if len(np.unique(group_codes(panel.groups, len(panel.ids)))) > 1:
        sure = np.clip(first, 1e-6, 1 - 1e-6)
        scores = np.column_stack([np.log(sure / (1 - sure)), apart])
        doubts[BOTH] = combined_doubt(losses_of(panel)["error"] > 0, scores, panel.groups)
    return doubts


def selective_table(panel: Panel, doubts: Mapping[str, Floats] | None = None) -> pd.DataFrame:
    """Return the areas of every doubt, with delete-a-group jackknife intervals.

    Parameters
    ----------
    panel : Panel
    doubts : mapping of str to array of shape (N,), optional
        From `doubts_of`, made here if not given.

    Returns
    -------
    DataFrame
        ``head, loss, score, against, measure, estimate, low, high, n, n_groups, method, over_oracle, over_random``. The
        estimate is the area or, where `against` names another score, the area less the area of that; the last two
        columns say by how much an area exceeds those of the oracle and of random order (below 0: better than random).
        Intervals take the scores as they are: how the combination was fitted does not vary.
    """
    doubts = doubts_of(panel) if doubts is None else doubts
    rows: list[dict[str, object]] = []
    for loss, values in losses_of(panel).items():
        every = {**doubts, ORACLE: values, RANDOM: np.zeros(len(values))}
        names = list(every)
        contrasts = [(BOTH, CONFIDENCE), (DIVERGENCE, CONFIDENCE)] if BOTH in every else []
        if SPREAD in every:
            contrasts = [(SPREAD, RANDOM)]

        def areas(
            blocks: NDArray[np.intp],
            values: Floats = values,
            every: dict[str, Floats] = every,
            contrasts: list[tuple[str, str]] = contrasts,
        ) -> Floats:
            found = {name: np.array(selective_areas(values, doubt, blocks)) for name, doubt in every.items()}
            less = [found[first] - found[second] for first, second in contrasts]
            return np.concatenate([*found.values(), *less])

        intervals = iter(blocks_jackknife(areas, len(values), panel.groups, limits=UNLIMITED))
        mine = []
        for score, against in [*((name, "") for name in names), *contrasts]:
            for measure in MEASURES:
                named = {"head": panel.head, "loss": loss, "score": score, "against": against}
                interval = vars(next(intervals))
                if not against:
                    interval["low"] = np.maximum(interval["low"], 0.0)
                mine.append({**named, "measure": measure, **interval})
        edge = {(r["score"], r["measure"]): r["estimate"] for r in mine if not r["against"]}
        for row in mine:
            for name in (ORACLE, RANDOM):
                over = row["estimate"] - edge[name, row["measure"]]
                row[f"over_{name}"] = np.nan if row["against"] else over
        rows += mine
    return pd.DataFrame(rows)


def curve_table(panel: Panel, doubts: Mapping[str, Floats] | None = None) -> pd.DataFrame:
    """Return risk-coverage curves for a plot, each of at most `MOST_POINTS` points.

    Parameters
    ----------
    panel, doubts
        As for `selective_table`.

    Returns
    -------
    DataFrame
        ``head, loss, score, coverage, risk, generalised_risk``, the oracle's among them.
    """
    doubts = doubts_of(panel) if doubts is None else doubts
    n = len(panel.ids)
    shown = np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).round().astype(int))
    parts = []
    for loss, values in losses_of(panel).items():
        for score, doubt in {**doubts, ORACLE: values}.items():
            points = (points[shown] for points in risk_coverage(values, doubt))
            columns = dict(zip(("coverage", "risk", "generalised_risk"), points, strict=True))
            parts.append(pd.DataFrame({"head": panel.head, "loss": loss, "score": score, **columns}))
    return pd.concat(parts, ignore_index=True)
