"""The sweep: every head on every subset of modalities, fold and seed, out of fold."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.models.baselines import Baseline, group_majority, majority
from mixed_signals.models.heads import head_kind, make_head
from mixed_signals.models.metrics import score
from mixed_signals.store import Fold, Run, UsageError, Views
from mixed_signals.store import folds as make_folds
from mixed_signals.store.predictions import GATE_COLUMNS, model_name, probability_columns
from mixed_signals.store.provenance import library_versions

Subset = tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """One head to be fitted: what it is, what it sees, and its fold and seed."""

    head: str
    subset: Subset
    fold: Fold
    seed: int

    @property
    def file_stem(self) -> str:
        """Name of the head's file: head, modalities, partition, fold, seed."""
        place = f"p{self.fold.partition}.f{self.fold.fold}.s{self.seed}"
        return f"{self.head}.{'+'.join(self.subset)}.{place}"


@dataclass(frozen=True)
class Fitted:
    """A fitted head with its predictions for those of the fold's test rows that have a modality of its own."""

    fit: Fit
    head: Any
    rows: np.ndarray
    probabilities: np.ndarray
    gates: np.ndarray | None
    contributions: np.ndarray | None


def all_subsets(modalities: Sequence[str]) -> list[Subset]:
    """Return every non-empty subset, small ones first, modalities in their given order.

    Examples
    --------
    >>> all_subsets(["text", "audio"])
    [('text',), ('audio',), ('text', 'audio')]
    """
    return [subset for size in range(1, len(modalities) + 1) for subset in combinations(modalities, size)]


def sweep(
    views: Views,
    heads: Sequence[str] = ("logistic", "xgboost", "gated"),
    subsets: str | Sequence[Subset] = "all",
    folds: Sequence[Fold] | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    *,
    device: str = "cpu",
    group: str | None = "group",
    n_jobs: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Run:
    """Fit every head on every subset, fold and seed, and predict the utterances that each fold holds out.

    Parameters
    ----------
    views : Views
    heads : sequence of str
        Names in `mixed_signals.models.HEADS`. Heads that do not depend on a seed are fitted with the first only.
    subsets : "all" or sequence of tuples
        Which modalities a head sees.
    folds : sequence of Fold, optional
        From `mixed_signals.store.folds`; five grouped folds by default.
    seeds : sequence of int
        Seeds of the heads; they never change the folds.
    device : str
        Where heads are trained; ``"cpu"`` is the only place so far.
    group : str or None
        The column whose values folds keep apart and intervals resample. With None, folds keep nothing but utterances
        apart; intervals and the group-majority sentinel still use the corpus's groups where it has them.
    n_jobs : int, optional
        Heads fitted at the same time, one thread each; all cores by default.
    on_progress : callable, optional
        Called with the number of heads just finished.

    Returns
    -------
    Run
        Not saved yet; its `heads` are the fitted heads by file stem. A model is trained on, and predicts, the rows
        that have at least one of its modalities.

    Raises
    ------
    UsageError
        If a head, modality or device is unknown, there is no seed, the target is not one that heads learn, a fold
        shares a group between training and test rows, or it tests on rows that an encoder's weights were trained on.
    """
    started = time.perf_counter()
    chosen = all_subsets(views.modalities) if subsets == "all" else [tuple(s) for s in subsets]
    if device != "cpu":
        raise UsageError(f"device {device!r}: heads are trained on the CPU")
    if views.kind not in ("nominal", "ordinal"):
        raise UsageError(
            f"target {views.target!r} is {views.kind}; heads learn nominal and ordinal targets so far"
        )
    for name in heads:
        head_kind(name)
    for subset in chosen:
        if unknown := set(subset) - set(views.modalities):
            raise UsageError(
                f"subset {'+'.join(subset)}: no {unknown.pop()!r} among {', '.join(views.modalities)}"
            )
    if not heads or not len(seeds) or len(set(seeds)) < len(seeds):
        raise UsageError("name at least one head, and at least one seed, each seed once")
    folds = list(folds if folds is not None else make_folds(views, group=group))
    groups = views.groups if group is None or group == "group" else views.groups_by(group)
    _refuse_shared_groups(views, folds, None if group is None else groups)
    _refuse_repeats(folds)
    _refuse_training_rows(views, folds)
    fits = [
        Fit(name, subset, fold, seed)
        for name in heads
        for subset in chosen
        for fold in folds
        for seed in (seeds if head_kind(name).seeded else seeds[:1])
    ]
    fitted = _run(views, fits, groups, n_jobs or os.cpu_count() or 1, on_progress)
    sentinels = {"majority": majority(views, folds)}
    if groups is not None:
        sentinels["group-majority"] = group_majority(views, folds, groups)
    predictions = _predictions(views, fitted, sentinels)
    by_id = None if groups is None else dict(zip(views.ids, groups, strict=True))
    return Run(
        predictions=predictions,
        gates=_gates(views, fitted),
        metrics=score(predictions, views.classes, by_id),
        info={
            "target": views.target,
            "classes": list(views.classes),
            "features": views.features,
            "left_out": views.left_out,
            "heads": list(heads),
            "subsets": ["+".join(subset) for subset in chosen],
            "seeds": [int(seed) for seed in seeds],
            "group": None if groups is None else group,
            "interval_unit": "utterances" if groups is None else "groups",
            "folds": [
                {
                    "partition": f.partition,
                    "fold": f.fold,
                    "n_train": len(f.train_ids),
                    "n_test": len(f.test_ids),
                }
                for f in folds
            ],
            "n_utterances": len(views),
            "seconds": round(time.perf_counter() - started, 2),
            "python": platform.python_version(),
            "versions": library_versions(("mixed-signals", "numpy", "scikit-learn", "torch", "xgboost")),
        },
        heads={result.fit.file_stem: result.head for result in fitted},
    )


def _refuse_repeats(folds: Sequence[Fold]) -> None:
    """Refuse folds of one number, and a fold that names an utterance twice."""
    if len({(fold.partition, fold.fold) for fold in folds}) < len(folds):
        raise UsageError("two folds have the same partition and number; number each one")
    for fold in folds:
        ids = [*fold.train_ids, *fold.test_ids]
        if len(set(ids)) < len(ids):
            raise UsageError(f"fold {fold.fold} names an utterance twice")


def _refuse_training_rows(views: Views, folds: Sequence[Fold]) -> None:
    """Refuse folds that test on rows an encoder has seen with their labels."""
    tested = {utterance for fold in folds for utterance in fold.test_ids}
    seen = sorted(tested & views.trained_on)
    if seen:
        raise UsageError(
            f"{len(seen)} test utterances are among those that an encoder's weights were trained on, e.g. {seen[:3]}; "
            "test on others, or extract with weights that saw none of them"
        )


def _refuse_shared_groups(views: Views, folds: Sequence[Fold], groups: np.ndarray | None) -> None:
    by_id = dict(zip(views.ids, views.ids if groups is None else groups, strict=True))
    what = "utterances" if groups is None else "groups"
    for fold in folds:
        unknown = [i for i in (*fold.train_ids, *fold.test_ids) if i not in by_id]
        if unknown:
            raise UsageError(f"fold {fold.fold}: {len(unknown)} ids are not in the views, e.g. {unknown[:3]}")
        shared = {by_id[i] for i in fold.train_ids} & {by_id[i] for i in fold.test_ids}
        if shared:
            raise UsageError(
                f"fold {fold.fold} of partition {fold.partition} shares {len(shared)} {what} between training and "
                f"test rows, e.g. {sorted(shared)[:3]}; make folds with mixed_signals.store.folds"
            )


def _run(
    views: Views,
    fits: Sequence[Fit],
    groups: np.ndarray | None,
    n_jobs: int,
    on_progress: Callable[[int], None] | None,
) -> list[Fitted]:
    from joblib import Parallel, delayed, parallel_config

    position = {utterance: row for row, utterance in enumerate(views.ids)}
    y = views.y
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1]
    tasks = []
    for index, fit in enumerate(fits):
        columns = [views.modalities.index(m) for m in fit.subset]
        has: np.ndarray = np.asarray(views.present[:, columns].any(axis=1))
        train, test = (
            np.array([position[i] for i in ids if has[position[i]]], dtype=np.intp)
            for ids in (fit.fold.train_ids, fit.fold.test_ids)
        )
        if len(set(y[train])) < 2:
            raise UsageError(
                f"fold {fit.fold.fold}: the {len(train)} training rows with {' or '.join(fit.subset)} have "
                f"{len(set(y[train]))} of {len(views.classes)} classes; ask for other folds"
            )
        if len(test):
            tasks.append(delayed(_fit_one)(index, fit, views.X, y, codes, views.blocks, train, test))
    results: list[Fitted | None] = [None] * len(fits)
    # One thread a head: parallel fits that each take every core are many times slower.
    with parallel_config("loky", n_jobs=min(n_jobs, len(fits)), inner_max_num_threads=1):
        for index, result in Parallel(return_as="generator_unordered")(tasks):
            results[index] = result
            if on_progress is not None:
                on_progress(1)
    return [result for result in results if result is not None]


def _fit_one(
    index: int,
    fit: Fit,
    X: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray | None,
    blocks: dict[str, slice],
    train: np.ndarray,
    test: np.ndarray,
) -> tuple[int, Fitted]:
    columns = np.concatenate([np.arange(blocks[m].start, blocks[m].stop) for m in fit.subset])
    widths = [blocks[m].stop - blocks[m].start for m in fit.subset]
    stops = np.cumsum(widths)
    own = {
        m: (int(stop) - width, int(stop)) for m, stop, width in zip(fit.subset, stops, widths, strict=True)
    }
    head = make_head(fit.head, own, fit.seed)
    head.fit(X[np.ix_(train, columns)], y[train], groups=None if groups is None else groups[train])
    held_out = X[np.ix_(test, columns)]
    gates, contributions = head.explain(held_out) if head_kind(fit.head).fusion else (None, None)
    return index, Fitted(fit, head, test, head.predict_proba(held_out), gates, contributions)


def _predictions(
    views: Views,
    fitted: Sequence[Fitted],
    sentinels: dict[str, Baseline],
) -> pd.DataFrame:
    label_of = dict(zip(views.ids, views.y, strict=True))
    classes = np.array(views.classes, dtype=object)
    columns = probability_columns(views.classes)
    tables = []

    def add(keys: pd.DataFrame, P: np.ndarray) -> None:
        labels = {
            "label_true": [label_of[utterance] for utterance in keys["utterance_id"]],
            "label_pred": classes[P.argmax(axis=1)],
        }
        tables.append(keys.assign(**labels, **dict(zip(columns, P.T, strict=True))))

    for name, results in sentinels.items():
        for fold, ids, P in results:
            add(_keys(name, (), fold, 0, ids), P)
    for result in fitted:
        # A class that a training fold lacks has probability 0 there.
        P = np.zeros((len(result.rows), len(classes)))
        P[:, pd.Index(classes).get_indexer(pd.Index(result.head.classes_, dtype=object))] = (
            result.probabilities
        )
        add(_keys_of(views, result), P)
    return pd.concat(tables, ignore_index=True)


def _gates(views: Views, fitted: Sequence[Fitted]) -> pd.DataFrame:
    tables = []
    for result in fitted:
        if result.gates is None or result.contributions is None:
            continue
        keys = _keys_of(views, result)
        for column, modality in enumerate(result.fit.subset):
            tables.append(
                keys.assign(
                    modality=modality,
                    gate=result.gates[:, column],
                    contribution=result.contributions[:, column],
                )
            )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=GATE_COLUMNS)


def _keys(head: str, subset: Subset, fold: Fold, seed: int, ids: np.ndarray) -> pd.DataFrame:
    """Return the columns that predictions and gates begin with, a row per utterance."""
    keys = pd.DataFrame({"utterance_id": ids})
    return keys.assign(
        model=model_name(head, subset),
        head=head,
        modalities="+".join(subset),
        partition=fold.partition,
        fold=fold.fold,
        seed=seed,
    )


def _keys_of(views: Views, result: Fitted) -> pd.DataFrame:
    fit = result.fit
    return _keys(fit.head, fit.subset, fit.fold, fit.seed, views.ids[result.rows])
