"""How tokenizers make text plain before they cut it, where transformers leaves out what their files say.

The classes that transformers 5 has for DeBERTa v2 and v3, BigBird and mBART build their normaliser anew and forget the
character table of the SentencePiece model: "…", a no-break space or a ligature would become an unknown token, where the
network was trained on "...", a space or two letters. And sentence-transformers' `do_lower_case` is no part of
a tokenizer's files.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mixed_signals.store.files import read_json


def complete(tokenizer: Any, folder: Path) -> None:
    """Give a tokenizer the steps that its files name and that it lacks.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        As transformers loaded it; changed in place.
    folder : Path
        Where its files are.
    """
    from tokenizers.normalizers import Lowercase, Normalizer, Precompiled, Sequence

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    whole = backend.normalizer
    steps: list[Normalizer] = [] if whole is None else [whole]
    if isinstance(whole, Sequence):
        steps = [whole[i] for i in range(len(whole))]
    lacking: list[Normalizer] = []
    sentence = folder / "sentence_bert_config.json"
    if sentence.is_file() and read_json(sentence).get("do_lower_case"):
        lacking.append(Lowercase())
    table = _character_table(folder, tokenizer.vocab_files_names.values())
    if table and not any(isinstance(step, Precompiled) for step in steps):
        lacking.append(Precompiled(table))
    if lacking:
        backend.normalizer = Sequence([*lacking, *steps])


def _character_table(folder: Path, names: Iterable[str]) -> bytes:
    """Return SentencePiece's table of what each character becomes; empty if there is none."""
    if (folder / "tokenizer.json").is_file():
        return _table_in(read_json(folder / "tokenizer.json").get("normalizer"))
    for name in names:
        if name.endswith(".model") and (folder / name).is_file():
            from sentencepiece import sentencepiece_model_pb2

            model = sentencepiece_model_pb2.ModelProto.FromString((folder / name).read_bytes())
            return bytes(model.normalizer_spec.precompiled_charsmap)
    return b""


def _table_in(normaliser: dict[str, Any] | None) -> bytes:
    """Return the table in a normaliser of a tokenizer.json."""
    if normaliser is None:
        return b""
    inner = normaliser.get("normalizers", [])
    return base64.b64decode(normaliser.get("precompiled_charsmap") or "") or next(
        filter(None, map(_table_in, inner)), b""
    )
