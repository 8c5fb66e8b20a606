"""A feature set that reads its vectors from its shards: everything of it but the vectors, in one small file.

Its rows are those of the shards, one shard after the other. Ids, hashes, statuses, reasons and checksums are copied, a
shard at a time; the vectors stay where they are, and double no space.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mixed_signals.store.disk import put, reserve, write_all
from mixed_signals.store.errors import UsageError
from mixed_signals.store.features import FeatureSet
from mixed_signals.store.files import replacing
from mixed_signals.store.job_log import with_jobs
from mixed_signals.store.layout import LOG_BYTES, define_blocks, sealed_blocks
from mixed_signals.store.pieces import FOLDER, Piece, describe

_OF_ROWS = ("utterance_id", "row_hash", "entry_hash", "batch", "status", "reason", "checksum")


def write_virtual(path: Path, parts: Sequence[FeatureSet], versions: Sequence[Mapping[str, str]]) -> None:
    """Write the file of a feature set whose vectors lie in others; it takes the place of what is there, whole.

    Parameters
    ----------
    path : Path
    parts : sequence of FeatureSet
        Complete, made alike, of different utterances, in the folder ``.shards`` beside `path`; they may be opened anew
        where they are asked for.
    versions : sequence of mappings
        Versions of the libraries that the rows were made with.

    Raises
    ------
    MixedSignalsError
        If the disk is full.
    """
    first = parts[0]
    said = {"recipe": asdict(first.recipe), "versions": list(versions), "trained_on": list(first.trained_on)}
    once = {
        "dimension": np.array(first.blocks["dimension"].array(first.buffer)),
        "provenance": np.frombuffer(json.dumps(said).encode(), np.uint8),
    }
    pieces, jobs = [], []
    types = {name: first.blocks[name].dtype for name in (*_OF_ROWS, "dimension", "embedding")}
    for part in parts:
        pieces.append(piece_of(part))
        jobs += part.jobs
        types |= {name: np.result_type(types[name], part.blocks[name].dtype) for name in _OF_ROWS}
    once["pieces"] = np.frombuffer(describe(pieces), np.uint8)
    once["log"] = with_jobs(np.zeros(LOG_BYTES, np.uint8), jobs)
    made = define_blocks(
        sum(piece.rows for piece in pieces),
        first.shape[1],
        types,
        len(once["provenance"]),
        sources=[(f"{FOLDER}/{piece.file}", piece.rows) for piece in pieces],
        n_piece_bytes=len(once["pieces"]),
    )
    with replacing(path) as temporary:
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            reserve(file, made.size)
            for offset, piece in made.pieces:
                write_all(file, piece, offset)
            for name, values in once.items():
                put(file, made.blocks[name], 0, values)
            row = n_batches = 0
            for part in parts:
                for name in _OF_ROWS:
                    values = np.ascontiguousarray(part.blocks[name].array(part.buffer), types[name])
                    if name == "batch":  # numbered on
                        values, n_batches = values + np.int32(n_batches), n_batches + int(values.max()) + 1
                    put(file, made.blocks[name], row, values)
                row += len(part)
            written, digest = mmap.mmap(file, made.size, access=mmap.ACCESS_READ), hashlib.sha256()
            for name in sealed_blocks(once):
                digest.update(made.blocks[name].array(memoryview(written)).data)
            put(file, made.blocks["seal"], 0, np.frombuffer(digest.digest(), np.uint8))
            os.fsync(file)
        finally:
            os.close(file)


def refuse_virtual(features: FeatureSet) -> None:
    """Refuse to write single rows of a feature set whose vectors lie in others.

    Raises
    ------
    UsageError
        If it is one.
    """
    if features.virtual:
        raise UsageError(
            f"{features.path}: its vectors lie in {len(features.files) - 1:,} shards; mixed-signals store "
            f"merge STORE {features.key} makes one file of them first (or go on in shards)"
        )


def piece_of(part: FeatureSet) -> Piece:
    """Return where the vectors of a file lie, and what it was sealed with."""
    return Piece(
        file=part.path.name,
        rows=len(part),
        size=len(part.buffer),
        embedding=part.blocks["embedding"].offset,
        checksum=part.blocks["checksum"].offset,
        seal_at=part.blocks["seal"].offset,
        seal=part.blocks["seal"].array(part.buffer).tobytes().hex(),
    )
