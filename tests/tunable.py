"""Small corpora whose labels can be heard, seen and read, and tiny networks of random weights to be trained on them."""

import json
import wave

import numpy as np
import pandas as pd
import torch
import transformers
from media_files import pictures
from media_files import write as write_film
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mixed_signals.extract.encoders import make_encoder
from mixed_signals.store import Corpus, Store

CLASSES = ("calm", "warm")
WORDS = [f"w{i}" for i in range(8)]
LAYERS = 3
SMALL = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24}
RATE = 16_000


def ids_of(n):
    return [f"u{i:03d}" for i in range(n)]


def labels_of(n):
    """Alternate the classes, so that any run of rows holds both."""
    return [CLASSES[i % 2] for i in range(n)]


def text_store(folder, n=48, seed=0):
    """The first half of the words is said where it is calm, the other half where it is warm, at some lengths."""
    rng = np.random.default_rng(seed)
    half = len(WORDS) // 2
    said = [
        " ".join(rng.choice(WORDS[half:] if label == "warm" else WORDS[:half], rng.integers(2, 9)))
        for label in labels_of(n)
    ]
    table = {"utterance_id": ids_of(n), "text": said, "label": labels_of(n)}
    return Store.create(folder / "store", Corpus("planted", pd.DataFrame(table)))


def media_store(folder, modality, n=24, seed=0):
    """Warm utterances sound high, or look bright."""
    rng = np.random.default_rng(seed)
    (folder / "media").mkdir(parents=True)
    names = []
    for utterance, label in zip(ids_of(n), labels_of(n), strict=True):
        name = f"{utterance}.{'wav' if modality == 'audio' else 'mkv'}"
        if modality == "audio":
            _write_tone(folder / "media" / name, 2500 if label == "warm" else 200, rng)
        else:
            grey = np.full((64, 64, 3), 200 if label == "warm" else 50) + rng.integers(-20, 20, (64, 64, 3))
            write_film(folder / "media" / name, pictures(6, picture=grey.astype(np.uint8)))
        names.append(name)
    table = pd.DataFrame({"utterance_id": ids_of(n), "media": names, "label": labels_of(n)})
    return Store.create(folder / "store", Corpus("planted", table, media_root=folder / "media"))


def store_of(folder, modality, **options):
    return text_store(folder, **options) if modality == "text" else media_store(folder, modality, **options)


def _write_tone(path, frequency, rng):
    n = int(rng.integers(2000, 3000))
    tone = 0.3 * np.sin(2 * np.pi * frequency * np.arange(n) / RATE + rng.uniform(0, 6)) + 0.02 * rng.normal(
        size=n
    )
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, n, "NONE", ""))
        file.writeframes((32_000 * tone).astype("<i2").tobytes())


def save_bert(folder, **more):
    """Write a text network and its tokenizer."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=64, **special
    ).save_pretrained(folder)
    config = transformers.BertConfig(
        **{**SMALL, "vocab_size": len(names), "max_position_embeddings": 64, **more}
    )
    return _save(transformers.BertModel, config, folder)


def save_wav2vec2(folder, **more):
    """Write a speech network that padding does not change."""
    config = {
        **{"conv_dim": [8, 8], "conv_stride": [5, 8], "conv_kernel": [10, 8]},
        **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "vocab_size": 8},
        **{"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
    }
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=RATE).save_pretrained(folder)
    return _save(
        transformers.Wav2Vec2Model, transformers.Wav2Vec2Config(**{**SMALL, **config, **more}), folder
    )


def save_videomae(folder, **more):
    """Write a video network."""
    config = {**SMALL, "image_size": 32, "patch_size": 16, "num_frames": 4, "use_mean_pooling": False, **more}
    _save(transformers.VideoMAEModel, transformers.VideoMAEConfig(**config), folder)
    said = {
        "size": {"shortest_edge": 36},
        "crop_size": {"height": 32, "width": 32},
        **{"do_center_crop": True, "do_resize": True, "image_processor_type": "VideoMAEImageProcessor"},
        **{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


SAVE = {"text": save_bert, "audio": save_wav2vec2, "video": save_videomae}


def encoder_of(folder, modality="text", **more):
    """Write a checkpoint, and return its encoder."""
    return make_encoder(modality, str(SAVE[modality](folder / f"tiny-{modality}", **more)), device="cpu")


def _save(cls, config, folder):
    torch.manual_seed(0)
    network = cls(config)
    for parameter in network.parameters():  # far from the start of training, where layers hardly differ
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    network.save_pretrained(folder)
    return folder
