"""Text encoders from transformers: masked mean over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixed_signals.extract import weights
from mixed_signals.extract.encoders.base import Encoder, numbered
from mixed_signals.extract.media import Absent, Clip
from mixed_signals.store import Recipe


class MiniLM(Encoder):
    """all-MiniLM-L6-v2: mean over the tokens that the mask keeps, then scaled to length one.

    Source: Wang et al., "MiniLM", arXiv 2002.10957; sentence-transformers' all-MiniLM-L6-v2. Texts are cut at
    256 tokens, as in its published configuration. Vectors have 384 dimensions and no unit.
    """

    max_tokens = 256
    libraries = ("transformers", "tokenizers", "torch")
    batch_size = 32

    def __init__(self) -> None:
        self.dimensions = numbered("minilm", 384)
        self.recipe = Recipe(
            encoder="minilm",
            modality="text",
            weights=weights.fingerprint("minilm"),
            preprocessing={"max_tokens": self.max_tokens},
            pooling="mean, L2",
        )

    def prepare(self) -> None:
        """Fetch the pinned weights unless they are in the cache."""
        weights.fetch("minilm")

    def load(self) -> None:
        """Load tokenizer and weights."""
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        folder = str(weights.path("minilm"))
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model: Any = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        ).eval()

    def vectors(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Return one unit vector (384,) per transcript."""
        import torch

        texts = [clip.text.strip() for clip in clips]
        if not all(texts):
            raise Absent("empty transcript")
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][:, :, None].to(states.dtype)
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
            unit = torch.nn.functional.normalize(mean, dim=1)
        return list(unit.numpy())
