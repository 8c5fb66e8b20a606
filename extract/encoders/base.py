"""What an encoder is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mixed_signals.extract.media import Absent, Clip, Unreadable
from mixed_signals.store import Recipe, Status


class Encoded(NamedTuple):
    """What became of one utterance: a vector (D,) where the status is `ok`, and a reason elsewhere."""

    status: Status
    vector: np.ndarray | None = None
    reason: str = ""


class Encoder(ABC):
    """Turns the utterances of one modality into vectors; light until `load`.

    Attributes
    ----------
    recipe : Recipe
        How its vectors are made.
    dimensions : list of str, length D
        Names of the columns; known without loading.
    libraries : tuple of str
        Distributions whose versions are recorded.
    batch_size : int
        Utterances encoded together; 1 for encoders that gain nothing from more.
    in_processes : bool
        Whether it is spread over worker processes (one thread each) rather than run in this one.
    """

    recipe: Recipe
    dimensions: list[str]
    libraries: tuple[str, ...] = ()
    batch_size: int = 1
    in_processes: bool = False

    def prepare(self) -> None:
        """Bring what loading needs onto this machine (weights); called once, before any work begins."""
        return

    @abstractmethod
    def load(self) -> None:
        """Load weights and native libraries; called once in every process that encodes."""

    @abstractmethod
    def vectors(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Return one vector (D,) per clip, or raise `Absent` or `Unreadable`.

        At most `batch_size` clips come at a time. A batch in which one of them raises is encoded again one by
        one, so an encoder need not handle faults itself.
        """

    def encode(self, clips: Sequence[Clip]) -> list[Encoded]:
        """Return what became of each clip, in batches; one clip's fault is its own."""
        if len(clips) > self.batch_size:
            starts = range(0, len(clips), self.batch_size)
            return [encoded for i in starts for encoded in self.encode(clips[i : i + self.batch_size])]
        try:
            vectors = self.vectors(clips)
            if len(vectors) != len(clips):
                raise ValueError(f"{len(vectors)} vectors for {len(clips)} utterances")
            return [Encoded(Status.OK, vector) for vector in vectors]
        except Exception as error:  # whatever a codec or a library throws is this row's reason
            if len(clips) > 1:
                return [encoded for clip in clips for encoded in self.encode([clip])]
            if isinstance(error, Absent):
                return [Encoded(Status.MISSING, reason=str(error))]
            if isinstance(error, Unreadable):
                return [Encoded(Status.FAILED, reason=str(error))]
            return [Encoded(Status.FAILED, reason=f"{type(error).__name__}: {error}")]

    def close(self) -> None:
        """Let go of what `load` took."""
        return


def numbered(prefix: str, n: int) -> list[str]:
    """Return names for dimensions that have none: ``prefix_0`` to ``prefix_<n-1>``."""
    return [f"{prefix}_{i}" for i in range(n)]
