"""Small encoders of the tests' own, and corpora for them; here, where worker processes can import them."""

import os
import time
import wave

import numpy as np
import pandas as pd

from mixed_signals.extract import job, pipeline
from mixed_signals.extract.encoders.base import (
    Encoded,
    NetworkEncoder,
    Output,
    SoundReader,
    TextReader,
    WorkerEncoder,
)
from mixed_signals.extract.media import Absent, Unreadable
from mixed_signals.store import Corpus, Recipe, Status, Store

RATE = 8_000


class AsIs(TextReader):
    """Hands texts on; some ask for trouble."""

    def read(self, texts):
        for text in texts:
            if text == "absent":
                raise Absent("nothing there")
            if text == "broken":
                raise Unreadable("cannot be read")
            if text == "surprise":
                raise KeyError("surprise")
        return list(texts)


class Lengths(NetworkEncoder):
    """The length of the text; remembers what it encoded."""

    def __init__(self, rows=4, name="lengths"):
        self.outputs = (Output(Recipe(name, "text"), ("length",)),)
        self.reader = AsIs()
        self.rows, self.seen, self.loaded = rows, [], False

    def batches(self, lengths):
        order = np.argsort(-lengths, kind="stable")
        return [order[i : i + self.rows] for i in range(0, len(order), self.rows)]

    def load(self):
        self.loaded = True

    def pack(self, inputs):
        return list(inputs)

    def encode(self, packed):
        assert self.loaded
        self.seen += packed
        return [Encoded(Status.OK, self.vectors(packed, one)) for one in packed]

    def vectors(self, packed, one):
        return (np.array([len(one)]),)


class Samples(SoundReader):
    """The number of samples; at some lengths it misbehaves."""

    rate = RATE

    def __init__(self, *, exits=(), hangs=(), raises=(), rate=RATE):
        self.exits, self.hangs, self.raises, self.rate = exits, hangs, raises, rate

    def read(self, samples):
        n = len(samples)
        if n in self.exits:
            os._exit(3)
        if n in self.hangs:
            time.sleep(600)
        if n in self.raises:
            raise ArithmeticError(f"{n} samples")
        return (np.array([n], np.float32),)


class Marking(Samples):
    """Writes down what it reads."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def read(self, samples):
        with self.path.open("a") as file:
            file.write(f"{len(samples)}\n")
        return super().read(samples)


class Unloadable(Samples):
    """Hangs or dies when it is loaded."""

    def __init__(self, trouble):
        super().__init__()
        self.trouble = trouble

    def load(self):
        if self.trouble == "die":
            os._exit(3)
        time.sleep(600)


class Seconds(WorkerEncoder):
    """The number of samples, counted in the worker process."""

    def __init__(self, name="seconds", **trouble):
        self.outputs = (Output(Recipe(name, "audio"), ("samples",)),)
        self.reader = Samples(**trouble)


class BatchedSeconds(Lengths):
    """The number of samples, by a network that sees what shares the batch; the second output counts the batch."""

    def __init__(self, rows=4, name="batched", **trouble):
        super().__init__(rows)
        self.outputs = (
            Output(Recipe(name, "audio"), ("samples",)),
            Output(Recipe(name, "audio", layer="1", pooling="max"), ("samples", "together"), "1", "max"),
        )
        self.reader = Samples(**trouble)

    def vectors(self, packed, one):
        return one[0], np.array([one[0][0], len(packed)])


def make_sound(path, n_samples):
    """Write a tone of so many samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = (8000 * np.sin(np.arange(n_samples) / 5)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, n_samples, "NONE", ""))
        file.writeframes(tone.tobytes())


def make_store(folder, said):
    """Make a store of texts, u00, u01, ..."""
    ids = [f"u{i:02d}" for i in range(len(said))]
    return Store.create(folder / "s", Corpus("c", pd.DataFrame({"utterance_id": ids, "text": said})))


def make_sounds(folder, samples, **columns):
    """Make a store of sounds of these lengths, u00, u01, ..."""
    ids = [f"u{i:02d}" for i in range(len(samples))]
    for utterance, n in zip(ids, samples, strict=True):
        make_sound(folder / "media" / f"{utterance}.wav", n)
    table = pd.DataFrame({"utterance_id": ids, "media": [f"{one}.wav" for one in ids], **columns})
    return Store.create(folder / "s", Corpus("c", table, media_root=folder / "media"))


def run(store, *encoders, options=None, **planned):
    """Plan and run; return the outcomes."""
    tasks = job.plan(store, encoders, **planned)
    return pipeline.run(store, tasks, options or pipeline.Options(workers=2))
