"""How much of the disk the encoders of a job and their feature sets will take.

Of a network with P parameters, of which T are trained, float32 all of them, there is in the end a checkpoint of 4 P
bytes. While it is trained there are the best T so far, 4 T bytes, and the state to go on from: T and the two moments
that AdamW keeps of each, 12 T bytes. Each file is written beside the one that it takes the place of, so that there are
twice as many for a moment: 32 T bytes.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

from mixed_signals.extract.checkpoints import Outline
from mixed_signals.extract.encoders.transformer import TransformerEncoder
from mixed_signals.extract.finetune.job import Family, Job
from mixed_signals.extract.finetune.network import let_learn
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.finetune.vectors import own_file
from mixed_signals.extract.hub import SIDE_FILES

_FLOAT = 4
_OF_ROW = 400  # bytes of a feature set's row beside its vector: ids, hashes, room for a reason


@dataclass(frozen=True)
class Room:
    """Bytes of the disk that a job still needs, about.

    Attributes
    ----------
    n_checkpoints, checkpoints : int
        How many there will be more, and their bytes.
    features : int
        Of the feature sets that are not there yet, and of what they are put together from.
    at_work : int
        That is needed beside these while encoders are trained, and free again afterwards.
    free : int
        On the store's disk now.
    """

    n_checkpoints: int
    checkpoints: int
    features: int
    at_work: int
    free: int

    @property
    def to_stay(self) -> int:
        """What is taken in the end."""
        return self.checkpoints + self.features

    @property
    def enough(self) -> bool:
        """Whether there is as much."""
        return self.to_stay + self.at_work <= self.free


def room_for(job: Job, at_once: int = 1) -> Room:
    """Say what a job still needs; no weight is read.

    Parameters
    ----------
    job : Job
    at_once : int
        How many encoders are trained at the same time.

    Raises
    ------
    UsageError, MixedSignalsError
        If what is to be trained cannot be told: the network's configuration makes none, it has no blocks that can be
        told apart, or peft is wanted and not installed.
    """
    kept, working = list[int](), list[int]()
    for family in job.families:
        n = sum(of is family for of, _ in job.todo)
        if n:
            checkpoint, at_work = sizes(family.encoder, job.request.settings)
            kept += [checkpoint] * n
            working += [at_work] * min(n, at_once)
    return Room(
        n_checkpoints=len(kept),
        checkpoints=sum(kept),
        features=sum(_features(job, family) for family in job.families),
        at_work=sum(sorted(working)[-at_once:]),
        free=shutil.disk_usage(job.store.path).free,
    )


def sizes(encoder: TransformerEncoder, settings: Settings) -> tuple[int, int]:
    """Return the bytes of a checkpoint that is trained from an encoder, and those that are needed beside it meanwhile.

    Parameters
    ----------
    encoder : TransformerEncoder
        Not loaded.
    settings : Settings
    """
    outline = copy.copy(encoder)
    outline.checkpoint = Outline(**vars(encoder.checkpoint))
    network = outline.network()
    whole = outline.checkpoint.model() if encoder.checkpoint.config.get("is_encoder_decoder") else network
    checkpoint = _FLOAT * sum(one.numel() for one in whole.state_dict().values())
    let_learn(network, encoder, settings)
    trained = _FLOAT * sum(one.numel() for one in network.parameters() if one.requires_grad)
    folder = encoder.checkpoint.folder
    checkpoint += sum(path.stat().st_size for pattern in SIDE_FILES for path in folder.glob(pattern))
    return checkpoint, max(8 * trained - checkpoint, trained)


def _features(job: Job, family: Family) -> int:
    """Return the bytes of what is not there yet of a family's feature sets."""
    width = family.encoder.width
    if job.design.kind == "nested":
        width = max(1, len(job.labels.classes))
    made = set(job.store.feature_sets())
    n = sum(key not in made for key in family.keys)
    if job.design.mixed:
        files: list[Path] = [own_file(job, family, training) for training in job.design.trainings]
        n += sum(not path.exists() for path in files)
    return n * len(job.store.corpus) * (_FLOAT * width + _OF_ROW)
