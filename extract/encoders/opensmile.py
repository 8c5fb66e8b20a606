"""openSMILE's functionals of the voice. openSMILE is free for research, not for commercial use."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mixed_signals.extract.encoders.base import Output, SoundReader, WorkerEncoder
from mixed_signals.extract.media import Unreadable
from mixed_signals.store import Recipe

_LOUDEST = 32767 / 32768  # of full scale: the greatest sample of 16 bits


class VoiceSet(NamedTuple):
    """One of openSMILE's feature sets: its configuration's name, and how many functionals it gives."""

    configuration: str
    width: int


VOICE_SETS = {
    "egemaps": VoiceSet("eGeMAPSv02", 88),
    "gemaps": VoiceSet("GeMAPSv01b", 62),
    "compare": VoiceSet("ComParE_2016", 6373),
    "emobase": VoiceSet("emobase", 988),
}


class VoiceReader(SoundReader):
    """Gives one vector of an utterance's sound: what a plain call of openSMILE gives of it, but for clipping.

    openSMILE works on samples of 16 bits, and lets what lies beyond full scale wrap round to the other sign: a click
    that changes loudness and voice quality. Resampled and decoded sound overshoots a little where it is loud, so such
    samples are set to full scale here.
    """

    rate = 16_000

    def __init__(self, configuration: str) -> None:
        self.configuration = configuration

    def load(self) -> None:
        """Load the native library and check that it has the configuration."""
        self._smile = _smile(self.configuration)

    def read(self, samples: np.ndarray) -> tuple[np.ndarray]:
        """Return the functionals (D,), float32, of samples (n,) at `rate` Hz.

        Raises
        ------
        Unreadable
            If the sound is shorter than openSMILE's longest window: 40 ms for emobase, 60 ms for the other sets.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Segment too short")
            vector = self._smile(np.clip(samples, -1, _LOUDEST), self.rate)[0, :, 0]
        if np.isnan(vector).all():
            milliseconds = 1000 * len(samples) / self.rate
            raise Unreadable(f"only {milliseconds:.0f} ms of sound, too short for {self.configuration}")
        return (vector.astype(np.float32),)


class OpenSmile(WorkerEncoder):
    """Functionals of pitch, loudness, voice quality and spectrum over an utterance, with openSMILE's own names.

    Each dimension has the unit that its name gives: in the GeMAPS sets ``_sma3nz`` is smoothed over voiced frames, F0
    is in semitones from 27.5 Hz, levels are in dB; in the others F0 is in Hz. Where nothing is voiced, openSMILE gives
    0 for what describes voiced frames. Some of ComParE's functionals exceed what float16 can hold.

    Parameters
    ----------
    name : str
        ``egemaps`` (eGeMAPSv02, 88 dimensions), ``gemaps`` (GeMAPSv01b, 62), ``compare`` (ComParE_2016, 6373) or
        ``emobase`` (988).

    Notes
    -----
    Sources, of gemaps and egemaps: Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice
    Research and Affective Computing", IEEE Transactions on Affective Computing 7 (2016). Of compare: Schuller et al.,
    "The INTERSPEECH 2016 Computational Paralinguistics Challenge", Interspeech 2016. Of emobase: Eyben, Wöllmer and
    Schuller, "openEAR: Introducing the Munich Open-Source Emotion and Affect Recognition Toolkit", ACII 2009.
    """

    libraries = ("opensmile", "av")
    reader: VoiceReader

    def __init__(self, name: str) -> None:
        self._name = name
        self.reader = VoiceReader(VOICE_SETS[name].configuration)

    @cached_property
    def outputs(self) -> tuple[Output, ...]:  # type: ignore[override]
        """One feature set; its dimensions have the names that openSMILE gives."""
        recipe = Recipe(
            encoder=self._name,
            modality="audio",
            weights=self.reader.configuration,
            preprocessing={"sample_rate": self.reader.rate, "beyond_full_scale": "clipped"},
            layer="",
            pooling="functionals",
        )
        return (Output(recipe, tuple(_smile(self.reader.configuration).feature_names)),)


def _smile(configuration: str) -> Any:
    import opensmile

    return opensmile.Smile(
        feature_set=opensmile.FeatureSet[configuration], feature_level=opensmile.FeatureLevel.Functionals
    )
