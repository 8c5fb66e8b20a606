"""One head's out-of-fold predictions as arrays: the same utterances, partitions and seeds for every model.

A *seed* here is one training of a model: a pair of a seed and an order of the training rows.

Rows are joined by utterance id. Sentinels (models without modalities) are left out. A head can be analysed when its
largest modality subset, the *fusion*, is unique and has at least two modalities, and each of those modalities has a
model of its own, the *unimodals*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.store import Run
from mixed_signals.store.errors import UsageError

FUSION = "fusion"
KINDS = ("nominal", "ordinal")
TRAINING = ["seed", "order"]
CELL = ("utterance_id", "head", "modalities", "partition", *TRAINING)


@dataclass(frozen=True)
class Panel:
    """The models of one head, lined up.

    Attributes
    ----------
    head : str
    classes : tuple of str
        The ``C`` classes, in the order of the probability columns.
    ids : array of str, shape (N,)
        Utterances that every model predicts in every partition and seed, sorted.
    truth : array of int, shape (N,)
        Number of the true class.
    unimodals : tuple of str
        Modalities, in the order of the fusion's name.
    proba : mapping from a modality or ``"fusion"`` to an array of shape (P, S, N, C)
        Class probabilities by partition and seed.
    seeds : tuple of (seed, order)
        The trainings, each of which there is in every partition.
    deterministic : bool
        Whether the head was trained once though others of its run were trained with several seeds, since its result
        does not depend on a seed.
    left_out : int
        Utterances that some model predicts and another does not.
    """

    head: str
    classes: tuple[str, ...]
    ids: NDArray[np.object_]
    truth: NDArray[np.intp]
    unimodals: tuple[str, ...]
    proba: Mapping[str, NDArray[np.float64]]
    seeds: tuple[tuple[int, int], ...]
    deterministic: bool
    left_out: int

    @property
    def models(self) -> tuple[str, ...]:
        """The unimodals, then ``"fusion"``."""
        return (*self.unimodals, FUSION)

    def mean_proba(self, model: str) -> NDArray[np.float64]:
        """Probabilities averaged over seeds and partitions, shape (N, C)."""
        return self.proba[model].mean(axis=(0, 1))

    def labels(self, model: str) -> NDArray[np.intp]:
        """Class numbers by partition after averaging over seeds, shape (P, N)."""
        return self.proba[model].mean(axis=1).argmax(axis=-1)

    def seed_labels(self, model: str) -> NDArray[np.intp]:
        """Class numbers of every single seed, shape (P, S, N)."""
        return self.proba[model].argmax(axis=-1)


def class_columns(predictions: pd.DataFrame) -> list[str]:
    """Return the probability columns, ``p_<class>``, in their order."""
    return [name for name in predictions.columns if str(name).startswith("p_")]


def check_kind(run: Run) -> None:
    """Refuse a run whose target does not give each utterance one of several classes.

    Raises
    ------
    UsageError
        If the target is interval or multilabel.
    """
    if run.kind not in KINDS:
        raise UsageError(
            f"run {run.name!r}: target {run.info['target']!r} is {run.kind}; disagreement is analysed for "
            f"{' and '.join(KINDS)} targets only (choose another run with --run, or fit-heads --target)"
        )


def validate(predictions: pd.DataFrame) -> None:
    """Check a table of predictions before it is used.

    Raises
    ------
    UsageError
        If a column is missing, a probability is not one, a true label has no column, or a row comes twice.
    """
    missing = [name for name in (*CELL, "label_true") if name not in predictions.columns]
    if missing:
        raise UsageError(f"predictions: no column {', '.join(missing)}; run fit-heads again")
    columns = class_columns(predictions)
    if len(columns) < 2:
        raise UsageError(
            "predictions: disagreement needs the probabilities of at least two classes (p_<class>)"
        )
    values = predictions[columns].to_numpy(np.float64)
    if not (
        np.isfinite(values).all() and (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3)
    ):
        raise UsageError(
            "predictions: some p_<class> rows are not probabilities that sum to 1; run fit-heads again"
        )
    unknown = sorted({str(label) for label in predictions["label_true"].unique()} - {c[2:] for c in columns})
    if unknown:
        raise UsageError(
            f"predictions: label {unknown[0]!r} has no column p_{unknown[0]}; run fit-heads again"
        )
    twice = predictions.duplicated(list(CELL))
    if twice.any():
        row = predictions.loc[twice, list(CELL)].iloc[0]
        which = ", ".join(f"{key} {row[key]}" for key in CELL)
        raise UsageError(f"predictions: more than one row for {which}; run fit-heads again")


def make_panels(predictions: pd.DataFrame, heads: Sequence[str] = ()) -> tuple[list[Panel], list[str]]:
    """Return a panel for each head that can be analysed, and a sentence for each that cannot.

    Parameters
    ----------
    predictions : DataFrame
        A run's predictions; see `validate` for what is checked.
    heads : sequence of str
        Heads to analyse; empty for all.

    Raises
    ------
    UsageError
        If a head is not in the run, or none can be analysed.
    """
    validate(predictions)
    rows = predictions[predictions["modalities"].fillna("").astype(str) != ""]
    present = list(dict.fromkeys(rows["head"].astype(str)))
    for head in heads:
        if head not in present:
            raise UsageError(f"--head: no head {head!r} in this run; it has {', '.join(present) or 'none'}")
    panels, reasons = [], []
    several = len(rows[TRAINING].drop_duplicates()) > 1
    for head in heads or present:
        mine = rows[rows["head"] == head]
        result = _make_panel(head, mine, once=several and len(mine[TRAINING].drop_duplicates()) == 1)
        if isinstance(result, Panel):
            panels.append(result)
        else:
            reasons.append(result)
    if not panels:
        why = "; ".join(reasons) or "it has no head on features"
        raise UsageError(
            f"nothing to compare in this run: {why} (fit-heads with feature sets of two modalities or more)"
        )
    return panels, reasons


def _make_panel(head: str, rows: pd.DataFrame, *, once: bool) -> Panel | str:
    """Line up one head's models, or say why that cannot be done."""
    subsets = sorted(set(rows["modalities"].astype(str)), key=lambda s: -s.count("+"))
    fusion = subsets[0]
    unimodals = tuple(fusion.split("+"))
    if len(unimodals) < 2:
        return f"{head} has no model of two or more modalities"
    if len(subsets) > 1 and subsets[1].count("+") == fusion.count("+"):
        return f"{head} has several largest subsets ({fusion}, {subsets[1]}) and no model of all modalities"
    absent = [name for name in unimodals if name not in subsets]
    if absent:
        return f"{head} has no model of {' or '.join(absent)} alone"

    rows = rows[rows["modalities"].isin([*unimodals, fusion])]
    training, trainings = pd.MultiIndex.from_frame(rows[TRAINING]).factorize(sort=True)
    rows = rows.assign(training=training)
    cells = {
        name: set(zip(part["partition"], part["training"], strict=True)) for name, part in _by_subset(rows)
    }
    partitions = sorted(set.intersection(*({p for p, _ in have} for have in cells.values())))
    shared = set.intersection(*cells.values())
    seeds = sorted({s for _, s in shared if all((p, s) in shared for p in partitions)})
    if not seeds:
        return f"the models of {head} share no partition and seed"
    rows = rows[rows["partition"].isin(partitions) & rows["training"].isin(seeds)]

    columns = class_columns(rows)
    row_of, names = pd.factorize(rows["utterance_id"].astype(object), sort=True)
    shape = (len(partitions), len(seeds), len(names), len(columns))
    where = (
        pd.Index(partitions).get_indexer(pd.Index(rows["partition"])),
        pd.Index(seeds).get_indexer(pd.Index(rows["training"])),
        row_of,
    )
    values = rows[columns].to_numpy(np.float64)
    subset = rows["modalities"].to_numpy(dtype=object)
    proba = {}
    for name in (*unimodals, fusion):
        mine = subset == name
        array = np.full(shape, np.nan)
        array[tuple(index[mine] for index in where)] = values[mine]
        proba[FUSION if name == fusion else name] = array
    complete = np.all([np.isfinite(a).all(axis=(0, 1, 3)) for a in proba.values()], axis=0)
    if not complete.any():
        return f"the models of {head} share no utterance"
    classes = tuple(str(name)[2:] for name in columns)
    truth = np.empty(len(names), dtype=np.intp)
    truth[row_of] = pd.Index(classes).get_indexer(pd.Index(rows["label_true"].astype(str)))
    return Panel(
        head=head,
        classes=classes,
        ids=np.asarray(names, dtype=object)[complete],
        truth=truth[complete],
        unimodals=unimodals,
        proba={name: array[:, :, complete] for name, array in proba.items()},
        seeds=tuple(trainings[seeds]),
        deterministic=once,
        left_out=int((~complete).sum()),
    )


def _by_subset(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), part) for name, part in rows.groupby("modalities", sort=False)]
