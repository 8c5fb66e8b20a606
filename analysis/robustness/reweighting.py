"""Training that listens to disagreement: rows weighted by how far their modalities are apart, against plain training.

Conventions
-----------
The disagreement of a training row is that of unimodal models of a cheap head (`CHEAP`), fitted on inner folds of the
*same outer fold's training rows*: none of them has seen the row, nor has an encoder of the vectors that they saw, and
nothing knows of the rows that the outer fold tests. It is the Jensen-Shannon divergence of the unimodal models, or the
standard deviation of their values where the target is interval. What counts is its rank among the training rows,
``r = (mid-rank - 1/2) / n``, between 0 (they agree) and 1. The weights have mean 1:

===============  ======================================================================================================
trust agreement  ``1 + s (1 - 2 r)``: from ``1 + s`` down to ``1 - s`` where modalities disagree, ``s = 0.8``
trust conflict   ``1 - s (1 - 2 r)``: the reverse
easiest part     1 for ``r <= q``, else 0, divided by the mean; ``q = 3 / 4``
staged exposure  how much of a curriculum's training a row would be seen in, divided by the mean. The curriculum begins
                 with the rows of ``r <= q0 = 1 / 3`` and admits the others, in the order of ``r``, at an even pace over
                 the share ``g = 1 / 2`` of the training: 1 for ``r <= q0``, else ``1 - g (r - q0) / (1 - q0)``
===============  ======================================================================================================

The last two are what weights can say of a curriculum (Bengio et al. 2009): its first stage alone, and its mean
exposure. The *order* in which a curriculum shows its rows is not reproduced. Rows of which some modality is absent have
weight 1.

Weighted heads have the folds, seeds, orders and settings of the run, whose own heads are the plain ones. Seeds are
averaged first. The difference (weighted - plain) has two intervals: from one value per fold and partition by the
corrected resampled t, which covers training on other rows; and over groups, conditional on the trained models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from mixed_signals.analysis.disagreement.distances import apart
from mixed_signals.analysis.findings import Answer, against, finding, records, with_interval
from mixed_signals.analysis.inference import corrected_resampled_t
from mixed_signals.analysis.panel import FUSION, Panel, class_columns
from mixed_signals.analysis.scores import Floats, row_scores
from mixed_signals.analysis.study import Study
from mixed_signals.models.choosing import CHOSEN
from mixed_signals.models.intervals import mean_interval
from mixed_signals.models.sweeps import sweep
from mixed_signals.store import Fold, Views
from mixed_signals.store import folds as make_folds

CHEAP = {"nominal": "logistic", "ordinal": "logistic", "interval": "ridge"}
STRENGTH = 0.8
EASIEST = 3 / 4
START, GROWTH = 1 / 3, 1 / 2
N_INNER = 5
TRAINING = "Does training that weighs rows by disagreement do better than plain training?"

COLUMNS = [
    "head", "weighting", "measure", "over", "plain", "weighted",
    "estimate", "low", "high", "p", "n", "n_groups", "method",
]  # fmt: skip

Weights = dict[tuple[int, int], pd.Series]


def _staged(rank: Floats) -> Floats:
    return 1 - GROWTH * np.clip((rank - START) / (1 - START), 0, None)


WEIGHTINGS: dict[str, Callable[[Floats], Floats]] = {
    "trust agreement": lambda rank: 1 + STRENGTH * (1 - 2 * rank),
    "trust conflict": lambda rank: 1 - STRENGTH * (1 - 2 * rank),
    "easiest part": lambda rank: (rank <= EASIEST).astype(np.float64),
    "staged exposure": _staged,
}


def row_weights(disagreement: ArrayLike, weighting: str) -> Floats:
    """Return weights with mean 1, shape (N,).

    Parameters
    ----------
    disagreement : array-like of float, shape (N,)
        NaN where it is not known; such rows have weight 1.
    weighting : str
        One of `WEIGHTINGS`.

    Examples
    --------
    >>> row_weights([0.0, 0.1, 0.5, 0.9], "trust agreement").round(2).tolist()
    [1.6, 1.2, 0.8, 0.4]
    """
    values = np.asarray(disagreement, dtype=np.float64)
    known = np.isfinite(values)
    weights = np.ones(len(values))
    if known.any():
        found = WEIGHTINGS[weighting]((rankdata(values[known]) - 0.5) / known.sum())
        weights[known] = found / found.mean()
    return weights


def inner_disagreement(study: Study, fold: Fold, *, n_jobs: int | None = None) -> pd.Series:
    """Return the disagreement of a fold's training rows, from models of inner folds of these rows alone.

    Parameters
    ----------
    study : Study
    fold : Fold
        Of the run.
    n_jobs : int, optional
        Worker processes.

    Returns
    -------
    Series of float by utterance id
        NaN where a modality is absent.

    Raises
    ------
    UsageError
        If the run's features are gone or others by now, its training rows cannot make inner folds, or taught an encoder
        of the fold's vectors.
    """
    info = study.run.info
    mine = [views.select(np.isin(views.ids, fold.train_ids)) for views in study.views_of(fold)]
    group = info["group"]
    inner = make_folds(mine[0], _n_inner(mine[0], group), group=group)
    run = sweep(
        mine,
        heads=[CHEAP[study.run.kind]],
        subsets=[(modality,) for modality in mine[0].modalities],
        folds=inner,
        seeds=(0,),
        group=group,
        normalize=info.get("normalize", False),
        n_jobs=n_jobs,
        allow_shared_groups=True,  # what the run was refused it does not have; what it was allowed it says itself
    )
    found = run.predictions[run.predictions["modalities"] != ""].set_index("utterance_id")
    columns = ["y_pred"] if run.kind == "interval" else class_columns(found)
    said = np.stack(
        [
            found.loc[found["modalities"] == m, columns].reindex(fold.train_ids).to_numpy(np.float64)
            for m in mine[0].modalities
        ]
    )
    known = np.isfinite(said).all(axis=(0, 2))
    return pd.Series(
        np.where(known, apart(said, run.kind), np.nan), index=pd.Index(fold.train_ids, dtype=object)
    )


def _n_inner(views: Views, group: str | None) -> int:
    n = len(views) if group is None else len(set(views.groups_by(group)))
    return min(N_INNER, n)


def training_weights(study: Study, *, n_jobs: int | None = None) -> dict[str, Weights]:
    """Return the weights of every weighting for every fold of the run, as `sweep` takes them.

    Parameters
    ----------
    study : Study
    n_jobs : int, optional
        Worker processes.
    """
    found = {(f.partition, f.fold): inner_disagreement(study, f, n_jobs=n_jobs) for f in study.folds}
    return {
        weighting: {
            key: pd.Series(row_weights(values, weighting), index=values.index)
            for key, values in found.items()
        }
        for weighting in WEIGHTINGS
    }


def weighted_outputs(
    study: Study, panel: Panel, weights: Weights, *, device: str = "cpu", n_jobs: int | None = None
) -> Floats:
    """Return what the fusion says out of fold after training with weights, shape (P, N, C), averaged over seeds.

    Folds, seeds, orders and settings are those of the run.

    Parameters
    ----------
    study : Study
    panel : Panel
    weights : mapping of (partition, fold) to Series
        See `mixed_signals.models.sweep`.
    device : str
    n_jobs : int, optional
        Worker processes.
    """
    info = study.run.info
    run = sweep(
        study.views,
        heads=[panel.head],
        subsets=[panel.unimodals],
        folds=study.folds,
        views_by_fold=study.views_by_fold,
        seeds=info["seeds"],
        orders=info.get("orders", 1),
        group=info["group"],
        normalize=info.get("normalize", False),
        weights=weights,
        device=device,
        n_jobs=n_jobs,
        allow_shared_groups=True,
    )
    found = run.predictions[run.predictions["modalities"] != ""]
    columns = ["y_pred"] if panel.kind == "interval" else [f"p_{name}" for name in panel.classes]
    trained = pd.MultiIndex.from_frame(found[["seed", "order"]])
    found = found[trained.isin(panel.seeds)]
    means = found.groupby(["partition", "utterance_id"])[columns].mean()
    partitions = sorted(set(found["partition"]))
    said = means.reindex(pd.MultiIndex.from_product([partitions, panel.ids])).to_numpy(np.float64)
    return said.reshape(len(partitions), len(panel.ids), -1)


def _taught(study: Study) -> int:
    """Return how many rows taught an encoder of the vectors that the heads of some fold of theirs see."""
    found = set[str]()
    for fold in study.folds:
        seen = {*fold.train_ids, *fold.test_ids}
        found.update(*(views.trained_for(seen) & seen for views in study.views_of(fold)))
    return len(found)


def _measures(panel: Panel, said: Floats) -> dict[str, Floats]:
    """Return scores by partition and utterance, (P, N) each, of outputs (P, N, C)."""
    by_partition = [row_scores(panel, outputs) for outputs in said]
    names = ("absolute error",) if panel.kind == "interval" else ("accuracy", "log loss")
    return {name: np.stack([scores[name].by_row for scores in by_partition]) for name in names}


def compare_training(study: Study, panel: Panel, outputs: Mapping[str, Floats]) -> pd.DataFrame:
    """Return what weighted training changes against the run's own, plain training.

    Parameters
    ----------
    study : Study
    panel : Panel
    outputs : mapping of weighting to array of shape (P, N, C)
        From `weighted_outputs`.

    Returns
    -------
    DataFrame
        ``head, weighting, measure, over, plain, weighted, estimate, low, high, p, n, n_groups, method``, where the
        estimate is weighted less plain; `over` says what the interval is over: ``folds`` or ``groups``.
    """
    plain = _measures(panel, panel.seed_mean(FUSION))
    partitions = sorted({fold.partition for fold in study.folds})
    places = [(partitions.index(fold.partition), fold.fold) for fold in study.folds]
    tested = [mine for p, fold in places if (mine := (p, panel.folds[p] == fold))[1].any()]
    n_train, n_test = (
        float(np.mean([len(ids) for ids in sides]))
        for sides in zip(*((f.train_ids, f.test_ids) for f in study.folds), strict=True)
    )
    rows: list[dict[str, object]] = []
    for weighting, said in outputs.items():
        for measure, values in _measures(panel, said).items():
            change = values - plain[measure]
            by_fold = np.array([change[p, rows_of].mean() for p, rows_of in tested])
            over_groups = mean_interval(change.mean(axis=0), panel.groups, **study.resampling)
            over_folds = vars(corrected_resampled_t(by_fold, n_train, n_test))
            named = {
                "head": panel.head, "weighting": weighting, "measure": measure,
                "plain": float(plain[measure].mean()), "weighted": float(values.mean()),
            }  # fmt: skip
            size = {"n": over_groups.n, "n_groups": over_groups.n_groups}
            folds = {name: over_folds[name] for name in ("estimate", "low", "high", "p", "method")}
            rows.append({**named, "over": "folds", **folds, **size})
            rows.append({**named, "over": "groups", "p": np.nan, **vars(over_groups)})
    return pd.DataFrame(rows, columns=COLUMNS)


def evaluate_training(
    study: Study, panel: Panel, *, device: str = "cpu", n_jobs: int | None = None
) -> Answer:
    """Train the fusion again with every weighting and compare it with the run's plain training.

    This fits the cheap head on each modality and inner fold of every fold, and then the panel's head four times.

    Parameters
    ----------
    study : Study
    panel : Panel
    device : str
        Where the fusion is trained.
    n_jobs : int, optional
        Worker processes.

    Raises
    ------
    UsageError
        If the run is in no store, its features are gone or others by now, or its training rows cannot make inner folds.
    """
    if panel.head == CHOSEN:
        note = f"{panel.head} is another head in each fold: it is not trained again with weights (its heads are)."
        return Answer(notes=[note])
    if taught := _taught(study):
        note = (
            f"Training rows are not weighed by disagreement: encoders of their folds' vectors were trained on {taught} "
            "of them, so that no model of inner folds is blind to these (finetune-encoders --design three-way makes "
            "features that are)."
        )
        return Answer(notes=[note])
    weights = training_weights(study, n_jobs=n_jobs)
    outputs = {
        weighting: weighted_outputs(study, panel, mine, device=device, n_jobs=n_jobs)
        for weighting, mine in weights.items()
    }
    table = compare_training(study, panel, outputs)
    findings = []
    for row in records(table[table["over"] == "folds"]):
        change = (
            with_interval(row, "points") if row["measure"] == "accuracy" else with_interval(row, digits=4)
        )
        verdict = (
            f"{panel.head}: training with weights ({row['weighting']}) changes the fusion's {row['measure']} by "
            f"{change} against plain training{against(row)}."
        )
        quantity = f"{row['weighting']} against plain training, {row['measure']}"
        findings.append(finding(TRAINING, quantity, row, verdict))
    cheap = CHEAP[panel.kind]
    methods = [
        f"Training rows were weighted by the rank of the disagreement of {cheap} models of single modalities, fitted "
        f"on inner folds of each fold's training rows alone: from {1 + STRENGTH:g} (agreement) to {1 - STRENGTH:g}, "
        f"the reverse, the {EASIEST:.0%} that agree most alone, and by the mean exposure of a curriculum that begins "
        f"with {START:.0%} of the rows and admits the others over {GROWTH:.0%} of the training [Bengio 2009].",
        "Weighted and plain training of the same folds and seeds were compared by one value per fold and partition, "
        "averaged over seeds, with the corrected resampled t-test [Nadeau 2003].",
    ]
    notes = [
        "Curriculum training is tried as far as weights can say it: the order in which rows are shown is not changed."
    ]
    return Answer({"training": table}, findings, notes, methods)
