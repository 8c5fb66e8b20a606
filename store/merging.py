"""Shards become one feature set, when they are complete and verified.

An array job makes a feature set in shards: files of their own, each with some of the corpus's utterances. `merge` takes
them together. It looks at everything before it writes anything: what each shard was made with and what of, whether an
utterance is left without a row that is done, and then every byte. Then the feature set is filled like any other,
rows that it has already stay, and only when all of it is on the disk are the shards removed. So a merge that is killed
at any moment ends right when it is run again.

The store does not know what is in the media now; only an extraction does. It holds shards against what the corpus says
of each utterance, and vectors of one part of one media entry against one another. A shard's row takes the place of the
feature set's where it was made of other media: that is why it was made. Only where the feature set was written later
than the shard nobody can tell, and the merge is refused.

What a merge costs: the shards' bytes are read and checksummed twice (the second time, as a rule, from the system's
memory: first to verify, then to copy) and written once, and the disk is waited for. Memory holds a megabyte of vectors
at a time and a few hundred bytes per utterance.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixed_signals.store.corpus import Corpus
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.features import FeatureSet, Status
from mixed_signals.store.folder import Shard, Store
from mixed_signals.store.locks import sole_writer
from mixed_signals.store.planning import recipe_difference
from mixed_signals.store.terminal import describe_ids
from mixed_signals.store.verify import Corrupt, check_vectors, list_shards, own_file, run_again
from mixed_signals.store.writing import FeatureWriter

_BLOCK_BYTES = 1 << 20  # of vectors copied at a time: they stay in the processor's cache


@dataclass(frozen=True)
class _Part:
    """One shard, opened."""

    shard: Shard
    features: FeatureSet


@dataclass
class _Rows:
    """Where each utterance of the corpus has its row; arrays of shape (N,).

    Attributes
    ----------
    part : ndarray of int
        Which shard; -1 where there is none, or the row that the feature set has stays.
    at : ndarray of int
        Which row of the shard.
    batch : ndarray of int
        Which batch of the shard.
    status : ndarray of uint8
        What the shard says of the row.
    hashes : ndarray of bytes
        What the row is made of.
    again : ndarray of bool
        Where the feature set says `failed`, and the shard does not.
    """

    part: np.ndarray
    at: np.ndarray
    batch: np.ndarray
    status: np.ndarray
    hashes: np.ndarray
    again: np.ndarray


def merge(store: Store, key: str, *, on_progress: Callable[[int], None] | None = None) -> FeatureSet:
    """Make one feature set of its shards, and remove them.

    Parameters
    ----------
    store : Store
    key : str
        The feature set, ``<modality>/<name>``.
    on_progress : callable, optional
        Called with the number of rows just read or written; each row of the shards counts twice.

    Raises
    ------
    UsageError
        If the feature set has no shards.
    MixedSignalsError
        If a shard is corrupt, being written, of another recipe or corpus than the others, not finished or not there.
        Nothing is written then; the message says which shard, and what to do.
    """
    shards = store.shards().get(key, [])
    if not shards:
        known = ", ".join(store.shards()) or "none"
        raise UsageError(f"no shards of {key!r} in {store.path} (there are shards of: {known})")
    if len(sizes := sorted({shard.of for shard in shards})) > 1:
        raise MixedSignalsError(
            f"{shards[0].path.parent}: there are shards of {' and of '.join(map(str, sizes))}; remove those "
            "that are not wanted"
        )
    told = on_progress or (lambda rows: None)
    path = store.feature_path(*key.split("/", 1))
    with ExitStack() as stack:
        for shard in shards:
            stack.enter_context(sole_writer(own_file(store, shard.path)))
        parts = [_Part(shard, FeatureSet(shard.path)) for shard in shards]
        whole = FeatureSet(path) if path.exists() else None
        _compare_kinds(key, parts, whole)
        rows = _find_rows(store, path, parts, whole)
        for part in parts:
            _verify(part, told)
        _write(store, path, parts, rows, told)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        for shard in shards:
            shard.path.unlink()
            for left in shard.path.parent.glob(f".{shard.path.name}.*"):  # the lock; what killed writers left
                left.unlink()
    with suppress(OSError):  # there are shards of other feature sets
        shards[0].path.parent.rmdir()
    return store[key]


def _compare_kinds(key: str, parts: list[_Part], whole: FeatureSet | None) -> None:
    """Refuse shards that are not made alike, or not like the rows that the feature set has."""
    first = parts[0].features
    if first.modality != key.partition("/")[0]:
        raise MixedSignalsError(f"{first.path}: is a feature set of {first.modality}; move it to that folder")
    for other in [*(part.features for part in parts[1:]), *([whole] if whole else [])]:
        if first.recipe_fingerprint != other.recipe_fingerprint:
            what = f"made by another recipe ({recipe_difference(first.recipe, other.recipe)})"
        elif list(first.dimensions) != list(other.dimensions):
            what = "has other dimensions"
        elif first.trained_on != other.trained_on:
            what = "its encoder's weights were trained on other utterances"
        else:
            continue
        raise MixedSignalsError(
            f"{other.path}: {what} than {first.path}; remove the one that is not wanted, then run extract-features "
            "again"
        )


def _find_rows(store: Store, path: Path, parts: list[_Part], whole: FeatureSet | None) -> _Rows:
    """Find the one row of each utterance.

    Raises
    ------
    MixedSignalsError
        If there is none that is done, there are two, or it was made of something else than the corpus says now.
    """
    corpus = store.corpus
    entries = corpus.entry_hash_bytes(parts[0].features.modality)
    rows = _rows_of_shards(corpus, entries, parts)
    made = rows.status != Status.PENDING
    stays = changed = np.zeros(len(corpus), bool)
    if whole is not None:
        here = whole.find(corpus.id_bytes)
        status, hashes, in_shard = whole.status[here], whole.row_hash_bytes[here], rows.part >= 0
        done = (here >= 0) & (status != Status.PENDING)
        changed = done & (whole.entry_hash_bytes[here] != entries)
        differs = done & ~changed & in_shard & (hashes != rows.hashes)
        _refuse_older(path, parts, corpus.ids, differs, rows)
        stays = done & ~changed & ~differs
        rows.again = stays & in_shard & (status == Status.FAILED) & (rows.status != Status.FAILED)
        stays &= ~rows.again
        rows.hashes = np.where(stays, hashes, rows.hashes)
        made |= stays
    if not made.all():
        raise _incomplete(path, parts, rows, corpus.ids, ~made, changed)
    rows.part[stays] = -1
    _compare_media(parts, corpus.ids, entries, rows)
    return rows


def _rows_of_shards(corpus: Corpus, entries: np.ndarray, parts: list[_Part]) -> _Rows:
    """Find each utterance in the shards."""
    n = len(corpus)
    part, at, batch = (np.full(n, -1) for _ in range(3))
    hashes = np.zeros(n, np.result_type(*(one.features.row_hash_bytes for one in parts)))
    rows = _Rows(part, at, batch, np.zeros(n, np.uint8), hashes, np.zeros(n, bool))
    for number, one in enumerate(parts):
        features, here = one.features, one.features.find(corpus.id_bytes)
        has = here >= 0
        if has.sum() < len(features):
            gone = features.ids[np.setdiff1d(np.arange(len(features)), here)]
            raise _changed(one, f"the corpus no longer has {describe_ids(gone.tolist())}", one.shard)
        done = has & (features.status[here] != Status.PENDING)
        if (other := done & (features.entry_hash_bytes[here] != entries)).any():
            said = f"the corpus says something else now of {describe_ids(corpus.ids[other].tolist())}"
            raise _changed(one, said, one.shard)
        if (twice := has & (rows.part >= 0)).any():
            before = parts[rows.part[twice][0]].shard
            said = (
                f"shard {before} has rows of the same utterances: {describe_ids(corpus.ids[twice].tolist())}"
            )
            raise _changed(one, said, before, one.shard)
        here = here[has]
        rows.part[has], rows.at[has], rows.batch[has] = number, here, features.batches[here]
        rows.status[has], rows.hashes[has] = features.status[here], features.row_hash_bytes[here]
    return rows


def _changed(part: _Part, what: str, *shards: Shard) -> MixedSignalsError:
    return MixedSignalsError(
        f"{part.features.path}: {what}; {run_again(*shards)}: it makes only what changed"
    )


def _incomplete(
    path: Path, parts: list[_Part], rows: _Rows, ids: np.ndarray, lacking: np.ndarray, changed: np.ndarray
) -> MixedSignalsError:
    """Return what says which shards are not there, or not finished, or which rows (`lacking`) are in none."""
    shards = [part.shard for part in parts]
    numbers = set(range(1, shards[0].of + 1)) - {shard.number for shard in shards}
    absent = [shards[0]._replace(number=number) for number in sorted(numbers)]
    unfinished = [shards[number] for number in np.unique(rows.part[lacking]) if number >= 0]
    if absent or unfinished:
        why = [f"not there: {list_shards(absent)}"] if absent else []
        why += [f"not finished: {list_shards(unfinished)}"] if unfinished else []
        mend = run_again(*sorted(absent + unfinished))
    elif (lacking & changed).any():
        why = [f"the corpus says something else now of {describe_ids(ids[lacking & changed].tolist())}"]
        mend = "run extract-features again without --shard"
    else:
        why, mend = [f"in none of them: {describe_ids(ids[lacking].tolist())}"], run_again(*shards)
    return MixedSignalsError(f"{path}: its shards are not complete ({', '.join(why)}); {mend}")


def _refuse_older(path: Path, parts: list[_Part], ids: np.ndarray, differs: np.ndarray, rows: _Rows) -> None:
    """Refuse rows that were made of other media than those of the feature set, if that was written after them."""
    written = path.stat().st_mtime_ns
    for number, part in enumerate(parts):
        mine = differs & (rows.part == number)
        if mine.any() and part.shard.path.stat().st_mtime_ns < written:
            raise MixedSignalsError(
                f"{part.shard.path}: made of other media than {path}, which was written later: "
                f"{describe_ids(ids[mine].tolist())}; {run_again(part.shard)}, or remove the one that is out of date"
            )


def _compare_media(parts: list[_Part], ids: np.ndarray, entries: np.ndarray, rows: _Rows) -> None:
    """Refuse vectors of one part of one media entry that were made of different bytes: it changed in between."""
    made = np.flatnonzero((rows.part >= 0) & (rows.status == Status.OK))
    _, first, code = np.unique(entries[made], return_index=True, return_inverse=True)
    same = made[first[code]]
    unlike = np.flatnonzero(rows.hashes[made] != rows.hashes[same])
    if len(unlike):
        one, other = same[unlike[0]], made[unlike[0]]
        before, after = (parts[rows.part[row]] for row in (one, other))
        what = f"{ids[other]} is of the same media as {ids[one]} of shard {before.shard}, but they changed in between"
        raise _changed(after, what, before.shard, after.shard)


def _verify(part: _Part, told: Callable[[int], None]) -> None:
    try:
        check_vectors(part.features, told)
    except Corrupt as error:
        rows = f": {describe_ids(error.rows)}" if error.rows else ""
        raise Corrupt(
            f"{part.features.path}: {error}{rows}; remove it, then {run_again(part.shard)}", error.rows
        ) from None


def _write(store: Store, path: Path, parts: list[_Part], rows: _Rows, told: Callable[[int], None]) -> None:
    """Fill the feature set with the rows that it does not have."""
    first, corpus = parts[0].features, store.corpus
    said = [one for part in parts for one in part.features.provenance["versions"]]
    jobs = [job for part in parts for job in part.features.jobs]
    writer = FeatureWriter(
        path,
        first.recipe,
        corpus.id_bytes,
        rows.hashes,
        first.dimensions.tolist(),
        entry_hashes=corpus.entry_hash_bytes(first.modality),
        versions=[one for number, one in enumerate(said) if one not in said[:number]],
        trained_on=first.trained_on,
        retry_failed=rows.again,
        batches=lambda todo: _batches(rows, todo),
    )
    with writer:
        todo = writer.plan.rows
        if (rows.part[todo] < 0).any():
            raise MixedSignalsError(f"{path}: changed while it was merged; run the same command again")
        told(sum(len(part.features) for part in parts) - len(todo))
        step = max(1, _BLOCK_BYTES // first.blocks["embedding"].row_bytes)
        for begin in range(0, len(todo), step):
            some = todo[begin : begin + step]
            told(writer.write(some, *_columns(parts, rows, some)))
        # It has the last one where a merge was killed while it removed the shards.
        if jobs and jobs[-1] not in FeatureSet(path).jobs:
            writer.note(*jobs)


def _columns(parts: list[_Part], rows: _Rows, some: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return vectors, statuses and reasons of these rows of the corpus."""
    first = parts[0].features
    vectors = np.empty((len(some), first.shape[1]), first.dtype)
    status, reasons = np.empty(len(some), np.uint8), [""] * len(some)
    for number in np.unique(rows.part[some]):
        features, mine = parts[number].features, np.flatnonzero(rows.part[some] == number)
        at = rows.at[some[mine]]
        vectors[mine], status[mine] = features.stored[at], features.status[at]
        for row in np.flatnonzero(features.status[at] != Status.OK):
            reasons[mine[row]] = features.reasons[at[row]]
    return vectors, status, reasons


def _batches(rows: _Rows, todo: np.ndarray) -> list[np.ndarray]:
    """Return the batches that the shards were made in, of these rows."""
    batch = (rows.part[todo] << 32) + rows.batch[todo]
    order = np.argsort(batch, kind="stable")
    return np.split(todo[order], np.flatnonzero(np.diff(batch[order])) + 1)
