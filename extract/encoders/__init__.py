"""The encoders by name: presets, and every checkpoint of an architecture that is known here.

A new encoder is a class of its own and a line in `PRESETS`; a new architecture is a line in `NETWORKS`.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mixed_signals.extract.devices import pick_device
from mixed_signals.extract.encoders import specs
from mixed_signals.extract.encoders.presets import PRESETS, Preset
from mixed_signals.store.errors import MixedSignalsError, UsageError

if TYPE_CHECKING:
    from mixed_signals.extract.checkpoints import Checkpoint
    from mixed_signals.extract.encoders.base import Encoder

__all__ = ["NETWORKS", "PRESETS", "Preset", "make_encoder", "on_this_machine"]

_CLASSES = {  # class: modality, model types as config.json has them
    "speech.WaveEncoder": ("audio", "wav2vec2 hubert wavlm data2vec-audio"),
    "speech.WhisperEncoder": ("audio", "whisper"),
    "video.ClipEncoder": ("video", "videomae timesformer vivit vjepa2"),
    "video.FrameEncoder": (
        "video",
        "clip clip_vision_model siglip siglip_vision_model dinov2 dinov2_with_registers dinov3_vit vit",
    ),
}
NETWORKS = {kind: (modality, cls) for cls, (modality, kinds) in _CLASSES.items() for kind in kinds.split()}
"""Modality and class of each type of network; every other type is taken for a text encoder."""


def make_encoder(
    modality: str,
    spec: str,
    *,
    revision: str = "",
    device: str = "auto",
    dtype: str = "float32",
    frame_rate: float | None = None,
    fetch: bool = True,
) -> Encoder:
    """Return an encoder that has not loaded its network yet.

    Parameters
    ----------
    modality : str
        text, audio or video.
    spec : str
        ``NAME[:LAYERS[:POOLINGS]]``. The name is a preset, else a folder that has a ``config.json``, else a name on
        the hub.
    revision : str
        Branch, tag or commit of a hub model.
    device, dtype : str
        Where (``auto``: a GPU where there is one) and in which precision a network computes.
    frame_rate : float, optional
        Pictures a second, of video encoders, if not their own.
    fetch : bool
        Whether weights that are not on this machine are fetched; if not, they are asked for in one line.

    Raises
    ------
    UsageError
        If there is no such encoder for the modality, or it has no such layers or poolings.
    MixedSignalsError
        If its weights are not to be had.
    """
    asked = specs.parse(spec, f"--{modality}")
    preset = PRESETS.get(asked.name)
    if preset is not None and preset.modality != modality:
        raise _wrong_modality(modality, asked.name, preset.modality)
    if revision and preset is not None and not preset.hub:
        raise UsageError(f"--revision {revision}: {asked.name} has no other revisions")
    options: dict[str, Any] = {}
    if modality == "video" and frame_rate is not None:
        options["frame_rate"] = frame_rate
    if preset is not None and preset.reader:
        if asked.readouts:
            raise UsageError(f"--{modality} {spec}: {asked.name} has no layers: write {asked.name}")
        arguments = [asked.name] if modality == "audio" else []
        encoder: Encoder = _class(preset.reader)(*arguments, **options)
        return encoder
    checkpoint = _checkpoint(modality, asked.name, preset, revision, fetch)
    cls = _class(_network(modality, asked.name, checkpoint.config["model_type"]))
    readout = _class("transformer.Readout")
    readouts = [readout(*pair) for pair in asked.readouts]
    encoder = cls(checkpoint, readouts, device=pick_device(device), dtype=dtype, **options)
    return encoder


def on_this_machine(name: str) -> bool | None:
    """Return whether a preset's weights are on this machine; None of one that has none."""
    from mixed_signals.extract import hub, weights

    preset = PRESETS[name]
    if preset.hub:
        return hub.cached(preset.hub) is not None
    return weights.is_cached(preset.weights) if preset.weights else None


def _checkpoint(modality: str, name: str, preset: Preset | None, revision: str, fetch: bool) -> Checkpoint:
    from mixed_signals.extract import checkpoints

    if preset is None:
        try:
            return checkpoints.resolve(name, revision=revision, fetch=fetch)
        except MixedSignalsError as error:
            for meant in get_close_matches(name, PRESETS, n=1):
                raise type(error)(f"--{modality} {name}: did you mean {meant}? ({error})") from error
            raise
    if preset.hub:
        return replace(checkpoints.resolve(preset.hub, revision=revision, fetch=fetch), name=name)
    return checkpoints.pinned(preset.weights, fetch=fetch)


def _network(modality: str, name: str, kind: str) -> str:
    """Return the class for a type of network."""
    if kind in NETWORKS:
        of, cls = NETWORKS[kind]
        if of != modality:
            raise _wrong_modality(modality, name, of)
        return cls
    if modality == "text":
        return "text.TextEncoder"
    known = ", ".join(known for known, (of, _) in NETWORKS.items() if of == modality)
    raise UsageError(
        f"--{modality} {name}: its type {kind!r} is none of {known}: use one of these, or --text if it reads text"
    )


def _wrong_modality(modality: str, name: str, of: str) -> UsageError:
    article = "an" if of == "audio" else "a"
    return UsageError(f"--{modality} {name}: is {article} {of} encoder: use --{of} {name}")


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"mixed_signals.extract.encoders.{module}"), name)
