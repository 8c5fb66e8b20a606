"""Speech encoders from transformers: masked mean over the frames that hold sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixed_signals.extract import weights
from mixed_signals.extract.encoders.base import Encoder, numbered
from mixed_signals.extract.media import Clip
from mixed_signals.store import Recipe

_RATE = 16_000
_WINDOW = 30 * _RATE
_HOP = 320  # samples per output frame: 160 per mel frame, halved by the second convolution


class WhisperTiny(Encoder):
    """Encoder of Whisper tiny.en: last layer, mean over the frames that cover the utterance.

    The encoder was trained on windows of 30 s padded with silence and is used so; the padding is left out of the
    mean. Longer utterances are cut into windows of 30 s whose frames are averaged together. 384 dimensions.

    Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv 2212.04356.
    """

    libraries = ("transformers", "torch", "av")

    def __init__(self) -> None:
        self.dimensions = numbered("whisper", 384)
        self.recipe = Recipe(
            encoder="whisper-tiny.en",
            modality="audio",
            weights=weights.fingerprint("whisper-tiny.en"),
            preprocessing={"sample_rate": _RATE, "window_seconds": 30},
            pooling="mean over sound",
        )

    def prepare(self) -> None:
        """Fetch the pinned weights and convert them, unless that is done."""
        from mixed_signals.extract.whisper_checkpoint import converted_whisper

        converted_whisper(weights.fetch("whisper-tiny.en"))

    def load(self) -> None:
        """Load feature extractor and encoder."""
        from transformers import WhisperFeatureExtractor, WhisperModel
        from transformers.utils import logging

        from mixed_signals.extract.whisper_checkpoint import converted_whisper

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        folder = str(converted_whisper(weights.path("whisper-tiny.en")))
        self._features: Any = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
        model: Any = WhisperModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self._encoder: Any = model.get_encoder().eval()

    def vectors(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Return one vector (384,) per utterance."""
        import torch

        windows, owners = [], []
        for number, clip in enumerate(clips):
            samples = clip.waveform(_RATE)
            for start in range(0, len(samples), _WINDOW):
                windows.append(samples[start : start + _WINDOW])
                owners.append(number)
        mel = self._features(windows, sampling_rate=_RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            states = self._encoder(mel).last_hidden_state.numpy()
        sums = np.zeros((len(clips), states.shape[2]))
        lengths = np.zeros(len(clips))
        for owner, window, state in zip(owners, windows, states, strict=True):
            frames = -(-len(window) // _HOP)
            sums[owner] += state[:frames].sum(axis=0, dtype=np.float64)
            lengths[owner] += frames
        return list((sums / lengths[:, None]).astype(np.float32))
