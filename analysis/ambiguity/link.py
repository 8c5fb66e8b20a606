"""The link: how disagreement of models goes with the ambiguity of what raters say.

The conventions are those of `analysis.ambiguity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixed_signals.analysis.ambiguity.ratings import ConditionVotes, Floats, contested
from mixed_signals.analysis.disagreement.distances import jensen_shannon, n_labels, unimodal_divergence
from mixed_signals.analysis.inference import Test, with_test, within_groups
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.ranks import auroc_interval, centred_ranks, levels, rank_correlation_interval
from mixed_signals.models.intervals import (
    Interval,
    group_codes,
    mean_interval,
    ratios_apart,
    sums_interval,
)

THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def disagreement_scores(panel: Panel) -> pd.DataFrame:
    """Return the scores of disagreement of `analysis.ambiguity`, a column each, shape (N, S).

    The first column is the one that is tested.
    """
    outputs = {model: panel.seed_mean(model) for model in panel.models}
    pairs = [*combinations(panel.unimodals, 2)] if len(panel.unimodals) > 2 else []
    pairs += [(m, FUSION) for m in panel.unimodals]
    apart = unimodal_divergence(panel)
    if panel.kind == "interval":
        scores = {"spread": apart}
        for a, b in pairs:
            difference = np.abs(outputs[a] - outputs[b])[..., 0].mean(axis=0)
            scores[f"difference {a}-{b}"] = difference / panel.deviation
        return pd.DataFrame(scores)
    labels = [outputs[m].argmax(axis=-1) for m in panel.unimodals]
    scores = {"jsd": apart, "n_labels": n_labels(labels).mean(axis=0)}
    for a, b in pairs:
        scores[f"jsd {a}-{b}"] = jensen_shannon(outputs[a], outputs[b]).mean(axis=0)
    return pd.DataFrame(scores)


def link_table(
    utterances: pd.DataFrame,
    votes: pd.DataFrame,
    groups: pd.Series | None = None,
    when: pd.Series | None = None,
    *,
    scores: Sequence[str] = ("jsd",),
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how one head's disagreement goes with the raters' ambiguity.

    Parameters
    ----------
    utterances : DataFrame
        ``head, utterance_id`` and a column for each score; with ``n_labels``, ``entropy_difference`` is told too.
    votes : DataFrame
        From `analysis.ambiguity.ratings.vote_table`; utterances in both tables are used.
    groups, when : Series by utterance id, optional
        Group, and place in time within it.
    scores : sequence of str
        The first is tested.
    resamples, seed : int
        Of the tests.

    Returns
    -------
    DataFrame
        ``head, score, quantity, estimate, low, high, p, n, n_groups, method`` for ``spearman`` and, unless ratings are
        numbers, ``auroc`` of each score, and ``entropy_difference`` (bits; mean vote entropy where the unimodals'
        labels differ minus where they agree).
    """
    both = utterances.merge(votes, on="utterance_id", validate="one_to_one")
    ids = both["utterance_id"]
    by = None if groups is None else group_codes(groups.reindex(ids).to_numpy(), len(ids))
    time = None if when is None else when.reindex(ids).to_numpy(np.float64)
    numeric = "variance" in both
    ambiguity = both["variance" if numeric else "ambiguity"]
    disputed = None if numeric else both["contested"].to_numpy(dtype=bool)
    rows: list[dict[str, Any]] = []

    def add(score: str, quantity: str, found: Interval, test: Test | None = None) -> None:
        rows.append({"score": score, "quantity": quantity, **with_test(found, test)})

    def tested(score: str, outcome: ArrayLike) -> Test | None:
        if score != scores[0]:
            return None
        if both.empty:
            return Test(np.nan, np.nan, "no test: no rated utterance", 0)
        x, y = (centred_ranks(levels(values)) for values in (both[score], outcome))
        return within_groups(x, y, by, time, resamples=resamples, seed=seed)

    for score in scores:
        found = rank_correlation_interval(both[score], ambiguity, groups=by)
        add(score, "spearman", found, tested(score, ambiguity))
        if disputed is not None:
            found = auroc_interval(both[score].to_numpy(np.float64), disputed, by)
            add(score, "auroc", found, tested(score, disputed))
    if not numeric and "n_labels" in both:
        bits, differ = both["vote_entropy"].to_numpy(np.float64), (both["n_labels"] > 1).to_numpy()
        columns = np.column_stack([bits * differ, differ, bits * ~differ, ~differ])
        add("n_labels", "entropy_difference", sums_interval(ratios_apart, columns, by))
    table = pd.DataFrame(rows)
    table.insert(0, "head", str(utterances["head"].iloc[0]))
    order = ["head", "score", "quantity", "estimate", "low", "high", "p", "n", "n_groups", "method"]
    return table[order]


def threshold_table(
    score: Floats, votes: ConditionVotes, groups: ArrayLike | None = None, **options: Any
) -> pd.DataFrame:
    """Return the share of contested utterances and the score's AUROC for them, by what counts as contested.

    Parameters
    ----------
    score : array of shape (N,)
        Of the utterances of `votes`.
    votes : ConditionVotes
    groups : array-like of shape (N,) or None
    **options
        ``resamples`` and ``seed`` of the share's interval.

    Returns
    -------
    DataFrame
        ``threshold`` (contested: no value has more than this share of the votes), ``quantity`` (share, auroc),
        ``estimate, low, high, n, n_groups, method``.
    """
    rows = []
    for threshold in THRESHOLDS:
        disputed = contested(votes.counts, threshold)
        found = {
            "share": mean_interval(disputed, groups, limits=(0, 1), **options),
            "auroc": auroc_interval(score, disputed, groups),
        }
        rows += [{"threshold": threshold, "quantity": name, **vars(one)} for name, one in found.items()]
    return pd.DataFrame(rows)
