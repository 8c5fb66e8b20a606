"""Whisper's log-mel spectrogram, in numpy: worker processes that decode need no torch for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from mixed_signals.extract.encoders.base import SoundReader

_TOP_HERTZ = 8000.0
_FLOOR = 1e-10
_RANGE = 8.0  # powers of ten below the loudest that are kept apart


class Mel(NamedTuple):
    """One window.

    Attributes
    ----------
    columns : ndarray of float32, shape (bins, n)
        As far as sound reaches.
    silence : float
        What every later column holds.
    samples : int
        How many samples of sound there are.
    """

    columns: np.ndarray
    silence: float
    samples: int


@dataclass(kw_only=True)
class LogMel(SoundReader):
    """Reads sound as windows of at most `window` samples, of equal length give or take one, each a spectrogram.

    A window counts as padded with silence to its full length, as the network takes it; the columns that are nothing but
    silence are not made.

    Source: Radford et al., arXiv 2212.04356, section 2.2; filters after Slaney, "Auditory Toolbox", 1998.
    """

    rate: int
    bins: int
    window: int
    hop: int
    n_fft: int

    def read(self, samples: np.ndarray) -> list[Mel]:
        """Return the windows of float32 samples, shape (n,)."""
        n_windows = -(-len(samples) // self.window)
        return [self._window(part) for part in np.array_split(samples, n_windows)] if n_windows else []

    def _window(self, samples: np.ndarray) -> Mel:
        half = self.n_fft // 2
        n = min(self.window // self.hop, -(-(len(samples) + half) // self.hop))
        padded = np.pad(np.pad(samples, (0, self.window - len(samples))), half, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop][:n]
        hann = np.hanning(self.n_fft + 1)[:-1].astype(np.float32)
        power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
        logs = np.log10(np.maximum(mel_filters(self.bins, self.n_fft, self.rate) @ power.T, _FLOOR))
        least = max(float(logs.max()) - _RANGE, float(np.log10(_FLOOR)))
        return Mel((np.maximum(logs, least) + 4) / 4, (least + 4) / 4, len(samples))


@cache
def mel_filters(bins: int, n_fft: int, rate: int) -> np.ndarray:
    """Return triangular filters of equal area, evenly spaced in mel up to 8 kHz, shape (bins, n_fft // 2 + 1)."""
    edges = _hertz(np.linspace(0, 15 + np.log(_TOP_HERTZ / 1000) * 27 / np.log(6.4), bins + 2))
    hertz = np.linspace(0, rate // 2, n_fft // 2 + 1)
    widths = np.diff(edges)[:, None]
    rising = (hertz - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - hertz) / widths[1:]
    area = 2 / (edges[2:] - edges[:-2])[:, None]
    return (np.maximum(0, np.minimum(rising, falling)) * area).astype(np.float32)


def _hertz(mel: np.ndarray) -> np.ndarray:
    """Slaney's scale: even up to 1000 Hz, which is 15 mel, logarithmic above."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
