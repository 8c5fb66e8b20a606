"""Checkpoints with random weights, written as they are published."""

import functools

import torch
import transformers

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
WORDS = {**SMALL, "vocab_size": 20, "max_position_embeddings": 16}
SOUND = {
    **SMALL,
    **{"conv_dim": (4, 4), "conv_stride": (5, 2), "conv_kernel": (10, 3)},
    **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
}


@functools.cache
def tiny(kind, seed=0):
    """Return a network with random weights."""
    torch.manual_seed(seed)
    size = SOUND if kind.startswith(("Hubert", "Wav2Vec2")) else WORDS
    cls = getattr(transformers, kind)
    return cls(cls.config_class(**size))


def write(network, folder, pickled=False, **options):
    """Write a network as published: with a tokenizer's file, and one that no vector depends on."""
    network.save_pretrained(folder, **options)
    (folder / "vocab.txt").write_text("[PAD]\nhello\n")
    (folder / "README.md").write_text("hello")
    if pickled:
        torch.save(network.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)
