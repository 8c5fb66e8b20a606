"""How far raters agree: Krippendorff's alpha, and how far half of the votes tells the other half.

Conventions
-----------
Krippendorff's alpha is ``1 - D_o / D_e``, observed over expected disagreement of two votes (Krippendorff 2019, Content
Analysis, 4th edition, chapter 12), in its form for any number of votes by utterance: 1 for full agreement, 0 for that
of votes dealt out at random. It is a function of sums over utterances, and so are the correlations of halves; their
intervals are those of `mixed_signals.models.intervals.sums_interval`: over the groups of the utterances, with the
raters as they are.

What is said here is said of the ratings alone, in the condition that `analysis.ambiguity.ratings` counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixed_signals.analysis.ambiguity.ratings import (
    ConditionVotes,
    Floats,
    condition_votes,
    contested,
    entropy_bias_bound,
    split_halves,
    variance,
    vote_entropy,
    vote_table,
)
from mixed_signals.analysis.findings import Answer, finding, with_interval
from mixed_signals.analysis.study import Study, group_column
from mixed_signals.models.intervals import SHARE, Limits, mean_interval, sums_interval
from mixed_signals.models.measures import Measure
from mixed_signals.store.terminal import counted

FEWEST_SPLIT = 4  # votes, so that each half has two
AGREEMENT = "How far do the raters agree?"
SPLITS = 20
NO_RATINGS = "The corpus has no ratings: nothing is said of what people find ambiguous."


def coincidences(counts: ArrayLike) -> Floats:
    """Return each utterance's share of the coincidence matrix, ``(n_c n_k - [c = k] n_c) / (n - 1)``.

    Parameters
    ----------
    counts : array-like of shape (N, K)
        Two votes or more in each row.

    Returns
    -------
    array of shape (N, K, K)
        Symmetric; the entries of an utterance sum to its votes.
    """
    counts = np.asarray(counts, dtype=np.float64)
    pairs = counts[:, :, None] * counts[:, None, :]
    k = np.arange(counts.shape[1])
    pairs[:, k, k] -= counts
    return pairs / (counts.sum(axis=1) - 1)[:, None, None]


def alpha(counts: ArrayLike, level: str, numbers: ArrayLike | None = None) -> Measure:
    """Return Krippendorff's alpha as a function of sums over utterances.

    With the coincidence matrix ``o``, its margins ``m_c`` and ``n = sum_c m_c``::

        nominal            1 - (n - 1) (n - sum_c o_cc) / (n^2 - sum_c m_c^2)
        ordinal, interval  1 - (n - 1) (sum_c m_c x_c^2 - sum_ck x_c o_ck x_k)
                                     / (n sum_c m_c x_c^2 - (sum_c m_c x_c)^2)

    both of which are ``1 - (n - 1) sum_ck o_ck d_ck / sum_ck m_c m_k d_ck``, with ``d_ck = [c != k]`` or
    ``(x_c - x_k)^2``. Interval ratings have their numbers for ``x``, and the first bracket is then
    ``sum_u n_u s_u^2``, with the variance ``s_u^2`` within each utterance, so that no matrix of all numbers is needed.
    Ordinal ones have the mid-rank ``sum_{g < c} m_g + m_c / 2``.

    Parameters
    ----------
    counts : array-like of shape (N, K)
        Votes; for `ordinal` the values rise with the columns. Two votes or more in each row.
    level : str
        nominal, ordinal or interval.
    numbers : array-like of shape (N, K) or (K,), optional
        For `interval`: the number of each cell.

    Returns
    -------
    Measure
        ``function(columns.sum(axis=0))`` is alpha, 1 for full agreement and 0 for that of chance; NaN where all votes
        are for one value.

    Examples
    --------
    >>> measure = alpha([[2, 0], [1, 1], [0, 3]], "nominal")
    >>> round(float(measure.function(measure.columns.sum(axis=0))), 3)
    0.5
    """
    counts = np.asarray(counts, dtype=np.float64)
    if level == "interval":
        x = np.broadcast_to(np.asarray(numbers, dtype=np.float64), counts.shape)
        x = x - np.sum(counts * x) / max(1.0, counts.sum())
        n = counts.sum(axis=1)
        within = n * variance(counts, x)
        columns = np.column_stack([n, within, np.sum(counts * x, axis=1), np.sum(counts * x * x, axis=1)])

        def of_moments(sums: Floats) -> Floats:
            n, within, total, squares = np.moveaxis(sums, -1, 0)
            return _one_minus((n - 1) * within, n * squares - total**2)

        return Measure(columns, of_moments, (-1.0, 1.0))

    n_values = counts.shape[1]

    def of_matrix(sums: Floats) -> Floats:
        o = sums.reshape(*sums.shape[:-1], n_values, n_values)
        margin = o.sum(axis=-1)
        n = margin.sum(axis=-1)
        if level == "nominal":
            same = np.trace(o, axis1=-2, axis2=-1)
            return _one_minus((n - 1) * (n - same), n**2 - np.sum(margin**2, axis=-1))
        x = np.cumsum(margin, axis=-1) - margin / 2
        x = x - n[..., None] / 2  # the mean of the mid-ranks
        squares = np.sum(margin * x * x, axis=-1)
        products = np.einsum("...c,...ck,...k->...", x, o, x)
        return _one_minus((n - 1) * (squares - products), n * squares - np.sum(margin * x, axis=-1) ** 2)

    return Measure(coincidences(counts).reshape(len(counts), -1), of_matrix, (-1.0, 1.0))


def _one_minus(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 1e-12, 1 - numerator / denominator, np.nan)


def reliability(
    votes: ConditionVotes,
    groups: ArrayLike | None = None,
    *,
    splits: int = SPLITS,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, dict[str, Any]]:
    """Return how far ``A`` of half of the votes tells that of the other half.

    With ``A_1`` and ``A_2`` of random halves, and means, variances and covariances over utterances and splits:

    - ``halves``: ``cov(A_1, A_2) / var(A_1 or A_2)``, their correlation.
    - ``spearman_brown``: ``2 r / (1 + r)``, what it were for twice the votes (Spearman 1910, Brown 1910, British
      Journal of Psychology 3). It holds for the mean of ``A_1`` and ``A_2``. ``A`` of all votes is the expectation of
      that mean over splits, so it is at least as reliable.
    - ``reliability``: ``cov(A_1, A_2) / var(A)``, the share of the variance of ``A`` that is not noise of the votes.
    - ``ceiling``: its root. No score that is made without these votes correlates with ``A`` by more.

    Parameters
    ----------
    votes : ConditionVotes
        Utterances with fewer than `FEWEST_SPLIT` votes are left out.
    groups : array-like of shape (N,) or None
    splits : int
        Random halvings; the interval takes them as given.
    seed : int
    resamples : int
        Of groups.

    Returns
    -------
    dict of str to dict
        By quantity: ``quantity, estimate, low, high, n, n_groups, method``.
    """
    enough = votes.n >= FEWEST_SPLIT
    votes = votes.select(enough)
    by = None if groups is None else np.asarray(groups, dtype=object)[enough]
    rng = np.random.default_rng(seed)
    product, square = np.zeros(len(votes.ids)), np.zeros(len(votes.ids))
    for _ in range(splits):
        one, other = (votes.spread(half) for half in split_halves(votes.counts, rng))
        product += one * other / splits
        square += (one**2 + other**2) / (2 * splits)
    whole = votes.ambiguity
    columns = np.column_stack([np.ones(len(whole)), whole, whole**2, product, square])

    def ratio(sums: Floats, denominator: int) -> Floats:
        n, mean, *_ = np.moveaxis(sums, -1, 0)
        below = sums[..., denominator] / n - (mean / n) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(below > 1e-12, (sums[..., 3] / n - (mean / n) ** 2) / below, np.nan)

    made: dict[str, tuple[Callable[[Floats], Floats], Limits]] = {
        "halves": (lambda s: ratio(s, 4), (-1.0, 1.0)),
        "spearman_brown": (lambda s: 2 * ratio(s, 4) / (1 + ratio(s, 4)), (-np.inf, 1.0)),
        "reliability": (lambda s: ratio(s, 2), (-np.inf, 1.0)),
        "ceiling": (lambda s: np.sqrt(np.maximum(ratio(s, 2), 0.0)), (0.0, 1.0)),
    }
    return {
        quantity: {
            "quantity": quantity,
            **vars(sums_interval(function, columns, by, limits=limits, resamples=resamples, seed=seed)),
        }
        for quantity, (function, limits) in made.items()
    }


def evaluate(study: Study) -> Answer:
    """Return what the ratings of a study say by themselves, of all rated utterances, predicted by a head or not.

    Returns
    -------
    Answer
        Tables ``votes`` (see `analysis.ambiguity.ratings.vote_table`), ``ambiguity`` (means over utterances),
        ``alpha`` and ``reliability``: ``shown, quantity, estimate, low, high, n, n_groups, method``.
    """
    votes, notes = study_votes(study)
    if votes is None:
        return Answer(notes=notes)
    groups = study.utterances[group_column(study.run)].reindex(votes.ids).fillna("").to_numpy(object)

    means = {
        row["quantity"]: row
        for quantity, (values, limits) in _by_utterance(votes).items()
        for found in [mean_interval(values, groups, limits=limits, **study.resampling)]
        for row in [{"quantity": quantity, **vars(found)}]
    }
    alphas = {}
    for level in levels(votes, study):
        measure = alpha(votes.counts, level, votes.numbers)
        found = sums_interval(
            measure.function, measure.columns, groups, limits=measure.limits, **study.resampling
        )
        alphas[level] = {"quantity": f"alpha, {level}", **vars(found)}
    tables = {"votes": vote_table(votes), "ambiguity": _table(votes, means), "alpha": _table(votes, alphas)}

    shown = f"shown {votes.shown}" if votes.shown else "it is not known what was shown"
    findings = [
        finding(
            AGREEMENT,
            row["quantity"],
            row,
            f"Krippendorff's alpha of the ratings ({level}; {shown}) is {with_interval(row)}.",
        )
        for level, row in alphas.items()
    ]
    if "contested" in means:
        row = means["contested"]
        said = f"In {with_interval(row, '%')} of rated utterances no value has more than half of the votes."
        findings.append(finding(AGREEMENT, row["quantity"], row, said))

    splittable = bool((votes.n >= FEWEST_SPLIT).any())
    if splittable:
        rows = reliability(votes, groups, **study.resampling)
        tables["reliability"] = _table(votes, rows)
        findings.append(
            finding(AGREEMENT, "reliability of A", rows["reliability"], _reliability_verdict(rows))
        )
    else:
        notes.append(
            f"No utterance has {FEWEST_SPLIT} ratings: how reliable their ambiguity is, and so how close any link with "
            "it could come, cannot be said."
        )
    return Answer(tables, findings, notes, _methods(votes, means, splittable=splittable))


def study_votes(study: Study) -> tuple[ConditionVotes | None, list[str]]:
    """Return the votes of a study in its target's terms, or None, and sentences on what is missing or weak."""
    ratings, kind = study.ratings, study.run.kind
    if ratings is None or ratings.empty:
        return None, [NO_RATINGS]
    if kind == "interval" and pd.to_numeric(ratings["value"], errors="coerce").isna().any():
        return None, ["The ratings are not numbers, as the target is: nothing is said of how raters differ."]
    classes = study.run.classes
    votes = condition_votes(ratings, classes, numeric=kind == "interval")
    if not len(votes.ids):
        said = "No utterance has two ratings or more in the fullest condition: nothing is said of how raters differ."
        return None, [said]
    notes = []
    if kind == "ordinal" and "ordinal" not in levels(votes, study):
        notes.append(
            "Some ratings are no class of the target, and so have no order: they are taken as nominal."
        )
    if "rater" in ratings:
        named = ratings[(ratings["rater"].fillna("").astype(object) != "").to_numpy()]
        again = named.duplicated(["utterance_id", "shown", "rater"]) | (named["count"] > 1)
        if again.any():
            notes.append(
                f"{counted(int(again.sum()), 'rating')} of a rater who had rated the same utterance before count as "
                "votes of other raters."
            )
    return votes, notes


def levels(votes: ConditionVotes, study: Study) -> tuple[str, ...]:
    """Return the levels at which alpha has a meaning."""
    if votes.numbers is not None:
        return ("interval",)
    ordered = study.run.kind == "ordinal" and votes.names == study.run.classes
    return ("nominal", "ordinal") if ordered else ("nominal",)


def _by_utterance(votes: ConditionVotes) -> dict[str, tuple[Floats, Limits]]:
    """Return what is averaged over utterances, shape (N,) each, and its limits."""
    from_zero = (0.0, np.inf)
    if votes.numbers is not None:
        return {"variance": (votes.ambiguity, from_zero)}
    return {
        "A": (votes.ambiguity, SHARE),
        "vote entropy": (vote_entropy(votes.counts), from_zero),
        "vote entropy, Miller-Madow": (vote_entropy(votes.counts, miller_madow=True), from_zero),
        "bound of the bias of vote entropy": (entropy_bias_bound(votes.n, len(votes.names)), from_zero),
        "contested": (contested(votes.counts).astype(np.float64), SHARE),
    }


def _table(votes: ConditionVotes, rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows.values()))
    table.insert(0, "shown", votes.shown)
    return table


def _reliability_verdict(rows: Mapping[str, Mapping[str, Any]]) -> str:
    ceiling = rows["ceiling"]["estimate"]
    if np.isnan(ceiling):
        return "The raters' ambiguity does not vary between utterances: nothing can correlate with it."
    return (
        f"The reliability of the raters' ambiguity of an utterance is {with_interval(rows['reliability'])}: no score "
        f"can be expected to correlate with it by more than {ceiling:.2f}."
    )


def _methods(votes: ConditionVotes, means: Mapping[str, Mapping[str, Any]], *, splittable: bool) -> list[str]:
    """Return the sentences of a methods section."""
    shown = f"in the condition {votes.shown}" if votes.shown else "whatever raters were shown"
    n = votes.n
    votes_said = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()} (median {np.median(n):g})"
    said = [f"Ratings were counted {shown}: {votes_said} for each of {len(n):,} utterances."]
    if votes.numbers is None:
        bound = means["bound of the bias of vote entropy"]["estimate"]
        said.append(
            "Ambiguity of an utterance was the chance A that two of its raters, drawn without replacement, differ, "
            "which is unbiased for any number of votes [Simpson 1949]; vote entropy, in bits, is too low by at most "
            f"{bound:.2f} on average [Paninski 2003] and is given with the Miller-Madow correction too [Miller 1955]; "
            "contested were utterances in which no value has more than half of the votes."
        )
    else:
        said.append("Ambiguity of an utterance was the unbiased variance of its ratings.")
    said.append("Agreement was Krippendorff's alpha [Krippendorff 2019].")
    if splittable:
        said.append(
            f"The reliability of ambiguity was estimated from {SPLITS} random halvings of each utterance's votes (of "
            f"those with {FEWEST_SPLIT} or more), as the covariance of halves over the variance of all votes, beside "
            "the correlation of halves and its Spearman-Brown correction [Spearman 1910] [Brown 1910]."
        )
    return said
