"""The tables of a run, put together from its finished blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from mixed_signals.models.blocks import Done, Fitted
from mixed_signals.models.choosing import CHOSEN, choose_heads
from mixed_signals.models.heads import HeadSpec
from mixed_signals.models.material import Material, Subset
from mixed_signals.models.plan import EVERYTHING
from mixed_signals.models.sentinels import Baseline
from mixed_signals.store import Fold
from mixed_signals.store.predictions import GATE_COLUMNS, model_name, probability_columns

Tested = tuple[Fold, Fitted]
"""A fitted head, and the fold whose test rows it predicted."""


def tested_heads(done: Sequence[Done], specs: Sequence[HeadSpec], subsets: Sequence[Subset]) -> list[Tested]:
    """Return the fitted heads of all folds that test something, in the order of heads, subsets, folds and seeds."""
    by_name = {spec.name: place for place, spec in enumerate(specs)}
    by_subset = {subset: place for place, subset in enumerate(subsets)}

    def place(one: Tested) -> tuple[int, ...]:
        fold, member = one[0], one[1].member
        model = (by_name[member.spec.name], by_subset[member.subset])
        return (*model, fold.partition, fold.fold, member.order, member.seed)

    found = [(finished.block.fold, each) for finished in done for each in finished.fitted]
    return sorted((one for one in found if one[0].fold != EVERYTHING), key=place)


def predictions_table(
    material: Material, tested: Sequence[Tested], sentinels: dict[str, Baseline]
) -> pd.DataFrame:
    """Return the out-of-fold predictions (see `mixed_signals.store.predictions`), sentinels first."""
    position = {utterance: row for row, utterance in enumerate(material.ids)}
    parts, P = [], []
    for name, results in sentinels.items():
        for fold, ids, own in results:
            parts.append(_Part(name, (), fold, 0, 0, np.array([position[i] for i in ids], dtype=np.intp)))
            P.append(own)
    for fold, each in tested:
        parts.append(_Part.of(fold, each))
        P.append(each.P)
    true = as_written(material.y, material.kind, material.classes)[
        np.concatenate([part.rows for part in parts])
    ]
    return pd.DataFrame(_keys(material, parts) | _columns(material, true, np.concatenate(P)))


def gates_table(material: Material, tested: Sequence[Tested]) -> pd.DataFrame:
    """Return the gates and contributions of heads that have them."""
    parts: list[_Part] = []
    modalities: list[str] = []
    gates, contributions = [], []
    for fold, each in tested:
        if each.gates is None or each.contributions is None:
            continue
        parts += [_Part.of(fold, each)] * len(each.member.subset)
        modalities += each.member.subset
        gates += list(each.gates.T)
        contributions += list(each.contributions.T)
    if not parts:
        return pd.DataFrame(columns=GATE_COLUMNS)
    of_modalities = {
        "modality": _repeated(modalities, parts),
        "gate": np.concatenate(gates),
        "contribution": np.concatenate(contributions),
    }
    return pd.DataFrame(_keys(material, parts) | of_modalities)


def add_chosen(
    predictions: pd.DataFrame, tested: Sequence[Tested], heads: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the predictions with those of the model ``chosen`` added, and which head each fold chose."""
    fitted = pd.DataFrame(
        [
            (
                each.member.spec.name,
                "+".join(each.member.subset),
                fold.partition,
                fold.fold,
                each.inner_loss,
            )
            for fold, each in tested
        ],
        columns=["head", "modalities", "partition", "fold", "inner_loss"],
    )
    choices = choose_heads(fitted, heads)
    picked = predictions.merge(choices, on=["head", "modalities", "partition", "fold"])
    picked = picked.sort_values("modalities", key=_places(predictions["modalities"]), kind="stable")
    names = [model_name(CHOSEN, tuple(modalities.split("+"))) for modalities in picked["modalities"]]
    picked = picked.assign(model=names, head=CHOSEN)[predictions.columns]
    return pd.concat([predictions, picked], ignore_index=True), choices


def _places(values: pd.Series) -> Callable[[pd.Series], pd.Series]:
    """Return what sorts values by where they come first."""
    found = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return lambda column: column.map(found)


class _Part(NamedTuple):
    """Rows of a table that one head, or sentinel, of one fold has predicted."""

    head: str
    subset: Subset
    fold: Fold
    order: int
    seed: int
    rows: np.ndarray

    @classmethod
    def of(cls, fold: Fold, each: Fitted) -> Self:
        """Return the part of a fitted head."""
        member = each.member
        return cls(member.spec.name, member.subset, fold, member.order, member.seed, each.rows)


def _keys(material: Material, parts: Sequence[_Part]) -> dict[str, np.ndarray]:
    """Return the columns that predictions and gates begin with."""
    values: dict[str, list[Any]] = {
        "model": [model_name(part.head, part.subset) for part in parts],
        "head": [part.head for part in parts],
        "modalities": ["+".join(part.subset) for part in parts],
        "partition": [part.fold.partition for part in parts],
        "fold": [part.fold.fold for part in parts],
        "order": [part.order for part in parts],
        "seed": [part.seed for part in parts],
    }
    ids = material.ids[np.concatenate([part.rows for part in parts])]
    return {"utterance_id": ids} | {name: _repeated(each, parts) for name, each in values.items()}


def _repeated(values: Sequence[Any], parts: Sequence[_Part]) -> np.ndarray:
    """Return the value of each part, once for each of its rows."""
    column = np.array(values, dtype=object if isinstance(values[0], str) else np.int64)
    return np.repeat(column, [len(part.rows) for part in parts])


def _columns(material: Material, true: np.ndarray, P: np.ndarray) -> dict[str, np.ndarray]:
    if material.kind == "interval":
        return {"y_true": true, "y_pred": P}
    if material.kind == "multilabel":
        predicted = as_written(P > 0.5, material.kind, material.classes)
    else:
        predicted = np.array(material.classes, dtype=object)[P.argmax(axis=1)]
    names = probability_columns(material.classes)
    return {"label_true": true, "label_pred": predicted, **dict(zip(names, P.T, strict=True))}


def as_written(y: np.ndarray, kind: str, classes: Sequence[str]) -> np.ndarray:
    """Return labels, (N,) or (N, C), as tables hold them: several joined by ``|``, ``none`` where none applies."""
    if kind != "multilabel":
        return y
    named = np.array(classes, dtype=object)
    return np.array(["|".join(named[row]) or "none" for row in y.astype(bool)], dtype=object)
