"""A converted Whisper checkpoint computes what its original layout says, worked out here in plain torch."""

import os
from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv1d, embedding, gelu, layer_norm, linear

from mixed_signals.extract import weights
from mixed_signals.extract.whisper_checkpoint import converted_whisper
from mixed_signals.store.errors import MixedSignalsError

DATA = Path(os.environ.get("MIXED_SIGNALS_DATA", Path(__file__).parents[3] / "shared/data"))
DIMS = {
    "n_mels": 80,
    "n_vocab": 51864,
    "n_audio_ctx": 30,
    "n_audio_state": 16,
    "n_audio_head": 2,
    "n_audio_layer": 2,
    "n_text_ctx": 8,
    "n_text_state": 16,
    "n_text_head": 2,
    "n_text_layer": 2,
}


def sinusoids(length, channels):
    scale = torch.exp(-torch.log(torch.tensor(10000.0)) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * scale[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def random_checkpoint(dims=DIMS, seed=0):
    """Return a checkpoint in the published layout with half-precision random weights."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def weight(name, *shape, bias=True):
        state[f"{name}.weight"] = torch.randn(*shape, generator=generator) / shape[-1] ** 0.5
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)

    def attention(name, width):
        for part in ("query", "key", "value", "out"):
            weight(f"{name}.{part}", width, width, bias=part != "key")

    def norm(name, width):
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)

    for side, layers in (("encoder", dims["n_audio_layer"]), ("decoder", dims["n_text_layer"])):
        width = dims["n_audio_state"]
        for block in (f"{side}.blocks.{layer}" for layer in range(layers)):
            for name in ("attn", "cross_attn")[: 2 if side == "decoder" else 1]:
                attention(f"{block}.{name}", width)
                norm(f"{block}.{name}_ln", width)
            weight(f"{block}.mlp.0", 4 * width, width)
            weight(f"{block}.mlp.2", width, 4 * width)
            norm(f"{block}.mlp_ln", width)
    state["encoder.positional_embedding"] = sinusoids(dims["n_audio_ctx"], width)
    weight("encoder.conv1", width, dims["n_mels"], 3)
    weight("encoder.conv2", width, width, 3)
    norm("encoder.ln_post", width)
    state["decoder.positional_embedding"] = torch.randn(dims["n_text_ctx"], width, generator=generator)
    weight("decoder.token_embedding", dims["n_vocab"], width, bias=False)
    norm("decoder.ln", width)
    return {"dims": dims, "model_state_dict": {key: tensor.half() for key, tensor in state.items()}}


class Reference:
    """Whisper's two forward passes, written from the published layout."""

    def __init__(self, checkpoint):
        self.dims = checkpoint["dims"]
        self.state = {key: tensor.float() for key, tensor in checkpoint["model_state_dict"].items()}

    def linear(self, x, name):
        return linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, x, name):
        return layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def conv(self, x, name, stride):
        return conv1d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride=stride, padding=1)

    def attention(self, x, source, name, heads, causal=False):
        def split(y):
            return y.unflatten(-1, (heads, -1)).transpose(1, 2)  # batch, head, position, width

        q, k, v = (
            split(self.linear(y, f"{name}.{part}"))
            for y, part in ((x, "query"), (source, "key"), (source, "value"))
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)
        return self.linear(mixed, f"{name}.out")

    def mlp(self, x, block):
        return self.linear(
            gelu(self.linear(self.norm(x, f"{block}.mlp_ln"), f"{block}.mlp.0")), f"{block}.mlp.2"
        )

    def encode(self, mel):
        x = gelu(self.conv(mel, "encoder.conv1", 1))
        x = gelu(self.conv(x, "encoder.conv2", 2)).transpose(1, 2)
        x = x + self.state["encoder.positional_embedding"]
        for layer in range(self.dims["n_audio_layer"]):
            block = f"encoder.blocks.{layer}"
            y = self.norm(x, f"{block}.attn_ln")
            x = x + self.attention(y, y, f"{block}.attn", self.dims["n_audio_head"])
            x = x + self.mlp(x, block)
        return self.norm(x, "encoder.ln_post")

    def decode(self, tokens, audio):
        heads = self.dims["n_text_head"]
        x = embedding(tokens, self.state["decoder.token_embedding.weight"])
        x = x + self.state["decoder.positional_embedding"][: tokens.shape[1]]
        for layer in range(self.dims["n_text_layer"]):
            block = f"decoder.blocks.{layer}"
            y = self.norm(x, f"{block}.attn_ln")
            x = x + self.attention(y, y, f"{block}.attn", heads, causal=True)
            x = x + self.attention(
                self.norm(x, f"{block}.cross_attn_ln"), audio, f"{block}.cross_attn", heads
            )
            x = x + self.mlp(x, block)
        return self.norm(x, "decoder.ln")


def load(folder):
    from transformers import WhisperModel

    model, report = WhisperModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report  # no key missing, left over or of another shape
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    torch.save(random_checkpoint(), tmp_path / "tiny.pt")
    return tmp_path


@torch.inference_mode()
def test_converted_encoder_and_decoder_agree_with_the_reference(folder):
    model = load(converted_whisper(folder))
    reference = Reference(random_checkpoint())
    generator = torch.Generator().manual_seed(1)
    mel = torch.randn(2, 80, 60, generator=generator)
    audio = reference.encode(mel)
    torch.testing.assert_close(model.encoder(mel).last_hidden_state, audio, rtol=1e-4, atol=1e-5)
    tokens = torch.tensor([[50257, 7, 50000, 3], [50257, 1, 2, 9]])
    decoded = model(input_features=mel, decoder_input_ids=tokens).last_hidden_state
    torch.testing.assert_close(decoded, reference.decode(tokens, audio), rtol=1e-4, atol=1e-5)


def test_converted_folder_loads_by_the_automatic_classes(folder):
    from transformers import AutoFeatureExtractor, AutoModel

    converted = converted_whisper(folder)
    assert type(AutoModel.from_pretrained(converted)).__name__ == "WhisperModel"
    assert next(AutoModel.from_pretrained(converted).parameters()).dtype == torch.float32
    assert AutoFeatureExtractor.from_pretrained(converted).feature_size == 80


def test_conversion_happens_once_and_leaves_no_other_file(folder):
    first = converted_whisper(folder)
    written = (first / "model.safetensors").stat()
    assert converted_whisper(folder) == first
    assert (first / "model.safetensors").stat() == written
    assert sorted(p.name for p in folder.iterdir()) == ["tiny.pt", "transformers"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda checkpoint: checkpoint["model_state_dict"].popitem(),
        lambda checkpoint: checkpoint["model_state_dict"].update(extra=torch.zeros(1)),
        lambda checkpoint: checkpoint.pop("dims"),
    ],
    ids=["tensor missing", "tensor too many", "no dims"],
)
def test_other_layouts_are_refused(tmp_path, spoil):
    checkpoint = random_checkpoint()
    spoil(checkpoint)
    torch.save(checkpoint, tmp_path / "tiny.pt")
    with pytest.raises(MixedSignalsError, match=r"tiny\.pt: not a Whisper checkpoint"):
        converted_whisper(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.pt"]


def test_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"dims": Payload()}, tmp_path / "tiny.pt")
    with pytest.raises(MixedSignalsError, match="not a Whisper checkpoint"):
        converted_whisper(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(MixedSignalsError, match=rf"{tmp_path}.*found 0"):
        converted_whisper(tmp_path)


def speech(path, rate):
    """Return the first channel of an audio file at `rate` samples a second."""
    import av
    import numpy as np

    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])


@torch.inference_mode()
def test_published_weights_agree_with_the_reference_and_hear_speech(tmp_path):
    import numpy as np
    from transformers import AutoFeatureExtractor

    if not weights.is_cached("whisper-tiny.en"):
        pytest.skip("whisper-tiny.en is not cached: mixed-signals weights fetch whisper-tiny.en")
    recordings = sorted((DATA / "ravdess/audio").glob("*.flac"))[:2]
    if len(recordings) < 2:
        pytest.skip(f"no recordings in {DATA / 'ravdess/audio'}")
    original = weights.path("whisper-tiny.en") / "tiny.en.pt"
    (tmp_path / "tiny.en.pt").symlink_to(original)
    converted = converted_whisper(tmp_path)
    extractor = AutoFeatureExtractor.from_pretrained(converted)
    rate = extractor.sampling_rate
    sounds = [np.zeros(2 * rate, np.float32), *(speech(recording, rate) for recording in recordings)]
    mel = extractor(sounds, sampling_rate=rate, return_tensors="pt").input_features
    encoded = load(converted).encoder(mel).last_hidden_state
    assert encoded.shape == (3, 1500, 384)
    assert encoded.isfinite().all()
    reference = Reference(torch.load(original, weights_only=True))
    torch.testing.assert_close(encoded, reference.encode(mel), rtol=1e-3, atol=1e-3)
    stored = reference.state["encoder.positional_embedding"]
    torch.testing.assert_close(stored, sinusoids(1500, 384), rtol=0, atol=2**-10)  # half precision
    silence, first, second = encoded[:, :100].mean(1)  # the first two seconds
    assert torch.cosine_similarity(silence, first, 0) < 0.9
    assert torch.cosine_similarity(silence, second, 0) < 0.9
