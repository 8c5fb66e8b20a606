"""What the columns of an analysis's tables mean, for ``tables.md``: each said once, with its unit.

A name in angle brackets stands for any of its kind: ``label_<model>`` describes ``label_text`` and ``label_fusion``.
A table's own columns come before those that several tables share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd


class Table(NamedTuple):
    """What one row of a table is, and the columns that mean something of their own there."""

    row: str
    columns: Mapping[str, str] = {}


SHARED: dict[str, str] = {
    "head": "head whose models are analysed",
    "utterance_id": "utterance",
    "modality": "text, audio or video",
    "model": "model, called by its modalities; `fusion` has all",
    "first": "first of the two that are compared",
    "second": "second of the two that are compared",
    "measure": "what is measured",
    "quantity": "which number about the measure this is",
    "score": "score of an utterance by which it is judged",
    "channel": "what raters were shown",
    "shown": "what raters were shown; empty where that is not known",
    "type": "type of the typology",
    "family": "type without the modalities that it names",
    "tie_rule": "what counts as right where values tie for the most votes: ties wrong (0), ties shared (1 over the "
    "number "
    "of tied values), or per response (the share of single votes)",
    "estimate": "what was estimated, in the unit of its measure or quantity",
    "low": "lower end of the 95% interval; none where `method` says why",
    "high": "upper end of the 95% interval",
    "p": "p-value, two-sided unless `method` says otherwise, not corrected for other tests; none where nothing was "
    "tested",
    "n": "utterances behind the estimate",
    "n_groups": "groups (speakers, dialogs) behind the estimate",
    "n_seeds": "trainings behind the estimate",
    "method": "how interval and p were made, or why there is none",
    "n_votes": "votes of the utterance",
    "count": "utterances of this type",
    "stability": "share of single seeds and partitions that give the same type, 0 to 1; none with one training",
    "gate": "weight of the modality in the fusion, 0 to 1, averaged over trainings",
    "contribution": "logit that the modality adds for the predicted class, less its mean over classes (interval "
    "targets: "
    "what it adds to the value), averaged over trainings",
}
"""Columns that mean the same wherever they stand."""

_DISTANCE = (
    "label (share of different labels, 0 to 1), jsd (Jensen-Shannon divergence, bits), margin (shift of the true "
    "class's "
    "margin, 0 to 2), p_true (difference of the true class's probability, 0 to 1), difference and error (interval "
    "targets, standard deviations of the truth)"
)
_VOTES = {
    "votes": "values and how many votes each has, most frequent first",
    "ambiguity": "chance that two of the utterance's raters, drawn without replacement, differ, 0 to 1",
    "vote_entropy": "entropy of the shares of the votes, bits; too low with few votes",
    "entropy_miller_madow": "the same with the Miller-Madow correction, bits",
    "entropy_bias_bound": "by how much `vote_entropy` is at most too low on average, bits",
    "contested": "whether no value has more than half of the votes",
    "mean": "mean of the ratings, where they are numbers, in their unit",
    "variance": "unbiased variance of the ratings, where they are numbers, in their unit squared",
}
_TYPED = {"confirmed": "of `misled by M`: whether the model without M is right; none for other types"}
_RATINGS = {"quantity": "what is said of the ratings"}

TABLES: dict[str, Table] = {
    "utterances": Table(
        "utterance of a head, from outputs averaged over seeds and partitions",
        {
            "label_true": "the label",
            "label_<model>": "most probable class of the model",
            "p_label_<model>": "probability of that class, 0 to 1: the model's confidence",
            "p_true_<model>": "probability of the label, 0 to 1",
            "n_labels": "different labels among the models of single modalities",
            "jsd": "Jensen-Shannon divergence of the models of single modalities at once, bits, at most log2 of "
            "their "
            "number, averaged over partitions",
            "jsd_<pair>": "the same of a pair of models; a modality alone is paired with the fusion",
            "margin_shift_<pair>": "the true class's margin of the pair's second model less that of the first, -2 "
            "to 2; "
            "above 0 where the second is nearer to the truth",
            "excess_<pair>": "different labels of two trainings beyond the floor of one model trained twice, -1 to 1 "
            "(interval targets: difference, standard deviations of the truth); none where not measured",
            "y_true": "true value of an interval target, in its unit",
            "y_<model>": "the model's value, in the target's unit",
            "spread": "standard deviation of the values of the models of single modalities, in standard deviations "
            "of the "
            "truth, averaged over partitions",
            "difference_<pair>": "value of the pair's second model less that of the first, in standard deviations "
            "of the "
            "truth",
            "group": "speaker or dialog that is resampled; empty where there is none",
            "text": "transcript",
            "gate_<modality>": "weight of the modality in the fusion, 0 to 1, averaged over trainings",
            "contribution_<modality>": "what the modality adds to the fusion's decision (logit, or value), "
            "averaged over "
            "trainings",
            **_TYPED,
            **_VOTES,
        },
    ),
    "rates": Table(
        "pair of models, measure and quantity",
        {
            "measure": _DISTANCE,
            "quantity": "rate, between, floor, excess, same_modality, beyond_same_modality, shift, chance, "
            "beyond_chance, "
            "kappa, concordance or generalised, in the measure's unit",
            "repeats": "what the row's trainings are: seeds, bags of groups, or what two models of one modality were "
            "fitted to (feature sets, halves of the features)",
        },
    ),
    "typology": Table(
        "type",
        {
            "estimate": "share of utterances of this type, 0 to 1",
            "chance": "its share if all models had their mistakes independently of each other, 0 to 1",
            "beyond_chance": "share less that by chance; `p` is of its being 0",
            "beyond_low": "lower end of its 95% interval",
            "beyond_high": "upper end of its 95% interval",
            "confirmed": "utterances misled by M on which the model without M is right; none for other types",
        },
    ),
    "types": Table("utterance of a head", _TYPED),
    "confirmed": Table(
        "type `misled by M`",
        {
            "estimate": "share of its utterances that are confirmed, 0 to 1",
            "without": "modalities of the model without M",
            "by_definition": "whether one modality is left, which is right by definition of the type",
            "confirmed": "utterances on which the model without M is right",
        },
    ),
    "link": Table(
        "score of disagreement and quantity",
        {
            "score": "jsd and spread as in utterances; `jsd a-b` and `difference a-b` of a pair; n_labels",
            "quantity": "spearman (rank correlation with the raters' ambiguity, -1 to 1), auroc (for contested "
            "utterances, "
            "0 to 1) or entropy_difference (bits of vote entropy where labels differ less where they agree)",
        },
    ),
    "thresholds": Table(
        "threshold and quantity",
        {
            "threshold": "contested is an utterance of which no value has more than this share of the votes, 0 to 1",
            "quantity": "share of contested utterances, or auroc of the modalities' divergence for them, 0 to 1",
        },
    ),
    "control": Table(
        "quantity", {"quantity": "log losses in nats, areas under the ROC curve 0 to 1, correlation -1 to 1"}
    ),
    "soft_labels": Table(
        "model and quantity",
        {
            "quantity": "cross-entropy with the shares of the votes (nats) or Brier score (0 to 2)",
            "model": "model; `prior` gives every utterance the class frequencies of the training rows",
        },
    ),
    "errors": Table(
        "model and choice of raters",
        {
            "raters": "disjoint: label and ambiguity from different votes; shared: from the same",
            "estimate": "ambiguity where the model is wrong less where it is right, -1 to 1",
        },
    ),
    "votes": Table("rated utterance", _VOTES),
    "ambiguity": Table("quantity, mean over rated utterances", _RATINGS),
    "alpha": Table("level of measurement", {"quantity": "Krippendorff's alpha at this level, at most 1"}),
    "reliability": Table(
        "quantity", {"quantity": "how far half of the votes tells the other half, at most 1"}
    ),
    "dominance": Table(
        "modality and measure of its importance",
        {
            "measure": "shapley, leave-one-out (nats; interval targets: share of the variance), shapley share (0 "
            "to 1), "
            "gate (0 to 1), contribution (logits or values), permutation (loss of accuracy or R squared)",
            "rank": "of the modality by this measure, 1 for the largest",
        },
    ),
    "shapley": Table(
        "utterance and modality",
        {
            "phi": "Shapley value towards the fusion's decision, nats (interval targets: share of the variance)",
            "phi_label": "the same towards the label",
            "dominant": "whether the absolute value of phi is at least half of the sum over modalities",
            "unsupported": "whether all other modalities give the fusion's decision less than the prior does",
        },
    ),
    "dominant_rows": Table(
        "modality and quantity",
        {
            "modality": "text, audio, video, or any modality",
            "quantity": "share of utterances, or how often the fusion is wrong in them, 0 to 1 (interval targets: "
            "squared "
            "error over the variance)",
        },
    ),
    "exchange": Table(
        "modality and quantity",
        {
            "quantity": "how often the fusion follows the modality of another row, or changes, 0 to 1 (interval "
            "targets: "
            "moves, in standard deviations), beside an exchange within the class"
        },
    ),
    "additivity": Table(
        "quantity",
        {
            "quantity": "accuracy (R squared) of the head and of its additive projection, their gap, and the "
            "shares of "
            "variance not additive and of decisions changed, 0 to 1",
            "n_draws": "draws of the other modalities; 0 where all pairs were taken",
            "draws_error": "standard error that the draws leave in the estimate, in its unit",
        },
    ),
    "risk_coverage": Table(
        "point of a curve",
        {
            "loss": "what a wrong answer costs: error (0 or 1), squared or absolute error (in the target's unit)",
            "score": "doubt by which utterances are left out, or oracle",
            "coverage": "share of utterances that are accepted, 0 to 1",
            "risk": "mean loss of those that are accepted",
            "generalised_risk": "their summed loss over all utterances",
        },
    ),
    "selective": Table(
        "doubt, or difference of two, and measure",
        {
            "loss": "what a wrong answer costs: error (0 or 1), squared or absolute error (in the target's unit)",
            "score": "doubt by which utterances are left out; oracle, random",
            "against": "doubt whose area is taken off; empty for the area itself",
            "measure": "AURC or AUGRC, areas under the risk-coverage curve and the generalised one, in the loss's "
            "unit; "
            "lower is better",
            "over_oracle": "area less that of the best order",
            "over_random": "area less that of a random order",
        },
    ),
    "calibration": Table(
        "model and quantity",
        {
            "quantity": "squared calibration error of the top label or of a class (probability squared, debiased, "
            "may be "
            "negative), or overconfidence (highest probability less accuracy)"
        },
    ),
    "parts": Table(
        "model, measure and part",
        {
            "measure": "accuracy (0 to 1) or log loss (nats)",
            "part": "contested, uncontested, or difference (contested less uncontested)",
        },
    ),
    "stress": Table(
        "changed modality, change, measure and quantity",
        {
            "modality": "modality that is changed; empty for what was before",
            "change": "drop, swap, noise or permute",
            "measure": "accuracy (0 to 1), log loss (nats), divergence (bits); absolute and squared error (in the "
            "target's "
            "unit), spread (standard deviations of the truth)",
            "quantity": "before, after, or change (after less before)",
        },
    ),
    "training": Table(
        "weighting, measure and kind of interval",
        {
            "weighting": "how training rows were weighted by disagreement",
            "measure": "accuracy (0 to 1), log loss (nats) or absolute error (in the target's unit)",
            "over": "what the interval is over: folds or groups",
            "plain": "score of the run's own training",
            "weighted": "score of weighted training",
            "estimate": "weighted less plain",
        },
    ),
    "comparison": Table(
        "pair of models, measure and kind of interval",
        {
            "measure": "accuracy and macro F1 (0 to 1), log loss (nats), Brier (0 to 2), CCC (-1 to 1), MAE (in "
            "the target's "
            "unit)",
            "over": "folds (would it be so after training again?) or rows (for other groups, with these models?)",
            "estimate": "score of the first less that of the second",
            "n": "rows, utterances times partitions",
        },
    ),
    "seed_spread": Table(
        "model and metric",
        {
            "metric": "what is measured, in its own unit",
            "mean": "mean over seeds",
            "sd": "standard deviation over seeds",
        },
    ),
    "people": Table(
        "channel and rule for ties",
        {"estimate": "how often people give the label, 0 to 1", "votes": "votes behind the estimate"},
    ),
    "people_votes": Table(
        "utterance and channel",
        {
            "label": "the label",
            "winner": "value with the most votes; several joined by a colon",
            "ties_wrong": "1 where the label alone has the most votes, else 0",
            "ties_shared": "1 over the number of values that tie for the most votes where the label is one, else 0",
            "per_response": "share of the votes that give the label, 0 to 1",
        },
    ),
    "channels": Table(
        "pair of channels, label, votes, rule for ties and quantity",
        {
            "more": "whether the second shows all of the first and more",
            "label": "label of the utterances; empty for all",
            "votes": "whether all votes are counted, or halves of them",
            "quantity": "gain, loss, net, flips and their excesses, shares of utterances, -1 to 1; cochran_q is a "
            "statistic",
        },
    ),
    "people_link": Table(
        "pair of channels and quantity",
        {
            "both": "channel that shows both",
            "quantity": "divergence, floor and excess (bits); spearman, adds (rank correlations, -1 to 1), auroc "
            "(0 to 1)",
        },
    ),
    "people_kappa": Table(
        "channel", {"quantity": "which kappa, at most 1", "raters": "raters who are known by name"}
    ),
    "people_models": Table(
        "pair of channels and quantity",
        {
            "quantity": "divergence, floor and excess of people's votes, models and models_excess of the models "
            "(bits); "
            "spearman of the two (-1 to 1)"
        },
    ),
}
"""Every table by its name."""


def meaning(table: str, column: str) -> tuple[str, str] | None:
    """Return the name or pattern under which a table's column is described, and what it means; None if it is not."""
    own = TABLES[table].columns if table in TABLES else {}
    for known in (own, SHARED):
        for name, said in known.items():
            if re.fullmatch(_pattern(name), column):
                return name, said
    return None


def _pattern(name: str) -> str:
    return re.sub(r"<\w+>", ".+", re.sub(r"[^\w<>]", lambda found: re.escape(found[0]), name))


def dictionary(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the data dictionary of some tables as Markdown: shared columns once, then each table's own."""
    parts, shared = [], set()
    for name in (name for name in tables if name in TABLES):
        found = dict(filter(None, (meaning(name, str(column)) for column in tables[name])))
        shared |= found.keys() - TABLES[name].columns.keys()
        own = {column: said for column, said in found.items() if column in TABLES[name].columns}
        parts.append(f"## {name}\n\nOne row for each {TABLES[name].row}.\n{_listed(own)}")
    order = {column: said for column, said in SHARED.items() if column in shared}
    first = f"## In several tables\n{_listed(order)}"
    return "\n".join(["# Tables\n", first, *parts])


def _listed(columns: Mapping[str, str]) -> str:
    lines = "".join(f"- `{name}`: {said}\n" for name, said in columns.items())
    return f"\n{lines}" if lines else ""
