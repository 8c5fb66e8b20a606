"""What is trained of a network and what is not, and that its vectors are those of extraction."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional
from tunable import CLASSES, LAYERS, RATE, SAVE, SMALL, encoder_of, save_bert, save_videomae

from mixed_signals.extract.checkpoints import resolve
from mixed_signals.extract.encoders import make_encoder
from mixed_signals.extract.encoders.pooling import combine
from mixed_signals.extract.finetune.labels import Coding
from mixed_signals.extract.finetune.network import Classifier, blocks, combine_windows, load_head
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.store import MixedSignalsError, Status, UsageError

CODING = Coding("nominal", CLASSES, (1.0, 1.0))


def classifier_of(encoder, **settings):
    encoder.load()
    torch.manual_seed(0)
    return Classifier(encoder, CODING, Settings(**({"dropout": 0.0} | settings)))


def texts(encoder, *said):
    encoder.reader.load()
    return encoder.reader.read(said)


def values_of(encoder, modality, *lengths):
    """Return what the reader would give of utterances of these lengths, in windows, seconds or words."""
    rng = np.random.default_rng(0)
    if modality == "text":
        return texts(encoder, *(" ".join(["w1", "w5", "w2"] * n) for n in lengths))
    if modality == "audio":
        encoder.reader.load()
        return [encoder.reader.read(0.1 * rng.normal(size=700 * n).astype(np.float32)) for n in lengths]
    return [rng.integers(0, 255, (n, 4, 32, 32, 3), dtype=np.uint8) for n in lengths]


def step(classifier, values, rate=0.1):
    """Take one step down the gradient."""
    classifier.train()
    optimizer = torch.optim.SGD(classifier.trainable().values(), rate)
    outputs = classifier(classifier.encoder.pack(values))
    torch.nn.functional.cross_entropy(outputs, torch.arange(len(values)) % 2).backward()
    optimizer.step()


def copies(classifier):
    return {name: one.detach().clone() for name, one in classifier.network.named_parameters()}


@pytest.mark.parametrize("modality", ["text", "audio", "video"])
def test_frozen_layers_stay_and_the_last_two_change(tmp_path, modality):
    classifier = classifier_of(encoder_of(tmp_path, modality), layers="last:2")
    before = copies(classifier)
    step(classifier, values_of(classifier.encoder, modality, 2, 2, 1, 1))
    changed = {name for name, one in copies(classifier).items() if not torch.equal(one, before[name])}
    prefix = next(
        name
        for name, part in classifier.network.named_modules()
        if part is blocks(classifier.network, LAYERS)
    )
    of_last = {name for name in before if name.startswith((f"{prefix}.1.", f"{prefix}.2."))}
    assert changed
    assert changed <= of_last
    for number in (1, 2):
        assert any(name.startswith(f"{prefix}.{number}.") for name in changed)
    assert len(changed) > 0.7 * len(of_last)  # keys' biases have no gradient


def test_all_layers_are_trained_where_that_is_wanted(tmp_path):
    classifier = classifier_of(encoder_of(tmp_path), layers="all")
    before = copies(classifier)
    step(classifier, texts(classifier.encoder, "w1 w2", "w7", "w3", "w6"))
    changed = {name for name, one in copies(classifier).items() if not torch.equal(one, before[name])}
    assert "embeddings.word_embeddings.weight" in changed
    assert any(".layer.0." in name for name in changed)


def test_only_what_learns_drops_out(tmp_path):
    classifier = classifier_of(encoder_of(tmp_path), dropout=0.3).train()
    training = {name for name, part in classifier.network.named_modules() if part.training}
    assert training
    assert all(name.startswith(("encoder.layer.1", "encoder.layer.2")) for name in training)
    assert classifier.dropout.training
    classifier.train(False)
    assert not any(part.training for part in classifier.modules())


@pytest.mark.parametrize("modality", ["text", "audio", "video"])
def test_vectors_are_those_of_extraction(tmp_path, modality):
    encoder = encoder_of(tmp_path, modality)
    classifier = classifier_of(encoder)
    values = values_of(encoder, modality, 1, 3, 2)
    expected = np.stack([one.vectors[0] for one in encoder.encode(encoder.pack(values))])
    seen = []
    classifier.head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        classifier(encoder.pack(values))
    np.testing.assert_allclose(seen[0].numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_padding_changes_nothing(tmp_path, modality):
    encoder = encoder_of(tmp_path, modality)
    classifier = classifier_of(encoder)
    short, long = values_of(encoder, modality, 1, 5)
    assert len(encoder.pack([short, long]).passes) == 1
    with torch.no_grad():
        beside = classifier(encoder.pack([short, long]))[0]
        alone = classifier(encoder.pack([short]))[0]
    torch.testing.assert_close(beside, alone, rtol=0, atol=2e-6)
    gradients = []
    for values in ([short], [short, long]):
        classifier.zero_grad()
        classifier(encoder.pack(values))[0].sum().backward()
        gradients.append(torch.cat([one.grad.flatten() for one in classifier.trainable().values()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max"])
def test_windows_come_together_as_in_extraction(pooling):
    rng = np.random.default_rng(0)
    windows, counts, owners = rng.normal(size=(5, 3)), np.array([4, 1, 2, 7, 3]), np.array([1, 0, 1, 1, 0])
    given = (torch.from_numpy(windows), torch.from_numpy(counts), torch.from_numpy(owners))
    found = combine_windows(*given, 2, pooling).numpy()
    expected = [
        combine(windows[owners == k][:, None], counts[owners == k], (pooling,), pooling) for k in range(2)
    ]
    np.testing.assert_allclose(found, expected)


def test_blocks_are_computed_twice_to_the_same_gradient(tmp_path):
    encoder, gradients = encoder_of(tmp_path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), []
    calls = []
    for twice in (False, True):
        classifier = classifier_of(encoder, checkpointing=twice).train()
        last = blocks(classifier.network, LAYERS)[-1]
        calls.append(0)
        last.attention.register_forward_hook(lambda *_: calls.__setitem__(-1, calls[-1] + 1))
        classifier(encoder.pack(texts(encoder, "w1 w2", "w7"))).square().sum().backward()
        gradients.append(torch.cat([one.grad.flatten() for one in classifier.trainable().values()]))
    assert calls == [1, 2]
    torch.testing.assert_close(*gradients)


def test_lora_trains_beside_the_weights_and_merges_into_them(tmp_path):
    pytest.importorskip("peft", reason="peft is not installed")
    encoder = encoder_of(tmp_path)
    classifier = classifier_of(encoder, layers="lora", lora_rank=2, lora_alpha=4)
    trainable = classifier.trainable()
    assert all("lora_" in name or name.startswith("head.") for name in trainable)
    assert any("lora_" in name for name in trainable)
    before, values = copies(classifier), texts(encoder, "w1 w2", "w7", "w3", "w6 w5 w1")
    for _ in range(3):
        step(classifier, values)
    after = copies(classifier)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    classifier.train(False)
    with torch.no_grad():
        beside = classifier(encoder.pack(values))
        classifier.merge()
        merged = classifier(encoder.pack(values))
    torch.testing.assert_close(beside, merged, atol=1e-5, rtol=1e-4)
    assert not any("lora" in name for name in classifier.network.state_dict())
    classifier.save(tmp_path / "saved")
    original = transformers.AutoModel.from_pretrained(tmp_path / "tiny-text").state_dict()
    saved = transformers.AutoModel.from_pretrained(tmp_path / "saved").state_dict()
    assert saved.keys() == original.keys()
    query = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(saved[query], original[query])


def test_lora_without_peft_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"--layers lora: peft is not installed: pip install"):
        classifier_of(encoder_of(tmp_path), layers="lora")


@pytest.mark.parametrize("modality", ["text", "audio", "video"])
def test_what_is_saved_gives_the_same_vectors_in_extraction(tmp_path, modality):
    encoder = encoder_of(tmp_path, modality)
    classifier = classifier_of(encoder)
    values = values_of(encoder, modality, 2, 2, 1, 1)
    fresh = encoder.encode(encoder.pack(values))[0].vectors[0]
    step(classifier, values, rate=5.0)
    classifier.train(False)
    expected = encoder.encode(encoder.pack(values))[0].vectors[0]
    with torch.no_grad():
        outputs = classifier(encoder.pack(values)).numpy()
    SAVE[modality](tmp_path / "saved")  # the files that prepare its input, which the job copies
    classifier.save(tmp_path / "saved")
    assert resolve(str(tmp_path / "saved")).fingerprint != encoder.checkpoint.fingerprint
    again = make_encoder(modality, str(tmp_path / "saved"), device="cpu")
    again.load()
    (found, *_) = made = again.encode(again.pack(values))
    assert found.status == Status.OK
    np.testing.assert_allclose(found.vectors[0], expected, atol=1e-6)
    assert np.abs(fresh - expected).max() > 1e-3
    head, said = load_head(tmp_path / "saved")
    vectors = np.stack([one.vectors[0] for one in made])
    np.testing.assert_allclose(vectors @ head["weight"].T + head["bias"], outputs, atol=1e-5)
    assert said == {
        **{"kind": "nominal", "classes": list(CLASSES), "weights": [1.0, 1.0], "mean": 0.0, "scale": 1.0},
        "pooling": "mean",
    }


def test_a_network_that_also_decodes_is_saved_whole(tmp_path):
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=12)
    SAVE["text"](tmp_path / "t5")
    torch.manual_seed(0)
    transformers.T5Model(config).save_pretrained(tmp_path / "t5")
    encoder = make_encoder("text", str(tmp_path / "t5"), device="cpu")
    classifier = classifier_of(encoder, layers="last:1")
    step(classifier, texts(encoder, "w1 w2", "w7"))
    classifier.save(tmp_path / "saved")
    SAVE["text"](tmp_path / "words")
    saved = transformers.T5Model.from_pretrained(tmp_path / "saved")
    tuned = classifier.network.state_dict()
    assert all(torch.equal(tuned[name], one) for name, one in saved.get_encoder().state_dict().items())
    original = transformers.T5Model.from_pretrained(tmp_path / "t5")
    assert all(
        torch.equal(one, original.decoder.state_dict()[name])
        for name, one in saved.decoder.state_dict().items()
    )


@pytest.mark.parametrize(
    ("spec", "layers", "said"),
    [
        ("", "last:4", "has only 3 blocks"),
        (":1", "last:2", "leave layer and pooling out"),
        ("::std", "last:2", "leave layer and pooling out"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(tmp_path, spec, layers, said):
    encoder = make_encoder("text", f"{SAVE['text'](tmp_path / 'tiny')}{spec}", device="cpu")
    with pytest.raises(UsageError, match=said) as caught:
        classifier_of(encoder, layers=layers)
    assert "\n" not in str(caught.value)


def test_blocks_that_are_taken_apart_are_not_told_apart():
    small = {"emb_dim": 16, "n_layers": 3, "n_heads": 2, "vocab_size": 12}
    assert blocks(transformers.XLMModel(transformers.XLMConfig(**small)), 3) is None
    albert = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "embedding_size": 8}
    config = transformers.AlbertConfig(**albert, intermediate_size=24, vocab_size=12)
    assert blocks(transformers.AlbertModel(config), 3) is None


def test_a_folder_without_a_linear_layer_is_named(tmp_path):
    with pytest.raises(MixedSignalsError, match="has no linear layer"):
        load_head(tmp_path)


TEXT = {"vocab_size": 12, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
WORDS = {**SMALL, **TEXT}
TALKING = {
    **SMALL,
    **{"conv_dim": [8, 8], "conv_stride": [5, 8], "conv_kernel": [10, 8], "num_conv_pos_embeddings": 4},
    **{"num_conv_pos_embedding_groups": 2, "layerdrop": 0.9, "mask_time_prob": 0.9, "mask_time_length": 500},
}
NETWORKS = {
    "Roberta": ("text", WORDS),
    "DebertaV2": ("text", WORDS | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "DistilBert": ("text", TEXT | {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24}),
    "MPNet": ("text", WORDS),
    "T5": ("text", TEXT | {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2}),
    "GPT2": ("text", TEXT | {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}),
    "Hubert": ("audio", TALKING | {"conv_pos_batch_norm": True}),
    "WavLM": ("audio", TALKING),
    "Data2VecAudio": ("audio", TALKING | {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2}),
    "Whisper": (
        "audio",
        TEXT
        | {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
        | {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "num_mel_bins": 80}
        | {"max_source_positions": 50, "encoder_layerdrop": 0.9, "decoder_start_token_id": 1},
    ),
    "VideoMAE": ("video", SMALL | {"image_size": 32, "patch_size": 16, "num_frames": 4}),
    "Timesformer": ("video", SMALL | {"image_size": 32, "patch_size": 16, "num_frames": 4}),
}


def save_network(folder, name, kind=None):
    """Write a network as it begins, and what prepares its input."""
    modality, config = kind or NETWORKS[name]
    if modality == "text":
        save_bert(folder)
        said = json.loads((folder / "tokenizer_config.json").read_text())
        said["model_input_names"] = ["input_ids", "attention_mask"]
        (folder / "tokenizer_config.json").write_text(json.dumps(said))
    elif modality == "video":
        save_videomae(folder)
    elif name == "Whisper":
        transformers.WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)
    else:
        transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(folder)
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**config)
    getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
    return modality, folder


@pytest.mark.parametrize("layers", ["last:1", "all", "lora"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_many_kinds_learn_and_come_back_as_they_were_left(tmp_path, name, layers):
    if layers == "lora":
        pytest.importorskip("peft", reason="peft is not installed")
    modality, start = save_network(tmp_path / "start", name)
    encoder = make_encoder(modality, str(start), device="cpu")
    classifier = classifier_of(encoder, layers=layers)
    values, target = values_of(encoder, modality, 2, 3, 2, 4), torch.tensor([0, 1, 0, 1])
    buffers = {key: one.clone() for key, one in classifier.network.named_buffers()}
    optimizer, losses = torch.optim.AdamW(classifier.trainable().values(), 1e-2), []
    for _ in range(6):
        losses.append(functional.cross_entropy(classifier.train()(encoder.pack(values)), target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    after = dict(classifier.network.named_buffers())
    assert after.keys() == buffers.keys()
    assert all(torch.equal(one, after[key]) for key, one in buffers.items())
    with torch.no_grad():
        outputs = classifier.train(False)(encoder.pack(values)).numpy()
    saved = shutil.copytree(
        start, tmp_path / "saved", ignore=shutil.ignore_patterns("config.json", "model.*")
    )
    classifier.save(saved)
    original, again = (transformers.AutoModel.from_pretrained(one) for one in (start, saved))
    assert original.state_dict().keys() == again.state_dict().keys()
    assert not (saved / "adapter_config.json").exists()
    tuned = make_encoder(modality, str(saved), device="cpu")
    tuned.load()
    vectors = np.stack([one.vectors[0] for one in tuned.encode(tuned.pack(values))])
    layer, _ = load_head(saved)
    np.testing.assert_allclose(vectors @ layer["weight"].T + layer["bias"], outputs, atol=1e-4)


def test_a_network_that_fails_in_mixed_precision_is_named_with_the_mend(tmp_path):
    """DeBERTa's first version masks with a number that bfloat16 cannot hold."""
    config = WORDS | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
    modality, folder = save_network(tmp_path / "deberta", "Deberta", ("text", config))
    encoder = make_encoder(modality, str(folder), device="cpu")
    classifier = classifier_of(encoder, layers="last:1", dtype="bfloat16")
    with pytest.raises(MixedSignalsError, match=r"--text deberta: its network fails in bfloat16 .*float32$"):
        classifier(encoder.pack(values_of(encoder, modality, 1)))


def test_batch_norms_keep_their_statistics(tmp_path):
    classifier = classifier_of(encoder_of(tmp_path), layers="all")
    blocks(classifier.network, LAYERS)[-1].norm = torch.nn.BatchNorm1d(2)
    classifier.train()
    assert blocks(classifier.network, LAYERS)[-1].training
    assert not blocks(classifier.network, LAYERS)[-1].norm.training
