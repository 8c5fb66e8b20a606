"""What the raters of each utterance voted, and how ambiguous that makes it.

Conventions
-----------
Votes are counted in the fullest condition alone: the ``shown`` with the most modalities (of equal ones, that with the
most votes), since that is what the fusion is given too. Utterances with fewer than two votes are left out. With
``n_k`` of an utterance's ``n`` votes for value ``k`` (of ``K``):

- ``A`` = ``1 - sum_k n_k (n_k - 1) / (n (n - 1))``: the chance that two raters, drawn without replacement, give
  different values. Unbiased, however few votes there are (Simpson 1949, Nature 163).
- ``vote entropy``: of the shares ``n_k / n``, in bits. It is biased downwards, by at most ``log2(1 + (K - 1) / n)``
  (Paninski 2003, Neural Computation 15, proposition 1); with the Miller-Madow term, ``(k - 1) / (2 n ln 2)`` for ``k``
  observed values, the bias vanishes to the first order of ``1 / n`` (Miller 1955). Where numbers of votes differ, plain
  entropies differ by this bias too: prefer ``A``.
- ``contested``: no value has more than a given share of the votes, half unless it is said (no strict majority).

Values of interval targets are numbers: there ``A`` is the unbiased variance within the utterance (half the mean squared
difference of two raters), and "contested" and the entropy have no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.disagreement.distances import entropy
from mixed_signals.store.errors import UsageError

COLUMNS = ("utterance_id", "shown", "value", "count")

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ConditionVotes:
    """The votes of one condition.

    Attributes
    ----------
    shown : str
        What raters were shown, "" if that is not known.
    ids : array of str, shape (N,)
        Utterances with two votes or more, sorted.
    names : tuple of str
        The ``K`` values; none where they are numbers.
    counts : array of int, shape (N, K)
        Votes for each value; of numbers, for each that the utterance was given, in K columns as the most varied needs.
    numbers : array of float, shape (N, K), or None
        Where values are numbers: that of each cell (0 in cells without votes).
    """

    shown: str
    ids: NDArray[np.object_]
    names: tuple[str, ...]
    counts: Counts
    numbers: Floats | None = None

    @property
    def n(self) -> Counts:
        """Votes of each utterance, shape (N,)."""
        return np.asarray(self.counts.sum(axis=1))

    @cached_property
    def ambiguity(self) -> Floats:
        """``A`` of each utterance, shape (N,); of numbers the variance."""
        return self.spread(self.counts)

    def spread(self, counts: Counts) -> Floats:
        """Return ``A`` or the variance for other counts of the same cells, e.g. a half."""
        return ambiguity(counts) if self.numbers is None else variance(counts, self.numbers)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> ConditionVotes:
        """Return the votes of some rows, by number or mask."""
        numbers = None if self.numbers is None else self.numbers[rows]
        return replace(self, ids=self.ids[rows], counts=self.counts[rows], numbers=numbers)


def validate(ratings: pd.DataFrame) -> None:
    """Check a table of ratings before it is used.

    Raises
    ------
    UsageError
        If a column is missing or a count is not a whole number.
    """
    missing = [name for name in COLUMNS if name not in ratings.columns]
    if missing:
        raise UsageError(
            f"ratings: no column {', '.join(missing)}; give utterance_id, shown, value and count"
        )
    count = ratings["count"].to_numpy(np.float64)
    wrong = ~(np.isfinite(count) & (count >= 0) & (count % 1 == 0))
    if wrong.any():
        row = ratings.iloc[int(wrong.argmax())]
        raise UsageError(
            f"ratings: count {row['count']!r} of {row['utterance_id']} is no whole number; correct it"
        )


def fullest_condition(ratings: pd.DataFrame) -> str:
    """Return the ``shown`` with the most modalities, of equal ones that with the most votes ("" if unknown)."""
    votes = ratings["count"].groupby(ratings["shown"].fillna("").astype(object)).sum()
    return max(votes.index, key=lambda shown: (len(shown.split("+")) if shown else 0, votes[shown], shown))


def condition_votes(
    ratings: pd.DataFrame, classes: Sequence[str] = (), *, numeric: bool = False, shown: str | None = None
) -> ConditionVotes:
    """Count the votes of one condition.

    Parameters
    ----------
    ratings : DataFrame
        ``utterance_id, shown, value, count``; see `validate`.
    classes : sequence of str
        Of the target. Where all values are among them, they are the columns, in their order, used or not; else the
        values that occur are, sorted.
    numeric : bool
        Whether values are numbers.
    shown : str, optional
        The condition; the fullest by default.

    Raises
    ------
    UsageError
        If the table is no table of ratings, or a value is not a number although `numeric`.
    """
    validate(ratings)
    used = ratings[ratings["value"].notna() & (ratings["count"] > 0)]
    if shown is None:
        shown = "" if used.empty else fullest_condition(used)
    used = used[used["shown"].fillna("").astype(object) == shown]
    row, ids = pd.factorize(used["utterance_id"].astype(object), sort=True)
    given = used["value"].astype(str).astype(object)
    count = used["count"].to_numpy(np.int64)
    names = np.asarray(ids, dtype=object)
    if numeric:
        number = pd.to_numeric(given, errors="coerce").to_numpy(np.float64)
        if not np.isfinite(number).all():
            wrong = given.iloc[int((~np.isfinite(number)).argmax())]
            raise UsageError(
                f"ratings: value {wrong!r} is not a number, as those of an interval target are; correct it"
            )
        votes = ConditionVotes(shown, names, (), *_packed(row, number, count, len(ids)))
    else:
        occurring = tuple(sorted(set(given)))
        values = tuple(classes) if set(occurring) <= set(classes) else occurring
        column = pd.Index(values, dtype=object).get_indexer(pd.Index(given, dtype=object))
        counts = np.zeros((len(ids), len(values)), dtype=np.int64)
        np.add.at(counts, (row, column), count)
        votes = ConditionVotes(shown, names, values, counts)
    return votes.select(votes.n >= 2)


def _packed(row: NDArray[np.intp], number: Floats, count: Counts, n_rows: int) -> tuple[Counts, Floats]:
    """Return counts and numbers, (N, D) each, with only as many columns as an utterance has different numbers."""
    found, values = pd.factorize(number, sort=True)
    cell, inverse = np.unique(row * max(1, len(values)) + found, return_inverse=True)
    of, which = np.divmod(cell, max(1, len(values)))
    place = np.arange(len(cell)) - np.searchsorted(of, of)
    counts = np.zeros((n_rows, int(place.max(initial=-1)) + 1), dtype=np.int64)
    numbers = np.zeros(counts.shape)
    np.add.at(counts, (of[inverse], place[inverse]), count)
    numbers[of, place] = values[which]
    return counts, numbers


def ambiguity(counts: ArrayLike) -> Floats:
    """Return ``A = 1 - sum_k n_k (n_k - 1) / (n (n - 1))`` over the last axis; NaN with fewer than two votes.

    Examples
    --------
    >>> ambiguity([[3, 1], [2, 0]]).tolist()
    [0.5, 0.0]
    """
    counts = np.asarray(counts, dtype=np.float64)
    n = counts.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n >= 2, 1 - np.sum(counts * (counts - 1), axis=-1) / (n * (n - 1)), np.nan)


def variance(counts: ArrayLike, numbers: ArrayLike) -> Floats:
    """Return the unbiased variance of numbers that come `counts` times, over the last axis; NaN for fewer than two."""
    counts, numbers = np.asarray(counts, dtype=np.float64), np.asarray(numbers, dtype=np.float64)
    n = counts.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(counts * numbers, axis=-1) / n
        squares = np.sum(counts * (numbers - mean[..., None]) ** 2, axis=-1)
        return np.where(n >= 2, squares / (n - 1), np.nan)


def vote_entropy(counts: ArrayLike, *, miller_madow: bool = False) -> Floats:
    """Return the entropy of the votes' shares in bits, over the last axis, with the Miller-Madow term if wanted.

    Examples
    --------
    >>> float(vote_entropy([2, 2]))
    1.0
    """
    counts = np.asarray(counts, dtype=np.float64)
    n = counts.sum(axis=-1)
    plain = entropy(counts / n[..., None])
    return plain + ((counts > 0).sum(axis=-1) - 1) / (2 * n * np.log(2)) if miller_madow else plain


def entropy_bias_bound(n: ArrayLike, n_values: int) -> Floats:
    """Return what the plain vote entropy is at most too low by, on average, in bits: ``log2(1 + (K - 1) / n)``."""
    return np.log2(1 + (n_values - 1) / np.asarray(n, dtype=np.float64))


def contested(counts: ArrayLike, threshold: float = 0.5) -> NDArray[np.bool_]:
    """Return whether no value has more than the share `threshold` of the votes, over the last axis."""
    counts = np.asarray(counts, dtype=np.float64)
    return np.asarray(counts.max(axis=-1, initial=0) <= threshold * counts.sum(axis=-1) + 1e-9)


def split_halves(counts: Counts, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Deal each utterance's votes at random into two halves of the same number; an odd vote is left out.

    Parameters
    ----------
    counts : array of int, shape (N, K)
    rng : Generator

    Returns
    -------
    two arrays of int, shape (N, K)
        No vote is in both: the raters are disjoint where each gave an utterance one vote.
    """
    half = counts.sum(axis=1) // 2
    first = _drawn(counts, half, rng)
    return first, _drawn(counts - first, half, rng)


def _drawn(counts: Counts, size: Counts, rng: np.random.Generator) -> Counts:
    """Draw `size` of each row's votes without replacement: multivariate hypergeometric, for every row at once.

    Value after value: given what was drawn of those before it, the number drawn of one value is hypergeometric
    (Johnson, Kotz and Balakrishnan 1997, Discrete Multivariate Distributions, section 39.2).
    """
    drawn = np.zeros_like(counts)
    rest, wanted = counts.sum(axis=1), size.copy()
    for k in range(counts.shape[1]):
        rest = rest - counts[:, k]
        some = np.flatnonzero((counts[:, k] > 0) & (wanted > 0))
        drawn[some, k] = rng.hypergeometric(counts[some, k], rest[some], wanted[some])
        wanted = wanted - drawn[:, k]
    return drawn


def vote_table(ratings: pd.DataFrame | ConditionVotes) -> pd.DataFrame:
    """Return what the raters of each utterance voted, in the fullest condition.

    Parameters
    ----------
    ratings : DataFrame or ConditionVotes
        ``utterance_id, shown, value, count``, or what `condition_votes` made of them.

    Returns
    -------
    DataFrame
        ``utterance_id, n_votes, votes`` (as text, most frequent first), then ``ambiguity, vote_entropy,
        entropy_miller_madow, entropy_bias_bound, contested``; of numbers ``mean, variance``. Utterances with fewer than
        two votes are left out.
    """
    votes = ratings if isinstance(ratings, ConditionVotes) else condition_votes(ratings)
    counts, n = votes.counts, votes.n
    data: dict[str, Any] = {"utterance_id": votes.ids, "n_votes": n, "votes": _texts(votes)}
    if votes.numbers is None:
        data |= {
            "ambiguity": votes.ambiguity,
            "vote_entropy": vote_entropy(counts),
            "entropy_miller_madow": vote_entropy(counts, miller_madow=True),
            "entropy_bias_bound": entropy_bias_bound(n, len(votes.names)),
            "contested": contested(counts),
        }
    else:
        data |= {"mean": np.sum(counts * votes.numbers, axis=1) / n, "variance": votes.ambiguity}
    return pd.DataFrame(data)


def _texts(votes: ConditionVotes) -> list[str]:
    """Return the votes of each utterance as text, the most frequent value first."""
    order = np.argsort(-votes.counts, axis=1, kind="stable")
    sorted_counts = np.take_along_axis(votes.counts, order, axis=1)
    row, place = np.nonzero(sorted_counts)
    column = order[row, place]
    names: Sequence[str]
    if votes.numbers is None:
        names = [votes.names[k] for k in column]
    else:
        names = [f"{number:g}" for number in votes.numbers[row, column]]
    said = [f"{name} {count}" for name, count in zip(names, sorted_counts[row, place], strict=True)]
    ends = np.searchsorted(row, np.arange(len(votes.ids) + 1))
    return [", ".join(said[a:b]) for a, b in pairwise(ends)]
