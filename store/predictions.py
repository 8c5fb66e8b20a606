"""Runs: what one sweep of heads produced, kept as tables.

Tables
------
predictions : one row per utterance x model x partition x fold x seed, out of fold
    `utterance_id, model, head, modalities, partition, fold, seed, label_true, label_pred`, then one column
    ``p_<class>`` per class. `modalities` are joined by ``+``; `model` is ``<head>:<modalities>``.
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

import pandas as pd

from mixed_signals.store.errors import UsageError
from mixed_signals.store.files import read_json, read_parquet, write_json, write_parquet

if TYPE_CHECKING:
    from mixed_signals.store.folder import Store

KEYS = ["utterance_id", "model", "head", "modalities", "partition", "fold", "seed"]
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
        The call, the feature sets' fingerprints, classes, library versions and times.
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
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the probability columns."""
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
        predictions=read_parquet(folder / "predictions.parquet"),
        gates=read_parquet(folder / "gates.parquet"),
        metrics=metrics,
        info=read_json(folder / "run.json"),
        name=name,
    )
