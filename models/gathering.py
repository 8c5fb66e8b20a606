"""The tables of a run, put together from its finished blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    true = _written(material, material.y)
    tables = []

    def add(
        head: str,
        subset: tuple[str, ...],
        fold: Fold,
        replicate: tuple[int, int],
        rows: np.ndarray,
        P: np.ndarray,
    ) -> None:
        keys = _keys(material.ids[rows], head, subset, fold, replicate)
        tables.append(keys.assign(**_columns(material, true[rows], P)))

    for name, results in sentinels.items():
        for fold, ids, P in results:
            add(name, (), fold, (0, 0), np.array([position[i] for i in ids], dtype=np.intp), P)
    for fold, each in tested:
        member = each.member
        add(
            member.spec.name,
            member.subset,
            fold,
            (member.order, member.seed),
            each.rows,
            each.P,
        )
    return pd.concat(tables, ignore_index=True)


def gates_table(material: Material, tested: Sequence[Tested]) -> pd.DataFrame:
    """Return the gates and contributions of heads that have them."""
    tables = []
    for fold, each in tested:
        if each.gates is None or each.contributions is None:
            continue
        member = each.member
        keys = _keys(
            material.ids[each.rows],
            member.spec.name,
            member.subset,
            fold,
            (member.order, member.seed),
        )
        for column, modality in enumerate(member.subset):
            tables.append(
                keys.assign(
                    modality=modality, gate=each.gates[:, column], contribution=each.contributions[:, column]
                )
            )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=GATE_COLUMNS)


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


def _keys(
    ids: np.ndarray, head: str, subset: tuple[str, ...], fold: Fold, replicate: tuple[int, int]
) -> pd.DataFrame:
    """Return the columns that predictions and gates begin with, a row per utterance."""
    order, seed = replicate
    return pd.DataFrame({"utterance_id": ids}).assign(
        model=model_name(head, subset),
        head=head,
        modalities="+".join(subset),
        partition=fold.partition,
        fold=fold.fold,
        order=order,
        seed=seed,
    )


def _columns(material: Material, true: np.ndarray, P: np.ndarray) -> dict[str, np.ndarray]:
    if material.kind == "interval":
        return {"y_true": true, "y_pred": P}
    if material.kind == "multilabel":
        predicted = _written(material, P > 0.5)
    else:
        predicted = np.array(material.classes, dtype=object)[P.argmax(axis=1)]
    names = probability_columns(material.classes)
    return {"label_true": true, "label_pred": predicted, **dict(zip(names, P.T, strict=True))}


def _written(material: Material, y: np.ndarray) -> np.ndarray:
    """Return labels as the tables hold them: several joined by ``|``, ``none`` where none applies."""
    if material.kind != "multilabel":
        return y
    classes = np.array(material.classes, dtype=object)
    return np.array(["|".join(classes[row]) or "none" for row in y.astype(bool)], dtype=object)
