"""How a job is cut into shards, and which of them are still to be made.

A shard is what is worked on, what is published and what can be lost. The driver keeps a few numbers of each utterance;
texts, media entries and hashes are put together for one shard at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixed_signals.extract.encoders.base import Encoder, NetworkEncoder, PictureReader, SoundReader
from mixed_signals.extract.job import Task, clips_of, deal, lacking, refuse_other_shards, rough_lengths
from mixed_signals.extract.on_ray.parts import Goal, Part
from mixed_signals.extract.pipeline import distinct
from mixed_signals.store import FeatureSet, Store
from mixed_signals.store.folder import ShardFile
from mixed_signals.store.planning import plan_rows
from mixed_signals.store.provenance import MODALITIES

_MOST_BYTES = 128 << 20  # of what a shard's utterances are when they are read
_MOST_ROWS = 4096
_MOST_SECONDS = 3600.0  # of media, where reading them is all the work
_MOST_SHARDS = 99_999  # that the names of shards' files have room for
_LEAST_ROWS = 64  # below which more shards than processors are of no use
_PICTURE_BYTES = 3 * 224 * 224  # what most networks see of a picture


@dataclass
class Dealt:
    """The tasks of one modality, dealt out into shards.

    Attributes
    ----------
    store : Store
    tasks : list of Task
        Planned whole.
    encoders : list of Encoder
    of : int
        How many shards.
    done : int
        How many of them need no work any more.
    before : list of dict of int to int
        By task, of shards that are made again: when the file that is there was written (nanoseconds), by number.
    empty : list of Path
        Files of shards that no utterance is in any more.
    """

    store: Store
    tasks: list[Task]
    encoders: list[Encoder]
    of: int
    done: int = 0
    before: list[dict[int, int]] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    _order: np.ndarray = field(default_factory=lambda: np.empty(0, int))  # corpus positions, shard by shard
    _ends: np.ndarray = field(default_factory=lambda: np.zeros(1, int))
    _wanted: list[np.ndarray] = field(default_factory=list)  # for each task, which corpus positions
    _lengths: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def modality(self) -> str:
        """text, audio or video."""
        return self.tasks[0].recipe.modality

    @property
    def numbers(self) -> list[int]:
        """The shards that are to be made."""
        return (np.flatnonzero(np.diff(self._ends)) + 1).tolist()

    @property
    def n_utterances(self) -> int:
        """How many utterances the shards hold that are to be made."""
        return len(self._order)

    @property
    def rows(self) -> list[int]:
        """How many rows are to be made, by task."""
        return [int(wanted.sum()) for wanted in self._wanted]

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What workers need to know of the feature sets."""
        return tuple(
            Goal(
                modality=task.recipe.modality,
                name=task.key.partition("/")[2],
                encoder=next(n for n, one in enumerate(self.encoders) if one is task.encoder),
                number=task.number,
                recipe=task.recipe,
                dimensions=task.output.dimensions,
                trained_on=task.trained_on,
            )
            for task in self.tasks
        )

    def parts(self) -> Iterator[Part]:
        """Yield the shards, one at a time."""
        corpus = self.store.corpus
        entries = self.tasks[0].entry_hashes
        for number in self.numbers:
            rows = self._order[self._ends[number - 1] : self._ends[number]]
            wanted = [np.flatnonzero(mine[rows]) for mine in self._wanted]
            yield Part(
                number=number,
                ids=corpus.id_bytes[rows],
                entries=entries[rows],
                clips=clips_of(self.store, with_media=self.modality != "text", rows=rows),
                lengths=self._lengths[rows],
                wanted=wanted,
                hashes=[task.row_hashes[rows[mine]] for task, mine in zip(self.tasks, wanted, strict=True)],
            )


def deal_all(store: Store, tasks: Sequence[Task], n_workers: int = 1) -> list[Dealt]:
    """Deal tasks out into shards, modality by modality; those that lack nothing are in none.

    Parameters
    ----------
    store : Store
    tasks : sequence of Task
        From `plan`, without a shard.
    n_workers : int
        How many shards can be worked on at once.
    """
    dealt = []
    for modality in MODALITIES:
        mine = [task for task in tasks if task.recipe.modality == modality and not task.idle]
        if mine:
            dealt.append(deal_out(store, mine, n_workers))
    return dealt


def deal_out(store: Store, tasks: Sequence[Task], n_workers: int = 1) -> Dealt:
    """Deal the rows that tasks of one modality lack out into shards; shards that are there and complete need no work.

    Parameters
    ----------
    store : Store
    tasks : sequence of Task
        From `plan`, without a shard.
    n_workers : int
        How many shards can be worked on at once.

    Raises
    ------
    UsageError
        If there are shards of several numbers, or made by another recipe.
    """
    ids = store.corpus.id_bytes
    modality = tasks[0].recipe.modality
    dealt = Dealt(store, list(tasks), distinct(task.encoder for task in tasks), of=1)
    lengths = rough_lengths(store, modality)
    missing = [lacking(task, ids) for task in tasks]
    there = {key: shards for key, shards in store.shards().items() if key in {task.key for task in tasks}}
    numbers = {shard.of for shards in there.values() for shard in shards}
    rows = np.unique(np.concatenate(missing))
    dealt.of = max(numbers) if numbers else count_shards(dealt.encoders, lengths[rows], n_workers)
    refuse_other_shards(store, there, dealt.of)
    shard_of = deal(lengths, dealt.of)
    _leave_in_their_shards(shard_of, there, ids)
    for task, mine in zip(tasks, missing, strict=True):
        wanted = np.zeros(len(ids), bool)
        wanted[mine] = True
        before = {}
        for shard in there.get(task.key, []):
            members = mine[shard_of[mine] == shard.number]
            if not len(members):
                dealt.empty.append(shard.path)
            elif is_complete(shard.path, task, members, ids, retry_failed=task.retry_failed):
                wanted[members] = False
            else:
                before[shard.number] = shard.path.stat().st_mtime_ns
        dealt._wanted.append(wanted)
        dealt.before.append(before)
    todo = np.flatnonzero(np.logical_or.reduce(dealt._wanted))
    dealt._order = todo[np.argsort(shard_of[todo], kind="stable")]
    dealt._ends = np.concatenate([[0], np.cumsum(np.bincount(shard_of[todo], minlength=dealt.of + 1)[1:])])
    dealt._lengths = lengths
    dealt.done = len(np.unique(shard_of[rows])) - len(dealt.numbers)
    return dealt


def _leave_in_their_shards(shard_of: np.ndarray, there: dict[str, list[ShardFile]], ids: np.ndarray) -> None:
    """Let utterances that are in a shard's file stay in that shard, however the others would be dealt out now."""
    order = np.argsort(ids, kind="stable")
    in_order = ids[order]
    for shard in (shard for shards in there.values() for shard in shards):
        mine = FeatureSet(shard.path).id_bytes
        at = order.take(np.searchsorted(in_order, mine), mode="clip")
        shard_of[at[ids[at] == mine]] = shard.number


def is_complete(path: Path, task: Task, members: np.ndarray, ids: np.ndarray, *, retry_failed: bool) -> bool:
    """Whether a shard's file has these rows of the corpus, each of them done and made of what it is to be made of."""
    plan = plan_rows(
        FeatureSet(path),
        task.recipe,
        ids[members],
        task.row_hashes[members],
        task.entry_hashes[members],
        retry_failed=retry_failed,
    )
    return plan.current and not len(plan.rows)


def count_shards(encoders: Sequence[Encoder], lengths: np.ndarray, n_workers: int = 1) -> int:
    """Return in how many shards utterances are dealt out.

    So many that what is read of a shard takes about 128 MB at most, that it has 4,096 utterances and an hour of media
    at most, and that there is one for each worker, if there are utterances enough.

    Parameters
    ----------
    encoders : sequence of Encoder
        Of one modality.
    lengths : ndarray of float, shape (N,)
        Of the utterances: bytes of text, seconds of media.
    n_workers : int
    """
    n, total = len(lengths), float(lengths.sum())
    if not n:
        return 1
    n_bytes = sum(_bytes_per_unit(encoder, total / n) for encoder in encoders) * total
    seconds = total if encoders[0].modality != "text" else 0.0
    needed = max(n_bytes / _MOST_BYTES, n / _MOST_ROWS, seconds / _MOST_SECONDS)
    return min(max(math.ceil(needed), min(n_workers, n // _LEAST_ROWS), 1), _MOST_SHARDS)


def _bytes_per_unit(encoder: Encoder, mean: float) -> float:
    """Return about how many bytes a reader gives of a second of media, for a network."""
    reader = encoder.reader
    if not isinstance(encoder, NetworkEncoder) or mean <= 0:
        return 0.0
    if isinstance(reader, SoundReader):
        return 4.0 * reader.rate
    if isinstance(reader, PictureReader):
        return len(reader.times(0.0, mean)) / mean * _PICTURE_BYTES
    return 0.0  # of text there is little, and `_MOST_ROWS` is met first
