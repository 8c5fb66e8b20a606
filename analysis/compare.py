"""Comparing two runs or two heads: over folds, and on the pooled rows.

Conventions
-----------
Outputs are averaged over seeds first: a seed is no observation. Nor is the role that half of the training rows have in
cross-fitted features (`mixed_signals.store.cross_fits`): outputs are averaged over roles too. Two models are compared
on *cells* (partition, fold, utterance) that both predict, and only where the two have the same folds: with other folds
other rows were trained on. A difference is the first's score less the second's, in two ways that answer two questions:

- over ``folds``: one difference for each fold of each partition, with the corrected resampled t (Nadeau and Bengio
  2003; `analysis.inference`). Would the first be better when both are trained and tested again?
- on pooled ``rows``: one difference on all out-of-fold rows, with an interval over groups that is conditional on the
  trained models (`mixed_signals.models.intervals`), and for accuracy McNemar's test clustered by group (Obuchowski
  1998). Would these very models differ for other speakers?

Scores are those of `mixed_signals.models.measures`: accuracy, macro F1, log loss and Brier score of classes,
concordance correlation (CCC) and mean absolute error (MAE) of values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.analysis.findings import Answer, Finding, finding, p_value, side, with_interval
from mixed_signals.analysis.inference import ResampledT, corrected_resampled_t, mcnemar
from mixed_signals.analysis.pairing import Predicted, called, of_panel, of_run, paired
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import Interval, sums_by, sums_interval
from mixed_signals.models.measures import MEASURES, Measure
from mixed_signals.store import Run, UsageError
from mixed_signals.store.terminal import counted

QUESTION = "Is one model better than another?"
_CLASSES = ("accuracy", "macro F1", "log loss", "Brier")
COMPARED = {"nominal": _CLASSES, "ordinal": _CLASSES, "interval": ("CCC", "MAE")}
_OF_100 = ("accuracy", "macro F1")  # told in points
_LESS_IS_BETTER = ("log loss", "Brier", "MAE")
METHODS = (
    "Models were compared by one difference for each fold and partition, probabilities averaged over seeds, with the "
    "corrected resampled t-test [Nadeau 2003], and on the pooled out-of-fold rows with intervals over groups; "
    "accuracies on these with McNemar's test clustered by group [Obuchowski 1998]."
)


@dataclass(frozen=True)
class Comparison:
    """The difference of two models in one measure, the first's less the second's.

    Attributes
    ----------
    measure : str
    folds : ResampledT
    rows : Interval
    p : float
        Of clustered McNemar on the rows; NaN for other measures than accuracy.
    test : str
        What that test was; empty for other measures.
    """

    measure: str
    folds: ResampledT
    rows: Interval
    p: float
    test: str


def compare(
    first: Predicted,
    second: Predicted,
    measure: str,
    *,
    test_share: float | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two models in one measure.

    Parameters
    ----------
    first, second : Predicted
        On the same cells (`paired`).
    measure : str
        One of `COMPARED`, or another name of `mixed_signals.models.measures.MEASURES`.
    test_share : float, optional
        Test rows of a fold over its training rows; by default training rows are those that the partition's other folds
        test.
    level : float
        Coverage.
    resamples, seed : int
        Of the interval over groups.

    Examples
    --------
    >>> ids = [f"u{i}" for i in range(40)]
    >>> cells = pd.DataFrame({"partition": 0, "fold": np.arange(40) % 4, "utterance_id": ids})
    >>> truth, right = np.zeros(40, dtype=int), np.tile([0.9, 0.1], (40, 1))
    >>> one = Predicted("one", "nominal", ("a", "b"), cells, truth, right, None)
    >>> other = replace(one, outputs=np.where(np.arange(40)[:, None] < 9, 1 - right, right))
    >>> found = compare(one, other, "accuracy")
    >>> round(found.rows.estimate, 3), round(found.folds.estimate, 3), found.folds.n_values
    (0.225, 0.225, 4)
    """
    made = [_measure(model, measure) for model in (first, second)]
    by_fold = first.cells.groupby(["partition", "fold"])
    fold, sizes = by_fold.ngroup().to_numpy(), by_fold.size()
    n_test = sizes.to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = [m.function(sums_by(fold, m.columns)) for m in made]
    others = sizes.groupby("partition").transform("sum").to_numpy() - n_test
    n_train = others if test_share is None else n_test.mean() / test_share
    folds = corrected_resampled_t(scores[0] - scores[1], n_train, n_test, level=level)

    width = made[0].columns.shape[1]
    reach = made[0].limits[1] - made[0].limits[0]
    units = first.units
    rows = sums_interval(
        lambda s: made[0].function(s[..., :width]) - made[1].function(s[..., width:]),
        np.hstack([m.columns for m in made]),
        units,
        level=level,
        limits=(-reach, reach),
        resamples=resamples,
        seed=seed,
    )
    if measure != "accuracy":
        return Comparison(measure, folds, rows, math.nan, "")
    right, other = (model.outputs.argmax(axis=1) == model.truth for model in (first, second))
    test = mcnemar(right, other, units)
    return Comparison(measure, folds, rows, test.p, test.method)


def _measure(model: Predicted, measure: str) -> Measure:
    known = MEASURES[model.kind]
    if measure not in known:
        raise UsageError(f"no measure {measure!r} of {model.kind} targets; there are {', '.join(known)}")
    return known[measure](model.truth, model.outputs[:, 0] if model.kind == "interval" else model.outputs)


def compare_runs(
    first: Run,
    second: Run,
    models: Sequence[tuple[str, str]] | None = None,
    *,
    groups: pd.Series | None = None,
    measures: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Answer:
    """Compare the models of two runs.

    Parameters
    ----------
    first, second : Run
        On the same utterances, target and folds.
    models : sequence of (str, str), optional
        A model of the first and one of the second, each ``<head>:<modalities>``; by default all that have the same name
        in both.
    groups : Series by utterance id, optional
        Speaker or dialog; without, every utterance is taken as independent.
    measures : sequence of str, optional
        By default `COMPARED`.
    resamples, seed : int
        Of intervals over groups.

    Returns
    -------
    Answer
        The table ``comparison``; see `evaluate`.

    Raises
    ------
    UsageError
        If the runs have no model in common, a model is not there, or see `paired`.
    """
    targets = [run.info.get("target", "") for run in (first, second)]
    if targets[0] != targets[1]:
        raise UsageError(
            f"{called(first)} has target {targets[0]!r}, {called(second)} {targets[1]!r}; compare runs of one target"
        )
    if models is None:
        ours, theirs = (_models_on_features(run) for run in (first, second))
        models = [(name, name) for name in ours if name in theirs]
        if not models:
            raise UsageError(
                f"no model of {called(first)} ({', '.join(ours)}) is in {called(second)} ({', '.join(theirs)}); "
                "say which to compare by naming a model of each"
            )
    rows, notes = [], []
    for mine, other in models:
        named = [of_run(first, mine, groups), of_run(second, other, groups)]
        if named[0].name == named[1].name:
            named = [
                replace(o, name=f"{which}: {o.name}")
                for o, which in zip(named, ("first", "second"), strict=True)
            ]
        pair = paired(*named)
        notes += _shared(named[0], pair[0])
        rows += _rows(mine.split(":")[0], pair, _test_share(first), measures, resamples, seed)
    if groups is None:
        notes.append(
            "No groups were given: intervals and McNemar's test take every utterance as independent."
        )
    return _answer(rows, notes)


def evaluate(study: Study, panel: Panel) -> Answer:
    """Compare a head's fusion with each of its unimodals, and with the fusions of the heads after it in the study.

    Returns
    -------
    Answer
        The table ``comparison``: ``head, first, second, measure, over`` ("folds" or "rows"), ``estimate, low, high, p,
        n, n_groups, method``; `n` counts rows (utterances x partitions). A finding for each pair and measure has the
        difference over folds, and says that on the rows beside it.
    """
    roles = study.views_by_fold
    fusion = of_panel(panel, name="the fusion", in_roles=roles)
    rivals = [of_panel(panel, model, in_roles=roles) for model in panel.unimodals]
    after = list(dropwhile(lambda other: other is not panel, study.panels))[1:]
    rivals += [of_panel(other, name=f"the fusion of {other.head}", in_roles=roles) for other in after]
    rows, notes = [], []
    for rival in rivals:
        try:
            pair = paired(fusion, rival)
        except UsageError as error:
            notes.append(f"{panel.head}: {error}.")
            continue
        notes += [f"{panel.head}: {said}" for said in _shared(fusion, pair[0], rival.name)]
        rows += _rows(panel.head, pair, _test_share(study.run), None, study.resamples, study.seed)
    return _answer(rows, notes)


def _rows(
    head: str,
    pair: tuple[Predicted, Predicted],
    test_share: float | None,
    measures: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Return two rows of the table for each measure: over folds, and on rows."""
    rows = []
    for measure in measures or COMPARED[pair[0].kind]:
        found = compare(*pair, measure, test_share=test_share, resamples=resamples, seed=seed)
        said: dict[str, tuple[ResampledT | Interval, float, list[str]]] = {
            "folds": (
                found.folds,
                found.folds.p,
                [counted(found.folds.n_values, "fold"), found.folds.method],
            ),
            "rows": (found.rows, found.p, [found.rows.method, found.test]),
        }
        rows += [
            {
                "head": head,
                "first": pair[0].name,
                "second": pair[1].name,
                "measure": measure,
                "over": over,
                "estimate": result.estimate,
                "low": result.low,
                "high": result.high,
                "p": p,
                "n": found.rows.n,
                "n_groups": found.rows.n_groups,
                "method": "; ".join(filter(None, how)),
            }
            for over, (result, p, how) in said.items()
        ]
    return rows


def _answer(rows: list[dict[str, Any]], notes: list[str]) -> Answer:
    if not rows:
        return Answer(notes=notes)
    findings = [_finding(folds, pooled) for folds, pooled in zip(rows[::2], rows[1::2], strict=True)]
    return Answer({"comparison": pd.DataFrame(rows)}, findings, list(dict.fromkeys(notes)), [METHODS])


def _finding(folds: dict[str, Any], pooled: dict[str, Any]) -> Finding:
    """Return one measure's finding: the difference over folds, with that on rows beside it."""
    head, first, second, measure = (folds[name] for name in ("head", "first", "second", "measure"))
    unit = "points" if measure in _OF_100 else ""
    over, _, why = folds["method"].partition("; ")
    where = side(folds, 0.0)
    if where in ("above", "below"):
        where += " (better)" if (where == "above") != (measure in _LESS_IS_BETTER) else " (worse)"
    said = (
        f"{measure} of {first} is {where} that of {second}" if where else f"{measure} of {first} and {second}"
    )
    tested = f", {p_value(pooled['p'])} by clustered McNemar" if pooled["p"] >= 0 else ""
    verdict = (
        f"{head}: {said}: difference {with_interval(folds, unit)} over {over}{'' if where else f' ({why})'}, "
        f"{with_interval(pooled, unit)} on the pooled rows{tested}."
    )
    return finding(QUESTION, f"{first} against {second}, {measure}", folds, verdict)


def _shared(whole: Predicted, part: Predicted, second: str = "") -> list[str]:
    """Return a sentence where some rows are not shared."""
    left = len(whole.cells) - len(part.cells)
    if not left:
        return []
    n = part.cells["utterance_id"].nunique()
    return [
        f"{whole.name} is compared{f' with {second}' if second else ''} on {counted(n, 'utterance')} that both predict."
    ]


def _models_on_features(run: Run) -> list[str]:
    rows = run.predictions[run.predictions["modalities"].fillna("").astype(str) != ""]
    return list(dict.fromkeys(rows["model"].astype(str)))


def _test_share(run: Run) -> float | None:
    """Return test rows over training rows, mean over the run's folds, where the run says it."""
    folds = [about for about in run.info.get("folds", ()) if "n_train" in about]
    if not folds:
        return None
    return sum(about["n_test"] for about in folds) / sum(about["n_train"] for about in folds)
