"""Whisper checkpoints in OpenAI's own layout, converted once to a folder that ``from_pretrained`` reads.

The layouts differ in names alone: the same tensors, the same order of operations. Half-precision tensors are
written as float32, which changes no value, and the decoder comes along, so that ``WhisperModel``,
``AutoModel`` and the rest load the folder with no key missing.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mixed_signals.store.disk import saved_or_error
from mixed_signals.store.errors import MixedSignalsError

if TYPE_CHECKING:
    from transformers import WhisperConfig

CONVERTED = "transformers"
"""Name of the converted folder, beside the checkpoint."""

_RENAMES = {  # after "encoder." or "decoder."; longer names before those they contain
    "token_embedding": "embed_tokens",
    "positional_embedding": "embed_positions.weight",
    "ln_post": "layer_norm",
    "blocks": "layers",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "cross_attn": "encoder_attn",
    "attn_ln": "self_attn_layer_norm",
    "attn": "self_attn",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
    "mlp_ln": "final_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "ln": "layer_norm",
}


def converted_whisper(folder: Path) -> Path:
    """Return the transformers folder of the one ``.pt`` checkpoint in `folder`, converting it at first.

    The converted folder appears whole or not at all, and several processes may ask for it at once.

    Parameters
    ----------
    folder : Path
        A folder with one English-only Whisper checkpoint as OpenAI published it, such as
        ``weights.path("whisper-tiny.en")``.

    Returns
    -------
    Path
        A folder with ``config.json``, ``model.safetensors`` (float32) and ``preprocessor_config.json``.

    Raises
    ------
    MixedSignalsError
        If there is not exactly one checkpoint, or it has another layout.
    """
    target = folder / CONVERTED
    if target.is_dir():
        return target
    checkpoints = sorted(folder.glob("*.pt"))
    if len(checkpoints) != 1:
        raise MixedSignalsError(f"{folder}: expected one .pt checkpoint, found {len(checkpoints)}")
    with tempfile.TemporaryDirectory(prefix=f".{CONVERTED}-", dir=folder) as stage:
        made = Path(stage) / CONVERTED
        _convert(checkpoints[0], made)
        try:
            os.replace(made, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was first, with the same content
                raise
    return target


def _convert(checkpoint: Path, into: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import WhisperFeatureExtractor, WhisperModel

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        config = _config(content["dims"])
        tensors = {
            _renamed(key): tensor.float().contiguous() for key, tensor in content["model_state_dict"].items()
        }
        with torch.device("meta"):
            WhisperModel(config).load_state_dict(tensors, strict=True, assign=True)
    except (RuntimeError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise MixedSignalsError(
            f"{checkpoint}: not a Whisper checkpoint as published ({reason[0]})"
        ) from error
    config.save_pretrained(into)
    with saved_or_error(into):
        save_file(tensors, into / "model.safetensors", metadata={"format": "pt"})
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(into)


def _config(dims: Mapping[str, int]) -> WhisperConfig:
    """Return the configuration that a checkpoint's ``dims`` describe; hidden layers are four times as wide."""
    from transformers import WhisperConfig

    return WhisperConfig(
        architectures=["WhisperModel"],
        vocab_size=dims["n_vocab"],
        num_mel_bins=dims["n_mels"],
        max_source_positions=dims["n_audio_ctx"],
        max_target_positions=dims["n_text_ctx"],
        d_model=dims["n_audio_state"],
        encoder_layers=dims["n_audio_layer"],
        encoder_attention_heads=dims["n_audio_head"],
        encoder_ffn_dim=4 * dims["n_audio_state"],
        decoder_layers=dims["n_text_layer"],
        decoder_attention_heads=dims["n_text_head"],
        decoder_ffn_dim=4 * dims["n_text_state"],
    )


def _renamed(key: str) -> str:
    """Return the transformers name of a tensor.

    Examples
    --------
    >>> _renamed("encoder.blocks.0.attn.query.weight")
    'encoder.layers.0.self_attn.q_proj.weight'
    """
    padded = f".{key}."
    for old, new in _RENAMES.items():
        padded = padded.replace(f".{old}.", f".{new}.")
    return padded.strip(".")
