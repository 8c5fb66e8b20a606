"""Disagreement between the unimodal models and the fusion of one head, beside what it has to exceed.

Conventions
-----------
Every pair of unimodals, and each unimodal with the fusion, is compared by the distances of
`analysis.disagreement.distances` (of classes: different labels, Jensen-Shannon divergence, margin shift and the
difference in the probability of the true label; of an interval target: the difference in standard deviations of the
truth). A table of rates has a row for each pair, each distance (its ``measure``) and each ``quantity``:

- ``rate``: mean distance of the two models' outputs, each averaged over seeds. Rates of ``label`` and of ``p_true``
  between a unimodal and the fusion are the two measures of Srikanth et al. (2025).
- ``between``, ``floor``, ``excess``: of single trainings; see `analysis.disagreement.trainings` and
  `analysis.disagreement.floors`.
- ``same_modality``: rate of two models of one modality (see `analysis.disagreement.same_modality`); of a pair of
  modalities the mean of the two. ``beyond_same_modality``: rate minus it.
- ``shift`` (margin, p_true): mean change, with its sign, from the first model to the second; above 0 where the second
  gives the truth more. Of an interval target (``error``): mean change of the absolute error, in standard deviations of
  the truth; below 0 where the second is nearer to the truth.
- ``chance`` and ``beyond_chance`` (label, difference): the rate that independent models with the same mistakes would
  have, and the rate minus it; see `analysis.disagreement.chance`.
- ``kappa`` (label): Cohen's kappa, ``1 - rate / (rate expected of independent labels)`` (Cohen 1960), which is
  scikit-learn's ``cohen_kappa_score`` in one partition; over several, both rates are means over partitions.
- ``concordance`` (difference): Lin's concordance correlation of the two models' values (Lin 1989).
- ``generalised`` (jsd, once a head): the divergence of all unimodals at once, at most ``log2(M)``. It has no floor of
  its own; those of the pairs are beside it.

Distances are taken within a partition and averaged over partitions. Intervals and tests respect groups (see
`mixed_signals.models.intervals` and `analysis.inference`) and are conditional on the trained models: they
say what other groups of utterances would change, not what other seeds would; but for ``excess``, whose interval and
test take trainings into account. ``shift`` and what is ``beyond`` are tested against a mean of 0.
"""

from __future__ import annotations

import numpy as np

from mixed_signals.analysis.disagreement.floors import excess_values, repeated_panel
from mixed_signals.analysis.disagreement.rates import pairs_of, rate_table
from mixed_signals.analysis.disagreement.same_modality import same_modality
from mixed_signals.analysis.disagreement.sentences import rate_findings, rate_methods
from mixed_signals.analysis.disagreement.utterances import utterance_table
from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.scores import row_scores
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import mean_interval

_BETTER = {"accuracy": 1, "log loss": -1, "squared error": -1}  # the sign of what is better in a score


def evaluate(study: Study, panel: Panel) -> Answer:
    """Return how often and how far the models of one head disagree, and whether that is more than it has to be.

    Where the study allows it, heads are trained for this: on resampled groups where the head depends on no seed, and
    several of each modality.

    Parameters
    ----------
    study : Study
    panel : Panel
        One of the study's.

    Returns
    -------
    Answer
        Tables ``rates`` (see `analysis.disagreement.rates.rate_table`) and ``utterances`` (see
        `analysis.disagreement.utterances.utterance_table`).
    """
    if panel.kind == "interval" and panel.truth.std() == 0:
        return Answer(
            notes=[f"{panel.head}: the target has one value throughout; differences have no scale."]
        )
    repeated, same = repeated_panel(study, panel), same_modality(study, panel)
    excess = excess_values(repeated, panel, pairs_of(panel))
    rates = rate_table(study, panel, repeated, excess, same)
    return Answer(
        tables={"rates": rates, "utterances": utterance_table(panel, excess)},
        findings=rate_findings(rates, silent_models(study, panel)),
        notes=[f"{panel.head}: {each.why}." for each in (repeated, same) if each.why],
        methods=rate_methods(panel, repeated, same),
    )


def silent_models(study: Study, panel: Panel) -> frozenset[str]:
    """Return the models that are not shown to say anything of the target: no better than the training rows' prior.

    Better is a mean difference whose interval lies above 0 (without intervals: that is above 0), in accuracy or in the
    log loss; of an interval target in squared error. Without a prior in the run, none.
    """
    if panel.prior is None:
        return frozenset()
    expected = row_scores(panel, panel.prior.mean(axis=0))

    def is_better(model: str) -> bool:
        mine = row_scores(panel, panel.mean(model))
        gains = [
            sign * (mine[name].by_row - expected[name].by_row)
            for name, sign in _BETTER.items()
            if name in mine
        ]
        found = [mean_interval(gain, panel.groups, **study.resampling) for gain in gains]
        return any((each.low if np.isfinite(each.low) else each.estimate) > 0 for each in found)

    return frozenset(model for model in panel.models if not is_better(model))
