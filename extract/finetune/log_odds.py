"""What a fine-tuned encoder says of each class, as a vector: it means the same whichever encoder said it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.extract.encoders.base import Encoded, NetworkEncoder, Output
from mixed_signals.extract.encoders.transformer import TransformerEncoder
from mixed_signals.extract.finetune.network import HEAD, load_head
from mixed_signals.store import Status
from mixed_signals.store.provenance import file_hash, fingerprint


class LogOdds(NetworkEncoder):
    """A fine-tuned encoder with the linear layer that was trained on it.

    Of class c the vector has log p_c less the mean of log p over the classes (the centred log-ratio of Aitchison 1982,
    "The Statistical Analysis of Compositional Data", JRSS B 44); of an interval target the value, in its own units.

    Parameters
    ----------
    encoder : TransformerEncoder
        Of the folder.
    folder : Path
        Where `Classifier.save` wrote the linear layer.
    """

    def __init__(self, encoder: TransformerEncoder, folder: Path) -> None:
        self.encoder, self.device, self.reader = encoder, encoder.device, encoder.reader
        self.libraries = encoder.libraries
        self._layer, self._said = load_head(folder)
        recipe = encoder.outputs[0].recipe
        weights = fingerprint([recipe.weights, file_hash(folder / HEAD)])
        classes = tuple(self._said["classes"])
        self.outputs = (Output(replace(recipe, weights=weights, layer="classifier"), classes or ("value",)),)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Of its encoder."""
        return self.encoder.trained_on

    def prepare(self) -> None:
        """Prepare the encoder."""
        self.encoder.prepare()

    def batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Plan as the encoder does."""
        return self.encoder.batches(lengths)

    def load(self) -> None:
        """Load the encoder's network."""
        self.encoder.load()

    def close(self) -> None:
        """Let go of the encoder's network."""
        self.encoder.close()

    def pack(self, inputs: Sequence[Any]) -> Any:
        """Pack as the encoder does."""
        return self.encoder.pack(inputs)

    def encode(self, packed: Any) -> list[Encoded]:
        """Encode, and put the linear layer on each vector."""
        return [
            Encoded(Status.OK, (self._outputs(one.vectors[0]),)) if one.status == Status.OK else one
            for one in self.encoder.encode(packed)
        ]

    def _outputs(self, vector: np.ndarray) -> np.ndarray:
        layer, said = self._layer, self._said
        made: np.ndarray = layer["weight"].astype(np.float64) @ vector + layer["bias"]
        made = made - made.mean() if said["classes"] else made * said["scale"] + said["mean"]
        return made.astype(np.float32)
