"""A small study with real media, for tests of the report: sound, film, votes, gates, one head or two."""

from __future__ import annotations

import numpy as np
import pandas as pd
from media_files import pictures, rising_tone, sound, write
from synthetic_study import (
    CLASSES,
    MODALITIES,
    gates_of,
    metrics_of,
    planted_predictions,
    ratings_of,
    sentinel_predictions,
)
from synthetic_study import corpus_of as plain_corpus

from mixed_signals.store import Corpus, Run, Store

SECONDS = 6
FILES = ("sound.wav", "film.mp4", "sound.wav", "")


def write_media(folder):
    """Write six seconds of sound, the same as film, and as film that no browser plays; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tone = sound(rising_tone(SECONDS, 16_000), rate=16_000)
    write(folder / "sound.wav", tone)
    write(folder / "film.mp4", pictures(25 * SECONDS), sound(rising_tone(SECONDS), "aac"))
    write(folder / "old.mpg", pictures(25 * SECONDS, "mpeg1video", gop=12))
    return folder


def with_media(utterances, files):
    """Return utterances that take turns in the files; each is 0.6 s long, from a second on, later ones later."""
    turns = np.arange(len(utterances))
    media = np.array(files, dtype=object)[turns % len(files)]
    start = np.where(media == "", np.nan, 1 + 0.1 * (turns % 30))
    return utterances.assign(media=media, start=start, end=start + 0.6)


def study_of(seed, n, *, heads=("gated",), n_seeds=5):
    """Return the predictions of some heads and what is true; heads after the first are single trainings."""
    rng = np.random.default_rng(seed)
    predictions, truth, conflicted = planted_predictions(
        rng, n, spread=2.0, noise=0.8, n_seeds=n_seeds, head=heads[0]
    )
    tables = [predictions]
    for number, head in enumerate(heads[1:], 1):
        single = predictions[predictions["seed"] == number].assign(head=head, seed=0)
        tables.append(single.assign(model=f"{head}:" + single["modalities"]))
    tables.append(sentinel_predictions(truth))
    return pd.concat(tables, ignore_index=True), truth, conflicted


def report_store(
    path,
    *,
    n=160,
    heads=("gated",),
    rated=True,
    grouped=True,
    gated=True,
    media_root=None,
    files=FILES,
    seed=0,
):
    """Make a store with a run "study"."""
    predictions, truth, conflicted = study_of(seed, n, heads=heads)
    rng = np.random.default_rng(seed + 1)
    ratings = None
    if rated:
        alone = [ratings_of(rng, truth, conflicted, 4).assign(shown=modality) for modality in MODALITIES]
        ratings = pd.concat([ratings_of(rng, truth, conflicted), *alone], ignore_index=True)
    corpus = plain_corpus(truth, n_groups=10 if grouped else 0, text="Line {i}: what was said.")
    utterances = corpus.utterances if media_root is None else with_media(corpus.utterances, files)
    store = Store.create(path, Corpus("made up", utterances, ratings=ratings, media_root=media_root))
    gates = gates_of(rng, predictions[predictions["head"] == heads[0]])
    run_of(predictions, gates if gated else gates.iloc[:0]).save(store, "study")
    return store


def run_of(predictions, gates, classes=CLASSES):
    """Return the run, with accuracies."""
    info = {"classes": list(classes), "group": "group"}
    return Run(predictions=predictions, gates=gates, metrics=metrics_of(predictions), info=info)
