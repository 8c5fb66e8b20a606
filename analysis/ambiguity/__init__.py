"""Whether disagreement between models marks utterances that people find ambiguous.

Conventions
-----------
What raters say of an utterance is counted as in `analysis.ambiguity.ratings`: its ambiguity ``A`` and whether it is
contested. Scores of *disagreement* are made of probabilities averaged over seeds, and averaged over partitions:

- ``jsd``: the generalised Jensen-Shannon divergence of the unimodals, in bits; ``jsd text-audio``: that of a pair of
  unimodals, or of one with the fusion.
- ``n_labels``: how many different labels the unimodals give.
- For interval targets ``spread``, the standard deviation of the unimodals' values, and ``difference text-audio``, both
  in standard deviations of the truth.

The *link* is Spearman's correlation of a score with ``A``, and its AUROC for contested utterances, over all rated
utterances. Intervals delete whole groups (neither is a function of sums). Only ``jsd`` (``spread``) is tested, being
one score that was chosen beforehand. The test is of what goes together *within* groups
(`analysis.inference.within_groups`), for its statistic takes ranks less their group's mean: where rows of a group are
ordered in time, neighbours are alike, and ranks are shifted in a circle within groups, or, where groups are short
series, signs of the groups' sums are flipped; else rows of a group are exchangeable if there is no link, and are
permuted within groups (Winkler et al. 2015, NeuroImage 123: exchangeability within blocks). Whole groups are not
permuted: they differ in size, in speaker and in raters, so that they are not exchangeable.

A link can come no closer than `analysis.ambiguity.agreement.reliability` says, and low confidence may explain it:
see `analysis.ambiguity.control`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.ambiguity.agreement import FEWEST_SPLIT, study_votes
from mixed_signals.analysis.ambiguity.control import (
    confidence,
    confidence_scores,
    control_table,
    length_scores,
)
from mixed_signals.analysis.ambiguity.raters import error_table, soft_label_table
from mixed_signals.analysis.ambiguity.ratings import (
    ConditionVotes,
    Floats,
    contested,
    vote_table,
)
from mixed_signals.analysis.ambiguity.sentences import (
    ERROR_METHOD,
    LENGTHS,
    SOFT_METHOD,
    control_findings,
    control_method,
    error_findings,
    link_findings,
    link_method,
    soft_findings,
)
from mixed_signals.analysis.disagreement.distances import (
    jensen_shannon,
    n_labels,
    unimodal_divergence,
)
from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.inference import Test, with_test, within_groups
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.study import Study
from mixed_signals.models.areas import areas
from mixed_signals.models.intervals import (
    Interval,
    blocks_jackknife,
    group_codes,
    group_jackknife,
    mean_interval,
    ratios_apart,
    sums_interval,
)

THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def disagreement_scores(panel: Panel) -> pd.DataFrame:
    """Return the scores of disagreement of this module's conventions, a column each, shape (N, S).

    The first column is the one that is tested.
    """
    outputs = {model: panel.seed_mean(model) for model in panel.models}
    pairs = [*combinations(panel.unimodals, 2)] if len(panel.unimodals) > 2 else []
    pairs += [(m, FUSION) for m in panel.unimodals]
    stacked = [outputs[m] for m in panel.unimodals]
    if panel.kind == "interval":
        scale = panel.truth.std()
        values = np.stack(stacked)[..., 0] / scale
        scores = {"spread": values.std(axis=0).mean(axis=0)}
        for a, b in pairs:
            scores[f"difference {a}-{b}"] = np.abs(outputs[a] - outputs[b])[..., 0].mean(axis=0) / scale
        return pd.DataFrame(scores)
    scores = {
        "jsd": unimodal_divergence(panel),
        "n_labels": n_labels([p.argmax(axis=-1) for p in stacked]).mean(axis=0),
    }
    for a, b in pairs:
        scores[f"jsd {a}-{b}"] = jensen_shannon(outputs[a], outputs[b]).mean(axis=0)
    return pd.DataFrame(scores)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's rank correlation with mid-ranks; NaN if either does not vary.

    Examples
    --------
    >>> round(spearman([1, 2, 3, 4], [1, 3, 2, 4]), 3)
    0.8
    """
    return _rank_correlation(_levels(x), _levels(y))


def _levels(x: ArrayLike) -> NDArray[np.intp]:
    return np.unique(np.asarray(x, dtype=np.float64), return_inverse=True)[1]


def _rank_correlation(x: NDArray[np.intp], y: NDArray[np.intp]) -> float:
    """Return the correlation of the ranks of levels, found by counting: nothing is sorted again."""
    a, b = _centred_ranks(x), _centred_ranks(y)
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else np.nan


def _centred_ranks(levels: NDArray[np.intp]) -> Floats:
    count = np.bincount(levels)
    ranks: Floats = (np.cumsum(count) - (count - 1) / 2)[levels]
    return ranks - (len(levels) + 1) / 2


def link_table(
    utterances: pd.DataFrame,
    votes: pd.DataFrame,
    groups: pd.Series | None = None,
    when: pd.Series | None = None,
    *,
    scores: Sequence[str] = ("jsd",),
    draws: int = 1000,
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
    draws, seed : int
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
    ambiguity = _levels(both["variance" if numeric else "ambiguity"])
    rows: list[dict[str, Any]] = []

    def add(score: str, quantity: str, found: Interval, test: Test | None = None) -> None:
        rows.append({"score": score, "quantity": quantity, **with_test(found, test)})

    for score in scores:
        level = _levels(both[score])
        tested = score == scores[0]
        found = _spearman_interval(level, ambiguity, by)
        add(
            score,
            "spearman",
            found,
            _tested(level, ambiguity, by, time, draws, seed) if tested else None,
        )
        if not numeric:
            disputed = both["contested"].to_numpy(dtype=bool)
            found = _auroc_interval(both[score].to_numpy(np.float64), disputed, by)
            test = _tested(level, disputed.astype(np.intp), by, time, draws, seed) if tested else None
            add(score, "auroc", found, test)
    if not numeric and "n_labels" in both:
        bits, differ = both["vote_entropy"].to_numpy(np.float64), (both["n_labels"] > 1).to_numpy()
        columns = np.column_stack([bits * differ, differ, bits * ~differ, ~differ])
        add(
            "n_labels",
            "entropy_difference",
            sums_interval(ratios_apart, columns, by),
        )
    table = pd.DataFrame(rows)
    table.insert(0, "head", str(utterances["head"].iloc[0]))
    order = ["head", "score", "quantity", "estimate", "low", "high", "p", "n", "n_groups", "method"]
    return table[order]


def _spearman_interval(x: NDArray[np.intp], y: NDArray[np.intp], groups: ArrayLike | None) -> Interval:
    return group_jackknife(lambda r: _rank_correlation(x[r], y[r]), len(x), groups, limits=(-1, 1))


def _auroc_interval(score: Floats, positive: NDArray[np.bool_], groups: ArrayLike | None) -> Interval:
    if not len(score):
        return group_jackknife(lambda r: np.nan, 0, groups)
    (found,) = blocks_jackknife(
        lambda blocks: areas(score, positive, blocks).auroc[None], len(score), groups, limits=(0, 1)
    )
    return found


def _tested(
    x: NDArray[np.intp],
    y: NDArray[np.intp],
    groups: NDArray[np.intp] | None,
    when: Floats | None,
    draws: int,
    seed: int,
) -> Test:
    """Test that ranks of x and y have nothing to do with each other within groups."""
    if not len(x):
        return Test(np.nan, np.nan, "no test: no rated utterance", 0)
    return within_groups(_centred_ranks(x), _centred_ranks(y), groups, when, draws=draws, seed=seed)


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
            "auroc": _auroc_interval(score, disputed, groups),
        }
        rows += [{"threshold": threshold, "quantity": name, **vars(one)} for name, one in found.items()]
    return pd.DataFrame(rows)


def evaluate(study: Study, panel: Panel) -> Answer:
    """Return whether one head's disagreement marks what people find ambiguous, and what it adds to confidence.

    Returns
    -------
    Answer
        Tables ``link``, ``thresholds``, ``control``, ``soft_labels`` and ``errors``, as far as the ratings allow.
    """
    votes, notes = study_votes(study)
    if votes is None:
        return Answer(notes=notes)
    rows = pd.Index(panel.ids, dtype=object).get_indexer(pd.Index(votes.ids, dtype=object))
    votes, rows, notes = votes.select(rows >= 0), rows[rows >= 0], []
    if not len(rows):
        return Answer(
            notes=[f"{panel.head}: none of its utterances has two ratings: no link with ambiguity."]
        )
    groups = panel.group_numbers()[rows] if panel.has_groups else None
    options = study.for_intervals

    scores = disagreement_scores(panel).iloc[rows].reset_index(drop=True)
    link = link_table(
        scores.assign(head=panel.head, utterance_id=votes.ids),
        vote_table(votes),
        _by_id(groups, votes.ids),
        _by_id(None if panel.when is None else panel.when[rows], votes.ids),
        scores=[*map(str, scores)],
        **study.for_tests,
    )
    tables = {"link": link}
    findings, methods = link_findings(link), [link_method(panel, link)]
    if votes.numbers is not None:
        notes = [
            f"{panel.head}: ratings are numbers, so that no utterance is contested: soft labels and what disagreement "
            "adds to confidence have no meaning."
        ]
        return Answer(tables, findings, notes, methods)

    tables["thresholds"] = threshold_table(scores["jsd"].to_numpy(np.float64), votes, groups, **options)
    lengths = length_scores(study.utterances, votes.ids)
    known = [*map(str, lengths)]
    base = pd.concat([confidence_scores(panel).iloc[rows].reset_index(drop=True), lengths], axis=1)
    control = control_table(contested(votes.counts), base, scores, confidence(panel)[rows], groups, **options)
    if isinstance(control, str):
        notes.append(f"{panel.head}: what disagreement adds to confidence cannot be said: {control}.")
    else:
        control.insert(0, "head", panel.head)
        tables["control"] = control
        findings += control_findings(control, known)
        methods.append(control_method(known, matched=groups is not None))
        absent = [words for name, words in LENGTHS.items() if name not in known]
        if absent:
            notes.append(
                f"{panel.head}: {' and '.join(absent)} of utterances are not controlled for: not known."
            )
        if groups is None:
            notes.append(f"{panel.head}: there are no groups, so no pairs within a group: no matched AUROC.")

    if votes.names != panel.classes:
        notes.append(
            f"{panel.head}: some ratings are no class of the target: no soft labels; shared raters: label and "
            "ambiguity cannot come from different ones."
        )
    else:
        tables["soft_labels"] = soft_label_table(panel, votes, rows, groups, **options)
        findings += soft_findings(tables["soft_labels"])
        methods.append(SOFT_METHOD)
        if (votes.n >= FEWEST_SPLIT).any():
            tables["errors"] = error_table(panel, votes, rows, groups, **options)
            findings += error_findings(tables["errors"])
            methods.append(ERROR_METHOD)
        else:
            notes.append(
                f"{panel.head}: shared raters: no utterance has {FEWEST_SPLIT} votes, so that label and ambiguity "
                "cannot come from different ones; what errors have to do with ambiguity is not told."
            )
    for table in tables.values():
        if "head" not in table:
            table.insert(0, "head", panel.head)
    return Answer(tables, findings, notes, methods)


def _by_id(values: NDArray[Any] | None, ids: NDArray[np.object_]) -> pd.Series | None:
    return None if values is None else pd.Series(values, index=ids)
