"""Training finds what frozen vectors do not show: neither of two words tells the class, only the two together do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tunable
from tunable import CLASSES, WORDS, save_bert

from mixed_signals.extract.cli import app as extract_features
from mixed_signals.extract.finetune.cli import app as finetune_encoders
from mixed_signals.models.cli import app as fit_heads
from mixed_signals.store import Corpus, Store, load_run

N, SPEAKERS, FOLDS = 420, 21, "3"
RECIPE = ("--layers", "all", "--learning-rate", "3e-3", "--head-learning-rate", "3e-3", "--patience", "0")
EPOCHS = {
    "three-way": "14",
    "nested": "8",
}  # an encoder of nested has about twice the rows of one of three-way
MARGIN = 0.15


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Warm is who says one of the first two words with the other of the next two; speakers have words of their own."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(N):
        one, other = rng.integers(0, 2, 2)
        speaker = number % SPEAKERS
        habits = np.roll([0.4, 0.3, 0.2, 0.1], speaker % 4)
        more = rng.choice(WORDS[4:], rng.integers(1, 4), p=habits)
        said = rng.permutation([WORDS[one], WORDS[2 + other], *more])
        rows.append((f"u{number:03d}", " ".join(said), CLASSES[one ^ other], f"s{speaker:02d}"))
    table = pd.DataFrame(rows, columns=["utterance_id", "text", "label", "group"])
    folder = tmp_path_factory.mktemp("gain")
    save_bert(folder / "tiny", num_hidden_layers=2, hidden_size=32, intermediate_size=64)
    return Store.create(folder / "s", Corpus("planted", table))


@pytest.fixture(scope="module")
def frozen(store):
    """Return what a head reaches on vectors of the encoder as it was."""
    call(extract_features, store, "--text", store.path.parent / "tiny", "--device", "cpu")
    return accuracy(store, "tiny", "--folds", FOLDS)


def call(app, store, *flags):
    result = tunable.call(app, store.path, *flags)
    assert result.exit_code == 0, result.output


def accuracy(store, features, *flags):
    head = ("--heads", "logistic", "--seeds", "1", "--jobs", "1", "--no-refit")
    call(fit_heads, store, "--features", f"text={features}", "--run", features, *head, *flags)
    metrics = load_run(store, features).metrics.set_index(["model", "metric"])
    return metrics.loc[("logistic:text", "accuracy"), "estimate"]


def test_no_word_tells_the_class_alone(store):
    table = store.corpus.utterances
    warm = table["label"] == CLASSES[1]
    for word in WORDS:
        there = table["text"].str.split().map(lambda said, word=word: word in said)
        assert abs(warm[there].mean() - warm[~there].mean()) < 0.15, word


@pytest.mark.parametrize("design", EPOCHS)
def test_training_raises_held_out_accuracy(store, frozen, design):
    encoder = store.path.parent / "tiny"
    flags = ("--design", design, "--name", design, "--epochs", EPOCHS[design], "--folds", FOLDS, *RECIPE)
    call(finetune_encoders, store, "--text", encoder, "--group", "group", "--device", "cpu", *flags)
    tuned = accuracy(store, f"tiny.{design}")
    assert tuned > frozen + MARGIN
    assert tuned > 0.9
