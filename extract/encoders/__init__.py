"""The encoders by name: one file per family, one line per preset here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from mixed_signals.store.errors import UsageError

if TYPE_CHECKING:
    from mixed_signals.extract.encoders.base import Encoder


@dataclass(frozen=True)
class Preset:
    """A named encoder: its modality, where its class is, what it gives, and its licence."""

    modality: str
    module: str
    name: str
    dimensions: int
    licence: str
    about: str
    weights: str = ""


PRESETS = {
    "minilm": Preset("text", "text", "MiniLM", 384, "Apache-2.0", "sentence embedding", "minilm"),
    "egemaps": Preset("audio", "opensmile", "EGemaps", 88, "research only", "voice functionals, eGeMAPSv02"),
    "whisper-tiny.en": Preset(
        "audio",
        "speech",
        "WhisperTiny",
        384,
        "MIT",
        "speech embedding",
        "whisper-tiny.en",
    ),
    "blendshapes": Preset(
        "video",
        "mediapipe",
        "Blendshapes",
        233,
        "Apache-2.0",
        "blendshapes, head pose",
        "face-landmarker",
    ),
}


def make_encoder(modality: str, name: str) -> Encoder:
    """Return an encoder that has not loaded its weights yet.

    Raises
    ------
    UsageError
        If the modality has no encoder of that name.
    """
    preset = PRESETS.get(name)
    if preset is None or preset.modality != modality:
        known = ", ".join(key for key, preset in PRESETS.items() if preset.modality == modality)
        raise UsageError(f"--{modality} {name!r}: unknown encoder ({modality} encoders: {known})")
    encoder: Encoder = getattr(
        import_module(f"mixed_signals.extract.encoders.{preset.module}"), preset.name
    )()
    return encoder
