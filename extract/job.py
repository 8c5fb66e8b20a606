"""What the extraction job is to make, and of which utterances; resumable, one row's fault its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.extract.encoders.base import Encoder, Output
from mixed_signals.extract.media import Clip
from mixed_signals.extract.media_hashes import ABSENT, media_sizes
from mixed_signals.extract.sources import Sources, require_source
from mixed_signals.store import FeatureSet, Status, Store, UsageError
from mixed_signals.store.planning import Plan, plan_rows
from mixed_signals.store.provenance import Recipe, feature_name

_RUN = 64  # utterances of like length that stay together, if there are so many
_LEAST = 0.1  # of the mean length, what an utterance counts for at least where shards are dealt
_BYTES_PER_SECOND = 32_000  # of media whose length is not known: enough to put like beside like


@dataclass(frozen=True)
class Task:
    """One feature set to make: the encoder and which of its outputs, where it goes, and which rows of it.

    Attributes
    ----------
    encoder : Encoder
    number : int
        Which of the encoder's outputs.
    recipe : Recipe
        The output's, with the precision of what is kept.
    path : Path
        The feature set's file.
    key : str
        The feature set's key in the store.
    plan : Plan
        Of the rows of the file.
    members : ndarray of int, shape (N,)
        The corpus positions of the rows of the file: all of them, unless it is a shard.
    row_hashes : ndarray of bytes, shape (N,)
        What each row is made of.
    entry_hashes : ndarray of bytes, shape (N,)
        What the corpus says of each row.
    retry_failed : bool
        Whether rows that failed are tried again.
    gone : ndarray of str
        Utterances whose media file is not there any more, but whose vector is, and is kept.
    trained_on : tuple of str
        Ids of the utterances that the encoder's weights were trained on.
    without : int
        How many of the rows to be made have nothing to be made of: no text, no media that is there.
    left_out : mapping of int to str
        Rows of the file that are missing on purpose, and why.
    source : mapping
        What else the feature set's provenance says (`FeatureWriter`).
    """

    encoder: Encoder
    number: int
    recipe: Recipe
    path: Path
    key: str
    plan: Plan
    members: np.ndarray
    row_hashes: np.ndarray
    entry_hashes: np.ndarray
    retry_failed: bool
    gone: np.ndarray
    trained_on: tuple[str, ...]
    without: int
    left_out: Mapping[int, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Output:
        """What the encoder says of this feature set."""
        return self.encoder.outputs[self.number]

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not len(self.members) or (not len(self.plan.rows) and self.plan.current and not self.misstated)

    @property
    def misstated(self) -> bool:
        """Whether the file that is there does not say what trained the encoder, or what else is to be said."""
        if not self.path.exists():
            return False
        existing = FeatureSet(self.path)
        return not existing.virtual and not existing.says(self.trained_on, self.source)


@dataclass(frozen=True)
class Shard:
    """One of several parts of a job that are worked on apart.

    Attributes
    ----------
    number, of : int
        From 1 to `of`.
    """

    number: int
    of: int

    def members(self, lengths: np.ndarray) -> np.ndarray:
        """Return the corpus positions of this shard, ascending."""
        return np.flatnonzero(deal(lengths, self.of) == self.number)


def deal(lengths: np.ndarray, of: int) -> np.ndarray:
    """Say which of several shards each utterance is in.

    Sorted by length they are cut into runs of neighbours, each as long in all as any other, and about a batch if there
    are that many; the runs are dealt out to and fro. So what is encoded together needs little padding, and a large
    shard has utterances of every length; one of less than two batches is a single run.

    Parameters
    ----------
    lengths : ndarray of float, shape (N,)
    of : int
        How many shards.

    Returns
    -------
    ndarray of int, shape (N,)
        From 1 to `of`.
    """
    order = np.argsort(lengths, kind="stable")
    n_runs = of * max(1, len(order) // (of * _RUN))
    least = lengths.mean() * _LEAST if len(order) else 0.0
    costs = np.maximum(lengths[order], least or 1.0)
    middles = np.cumsum(costs) - costs / 2
    turn = (middles / (costs.sum() or 1.0) * n_runs).astype(int) % (2 * of)
    dealt = np.empty(len(order), int)
    dealt[order] = np.minimum(turn, 2 * of - 1 - turn) + 1
    return dealt


def plan(
    store: Store,
    encoders: Sequence[Encoder],
    *,
    name: str = "",
    store_dtype: str = "float32",
    retry_failed: bool = False,
    shard: Shard | None = None,
) -> list[Task]:
    """Say what would be made, without making anything.

    Parameters
    ----------
    store : Store
    encoders : sequence of Encoder
        From `make_encoder`; a task for each of their outputs.
    name : str
        Tells the feature sets apart from others of the same encoders: ``<encoder>.<name>``.
    store_dtype : str
        Precision of what is kept: float32 or float16.
    retry_failed : bool
        Whether rows that failed before are tried again.
    shard : Shard, optional
        Do this part of the rows only, in a file of its own.

    Raises
    ------
    UsageError
        If a precision is unknown, a feature set of its name was made by another recipe, two would be called the same,
        the corpus has nothing for an encoder to read, the media root is gone, or there are shards of another number.
    """
    for encoder in {encoder.modality: encoder for encoder in reversed(encoders)}.values():
        require_source(store, encoder.modality, encoder.name)
    sources = Sources(store)
    tasks: dict[str, Task] = {}
    for encoder in encoders:
        for number, output in enumerate(encoder.outputs):
            recipe = replace(output.recipe, store_dtype=store_dtype)
            called = feature_name(recipe.encoder, output.layer, output.pooling, name)
            task = _task(store, sources, encoder, number, recipe, called, retry_failed, shard)
            if task.key in tasks:
                raise UsageError(
                    f"{task.key}: two encoders would make a feature set of this name; leave one out"
                )
            tasks[task.key] = task
    if shard is not None:
        refuse_other_shards(store, tasks, shard.of)
    return list(tasks.values())


def refuse_other_shards(store: Store, keys: Collection[str], of: int) -> None:
    """Refuse to make shards that could not be merged with those that are there.

    Raises
    ------
    UsageError
        If there are shards of another number.
    """
    for key, shards in store.shards().items():
        others = sorted({shard.of for shard in shards} - {of})
        if key in keys and others:
            raise UsageError(
                f"{shards[0].path.parent}: there are shards of {others[0]} of {key}, and this would make shards of "
                f"{of}; go on with --shard I/{others[0]} or as many --devices, or remove them"
            )


def _task(
    store: Store,
    sources: Sources,
    encoder: Encoder,
    number: int,
    recipe: Recipe,
    called: str,
    retry_failed: bool,
    shard: Shard | None,
) -> Task:
    corpus, modality = store.corpus, recipe.modality
    path, hashes, gone = store.feature_path(modality, called), sources.row_hashes(modality), corpus.ids[:0]
    entries = corpus.entry_hash_bytes(modality)
    existing = FeatureSet(path) if path.exists() else None
    if existing is not None and modality != "text":
        hashes, gone = _keep_gone(store, existing, hashes, sources.hashes_of_media)
    todo = plan_rows(existing, recipe, corpus.id_bytes, hashes, entries, retry_failed=retry_failed)
    members = np.arange(len(corpus))
    if shard is not None:
        members = np.intersect1d(
            _not_there(existing, todo, corpus.id_bytes, entries),
            shard.members(rough_lengths(store, modality)),
        )
        path = store.shard_path(modality, called, shard.number, shard.of)
        existing = FeatureSet(path) if path.exists() else None
        todo = plan_rows(
            existing,
            recipe,
            corpus.id_bytes[members],
            hashes[members],
            entries[members],
            retry_failed=retry_failed,
        )
    return Task(
        encoder=encoder,
        number=number,
        recipe=recipe,
        path=path,
        key=f"{modality}/{called}",
        plan=todo,
        members=members,
        row_hashes=hashes[members],
        entry_hashes=entries[members],
        retry_failed=retry_failed,
        gone=gone,
        trained_on=encoder.trained_on,
        without=int(sources.absent(modality)[members[todo.rows]].sum()),
    )


def _not_there(existing: FeatureSet | None, todo: Plan, ids: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Return the rows that the present file lacks, also those of which the corpus says something else now.

    One that reads from its shards lacks all of them: they are planned against the shards.
    """
    if existing is None or existing.virtual:
        return np.arange(len(ids))
    elsewhere = existing.entry_hash_bytes[existing.find(ids)] != entries
    return np.union1d(todo.rows, np.flatnonzero(elsewhere))


def lacking(task: Task, ids: np.ndarray) -> np.ndarray:
    """Return which rows are to be in the shards of a task that is planned whole, ascending.

    Parameters
    ----------
    task : Task
    ids : ndarray of bytes, shape (N,)
        The corpus's utterances.
    """
    existing = FeatureSet(task.path) if task.path.exists() else None
    return _not_there(existing, task.plan, ids, task.entry_hashes)


def rough_lengths(store: Store, modality: str) -> np.ndarray:
    """Return about how long each utterance is, without decoding anything, shape (N,).

    Bytes of text; seconds of media, from start and end, or else from the file's size.
    """
    table = store.corpus.utterances
    if modality == "text":
        return np.array([len(text.encode()) for text in table["text"]], np.float64)
    start, end = table["start"].fillna(0.0), table["end"]
    sizes = media_sizes(store, table.loc[end.isna(), "media"].unique())
    seconds = {media: size / _BYTES_PER_SECOND for media, size in sizes.items()}
    return (end - start).fillna(table["media"].map(seconds)).fillna(0.0).to_numpy(np.float64)


def clips_of(store: Store, *, with_media: bool, rows: np.ndarray | None = None) -> list[Clip]:
    """Return the utterances, or those at some positions, as readers see them, in corpus order."""
    corpus = store.corpus
    table = corpus.utterances if rows is None else corpus.utterances.iloc[rows]
    return [
        Clip(
            utterance_id=utterance,
            text=text,
            media=corpus.media_path(media) if with_media else None,
            start=None if math.isnan(start) else start,
            end=None if math.isnan(end) else end,
        )
        for utterance, text, media, start, end in zip(
            table["utterance_id"], table["text"], table["media"], table["start"], table["end"], strict=True
        )
    ]


def _keep_gone(
    store: Store, existing: FeatureSet, hashes: np.ndarray, of_media: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Let a row stay while its media file is not there (a disk that is not mounted, say); it must be the same cut."""
    absent = (store.corpus.utterances["media"].map(of_media) == ABSENT).to_numpy()
    old = existing.find(store.corpus.id_bytes)
    same_cut = existing.entry_hash_bytes[old] == store.corpus.cut_hash_bytes
    gone = absent & same_cut & (old >= 0) & (existing.status[old] != Status.PENDING)
    return np.where(gone, existing.row_hash_bytes[old], hashes), store.corpus.ids[gone & existing.ok[old]]
