"""What an encoder is: a reader, which works where media are decoded, and a network, which works on a device.

Either may be all there is to it. openSMILE and MediaPipe are readers: they give vectors in the process that decodes. A
transformer's reader gives what its network takes (samples, pictures of the right size); the network then encodes many
utterances at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mixed_signals.store import Recipe, Status


@dataclass(frozen=True)
class Output:
    """One feature set that an encoder makes.

    Attributes
    ----------
    recipe : Recipe
        How its vectors are made.
    dimensions : tuple of str, length D
        Names of the columns.
    layer, pooling : str
        What its name says of them; empty where they are the encoder's own.
    """

    recipe: Recipe
    dimensions: tuple[str, ...]
    layer: str = ""
    pooling: str = ""


class Encoded(NamedTuple):
    """What became of one utterance: a vector (D,) for each output where the status is `ok`, else a reason."""

    status: Status
    vectors: tuple[np.ndarray, ...] = ()
    reason: str = ""


class Reader:
    """Turns decoded media, or text, into what the network takes; picklable, and light until `load`."""

    def load(self) -> None:
        """Load native libraries and tables; called once in every process that reads."""
        return

    def close(self) -> None:
        """Let go of what `load` took."""
        return


class TextReader(Reader, ABC):
    """Reads transcripts."""

    @abstractmethod
    def read(self, texts: Sequence[str]) -> list[Any]:
        """Return what the network takes of each text, none of which is blank."""


class SoundReader(Reader, ABC):
    """Reads sound: mono samples at a rate of its own."""

    rate: int = 16_000

    @abstractmethod
    def read(self, samples: np.ndarray) -> Any:
        """Return what the network takes, or a vector for each output, of float32 samples (n,) at `rate` Hz.

        May raise `Absent` or `Unreadable`.
        """


class PictureReader(Reader, ABC):
    """Reads pictures, at times of its own; one pass over a file serves several of them."""

    @abstractmethod
    def times(self, start: float, stop: float) -> np.ndarray:
        """Return the times to look at, in seconds, ascending, from `start` to before `stop`."""

    @abstractmethod
    def look(self, picture: np.ndarray) -> Any:
        """Return what is kept of the picture on screen at one of these times, RGB uint8 (height, width, 3)."""

    @abstractmethod
    def read(self, looks: list[Any]) -> Any:
        """Return what the network takes, or a vector for each output, of what was kept, one entry per time.

        May raise `Absent` or `Unreadable`.
        """


class Encoder(ABC):
    """Turns the utterances of one modality into vectors; light until `load`.

    Attributes
    ----------
    outputs : tuple of Output
        The feature sets that come out of one pass, at least one.
    reader : Reader
        A `TextReader`, `SoundReader` or `PictureReader`, as its modality wants.
    libraries : tuple of str
        Distributions whose versions are recorded.
    in_workers : bool
        Whether the reader gives the vectors itself, so that no network is loaded.
    """

    outputs: tuple[Output, ...]
    reader: Reader
    libraries: tuple[str, ...] = ()
    in_workers: bool = False

    @property
    def name(self) -> str:
        """The encoder's name, as recipes have it."""
        return self.outputs[0].recipe.encoder

    @property
    def modality(self) -> str:
        """text, audio or video."""
        return self.outputs[0].recipe.modality

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Ids of the utterances that its weights are known to be trained on, as feature sets have them."""
        return ()

    def prepare(self) -> None:
        """Bring what loading needs onto this machine (weights); called once, before any work begins."""
        return

    def batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Plan which utterances may share a pass of the network; those of a batch and no others ever do.

        Parameters
        ----------
        lengths : ndarray of float, shape (N,)
            How long each utterance is, roughly: bytes of text, seconds of media.

        Returns
        -------
        list of ndarray of int
            Positions, each once; an utterance a batch where nothing is shared.
        """
        return list(np.arange(len(lengths))[:, None])


class WorkerEncoder(Encoder):
    """An encoder whose reader gives the vectors."""

    in_workers = True


class NetworkEncoder(Encoder):
    """An encoder whose network encodes what its reader gave.

    What goes wrong with one input is that input's own, and `encode` says so of it. What `pack` or `encode` raise ends
    the job.

    Attributes
    ----------
    device : str
        Where the network is: cpu, cuda, cuda:1.
    """

    device: str = "cpu"

    @abstractmethod
    def load(self) -> None:
        """Load the network onto its device; called once, in the process that encodes."""

    @abstractmethod
    def pack(self, inputs: Sequence[Any]) -> Any:
        """Return what `encode` takes of one planned batch; work for the processor, done while the device encodes."""

    @abstractmethod
    def encode(self, packed: Any) -> list[Encoded]:
        """Return what became of each input of the batch that was packed, in its order."""

    def close(self) -> None:
        """Let go of what `load` took."""
        return


def numbered(prefix: str, n: int) -> tuple[str, ...]:
    """Return names for dimensions that have none: ``prefix_0`` to ``prefix_<n-1>``."""
    return tuple(f"{prefix}_{i}" for i in range(n))
