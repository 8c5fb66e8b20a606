"""Text encoders from transformers: any that `AutoModel` loads, and the encoder of one that also decodes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixed_signals.extract.encoders import normalising
from mixed_signals.extract.encoders.base import TextReader
from mixed_signals.extract.encoders.transformer import TransformerEncoder
from mixed_signals.store import MixedSignalsError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

_UNDECLARED = 512
"""Tokens of a window where neither tokenizer nor configuration says how many there may be."""

_SANE = 1_000_000
"""From here on a tokenizer's limit stands for none."""

# Their positions are counted from the padding token's number on, which leaves fewer of them.
_OFFSET = (
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"),
    *("data2vec-text", "ibert", "longformer", "luke", "lilt", "esm"),
)

# Neighbouring tokens are mixed, or all of them, whatever the mask says, and so is padding.
_SEES_PADDING = ("mobilebert", "convbert", "fnet", "nystromformer", "yoso", "canine")

_LAYERS = ("encoder_layers", "num_encoder_layers", "num_hidden_layers", "num_layers", "n_layers", "n_layer")
_WIDTH = ("hidden_size", "dim", "n_embd", "d_model", "emb_dim")

_SENTENCE_POOLINGS = {
    "cls": "first",
    "cls_token": "first",
    "mean": "mean",
    "mean_tokens": "mean",
    "max": "max",
    "max_tokens": "max",
    "lasttoken": "last",
}


@dataclass
class Tokens(TextReader):
    """Tokenizes transcripts.

    A text is an array of int (rows, n): the numbers of its tokens, and a second row with their types where the network
    takes types. One that is longer than `longest` comes as several, of equal length give or take one, each with the
    tokenizer's special tokens.
    """

    name: str
    folder: Path
    longest: int
    _tokenizer: Any = field(default=None, init=False, repr=False)

    def load(self) -> None:
        """Load the tokenizer.

        Raises
        ------
        MixedSignalsError
            If there is none that can be read.
        """
        if self._tokenizer is not None:
            return
        from transformers import AutoTokenizer

        from mixed_signals.extract.checkpoints import quiet_transformers

        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise self._lacks(str(error).strip().partition("\n")[0]) from error
        files = tokenizer.vocab_files_names.values()
        if files and not any((self.folder / file).is_file() for file in files):
            raise self._lacks("no vocabulary")  # for which transformers puts an empty one, without a word
        normalising.complete(tokenizer, self.folder)
        self._tokenizer = tokenizer
        self._before, self._after = self._special()

    def close(self) -> None:
        """Let go of the tokenizer."""
        self._tokenizer = None

    def read(self, texts: Sequence[str]) -> list[list[np.ndarray]]:
        """Return the windows of each text; none of one in which the tokenizer finds nothing."""
        content = self._tokenized([text.strip() for text in texts], special=False)
        return [self._windows(tokens) for tokens in content]

    @property
    def padding(self) -> list[int]:
        """What pads each row."""
        pad, kind = self._tokenizer.pad_token_id, self._tokenizer.pad_token_type_id
        return [pad or 0, kind]  # without a padding token any will do, for it is masked

    def _lacks(self, reason: str) -> MixedSignalsError:
        return MixedSignalsError(
            f"{self.name}: no tokenizer in {self.folder} that can be read ({reason}): put its tokenizer.json there"
        )

    def _windows(self, content: np.ndarray) -> list[np.ndarray]:
        n = content.shape[1]
        room = self.longest - self._before.shape[1] - self._after.shape[1]
        parts = np.array_split(content, -(-n // room), axis=1) if n else []
        return [np.concatenate([self._before, part, self._after], axis=1) for part in parts]

    def _special(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what the tokenizer puts before and after a text."""
        (bare,) = self._tokenized(["a"], special=False)
        (whole,) = self._tokenized(["a"], special=True)
        n, more = bare.shape[1], whole.shape[1] - bare.shape[1]
        at = next(i for i in range(more + 1) if (whole[0, i : i + n] == bare[0]).all())
        return whole[:, :at], whole[:, at + n :]

    def _tokenized(self, texts: list[str], *, special: bool) -> list[np.ndarray]:
        found = self._tokenizer(texts, add_special_tokens=special, return_attention_mask=False, verbose=False)
        rows = [found[name] for name in ("input_ids", "token_type_ids") if name in found]
        return [np.array(of_one, dtype=np.int64) for of_one in zip(*rows, strict=True)]


class TextEncoder(TransformerEncoder):
    """A text network: its tokens, special ones included, pooled.

    Own pooling is the mean over tokens; where the folder is one of sentence-transformers, its pooling, and scaling
    to length one where that is part of it. Texts longer than the network accepts are split into equal windows.

    Source of the layout: Reimers and Gurevych, "Sentence-BERT", arXiv 1908.10084.
    """

    modality = "text"
    libraries = ("transformers", "tokenizers", "torch")
    budgets = {"cpu": 1024, "cuda": 65_536}  # noqa: RUF012 - in tokens
    most_rows = 4096
    cost_of_one = 0.3
    least_cost = 4.0
    reader: Tokens

    def make_reader(self) -> Tokens:
        """Return the tokenizer."""
        return Tokens(self.checkpoint.name, self.checkpoint.folder, self.max_tokens)

    @cached_property
    def max_tokens(self) -> int:
        """The most tokens of a window: the least of what tokenizer, positions and sentence-transformers say."""
        config = self.checkpoint.config
        positions = config.get("max_position_embeddings") or config.get("n_positions") or _SANE
        if config.get("model_type") in _OFFSET:
            positions -= (config.get("pad_token_id") or 0) + 1
        tokenizer = self.checkpoint.json("tokenizer_config.json").get("model_max_length")
        sentence = self.checkpoint.json("sentence_bert_config.json").get("max_seq_length")
        least = int(min(positions, tokenizer or _SANE, sentence or _SANE))
        return least if least < _SANE else _UNDECLARED

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The most tokens, and what becomes of longer texts."""
        return {"max_tokens": self.max_tokens, "longer": "equal windows"}

    @cached_property
    def own_pooling(self) -> str:  # type: ignore[override]
        """The mean, or what sentence-transformers' files say."""
        modules = self.checkpoint.json("modules.json")
        if not modules:
            return "mean"
        kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
        said = self.checkpoint.json(f"{kinds.get('Pooling')}/config.json")
        wanted = [key.removeprefix("pooling_mode_") for key, on in said.items() if "_mode_" in key and on]
        if mode := said.get("pooling_mode"):  # as sentence-transformers 6 writes it
            wanted = [mode] if isinstance(mode, str) else mode
        unknown = {*kinds} - {"Transformer", "Pooling", "Normalize"} | {*wanted} - {*_SENTENCE_POOLINGS}
        if self.checkpoint.json("config_sentence_transformers.json").get("default_prompt_name"):
            unknown.add("default prompt")
        if unknown or len(wanted) != 1:
            steps = ", ".join(sorted(unknown) or wanted)
            raise UsageError(
                f"--text {self.checkpoint.name}: its sentence-transformers steps ({steps}) are none that can be "
                f"followed: say what to read, as in {self.checkpoint.name}:last:mean"
            )
        return _SENTENCE_POOLINGS[wanted[0]] + (", L2" if "Normalize" in kinds else "")

    @property
    def n_layers(self) -> int:
        """How many blocks the network, or its encoder, has."""
        return self._of_config(_LAYERS)

    @property
    def width(self) -> int:
        """How many numbers a token has."""
        return self._of_config(_WIDTH)

    def _of_config(self, names: Sequence[str]) -> int:
        config = self.checkpoint.config
        for name in names:
            if name in config:
                return int(config[name])
        raise UsageError(
            f"--text {self.checkpoint.name}: its config.json has none of {', '.join(names)}: is it a text encoder?"
        )

    @property
    def padding_changes(self) -> bool:
        """Whether the network is of a type whose tokens see the padding beside them."""
        return self.checkpoint.config["model_type"] in _SEES_PADDING

    def network(self) -> Any:
        """Return the network; of one that also decodes, its encoder."""
        network = self.checkpoint.model()
        network.config.use_cache = False
        network = network.get_encoder() if network.config.is_encoder_decoder else network
        if hasattr(
            network, "set_attention_type"
        ):  # BigBird: sparse only until its first short text, then never again
            network.set_attention_type("original_full")
        return network

    def load(self) -> None:
        """Load network and tokenizer."""
        self.reader.load()
        self._padding = np.array(self.reader.padding)
        super().load()

    def windows(self, one: list[np.ndarray]) -> list[np.ndarray]:
        """Return the windows as the reader made them."""
        return one

    def length(self, window: np.ndarray) -> int:
        """Return the number of tokens."""
        return window.shape[1]

    def collate(self, windows: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Pad on the right."""
        import torch

        lengths = np.array([window.shape[1] for window in windows])
        rows = np.empty((len(windows[0]), len(windows), lengths.max()), dtype=np.int64)
        rows[:] = self._padding[: len(rows), None, None]
        for number, window in enumerate(windows):
            rows[:, number, : window.shape[1]] = window
        names = ("input_ids", "token_type_ids")
        tensors = {name: torch.from_numpy(row) for name, row in zip(names, rows, strict=False)}
        if (lengths < lengths.max()).any():
            tensors["attention_mask"] = torch.from_numpy(
                (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
            )
        return tensors

    def states(
        self, tensors: dict[str, Tensor], layers: Collection[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Run the network on tokens."""
        mask = tensors.get("attention_mask")
        return self.read(layers, **tensors), None if mask is None else mask.bool()
