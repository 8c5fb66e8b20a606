"""Ambiguity of utterances for the people who rated them, and whether disagreement between models marks it.

Conventions
-----------
Votes are counted in the fullest condition alone: the ``shown`` with the most modalities (of equal ones, that with
the most votes), since that is what the fusion is given too. Values are categories. With ``n_k`` of ``n`` votes for
value ``k``:

- ``ambiguity`` = ``1 - sum_k n_k (n_k - 1) / (n (n - 1))``: the chance that two raters, drawn without
  replacement, give different values (Simpson 1949, Nature 163). Defined from two votes on.
- ``vote_entropy``: entropy of the shares ``n_k / n``, in bits, without a correction for small ``n``.
- ``contested``: no value has more than half of the votes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mixed_signals.analysis.disagreement import entropy
from mixed_signals.models.intervals import Interval, group_jackknife, sums_jackknife
from mixed_signals.models.metrics import auroc


def fullest_condition(ratings: pd.DataFrame) -> str:
    """Return the ``shown`` with the most modalities, of equal ones that with the most votes ("" if unknown)."""
    votes = ratings["count"].groupby(ratings["shown"].fillna("").astype(object)).sum()
    return max(votes.index, key=lambda shown: (len(shown.split("+")) if shown else 0, votes[shown], shown))


def vote_table(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return what the raters of each utterance voted, in the fullest condition.

    Parameters
    ----------
    ratings : DataFrame
        ``utterance_id, shown, value, count``.

    Returns
    -------
    DataFrame
        ``utterance_id, n_votes, votes`` (as text, most frequent first), ``ambiguity, vote_entropy, contested``.
        Utterances with fewer than two votes are left out.
    """
    columns = ["utterance_id", "n_votes", "votes", "ambiguity", "vote_entropy", "contested"]
    used = ratings[ratings["value"].notna() & (ratings["count"] > 0)]
    if used.empty:
        return pd.DataFrame(columns=columns)
    used = used[used["shown"].fillna("").astype(object) == fullest_condition(used)]
    ids, names = pd.factorize(used["utterance_id"].astype(object), sort=True)
    value_of, values = pd.factorize(used["value"].astype(str).astype(object), sort=True)
    counts = np.zeros((len(names), len(values)))
    np.add.at(counts, (ids, value_of), used["count"].to_numpy(np.float64))
    enough = counts.sum(axis=1) >= 2
    names, counts = np.asarray(names, dtype=object)[enough], counts[enough]
    n = counts.sum(axis=1)
    data = (
        names,
        n,
        [_votes_text(row, values) for row in counts],
        1 - np.sum(counts * (counts - 1), axis=1) / (n * (n - 1)),
        entropy(counts / n[:, None]),
        counts.max(axis=1, initial=0) <= n / 2,
    )
    return pd.DataFrame(dict(zip(columns, data, strict=True)))


def _votes_text(counts: NDArray[np.float64], values: pd.Index) -> str:
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{values[k]} {counts[k]:g}" for k in order if counts[k] > 0)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's rank correlation with mid-ranks; NaN if either does not vary."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else np.nan


def _ranks(x: ArrayLike) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(x, dtype=np.float64)
    return rankdata(values)


def link_table(
    utterances: pd.DataFrame, votes: pd.DataFrame, groups: pd.Series | None = None
) -> pd.DataFrame:
    """Return how one head's disagreement goes with the raters' ambiguity, with group-jackknife intervals.

    Parameters
    ----------
    utterances : DataFrame
        One head's rows of `disagreement.utterance_table`.
    votes : DataFrame
        From `vote_table`; utterances in both tables are used.
    groups : Series or None
        Group by utterance id.

    Returns
    -------
    DataFrame
        ``head, quantity, estimate, low, high, n, n_groups, method`` for ``spearman`` (divergence of the unimodals
        with ambiguity), ``auroc`` (of that divergence for contested utterances) and ``entropy_difference`` (bits;
        mean vote entropy where the unimodals' labels differ minus where they agree).
    """
    both = utterances.merge(votes, on="utterance_id", validate="one_to_one")
    by = None if groups is None else groups.reindex(both["utterance_id"]).to_numpy(dtype=object)
    jsd, ambiguity, bits = (both[c].to_numpy(np.float64) for c in ("jsd", "ambiguity", "vote_entropy"))
    contested = both["contested"].to_numpy(dtype=bool)
    differ = both["n_labels"].to_numpy() > 1
    n = len(both)
    sums = np.column_stack([bits * differ, differ, bits * ~differ, ~differ])
    results: dict[str, Interval] = {
        "spearman": group_jackknife(lambda r: spearman(jsd[r], ambiguity[r]), n, by, limits=(-1, 1)),
        "auroc": group_jackknife(lambda r: auroc(jsd[r], contested[r]), n, by, limits=(0, 1)),
        "entropy_difference": sums_jackknife(
            lambda s: s[..., 0] / s[..., 1] - s[..., 2] / s[..., 3], sums, by
        ),
    }
    head = str(utterances["head"].iloc[0])
    return pd.DataFrame([{"head": head, "quantity": q, **vars(result)} for q, result in results.items()])
