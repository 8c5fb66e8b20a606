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

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.ambiguity.agreement import FEWEST_SPLIT, study_votes
from mixed_signals.analysis.ambiguity.control import confidence_scores, control_table, length_scores
from mixed_signals.analysis.ambiguity.link import disagreement_scores, link_table, threshold_table
from mixed_signals.analysis.ambiguity.raters import error_table, soft_label_table
from mixed_signals.analysis.ambiguity.ratings import ConditionVotes, contested, vote_table
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
from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.scores import confidence
from mixed_signals.analysis.study import Study


@dataclass(frozen=True)
class _Rated:
    """The utterances of a panel that have votes."""

    study: Study
    panel: Panel
    votes: ConditionVotes
    rows: NDArray[np.intp]  # of the panel

    @property
    def groups(self) -> NDArray[np.intp] | None:
        return self.panel.group_numbers()[self.rows] if self.panel.has_groups else None

    def by_id(self, values: NDArray[Any] | None) -> pd.Series | None:
        return None if values is None else pd.Series(values, index=self.votes.ids)


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
    rated = _Rated(study, panel, votes.select(rows >= 0), rows[rows >= 0])
    if not len(rated.rows):
        return Answer(
            notes=[f"{panel.head}: none of its utterances has two ratings: no link with ambiguity."]
        )
    answer = Answer()
    scores = disagreement_scores(panel).iloc[rated.rows].reset_index(drop=True)
    _ask_link(rated, scores, answer)
    if rated.votes.numbers is not None:
        answer.notes.append(
            f"{panel.head}: ratings are numbers, so that no utterance is contested: soft labels and what disagreement "
            "adds to confidence have no meaning."
        )
    else:
        _ask_control(rated, scores, answer)
        _ask_raters(rated, answer)
    for table in answer.tables.values():
        if "head" not in table:
            table.insert(0, "head", panel.head)
    return answer


def _ask_link(rated: _Rated, scores: pd.DataFrame, answer: Answer) -> None:
    """Add whether disagreement goes with ambiguity."""
    study, panel, votes = rated.study, rated.panel, rated.votes
    link = link_table(
        scores.assign(head=panel.head, utterance_id=votes.ids),
        vote_table(votes),
        rated.by_id(rated.groups),
        rated.by_id(None if panel.when is None else panel.when[rated.rows]),
        scores=[*map(str, scores)],
        **study.resampling,
    )
    answer.tables["link"] = link
    answer.findings.extend(link_findings(link))
    answer.methods.append(link_method(panel, link))
    if votes.numbers is None:
        score = scores["jsd"].to_numpy(np.float64)
        answer.tables["thresholds"] = threshold_table(score, votes, rated.groups, **study.resampling)


def _ask_control(rated: _Rated, scores: pd.DataFrame, answer: Answer) -> None:
    """Add what disagreement adds to confidence, length and duration."""
    study, panel, votes, groups = rated.study, rated.panel, rated.votes, rated.groups
    lengths = length_scores(study.utterances, votes.ids)
    known = [*map(str, lengths)]
    base = pd.concat([confidence_scores(panel).iloc[rated.rows].reset_index(drop=True), lengths], axis=1)
    sure, disputed = confidence(panel)[rated.rows], contested(votes.counts)
    control = control_table(disputed, base, scores, sure, groups, **study.resampling)
    if isinstance(control, str):
        answer.notes.append(f"{panel.head}: what disagreement adds to confidence cannot be said: {control}.")
        return
    control.insert(0, "head", panel.head)
    answer.tables["control"] = control
    answer.findings.extend(control_findings(control, known))
    answer.methods.append(control_method(known, matched=groups is not None))
    absent = [words for name, words in LENGTHS.items() if name not in known]
    if absent:
        answer.notes.append(
            f"{panel.head}: {' and '.join(absent)} of utterances are not controlled for: not known."
        )
    if groups is None:
        answer.notes.append(
            f"{panel.head}: there are no groups, so no pairs within a group: no matched AUROC."
        )


def _ask_raters(rated: _Rated, answer: Answer) -> None:
    """Add how close the models are to the raters, and how ambiguous errors are."""
    panel, votes = rated.panel, rated.votes
    if votes.names != panel.classes:
        answer.notes.append(
            f"{panel.head}: some ratings are no class of the target: no soft labels; shared raters: label and "
            "ambiguity cannot come from different ones."
        )
        return
    given: tuple[Any, ...] = (panel, votes, rated.rows, rated.groups)
    answer.tables["soft_labels"] = soft_label_table(*given, **rated.study.resampling)
    answer.findings.extend(soft_findings(answer.tables["soft_labels"]))
    answer.methods.append(SOFT_METHOD)
    if not (votes.n >= FEWEST_SPLIT).any():
        answer.notes.append(
            f"{panel.head}: shared raters: no utterance has {FEWEST_SPLIT} votes, so that label and ambiguity "
            "cannot come from different ones; what errors have to do with ambiguity is not told."
        )
        return
    answer.tables["errors"] = error_table(*given, **rated.study.resampling)
    answer.findings.extend(error_findings(answer.tables["errors"]))
    answer.methods.append(ERROR_METHOD)
