"""A small made-up study whose disagreement is known: planted conflicts, pure seed noise, or one model twice.

Every utterance has a true class. Each modality leans to the true class, or, in a planted conflict, to the next
one; the fusion leans where it is told. Seeds add independent noise to the logits.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixed_signals.store import Corpus, Run, Store

CLASSES = ("angry", "neutral", "warm")
MODALITIES = ("text", "audio", "video")
FULL = "text+audio+video"


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def one_hot(labels):
    return np.eye(len(CLASSES))[labels]


def ids_of(n):
    return np.array([f"u{i:04d}" for i in range(n)], dtype=object)


def prediction_rows(head, modalities, proba, truth, *, partition=0, seeds=None, classes=CLASSES):
    """Return the rows of one model; `proba` has shape (S, N, C)."""
    parts = []
    for seed, p in zip(seeds if seeds is not None else range(len(proba)), proba, strict=True):
        part = pd.DataFrame(
            {
                "utterance_id": ids_of(len(truth)),
                "model": f"{head}:{modalities}",
                "head": head,
                "modalities": modalities,
                "partition": partition,
                "fold": np.arange(len(truth)) % 5,
                "order": 0,
                "seed": seed,
                "label_true": np.array(classes, dtype=object)[truth],
                "label_pred": np.array(classes, dtype=object)[p.argmax(axis=1)],
            }
        )
        for k, name in enumerate(classes):
            part[f"p_{name}"] = p[:, k]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def noisy(rng, logits, n_seeds, noise):
    return softmax(logits + noise * rng.normal(size=(n_seeds, *logits.shape)))


def planted_predictions(
    rng, n=400, *, conflict=0.3, spread=0.0, noise=0.5, n_seeds=4, head="gated", n_partitions=1
):
    """Text leads the fusion; in a share `conflict` of utterances audio leans to the next class instead.

    With no `spread` (noise of the utterance, the same for all seeds) all else agrees.
    Returns the table, the true classes, and which utterances are in conflict.
    """
    truth = rng.integers(0, len(CLASSES), n)
    conflicted = rng.random(n) < conflict
    leans = dict.fromkeys(MODALITIES, truth)
    leans["audio"] = np.where(conflicted, (truth + 1) % len(CLASSES), truth)
    logits = {m: 3 * one_hot(lean) + spread * rng.normal(size=(n, len(CLASSES))) for m, lean in leans.items()}
    logits[FULL] = 0.7 * logits["text"] + 0.2 * logits["audio"] + 0.3 * logits["video"]
    tables = [
        prediction_rows(head, name, noisy(rng, base, n_seeds, noise), truth, partition=partition)
        for partition in range(n_partitions)
        for name, base in logits.items()
    ]
    return pd.concat(tables, ignore_index=True), truth, conflicted


def null_predictions(rng, n=300, *, n_seeds=4, noise=1.0, head="gated"):
    """All models are the same uncertain model trained with other seeds: no excess over the floor."""
    truth = rng.integers(0, len(CLASSES), n)
    logits = 0.8 * one_hot(truth) + rng.normal(scale=0.5, size=(n, len(CLASSES)))
    tables = [
        prediction_rows(head, name, noisy(rng, logits, n_seeds, noise), truth) for name in (*MODALITIES, FULL)
    ]
    return pd.concat(tables, ignore_index=True)


def sentinel_predictions(truth):
    p = np.tile([[0.2, 0.5, 0.3]], (len(truth), 1))[None]
    return prediction_rows("majority", "", p, truth).assign(model="majority")


def metrics_of(predictions):
    """Accuracy of every model, as a run's metrics table."""
    rows = []
    for (model, head, modalities), part in predictions.groupby(["model", "head", "modalities"], sort=False):
        accuracy = float((part["label_pred"] == part["label_true"]).mean())
        rows.append(
            {
                "model": model, "head": head, "modalities": modalities, "metric": "accuracy",
                "estimate": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05,
                "n": part["utterance_id"].nunique(), "n_groups": 20, "method": "made up",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def gates_of(rng, predictions):
    """Made-up gates of the fused model, long."""
    keys = ["utterance_id", "model", "head", "modalities", "partition", "fold", "order", "seed"]
    fused = predictions.loc[predictions["modalities"] == FULL, keys]
    parts = [
        fused.assign(
            modality=m, gate=rng.uniform(0.2, 0.8, len(fused)), contribution=rng.normal(size=len(fused))
        )
        for m in MODALITIES
    ]
    return pd.concat(parts, ignore_index=True)


def ratings_of(rng, truth, contested, n_raters=6):
    """Votes with all modalities shown: split where `contested`, nearly unanimous elsewhere."""
    rows = []
    for name, label, split in zip(ids_of(len(truth)), truth, contested, strict=True):
        wrong = rng.binomial(n_raters, 0.5 if split else 0.05)
        for value, count in ((label, n_raters - wrong), ((label + 1) % len(CLASSES), wrong)):
            if count:
                rows.append((name, "", FULL, CLASSES[value], count))
    return pd.DataFrame(rows, columns=["utterance_id", "rater", "shown", "value", "count"])


def corpus_of(truth, *, ratings=None, n_groups=20, text="line {i}"):
    n = len(truth)
    return Corpus(
        name="made up",
        utterances=pd.DataFrame(
            {
                "utterance_id": ids_of(n),
                "text": [text.format(i=i) for i in range(n)],
                "label": np.array(CLASSES, dtype=object)[truth],
                "group": [f"speaker {i % n_groups:02d}" for i in range(n)] if n_groups else "",
            }
        ),
        ratings=ratings,
    )


def study_store(path, *, seed=0, n=400, n_groups=20, n_seeds=4, rated=True, gated=True, text="line {i}"):
    """A store whose run "study" has planted conflicts that its raters see as well."""
    rng = np.random.default_rng(seed)
    predictions, truth, conflicted = planted_predictions(rng, n, spread=2.0, noise=0.8, n_seeds=n_seeds)
    predictions = pd.concat([predictions, sentinel_predictions(truth)], ignore_index=True)
    ratings = ratings_of(rng, truth, conflicted) if rated else None
    store = Store.create(path, corpus_of(truth, ratings=ratings, n_groups=n_groups, text=text))
    gates = gates_of(rng, predictions)
    Run(
        predictions=predictions,
        gates=gates if gated else gates.iloc[:0],
        metrics=metrics_of(predictions),
        info={"classes": list(CLASSES), "group": "group"},
    ).save(store, "study")
    return store
