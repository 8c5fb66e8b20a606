"""One head's out-of-fold predictions as arrays: the same utterances, partitions and seeds for every model.

A *seed* here is one training of a model: a pair of a seed and an order of the training rows.

Rows are joined by utterance id. A head can be analysed when its largest modality subset, the *fusion*, is unique and
has at least two modalities, and each of those modalities has a model of its own, the *unimodals*. Models of the subsets
in between are taken along where they were trained alike. Of the sentinels (models without modalities), the class
frequencies of each fold's training rows are kept as the *prior*.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.models.intervals import group_codes
from mixed_signals.store import Run
from mixed_signals.store.errors import UsageError

FUSION = "fusion"
KINDS = ("nominal", "ordinal", "interval")
_PRIOR = "majority"  # the sentinel that says the class frequencies of the training rows
TRAINING = ["seed", "order"]
CELL = ("utterance_id", "head", "modalities", "partition", *TRAINING)


@dataclass(frozen=True, repr=False)
class Panel:
    """The models of one head, lined up.

    Models are called by their modalities, joined by ``+`` (``"text"``, ``"text+audio"``); that of all is ``"fusion"``.

    Attributes
    ----------
    head : str
    kind : str
        Of the target: nominal, ordinal or interval.
    classes : tuple of str
        The ``C`` classes, in the order of the probability columns; none where the target is interval.
    ids : array of str, shape (N,)
        Utterances that every model predicts in every partition and seed, sorted.
    truth : array of int, shape (N,)
        Number of the true class; of an interval target the true value, float.
    unimodals : tuple of str
        Modalities, in the order of the fusion's name.
    between : tuple of str
        Models of several modalities, but not of all, small subsets first.
    outputs : mapping of model to array of shape (P, S, N, C)
        Class probabilities by partition and seed; of an interval target values, with C = 1.
    folds : array of int, shape (P, N)
        The fold that tests each utterance.
    prior : array, shape (P, N, C), or None
        What was to be expected without any feature: class frequencies (mean value) of the fold's training rows.
    groups : array of str, shape (N,), or None
        Speaker or dialog of each utterance ("" where it has none).
    when : array of float, shape (N,), or None
        Where utterances of a group follow each other in time: what sorts them within it.
    seeds : tuple of (seed, order)
        The trainings, each of which there is in every fold of every partition (not so where the model ``chosen`` is in
        some folds a head that depends on no seed).
    deterministic : bool
        Whether the head was trained once though others of its run were trained with several seeds, since its result
        does not depend on a seed.
    left_out : int
        Utterances that some model predicts and another does not.
    """

    head: str
    kind: str
    classes: tuple[str, ...]
    ids: NDArray[np.object_]
    truth: NDArray[Any]
    unimodals: tuple[str, ...]
    between: tuple[str, ...]
    outputs: Mapping[str, NDArray[np.float64]]
    folds: NDArray[np.intp]
    prior: NDArray[np.float64] | None
    groups: NDArray[np.object_] | None
    when: NDArray[np.float64] | None
    seeds: tuple[tuple[int, int], ...]
    deterministic: bool
    left_out: int

    def __repr__(self) -> str:
        n_partitions, n_seeds, n, _ = self.outputs[FUSION].shape
        return (
            f"<Panel {self.head}: {len(self.outputs)} models of {'+'.join(self.unimodals)}, {n:,} utterances, "
            f"partitions {n_partitions}, seeds {n_seeds}>"
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The unimodals, then ``"fusion"``."""
        return (*self.unimodals, FUSION)

    def model_of(self, modalities: Collection[str]) -> str:
        """Return the name of the model of some modalities, in any order.

        Raises
        ------
        KeyError
            If the head has no such model.
        """
        subset = [m for m in self.unimodals if m in modalities]
        name = FUSION if len(subset) == len(self.unimodals) else "+".join(subset)
        if len(subset) < len(modalities) or name not in self.outputs:
            raise KeyError(f"{self.head} has no model of {'+'.join(modalities)}")
        return name

    @property
    def has_all_subsets(self) -> bool:
        """Whether there is a model of every subset of the modalities."""
        return len(self.outputs) == 2 ** len(self.unimodals) - 1

    @property
    def has_groups(self) -> bool:
        """Whether any utterance has a group."""
        return self.groups is not None and bool((self.groups != "").any())

    @property
    def deviation(self) -> float:
        """The standard deviation of an interval target's true values; 1 where they do not vary."""
        return float(self.truth.std()) or 1.0

    def group_numbers(self) -> NDArray[np.intp]:
        """Return the number of each utterance's group, shape (N,); one for all where the corpus has no groups."""
        n = len(self.ids)
        return group_codes(self.groups, n) if self.has_groups else np.zeros(n, dtype=np.intp)

    def mean(self, model: str) -> NDArray[np.float64]:
        """Return outputs averaged over seeds and partitions, shape (N, C)."""
        return self.outputs[model].mean(axis=(0, 1))

    def seed_mean(self, model: str) -> NDArray[np.float64]:
        """Return outputs averaged over seeds alone, shape (P, N, C)."""
        return self.outputs[model].mean(axis=1)

    def labels(self, model: str) -> NDArray[np.intp]:
        """Return class numbers by partition after averaging over seeds, shape (P, N)."""
        return self.seed_mean(model).argmax(axis=-1)

    def seed_labels(self, model: str) -> NDArray[np.intp]:
        """Return class numbers of every single seed, shape (P, S, N)."""
        return self.outputs[model].argmax(axis=-1)


def class_columns(predictions: pd.DataFrame) -> list[str]:
    """Return the probability columns, ``p_<class>``, in their order."""
    return [name for name in predictions.columns if str(name).startswith("p_")]


def check_kind(run: Run) -> None:
    """Refuse a run whose target gives an utterance several labels.

    Raises
    ------
    UsageError
        If the target is multilabel.
    """
    if run.kind not in KINDS:
        raise UsageError(
            f"run {run.name!r}: target {run.info['target']!r} is {run.kind}; disagreement is analysed for nominal, "
            "ordinal and interval targets only (choose another run with --run, or fit-heads --target)"
        )


def validate(predictions: pd.DataFrame, kind: str = "nominal") -> None:
    """Check a table of predictions before it is used.

    Raises
    ------
    UsageError
        If a column is missing, a probability or value is not one, a true label has no column, or a row comes twice.
    """
    needed = ("y_true", "y_pred") if kind == "interval" else ("label_true",)
    missing = [name for name in (*CELL, "fold", *needed) if name not in predictions.columns]
    if missing:
        raise UsageError(f"predictions: no column {', '.join(missing)}; run fit-heads again")
    if kind == "interval":
        if not np.isfinite(predictions[["y_true", "y_pred"]].to_numpy(np.float64)).all():
            raise UsageError("predictions: some values are not numbers; run fit-heads again")
    else:
        _check_probabilities(predictions)
    twice = predictions.duplicated(list(CELL))
    if twice.any():
        row = predictions.loc[twice, list(CELL)].iloc[0]
        which = ", ".join(f"{key} {row[key]}" for key in CELL)
        raise UsageError(f"predictions: more than one row for {which}; run fit-heads again")


def _check_probabilities(predictions: pd.DataFrame) -> None:
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


def make_panels(
    predictions: pd.DataFrame,
    heads: Sequence[str] = (),
    *,
    kind: str = "nominal",
    groups: pd.Series | None = None,
    when: pd.Series | None = None,
) -> tuple[list[Panel], list[str]]:
    """Return a panel for each head that can be analysed, and a sentence for each that cannot.

    Parameters
    ----------
    predictions : DataFrame
        A run's predictions; see `validate` for what is checked.
    heads : sequence of str
        Heads to analyse; empty for all.
    kind : str
        Of the target.
    groups, when : Series by utterance id, optional
        See `Panel`.

    Raises
    ------
    UsageError
        If a head is not in the run, or none can be analysed.
    """
    validate(predictions, kind)
    without_features = predictions["modalities"].fillna("").astype(str) == ""
    rows = predictions[~without_features]
    prior = predictions[without_features & (predictions["head"] == _PRIOR)]
    present = list(dict.fromkeys(rows["head"].astype(str)))
    for head in heads:
        if head not in present:
            raise UsageError(f"--head: no head {head!r} in this run; it has {', '.join(present) or 'none'}")
    panels: list[Panel] = []
    without: dict[str, list[str]] = {}
    several = len(rows[TRAINING].drop_duplicates()) > 1
    for head in heads or present:
        mine = rows[rows["head"] == head]
        once = several and len(mine[TRAINING].drop_duplicates()) == 1
        result = _make_panel(head, mine, prior, kind, once=once)
        if isinstance(result, Panel):
            panels.append(
                replace(
                    result,
                    groups=None if groups is None else groups.reindex(result.ids).fillna("").to_numpy(object),
                    when=None if when is None else when.reindex(result.ids).to_numpy(np.float64),
                )
            )
        else:
            without.setdefault(result, []).append(head)
    reasons = [f"{', '.join(names)}: {reason}" for reason, names in without.items()]
    if not panels:
        why = "; ".join(reasons) or "it has no head on features"
        raise UsageError(
            f"nothing to compare in this run: {why}; the analysis takes a run on two modalities or more, "
            "with a model of each alone and of all (fit-heads with feature sets of two modalities or more)"
        )
    return panels, reasons


def _make_panel(head: str, rows: pd.DataFrame, prior: pd.DataFrame, kind: str, *, once: bool) -> Panel | str:
    """Line up one head's models, or say why that cannot be done."""
    subsets = sorted(set(rows["modalities"].astype(str)), key=lambda s: -s.count("+"))
    fusion = subsets[0]
    unimodals = tuple(fusion.split("+"))
    if len(unimodals) < 2:
        return "no model of two or more modalities"
    if len(subsets) > 1 and subsets[1].count("+") == fusion.count("+"):
        return f"several largest subsets ({fusion}, {subsets[1]}) and no model of all modalities"
    absent = [name for name in unimodals if name not in subsets]
    if absent:
        return f"no model of {' or '.join(absent)} alone"

    training, trainings = pd.MultiIndex.from_frame(rows[TRAINING]).factorize(sort=True)
    rows = rows.assign(training=training)
    cells = {
        str(name): set(
            part[["partition", "fold", "training"]].drop_duplicates().itertuples(index=False, name=None)
        )
        for name, part in rows.groupby("modalities", sort=False)
    }
    needed = [cells[name] for name in (*unimodals, fusion)]
    folds_of = set.intersection(*({(p, f) for p, f, _ in own} for own in needed))
    partitions = sorted({p for p, _ in folds_of})
    trained = set.intersection(*needed)
    seeds = sorted({s for *_, s in trained if all((p, f, s) in trained for p, f in folds_of)})
    if not seeds:
        return "its models share no partition and seed"
    every = {(p, f, s) for p, f in folds_of for s in seeds}
    between = [
        name
        for name in sorted(subsets, key=lambda s: (s.count("+"), [unimodals.index(m) for m in s.split("+")]))
        if name != fusion and "+" in name and every <= cells[name]
    ]
    rows = rows[rows["partition"].isin(partitions) & rows["training"].isin(seeds)]

    columns = ["y_pred"] if kind == "interval" else class_columns(rows)
    row_of, names = pd.factorize(rows["utterance_id"].astype(object), sort=True)
    shape = (len(partitions), len(seeds), len(names), len(columns))
    where = (
        pd.Index(partitions).get_indexer(pd.Index(rows["partition"])),
        pd.Index(seeds).get_indexer(pd.Index(rows["training"])),
        row_of,
    )
    values = rows[columns].to_numpy(np.float64)
    subset = rows["modalities"].to_numpy(dtype=object)
    outputs = {}
    for name in (*unimodals, *between, fusion):
        mine = subset == name
        array = np.full(shape, np.nan)
        array[tuple(index[mine] for index in where)] = values[mine]
        outputs[FUSION if name == fusion else name] = array
    complete = np.all([np.isfinite(a).all(axis=(0, 1, 3)) for a in outputs.values()], axis=0)
    if not complete.any():
        return "its models share no utterance"
    folds = np.full((len(partitions), len(names)), -1, dtype=np.intp)
    mine = subset == fusion
    folds[where[0][mine], row_of[mine]] = rows["fold"].to_numpy()[mine]
    return Panel(
        head=head,
        kind=kind,
        classes=() if kind == "interval" else tuple(str(name)[2:] for name in columns),
        ids=np.asarray(names, dtype=object)[complete],
        truth=_truth(rows, columns, row_of, kind)[complete],
        unimodals=unimodals,
        between=tuple(between),
        outputs={name: array[:, :, complete] for name, array in outputs.items()},
        folds=folds[:, complete],
        prior=_prior(prior, columns, partitions, names, complete),
        groups=None,
        when=None,
        seeds=tuple(trainings[seeds]),
        deterministic=once,
        left_out=int((~complete).sum()),
    )


def _truth(rows: pd.DataFrame, columns: list[str], row_of: NDArray[np.intp], kind: str) -> NDArray[Any]:
    """Return what is true of each utterance (of the numbers `row_of`)."""
    if kind == "interval":
        values = rows["y_true"].to_numpy(np.float64)
    else:
        values = pd.Index([c[2:] for c in columns]).get_indexer(pd.Index(rows["label_true"].astype(str)))
    truth = np.empty(row_of.max() + 1, dtype=values.dtype)
    truth[row_of] = values
    return truth


def _prior(
    rows: pd.DataFrame,
    columns: list[str],
    partitions: list[int],
    names: pd.Index,
    complete: NDArray[np.bool_],
) -> NDArray[np.float64] | None:
    """Return the prior of each partition and utterance, or None where the run has not all of it."""
    prior = np.full((len(partitions), len(names), len(columns)), np.nan)
    p = pd.Index(partitions).get_indexer(pd.Index(rows["partition"]))
    n = names.get_indexer(pd.Index(rows["utterance_id"]))
    known = (p >= 0) & (n >= 0)
    prior[p[known], n[known]] = rows[columns].to_numpy(np.float64)[known]
    prior = prior[:, complete]
    return prior if np.isfinite(prior).all() else None
