"""The extraction job: plan what is to be made, encode it, write it; resumable, one row's fault its own."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixed_signals.extract.encoders import make_encoder
from mixed_signals.extract.encoders.base import Encoded, Encoder
from mixed_signals.extract.media import Clip
from mixed_signals.store import FeatureSet, FeatureWriter, MixedSignalsError, Status, Store, UsageError
from mixed_signals.store.features import Plan, plan_rows
from mixed_signals.store.provenance import file_hash, library_versions, media_hash, text_hash

_ABSENT = "absent"  # stands for the hash of a media file that is not there
_CHUNK = 8  # utterances that one task of a worker process holds


@dataclass(frozen=True)
class Task:
    """One feature set to make: the encoder, where it goes, and which rows of it.

    Attributes
    ----------
    encoder : Encoder
    path : Path
        The feature set's file.
    plan : Plan
    row_hashes : list of str, length N
        What each row is made of, in corpus order.
    gone : int
        Rows whose media file is not there any more, but whose vector is, and is kept.
    """

    encoder: Encoder
    path: Path
    plan: Plan
    row_hashes: list[str]
    gone: int

    @property
    def key(self) -> str:
        """The feature set's key in the store."""
        return f"{self.encoder.recipe.modality}/{self.path.name.removesuffix('.h5')}"


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


def plan(store: Store, encoders: Sequence[tuple[str, str]], *, retry_failed: bool = False) -> list[Task]:
    """Say what would be made, without making anything.

    Parameters
    ----------
    store : Store
    encoders : sequence of (modality, encoder name)
    retry_failed : bool
        Whether rows that failed before are tried again.

    Raises
    ------
    UsageError
        If an encoder is unknown, a feature set of its name was made by another recipe, or the media root is gone.
    """
    made = [make_encoder(modality, name) for modality, name in encoders]
    needs_media = any(encoder.recipe.modality != "text" for encoder in made)
    media_hashes = _media_hashes(store) if needs_media else {}
    tasks = []
    for encoder in made:
        hashes = _row_hashes(store, encoder.recipe.modality, media_hashes)
        path = store.feature_path(encoder.recipe.modality, encoder.recipe.encoder)
        existing = FeatureSet(path) if path.exists() else None
        gone = 0
        if existing is not None and encoder.recipe.modality != "text":
            hashes, gone = _keep_gone(store, existing, hashes, media_hashes)
        todo = plan_rows(existing, encoder.recipe, list(store.corpus.ids), hashes, retry_failed=retry_failed)
        tasks.append(Task(encoder, path, todo, hashes, gone))
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
        writer = FeatureWriter(
            task.path,
            task.plan,
            encoder.recipe,
            list(store.corpus.ids),
            task.row_hashes,
            encoder.dimensions,
            library_versions(encoder.libraries),
        )
        with writer:
            for chunk, encoded in _encoded(encoder, _clips(store), rows, workers or os.cpu_count() or 1):
                writer.write(chunk, *_columns(encoded, len(encoder.dimensions)))
                if on_progress is not None:
                    on_progress(len(chunk))
    return Outcome(FeatureSet(task.path), rows, time.perf_counter() - started)


def _encoded(
    encoder: Encoder, clips: list[Clip], rows: np.ndarray, workers: int
) -> Iterator[tuple[np.ndarray, list[Encoded]]]:
    if encoder.in_processes:
        chunks = _chunks(rows, _CHUNK)
        yield from _in_processes(encoder, clips, chunks, min(workers, len(chunks)))
        return
    if not len(rows):
        return
    encoder.load()
    try:
        # Texts of like length share a batch, so little of it is padding; results go to their own rows.
        by_length = np.array(sorted(rows, key=lambda row: len(clips[row].text)))
        for chunk in _chunks(by_length, max(encoder.batch_size, _CHUNK)):
            yield chunk, encoder.encode([clips[row] for row in chunk])
    finally:
        encoder.close()


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


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
    encoder: Encoder, clips: list[Clip], chunks: list[np.ndarray], workers: int
) -> Iterator[tuple[np.ndarray, list[Encoded]]]:
    if not chunks:
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(encoder,)
    )
    try:
        futures: dict[Future[list[Encoded]], np.ndarray] = {
            pool.submit(_work, [clips[row] for row in chunk]): chunk for chunk in chunks
        }
        for future in as_completed(futures):
            chunk = futures.pop(future)
            try:
                yield chunk, future.result()
            except BrokenProcessPool as error:
                ids = ", ".join(clips[row].utterance_id for row in chunk[:3])
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
            vectors[row] = one.vector
    return vectors, [one.status for one in encoded], [one.reason for one in encoded]


def _clips(store: Store) -> list[Clip]:
    corpus = store.corpus
    table = corpus.utterances
    return [
        Clip(
            utterance_id=utterance,
            text=text,
            media=corpus.media_path(media),
            start=None if np.isnan(start) else start,
            end=None if np.isnan(end) else end,
        )
        for utterance, text, media, start, end in zip(
            corpus.ids, table["text"], table["media"], table["start"], table["end"], strict=True
        )
    ]


def _media_hashes(store: Store) -> dict[str, str]:
    """Return the hash of every media file of the corpus by its path there, `_ABSENT` where there is no file."""
    root = store.corpus.media_root
    if root is not None and not root.is_dir():
        raise UsageError(f"{root}: the media root is not there (moved, or not mounted?)")
    hashes = {}
    for media in set(store.corpus.utterances["media"]):
        path = store.corpus.media_path(media)
        hashes[media] = file_hash(path) if path is not None and path.is_file() else _ABSENT
    return hashes


def _keep_gone(
    store: Store, existing: FeatureSet, hashes: list[str], media_hashes: dict[str, str]
) -> tuple[list[str], int]:
    """Let a row keep its vector while its media file is not there (a disk that is not mounted, say)."""
    made_of = dict(zip(existing.ids[existing.ok], existing.row_hashes[existing.ok], strict=True))
    kept, gone = list(hashes), 0
    for row, (utterance, media) in enumerate(
        zip(store.corpus.ids, store.corpus.utterances["media"], strict=True)
    ):
        if media and media_hashes[media] == _ABSENT and utterance in made_of:
            kept[row] = made_of[utterance]
            gone += 1
    return kept, gone


def _row_hashes(store: Store, modality: str, media_hashes: dict[str, str]) -> list[str]:
    table = store.corpus.utterances
    if modality == "text":
        return [text_hash(text) for text in table["text"]]
    return [
        media_hash(media_hashes[media], start, end)
        for media, start, end in zip(table["media"], table["start"], table["end"], strict=True)
    ]
