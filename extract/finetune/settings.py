"""How an encoder is trained, and what such recipes are called."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mixed_signals.store.errors import UsageError

SCHEDULES = ("linear", "cosine", "constant")
DTYPES = ("float32", "bfloat16", "float16")
_LAST = "last:"


@dataclass(frozen=True)
class Settings:
    """A recipe for training.

    Attributes
    ----------
    epochs : int
        At most; fewer where it stops early.
    learning_rate, head_learning_rate : float
        The highest, of the encoder and of the linear layer on it.
    weight_decay : float
        Of matrices; biases and norms have none.
    warmup : float
        Share of the steps in which the learning rates rise from 0.
    schedule : str
        What they do then: ``linear`` or ``cosine``, down to 0; ``constant``.
    batch_size : int
        Utterances that are on the device at once.
    accumulate : int
        Batches whose gradients make one step.
    layers : str
        What is trained of the encoder: ``last:2`` (the last two blocks), ``all``, or ``lora``.
    lora_rank, lora_alpha : int
        Of ``lora``: the rank of what is added to each linear layer, and its scale times the rank.
    class_weights : bool
        Whether each class counts as much as any other, however rare.
    dropout : float
        Before the linear layer, and of what LoRA adds; that inside the encoder is as its configuration says.
    clip : float
        Gradients are scaled down to this norm.
    dtype : str
        float32, or mixed precision with bfloat16 or float16.
    checkpointing : bool
        Whether blocks are computed a second time for their gradients, which saves memory.
    patience : int
        Training stops after so many epochs without a better validation score; 0: it never stops early.
    validation : float
        Share of the rows, in whole groups, that the best epoch is chosen on.
    max_seconds : float, optional
        Only so much of the beginning of each utterance's media is trained on.

    Raises
    ------
    UsageError
        If one of them is out of its range.
    """

    epochs: int = 10
    learning_rate: float = 2e-5
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "linear"
    batch_size: int = 16
    accumulate: int = 1
    layers: str = "last:2"
    lora_rank: int = 8
    lora_alpha: int = 16
    class_weights: bool = True
    dropout: float = 0.1
    clip: float = 1.0
    dtype: str = "float32"
    checkpointing: bool = False
    patience: int = 3
    validation: float = 0.15
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise UsageError(fault)

    def _fault(self) -> str | None:
        for name in ("epochs", "batch_size", "accumulate", "lora_rank", "lora_alpha"):
            if getattr(self, name) < 1:
                return f"{_flag(name)} {getattr(self, name)}: use a whole number above 0"
        for name in ("learning_rate", "head_learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                return f"{_flag(name)} {getattr(self, name):g}: use a number above 0"
        for name in ("warmup", "dropout", "validation"):
            if not 0 <= getattr(self, name) < 1:
                return f"{_flag(name)} {getattr(self, name):g}: use a share from 0 to below 1"
        if not 0 <= self.weight_decay < math.inf:
            return f"--weight-decay {self.weight_decay:g}: use 0 or a number above it"
        if self.patience < 0:
            return f"--patience {self.patience}: use a number of epochs, or 0 for no early stopping"
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            return f"--max-seconds {self.max_seconds:g}: use a number of seconds above 0"
        if self.schedule not in SCHEDULES:
            return f"--schedule {self.schedule!r}: use {', '.join(SCHEDULES)}"
        if self.dtype not in DTYPES:
            return f"--dtype {self.dtype!r}: use {', '.join(DTYPES)}"
        number = self.layers.removeprefix(_LAST)
        if self.layers not in ("all", "lora") and not (
            self.layers.startswith(_LAST) and number.isdecimal() and int(number) > 0
        ):
            return f"--layers {self.layers!r}: use last:N (the last N blocks), all or lora"
        return None

    @property
    def last_blocks(self) -> int | None:
        """How many of the last blocks are trained; None where it is not a number of them."""
        return int(self.layers.removeprefix(_LAST)) if self.layers.startswith(_LAST) else None

    def rate_factor(self, step: int, steps: int) -> float:
        """Return the share of the highest learning rate that a step has.

        Parameters
        ----------
        step : int
            From 0.
        steps : int
            Of all epochs.

        Examples
        --------
        >>> [round(Settings(warmup=0.4).rate_factor(step, 5), 3) for step in range(5)]
        [0.5, 1.0, 0.75, 0.5, 0.25]
        """
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        done = (step + 1 - rising) / (steps + 1 - rising)
        if self.schedule == "linear":
            return 1 - done
        return (1 + math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else 1.0


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


STUDY = Settings(
    epochs=15,
    learning_rate=5e-6,
    head_learning_rate=5e-6,
    warmup=0.0,
    schedule="constant",
    batch_size=8,
    layers="last:2",
    class_weights=False,
    patience=0,
    max_seconds=10.0,
)
"""The recipe of the reference study (Srikanth, Chen & Hirschberg, arXiv 2505.13979).

As there: the last two blocks and the head, AdamW at 5e-6, 15 epochs, batches of 8, nothing that stops early, 10 s of
media. What differs, because training reads what extraction reads: all real positions are pooled, not the first
alone; the head is one linear layer; sound is prepared as the checkpoint says, not scaled to its peak; video is looked
at in windows as the network was trained on, not 16 pictures of the whole. And the epoch that was best on the
validation rows is kept, from which the vectors then come, not the last.
"""

PRESETS = {"default": Settings(), "study": STUDY}
"""Recipes by name."""


def told_default(name: str) -> str:
    """Return what a setting is where nobody says, for people; the other presets' where they differ.

    Examples
    --------
    >>> told_default("epochs")
    'default: 10; study: 15'
    """
    told = {preset: _told(getattr(recipe, name)) for preset, recipe in PRESETS.items()}
    return "; ".join(
        f"{preset}: {said}" for preset, said in told.items() if preset == "default" or said != told["default"]
    )


def _told(value: object) -> str:
    if value is None:
        return "all of it"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
