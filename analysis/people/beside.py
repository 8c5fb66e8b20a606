"""How far people's votes in two channels lie apart, beside the models of these modalities, and beside ambiguity.

Conventions
-----------
Votes of two channels lie apart by the Jensen-Shannon divergence, in bits, of halves of either (``divergence``), of
which the same between two halves of one channel is taken off (``floor``; see
`analysis.people.votes.divergence`). What is left, ``excess``, is set beside

- the divergence of the models of the same modalities, on the same utterances;
- the ambiguity of the votes of people who are shown both, which are votes of their own.

Correlations are of ranks; they are weakened by the noise of few votes, which the excess has, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from mixed_signals.analysis.ambiguity.ratings import Floats, ambiguity, contested
from mixed_signals.analysis.disagreement.distances import distances
from mixed_signals.analysis.disagreement.floors import FEWEST_SEEDS, floor_values
from mixed_signals.analysis.inference import freedman_lane, sign_flip, with_test
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.people.votes import DIFFERENCE, Divergence, Mask, People
from mixed_signals.analysis.ranks import auroc_interval, rank_correlation_interval
from mixed_signals.models.intervals import SHARE, mean_interval

Row = dict[str, Any]


def link_table(people: People) -> pd.DataFrame:
    """Return how two channels that lie apart go with ambiguity where both are shown.

    The ambiguity is `analysis.ambiguity.ratings.ambiguity` of the votes of a third channel, which shows both and
    has votes of its own.

    Returns
    -------
    DataFrame
        ``first, second, both, quantity, estimate, low, high, p, n, n_groups, method``. ``divergence``, ``floor``
        and ``excess`` of the two channels in bits; ``spearman`` of the excess with the ambiguity of both; ``auroc`` of
        the excess for utterances that are contested with both; ``adds``, the same rank correlation beyond the
        ambiguities of each channel alone (partial, by ranks; p by Freedman and Lane).
    """
    rows: list[Row] = []
    channels = people.votes.channels
    for first, second in combinations(channels, 2):
        union = {frozenset(c.split("+")): c for c in channels}.get(frozenset(f"{first}+{second}".split("+")))
        if union is None or set(first.split("+")) & set(second.split("+")):
            continue
        apart, rated = people.apart(first, second)
        mine = rated & people.votes.rated(union, at_least=2)
        if not mine.any():
            continue
        key = {"first": first, "second": second, "both": union}
        rows += [{**key, **row} for row in _link(people, key, _of(apart, mine[rated]), mine)]
    order = ["first", "second", "both", "quantity", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=[*order, "p", "n", "n_groups", "method"])


def _of(apart: Divergence, rows: NDArray[Any]) -> Divergence:
    return Divergence(apart.between[rows], apart.floor[rows])


def _divergence_rows(people: People, apart: Divergence, mine: Mask) -> list[Row]:
    """Return the means of a divergence, its floor and its excess."""
    rows = []
    for quantity, values in {
        "divergence": apart.between,
        "floor": apart.floor,
        "excess": apart.excess,
    }.items():
        limits = DIFFERENCE if quantity == "excess" else SHARE
        found = mean_interval(values, people.groups[mine], limits=limits, **people.resampling)
        test = sign_flip(values, people.groups[mine], **people.resampling) if quantity == "excess" else None
        rows.append({"quantity": quantity, **with_test(found, test)})
    return rows


def _link(people: People, key: Mapping[str, str], apart: Divergence, mine: Mask) -> list[Row]:
    by = people.groups[mine]
    alone, other, together = (ambiguity(people.votes.counts[channel][mine]) for channel in key.values())
    split = contested(people.votes.counts[key["both"]][mine])
    excess = apart.excess
    ranks = np.column_stack([rankdata(x) for x in (together, excess, alone, other)])
    tested = freedman_lane(ranks[:, 0], ranks[:, 1], ranks[:, 2:], by, **people.resampling)
    adds = rank_correlation_interval(excess, together, alone, other, groups=by)
    return [
        *_divergence_rows(people, apart, mine),
        {"quantity": "spearman", **with_test(rank_correlation_interval(excess, together, groups=by))},
        {"quantity": "auroc", **with_test(auroc_interval(excess, split, by))},
        {"quantity": "adds", **with_test(adds, tested)},
    ]


def models_table(people: People, panel: Panel) -> pd.DataFrame:
    """Return how far people's votes in two channels lie apart beside how far the models of these modalities do.

    Returns
    -------
    DataFrame
        ``head, first, second`` (channels), ``quantity, estimate, low, high, p, n, n_groups, method``. Of people
        ``divergence``, ``floor`` and ``excess`` in bits; ``models``, the divergence of the two models' probabilities,
        averaged over seeds, and, where there are seeds, ``models_excess``, that of single seeds beyond the seed floor
        (see `analysis.disagreement.floors`); ``spearman`` of people's excess with ``models``.
    """
    rows: list[Row] = []
    channels = people.votes.channels if panel.kind != "interval" else ()
    known = {c: model for c in channels if (model := _model(panel, c)) is not None}
    repeated = len(panel.seeds) >= FEWEST_SEEDS and not panel.deterministic
    if len(known) > 1:
        jsd = next(distance for distance in distances(panel) if distance.name == "jsd")
        place = pd.Index(panel.ids).get_indexer(pd.Index(people.votes.ids))
    for first, second in combinations(known, 2):
        apart, rated = people.apart(first, second)
        mine = rated & (place >= 0)
        if not mine.any():
            continue
        models = (known[first], known[second])
        views = (jsd.view(panel.seed_mean(model)) for model in models)
        modelled = jsd.between(*views).mean(axis=0)[place[mine]]
        seeds = floor_values(panel, jsd, [models])[models].excess[place[mine]] if repeated else None
        rows += [
            {"head": panel.head, "first": first, "second": second, **row}
            for row in _beside(people, _of(apart, mine[rated]), mine, modelled, seeds)
        ]
    order = ["head", "first", "second", "quantity", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=[*order, "p", "n", "n_groups", "method"])


def _model(panel: Panel, channel: str) -> str | None:
    """Return the model of a channel's modalities, or None."""
    try:
        return panel.model_of(channel.split("+"))
    except KeyError:
        return None


def _beside(
    people: People, apart: Divergence, mine: Mask, modelled: Floats, seeds: Floats | None
) -> list[Row]:
    by, excess = people.groups[mine], apart.excess
    rows = _divergence_rows(people, apart, mine)
    found = {"models": mean_interval(modelled, by, limits=SHARE, **people.resampling)}
    if seeds is not None:
        found["models_excess"] = mean_interval(seeds, by, limits=DIFFERENCE, **people.resampling)
    found["spearman"] = rank_correlation_interval(excess, modelled, groups=by)
    return rows + [{"quantity": name, **with_test(value)} for name, value in found.items()]
