"""Who gains and who loses when people are shown more, beside what vote noise alone adds and takes away.

Conventions
-----------
What is right, by which rule of ties, and what halves are, is said in `analysis.people.votes`. Two channels are
compared on the same utterances (those with at least two votes in both), never on the same people. With ``r_1`` and
``r_2`` whether the votes of the first and the second channel are right:

- ``gain`` = mean ``(1 - r_1) r_2``, ``loss`` = mean ``r_1 (1 - r_2)``, ``net`` = ``gain - loss``: of all votes, and of
  random halves, averaged over splits.
- ``flips_first``, ``flips_second``: mean ``r(A) (1 - r(B))`` of two halves A, B of the same channel. Nothing more is
  shown there, so this is what vote noise alone takes away (and, the other way round, adds).
- ``loss_excess`` = ``loss - flips_second``: losses beyond those that the second channel has against itself;
  ``gain_excess`` the same of gains.
- ``change_excess`` = ``gain + loss - flips_first - flips_second``, the mean of ``(p_1 - p_2)^2`` where ``p`` is the
  chance that a half is right: zero only where all utterances are recognised equally well in both channels.
- ``loss_again``: of utterances that lost between one pair of halves, how often the *other* halves are right in the
  first channel minus in the second: ``mean r_1(A) (1 - r_2(A)) (r_1(B) - r_2(B)) / mean r_1(A) (1 - r_2(A))``.
  ``gain_again`` is the other way round, of those that gained. The halves B had no part in the choice, so there is no
  regression to the mean in it: above zero, some utterances are truly recognised less often when more is shown. Where
  none is, it cannot be above zero, in expectation.

A ``loss_excess`` that is not above zero does not say that nobody loses: utterances that gain have fewer losses than
vote noise alone. ``loss_again`` looks at the losers alone.

Intervals are over groups of utterances, with the raters as they are. P-values: of ``net`` of all votes with ties wrong,
McNemar's test clustered by group; of other differences, sign flips of groups; of all channels at once, Cochran's Q with
groups moved as one (see `analysis.inference`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.analysis.ambiguity.ratings import Floats
from mixed_signals.analysis.inference import Test, cochran, mcnemar, sign_flip, with_test
from mixed_signals.analysis.people.votes import (
    DIFFERENCE,
    TIES_SHARED,
    TIES_WRONG,
    HalfVotes,
    Mask,
    People,
)
from mixed_signals.models.intervals import SHARE, Interval

ALL_VOTES, HALVES = "all", "halves"
SHARES = ("gain", "loss", "flips_first", "flips_second")
BY_LABEL = ("gain", "loss", "net", "loss_excess")

Row = dict[str, Any]


def channels_table(people: People) -> pd.DataFrame:
    """Return gains and losses of each pair of channels beside vote noise, and Cochran's Q of all.

    Returns
    -------
    DataFrame
        ``first, second, more`` (whether the second shows all of the first and more), ``label`` ("" for all labels),
        ``votes`` (all or halves), ``tie_rule, quantity`` (see the module's conventions), ``estimate, low, high, p, n,
        n_groups, method``. ``cochran_q`` has the statistic as its estimate and all channels as ``first``.
    """
    rows = []
    for first, second in combinations(people.votes.channels, 2):
        both = people.votes.rated(first, second, at_least=2)
        if not both.any():
            continue
        key = {"first": first, "second": second, "more": set(first.split("+")) < set(second.split("+"))}
        rows += [{**key, **row} for row in _pair(people, first, second, both)]
    everywhere = people.votes.rated(*people.votes.channels, at_least=2)
    if len(people.votes.channels) > 2 and everywhere.any():
        by_channel = np.column_stack([people.right[c][TIES_WRONG][everywhere] for c in people.votes.channels])
        test = cochran(by_channel, people.groups[everywhere], **people.resampling)
        key = {"first": ", ".join(people.votes.channels), "second": "", "more": False, "label": ""}
        about = {"votes": ALL_VOTES, "tie_rule": TIES_WRONG, "quantity": "cochran_q"}
        alone = Interval(test.statistic, np.nan, np.nan, int(everywhere.sum()), test.n_groups, "a statistic")
        rows.append({**key, **about, **with_test(alone, test)})
    order = ["first", "second", "more", "label", "votes", "tie_rule", "quantity", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=[*order, "p", "n", "n_groups", "method"])


def _pair(people: People, first: str, second: str, both: Mask) -> list[Row]:
    """Return the rows of one pair of channels."""
    by = people.groups[both]
    rows: list[Row] = []

    def add(
        rule: str, votes: str, quantity: str, found: Interval, test: Test | None = None, label: str = ""
    ) -> None:
        key = {"label": label, "votes": votes, "tie_rule": rule, "quantity": quantity}
        rows.append({**key, **with_test(found, test)})

    for rule in (TIES_WRONG, TIES_SHARED):
        one, two = people.right[first][rule], people.right[second][rule]
        add(rule, ALL_VOTES, "gain", people.mean((1 - one) * two, both, SHARE))
        add(rule, ALL_VOTES, "loss", people.mean(one * (1 - two), both, SHARE))
        net = (two - one)[both]
        test = (
            mcnemar(one[both], two[both], by)
            if rule == TIES_WRONG
            else sign_flip(net, by, **people.resampling)
        )
        add(rule, ALL_VOTES, "net", people.mean(two - one, both, DIFFERENCE), test)

        parts = half_quantities(people.halves[first][rule], people.halves[second][rule])
        for quantity, values in parts.means.items():
            if quantity in SHARES:
                add(rule, HALVES, quantity, people.mean(values, both, SHARE))
            else:
                test = sign_flip(values[both], by, **people.resampling)
                add(rule, HALVES, quantity, people.mean(values, both, DIFFERENCE), test)
        for quantity, (above, below) in parts.ratios.items():
            test = sign_flip(above[both], by, **people.resampling)
            add(rule, HALVES, quantity, people.ratio(above, below, both, DIFFERENCE), test)
    parts = half_quantities(people.halves[first][TIES_SHARED], people.halves[second][TIES_SHARED])
    for k, label in enumerate(people.votes.values):
        mine = both & (people.votes.label == k)
        for quantity in BY_LABEL if mine.any() else ():
            limits = SHARE if quantity in SHARES else DIFFERENCE
            found = people.mean(parts.means[quantity], mine, limits)
            add(TIES_SHARED, HALVES, quantity, found, label=label)
    return rows


@dataclass(frozen=True)
class HalfQuantities:
    """The quantities of one pair of channels on half-votes.

    Attributes
    ----------
    means : dict of str to array, shape (N,)
        Quantities that are means of these.
    ratios : dict of str to pair of arrays, shape (N,)
        Quantities that are ratios of the sums of these.
    """

    means: dict[str, Floats]
    ratios: dict[str, tuple[Floats, Floats]]


def half_quantities(first: HalfVotes, second: HalfVotes) -> HalfQuantities:
    """Return the quantities of the module's conventions for halves of two channels.

    Channels are split independently, so that products of the two channels' means over splits are means of the products.
    """
    p, q, u, v = first.right, second.right, first.flips, second.flips
    gain, loss = (1 - p) * q, p * (1 - q)
    means = {
        "gain": gain,
        "loss": loss,
        "net": gain - loss,
        "flips_first": u,
        "flips_second": v,
        "loss_excess": loss - v,
        "gain_excess": gain - v,
        "change_excess": gain + loss - u - v,
    }
    # E r1(A) r1(B) = p - u, E (1 - r2(A)) r2(B) = v, and the same with the channels exchanged
    again = {"loss_again": ((p - u) * (1 - q) - p * v, loss), "gain_again": ((q - v) * (1 - p) - q * u, gain)}
    return HalfQuantities(means, again)
