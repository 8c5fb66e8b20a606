"""What goes from stage to stage: one shard at a time, with all that is needed of its utterances."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mixed_signals.extract.media import Clip
from mixed_signals.extract.parcels import Parcel, receive, send
from mixed_signals.extract.reads import Read
from mixed_signals.extract.request import Request
from mixed_signals.store import Recipe


@dataclass(frozen=True)
class Goal:
    """One feature set to be made, as workers need to know it.

    Attributes
    ----------
    modality, name : str
        What it is called in the store.
    encoder, number : int
        Which of the encoders of its modality makes it, and which of that one's outputs it is.
    recipe : Recipe
    dimensions, trained_on : tuple of str
        As `FeatureWriter` takes them.
    """

    modality: str
    name: str
    encoder: int
    number: int
    recipe: Recipe
    dimensions: tuple[str, ...]
    trained_on: tuple[str, ...]

    @property
    def key(self) -> str:
        """The feature set's key in the store."""
        return f"{self.modality}/{self.name}"


@dataclass(frozen=True)
class Job:
    """All that the workers of one modality have in common.

    Attributes
    ----------
    request : Request
        With paths that do not depend on the working folder.
    folder : str
        The working folder of the driver, for the paths of checkpoints.
    tables : dict of str to str
        Checksums of the corpus, by which a worker knows the store.
    goals : tuple of Goal
    parts : Path
        The file with the shards that are to be made (`parts_file`).
    before : tuple of dict of int to int
        By goal, of shards that are made again: when the file that is there was written (nanoseconds), by number.
    of : int
        How many shards.
    device : str
        Where networks are: cpu or cuda.
    workers : int
        Decoding processes beside each worker that decodes.
    timeout : float
        Seconds after which reading an utterance is given up.
    memory : int
        Bytes that one decoding process may take.
    """

    request: Request
    folder: str
    tables: dict[str, str]
    goals: tuple[Goal, ...]
    parts: Path
    before: tuple[dict[int, int], ...]
    of: int
    device: str
    workers: int
    timeout: float
    memory: int

    @property
    def modality(self) -> str:
        """text, audio or video."""
        return self.goals[0].modality


@dataclass(frozen=True)
class Part:
    """The utterances of one shard, on their way to be read.

    Attributes
    ----------
    number : int
        Of the shard, from 1.
    ids, entries : ndarray of bytes, shape (N,)
        As `FeatureWriter` takes them.
    clips : list of Clip, length N
        Empty once they are read.
    lengths : ndarray of float, shape (N,)
        About how long each is.
    wanted : list of ndarray of int
        Which of them each goal wants, ascending.
    hashes : list of ndarray of bytes
        What the rows of each goal are made of.
    """

    number: int
    ids: np.ndarray
    entries: np.ndarray
    clips: list[Clip]
    lengths: np.ndarray
    wanted: list[np.ndarray]
    hashes: list[np.ndarray]


@dataclass(frozen=True)
class Heard:
    """A part that was read: by utterance and encoder what the reader made of it, and how long that took."""

    part: Part
    reads: list[dict[int, Read]]
    media_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Columns:
    """What became of the rows of one goal: vectors (N, D), statuses, reasons, and what was encoded together."""

    vectors: np.ndarray
    status: np.ndarray
    reasons: list[str]
    batches: list[np.ndarray]
    versions: dict[str, str]


@dataclass(frozen=True)
class Made:
    """A part that was encoded, by goal; None where a goal wants nothing of it."""

    part: Part
    columns: list[Columns | None]
    spent: list[dict[str, Any]]


@dataclass(frozen=True)
class Written:
    """What became of a shard, by goal: rows, how many of them failed, the last of those and why; where time went."""

    number: int
    rows: list[int]
    failed: list[int]
    last: list[tuple[str, str]]
    spent: list[dict[str, Any]]


@dataclass(frozen=True)
class Broken:
    """In the place of a part: why the work cannot go on."""

    what: str


def as_block(content: Heard | Made | Written | Broken) -> pa.Table:
    """Return something on its way as a table of one row, which is never cut in two."""
    parcel = send(content)
    cell = pa.array([[parcel.head, *parcel.bodies]], pa.list_(pa.large_binary()))
    return pa.table({"content": cell})


def from_block(block: pa.Table) -> Any:
    """Return what `as_block` made a table of; its arrays are this process's own."""
    head, *bodies = block["content"][0].values
    buffers = [body.as_buffer() for body in bodies]
    return receive(Parcel(head.as_py(), tuple(one.size for one in buffers), "", tuple(buffers)))
