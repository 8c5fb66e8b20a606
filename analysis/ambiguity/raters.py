"""Models beside the votes of raters: soft labels, and how ambiguous utterances are where a model is wrong.

Conventions
-----------
Models are given as their probabilities averaged over seeds; what is said of an utterance is averaged over partitions.
Votes are those of `analysis.ambiguity.ratings`, for values that are the classes of the target.

Out-of-fold outputs have not seen an utterance's own votes. But where a label is made of the same votes as ``A``, an
error and ``A`` share the noise of these votes. So what errors have to do with ``A`` is told with label and ``A`` from
*disjoint* halves of the votes, over repeated random splits, beside what the same votes for both ("shared raters") say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.ambiguity.agreement import FEWEST_SPLIT, SPLITS
from mixed_signals.analysis.ambiguity.ratings import ConditionVotes, Counts, split_halves
from mixed_signals.analysis.panel import Panel
from mixed_signals.models.intervals import mean_interval, ratios_apart, sums_interval


def soft_label_table(
    panel: Panel,
    votes: ConditionVotes,
    rows: NDArray[np.intp],
    groups: ArrayLike | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Return how far each model's probabilities are from the shares of the votes.

    With shares ``s_k`` and probabilities ``p_k``: cross-entropy ``-sum_k s_k log p_k`` in nats, p at least 1e-12
    (Peterson et al. 2019, ICCV), and Brier score ``sum_k (p_k - s_k)^2``, 0 to 2 (Brier 1950, Monthly Weather Review
    78). Neither can be zero where raters differ: compare models, not corpora.

    Parameters
    ----------
    panel : Panel
    votes : ConditionVotes
        Of the panel's classes.
    rows : array of int, shape (N,)
        The panel's row of each utterance of `votes`.
    groups : array-like of shape (N,) or None
    **options
        ``resamples`` and ``seed`` of the intervals.

    Returns
    -------
    DataFrame
        ``head, model, quantity, estimate, low, high, n, n_groups, method``; model ``prior``, where it is known, gives
        every utterance the class frequencies of the training rows.
    """
    shares = votes.counts / votes.n[:, None]
    outputs = {model: p.mean(axis=1) for model, p in panel.outputs.items()}
    if panel.prior is not None:
        outputs["prior"] = panel.prior
    found = []
    for model, p in outputs.items():
        p = p[:, rows]
        measured = {
            "cross-entropy": -(shares * np.log(np.maximum(p, 1e-12))).sum(axis=-1).mean(axis=0),
            "Brier": ((p - shares) ** 2).sum(axis=-1).mean(axis=0),
        }
        for quantity, values in measured.items():
            interval = mean_interval(values, groups, limits=(0, np.inf), **options)
            found.append({"head": panel.head, "model": model, "quantity": quantity, **vars(interval)})
    return pd.DataFrame(found)


def error_table(
    panel: Panel,
    votes: ConditionVotes,
    rows: NDArray[np.intp],
    groups: ArrayLike | None = None,
    *,
    splits: int = SPLITS,
    **options: Any,
) -> pd.DataFrame:
    """Return how much more ambiguous utterances are where a model is wrong than where it is right.

    The label is the value with the most votes (a tie counts as an error in so far as a random choice among the tied
    would be one). ``disjoint``: label and ``A`` from random halves of an utterance's votes, both ways round, over
    `splits` splits. ``shared``: both from all votes, which then vary together.

    Parameters
    ----------
    panel, votes, rows, groups, options
        As for `soft_label_table`; utterances with fewer than 4 votes are left out.
    splits : int

    Returns
    -------
    DataFrame
        ``head, model, raters, estimate, low, high, n, n_groups, method``; the estimate is mean ``A`` of errors minus
        that of the rest.
    """
    enough = votes.n >= FEWEST_SPLIT
    votes, rows = votes.select(enough), rows[enough]
    groups = None if groups is None else np.asarray(groups)[enough]
    labels = {model: panel.labels(model)[:, rows] for model in panel.models}
    sides: dict[str, tuple[int, Iterable[tuple[Counts, Counts]]]] = {
        "disjoint": (2 * splits, _both_ways(votes, splits, options.get("seed", 0))),
        "shared": (1, [(votes.counts, votes.counts)]),
    }
    found = []
    for raters, (n_pairs, pairs) in sides.items():
        sums = {model: np.zeros((len(rows), 4)) for model in panel.models}
        for gold, other in pairs:
            A = votes.spread(other)
            top = gold == gold.max(axis=1, keepdims=True)
            right = top / top.sum(axis=1, keepdims=True)
            for model, given in labels.items():
                wrong = 1 - right[np.arange(len(rows)), given].mean(axis=0)
                sums[model] += np.column_stack([wrong * A, wrong, (1 - wrong) * A, 1 - wrong])
        for model, columns in sums.items():
            interval = sums_interval(
                ratios_apart,
                columns / n_pairs,
                groups,
                limits=(-1, 1),
                **options,
            )
            found.append({"head": panel.head, "model": model, "raters": raters, **vars(interval)})
    return pd.DataFrame(found)


def _both_ways(votes: ConditionVotes, splits: int, seed: int) -> Iterator[tuple[Counts, Counts]]:
    """Give each split's halves, either first."""
    rng = np.random.default_rng(seed)
    for _ in range(splits):
        one, other = split_halves(votes.counts, rng)
        yield one, other
        yield other, one
