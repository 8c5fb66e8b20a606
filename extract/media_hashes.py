"""Content hashes of a corpus's media files, remembered so that an unchanged file is not read again.

What is remembered stands in the store (``features/.media.parquet``): for each file the size, the times of its last
change, and the SHA-256. A file is read again when one of these differs. One that was changed just before it was read is
not remembered: a second change could bear the same time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pandas as pd

from mixed_signals.store import MixedSignalsError, Store, UsageError, remote
from mixed_signals.store.files import read_parquet, write_parquet
from mixed_signals.store.provenance import file_hash

ABSENT = "absent"  # stands for the hash of a media file that is not there, or cannot be read
NONE = "none"  # stands for the hash where the corpus names no media
_SETTLED_NS = 2_000_000_000  # the coarsest clock that file systems keep
_COLUMNS = ["path", "size", "modified_ns", "changed_ns", "sha256"]


def media_hashes(store: Store) -> dict[str, str]:
    """Return the hash of every media file of the corpus by its entry there; of one at a URL, what stands for it.

    A remote file is not read for this: what stands for it is its checksum or version as its server tells it, and its
    size; else its address, the time of its last change and its size (`store.remote.look`).

    Returns
    -------
    dict of str to str
        `ABSENT` where there is no file that can be read, `NONE` for the empty entry.

    Raises
    ------
    UsageError
        If the media root is not there, or the library of a protocol is not installed.
    MixedSignalsError
        If a media path leads out of the media root, or a server cannot be reached.
    """
    root = store.corpus.media_root
    if isinstance(root, Path) and not root.is_dir():
        raise UsageError(
            f"{root}: the media root is not there (moved, or not mounted? --media-root says where)"
        )
    places = {media: store.corpus.media_path(media) for media in store.corpus.utterances["media"].unique()}
    found = _of_files(store, [place for place in places.values() if isinstance(place, Path)])
    found |= {url: mark.identity for url, mark in _look(places.values()).items() if mark is not None}
    return {media: NONE if place is None else found.get(place, ABSENT) for media, place in places.items()}


def media_sizes(store: Store, entries: Iterable[str]) -> dict[str, int]:
    """Return how many bytes media entries have, 0 where there is none; remote ones as this process last saw them."""
    places = {media: store.corpus.media_path(media) for media in entries}
    unseen = {place for place in places.values() if isinstance(place, str)} - _seen.keys()
    _look(unseen)
    return {media: _size(place) for media, place in places.items()}


_seen: dict[str, remote.Mark | None] = {}


def _look(places: Iterable[Path | str | None]) -> dict[str, remote.Mark | None]:
    """Return what is known of those that are URLs, and remember it."""
    found = remote.look(place for place in places if isinstance(place, str))
    _seen.update(found)
    return found


def _size(place: Path | str | None) -> int:
    if isinstance(place, str):
        mark = _seen[place]
        return 0 if mark is None else mark.size
    return place.stat().st_size if place is not None and place.is_file() else 0


def _of_files(store: Store, paths: Sequence[Path]) -> dict[Path | str, str]:
    """Return the hashes of files of this machine that can be read."""
    marks = {path: _marks(path) for path in paths}
    memory = store.inside("features", ".media.parquet")
    known = _remembered(memory)
    hashes: dict[Path | str, str] = {
        path: known[path, *mark] for path, mark in marks.items() if mark and (path, *mark) in known
    }
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
    return hashes


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
