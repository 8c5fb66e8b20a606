"""Extraction jobs for a small Ray cluster; here, where the cluster's workers can import what they are asked for."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import small_encoders
from small_encoders import AsIs, Lengths, Samples, Seconds

from mixed_signals.extract.encoders.base import Output, PictureReader, WorkerEncoder
from mixed_signals.extract.on_ray import dealing
from mixed_signals.extract.on_ray.running import Cluster, assemble, run_on_cluster
from mixed_signals.extract.request import Request
from mixed_signals.store import Recipe


class Together(Lengths):
    """Vectors that depend on what shares the batch, as those of padded batches do."""

    def vectors(self, packed, one):
        return (np.array([len(one) / max(map(len, packed)) + len(packed)]),)


class Grey(PictureReader):
    """Three pictures of an utterance."""

    def times(self, start, stop):
        return start + (stop - start) * (np.arange(3) + 0.5) / 3

    def look(self, picture):
        return picture

    def read(self, looks):
        return np.stack(looks)


class Brightness(Lengths):
    """How bright pictures are, by a network."""

    def __init__(self, rows=2):
        super().__init__(rows)
        self.outputs = (Output(Recipe("brightness", "video"), ("mean", "together")),)
        self.reader = Grey()

    def vectors(self, packed, one):
        return (np.array([one.mean(), len(packed)]),)


class Gated(Together):
    """Encodes one batch, and the others when a folder has a file `open`; says there which process encodes."""

    def __init__(self, folder, **options):
        super().__init__(**options)
        self.folder = Path(folder)

    def encode(self, packed):
        (self.folder / f"{os.getpid()}.encodes").touch()
        try:
            (self.folder / "first").touch(exist_ok=False)
        except FileExistsError:
            while not (self.folder / "open").exists():
                time.sleep(0.05)
        return super().encode(packed)


class Counts(AsIs):
    """Counts letters; a deadly text ends the process that reads."""

    def read(self, texts):
        if "deadly" in texts:
            os._exit(3)
        return [(np.array([len(text)], np.float32),) for text in super().read(texts)]


class Letters(WorkerEncoder):
    """How many letters, counted where texts are read."""

    def __init__(self):
        self.outputs = (Output(Recipe("letters", "text"), ("letters",)),)
        self.reader = Counts()


class Large(AsIs):
    """Makes five megabytes of every text."""

    def read(self, texts):
        return [np.full(5 << 17, float(len(text))) for text in texts]


class Sums(Lengths):
    """The mean of what the reader makes."""

    def __init__(self):
        super().__init__(rows=4, name="sums")
        self.reader = Large()

    def vectors(self, packed, one):
        return (np.array([one.mean()]),)


class Takes(Samples):
    """Asks for three gigabytes to read some lengths."""

    def read(self, samples):
        if len(samples) in self.raises:
            np.empty(3 << 30, np.uint8)
        return (np.array([len(samples)], np.float32),)


class Greedy(Seconds):
    """The number of samples, by a reader that may want much memory."""

    def __init__(self, lengths):
        super().__init__()
        self.reader = Takes(raises=lengths)


class Elsewhere(Letters):
    """Is made by another recipe in every process but the one that is named."""

    def __init__(self, here):
        super().__init__()
        weights = "these" if os.getpid() == here else "others"
        self.outputs = (Output(Recipe("elsewhere", "text", weights=weights), ("letters",)),)


@dataclass(frozen=True)
class Asked(Request):
    """Encoders of the tests' own, by class and arguments."""

    kinds: list = field(default_factory=list)

    def make_encoders(self, device="auto", *, fetch=True):
        found = vars(small_encoders) | globals()
        return [found[name](**options) for name, options in self.kinds]


def ask(store, *kinds, **options):
    """Ask for encoders: names of classes, or pairs of a name and its arguments."""
    pairs = [(kind, {}) if isinstance(kind, str) else kind for kind in kinds]
    return Asked(store.path, (), kinds=pairs, **options)


def make(request, options=None, *, rows=8, on_progress=None):
    """Make what is asked for on the cluster that this process is connected to, with so many rows in a shard."""
    store = request.open()
    tasks = request.plan(store, request.make_encoders())
    before, dealing._MOST_ROWS = dealing._MOST_ROWS, rows
    try:
        for dealt in dealing.deal_all(store, tasks):
            run_on_cluster(request, dealt, Cluster.now(), options, on_progress=on_progress)
    finally:
        dealing._MOST_ROWS = before
    return assemble(store, tasks)
