"""The extraction job: plan what is to be made, encode it, write it; resumable, one row's fault its own."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mixed_signals.extract.encoders import make_encoder
from mixed_signals.extract.encoders.base import Encoded, Encoder
from mixed_signals.extract.media import Clip
from mixed_signals.extract.media_hashes import ABSENT, NONE, media_hashes
from mixed_signals.store import FeatureSet, FeatureWriter, MixedSignalsError, Status, Store
from mixed_signals.store.planning import Plan, plan_rows
from mixed_signals.store.provenance import Recipe, feature_name, library_versions, row_hashes

_CHUNK = 8  # utterances that share a batch at the least: one task of a worker process


@dataclass(frozen=True)
class Task:
    """One feature set to make: the encoder, where it goes, and which rows of it.

    Attributes
    ----------
    encoder : Encoder
    recipe : Recipe
        The encoder's, with the precision of what is kept.
    path : Path
        The feature set's file.
    plan : Plan
    row_hashes : ndarray of bytes, shape (N,)
        What each row is made of, in corpus order.
    entry_hashes : ndarray of bytes, shape (N,)
        What the corpus says of each row.
    retry_failed : bool
        Whether rows that failed are tried again.
    gone : ndarray of str
        Utterances whose media file is not there any more, but whose vector is, and is kept.
    without : int
        How many of the rows to be made have nothing to be made of: no text, no media that is there.
    """

    encoder: Encoder
    recipe: Recipe
    path: Path
    plan: Plan
    row_hashes: np.ndarray
    entry_hashes: np.ndarray
    retry_failed: bool
    gone: np.ndarray
    without: int

    @property
    def key(self) -> str:
        """The feature set's key in the store."""
        return f"{self.recipe.modality}/{self.path.name.removesuffix('.h5')}"


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    Attributes
    ----------
    features : FeatureSet
        As it is on disk now.
    rows : ndarray of int
        The rows that were worked on.
    seconds : float
        Wall time.
    """

    features: FeatureSet
    rows: np.ndarray
    seconds: float


def plan(
    store: Store,
    encoders: Sequence[tuple[str, str]],
    *,
    name: str = "",
    store_dtype: str = "float32",
    retry_failed: bool = False,
) -> list[Task]:
    """Say what would be made, without making anything.

    Parameters
    ----------
    store : Store
    encoders : sequence of (modality, encoder name)
    name : str
        Tells the feature sets apart from others of the same encoders: ``<encoder>.<name>``.
    store_dtype : str
        Precision of what is kept: float32 or float16.
    retry_failed : bool
        Whether rows that failed before are tried again.

    Raises
    ------
    UsageError
        If an encoder or a precision is unknown, a feature set of its name was made by another recipe, or the media
        root is gone.
    """
    made = [make_encoder(modality, encoder) for modality, encoder in encoders]
    needs_media = any(encoder.recipe.modality != "text" for encoder in made)
    of_media = media_hashes(store) if needs_media else {}
    tasks = []
    for encoder in made:
        recipe = replace(encoder.recipe, store_dtype=store_dtype)
        hashes = _row_hashes(store, recipe.modality, of_media)
        path = store.feature_path(recipe.modality, feature_name(recipe.encoder, name=name))
        existing = FeatureSet(path) if path.exists() else None
        gone = store.corpus.ids[:0]
        if existing is not None and recipe.modality != "text":
            hashes, gone = _keep_gone(store, existing, hashes, of_media)
        entries = store.corpus.entry_hash_bytes(recipe.modality)
        todo = plan_rows(existing, recipe, store.corpus.id_bytes, hashes, entries, retry_failed=retry_failed)
        without = int(_without_source(store, recipe.modality, of_media)[todo.rows].sum())
        tasks.append(Task(encoder, recipe, path, todo, hashes, entries, retry_failed, gone, without))
    return tasks


def prepare(tasks: Sequence[Task]) -> None:
    """Bring what the tasks need onto this machine (weights), before any of them begins.

    Raises
    ------
    MixedSignalsError
        If weights cannot be had, or the system lacks a library.
    """
    for task in tasks:
        if len(task.plan.rows):
            task.encoder.prepare()


def run(
    store: Store, task: Task, *, workers: int | None = None, on_progress: Callable[[int], None] | None = None
) -> Outcome:
    """Make one feature set. What is written stays, whatever happens later.

    Parameters
    ----------
    store : Store
    task : Task
        From `plan`, after `prepare`.
    workers : int, optional
        Processes for an encoder that is spread over processes; all cores by default.
    on_progress : callable, optional
        Called with the number of rows just written.

    Raises
    ------
    MixedSignalsError
        If a worker process dies, or another process writes the same feature set.
    """
    started = time.perf_counter()
    encoder, rows = task.encoder, task.plan.rows
    if len(rows) or not task.plan.current:
        clips = _clips(store, with_media=task.recipe.modality != "text")
        writer = FeatureWriter(
            task.path,
            task.recipe,
            store.corpus.id_bytes,
            task.row_hashes,
            encoder.dimensions,
            entry_hashes=task.entry_hashes,
            versions=library_versions(encoder.libraries),
            retry_failed=task.retry_failed,
            batches=lambda todo: _batches(encoder, clips, todo),
        )
        with writer:
            for batch, encoded in _encoded(encoder, clips, writer.batches, workers or os.cpu_count() or 1):
                written = writer.write(batch, *_columns(encoded, len(encoder.dimensions)))
                if on_progress is not None:
                    on_progress(written)
    return Outcome(FeatureSet(task.path), rows, time.perf_counter() - started)


def _batches(encoder: Encoder, clips: list[Clip], rows: np.ndarray) -> list[np.ndarray]:
    """Return the rows in batches; texts of like length share one, so little of it is padding."""
    if not encoder.in_processes:
        rows = np.array(sorted(rows, key=lambda row: len(clips[row].text)))
    size = max(encoder.batch_size, _CHUNK)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _encoded(
    encoder: Encoder, clips: list[Clip], batches: list[np.ndarray], workers: int
) -> Iterator[tuple[np.ndarray, list[Encoded]]]:
    if encoder.in_processes:
        yield from _in_processes(encoder, clips, batches, min(workers, len(batches)))
        return
    if not batches:
        return
    encoder.load()
    try:
        for batch in batches:
            yield batch, encoder.encode([clips[row] for row in batch])
    finally:
        encoder.close()


_worker_encoder: Encoder | None = None


def _begin_worker(encoder: Encoder) -> None:
    """Load the encoder once in a worker process, which uses one thread and leaves Ctrl-C to its parent."""
    import signal
    from multiprocessing.util import Finalize

    global _worker_encoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    encoder.load()
    Finalize(None, encoder.close, exitpriority=1)  # earlier than atexit, while native threads still run
    _worker_encoder = encoder


def _work(clips: list[Clip]) -> list[Encoded]:
    if _worker_encoder is None:
        raise RuntimeError("the worker process has no encoder")
    return _worker_encoder.encode(clips)


def _in_processes(
    encoder: Encoder, clips: list[Clip], batches: list[np.ndarray], workers: int
) -> Iterator[tuple[np.ndarray, list[Encoded]]]:
    if not batches:
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(encoder,)
    )
    try:
        futures: dict[Future[list[Encoded]], np.ndarray] = {
            pool.submit(_work, [clips[row] for row in batch]): batch for batch in batches
        }
        for future in as_completed(futures):
            batch = futures.pop(future)
            try:
                yield batch, future.result()
            except BrokenProcessPool as error:
                ids = ", ".join(clips[row].utterance_id for row in batch[:3])
                raise MixedSignalsError(
                    f"{encoder.recipe.encoder}: a worker process died, perhaps at one of {ids}, ...; "
                    "what was done is kept"
                ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _columns(encoded: Sequence[Encoded], width: int) -> tuple[np.ndarray, list[Status], list[str]]:
    vectors = np.full((len(encoded), width), np.nan, np.float32)
    for row, one in enumerate(encoded):
        if one.vector is not None:
            if one.vector.shape != (width,):
                raise ValueError(f"the encoder gave a vector of shape {one.vector.shape}, not ({width},)")
            vectors[row] = one.vector
    return vectors, [one.status for one in encoded], [one.reason for one in encoded]


def _clips(store: Store, *, with_media: bool) -> list[Clip]:
    corpus = store.corpus
    table = corpus.utterances
    return [
        Clip(
            utterance_id=utterance,
            text=text,
            media=corpus.media_path(media) if with_media else None,
            start=None if np.isnan(start) else start,
            end=None if np.isnan(end) else end,
        )
        for utterance, text, media, start, end in zip(
            corpus.ids, table["text"], table["media"], table["start"], table["end"], strict=True
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


def _without_source(store: Store, modality: str, of_media: dict[str, str]) -> np.ndarray:
    """Return which utterances have no text, or no media that is there, shape (N,)."""
    table = store.corpus.utterances
    if modality == "text":
        return (table["text"].str.strip() == "").to_numpy()
    return table["media"].map(of_media).isin([ABSENT, NONE]).to_numpy()


def _row_hashes(store: Store, modality: str, of_media: dict[str, str]) -> np.ndarray:
    """Return what each utterance's vector is made of, shape (N,), bytes."""
    table = store.corpus.utterances
    if modality == "text":
        return store.corpus.text_hash_bytes
    contents = table["media"].map(of_media)
    return row_hashes("media", contents, table["start"], table["end"])
