"""Small corpora whose labels can be heard, seen and read, tiny networks to be trained on them, and calls that do it."""

import json
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from media_files import pictures
from media_files import write as write_film
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from typer.testing import CliRunner

from mixed_signals.extract.encoders import make_encoder
from mixed_signals.extract.finetune.designs import Training
from mixed_signals.extract.finetune.in_turn import train_encoders
from mixed_signals.extract.finetune.inputs import Inputs
from mixed_signals.extract.finetune.job import plan
from mixed_signals.extract.finetune.labels import Coding, Labels
from mixed_signals.extract.finetune.logs import METRICS
from mixed_signals.extract.finetune.network import Classifier
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.finetune.training import train
from mixed_signals.extract.finetune.vectors import make_features
from mixed_signals.models.cli import app as fit_heads
from mixed_signals.store import Corpus, Store

CLASSES = ("calm", "warm")
WORDS = [f"w{i}" for i in range(8)]
N, GROUPS = 48, 8
LAYERS = 3
SMALL = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24}
RATE = 16_000
QUICK = Settings(epochs=4, learning_rate=5e-3, head_learning_rate=2e-2, batch_size=8, patience=0)


def ids_of(n):
    return [f"u{i:03d}" for i in range(n)]


def labels_of(n):
    """Alternate the classes, so that any run of rows holds both."""
    return [CLASSES[i % 2] for i in range(n)]


def planted_store(folder, media=None, *, n=N, unlabelled=0, seed=0, **columns):
    """Make a store of balanced labels, spread over groups, that the text tells; the media too, audio or video.

    The first half of the words is said where it is calm, the other half where it is warm; warm utterances sound high,
    or look bright. Texts and media are of some lengths.
    """
    rng = np.random.default_rng(seed)
    half = len(WORDS) // 2
    table = pd.DataFrame(
        {
            "utterance_id": ids_of(n),
            "text": [
                " ".join(rng.choice(WORDS[half:] if label == "warm" else WORDS[:half], rng.integers(2, 9)))
                for label in labels_of(n)
            ],
            "label": labels_of(n),
            "group": [f"g{i // 2 % GROUPS}" for i in range(n)],
            **columns,
        }
    )
    if media is not None:
        (folder / "media").mkdir(parents=True)
        table["media"] = [
            _write_media(folder / "media", media, one, label, rng)
            for one, label in zip(ids_of(n), labels_of(n), strict=True)
        ]
    table.loc[table.index[:unlabelled], "label"] = ""
    root = None if media is None else folder / "media"
    return Store.create(folder / "store", Corpus("planted", table, media_root=root))


def _write_media(folder, media, utterance, label, rng):
    name = f"{utterance}.{'wav' if media == 'audio' else 'mkv'}"
    if media == "audio":
        _write_tone(folder / name, 2500 if label == "warm" else 200, rng)
    else:
        grey = np.full((64, 64, 3), 200 if label == "warm" else 50) + rng.integers(-20, 20, (64, 64, 3))
        write_film(folder / name, pictures(6, picture=grey.astype(np.uint8)))
    return name


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


def part(ids, share=0.5, name="planted"):
    """Learn from the first rows, and choose the epoch on some that follow."""
    n = int(share * len(ids))
    return Training(name, tuple(ids[:n]), tuple(ids[n : n + 12]))


class Bench:
    """A planted corpus, an encoder and everything else that `train` wants; what is in the folder already is opened."""

    def __init__(self, folder, modality="text", n=N, **config):
        self.folder, self.ids = Path(folder), ids_of(n)
        corpus, encoder = self.folder / "corpus", self.folder / f"tiny-{modality}"
        if not corpus.exists():
            planted_store(corpus, None if modality == "text" else modality, n=n)
            SAVE[modality](encoder, **config)
        self.store = Store.open(corpus / "store")
        self.encoder = make_encoder(modality, str(encoder), device="cpu")
        self.inputs = Inputs(self.store, self.encoder, workers=1)
        self.labels = Labels("nominal", CLASSES, dict(zip(self.ids, labels_of(n), strict=True)))
        self.training = part(self.ids)

    def train(self, folder, settings=QUICK, training=None, labels=None, **options):
        options = {"seed": 0} | options
        return train(
            self.encoder,
            self.inputs,
            labels or self.labels,
            training or self.training,
            settings,
            folder,
            **options,
        )

    def untrained(self, seed):
        """Return a classifier whose linear layer says anything."""
        coding = Coding.of(self.labels, self.ids, class_weights=False)
        self.encoder.load()
        torch.manual_seed(seed)
        return Classifier(self.encoder, coding, QUICK)

    def accuracy(self, classifier, ids):
        """Return the share of rows that are given their own class."""
        ids = self.inputs.look(ids)
        with torch.no_grad():
            packed = self.encoder.pack(next(self.inputs.values([ids])))
            said = classifier.train(False)(packed).argmax(dim=1).tolist()
        return np.mean([CLASSES[k] == self.labels.values[one] for k, one in zip(said, ids, strict=True)])  # noqa: PD011 - no table


def finetune(request):
    """Do what is asked for: train, and make the feature sets; return the job and these."""
    job = plan(request, "cpu")
    train_encoders(job)
    return job, make_features(job)


def call(app, *words, columns=None):
    """Call a command, on a terminal of some columns."""
    return CliRunner().invoke(app, [*map(str, words)], env={"COLUMNS": columns and str(columns)})


def fit(store, *flags):
    """Call ``fit-heads`` for the quickest head."""
    return call(fit_heads, store.path, "--heads", "logistic", "--jobs", "1", "--seeds", "1", *flags)


def said_in(result):
    """Return what a call printed and how it failed, in one line."""
    return " ".join((result.output + str(result.exception or "")).split())


def written_metrics(folder):
    """Return the lines of a training's metrics, without what the clock says."""
    found = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{key: value for key, value in one.items() if "second" not in key} for one in found]


class BrokenOffError(Exception):
    """What ends a training in the middle."""


def breaking(epoch, step):
    """Return what breaks a training off after a step; the last of an epoch is told of when the epoch is written."""

    def look(progress):
        if (progress.epoch, progress.step) == (epoch, step):
            raise BrokenOffError

    return look
