"""Tokenizers see the text that their files say, beside SentencePiece itself."""

import json
import shutil

import pytest
import sentencepiece
import transformers
from tokenizers import normalizers

from mixed_signals.extract.encoders.text import Tokens

SAID = "well so yes I don't know what you're saying... fine 1 2 A TM really, the cat sat on it's"
WORDS = SAID.split()
PROBES = [
    "the cat sat",
    "I don't  know\u2026",
    "\ufb01ne \uff21 \u2122",
    "the\u00a0cat",
    "A\u200bcat",
    "\u2603 so",
]
PIECES = {
    "deberta-v2": (
        "spm.model",
        {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
        | {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    ),
    "big_bird": (
        "spiece.model",
        {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "user_defined_symbols": "[SEP],[MASK],[CLS]"},
    ),
    "xlm-roberta": ("sentencepiece.bpe.model", {"unk_id": 0, "bos_id": 1, "eos_id": 2}),
}


@pytest.fixture(scope="module", params=PIECES)
def folder(request, tmp_path_factory):
    """Return a folder with no tokenizer but SentencePiece's model, as microsoft/deberta-v3-base is published."""
    made = tmp_path_factory.mktemp("pieces")
    file, options = PIECES[request.param]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))] * 20),
        model_prefix=str(made / "m"),
        vocab_size=80,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    (made / "m.model").rename(made / file)
    (made / "config.json").write_text(json.dumps({"model_type": request.param}))
    (made / "tokenizer_config.json").write_text("{}")
    return made


def tokens(folder, text):
    """Return the tokens of a text and the tokenizer."""
    reader = Tokens("x", folder, 512)
    reader.load()
    tokenizer = reader._tokenizer
    (window,) = reader.read([text])[0]
    content = window[0, reader._before.shape[1] : window.shape[1] - reader._after.shape[1]]
    return tokenizer.convert_ids_to_tokens(content), tokenizer


@pytest.mark.parametrize("form", ["model", "json"])
@pytest.mark.parametrize("probe", PROBES)
def test_characters_become_what_sentencepiece_makes_of_them(folder, form, probe, tmp_path):
    (file,) = folder.glob("*.model")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))
    if form == "json":  # as transformers 4 wrote it, with the table in it
        from sentencepiece import sentencepiece_model_pb2

        model = sentencepiece_model_pb2.ModelProto.FromString(file.read_bytes())
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        table = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), table])
        tokenizer.save_pretrained(tmp_path)
        shutil.copy(folder / "config.json", tmp_path)
        folder = tmp_path
    found, tokenizer = tokens(folder, probe)
    known = [
        piece if pieces.piece_to_id(piece) != pieces.unk_id() else None
        for piece in pieces.encode(probe, out_type=str)
    ]
    assert found == [tokenizer.unk_token if piece is None else piece for piece in known]
