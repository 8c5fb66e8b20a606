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
- ``same_modality``: rate of two models of one modality (of disjoint halves of its features); of a pair of modalities
  the mean of the two. ``beyond_same_modality``: rate minus it.
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

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.disagreement.chance import expected_difference, expected_disagreement, strata_of
from mixed_signals.analysis.disagreement.distances import (
    Values,
    distances,
    jensen_shannon,
    margin,
    n_labels,
    of_class,
    unimodal_divergence,
)
from mixed_signals.analysis.disagreement.floors import (
    Pair,
    Repeated,
    aligned,
    excess_values,
    floor_values,
    halved_panel,
    repeated_panel,
    same_modality_values,
)
from mixed_signals.analysis.disagreement.sentences import rate_findings
from mixed_signals.analysis.disagreement.trainings import Excess
from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.inference import sign_flip
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import Interval, Limits, group_codes, mean_interval, sums_interval
from mixed_signals.models.measures import concordance

UNIMODALS = "unimodals"  # all of them at once, where a row is not about a pair
_SHIFTING: dict[str, Callable[[Values, NDArray[np.intp]], Values]] = {"margin": margin, "p_true": of_class}


def evaluate(study: Study, panel: Panel) -> Answer:
    """Return how often and how far the models of one head disagree, and whether that is more than it has to be.

    Where the study allows it, heads are trained for this: on resampled groups where the head depends on no seed, and on
    halves of each modality's features.

    Parameters
    ----------
    study : Study
    panel : Panel
        One of the study's.

    Returns
    -------
    Answer
        Tables ``rates`` (see `rate_table`) and ``utterances`` (see `utterance_table`).
    """
    if panel.kind == "interval" and panel.truth.std() == 0:
        return Answer(
            notes=[f"{panel.head}: the target has one value throughout; differences have no scale."]
        )
    repeated = repeated_panel(study, panel)
    halves = halved_panel(study, panel)
    rates = rate_table(study, panel, repeated, halves)
    return Answer(
        tables={"rates": rates, "utterances": utterance_table(panel, repeated)},
        findings=rate_findings(rates, silent_models(study, panel)),
        notes=[f"{panel.head}: {each.why}." for each in (repeated, halves) if each.why],
        methods=_methods(panel, repeated, halves),
    )


def silent_models(study: Study, panel: Panel) -> frozenset[str]:
    """Return the models that are not shown to say anything of the target: no better than the training rows' prior.

    Better is a mean difference whose interval lies above 0 (without intervals: that is above 0), in accuracy or in the
    log probability of the true class; of an interval target in squared error. Without a prior in the run, none.
    """
    if panel.prior is None:
        return frozenset()
    expected = panel.prior.mean(axis=0)
    return frozenset(
        model for model in panel.models if not any(_is_better(study, panel, panel.mean(model), expected))
    )


def _is_better(study: Study, panel: Panel, outputs: Values, expected: Values) -> Iterator[bool]:
    for mine, other in zip(_scores(panel, outputs), _scores(panel, expected), strict=True):
        found = mean_interval(mine - other, panel.groups, **study.for_intervals)
        yield (found.low if np.isfinite(found.low) else found.estimate) > 0


def _scores(panel: Panel, outputs: Values) -> list[Values]:
    if panel.kind == "interval":
        return [-((outputs[:, 0] - panel.truth) ** 2)]
    right = (outputs.argmax(axis=1) == panel.truth).astype(np.float64)
    return [right, np.log(np.maximum(of_class(outputs, panel.truth), 1e-6))]


def pairs_of(panel: Panel) -> list[Pair]:
    """Return each unimodal with the fusion, then the unimodals with each other."""
    return [*((m, FUSION) for m in panel.unimodals), *combinations(panel.unimodals, 2)]


def rate_table(study: Study, panel: Panel, repeated: Repeated, halves: Repeated) -> pd.DataFrame:
    """Return every measure of every pair of one head's models, with intervals and tests.

    Parameters
    ----------
    study : Study
    panel : Panel
    repeated, halves : Repeated
        Trainings of the same models again, and models of halves of the modalities (see
        `analysis.disagreement.floors`).

    Returns
    -------
    DataFrame
        ``head, first, second, measure, quantity, estimate, low, high, p, n, n_groups, n_seeds, repeats, method``; see
        this module's conventions. `n_seeds` counts the trainings behind a row, and `repeats` says what they are: seeds,
        bags or halves. What was not measured is NaN, and `method` says why.
    """
    rows = _Rows(study, panel)
    pairs = pairs_of(panel)
    excess = excess_values(repeated, panel, pairs)
    same = same_modality_values(halves, panel)
    for distance in distances(panel):
        views = {model: distance.view(panel.seed_mean(model)) for model in panel.models}
        limits, both_ways = (0.0, distance.highest), (-distance.highest, distance.highest)
        for pair in pairs:
            first, second = pair
            of_pair = (*pair, distance.name)
            rate = distance.between(views[first], views[second]).mean(axis=0)
            rows.mean((*of_pair, "rate"), rate, limits)
            measured = excess.get((distance.name, pair))
            rows.mean((*of_pair, "between"), measured.between if measured else None, limits, repeated)
            rows.mean((*of_pair, "floor"), measured.floor if measured else None, limits, repeated)
            rows.excess((*of_pair, "excess"), measured, both_ways, repeated)
            of_each = [same[distance.name, m] for m in pair if (distance.name, m) in same]
            alike = np.mean(of_each, axis=0) if len(of_each) == len({*pair} - {FUSION}) else None
            rows.mean((*of_pair, "same_modality"), alike, limits, halves)
            beyond = None if alike is None else rate - alike
            rows.mean((*of_pair, "beyond_same_modality"), beyond, both_ways, halves, tested=True)
            if distance.name in _SHIFTING:
                rows.mean(
                    (*of_pair, "shift"), (views[second] - views[first]).mean(axis=0), both_ways, tested=True
                )
            if distance.name in ("label", "difference"):
                chance = by_chance(panel, first, second)
                rows.mean((*of_pair, "chance"), chance, limits)
                rows.mean((*of_pair, "beyond_chance"), rate - chance, both_ways, tested=True)
                quantity, columns, function = _agreement(panel, first, second)
                rows.sums((*of_pair, quantity), columns, function)
    if panel.kind == "interval":
        values_of = {model: panel.seed_mean(model)[..., 0] for model in panel.models}
        errors = {model: np.abs(v - panel.truth).mean(axis=0) for model, v in values_of.items()}
        for first, second in pairs:
            shift = (errors[second] - errors[first]) / panel.truth.std()
            rows.mean((first, second, "error", "shift"), shift, (-np.inf, np.inf), tested=True)
    else:
        values = unimodal_divergence(panel)
        limits = (0.0, float(np.log2(len(panel.unimodals))))
        rows.mean((UNIMODALS, UNIMODALS, "jsd", "generalised"), values, limits)
    return rows.table()


def pair_measures(panel: Panel, first: str, second: str) -> dict[str, Values]:
    """Return how one pair of models differs in labels (in values) for every utterance, each of shape (N,).

    ``rate`` always; ``between``, ``floor`` and ``excess`` where the panel has at least two trainings.
    """
    distance = distances(panel)[0]
    views = [distance.view(panel.seed_mean(model)) for model in (first, second)]
    measures = {"rate": distance.between(*views).mean(axis=0)}
    if len(panel.seeds) >= 2:
        found = floor_values(panel, distance, [(first, second)])[first, second]
        measures |= {"between": found.between, "floor": found.floor, "excess": found.excess}
    return measures


def by_chance(panel: Panel, first: str, second: str) -> Values:
    """Return, by utterance, the rate of two models that are independent but for the truth (see `chance`).

    Returns
    -------
    array of shape (N,)
        Its mean is the rate expected of ``label``, or of ``difference`` where the target is interval.
    """
    if panel.kind == "interval":
        strata = strata_of(panel.truth)
        a, b = (panel.seed_mean(model)[..., 0] - panel.truth for model in (first, second))
        apart = [expected_difference(x, y, strata) for x, y in zip(a, b, strict=True)]
        return np.mean(apart, axis=0) / panel.truth.std()
    return _expected(panel, first, second, panel.truth)


def utterance_table(panel: Panel, repeated: Repeated | None = None) -> pd.DataFrame:
    """Return one row for each utterance, from outputs averaged over seeds and partitions.

    Parameters
    ----------
    panel : Panel
    repeated : Repeated, optional
        For the excess of each utterance.

    Returns
    -------
    DataFrame
        ``head, utterance_id, label_true``; for each model ``m`` (a modality or ``fusion``) its label ``label_<m>``,
        the probability of that label ``p_label_<m>`` and of the true one ``p_true_<m>``; ``n_labels``, the number of
        different labels among the unimodals; ``jsd``, the Jensen-Shannon divergence of the unimodals at once.

        Of an interval target: ``head, utterance_id, y_true``; for each model its value ``y_<m>``; ``spread``, the
        standard deviation of the unimodals' values (M in its denominator) in those of the truth.

        Then, for each unimodal ``m`` with the fusion (``<m>``) and each pair of unimodals (``<m>+<n>``):
        ``jsd_<pair>``, in bits, and ``margin_shift_<pair>``, from the first to the second and with its sign (of an
        interval target ``difference_<pair>``, with its sign, in standard deviations), averaged over partitions; and
        ``excess_<pair>``, that of different labels (of values), NaN where it was not measured.
    """
    seed_mean = {model: panel.seed_mean(model) for model in panel.models}
    columns: dict[str, object] = {"head": panel.head, "utterance_id": panel.ids}
    columns |= _values_by_model(panel) if panel.kind == "interval" else _labels_by_model(panel)
    if panel.kind == "interval":
        scale = panel.truth.std()
        columns["spread"] = np.std([panel.mean(m)[:, 0] for m in panel.unimodals], axis=0) / scale
        signed = {model: values[..., 0] / scale for model, values in seed_mean.items()}
    else:
        columns["jsd"] = unimodal_divergence(panel)
        signed = {model: margin(p, panel.truth) for model, p in seed_mean.items()}
    excess = _excess_by_utterance(panel, repeated or Repeated())
    for first, second in pairs_of(panel):
        name = first if second == FUSION else f"{first}+{second}"
        if panel.kind != "interval":
            columns[f"jsd_{name}"] = jensen_shannon(seed_mean[first], seed_mean[second]).mean(axis=0)
        shift = "difference" if panel.kind == "interval" else "margin_shift"
        columns[f"{shift}_{name}"] = (signed[second] - signed[first]).mean(axis=0)
        columns[f"excess_{name}"] = excess.get((first, second), np.nan)
    return pd.DataFrame(columns)


def _excess_by_utterance(panel: Panel, repeated: Repeated) -> dict[Pair, Values]:
    of = repeated.panel
    if of is None:
        return {}
    every = floor_values(of, distances(of)[0], pairs_of(panel))
    return {pair: aligned(found.excess, of, panel) for pair, found in every.items()}


def _labels_by_model(panel: Panel) -> dict[str, object]:
    classes = np.array(panel.classes, dtype=object)
    rows = np.arange(len(panel.ids))
    columns: dict[str, object] = {"label_true": classes[panel.truth]}
    labels = {}
    for model in panel.models:
        p = panel.mean(model)
        labels[model] = p.argmax(axis=1)
        columns[f"label_{model}"] = classes[labels[model]]
        columns[f"p_label_{model}"] = p[rows, labels[model]]
        columns[f"p_true_{model}"] = p[rows, panel.truth]
    columns["n_labels"] = n_labels([labels[m] for m in panel.unimodals])
    return columns


def _values_by_model(panel: Panel) -> dict[str, object]:
    return {"y_true": panel.truth, **{f"y_{model}": panel.mean(model)[:, 0] for model in panel.models}}


def _expected(panel: Panel, first: str, second: str, strata: NDArray[np.intp]) -> Values:
    """Return the disagreement of labels that are independent within strata, averaged over partitions, shape (N,)."""
    pairs = zip(panel.labels(first), panel.labels(second), strict=True)
    return np.mean([expected_disagreement(a, b, strata, len(panel.classes)) for a, b in pairs], axis=0)


def _agreement(panel: Panel, first: str, second: str) -> tuple[str, Values, Callable[[Values], Values]]:
    """Return the coefficient of two models' agreement: its name, what it sums over utterances, and its formula."""
    if panel.kind == "interval":
        a, b = (panel.seed_mean(model)[..., 0] for model in (first, second))
        measure = concordance(a.ravel(), b.ravel())
        return "concordance", measure.columns.reshape(*a.shape, -1).mean(axis=0), measure.function
    rate = (panel.labels(first) != panel.labels(second)).mean(axis=0)
    expected = _expected(panel, first, second, np.zeros(len(panel.ids), dtype=np.intp))
    return "kappa", np.column_stack([rate, expected]), lambda s: 1 - s[..., 0] / s[..., 1]


class _Rows:
    """The rows of a table of rates, as they are found."""

    def __init__(self, study: Study, panel: Panel) -> None:
        self.study, self.panel = study, panel
        self.codes = group_codes(panel.groups, len(panel.ids))
        self.seeds = Repeated(panel, "seeds")
        self.rows: list[dict[str, Any]] = []

    def mean(
        self,
        key: tuple[str, str, str, str],
        values: Values | None,
        limits: Limits,
        of: Repeated | None = None,
        *,
        tested: bool = False,
    ) -> None:
        """Add the mean of values by utterance, which are NaN for those that do not count, or say why there is none."""
        of = of or self.seeds
        codes = self.codes
        if values is None:
            n_groups = int(codes.max(initial=-1)) + 1
            why = f"not measured: {of.why}"
            self._add(key, Interval(np.nan, np.nan, np.nan, len(codes), n_groups, why), np.nan, of)
            return
        known = np.isfinite(values)
        values, codes = values[known], codes[known]
        interval = mean_interval(values, codes, limits=limits, **self.study.for_intervals)
        if not tested:
            self._add(key, interval, np.nan, of)
            return
        test = sign_flip(values, codes, **self.study.for_tests)
        method = f"{interval.method}; {test.method}"
        self._add(key, replace(interval, method=method), test.p, of)

    def excess(
        self, key: tuple[str, str, str, str], found: Excess | None, limits: Limits, of: Repeated
    ) -> None:
        """Add a mean excess, whose interval and test know of trainings as well as of groups."""
        if found is None:
            self.mean(key, None, limits, of)
            return
        known = np.isfinite(found.excess)
        over_groups = mean_interval(
            found.excess[known], self.codes[known], limits=limits, **self.study.for_intervals
        )
        p, how = found.test(**self.study.for_tests)
        interval = found.widened(over_groups, limits)
        self._add(key, replace(interval, method=f"{interval.method}; {how}"), p, of)

    def sums(
        self, key: tuple[str, str, str, str], columns: Values, function: Callable[[Values], Values]
    ) -> None:
        """Add a coefficient of sums over utterances, -1 to 1."""
        interval = sums_interval(
            function, columns, self.codes, limits=(-1.0, 1.0), **self.study.for_intervals
        )
        self._add(key, interval, np.nan, self.seeds)

    def _add(self, key: tuple[str, str, str, str], interval: Interval, p: float, of: Repeated) -> None:
        first, second, measure, quantity = key
        self.rows.append(
            {
                "head": self.panel.head,
                "first": first,
                "second": second,
                "measure": measure,
                "quantity": quantity,
                "estimate": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": p,
                "n": interval.n,
                "n_groups": interval.n_groups,
                "n_seeds": len(of.panel.seeds) if of.panel else 0,
                "repeats": of.kind,
                "method": interval.method,
            }
        )

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)


def _methods(panel: Panel, repeated: Repeated, halves: Repeated) -> list[str]:
    """Return sentences for a methods section."""
    if panel.kind == "interval":
        said = [
            "Disagreement of two models is the absolute difference of their values in standard deviations of the "
            "truth, beside Lin's concordance correlation [Lin 1989]."
        ]
    else:
        said = [
            "Disagreement of two models is the share of utterances to which they give different labels, the "
            "Jensen-Shannon divergence of their probabilities in bits [Lin 1991], the shift of the true class's margin "
            "[Schapire 1998] and the difference in the probability of the true class; the first and the last between a "
            "unimodal model and the fusion follow [Srikanth 2025]. Agreement beyond the labels' marginals is Cohen's "
            "kappa [Cohen 1960]."
        ]
    said.append(
        "Disagreement by accuracy alone is that of models with the same mistakes that are independent given the truth "
        "(after [Geirhos 2020])."
    )
    if repeated.panel:
        again = {
            "seeds": f"{len(repeated.panel.seeds)} seeds",
            "bags": f"{len(repeated.panel.seeds)} fits to groups drawn from the training groups with "
            "replacement, as in [Breiman 1996]",
        }[repeated.kind]
        said.append(
            f"The excess over the floor compares two models in different trainings ({again}) with each of them in two "
            "trainings; it is unbiased, zero in expectation for models that differ by training alone, and not clipped "
            "[Szekely 2013; Fuglede 2004]. Its interval over groups is widened by a jackknife over trainings "
            "[Tukey 1958; Zou 2008], and its p is that of exchanging trainings between the two models."
        )
    if halves.panel:
        said.append(
            "Modality disagreement is claimed only above that of two models of one modality, trained on disjoint "
            "halves of its features."
        )
    return said
