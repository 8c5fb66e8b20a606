"""The encoders that have a name of their own, one line each; `make_encoder` takes any folder or hub model besides.

Dimensions, rates and licences are as published with each model; the licences are those of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A named encoder.

    Attributes
    ----------
    modality : str
        text, audio or video.
    dimensions : int
        Of a vector of its own layer and pooling.
    licence : str
        Of the weights, or of the library that makes the vectors.
    about : str
        What it is, in a few words.
    rate : float
        Samples, or pictures, a second; 0 of text.
    hub : str
        Its name on the Hugging Face hub, if its weights come from there.
    weights : str
        Its name among the pinned weights, if they are pinned.
    reader : str
        Module and class of an encoder that has no network.
    """

    modality: str
    dimensions: int
    licence: str
    about: str
    rate: float = 0
    hub: str = ""
    weights: str = ""
    reader: str = ""


def _text(dimensions: int, licence: str, about: str, hub: str = "", weights: str = "") -> Preset:
    return Preset("text", dimensions, licence, about, hub=hub, weights=weights)


def _speech(dimensions: int, licence: str, about: str, hub: str = "", weights: str = "") -> Preset:
    return Preset("audio", dimensions, licence, about, 16_000, hub=hub, weights=weights)


def _functionals(dimensions: int, about: str) -> Preset:
    return Preset("audio", dimensions, "research only", about, 16_000, reader="opensmile.OpenSmile")


def _video(dimensions: int, licence: str, about: str, rate: float, hub: str) -> Preset:
    return Preset("video", dimensions, licence, about, rate, hub=hub)


PRESETS = {
    "minilm": _text(384, "Apache-2.0", "sentences", weights="minilm"),
    "gte-modernbert-base": _text(
        768, "Apache-2.0", "sentences, long texts", "Alibaba-NLP/gte-modernbert-base"
    ),
    "roberta-base": _text(768, "MIT", "masked words", "FacebookAI/roberta-base"),
    "deberta-v3-base": _text(768, "MIT", "replaced words", "microsoft/deberta-v3-base"),
    "egemaps": _functionals(88, "openSMILE eGeMAPSv02"),
    "gemaps": _functionals(62, "openSMILE GeMAPSv01b"),
    "compare": _functionals(6373, "openSMILE ComParE_2016"),
    "emobase": _functionals(988, "openSMILE emobase"),
    "whisper-tiny.en": _speech(384, "MIT", "speech to text", weights="whisper-tiny.en"),
    "hubert-base": _speech(768, "Apache-2.0", "self-supervised", "facebook/hubert-base-ls960"),
    "wav2vec2-base": _speech(768, "Apache-2.0", "self-supervised", "facebook/wav2vec2-base"),
    "wavlm-base": _speech(768, "CC-BY-SA-3.0", "self-supervised", "microsoft/wavlm-base"),
    "data2vec-audio-base": _speech(768, "Apache-2.0", "self-supervised", "facebook/data2vec-audio-base"),
    "wav2vec2-emotion": _speech(
        1024,
        "CC-BY-NC-SA-4.0",
        "tuned to emotion",
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
    ),
    "blendshapes": Preset(
        "video",
        233,
        "Apache-2.0",
        "face and head pose",
        10,
        weights="face-landmarker",
        reader="mediapipe.Blendshapes",
    ),
    "videomae-base": _video(768, "CC-BY-NC-4.0", "clips of 16 frames", 7.5, "MCG-NJU/videomae-base"),
    "timesformer-base": _video(
        768, "CC-BY-NC-4.0", "clips of 8 frames", 0.9375, "facebook/timesformer-base-finetuned-k400"
    ),
    "vivit": _video(768, "MIT", "clips of 32 frames", 15, "google/vivit-b-16x2-kinetics400"),
    "vjepa2": _video(1024, "MIT", "clips of 64 frames", 4, "facebook/vjepa2-vitl-fpc64-256"),
    "clip-vit-base": _video(768, "MIT", "pictures and captions", 4, "openai/clip-vit-base-patch32"),
    "siglip-base": _video(768, "Apache-2.0", "pictures and captions", 4, "google/siglip-base-patch16-224"),
    "dinov2-base": _video(768, "Apache-2.0", "pictures", 4, "facebook/dinov2-base"),
    "vit-base": _video(768, "Apache-2.0", "pictures", 4, "google/vit-base-patch16-224-in21k"),
}
