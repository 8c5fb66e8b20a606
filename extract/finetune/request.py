"""What is asked of one call of ``finetune-encoders``, and how it is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.store import UsageError
from mixed_signals.store.cross_fits import DESIGNS
from mixed_signals.store.files import checked_name


@dataclass(frozen=True)
class Request:
    """What is asked for, apart from the device; small enough to hand to other processes.

    Attributes
    ----------
    store : Path
    encoders : tuple of (modality, encoder)
        One of a modality: a preset, a folder, or a name on the hub.
    settings : Settings
    design : str
        three-way or nested.
    align : bool
        Whether vectors of the two encoders of a fold are brought into one frame; of three-way alone.
    split : str, optional
        Which value of the column ``split`` names the training rows; then there are no folds.
    folds : int
    group : str, optional
        The column that is kept apart; ``none`` for none. By default the corpus's groups, if it has any.
    seed : int
        Of folds, halves, validation rows and trainings.
    target : str
    name : str
        What follows the encoder's name in those of its feature sets.
    media_root : Path or str, optional
    revisions : mapping of str to str
        Revisions of hub models, by the name that is asked for.
    """

    store: Path
    encoders: tuple[tuple[str, str], ...]
    settings: Settings = field(default_factory=Settings)
    design: str = "three-way"
    align: bool = False
    split: str | None = None
    folds: int = 5
    group: str | None = None
    seed: int = 0
    target: str = "label"
    name: str = "tuned"
    media_root: Path | str | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """How it is done; none of it changes a number.

    Attributes
    ----------
    workers : int, optional
        Processes that decode.
    timeout : float
        Seconds after which an utterance is given up.
    memory : int
        Bytes that the inputs of trainings may take.
    tensorboard : bool
    """

    workers: int | None = None
    timeout: float = 600.0
    memory: int = 4 << 30
    tensorboard: bool = False


def check(request: Request) -> None:
    """Refuse what no plan could be made of, whatever is in the store.

    Raises
    ------
    UsageError
        Naming the flag.
    """
    modalities = [modality for modality, _ in request.encoders]
    if not modalities:
        raise UsageError("name at least one encoder: --text, --audio or --video")
    for modality in modalities:
        if modalities.count(modality) > 1:
            raise UsageError(f"--{modality}: one encoder at a time; call it once for each")
    if request.design not in DESIGNS:
        raise UsageError(f"--design {request.design!r}: use {' or '.join(DESIGNS)}")
    if request.align and (request.split is not None or request.design != "three-way"):
        raise UsageError(
            "--align: frames are aligned between the two encoders of a fold, which --design three-way alone has; leave "
            "--align out"
        )
    if request.seed < 0:
        raise UsageError(f"--seed {request.seed}: use 0 or a number above it")
    checked_name(request.name, "--name")
