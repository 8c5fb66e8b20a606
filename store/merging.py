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

Or the shards stay, and the feature set reads its vectors from them (``virtual``): what is written then is everything
but the vectors, in one small file that takes its place whole (`mixed_signals.store.virtual`).

What a merge costs: the shards' bytes are read and checksummed twice (the second time, as a rule, from the system's
memory: first to verify, then to copy) and written once, and the disk is waited for. Shards are open one at a time,
however many there are. Memory holds, beside the corpus's own table, a few hundred bytes per utterance, and of vectors
a megabyte for each shard, a quarter of a gigabyte at most.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixed_signals.store.corpus import Corpus
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.features import FeatureSet, Status
from mixed_signals.store.folder import ShardFile, Store
from mixed_signals.store.locks import sole_writer
from mixed_signals.store.merged_shards import Said, Shards
from mixed_signals.store.pieces import Pieces
from mixed_signals.store.planning import recipe_difference
from mixed_signals.store.terminal import describe_ids
from mixed_signals.store.verify import Corrupt, check_vectors, list_shards, own_file, run_again
from mixed_signals.store.virtual import write_virtual
from mixed_signals.store.writing import FeatureWriter

_BLOCK_BYTES = 1 << 20  # of vectors copied at a time, for each shard: each block opens every file
_MOST_BYTES = 1 << 28


@dataclass
class _Rows:
    """Where each utterance of the corpus has its row; arrays of shape (N,).

    Attributes
    ----------
    part : ndarray of int
        Which shard; -1 where there is none, or the row that the feature set has stays.
    at : ndarray of int
        Which of all the shards' rows, one shard after the other.
    batch : ndarray of int
        Which batch of the shard.
    status : ndarray of uint8
        What the shard says of the row.
    hashes : ndarray of bytes
        What the row is made of.
    again : ndarray of bool
        Where the feature set says `failed`, and the shard does not.
    reasons : dict of int to str
        Why a row has no vector, by utterance.
    """

    part: np.ndarray
    at: np.ndarray
    batch: np.ndarray
    status: np.ndarray
    hashes: np.ndarray
    again: np.ndarray
    reasons: dict[int, str]


def merge(
    store: Store, key: str, *, virtual: bool = False, on_progress: Callable[[int], None] | None = None
) -> FeatureSet:
    """Make one feature set of its shards, and remove them, or with `virtual` read from them.

    Parameters
    ----------
    store : Store
    key : str
        The feature set, ``<modality>/<name>``.
    virtual : bool
        Whether the shards stay, and the feature set reads its vectors from them.
    on_progress : callable, optional
        Called with the number of rows just read or written; each row counts twice, or once with `virtual`.

    Raises
    ------
    UsageError
        If the feature set has no shards, or is to be `virtual` and has vectors of its own.
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
    parts = Shards(store, shards)
    with sole_writer(own_file(store, shards[0].path)):
        whole = FeatureSet(path) if path.exists() else None
        if whole is not None and whole.virtual:
            whole = None  # it has no row that a shard does not have
        if whole is not None and virtual:
            raise UsageError(
                f"{path}: has vectors of its own, which no shard has; merge without --virtual, or remove it if the "
                "shards have all of them"
            )
        rows, said = _find_rows(store, path, parts, whole)
        for shard, features in zip(shards, parts, strict=True):
            _verify(shard, features, told)
        if virtual:
            with sole_writer(path):
                write_virtual(path, parts, said.versions)
            return store[key]
        _write(store, path, parts, rows, said, told)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        parts.remove()
    with suppress(OSError):  # there are shards of other feature sets
        shards[0].path.parent.rmdir()
    return store[key]


def _compare_kinds(first: FeatureSet, other: FeatureSet) -> None:
    """Refuse sets of rows that are not made alike."""
    if first.recipe_fingerprint != other.recipe_fingerprint:
        what = f"made by another recipe ({recipe_difference(first.recipe, other.recipe)})"
    elif list(first.dimensions) != list(other.dimensions):
        what = "has other dimensions"
    elif first.trained_on != other.trained_on:
        what = "its encoder's weights were trained on other utterances"
    else:
        return
    raise MixedSignalsError(
        f"{other.path}: {what} than {first.path}; remove the one that is not wanted, then run extract-features again"
    )


def _find_rows(store: Store, path: Path, parts: Shards, whole: FeatureSet | None) -> tuple[_Rows, Said]:
    """Find the one row of each utterance, in shards that are made alike; and what those say of themselves.

    Raises
    ------
    MixedSignalsError
        If there is none that is done, there are two, or it was made of something else than the corpus says now.
    """
    corpus, first = store.corpus, parts[0]
    if first.modality != path.parent.name:
        raise MixedSignalsError(f"{first.path}: is a feature set of {first.modality}; move it to that folder")
    if whole is not None:
        _compare_kinds(first, whole)
    entries = corpus.entry_hash_bytes(first.modality)
    rows, said = _rows_of_shards(corpus, entries, parts)
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
    return rows, said


def _rows_of_shards(corpus: Corpus, entries: np.ndarray, parts: Shards) -> tuple[_Rows, Said]:
    """Find each utterance in the shards."""
    n, first = len(corpus), parts[0]
    part, at, batch = (np.full(n, -1) for _ in range(3))
    rows = _Rows(part, at, batch, np.zeros(n, np.uint8), np.zeros(n, "S1"), np.zeros(n, bool), {})
    said = Said()
    order = np.argsort(corpus.id_bytes, kind="stable")
    in_order = corpus.id_bytes[order]
    for number, shard in enumerate(parts.shards):
        with parts.alone(number):
            features = parts[number]
            _compare_kinds(first, features)
            ids, hashes, status = features.id_bytes, features.row_hash_bytes, features.status
            at = order.take(np.searchsorted(in_order, ids), mode="clip")
            if (gone := corpus.id_bytes[at] != ids).any():
                what = f"the corpus no longer has {describe_ids(features.ids[gone].tolist())}"
                raise _changed(what, shard)
            if len(np.unique(at)) < len(at):
                raise MixedSignalsError(f"{shard.path}: refused as a feature set: an utterance id repeats")
            done = status != Status.PENDING
            if (other := done & (features.entry_hash_bytes != entries[at])).any():
                what = f"the corpus says something else now of {describe_ids(_ids(corpus, at[other]))}"
                raise _changed(what, shard)
            if (twice := rows.part[at] >= 0).any():
                before = parts.shards[rows.part[at[twice][0]]]
                what = (
                    f"shard {before} has rows of the same utterances: {describe_ids(_ids(corpus, at[twice]))}"
                )
                raise _changed(what, shard, before)
            rows.part[at], rows.at[at], rows.batch[at] = (
                number,
                said.n_rows + np.arange(len(at)),
                features.batches,
            )
            rows.hashes = rows.hashes.astype(np.result_type(rows.hashes, hashes), copy=False)
            rows.status[at], rows.hashes[at] = status, hashes
            without = np.flatnonzero(done & (status != Status.OK))
            rows.reasons |= zip(at[without].tolist(), features.reasons[without].tolist(), strict=True)
            said.add(features)
    return rows, said


def _ids(corpus: Corpus, rows: np.ndarray) -> list[str]:
    """Return the ids of these rows, in the corpus's order."""
    return [str(one) for one in corpus.ids[np.sort(rows)]]


def _changed(what: str, shard: ShardFile, *others: ShardFile) -> MixedSignalsError:
    return MixedSignalsError(f"{shard.path}: {what}; {run_again(*others, shard)}: it makes only what changed")


def _incomplete(
    path: Path, parts: Shards, rows: _Rows, ids: np.ndarray, lacking: np.ndarray, changed: np.ndarray
) -> MixedSignalsError:
    """Return what says which shards are not there, or not finished, or which rows (`lacking`) are in none."""
    shards = parts.shards
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


def _refuse_older(path: Path, parts: Shards, ids: np.ndarray, differs: np.ndarray, rows: _Rows) -> None:
    """Refuse rows that were made of other media than those of the feature set, if that was written after them."""
    written = path.stat().st_mtime_ns
    for number in np.unique(rows.part[differs]):
        shard, mine = parts.shards[number], differs & (rows.part == number)
        if shard.path.stat().st_mtime_ns < written:
            raise MixedSignalsError(
                f"{shard.path}: made of other media than {path}, which was written later: "
                f"{describe_ids(ids[mine].tolist())}; {run_again(shard)}, or remove the one that is out of date"
            )


def _compare_media(parts: Shards, ids: np.ndarray, entries: np.ndarray, rows: _Rows) -> None:
    """Refuse vectors of one part of one media entry that were made of different bytes: it changed in between."""
    made = np.flatnonzero((rows.part >= 0) & (rows.status == Status.OK))
    _, first, code = np.unique(entries[made], return_index=True, return_inverse=True)
    same = made[first[code]]
    unlike = np.flatnonzero(rows.hashes[made] != rows.hashes[same])
    if len(unlike):
        one, other = same[unlike[0]], made[unlike[0]]
        before, after = (parts.shards[rows.part[row]] for row in (one, other))
        what = (
            f"{ids[other]} is of the same media as {ids[one]} of shard {before}, but they changed in between"
        )
        raise _changed(what, after, before)


def _verify(shard: ShardFile, features: FeatureSet, told: Callable[[int], None]) -> None:
    try:
        check_vectors(features, told)
    except Corrupt as error:
        rows = f": {describe_ids(error.rows)}" if error.rows else ""
        raise Corrupt(
            f"{shard.path}: {error}{rows}; remove it, then {run_again(shard)}", error.rows
        ) from None


def _write(
    store: Store, path: Path, parts: Shards, rows: _Rows, said: Said, told: Callable[[int], None]
) -> None:
    """Fill the feature set with the rows that it does not have."""
    corpus, first = store.corpus, parts[0]
    vectors = Pieces(path, said.pieces, first.shape[1], first.dtype, np.concatenate(said.checksums))
    writer = FeatureWriter(
        path,
        first.recipe,
        corpus.id_bytes,
        rows.hashes,
        first.dimensions.tolist(),
        entry_hashes=corpus.entry_hash_bytes(first.modality),
        versions=said.versions,
        trained_on=first.trained_on,
        retry_failed=rows.again,
        batches=lambda todo: _batches(rows, todo),
        replace_virtual=True,
    )
    with writer:
        todo = writer.plan.rows
        if (rows.part[todo] < 0).any():
            raise MixedSignalsError(f"{path}: changed while it was merged; run the same command again")
        told(len(vectors) - len(todo))
        n_bytes = min(_BLOCK_BYTES * len(said.pieces), _MOST_BYTES)
        step = max(1, n_bytes // first.blocks["embedding"].row_bytes)
        for begin in range(0, len(todo), step):
            some = todo[begin : begin + step]
            reasons = [rows.reasons.get(row, "") for row in some.tolist()]
            try:
                block = vectors[rows.at[some]]
            except MixedSignalsError:
                parts.refuse_changed()  # in a merge's own words
                raise
            told(writer.write(some, block, rows.status[some], reasons))
        # It has the last one where a merge was killed while it removed the shards.
        if said.jobs and said.jobs[-1] not in FeatureSet(path).jobs:
            writer.note(*said.jobs)


def _batches(rows: _Rows, todo: np.ndarray) -> list[np.ndarray]:
    """Return the batches that the shards were made in, of these rows."""
    batch = (rows.part[todo] << 32) + rows.batch[todo]
    order = np.argsort(batch, kind="stable")
    return np.split(todo[order], np.flatnonzero(np.diff(batch[order])) + 1)
