"""Networks of published shapes, with random weights, and made-up utterances to train them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from media_files import RATE, pictures, sound
from media_files import write as write_media
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mixed_signals.store import Corpus, Store

CLASSES = ("calm", "warm")
_SAID = "I you that was really hard to hear but thank for telling me so much about what happened today"
WORDS = _SAID.split()

_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
_MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
_STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_ROBERTA = {
    "vocab_size": 50_265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
_HUBERT = {
    **{"conv_dim": [512] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]},
    **{"feat_extract_norm": "group", "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16},
}
_TINY_HUBERT = {
    **{"conv_dim": [8] * 3, "conv_kernel": [10, 8, 8], "conv_stride": [5, 8, 8]},
    **{"feat_extract_norm": "group", "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
}
_VIDEOMAE = {
    "image_size": 224,
    "patch_size": 16,
    "num_frames": 16,
    "tubelet_size": 2,
    "use_mean_pooling": False,
}

SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "roberta-base": ("text", "Roberta", {**_BASE, **_ROBERTA}),
    "hubert-base": ("audio", "Hubert", {**_BASE, **_HUBERT}),
    "videomae-base": ("video", "VideoMAE", {**_BASE, **_VIDEOMAE}),
    "tiny-roberta": ("text", "Roberta", {**_TINY, **_ROBERTA, "vocab_size": 64}),
    "tiny-hubert": ("audio", "Hubert", {**_TINY, **_TINY_HUBERT}),
    "tiny-videomae": ("video", "VideoMAE", {**_TINY, **_VIDEOMAE, "image_size": 32}),
    "minilm": ("text", "Bert", {**_MINILM, **_STILL, "vocab_size": 30_522, "pad_token_id": 1}),
    "tiny-bert": ("text", "Bert", {**_TINY, **_STILL, "vocab_size": 64, "pad_token_id": 1}),
}
"""Modality, class and configuration, by name; those of published networks as their ``config.json`` has them."""


def write_network(folder: Path, name: str) -> Path:
    """Write a checkpoint of a shape, with what reads its inputs."""
    modality, kind, config = SHAPES[name]
    folder = folder / name
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}Model")
    network(getattr(transformers, f"{kind}Config")(**config)).save_pretrained(folder)
    if modality == "text":
        _tokenizer().save_pretrained(folder)
    elif modality == "audio":
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    else:
        side = config["image_size"]
        said = {
            **{"image_processor_type": "VideoMAEImageProcessor", "do_resize": True, "do_center_crop": True},
            **{"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}},
            **{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def write_utterances(folder: Path, modality: str, n: int, seconds: float | None = None) -> Store:
    """Write a corpus whose labels mean nothing: sentences of 3 to 40 words, or cuts of one recording.

    Cuts are about as long as the reference study's utterances (median 1.8 s, 10 s at most), or of so many `seconds`.
    """
    rng = np.random.default_rng(0)
    lengths = (
        np.clip(1.8 * np.exp(0.8 * rng.standard_normal(n)), 0.4, 10)
        if seconds is None
        else np.full(n, seconds)
    )
    table = pd.DataFrame({"utterance_id": [f"u{i:04d}" for i in range(n)], "label": np.resize(CLASSES, n)})
    if modality == "text":
        words = np.minimum(3 + rng.gamma(1.5, 6, n), 40).astype(int)
        return Store.create(folder, Corpus("made up", table.assign(text=[_said(rng, k) for k in words])))
    media = folder.with_name(f"{folder.name}-media")
    media.mkdir(parents=True)
    if modality == "audio":
        write_media(media / "all.mkv", sound(0.1 * rng.standard_normal(10 * RATE).astype(np.float32)))
    else:
        write_media(media / "all.mkv", pictures(10 * 25))
    table = table.assign(media="all.mkv", start=0.0, end=lengths)
    return Store.create(folder, Corpus("made up", table, media_root=media))


def _said(rng: np.random.Generator, n: int) -> str:
    return " ".join(rng.choice(WORDS, n))


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    names = {name: number for number, name in enumerate([*special.values(), *WORDS])}
    backend = Tokenizer(models.WordLevel(names, unk_token="<unk>"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **special)
