"""``extract-features``: its flags, several processes, what it prints; small real networks, no GPU."""

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from mixed_signals.extract.cli import app
from mixed_signals.extract.sources import require_source
from mixed_signals.store import Corpus, MixedSignalsError, Store, UsageError
from mixed_signals.store.merging import merge

WORDS = ["well", "so", "yes", "no"]
SAID = [" ".join(WORDS[i % 4] for i in range(1 + 7 * n % 11)) for n in range(40)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",  # noqa: S106
        model_max_length=64,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2}
    config = transformers.BertConfig(vocab_size=6, max_position_embeddings=64, **size)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def store(tmp_path):
    ids = [f"u{i:02d}" for i in range(len(SAID))]
    return Store.create(tmp_path / "s[/b]", Corpus("c", pd.DataFrame({"utterance_id": ids, "text": SAID})))


def call(store, *words):
    ran = CliRunner().invoke(app, [str(store.path), *map(str, words)], env={"COLUMNS": "120"})
    if isinstance(ran.exception, Exception) and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.output


def test_one_call_makes_what_it_says(store, bert):
    said = call(store, "--text", f"{bert}:0-1+last:mean+std", "--device", "cpu")
    names = [f"text/tiny-bert.{layer}.{how}" for layer in ("0", "1", "last") for how in ("mean", "std")]
    assert store.feature_sets() == sorted(names)
    assert all(store[name].ok.all() for name in names)
    assert said.count("  tiny-bert ") == 1  # one pass made the six
    assert "nothing to do" in call(store, "--text", f"{bert}:1:std", "--plan")


def test_several_processes_make_what_one_makes(store, bert):
    call(store, "--text", bert, "--device", "cpu", "--name", "one")
    call(store, "--text", bert, "--devices", "cpu,cpu")
    one, several = store["text/tiny-bert.one"], store["text/tiny-bert"]
    np.testing.assert_allclose(several.embedding, one.embedding, atol=1e-6)
    assert store.shards() == {}
    shares = [job["rows"] for job in several.jobs]
    assert len(shares) == 2
    assert min(shares) > 0
    assert sum(shares) == 40
    call(store, "--text", bert, "--devices", "cpu,cpu")
    assert [job["rows"] for job in store["text/tiny-bert"].jobs] == shares


def test_what_goes_wrong_in_a_process_is_told_in_one_line(store, bert, tmp_path):
    from mixed_signals.store.locks import sole_writer

    with sole_writer(store.shard_path("text", "tiny-bert", 2, 2)), pytest.raises(MixedSignalsError) as caught:
        call(store, "--text", bert, "--devices", "cpu,cpu")
    assert "cpu: " in str(caught.value)
    assert "what was done is kept" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [str(shard) for shard in store.shards()["text/tiny-bert"]] == [
        "1/2"
    ]  # the other one's work is kept


def test_shards_are_left_to_be_merged(store, bert):
    said = call(store, "--text", bert, "--device", "cpu", "--shard", "2/2")
    assert f"mixed-signals store merge {store.path}" in said
    assert store.feature_sets() == []
    assert "1 shard not merged" in call(store, "--text", bert, "--device", "cpu", "--plan")


@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_a_set_whose_vectors_lie_in_shards_is_refused_in_the_plan_too(store, bert, more):
    for number in (1, 2):
        call(store, "--text", bert, "--device", "cpu", "--shard", f"{number}/2")
    merge(store, "text/tiny-bert", virtual=True)
    assert "nothing to do" in call(store, "--text", bert, "--device", "cpu", *more)
    Store.create(store.path, Corpus("c", store.corpus.utterances.assign(text=SAID[::-1])), replace=True)
    with pytest.raises(UsageError, match="its vectors lie in 2 shards"):
        call(store, "--text", bert, "--device", "cpu", *more)


def test_the_self_test_passes_and_writes_nothing(store, bert):
    said = call(store, "--text", f"{bert}:last:mean+first,{bert}", "--device", "cpu", "--check")
    assert said.count(" ok") == 3
    assert store.feature_sets() == []


def test_a_network_that_depends_on_company_fails_the_self_test(store, bert, monkeypatch):
    from mixed_signals.extract.encoders.text import TextEncoder

    real = TextEncoder.states
    monkeypatch.setattr(
        TextEncoder, "states", lambda self, tensors, layers: (real(self, tensors, layers)[0], None)
    )
    with pytest.raises(MixedSignalsError, match="depends on what it is encoded with"):
        call(store, "--text", bert, "--device", "cpu", "--check")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cuda:7"], "--device cuda:7: torch"),
        (["--device", "tpu0"], "--device 'tpu0': use auto"),
        (["--devices", "cpu", "--shard", "1/2"], "use one of them"),
        (["--devices", "cpu", "--device", "cpu"], "use one of them"),
        (["--frame-rate", "5"], "no video encoder is asked for"),
        (["--shard", "3/2"], "--shard '3/2': use I/N"),
        (["--max-failures", "many"], "--max-failures 'many': use a number"),
        (["--max-failures", "150%"], "--max-failures '150%'"),
        (["--max-failures", "inf"], "--max-failures 'inf'"),
        (["--max-failures", "nan"], "--max-failures 'nan'"),
        (["--dtype", "float8"], "--dtype 'float8': use float32"),
        (["--revision", "nobody=1"], "--revision nobody=...: no encoder"),
        (["--store-dtype", "float8"], "store dtype 'float8'"),
    ],
)
def test_wrong_flags_are_named(store, bert, words, said):
    with pytest.raises(UsageError) as caught:
        call(store, "--text", bert, *words)
    assert said in str(caught.value)
    assert store.feature_sets() == []


@pytest.mark.parametrize("flag", ["--audio", "--video"])
def test_a_modality_that_the_corpus_lacks_is_refused_in_the_plan(store, flag):
    encoder = {"--audio": "egemaps", "--video": "blendshapes"}[flag]
    with pytest.raises(UsageError) as caught:
        call(store, flag, encoder, "--plan")
    assert str(caught.value) == (
        f"{flag} {encoder}: of 40 utterances none has media: import the corpus with its media, or leave {flag} out"
    )
    table = store.corpus.utterances.assign(text=" ", media=["a.wav"] + [""] * 39)
    silent = Store.create(store.path.with_name("silent"), Corpus("c", table, media_root=store.path))
    with pytest.raises(
        UsageError, match="--text minilm: of 40 utterances none has text: import the corpus with"
    ):
        require_source(silent, "text", "minilm")
    require_source(silent, "audio", "egemaps")


def test_no_gpu_is_told(store, bert):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UsageError, match="--devices all: torch finds no GPU here; use --device cpu"):
        call(store, "--text", bert, "--devices", "all")
