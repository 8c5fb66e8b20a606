"""Content hashes of a corpus's media files, remembered so that an unchanged file is not read again.

What is remembered stands in the store (``features/.media.parquet``): for each file the size, the times of its last
change, and the SHA-256. A file is read again when one of these differs. One that was changed just before it was read is
not remembered: a second change could bear the same time.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pandas as pd

from mixed_signals.store import MixedSignalsError, Store, UsageError
from mixed_signals.store.files import read_parquet, write_parquet
from mixed_signals.store.provenance import file_hash

ABSENT = "absent"  # stands for the hash of a media file that is not there, or cannot be read
NONE = "none"  # stands for the hash where the corpus names no media
_SETTLED_NS = 2_000_000_000  # the coarsest clock that file systems keep
_COLUMNS = ["path", "size", "modified_ns", "changed_ns", "sha256"]


def media_hashes(store: Store) -> dict[str, str]:
    """Return the hash of every media file of the corpus by its entry there.

    Returns
    -------
    dict of str to str
        `ABSENT` where there is no file that can be read, `NONE` for the empty entry.

    Raises
    ------
    UsageError
        If the media root is not there.
    MixedSignalsError
        If the media root is a URL, or a media path leads out of it.
    """
    root = store.corpus.media_root
    if isinstance(root, Path) and not root.is_dir():
        raise UsageError(
            f"{root}: the media root is not there (moved, or not mounted? --media-root says where)"
        )
    paths = {media: store.corpus.media_path(media) for media in store.corpus.utterances["media"].unique()}
    marks = {path: _marks(path) for path in paths.values() if path is not None}
    memory = store.inside("features", ".media.parquet")
    known = _remembered(memory)
    hashes = {path: known[path, *mark] for path, mark in marks.items() if mark and (path, *mark) in known}
    todo = [path for path, mark in marks.items() if mark and path not in hashes]
    if todo:
        now = time.time_ns()
        with ThreadPoolExecutor() as pool:
            hashes |= {path: sha for path, sha in zip(todo, pool.map(_hash, todo), strict=True) if sha}
        settled = [
            (str(path), *mark, hashes[path])
            for path, mark in marks.items()
            if mark and path in hashes and max(mark[1:]) < now - _SETTLED_NS
        ]
        with suppress(OSError):  # a store that cannot be written to is read from all the same
            write_parquet(memory, pd.DataFrame(settled, columns=_COLUMNS))
    return {media: NONE if path is None else hashes.get(path, ABSENT) for media, path in paths.items()}


def _marks(path: Path) -> tuple[int, int, int] | None:
    """Return size, time of modification and time of change of a file, or None where there is none."""
    with suppress(OSError):
        stat = os.stat(path)
        if path.is_file():
            return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    return None


def _hash(path: Path) -> str | None:
    with suppress(OSError):  # the encoder will say of each row what is wrong
        return file_hash(path)
    return None


def _remembered(memory: Path) -> dict[tuple[Path, int, int, int], str]:
    """Return hashes by path, size and times; nothing where none is remembered."""
    with suppress(MixedSignalsError, KeyError, TypeError):
        if memory.is_file():
            rows = read_parquet(memory)[_COLUMNS].to_numpy()
            return {(Path(path), size, modified, changed): sha for path, size, modified, changed, sha in rows}
    return {}
