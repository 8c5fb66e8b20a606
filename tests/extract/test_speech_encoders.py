"""Speech networks, tiny and random, saved to disk and loaded as published ones are, beside a plain reference."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers

from mixed_signals.extract.checkpoints import resolve
from mixed_signals.extract.encoders.log_mel import LogMel
from mixed_signals.extract.encoders.speech import WaveEncoder, WhisperEncoder
from mixed_signals.extract.encoders.transformer import Readout
from mixed_signals.extract.media import Unreadable
from mixed_signals.store import Status, UsageError

SMALL = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    **{
        "conv_dim": [8] * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "vocab_size": 8,
    },
}
LAYER = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
NETWORKS = {  # class, configuration, whether padding changes what comes out
    "wav2vec2-group": ("Wav2Vec2", {}, True),
    "wav2vec2-layer": ("Wav2Vec2", LAYER, False),
    "wav2vec2-layer-post": ("Wav2Vec2", LAYER | {"do_stable_layer_norm": False}, False),
    "hubert-group": ("Hubert", {}, True),
    "hubert-layer": ("Hubert", LAYER, False),
    "hubert-batch": ("Hubert", LAYER | {"conv_pos_batch_norm": True}, True),
    "wavlm-group": ("WavLM", {}, True),
    "wavlm-layer": ("WavLM", LAYER, False),
    "data2vec": ("Data2VecAudio", {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3}, True),
}
PADDED = [name for name, (_, _, changes) in NETWORKS.items() if not changes]
UNPADDED = [name for name, (_, _, changes) in NETWORKS.items() if changes]


def save(folder, network, **prepared):
    kind, config, _ = NETWORKS[network]
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**(SMALL | config)))
    for (
        name,
        parameter,
    ) in model.named_parameters():  # far from the start of training, where layers hardly differ
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1 if "pos_conv" in name else 0.4)
        elif "bias" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    for name, values in model.named_buffers():
        if "running_mean" in name:
            torch.nn.init.normal_(values)
    model.save_pretrained(folder)
    prepared = {"do_normalize": True, "sampling_rate": 16_000} | prepared
    transformers.Wav2Vec2FeatureExtractor(**prepared).save_pretrained(folder)
    return folder


def sound(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(n) + 0.05).astype(np.float32) for n in lengths]


def encode(encoder, samples):
    return encoder.encode(encoder.pack([encoder.reader.read(one) for one in samples]))


def vectors(encoder, samples):
    found = encode(encoder, samples)
    assert [one.status for one in found] == [Status.OK] * len(samples)
    return [np.stack(column) for column in zip(*(one.vectors for one in found), strict=True)]


def loaded(folder, *readouts, cls=WaveEncoder, **options):
    encoder = cls(resolve(str(folder)), readouts, **options)
    encoder.load()
    return encoder


def close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_gives_what_it_gives_alone(network, tmp_path):
    encoder = loaded(save(tmp_path, network), *(Readout(layer, "mean") for layer in ("0", "1", "last")))
    heard = sound(1600, 4000, 4000, 399 + 320, 2345)
    found = vectors(encoder, heard)
    extract = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    expected = []
    for one in heard:
        values = extract(one, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.inference_mode():
            out = model(values, output_hidden_states=True)
        states = (out.hidden_states[0], out.hidden_states[1], out.last_hidden_state)
        expected.append([state[0].mean(dim=0).numpy() for state in states])
    for column, plain in zip(found, zip(*expected, strict=True), strict=True):
        close(column, np.stack(plain), 1e-5)
    assert not np.allclose(found[2][1], found[2][2], rtol=1e-2)  # sounds of one length are told apart


@pytest.mark.parametrize("network", PADDED)
def test_padding_that_is_masked_changes_nothing(network, tmp_path):
    encoder = loaded(
        save(tmp_path, network), *(Readout("last", one) for one in ("mean", "last", "max", "std"))
    )
    heard = sound(1600, 4000, 2345, 8000)
    read = [encoder.reader.read(one) for one in heard]
    assert [len(one.windows) for one in encoder.pack(read).passes] == [4]
    alone = zip(*(vectors(encoder, [one]) for one in heard), strict=True)
    for together, one_by_one in zip(vectors(encoder, heard), alone, strict=True):
        close(together, np.concatenate(one_by_one), 1e-5)


@pytest.mark.parametrize("network", UNPADDED)
def test_where_padding_would_change_a_result_only_equal_lengths_share_a_pass(network, tmp_path, monkeypatch):
    encoder = loaded(save(tmp_path, network))
    heard = sound(1600, 4000, 2345, 4000)
    read = [encoder.reader.read(one) for one in heard]
    assert encoder.padding_changes
    assert [sorted(one.windows) for one in encoder.pack(read).passes] == [[1, 3], [2], [0]]
    (alone,) = vectors(encoder, heard)
    monkeypatch.setattr(WaveEncoder, "padding_changes", False)
    (padded,) = vectors(encoder, heard)
    assert not np.allclose(padded[0], alone[0], rtol=1e-3)  # the rule is needed


def test_sound_is_scaled_as_a_whole_and_split_into_equal_windows(tmp_path):
    encoder = loaded(save(tmp_path, "wav2vec2-layer"), Readout("last", "mean"), Readout("last", "first"))
    (one,) = sound(16_000 * 31 + 1)
    one[:100_000] *= 20  # so that windows scaled one by one would come out otherwise
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    scaled = (one - one.mean()) / np.sqrt(one.var() + 1e-7)
    with torch.inference_mode():
        windows = [scaled[: 8000 * 31 + 1], scaled[8000 * 31 + 1 :]]
        states = [model(torch.from_numpy(part)[None]).last_hidden_state[0].numpy() for part in windows]
    mean, first = vectors(encoder, [one])
    close(mean[0], np.concatenate(states).mean(axis=0), 1e-4)
    close(first[0], np.mean([part[0] for part in states], axis=0), 1e-4)
    assert encoder.outputs[0].recipe.preprocessing["window_seconds"] == 30


def test_scaling_is_as_the_feature_extractor_says(tmp_path):
    encoder = WaveEncoder(
        resolve(str(save(tmp_path, "hubert-group", do_normalize=False, sampling_rate=8000)))
    )
    (one,) = sound(4000)
    np.testing.assert_array_equal(encoder.reader.read(one), one)
    assert encoder.reader.rate == 8000
    assert encoder.outputs[0].recipe.preprocessing["normalised"] is False
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match=r"no preprocessor_config\.json in"):
        WaveEncoder(resolve(str(tmp_path)))


@pytest.mark.parametrize("network", NETWORKS)
def test_sound_too_short_for_one_frame_is_unreadable(network, tmp_path):
    encoder = loaded(save(tmp_path, network))
    shortest, short = sound(400, 399)
    (found,) = vectors(encoder, [shortest])
    assert found.shape == (1, 16)
    with pytest.raises(Unreadable, match=r"only 399 samples .* below 400"):
        encoder.reader.read(short)


def test_other_networks_are_refused(tmp_path):
    save(tmp_path, "wav2vec2-layer")
    config = transformers.Wav2Vec2Config(**SMALL, add_adapter=True)
    config.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="wav2vec2 network with an adapter"):
        WaveEncoder(resolve(str(tmp_path)))


POSITIONS = 50
WINDOW = 320 * POSITIONS


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper-tiny")
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        **{"vocab_size": 10, "num_mel_bins": 20, "d_model": 16, "max_source_positions": POSITIONS},
        **{
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "max_target_positions": 8,
        },
        **{
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 24,
            "decoder_start_token_id": 1,
        },
        **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "suppress_tokens": None},
    )
    model = transformers.WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=1).save_pretrained(folder)
    return folder


def whisper_states(folder, windows, layer):
    """States of the frames that hold sound, window by window, by transformers alone."""
    extract = transformers.AutoFeatureExtractor.from_pretrained(folder)
    encoder = transformers.WhisperModel.from_pretrained(folder).get_encoder().eval()
    found = []
    for one in windows:
        columns = extract(one, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.inference_mode():
            out = encoder(columns, output_hidden_states=True)
        states = out.last_hidden_state if layer == "last" else out.hidden_states[int(layer)]
        found.append(states[0, : -(-len(one) // 320)].numpy())
    return found


@pytest.mark.parametrize("layer", ["0", "1", "last"])
def test_whisper_pools_the_frames_that_hold_sound(layer, whisper):
    encoder = loaded(whisper, Readout(layer, "mean"), Readout(layer, "last"), cls=WhisperEncoder)
    heard = sound(WINDOW, 300, 9999, WINDOW + 2, 2 * WINDOW + 1)
    cuts = [[0], [0], [0], [0, WINDOW // 2 + 1], [0, 10_667, 21_334]]
    mean, last = vectors(encoder, heard)
    for number, (one, cut) in enumerate(zip(heard, cuts, strict=True)):
        windows = [one[a:b] for a, b in zip(cut, [*cut[1:], len(one)], strict=True)]
        states = whisper_states(whisper, windows, layer)
        close(mean[number], np.concatenate(states).mean(axis=0), 1e-4)
        close(last[number], np.mean([part[-1] for part in states], axis=0), 1e-4)
    alone = np.concatenate([vectors(encoder, [one])[0] for one in heard])
    close(mean, alone, 1e-5)


@pytest.mark.parametrize("bins", [80, 128])
def test_the_spectrogram_is_the_published_one(bins):
    extract = transformers.WhisperFeatureExtractor(feature_size=bins)
    reader = LogMel(rate=16_000, bins=bins, window=480_000, hop=160, n_fft=400)
    quiet = np.zeros(5000, np.float32)
    for one in (*sound(3, 161, 16_000, 479_900, 480_000), quiet, np.hanning(100_000).astype(np.float32)):
        (found,) = reader.read(one)
        columns = np.full((bins, 3000), found.silence)
        columns[:, : found.columns.shape[1]] = found.columns
        expected = extract(one, sampling_rate=16_000).input_features[0]
        np.testing.assert_allclose(columns, expected, atol=1e-4)
        assert found.columns.dtype == np.float32


def test_readers_are_light_and_can_be_sent(whisper, tmp_path):
    readers = [WhisperEncoder(resolve(str(whisper))).reader]
    readers.append(WaveEncoder(resolve(str(save(tmp_path, "wavlm-layer")))).reader)
    (tmp_path / "readers").write_bytes(pickle.dumps(readers))
    code = (
        "import pickle, sys, numpy as np; one = np.ones(5000, np.float32)\n"
        "for reader in pickle.load(open(sys.argv[1], 'rb')): reader.load(); reader.read(one)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "readers")], check=True)
