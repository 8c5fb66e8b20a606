"""Robustness: when to trust the fusion, and what it takes to break it.

Conventions
-----------
Four questions: what abstaining gains (`analysis.robustness.selective`), whether probabilities happen as often as
they say (`analysis.robustness.calibration`), how well models do on utterances that people contest
(`analysis.robustness.parts`), and what changed rows do (`analysis.robustness.stress`). What training with other weights
would change is asked apart (`analysis.robustness.reweighting`), since it trains.

- Scores: accuracy and log loss (natural logarithm); of interval targets the absolute and the squared error. Outputs are
  averaged over seeds and partitions first.
- Contested: no value has more than half of the votes (`analysis.ambiguity.ratings.vote_table`); not defined for the
  numbers that an interval target is made of.
- Stress: one modality of the held-out rows is dropped, exchanged with that of a row of another class and the same group
  (swap), given noise of `SCALE` standard deviations, or permuted among the rows of its fold; the heads are those that
  did not see the rows. ``change`` is after less before, of the same rows. The unimodal model of that modality is
  changed alike, which says whether the models' divergence rises; without its modality it has nothing to say, so that
  there is no divergence after a drop. One draw of the noise and of the exchanges stands for all. Of large runs the
  heads of the first seeds alone are asked, before and after, so that a change costs about `MOST_PREDICTIONS`
  predictions.
"""

from __future__ import annotations

from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.robustness.calibration import N_BINS, calibration_table
from mixed_signals.analysis.robustness.parts import parts_of
from mixed_signals.analysis.robustness.selective import BOTH, curve_table, doubts_of, selective_table
from mixed_signals.analysis.robustness.sentences import (
    calibration_findings,
    part_findings,
    selective_findings,
    stress_findings,
)
from mixed_signals.analysis.robustness.stress import SCALE, stress_table
from mixed_signals.analysis.study import Study
from mixed_signals.store.errors import UsageError


def evaluate(study: Study, panel: Panel) -> Answer:
    """Return how far one head can be trusted.

    Tables ``risk_coverage`` (curves), ``selective`` (areas), ``calibration``, ``parts`` and ``stress``; those that the
    data cannot give are left out, and a note says why.
    """
    tables, findings, notes = {}, [], []
    doubts = doubts_of(panel)
    tables["risk_coverage"] = curve_table(panel, doubts)
    tables["selective"] = selective_table(panel, doubts)
    findings += selective_findings(tables["selective"])
    methods = [
        "Abstaining was judged by the areas under the risk-coverage curve [Geifman 2017; Geifman 2019] and under the "
        "generalised one [Traub 2024], as expectations over the orders of tied utterances; intervals are by "
        "delete-a-group jackknife."
    ]
    if panel.kind == "interval":
        notes.append(
            f"{panel.head}: the heads of an interval target give values and no probabilities: there is no confidence "
            "to abstain by or to calibrate; abstaining is by the spread of the unimodal models' values alone."
        )
    else:
        if BOTH not in doubts:
            notes.append(
                f"{panel.head}: confidence and divergence are not combined, which needs two groups or more."
            )
        tables["calibration"] = calibration_table(panel, **study.resampling)
        findings += calibration_findings(tables["calibration"])
        methods += [
            "Disagreement was added to confidence by logistic regression of the fusion's errors on the log-odds of its "
            "highest probability and on the Jensen-Shannon divergence of the unimodal models [Lin 1991], cross-fitted "
            "on held-out groups.",
            f"Calibration is the debiased squared error over {N_BINS} bins of equal mass [Kumar 2019; Broecker 2012], "
            "from products of utterances of different groups.",
        ]
    parts = parts_of(study, panel)
    if isinstance(parts, str):
        notes.append(parts)
    else:
        tables["parts"] = parts
        findings += part_findings(parts)
    try:
        tables["stress"] = stress_table(study, panel)
    except UsageError as error:
        notes.append(f"{panel.head}: no stress test: {error}.")
    else:
        findings += stress_findings(tables["stress"])
        methods.append(
            "In the stress test each modality of the held-out rows was dropped, swapped with that of another class and "
            f"the same group, given gaussian noise of {SCALE:g} standard deviation, or permuted, and predicted by the "
            "heads that had not seen the rows; changes were tested by flipping the signs of whole groups."
        )
    return Answer(tables, findings, notes, methods)
