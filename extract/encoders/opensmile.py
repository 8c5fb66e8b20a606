"""openSMILE functionals of the voice. openSMILE is free for research, not for commercial use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from mixed_signals.extract.encoders.base import Encoder
from mixed_signals.extract.media import Clip
from mixed_signals.store import Recipe

_RATE = 16_000


class EGemaps(Encoder):
    """eGeMAPSv02: 88 named functionals of pitch, loudness, voice quality and spectrum.

    Each dimension has the unit that its name gives (``_sma3nz`` smoothed over voiced frames; F0 in semitones
    from 27.5 Hz, levels in dB).

    Source: Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS)", IEEE Transactions on
    Affective Computing 7 (2016).
    """

    libraries = ("opensmile", "av")
    in_processes = True

    def __init__(self) -> None:
        self.recipe = Recipe(
            encoder="egemaps",
            modality="audio",
            weights="eGeMAPSv02",
            preprocessing={"sample_rate": _RATE},
            layer="",
            pooling="functionals",
        )

    @cached_property
    def dimensions(self) -> list[str]:  # type: ignore[override]
        """The 88 names that openSMILE gives."""
        return list(_smile().feature_names)

    def load(self) -> None:
        """Load the native library and its configuration."""
        self._smile = _smile()

    def vectors(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Return one vector (88,) per utterance."""
        return [
            self._smile.process_signal(clip.waveform(_RATE), _RATE).to_numpy(dtype=np.float32)[0]
            for clip in clips
        ]


def _smile() -> Any:
    import opensmile

    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )
