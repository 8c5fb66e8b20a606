"""What an encoder gets together, from what was read of it to the columns that are written."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixed_signals.extract.encoders.base import Encoded, Encoder, NetworkEncoder
from mixed_signals.extract.reads import Read
from mixed_signals.store import Status


@dataclass
class Batch:
    """Utterances that an encoder gets together, and for which of the tasks.

    Attributes
    ----------
    encoder : int
        Which encoder.
    rows : ndarray of int, shape (B,)
        The utterances.
    tasks : list of int
        Who wants the vectors.
    waits_for : int
        How many of the utterances are not read yet.
    reads : dict of int to Read
        What was read so far, by utterance.
    content : object
        What the next step takes: the packed batch, then a list of `Encoded`.
    """

    encoder: int
    rows: np.ndarray
    tasks: list[int]
    waits_for: int
    reads: dict[int, Read] = field(default_factory=dict)
    content: Any = None

    def ready(self) -> list[Read]:
        """Return what was read, in the order of the rows."""
        return [self.reads[row] for row in self.rows.tolist()]

    def values(self) -> list[Any]:
        """Return what there is to encode."""
        return [read.value for read in self.ready() if read.status == Status.OK]


def shared_batches(planned: Iterable[tuple[int, int, np.ndarray]], lengths: np.ndarray) -> list[Batch]:
    """Return batches, those of long utterances first; tasks that want the same of an encoder share one.

    Parameters
    ----------
    planned : iterable of (task, encoder, rows)
    lengths : ndarray of float, shape (N,)
        How long each utterance is.
    """
    shared: dict[tuple[int, bytes], Batch] = {}
    for task, encoder, rows in planned:
        batch = shared.setdefault((encoder, rows.tobytes()), Batch(encoder, rows, [], waits_for=len(rows)))
        batch.tasks.append(task)
    return sorted(shared.values(), key=lambda batch: -lengths[batch.rows].max())


class Encoding:
    """The steps between reading and writing, of the encoders of one modality.

    Attributes
    ----------
    spent : list of dict
        Seconds that each encoder took, by step.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self.encoders = list(encoders)
        self.spent = [defaultdict[str, float](float) for _ in self.encoders]

    def pack(self, batch: Batch) -> Batch:
        """Make of a batch what its network takes."""
        encoder, began = self.encoders[batch.encoder], time.perf_counter()
        if isinstance(encoder, NetworkEncoder) and (values := batch.values()):
            batch.content = encoder.pack(values)
        self.spent[batch.encoder]["pack"] += time.perf_counter() - began
        return batch

    def encode(self, batch: Batch) -> Batch:
        """Run the network, or take the reader's vectors: a list of `Encoded`, one for each row."""
        encoder, began = self.encoders[batch.encoder], time.perf_counter()
        values = batch.values()
        if isinstance(encoder, NetworkEncoder):
            made = iter(encoder.encode(batch.content) if values else [])
        else:
            made = iter([Encoded(Status.OK, vectors) for vectors in values])
        batch.content = [
            next(made) if read.status == Status.OK else Encoded(read.status, reason=read.reason)
            for read in batch.ready()
        ]
        batch.reads.clear()
        self.spent[batch.encoder]["encode"] += time.perf_counter() - began
        return batch


def columns(
    encoded: Sequence[Encoded], number: int, width: int
) -> tuple[np.ndarray, list[Status], list[str]]:
    """Return what became of a batch in one output of its encoder, as `FeatureWriter.write` takes it.

    Parameters
    ----------
    encoded : sequence of Encoded, length B
    number : int
        Which of the encoder's outputs.
    width : int
        How many values its vectors have, D.

    Returns
    -------
    vectors : ndarray of float32, shape (B, D)
        NaN where there is none.
    status : list of Status, length B
    reasons : list of str, length B

    Raises
    ------
    ValueError
        If a vector has another shape.
    """
    vectors = np.full((len(encoded), width), np.nan, np.float32)
    for row, one in enumerate(encoded):
        if one.status == Status.OK:
            vector = one.vectors[number]
            if vector.shape != (width,):
                raise ValueError(f"the encoder gave a vector of shape {vector.shape}, not ({width},)")
            vectors[row] = vector
    return vectors, [one.status for one in encoded], [one.reason for one in encoded]
