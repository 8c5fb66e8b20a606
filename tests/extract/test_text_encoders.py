"""Text networks, tiny and random, saved to disk and loaded as published ones are, beside a plain reference."""

import json

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mixed_signals.extract.checkpoints import resolve
from mixed_signals.extract.encoders.text import TextEncoder
from mixed_signals.extract.encoders.transformer import Readout
from mixed_signals.store import MixedSignalsError, Status, UsageError

WORDS = [f"w{i}" for i in range(40)]
SPECIALS = {
    "bert": ("[CLS] $A [SEP]", {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}),
    "roberta": ("<s> $A </s>", {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}),
    "t5": ("$A </s>", {"eos_token": "</s>", "pad_token": "<pad>"}),
    "gpt2": ("$A", {"eos_token": "</s>"}),
}
SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
NETWORKS = {
    "Bert": ("bert", SMALL),
    "Electra": ("bert", SMALL | {"embedding_size": 8}),
    "DebertaV2": (
        "bert",
        SMALL
        | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
        | {"position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True, "type_vocab_size": 0},
    ),
    "DistilBert": ("roberta", {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24}),
    "Roberta": ("roberta", SMALL | {"pad_token_id": 1, "max_position_embeddings": 66}),
    "XLMRoberta": ("roberta", SMALL | {"pad_token_id": 1, "max_position_embeddings": 66}),
    "MPNet": ("roberta", SMALL | {"pad_token_id": 1, "max_position_embeddings": 66}),
    "ModernBert": (
        "bert",
        SMALL | {"local_attention": 8, "global_attn_every_n_layers": 2, "pad_token_id": 1},
    ),
    "T5": ("t5", {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2, "n_positions": 64}),
    "GPT2": ("gpt2", {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}),
    "XLM": ("roberta", {"emb_dim": 16, "n_layers": 3, "n_heads": 2, "pad_index": 1}),
    "ProphetNet": (
        "roberta",
        {"hidden_size": 16, "num_encoder_layers": 3, "num_encoder_attention_heads": 2, "encoder_ffn_dim": 24}
        | {
            "num_decoder_layers": 1,
            "num_decoder_attention_heads": 2,
            "decoder_ffn_dim": 24,
            "pad_token_id": 1,
        },
    ),
    "BigBird": ("bert", SMALL | {"block_size": 2, "num_random_blocks": 1, "attention_type": "original_full"}),
}
SEE_PADDING = {
    "MobileBert": (
        "bert",
        SMALL | {"true_hidden_size": 16, "intra_bottleneck_size": 16, "embedding_size": 8},
    ),
    "ConvBert": ("bert", SMALL | {"embedding_size": 16}),
    "FNet": ("bert", SMALL),
    "Nystromformer": ("bert", SMALL),
    "Yoso": ("bert", SMALL),
}
NETWORKS |= SEE_PADDING
TEXTS = ["w1 w2 w3", "w4", " ".join(WORDS[:25]), "w9 w8 w7 w6"]


def save_tokenizer(folder, kind, **more):
    template, special = SPECIALS[kind]
    names = ["<pad>", "[PAD]", "[UNK]", *dict.fromkeys(special.values()), *WORDS]
    vocab = {name: number for number, name in enumerate(dict.fromkeys(names))}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind != "gpt2":
        used = [(token, vocab[token]) for token in special.values()]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    if kind == "bert":
        more["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special, **more).save_pretrained(folder)
    return len(vocab)


def save(folder, network="Bert", *, limit=64, **more):
    kind, config = NETWORKS[network]
    torch.manual_seed(0)
    n_words = save_tokenizer(folder, kind, model_max_length=limit)
    config = getattr(transformers, f"{network}Config")(**{"vocab_size": n_words} | config | more)
    model = getattr(transformers, f"{network}Model")(config)
    for parameter in model.parameters():  # far from the start of training, where layers hardly differ
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


def loaded(folder, *readouts, **options):
    encoder = TextEncoder(resolve(str(folder)), readouts, **options)
    encoder.load()
    return encoder


def encode(encoder, texts):
    return encoder.encode(encoder.pack(encoder.reader.read(texts)))


def vectors(encoder, texts):
    found = encode(encoder, texts)
    assert [one.status for one in found] == [Status.OK] * len(texts)
    return [np.stack(column) for column in zip(*(one.vectors for one in found), strict=True)]


def reference(folder, ids, layer="last"):
    """States of one sequence of tokens, alone, without a mask."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    return (found.last_hidden_state if layer == "last" else found.hidden_states[layer])[0].numpy()


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_gives_what_it_gives_alone_and_unpadded(network, tmp_path):
    folder = save(tmp_path, network)
    encoder = loaded(folder, *(Readout(str(layer), "mean") for layer in (0, 2, "last")))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = vectors(encoder, TEXTS)
    for layer, column in zip((0, 2, "last"), found, strict=True):
        expected = [reference(folder, tokenizer(text).input_ids, layer).mean(axis=0) for text in TEXTS]
        np.testing.assert_allclose(column, expected, rtol=1e-4, atol=1e-5)
    alone = np.concatenate([vectors(encoder, [text])[2] for text in TEXTS])
    np.testing.assert_allclose(found[2], alone, rtol=1e-5, atol=1e-5 * np.abs(alone).max())
    assert [output.recipe.layer for output in encoder.outputs] == ["0", "2", "last"]


@pytest.mark.parametrize("network", SEE_PADDING)
def test_where_tokens_see_padding_only_equal_lengths_share_a_pass(network, tmp_path, monkeypatch):
    encoder = loaded(save(tmp_path, network))
    texts = ["w1 w2", "w3 w4 w5", "w6 w7"]
    read = encoder.reader.read(texts)
    assert encoder.padding_changes
    assert [sorted(one.windows) for one in encoder.pack(read).passes] == [[1], [0, 2]]
    (apart,) = vectors(encoder, texts)
    monkeypatch.setattr(TextEncoder, "padding_changes", False)
    (padded,) = vectors(encoder, texts)
    assert not np.allclose(padded, apart, rtol=1e-3)  # the rule is needed


def test_what_was_encoded_before_changes_nothing(tmp_path):
    """BigBird attends sparsely to a long text, but never again once it has seen a short one."""
    encoder = loaded(save(tmp_path, "BigBird", attention_type="block_sparse"))
    (first,) = vectors(encoder, [TEXTS[2]])
    vectors(encoder, [TEXTS[1]])
    np.testing.assert_array_equal(vectors(encoder, [TEXTS[2]])[0], first)


@pytest.mark.parametrize("network", ["Bert", "Roberta", "T5", "GPT2"])
def test_a_long_text_is_split_into_equal_windows_with_special_tokens(network, tmp_path):
    encoder = loaded(save(tmp_path, network, limit=10), Readout("last", "mean"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    special = tokenizer.num_special_tokens_to_add()
    content = tokenizer(TEXTS[2], add_special_tokens=False).input_ids
    assert len(content) == 25
    parts = {2: [7, 6, 6, 6], 1: [9, 8, 8], 0: [9, 8, 8]}[special]
    expected, at = [], 0
    for n in parts:
        text = tokenizer.decode(content[at : at + n])
        expected.append(reference(tmp_path, tokenizer(text).input_ids))
        at += n
    assert max(map(len, expected)) <= 10
    (found,) = vectors(encoder, TEXTS)
    np.testing.assert_allclose(found[2], np.concatenate(expected).mean(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "tokenizer", "sentence", "expected"),
    [
        ("Bert", 64, None, 64),
        ("Bert", 10**30, None, 512),
        ("Bert", 512, 32, 32),
        ("Roberta", 10**30, None, 64),  # 66 positions, of which the first two are never used
        ("MPNet", 66, None, 64),
        ("T5", 10**30, None, 64),
        ("DistilBert", 10**30, None, 512),
    ],
)
def test_the_limit_is_the_least_of_what_the_files_say(network, tokenizer, sentence, expected, tmp_path):
    save(tmp_path, network, limit=tokenizer)
    if sentence:
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": sentence}))
    encoder = loaded(tmp_path)
    assert encoder.max_tokens == encoder.outputs[0].recipe.preprocessing["max_tokens"] == expected
    assert encode(encoder, [" ".join(WORDS * 14)])[0].status == Status.OK  # as long a window as there may be


def sentence_transformer(folder, pooling, normalise, extra=()):
    kinds = ["Transformer", "Pooling", *["Normalize"] * normalise, *extra]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" * (i > 0),
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


@pytest.mark.parametrize(
    ("said", "normalise", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, True, "first, L2"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, False, "mean"),
        ({"embedding_dimension": 16, "pooling_mode": "max"}, True, "max, L2"),
        ({"embedding_dimension": 16, "pooling_mode": "lasttoken"}, False, "last"),
    ],
)
def test_a_sentence_transformer_is_pooled_as_its_files_say(said, normalise, expected, tmp_path):
    sentence_transformer(save(tmp_path), said, normalise)
    own = loaded(tmp_path)
    assert own.outputs[0].recipe.pooling == expected
    assert own.outputs[0].pooling == ""
    pooling = expected.partition(",")[0]
    (found,) = vectors(own, TEXTS)
    (plain,) = vectors(loaded(tmp_path, Readout("last", pooling)), TEXTS)  # named, it is not scaled
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    assert not np.allclose(lengths, 1, atol=0.1)
    np.testing.assert_allclose(found, plain / lengths if normalise else plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("said", "extra"),
    [({"pooling_mode_weightedmean_tokens": True}, ()), ({"pooling_mode_mean_tokens": True}, ("Dense",))],
)
def test_a_sentence_transformer_that_cannot_be_followed_is_refused_until_told_what_to_read(
    said, extra, tmp_path
):
    sentence_transformer(save(tmp_path), said, False, extra)
    with pytest.raises(UsageError, match=r"weightedmean_tokens|Dense.*:last:mean"):
        TextEncoder(resolve(str(tmp_path)))
    assert TextEncoder(resolve(str(tmp_path)), [Readout("last", "mean")]).outputs[0].pooling == "mean"


def test_a_sentence_transformer_may_want_lower_case(tmp_path):
    save(tmp_path)
    (unknown,), (known,) = (vectors(loaded(tmp_path), [text]) for text in ("W1 w2", "w1 w2"))
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    (found,) = vectors(loaded(tmp_path), ["W1 w2"])
    np.testing.assert_array_equal(found, known)
    assert not np.allclose(unknown, known, rtol=1e-2)


def test_a_sentence_transformer_with_words_of_its_own_in_front_is_refused(tmp_path):
    sentence_transformer(save(tmp_path), {"pooling_mode_mean_tokens": True}, False)
    said = {"prompts": {"query": "w1 "}, "default_prompt_name": None}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(said))
    plain = TextEncoder(resolve(str(tmp_path)))
    assert plain.own_pooling == "mean"
    said["default_prompt_name"] = "query"
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(said))
    assert resolve(str(tmp_path)).fingerprint != plain.checkpoint.fingerprint
    with pytest.raises(UsageError, match="default prompt"):
        TextEncoder(resolve(str(tmp_path)))


def test_a_text_without_tokens_fails_alone(tmp_path):
    save(tmp_path, "GPT2")
    found = encode(loaded(tmp_path), ["w1", "\t", "w2"])
    assert [one.status for one in found] == [Status.OK, Status.FAILED, Status.OK]
    assert "nothing in it" in found[1].reason


def test_a_network_without_a_tokenizer_is_named(tmp_path):
    save(tmp_path)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(MixedSignalsError, match=r"no tokenizer in .*tokenizer\.json") as caught:
        loaded(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_readers_of_two_processes_agree(tmp_path):
    import pickle

    reader = loaded(save(tmp_path, limit=10)).reader
    other = pickle.loads(pickle.dumps(TextEncoder(resolve(str(tmp_path))).reader))
    other.load()
    for one, two in zip(reader.read(TEXTS), other.read(TEXTS), strict=True):
        assert [window.tolist() for window in one] == [window.tolist() for window in two]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_is_close_to_full(dtype, tmp_path):
    save(tmp_path)
    (full,) = vectors(loaded(tmp_path), TEXTS)
    mixed = loaded(tmp_path, dtype=dtype)
    (half,) = vectors(mixed, TEXTS)
    assert mixed.outputs[0].recipe.dtype == dtype
    distance = np.linalg.norm(half - full, axis=1) / np.linalg.norm(full, axis=1)
    assert 0 < distance.max() < 0.03


def test_texts_of_one_length_need_no_mask(tmp_path):
    encoder = loaded(save(tmp_path))
    same, other = (encoder.reader.read(texts) for texts in (["w1 w2", "w3 w4"], ["w1 w2", "w3"]))
    assert [set(one.tensors) for one in encoder.pack(same).passes] == [{"input_ids", "token_type_ids"}]
    (padded,) = encoder.pack(other).passes
    assert padded.tensors["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert padded.tensors["input_ids"][1, 3] == 1  # [PAD] of its tokenizer
