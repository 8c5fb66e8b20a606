"""The shards of a job, written down where all nodes read: what has not begun yet takes no memory anywhere.

Ray Data has the blocks that it begins with in its object store before anything runs. What it is given is therefore no
more than where each shard stands in a file beside those that are made; a worker reads its own shard from there. The
file is Arrow's, a record batch for each shard, and it is removed when the job ends; one that a killed job left is
removed by the next of the same feature set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from mixed_signals.extract.media import Clip
from mixed_signals.extract.on_ray.dealing import Dealt
from mixed_signals.extract.on_ray.parts import Part
from mixed_signals.store.disk import room_or_error
from mixed_signals.store.urls import is_url

_CLIP = {"text": pa.string(), "media": pa.string(), "start": pa.float64(), "end": pa.float64()}


@contextmanager
def written_parts(dealt: Dealt, path: Path) -> Iterator[None]:
    """Write the shards that are to be made, in order; they are removed at the end.

    Raises
    ------
    MixedSignalsError
        If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        {"number": pa.int32(), "utterance_id": pa.binary(), "entry": pa.binary(), "length": pa.float64()}
        | _CLIP
    )
    for goal in range(len(dealt.tasks)):
        schema = schema.append(pa.field(f"hash {goal}", pa.binary()))
    try:
        with room_or_error(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
            for part in dealt.parts():
                file.write_batch(_as_batch(part, schema))
        yield
    finally:
        path.unlink(missing_ok=True)


def read_part(path: Path, at: int) -> Part:
    """Return the shard that was written as the so-manyeth, from 0."""
    with pa.OSFile(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(at)
    ids = batch["utterance_id"].to_pylist()
    hashes = [batch[name] for name in batch.schema.names if name.startswith("hash ")]
    clips = zip(ids, *(batch[name].to_pylist() for name in _CLIP), strict=True)
    return Part(
        number=batch["number"][0].as_py(),
        ids=np.array(ids),
        entries=np.array(batch["entry"].to_pylist()),
        clips=[
            Clip(one.decode(), text, media if media is None or is_url(media) else Path(media), start, end)
            for one, text, media, start, end in clips
        ],
        lengths=batch["length"].to_numpy(),
        wanted=[np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)) for column in hashes],
        hashes=[np.array(column.drop_null().to_pylist(), dtype=bytes) for column in hashes],
    )


def _as_batch(part: Part, schema: pa.Schema) -> pa.RecordBatch:
    n, clips = len(part.ids), part.clips
    columns = {
        "number": [part.number] * n,
        "utterance_id": part.ids.tolist(),
        "entry": part.entries.tolist(),
        "length": part.lengths,
        "text": [clip.text for clip in clips],
        "media": [None if clip.media is None else str(clip.media) for clip in clips],
        "start": [clip.start for clip in clips],
        "end": [clip.end for clip in clips],
    }
    for goal, (wanted, hashes) in enumerate(zip(part.wanted, part.hashes, strict=True)):
        column = np.full(n, None, object)
        column[wanted] = hashes
        columns[f"hash {goal}"] = column
    return pa.record_batch(columns, schema)
