"""Saved heads on other utterances: what the heads that a run fitted on all its rows say of another store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.models.material import normalized
from mixed_signals.models.saving import load_head
from mixed_signals.store import FeatureSet, MixedSignalsError, Store, UsageError
from mixed_signals.store.files import read_json, read_parquet
from mixed_signals.store.predictions import probability_columns
from mixed_signals.store.provenance import MODALITIES
from mixed_signals.store.views import positions


def models_of(store: Store, run: str) -> dict[str, list[Path]]:
    """Return the models of a run that were fitted on all its rows, with the files of their heads.

    Raises
    ------
    UsageError
        If there is no such run.
    """
    folder = store.run_path(run)
    if not (folder / "run.json").exists():
        known = ", ".join(store.runs()) or "none yet; make one with fit-heads"
        raise UsageError(f"no run {run!r} in {store.path} (runs: {known})")
    models: dict[str, list[Path]] = {}
    for path in sorted((folder / "heads").glob("*.all.o*.s*")):
        # <head>.<modalities>.all.o<order>.s<seed>.<ending>; a setting may hold a point.
        head, modalities = path.name.partition(".all.o")[0].rsplit(".", 1)
        models.setdefault(f"{head}:{modalities}", []).append(path)
    return models


def known_ids(origin: Store, run: str) -> frozenset[str]:
    """Return the utterances that a run's heads were fitted on, and those that trained encoders of its features.

    Of feature sets that are not there any more nothing is known.
    """
    info: dict[str, Any] = read_json(origin.run_path(run, "run.json"))
    tested = read_parquet(origin.run_path(run, "predictions.parquet"))["utterance_id"]
    keys = [f"{m}/{name}" for m, of in (info.get("features") or {}).items() for name in of["name"].split("|")]
    there = set(origin.feature_sets())
    taught = (origin[key].trained_on for key in keys if key in there)
    return frozenset().union(tested, info["never_tested"], *taught)


def predict(
    store: Store, origin: Store, run: str, model: str, features: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return what a run's model says of the utterances of a store; no label is read.

    Probabilities (values) are means over the heads of all seeds and orders, which were fitted on all rows of the run.

    Parameters
    ----------
    store : Store
        Whose utterances are predicted.
    origin : Store
        Which has the run; where it is the same store, the utterances of the run are left out, and those that trained
        its encoders: heads that were fitted on them say nothing about how well they predict, and the run has its
        out-of-fold predictions.
    run, model : str
        As in `models_of`: ``gated:text+audio``.
    features : mapping of modality to name, optional
        The feature sets to read; those of the run's names by default.

    Returns
    -------
    DataFrame
        ``utterance_id, label_pred, p_<class>...``, or ``utterance_id, y_pred``; a row for each utterance that has some
        of the modalities.

    Raises
    ------
    UsageError
        If there is no such run, model or feature set, or a feature set has another recipe than that of the heads.
    """
    models = models_of(origin, run)
    asked, (head, _, modalities) = model, model.rpartition(":")
    model = f"{head}:{'+'.join(m for m in MODALITIES if m in modalities.split('+'))}"
    if model not in models:
        known = ", ".join(models) or "none; it was made with --no-refit"
        form = "" if head else " (write HEAD:A+B)"
        raise UsageError(f"run {run!r} has no model {asked!r}{form} fitted on all rows; it has: {known}")
    info: dict[str, Any] = read_json(origin.run_path(run, "run.json"))
    heads = [load_head(path) for path in models[model]]
    ids = store.corpus.ids
    wanted = np.ones(len(ids), dtype=bool)
    if store.path.resolve() == origin.path.resolve():
        wanted &= ~np.isin(ids, list(known_ids(origin, run)))
    total: np.ndarray | None = None
    seen = np.zeros(len(ids), dtype=bool)
    vectors: dict[str, np.ndarray] = {}
    for head in heads:
        for modality, described in head.features_.items():
            name = (features or {}).get(modality, described["name"])
            key = f"{modality}/{name}"
            if key not in vectors:
                vectors[key] = _vectors(store, key, described["recipe"], info)
        X = np.concatenate(
            [vectors[f"{m}/{(features or {}).get(m, d['name'])}"] for m, d in head.features_.items()], axis=1
        )
        seen |= np.isfinite(X).any(axis=1)
        said = _said(head, X, info)
        total = said if total is None else total + said
    if total is None or not (wanted & seen).any():
        why = "the run or its encoders were trained on all that have" if seen.any() else "none has"
        raise MixedSignalsError(f"{store.path}: no utterance to predict: {why} {model.rpartition(':')[2]}")
    rows = np.flatnonzero(wanted & seen)
    P = total[rows] / len(heads)
    table = pd.DataFrame({"utterance_id": ids[rows]})
    if info["kind"] == "interval":
        return table.assign(y_pred=P)
    classes = np.array(info["classes"], dtype=object)
    if info["kind"] == "multilabel":
        labels = ["|".join(classes[row]) or "none" for row in P > 0.5]
    else:
        labels = list(classes[P.argmax(axis=1)])
    columns = probability_columns(tuple(info["classes"]))
    return table.assign(label_pred=labels, **dict(zip(columns, P.T, strict=True)))


def _vectors(store: Store, key: str, recipe: str, info: Mapping[str, Any]) -> np.ndarray:
    """Return a feature set's vectors by corpus row, shape (N, D), NaN where there are none."""
    if key not in store.feature_sets():
        known = ", ".join(store.feature_sets()) or "none yet; make some with extract-features"
        raise UsageError(f"{store.path} has no feature set {key} (it has: {known})")
    features: FeatureSet = store[key]
    if features.recipe_fingerprint != recipe:
        raise UsageError(
            f"{key}: has another recipe ({features.recipe_fingerprint}) than the one that the heads were fitted on "
            f"({recipe}); extract it with the same encoder, weights and settings"
        )
    found = positions(store.corpus, features)
    rows = np.where((found >= 0) & features.ok[found], found, -1)
    X = np.empty((len(rows), features.shape[1]), np.float32)
    features.read(rows, X)
    if not info["normalize"]:
        return X
    column, utterances = info["group"] or "group", store.corpus.utterances
    groups = utterances[column].astype(str) if column in utterances.columns else np.array([""])
    if (groups == "").any():
        raise UsageError(
            f"{store.path}: some utterances have no {column}, by which the run normalises; add that column"
        )
    return normalized(X, np.unique(groups, return_inverse=True)[1])


def _said(head: Any, X: np.ndarray, info: Mapping[str, Any]) -> np.ndarray:
    if info["kind"] == "interval":
        values: np.ndarray = head.predict(X)
        return values
    P = np.zeros((len(X), len(info["classes"])))
    P[:, [info["classes"].index(label) for label in head.coding_.classes]] = head.predict_proba(X)
    return P
