"""What a training that is broken off goes on from, in safetensors: nothing is pickled, and no file is half written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixed_signals.store.disk import saved_or_error
from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

_SAID = "said"


@dataclass
class State:
    """How far a training has come.

    Attributes
    ----------
    recipe : str
        Fingerprint of everything that its numbers depend on.
    coding : dict
        How its labels become numbers.
    epoch : int
        How many epochs are done.
    scores : list of float or None
        Validation score after each of them.
    best : int
        The best of them, from 1; 0 before any.
    best_rank : list of float
        What it is compared by: its score, then its validation loss, negative.
    finished : bool
    seconds : float
        That it took so far.
    logged : int
        Bytes of ``metrics.jsonl`` up to here.
    scaler : dict
        Of gradients in float16.
    """

    recipe: str
    coding: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    scores: list[float | None] = field(default_factory=list)
    best: int = 0
    best_rank: list[float] = field(default_factory=list)
    finished: bool = False
    seconds: float = 0.0
    logged: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)


def write(path: Path, tensors: Mapping[str, Tensor], state: State) -> None:
    """Write tensors and a state as one file, which is there wholly or not at all."""
    from safetensors.torch import save_file

    ready = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    with replacing(path) as temporary, saved_or_error(path):
        save_file(ready, temporary, metadata={_SAID: json.dumps(asdict(state))})


def read(path: Path) -> tuple[dict[str, Tensor], State]:
    """Return what `write` wrote, tensors on the host.

    Raises
    ------
    MixedSignalsError
        If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return tensors, State(**json.loads(file.metadata()[_SAID]))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise MixedSignalsError(
            f"{path}: not readable as the state of a training ({error}); remove it to train from the beginning"
        ) from error
