"""What the tables on ambiguity say, in sentences, and how they were made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixed_signals.analysis.ambiguity.agreement import FEWEST_SPLIT, SPLITS
from mixed_signals.analysis.cross_fitting import N_FOLDS
from mixed_signals.analysis.findings import Finding, against, called, finding, records, side, with_interval
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.scores import DECILES

LINK = "Does disagreement between modalities mark utterances that people find ambiguous?"
ADDS = "Does disagreement add to confidence in telling which utterances people find ambiguous?"
RATERS = "How close are the models to the raters?"
ERRORS = "Are utterances that a model gets wrong ambiguous for people?"
LENGTHS = {"words": "length", "seconds": "duration"}

_LINKS = {
    "jsd": "the modalities' divergence",
    "spread": "the spread of the modalities' values",
}


def link_findings(link: pd.DataFrame) -> list[Finding]:
    """Return findings on the link of the score that was tested with ambiguity."""
    score = link["score"].iloc[0]
    what = _LINKS[score]
    says = {
        "spearman": (f"rank correlation of {what} with the raters' ambiguity", 0.0, ""),
        "auroc": (f"AUROC of {what} for contested utterances", 0.5, ""),
        "entropy_difference": (
            "vote entropy where the modalities' labels differ, minus where they agree,",
            0.0,
            "bits",
        ),
    }
    found = []
    for row in records(link[(link["score"] == score) | (link["quantity"] == "entropy_difference")]):
        quantity, reference, unit = says[row["quantity"]]
        if np.isnan(row["estimate"]):
            said = f"{row['head']}: {quantity} is undefined here ({row['n']} rated utterances)."
        else:
            said = f"{row['head']}: {quantity} is {with_interval(row, unit)}{against(row, reference)}."
        found.append(finding(LINK, f"{row['score']}, {row['quantity']}", row, said))
    return found


def control_findings(control: pd.DataFrame, lengths: Sequence[str]) -> list[Finding]:
    """Return findings on what disagreement adds; `lengths` are the columns of length and duration that were known."""
    these = these_scores(lengths)
    by = {row["quantity"]: row for row in records(control)}
    found = []
    row = by["log loss added"]
    where = {
        "above": "disagreement adds to these scores",
        "below": "disagreement adds nothing to these scores and costs a little",
        "not distinguishable from": "it is not shown that disagreement adds to these scores",
        "": "there is no interval to say more",
    }[side(row, 0.0)]
    said = (
        f"{row['head']}: to {these}, disagreement adds {with_interval(row, 'nats', 4)} of log loss in telling "
        f"contested utterances of held-out groups: {where}."
    )
    found.append(finding(ADDS, "log loss added", row, said))
    row = by["AUROC added"]
    said = f"{row['head']}: it adds {with_interval(row, 'points')} of AUROC to these scores{against(row)}."
    found.append(finding(ADDS, "AUROC added", row, said))
    row = by["partial correlation"]
    said = (
        f"{row['head']}: the partial correlation of the modalities' divergence and being contested, given these "
        f"scores, is {with_interval(row)}{against(row)}."
    )
    found.append(finding(ADDS, "partial correlation", row, said))
    if "AUROC, matched" in by:
        row = by["AUROC, matched"]
        if np.isfinite(row["estimate"]):
            said = (
                f"{row['head']}: among pairs of one group and one decile of the fusion's confidence, the AUROC of the "
                f"modalities' divergence for contested utterances is {with_interval(row)}{against(row, 0.5)}."
            )
        else:
            said = (
                f"{row['head']}: no contested and uncontested utterance share group and decile of confidence."
            )
        found.append(finding(ADDS, "AUROC, matched", row, said))
    return found


def soft_findings(table: pd.DataFrame) -> list[Finding]:
    """Return findings on the models' cross-entropy with the shares of the votes."""
    rows = records(table[table["quantity"] == "cross-entropy"])
    return [
        finding(
            RATERS,
            f"{row['model']}, cross-entropy",
            row,
            f"{row['head']}: the cross-entropy of {_model(row['model'])} with the raters' votes is "
            f"{with_interval(row, 'nats')}.",
        )
        for row in rows
    ]


def error_findings(table: pd.DataFrame) -> list[Finding]:
    """Return findings on ambiguity where the fusion is wrong, label and ambiguity from disjoint raters."""
    mine = records(table[table["model"] == FUSION])
    by = {row["raters"]: row for row in mine}
    row = by["disjoint"]
    if np.isnan(row["estimate"]):
        said = f"{row['head']}: the fusion is always right or always wrong: nothing to compare."
    else:
        shared = by["shared"]["estimate"]
        said = (
            f"{row['head']}: the raters' ambiguity where the fusion is wrong, minus where it is right, is "
            f"{with_interval(row)}{against(row)} (label and ambiguity from disjoint raters; {shared:.2f} were "
            "they shared)."
        )
    return [finding(ERRORS, "fusion, ambiguity of errors", row, said)]


_TESTS = {
    "circular shifts": "circular shifts in time within groups [Lancaster 2018]",
    "sign flips": "sign flips of the groups' sums of products, less group means [Winkler 2014]",
    "permuted": "permutations within groups [Winkler 2015]",
}


def link_method(panel: Panel, link: pd.DataFrame) -> str:
    """Return how the link of `analysis.ambiguity.link.link_table` was found."""
    used = [words for name, words in _TESTS.items() if link["method"].str.contains(name).any()]
    tested = f"tested by {' and '.join(used)}" if used else "not tested"
    if panel.kind == "interval":
        return (
            "Disagreement was the standard deviation of the unimodal models' values in standard deviations of the "
            f"truth; its Spearman correlation with the variance of an utterance's ratings was {tested}."
        )
    return (
        "Disagreement was the generalised Jensen-Shannon divergence of the unimodal models' probabilities [Lin 1991], "
        "averaged over seeds; its Spearman correlation with A, and its AUROC for contested utterances, were "
        f"{tested}, with delete-a-group jackknife intervals."
    )


def control_method(lengths: Sequence[str], matched: bool) -> str:
    """Return how it was found what disagreement adds."""
    said = (
        f"What disagreement adds to {these_scores(lengths)} (with their squares) was the gain in log loss and AUROC of "
        f"ridge logistic regressions for contested utterances on held-out groups ({N_FOLDS} folds of whole groups), "
        "tested by sign flips of groups [Winkler 2014], and a partial correlation, tested after Freedman and Lane "
        "[Freedman 1983]"
    )
    if matched:
        said += f"; pairs were matched on group and on {DECILES} deciles of the fusion's confidence"
    return f"{said}."


SOFT_METHOD = (
    "Models were set beside vote shares by cross-entropy [Peterson 2019] and Brier score [Brier 1950]."
)
ERROR_METHOD = (
    f"Ambiguity of errors was told with label and A from disjoint halves of the votes ({SPLITS} random splits of "
    f"utterances with {FEWEST_SPLIT} votes or more)."
)


def these_scores(lengths: Sequence[str]) -> str:
    """Return in words what disagreement is set beside."""
    parts = ["entropy and margin of the fusion and of every modality", *(LENGTHS[name] for name in lengths)]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _model(name: str) -> str:
    if name == "prior":
        return "the class frequencies of the training rows"
    return called(name) if name == FUSION else f"the model of {name}"
