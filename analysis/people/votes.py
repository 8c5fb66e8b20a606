"""Votes of people by what they were shown: counted, split into halves, and compared with a label.

Conventions
-----------
A *channel* is what raters were shown (``audio``, ``video``, ``audio+video``, ...). ``n_k`` of the ``n`` votes of an
utterance in a channel are for value ``k``. Channels are compared on the same utterances, never on the same people.

Whether the votes are right, ``r`` from 0 to 1, is said by one of two rules, and a third counts responses:

- ``ties wrong``: 1 where the label has strictly the most votes, else 0.
- ``ties shared``: ``1 / m`` where the label is one of ``m`` values that share the most votes, else 0: the chance that a
  random choice among them is right.
- ``per response``: ``n_label / n``; utterances are averaged with weight ``n``, so that every response counts once.

*Halves* of a channel are two disjoint random sets of ``floor(n / 2)`` of an utterance's votes. Given what an
utterance's raters tend to say they are independent, so that what differs between them is vote noise alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from shlex import quote

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.ambiguity.ratings import Counts, Floats, split_halves, validate
from mixed_signals.analysis.disagreement.distances import jensen_shannon
from mixed_signals.models.intervals import Interval, Limits, mean_interval, ratio_interval
from mixed_signals.store.errors import UsageError
from mixed_signals.store.targets import MODALITIES, shortened

TIES_WRONG, TIES_SHARED, PER_RESPONSE = "ties wrong", "ties shared", "per response"
TIE_RULES = (TIES_WRONG, TIES_SHARED, PER_RESPONSE)
DIFFERENCE: Limits = (-1, 1)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ChannelVotes:
    """Votes by channel, beside the label.

    Attributes
    ----------
    ids : array of str, shape (N,)
        Utterances with a label and a vote in some channel, in the order of the labels.
    values : tuple of str
        The ``K`` values that votes can have: the labels, sorted, then answers that are no label.
    label : array of int, shape (N,)
        Number of the label among `values`.
    counts : mapping of channel to array of int, shape (N, K)
        Votes; channels of fewer modalities first.
    """

    ids: NDArray[np.object_]
    values: tuple[str, ...]
    label: NDArray[np.intp]
    counts: Mapping[str, Counts]

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels, those of fewer modalities first."""
        return tuple(self.counts)

    def rated(self, *channels: str, at_least: int = 1) -> Mask:
        """Return which utterances have `at_least` votes in every one of some channels, shape (N,)."""
        enough = [self.counts[channel].sum(axis=1) >= at_least for channel in channels]
        return np.logical_and.reduce(enough)


def check_values(values: Mapping[str, str], classes: Sequence[str]) -> None:
    """Refuse what `votes_by_channel` cannot be told of values.

    Raises
    ------
    UsageError
        If a value is mapped to something that is neither one of the `classes` nor the value itself.
    """
    for value, meant in values.items():
        if meant not in classes and meant != value:
            raise UsageError(
                f"--value {value}={meant}: {meant!r} is no label ({shortened(classes, ', ')}); map {value!r} "
                "to one of them, or to itself for an answer that is always wrong"
            )


def votes_by_channel(
    ratings: pd.DataFrame, labels: pd.Series, values: Mapping[str, str] | None = None
) -> tuple[ChannelVotes, list[str]]:
    """Return the votes by channel, and a sentence for each part of the ratings that cannot be used.

    Parameters
    ----------
    ratings : DataFrame
        ``utterance_id, shown, value, count``.
    labels : Series of str by utterance id
        Missing or empty where there is none.
    values : mapping of str to str, optional
        What values of the ratings mean as labels, e.g. ``{"A": "anger"}``; a value mapped to itself is an answer that
        no label has, and always wrong. Values that are not named here have to be labels as they stand; a channel with
        others is left out, and the sentence says so.

    Raises
    ------
    UsageError
        If the table is no table of ratings, or `values` maps to something that is neither a label nor the value itself.
    """
    validate(ratings)
    named = labels.dropna().astype(str).astype(object)
    named = named[named != ""]
    classes = sorted(set(named))
    meaning = dict(values or {})
    check_values(meaning, classes)
    known = (*classes, *sorted({meant for meant in meaning.values() if meant not in classes}))

    used = ratings[ratings["value"].notna()]
    shown: NDArray[np.object_] = used["shown"].fillna("").astype(object).to_numpy()
    given = used["value"].astype(str).astype(object).map(lambda v: meaning.get(v, v)).to_numpy()
    rows = pd.Index(named.index.astype(object)).get_indexer(pd.Index(used["utterance_id"].astype(object)))
    column = pd.Index(known, dtype=object).get_indexer(pd.Index(given))
    weight = used["count"].to_numpy(np.float64)
    counts, said, strange_in = {}, [], []
    if (shown == "").any():
        said.append(f"{int(weight[shown == ''].sum()):,} ratings do not say what was shown and are left out.")
    for channel in sorted(set(shown) - {""}, key=_fewer_first):
        mine = (shown == channel) & (rows >= 0)
        strange = sorted(set(given[mine & (column < 0)]))
        if strange:
            strange_in.append(channel)
            first = strange[0]
            said.append(
                f"Ratings of {channel} are left out: {shortened([repr(v) for v in strange], ', ')} "
                f"{'is' if len(strange) == 1 else 'are'} not among the labels of {labels.name!r} "
                f"({shortened(classes, ', ')}); say what each means, e.g. "
                f"--value {quote(f'{first}={classes[0]}')} (in Python values={{{first!r}: {classes[0]!r}}}), "
                f"or map it to itself for an answer that is always wrong: --value {quote(f'{first}={first}')}."
            )
        elif mine.any():
            cell = rows[mine] * len(known) + column[mine]
            table = np.bincount(cell, weight[mine], minlength=len(named) * len(known))
            counts[channel] = table.reshape(len(named), len(known)).astype(np.int64)
    if strange_in and not counts:
        said.append(
            f"Nothing is said of people: every channel ({', '.join(strange_in)}) is left out, since its ratings have "
            "values that are no label."
        )
    elif not counts:
        said.append(f"No utterance has both ratings that say what was shown and a label of {labels.name!r}.")
    some = np.zeros(len(named), dtype=bool)
    for table in counts.values():
        some |= table.any(axis=1)
    votes = ChannelVotes(
        ids=named.index.to_numpy(dtype=object)[some],
        values=known,
        label=pd.Index(known, dtype=object).get_indexer(pd.Index(named))[some],
        counts={channel: table[some] for channel, table in counts.items()},
    )
    return votes, said


def _fewer_first(channel: str) -> tuple[int, list[int], str]:
    parts = channel.split("+")
    return len(parts), [MODALITIES.index(part) for part in parts if part in MODALITIES], channel


def right(counts: ArrayLike, label: ArrayLike) -> dict[str, Floats]:
    """Return whether the votes are right, by each of `TIE_RULES`, of shape (N,); NaN where there are none.

    Parameters
    ----------
    counts : array-like of int, shape (N, K)
    label : array-like of int, shape (N,)
        Column of the label.

    Examples
    --------
    >>> right([[3, 1], [2, 2]], [0, 1])["ties shared"].tolist()
    [1.0, 0.5]
    """
    c, y = np.asarray(counts, dtype=np.int64), np.asarray(label)
    n = c.sum(axis=1)
    own = c[np.arange(len(c)), y]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {**_winning(c, own, n), PER_RESPONSE: own / n}


def _winning(counts: Counts, own: Counts, n: Counts) -> dict[str, Floats]:
    """Return the two rules of ties, for counts (N, K) of which `own` are of the label and `n` of all."""
    most = counts.max(axis=1)
    shared = np.where(own == most, 1.0 / (counts == most[:, None]).sum(axis=1), 0.0)
    shared[n == 0] = np.nan
    return {TIES_WRONG: np.where(np.isnan(shared), np.nan, shared == 1), TIES_SHARED: shared}


def winners(counts: Counts, values: tuple[str, ...]) -> NDArray[np.object_]:
    """Return the values with the most votes, shape (N,): several joined by ":", as in CREMA-D; "" without votes."""
    top = (counts == counts.max(axis=1, keepdims=True)) & (counts > 0)
    patterns, which = np.unique(top, axis=0, return_inverse=True)
    names = [":".join(v for v, on in zip(values, row, strict=True) if on) for row in patterns]
    return np.array(names, dtype=object)[which.ravel()]


def splits_for(n: int) -> int:
    """Return how often `n` utterances are split: fewer times where more utterances average the splits' own noise."""
    return int(np.clip(200_000 // max(n, 1), 20, 50))


@dataclass(frozen=True)
class HalfVotes:
    """What halves of one channel's votes say, averaged over splits; each of shape (N,).

    Attributes
    ----------
    right : array
        ``E[r(A)]``: how right a half is.
    flips : array
        ``E[r(A) (1 - r(B))]`` for the two halves A and B of a split: right in one and wrong in the other.
    """

    right: Floats
    flips: Floats


def half_votes(
    counts: Counts, label: NDArray[np.intp], splits: int, rng: np.random.Generator
) -> dict[str, HalfVotes]:
    """Return how right halves of the votes are and how often they flip, for ties wrong and ties shared."""
    total = {rule: np.zeros((2, len(counts))) for rule in (TIES_WRONG, TIES_SHARED)}
    rows = np.arange(len(counts))
    for _ in range(splits):
        a, b = (_winning(h, h[rows, label], h.sum(axis=1)) for h in split_halves(counts, rng))
        for rule, (is_right, flips) in total.items():
            is_right += (a[rule] + b[rule]) / 2
            flips += (a[rule] * (1 - b[rule]) + b[rule] * (1 - a[rule])) / 2
    return {rule: HalfVotes(*(sums / splits)) for rule, sums in total.items()}


@dataclass(frozen=True)
class Divergence:
    """How far the votes of two channels lie apart, in bits, beside vote noise; each of shape (N,).

    Attributes
    ----------
    between : array
        Mean Jensen-Shannon divergence of a half of one channel and a half of the other.
    floor : array
        Half of the sum of that of two halves of the one and two halves of the other.
    """

    between: Floats
    floor: Floats

    @property
    def excess(self) -> Floats:
        """``between - floor``, never clipped; zero in expectation where both channels' raters tend to say the same."""
        return self.between - self.floor


def divergence(first: Counts, second: Counts, splits: int, rng: np.random.Generator) -> Divergence:
    """Return how far the votes of two channels lie apart, beside vote noise.

    Few votes diverge by chance, more so where people are undecided. Two halves of one channel do so as well, and take
    this off.

    Parameters
    ----------
    first, second : arrays of int, shape (N, K)
        At least two votes in each row.
    splits : int
    rng : Generator
    """
    between, floor = np.zeros(len(first)), np.zeros(len(first))
    for _ in range(splits):
        a, b = (
            [half / half.sum(axis=1, keepdims=True) for half in split_halves(counts, rng)]
            for counts in (first, second)
        )
        between += (jensen_shannon(a[0], b[0]) + jensen_shannon(a[1], b[1])) / 2
        floor += (jensen_shannon(*a) + jensen_shannon(*b)) / 2
    return Divergence(between / splits, floor / splits)


@dataclass(frozen=True)
class People:
    """Votes with what all comparisons share.

    Attributes
    ----------
    votes : ChannelVotes
    groups : array of int, shape (N,)
        Numbers of groups, from `mixed_signals.models.intervals.group_codes`.
    resamples, seed : int
        Of resamples and permutations.
    """

    votes: ChannelVotes
    groups: NDArray[np.intp]
    resamples: int = 1000
    seed: int = 0
    _apart: dict[tuple[str, str], Divergence] = field(default_factory=dict, repr=False)

    @property
    def resampling(self) -> dict[str, int]:
        """What intervals and tests are told."""
        return {"resamples": self.resamples, "seed": self.seed}

    @property
    def splits(self) -> int:
        """How often votes are split into halves."""
        return splits_for(len(self.votes.ids))

    @cached_property
    def right(self) -> dict[str, dict[str, Floats]]:
        """Whether all votes are right, by channel and tie rule."""
        return {channel: right(counts, self.votes.label) for channel, counts in self.votes.counts.items()}

    @cached_property
    def halves(self) -> dict[str, dict[str, HalfVotes]]:
        """What halves say, by channel and tie rule; channels are split independently of each other."""
        return {
            channel: half_votes(counts, self.votes.label, self.splits, np.random.default_rng([self.seed, i]))
            for i, (channel, counts) in enumerate(self.votes.counts.items())
        }

    def apart(self, first: str, second: str) -> tuple[Divergence, Mask]:
        """Return how far two channels' votes lie apart, and for which utterances (two votes in both) that is known."""
        both = self.votes.rated(first, second, at_least=2)
        if (first, second) not in self._apart:
            one, other = (self.votes.counts[channel][both] for channel in (first, second))
            rng = np.random.default_rng([self.seed, len(self._apart), 1])
            self._apart[first, second] = divergence(one, other, self.splits, rng)
        return self._apart[first, second], both

    def mean(self, values: Floats, rows: Mask, limits: Limits) -> Interval:
        """Return the mean of some utterances' values."""
        return mean_interval(values[rows], self.groups[rows], limits=limits, **self.resampling)

    def ratio(self, above: Floats, below: Floats, rows: Mask, limits: Limits) -> Interval:
        """Return the ratio of two sums over some utterances."""
        return ratio_interval(above[rows], below[rows], self.groups[rows], limits=limits, **self.resampling)
