"""What disagreement adds to confidence, length and duration in telling which utterances are contested.

Conventions
-----------
Low confidence goes with ambiguity, and with disagreement. So the link of disagreement with ambiguity is set beside
*these scores*: entropy and margin of the fusion and of every unimodal (averaged over seeds, then over partitions),
and, where they are known, length (words) and duration (seconds), both as ``log(1 + x)``. Each enters with its square,
so that a bend is not credited to disagreement.

Two ridge-penalised logistic regressions say how probable it is that an utterance is contested: one from these scores,
one from these and the scores of disagreement. Both are fitted without the groups that they are applied to
(`analysis.cross_fitting`). With held-out probabilities ``q``:

- ``log loss added``: mean of the log loss without disagreement minus that with it, in nats; above 0 where disagreement
  adds to these scores. What adds nothing costs a little, so that the expectation is below 0 then: this is a careful
  test, and with few rows it misses what the partial correlation finds. Tested by flipping the signs of whole groups.
- ``AUROC added``: that of the second minus that of the first, each within folds and averaged, since folds have models
  of their own.
- ``partial correlation``: of the first score of disagreement and being contested, with these scores taken out of both
  by least squares, over all rows. Tested as by Freedman and Lane, with residuals moved group by group.
- ``AUROC, matched``: the chance that of a contested and an uncontested utterance *of the same group and the same decile
  of the fusion's confidence* (its highest probability; deciles over all rated utterances) the contested one has more
  disagreement; ties count half. All such pairs count the same. Tested by flipping whole groups.
  Within a decile confidence still varies a little.

This says what disagreement adds to these scores as they enter here. It does not say that it is independent of
confidence: scores are noisy, and two noisy signs of one ambiguity add to each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.ambiguity.ratings import Floats
from mixed_signals.analysis.cross_fitting import cross_fit, standardised
from mixed_signals.analysis.disagreement.distances import entropy
from mixed_signals.analysis.inference import Test, freedman_lane, sign_flip, with_test
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.scores import DECILES, deciles, top_margin
from mixed_signals.models.areas import mean_areas
from mixed_signals.models.intervals import (
    Interval,
    blocks_jackknife,
    group_codes,
    mean_interval,
    ratio_interval,
    sums_interval,
)
from mixed_signals.models.measures import pearson

FEWEST_CONTESTED = 20

Flags = NDArray[np.bool_]


def confidence_scores(panel: Panel) -> pd.DataFrame:
    """Return entropy (bits) and margin (highest less second probability) of each model, shape (N, 2 (M + 1))."""
    scores = {}
    for model in panel.models:
        p = panel.seed_mean(model)
        scores[f"entropy {model}"] = entropy(p).mean(axis=0)
        scores[f"margin {model}"] = top_margin(p).mean(axis=0)
    return pd.DataFrame(scores)


def length_scores(utterances: pd.DataFrame, ids: NDArray[np.object_]) -> pd.DataFrame:
    """Return ``log(1 + words)`` and ``log(1 + seconds)`` of utterances, shape (N, 0 to 2): what all of them have.

    Parameters
    ----------
    utterances : DataFrame by utterance id
        With ``text``, ``start`` and ``end``, or without.
    ids : array of str, shape (N,)
    """
    mine = utterances.reindex(ids)
    scores = {}
    if "text" in mine:
        text = mine["text"].fillna("").astype(object)
        if (text != "").any():
            scores["words"] = np.log1p(np.array([len(one.split()) for one in text], dtype=np.float64))
    if {"start", "end"} <= set(mine.columns):
        seconds = (mine["end"].astype(np.float64) - mine["start"].astype(np.float64)).to_numpy()
        if np.isfinite(seconds).all():
            scores["seconds"] = np.log1p(np.maximum(seconds, 0.0))
    return pd.DataFrame(scores, index=range(len(ids)))


def loss(contested: Flags, q: Floats) -> Floats:
    """Return the log loss of each row in nats, shape (N,)."""
    return -np.log(np.clip(np.where(contested, q, 1 - q), 1e-12, None))


def matched_pairs(score: Floats, contested: Flags, strata: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return, for each contested row, the uncontested rows of its stratum that score less, and how many there are.

    Parameters
    ----------
    score : array of float, shape (N,)
    contested : array of bool, shape (N,)
    strata : array of int, shape (N,)

    Returns
    -------
    below, pairs : arrays of shape (N,)
        Ties count half; 0 for rows that are not contested. ``below.sum() / pairs.sum()`` is the AUROC over pairs within
        strata.

    Examples
    --------
    >>> below, pairs = matched_pairs(np.array([3.0, 1, 9]), np.array([True, False, False]), np.array([0, 0, 1]))
    >>> below.tolist(), pairs.tolist()
    ([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    """
    table = pd.DataFrame({"score": score, "stratum": strata, "contested": contested})
    rank = table.groupby("stratum")["score"].rank().to_numpy()
    own = table.groupby(["stratum", "contested"])["score"].rank().to_numpy()
    others = np.bincount(strata, weights=~contested)[strata]
    return np.where(contested, rank - own, 0.0), np.where(contested, others, 0.0)


def control_table(
    contested: Flags,
    base: pd.DataFrame,
    disagreement: pd.DataFrame,
    confidence: Floats,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame | str:
    """Return what disagreement adds to these scores, or why that cannot be said.

    Parameters
    ----------
    contested : array of bool, shape (N,)
    base : DataFrame, shape (N, B)
        These scores.
    disagreement : DataFrame, shape (N, D)
        The first column is that of the partial correlation and of the matched AUROC.
    confidence : array of float, shape (N,)
        The fusion's.
    groups : array of shape (N,) or None
    resamples, seed : int
        Of intervals and tests.

    Returns
    -------
    DataFrame
        ``quantity, estimate, low, high, p, n, n_groups, method``; without groups there is no matched AUROC.
    """
    n = min(int(contested.sum()), int((~contested).sum()))
    if n < FEWEST_CONTESTED:
        which = "contested" if contested.sum() <= n else "uncontested"
        return f"only {n} {which} utterances, at least {FEWEST_CONTESTED} are needed"
    Z = standardised(base.to_numpy(np.float64))
    these = np.column_stack([Z, Z**2])
    designs = [these, np.column_stack([these, disagreement.to_numpy(np.float64)])]
    fitted = cross_fit(contested, designs, groups, seed=seed)
    if fitted is None or not fitted.complete:
        return "contested utterances are in too few groups to hold groups out"
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    rows: list[dict[str, Any]] = []

    def add(quantity: str, found: Interval, test: Test | None = None) -> None:
        rows.append({"quantity": quantity, **with_test(found, test)})

    without, added = (loss(contested, q) for q in fitted.chances.T)
    add("log loss, these scores", mean_interval(without, groups, limits=(0, np.inf), **options))
    add("log loss, with disagreement", mean_interval(added, groups, limits=(0, np.inf), **options))
    gain = without - added
    add(
        "log loss added",
        mean_interval(gain, groups, **options),
        sign_flip(gain, groups, **options),
    )

    def three_areas(blocks: NDArray[np.intp]) -> Floats:
        first, second = (
            mean_areas(q[:, None], contested[:, None], fitted.fold, blocks).auroc for q in fitted.chances.T
        )
        return np.array([first, second, second - first])

    names = ("AUROC, these scores", "AUROC, with disagreement", "AUROC added")
    for name, found in zip(
        names, blocks_jackknife(three_areas, len(contested), groups, limits=(-1, 1)), strict=True
    ):
        add(name, found)

    covariates = np.column_stack([np.ones(len(these)), these])
    score = disagreement.iloc[:, 0].to_numpy(np.float64)
    pair = np.column_stack([score, contested])
    rest = pair - covariates @ np.linalg.lstsq(covariates, pair, rcond=None)[0]
    measure = pearson(rest[:, 0], rest[:, 1])
    add(
        "partial correlation",
        sums_interval(measure.function, measure.columns, groups, limits=measure.limits, **options),
        freedman_lane(contested.astype(np.float64), score, covariates[:, 1:], groups, **options),
    )

    if groups is not None:
        strata = group_codes(groups, len(score)) * DECILES + deciles(confidence)
        below, pairs = matched_pairs(score, contested, strata)
        found = ratio_interval(below, pairs, groups, limits=(0, 1), **options)
        add("AUROC, matched", found, sign_flip(below - pairs / 2, groups, **options))
    return pd.DataFrame(rows)
