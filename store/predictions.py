"""Runs: what one sweep of heads produced, kept as tables.

Tables
------
predictions : one row per utterance x model x partition x fold x order x seed, out of fold
    `utterance_id, model, head, modalities, partition, fold, order, seed`, then what was true and what was predicted:

    - nominal and ordinal targets: `label_true, label_pred` and a column ``p_<class>`` per class;
    - multilabel: the same, with the labels of an utterance joined by ``|`` (``none`` where no class applies);
    - interval: `y_true, y_pred`.

    `model` is ``<head>:<modalities>``, `modalities` are joined by ``+``; `order` is the shuffle of the training rows. A
    pair of order and seed is one training of a model.
gates : long, for heads that have gates
    the same keys, `modality`, `gate` (the modality's weight in the fusion, 0 to 1), `contribution` (what it
    adds to the predicted class's logit, centred over classes).
metrics : one row per model and metric
    `model, head, modalities, metric, estimate, low, high, n, n_groups, method`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.files import read_json, read_parquet, write_json, write_parquet
from mixed_signals.store.targets import Target, cell_labels

if TYPE_CHECKING:
    from mixed_signals.store.folder import Store

KEYS = ["utterance_id", "model", "head", "modalities", "partition", "fold", "order", "seed"]
GATE_COLUMNS = [*KEYS, "modality", "gate", "contribution"]
METRIC_COLUMNS = [
    "model",
    "head",
    "modalities",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "n_groups",
    "method",
]


def model_name(head: str, modalities: tuple[str, ...]) -> str:
    """Return the name of a model: its head and the modalities it sees, ``gated:text+audio``.

    A sentinel sees none and is called by its head's name alone.
    """
    return f"{head}:{'+'.join(modalities)}" if modalities else head


def probability_columns(classes: tuple[str, ...]) -> list[str]:
    """Return the names of the probability columns, in the order of the classes."""
    return [f"p_{label}" for label in classes]


def read_outcomes(
    predictions: pd.DataFrame, kind: str, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is true and what was predicted, as arrays.

    Parameters
    ----------
    predictions : DataFrame
        Rows of a run's predictions.
    kind : str
        Of the target.
    classes : tuple of str
        In the order of the probability columns; not used where the target is interval.

    Returns
    -------
    truth : ndarray
        Nominal, ordinal: class numbers, (N,) int. Multilabel: (N, C) bool. Interval: (N,) float64.
    outputs : ndarray of float64
        Probabilities, (N, C). Interval: values, (N,).

    Raises
    ------
    MixedSignalsError
        If a column is missing, or a label is not among the classes.
    """
    needed = ["y_true", "y_pred"] if kind == "interval" else ["label_true", *probability_columns(classes)]
    if missing := [name for name in needed if name not in predictions.columns]:
        raise MixedSignalsError(
            f"predictions of a {kind} target: no column {missing[0]!r}; run fit-heads again"
        )
    if kind == "interval":
        return tuple(predictions[name].to_numpy(dtype=np.float64) for name in needed)  # type: ignore[return-value]
    outputs = predictions[needed[1:]].to_numpy(dtype=np.float64)
    if kind == "multilabel":
        target = Target("label_true", kind, classes)
        return cell_labels(target, predictions["label_true"]).astype(bool), outputs
    truth = pd.Index(classes, dtype=object).get_indexer(pd.Index(predictions["label_true"], dtype=object))
    if len(truth) and truth.min() < 0:
        unknown = predictions["label_true"].iloc[int(truth.argmin())]
        raise MixedSignalsError(f"predictions: label {unknown!r} has no probability; run fit-heads again")
    return truth, outputs


class SavableHead(Protocol):
    """A fitted head that can write itself to one file."""

    def save(self, stem: str) -> str:
        """Write the head to a file whose name begins with `stem` and return its path."""


@dataclass(frozen=True)
class Run:
    """What one sweep produced.

    Attributes
    ----------
    predictions, gates, metrics : DataFrame
        See the module's docstring.
    info : dict
        The call, target, kind and classes, the feature sets' fingerprints, library versions and times.
    name : str
        The run's name in its store; empty before it is saved.
    heads : dict of str to head
        The fitted heads by file stem; empty when the run was read back (`load_head` reads each from its file).
    """

    predictions: pd.DataFrame
    gates: pd.DataFrame
    metrics: pd.DataFrame
    info: dict[str, Any]
    name: str = ""
    heads: dict[str, SavableHead] = field(default_factory=dict)

    def __repr__(self) -> str:
        n = self.predictions["utterance_id"].nunique()
        models = self.predictions["model"].nunique()
        return f"<Run {self.name or '(not saved)'}: {models} models, {n:,} utterances>"

    @property
    def kind(self) -> str:
        """The kind of target; runs of the first version, which do not say it, are nominal."""
        return str(self.info.get("kind", "nominal"))

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the probability columns; none where the target is interval."""
        return tuple(self.info["classes"])

    def save(self, store: Store, name: str) -> Path:
        """Write the run into a store under `name` and return its folder.

        Raises
        ------
        UsageError
            If the store has a run of that name already.
        """
        folder = store.run_path(name)
        if folder.exists():
            raise UsageError(f"run {name!r} exists in {store.path}; choose another name")
        # All files are written beside the final place first: a run folder is there whole or not at all.
        unfinished = folder.with_name(f".{name}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_parquet(unfinished / "predictions.parquet", self.predictions)
        write_parquet(unfinished / "gates.parquet", self.gates)
        write_json(unfinished / "metrics.json", self.metrics.to_dict("records"))
        write_json(unfinished / "run.json", self.info)
        (unfinished / "heads").mkdir()
        for stem, head in self.heads.items():
            head.save(str(unfinished / "heads" / stem))
        unfinished.rename(folder)
        return folder


def load_run(store: Store, name: str) -> Run:
    """Read a run of a store.

    Raises
    ------
    UsageError
        If there is no such run; the message names those there are.
    """
    folder = store.run_path(name)
    if not folder.is_dir():
        known = ", ".join(store.runs()) or "none yet; make one with fit-heads"
        raise UsageError(f"no run {name!r} in {store.path} (runs: {known})")
    metrics = pd.DataFrame(read_json(folder / "metrics.json"), columns=METRIC_COLUMNS)
    metrics[["low", "high"]] = metrics[["low", "high"]].astype("float64")
    return Run(
        predictions=_with_order(read_parquet(folder / "predictions.parquet")),
        gates=_with_order(read_parquet(folder / "gates.parquet")),
        metrics=metrics,
        info=read_json(folder / "run.json"),
        name=name,
    )


def _with_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the column `order`, which runs of the first version lack."""
    return table if "order" in table.columns else table.assign(order=0)
