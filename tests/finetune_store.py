"""A small store whose words and tones carry the label, and tiny encoders with random weights that can learn it."""

import wave

import numpy as np
import pandas as pd
import torch
import transformers
from checkpoint_files import SOUND
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mixed_signals.store import Corpus, Store

LABELS = ("calm", "warm")
N, GROUPS = 48, 8
_RATE = 16_000
_WORDS = {"calm": ["slow", "still", "quiet"], "warm": ["dear", "kind", "gentle"]}
_FILL = [f"w{i}" for i in range(12)]


def words(label, rng):
    """Return some words that anybody says, and two that only one label has."""
    said = [*rng.choice(_FILL, rng.integers(2, 6)), *rng.choice(_WORDS[label], 2)]
    return " ".join(rng.permutation(said))


def make_store(folder, *, n=N, sound=False, unlabelled=0, seed=0, **columns):
    """Make a store of balanced labels, spread over groups; with `sound` also of tones, high or low."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.resize(LABELS, n))
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i:03d}" for i in range(n)],
            "text": [words(label, rng) for label in labels],
            "label": labels,
            "group": [f"g{i % GROUPS}" for i in range(n)],
            **columns,
        }
    )
    table.loc[table.index[:unlabelled], "label"] = ""
    media = None
    if sound:
        media = folder / "media"
        media.mkdir(parents=True)
        table["media"] = [f"{one}.wav" for one in table["utterance_id"]]
        for name, label in zip(table["media"], labels, strict=True):
            tone = np.sin(np.arange(1200) * (0.05 if label == "calm" else 0.8)) + rng.normal(0, 0.1, 1200)
            with wave.open(str(media / name), "wb") as file:
                file.setparams((1, 2, _RATE, 1200, "NONE", ""))
                file.writeframes((6000 * tone).astype("<i2").tobytes())
    return Store.create(folder / "s", Corpus("planted", table, media_root=media))


def make_text_encoder(folder, seed=0):
    """Write a tiny Bert with its tokenizer."""
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    names = [*special.values(), *_WORDS["calm"], *_WORDS["warm"], *_FILL]
    vocab = {name: number for number, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    used = [(token, vocab[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=used)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=16, **special)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def make_speech_encoder(folder, seed=0):
    """Write a tiny Hubert with its feature extractor."""
    torch.manual_seed(seed)
    size = {**SOUND, "feat_extract_norm": "layer", "num_hidden_layers": 2, "hidden_size": 16}
    transformers.HubertModel(transformers.HubertConfig(**size)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
