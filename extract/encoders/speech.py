"""Speech encoders from transformers: those that take samples, and Whisper's, which takes a spectrogram."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mixed_signals.extract.encoders.base import SoundReader
from mixed_signals.extract.encoders.log_mel import LogMel, Mel
from mixed_signals.extract.encoders.transformer import TransformerEncoder
from mixed_signals.extract.media import Unreadable
from mixed_signals.store import UsageError

if TYPE_CHECKING:
    from torch import Tensor

WINDOW_SECONDS = 30
"""No network is given more samples at once: attention costs the square of their number. Whisper takes no more."""


@dataclass(kw_only=True)
class Wave(SoundReader):
    """Reads samples, scaled to mean 0 and variance 1 over the whole utterance where the network wants that."""

    rate: int
    normalise: bool
    shortest: int

    def read(self, samples: np.ndarray) -> np.ndarray:
        """Return float32 samples, shape (n,).

        Raises
        ------
        Unreadable
            If there are fewer than the network needs for one frame.
        """
        if len(samples) < self.shortest:
            raise Unreadable(
                f"only {len(samples)} samples of sound: the network hears nothing below {self.shortest}"
            )
        if not self.normalise:
            return samples
        scaled = (samples - samples.mean(dtype=np.float64)) / np.sqrt(samples.var(dtype=np.float64) + 1e-7)
        return scaled.astype(np.float32)


class SpeechEncoder(TransformerEncoder):
    """What speech networks share: what their feature extractor is set to."""

    modality = "audio"
    libraries = ("transformers", "torch", "av")

    @cached_property
    def extractor(self) -> dict[str, Any]:
        """What the published feature extractor is set to.

        Raises
        ------
        UsageError
            If no file says so.
        """
        said = self.checkpoint.json("preprocessor_config.json")
        said = said or self.checkpoint.json("processor_config.json").get("feature_extractor", {})
        if not said:
            raise UsageError(
                f"--audio {self.checkpoint.name}: no preprocessor_config.json in {self.checkpoint.folder}, which says "
                "how sound is prepared: put it there"
            )
        return said

    @property
    def rate(self) -> int:
        """Samples per second."""
        return int(self.extractor.get("sampling_rate", 16_000))


class WaveEncoder(SpeechEncoder):
    """wav2vec 2.0, HuBERT, WavLM and data2vec-audio: samples in, about 50 frames a second out, pooled.

    Some normalise over time, so that even masked padding would change every frame: the group norm after the first
    convolution of base models, the position layers of data2vec-audio, HuBERT's batch norm before them. Only sound of
    one length shares a pass of these.

    Sources: arXiv 2006.11477 (wav2vec 2.0), 2106.07447 (HuBERT), 2110.13900 (WavLM), 2202.03555 (data2vec).
    """

    families = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
    budgets = {"cpu": 16_000 * 5, "cuda": 320 * 32_768}  # noqa: RUF012 - in samples, of which 320 are a frame
    cost_of_one = 16_000.0

    def make_reader(self) -> Wave:
        """Return what scales samples, and knows how many the network needs for a frame."""
        config = self.checkpoint.config
        kind = config.get("model_type")
        if kind not in self.families or config.get("add_adapter"):
            raise UsageError(
                f"--audio {self.checkpoint.name}: a {kind} network{' with an adapter' * (kind in self.families)} "
                f"cannot be used: use one of {', '.join(self.families)}, or whisper"
            )
        shortest = 1
        for kernel, stride in zip(
            reversed(config["conv_kernel"]), reversed(config["conv_stride"]), strict=True
        ):
            shortest = (shortest - 1) * stride + kernel
        return Wave(rate=self.rate, normalise=self.normalise, shortest=shortest)

    def load(self) -> None:
        """Load the network."""
        warnings.filterwarnings(
            "ignore", message="Support for mismatched key_padding_mask"
        )  # WavLM's own two masks
        super().load()

    @property
    def normalise(self) -> bool:
        """Whether each utterance is scaled to mean 0 and variance 1."""
        return bool(self.extractor.get("do_normalize", True))

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Sample rate and scaling, and what becomes of longer sound."""
        return {
            "sample_rate": self.rate,
            "normalised": self.normalise,
            "window_seconds": WINDOW_SECONDS,
            "longer": "equal windows",
        }

    @property
    def padding_changes(self) -> bool:
        """Whether the network normalises over time, or has position layers that see the padding."""
        config = self.checkpoint.config
        return (
            config.get("feat_extract_norm", "group") == "group"
            or config["model_type"] == "data2vec-audio"
            or bool(config.get("conv_pos_batch_norm"))
        )

    def windows(self, one: np.ndarray) -> list[np.ndarray]:
        """Split into windows of at most 30 s, equal but for one sample."""
        return np.array_split(one, -(-len(one) // (WINDOW_SECONDS * self.rate)))

    def length(self, window: np.ndarray) -> int:
        """Return the number of samples."""
        return len(window)

    def collate(self, windows: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Pad with zeros on the right."""
        import torch

        lengths = np.array([len(window) for window in windows])
        samples = np.zeros((len(windows), lengths.max()), dtype=np.float32)
        for row, window in zip(samples, windows, strict=True):
            row[: len(window)] = window
        tensors = {"input_values": torch.from_numpy(samples)}
        if (lengths < lengths.max()).any():
            tensors["samples"] = torch.from_numpy(lengths)
        return tensors

    def states(
        self, tensors: dict[str, Tensor], layers: Collection[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Run the network; frames that hold padding are not real."""
        import torch

        values, samples = tensors["input_values"], tensors.get("samples")
        if samples is None:
            return self.read(layers, input_values=values), None
        sound = (torch.arange(values.shape[1], device=values.device) < samples[:, None]).long()
        states = self.read(layers, input_values=values, attention_mask=sound)
        n_frames = next(iter(states.values())).shape[1]
        return states, self._network._get_feature_vector_attention_mask(n_frames, sound)


class WhisperEncoder(SpeechEncoder):
    """Whisper's encoder: 50 frames a second, those that hold sound pooled.

    It was trained on windows of 30 s padded with silence and is used so; the padding is left out of the pooling.

    Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv 2212.04356.
    """

    budgets = {"cpu": 1500, "cuda": 32_768}  # noqa: RUF012 - in frames, of which a window has 1500
    cost_of_one = 50.0
    least_cost = 1500.0
    reader: LogMel

    def make_reader(self) -> LogMel:
        """Return what makes spectrograms."""
        return LogMel(
            rate=self.rate,
            bins=int(self.checkpoint.config["num_mel_bins"]),
            window=self.window,
            hop=self.hop,
            n_fft=int(self.extractor.get("n_fft", 400)),
        )

    @property
    def positions(self) -> int:
        """Frames of a window."""
        return int(self.checkpoint.config["max_source_positions"])

    @property
    def hop(self) -> int:
        """Samples between two columns of the spectrogram, two of which make a frame."""
        return int(self.extractor.get("hop_length", 160))

    @property
    def window(self) -> int:
        """Samples of a window."""
        return 2 * self.hop * self.positions

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Sample rate, and what becomes of longer sound."""
        return {
            "sample_rate": self.rate,
            "window_seconds": self.window / self.rate,
            "shorter": "padded with silence, which is left out",
            "longer": "equal windows",
        }

    @property
    def n_layers(self) -> int:
        """How many blocks the encoder has."""
        return int(self.checkpoint.config["encoder_layers"])

    @property
    def width(self) -> int:
        """How many numbers a frame has."""
        return int(self.checkpoint.config["d_model"])

    def network(self) -> Any:
        """Return the encoder alone."""
        return self.checkpoint.model().get_encoder()

    def windows(self, one: list[Mel]) -> list[Mel]:
        """Return the windows as the reader made them."""
        return one

    def length(self, window: Mel) -> int:
        """Return the number of frames, which all windows have, padding and all."""
        return self.positions

    def collate(self, windows: Sequence[Mel]) -> dict[str, Tensor]:
        """Pad with silence on the right."""
        import torch

        columns = np.empty((len(windows), self.reader.bins, 2 * self.positions), dtype=np.float32)
        for row, window in zip(columns, windows, strict=True):
            row[:] = window.silence
            row[:, : window.columns.shape[1]] = window.columns
        frames = np.array([-(-window.samples // (2 * self.hop)) for window in windows])
        tensors = {"input_features": torch.from_numpy(columns)}
        if (frames < self.positions).any():
            tensors["frames"] = torch.from_numpy(frames)
        return tensors

    def states(
        self, tensors: dict[str, Tensor], layers: Collection[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Run the encoder; frames after the sound are not real."""
        import torch

        states = self.read(layers, input_features=tensors["input_features"])
        frames = tensors.get("frames")
        if frames is None:
            return states, None
        return states, torch.arange(self.positions, device=frames.device) < frames[:, None]
