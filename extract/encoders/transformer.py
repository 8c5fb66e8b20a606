"""What all networks from transformers share: a checkpoint, the layers that are read off it, and how they are pooled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixed_signals.extract.encoders.base import Encoded, Output, Reader, numbered
from mixed_signals.extract.encoders.passes import PassEncoder
from mixed_signals.extract.encoders.pooling import POOLINGS, combine, needed, pool
from mixed_signals.extract.hub import TAUGHT, TRAINING
from mixed_signals.store import MixedSignalsError, Recipe, Status, UsageError
from mixed_signals.store.provenance import fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from mixed_signals.extract.checkpoints import Checkpoint

DTYPES = ("float32", "bfloat16", "float16")


class Readout(NamedTuple):
    """What is read off a network: a layer and how it is pooled.

    Attributes
    ----------
    layer : str
        ``last``, or a number: 0 is the embeddings, i is after block i. Of networks that end with a norm, the greatest
        number is before it in speech (but for Whisper) and video, and after it, as ``last``, in Whisper and text.
    pooling : str
    """

    layer: str
    pooling: str


class TransformerEncoder(PassEncoder):
    """A network from transformers: its layers, pooled over real positions.

    Parameters
    ----------
    checkpoint : Checkpoint
        Configuration and weights.
    readouts : sequence of Readout
        What is read off in one pass, each a feature set of its own; the encoder's own if none is given. A layer or
        pooling that is empty stands for the last, and the encoder's own.
    device : str
        As torch names it: cpu, cuda, cuda:1.
    dtype : str
        Precision of computing: float32, or mixed precision with bfloat16 or float16.

    Attributes
    ----------
    own_pooling : str
        Pooling where none is asked for; ``, L2`` after it scales vectors to length one.

    Raises
    ------
    UsageError
        If the network has no such layer, or there is no such pooling or precision.
    """

    libraries: tuple[str, ...] = ("transformers", "torch")
    own_pooling: str = "mean"

    def __init__(
        self,
        checkpoint: Checkpoint,
        readouts: Sequence[Readout] = (),
        *,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        super().__init__(device)
        self.checkpoint = checkpoint
        self.dtype = dtype
        if dtype not in DTYPES:
            raise UsageError(f"--dtype {dtype!r}: use {', '.join(DTYPES)}")
        self.reader = self.make_reader()
        recipe = Recipe(
            encoder=checkpoint.name,
            modality=self.modality,
            weights=checkpoint.fingerprint,
            preprocessing=self.preprocessing,
            dtype=dtype,
            revision=checkpoint.revision,
        )
        dimensions = numbered(checkpoint.name, self.width)
        if readouts:
            self._scaled = False
            self._readouts = [self._named(readout) for readout in readouts]
            self.outputs = tuple(
                Output(replace(recipe, layer=r.layer, pooling=r.pooling), dimensions, r.layer, r.pooling)
                for r in self._readouts
            )
        else:
            pooling, *scaling = self.own_pooling.split(", ")
            self._scaled = bool(scaling)
            self._readouts = [Readout("last", pooling)]
            self.outputs = (Output(replace(recipe, pooling=self.own_pooling), dimensions),)
        self._layers = tuple(dict.fromkeys(r.layer for r in self._readouts))
        self._parts = needed([r.pooling for r in self._readouts])

    @abstractmethod
    def make_reader(self) -> Reader:
        """Return the encoder's reader; called first, so it may refuse a checkpoint that cannot be used."""

    def _named(self, readout: Readout) -> Readout:
        where = f"--{self.modality} {self.checkpoint.name}"
        readout = Readout(readout.layer or "last", readout.pooling or self.own_pooling.partition(",")[0])
        known = {"last", *map(str, range(self.n_layers + 1))}
        if readout.layer not in known:
            raise UsageError(
                f"{where}: no layer {readout.layer!r}: use last, or a number from 0 (embeddings) to {self.n_layers}"
            )
        if readout.pooling not in POOLINGS:
            raise UsageError(f"{where}: no pooling {readout.pooling!r}: use {', '.join(POOLINGS)}")
        return readout

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Everything that is done before the network, as the recipe has it."""
        return {}

    @property
    def trained_on(self) -> tuple[str, ...]:
        """What a checkpoint that was trained here says of it (``training.json``).

        Raises
        ------
        MixedSignalsError
            If its configuration says that it was trained here, and what says on which rows is not beside it.
        """
        said = self.checkpoint.json(TRAINING)
        ids = tuple(map(str, said.get("trained_on", ()))) if isinstance(said, dict) else ()
        taught = self.checkpoint.config.get(TAUGHT)
        if taught is not None and taught != fingerprint(sorted(ids)):
            raise MixedSignalsError(
                f"{self.checkpoint.folder}: was trained by finetune-encoders, and the {TRAINING} that says on which "
                "utterances is not beside it: copy it from the checkpoint that this one was made of"
            )
        return ids

    @property
    def n_layers(self) -> int:
        """How many blocks the network has."""
        return int(self.checkpoint.config["num_hidden_layers"])

    @property
    def width(self) -> int:
        """How many numbers a position has."""
        return int(self.checkpoint.config["hidden_size"])

    def network(self) -> Any:
        """Return the network with its weights, on the host."""
        return self.checkpoint.model()

    @property
    def network_(self) -> Any:
        """The network that was loaded, on its device."""
        return self._network

    @abstractmethod
    def states(
        self, tensors: dict[str, Tensor], layers: Collection[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Run the network.

        Parameters
        ----------
        tensors : dict of Tensor
            What `collate` gave, on the device.
        layers : collection of str
            Which are wanted; `read` gives them.

        Returns
        -------
        dict of Tensor, shape (B, T, D) each
            By layer.
        Tensor of bool, shape (B, T), or None
            Which positions are real; all of them if None.
        """

    def read(self, layers: Collection[str], **inputs: Any) -> dict[str, Tensor]:
        """Call the network and return the layers, asking for no more than is wanted."""
        if set(layers) == {"last"}:
            return {"last": self._network(**inputs).last_hidden_state}
        output = self._network(**inputs, output_hidden_states=True)
        n = len(output.hidden_states)
        if n != self.n_layers + 1:  # layers would not be what their numbers say
            raise ValueError(f"the network gives {n} layers, not {self.n_layers + 1}: read last alone")
        return {
            layer: output.last_hidden_state if layer == "last" else output.hidden_states[int(layer)]
            for layer in layers
        }

    def load(self) -> None:
        """Load the network onto its device."""
        self._network = self.network().to(self.device)

    def close(self) -> None:
        """Let go of the network."""
        self._network = None
        self._empty_cache()

    def pooled(self, tensors: dict[str, Tensor]) -> Tensor:
        """Run the network and pool each window.

        Returns
        -------
        Tensor of float32, shape (B, layers x parts x D + 1)
            On the device; last its number of real positions.
        """
        import torch

        kind = torch.device(self.device).type
        mixed = self.dtype != "float32"
        on_device = {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}
        with torch.inference_mode():
            with torch.autocast(kind, getattr(torch, self.dtype) if mixed else None, enabled=mixed):
                states, mask = self.states(on_device, self._layers)
            pooled = [pool(states[layer], mask, self._parts).flatten(1) for layer in self._layers]
            n_windows, n_positions = states[self._layers[0]].shape[:2]
            n = pooled[0].new_full((n_windows, 1), n_positions)
            return torch.cat([*pooled, n if mask is None else mask.sum(dim=1, keepdim=True).to(n)], dim=1)

    def combined(self, rows: np.ndarray) -> Encoded:
        """Combine the windows of an utterance, one vector for each readout."""
        positions = rows[:, -1]
        if not positions.all():
            return Encoded(Status.FAILED, reason="a window in which the network has no position")
        pooled = rows[:, :-1].reshape(len(rows), len(self._layers), len(self._parts), -1)
        vectors = []
        for layer, pooling in self._readouts:
            vector = combine(pooled[:, self._layers.index(layer)], positions, self._parts, pooling)
            if self._scaled:
                vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
            vectors.append(vector.astype(np.float32))
        return Encoded(Status.OK, tuple(vectors))
