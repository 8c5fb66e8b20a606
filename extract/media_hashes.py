"""Content hashes of a corpus's media files, remembered so that an unchanged file is not read again.

What is remembered stands in the store (``features/.media.parquet``): for each path the size, the time of the last
change, and the SHA-256. A file is read again when size or time differ. One that was changed just before it was read is
not remembered: a second change could bear the same time.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pandas as pd

from mixed_signals.store import Store, UsageError
from mixed_signals.store.files import read_parquet, write_parquet
from mixed_signals.store.provenance import file_hash

ABSENT = "absent"  # stands for the hash of a media file that is not there
_SETTLED_NS = 2_000_000_000  # the coarsest clock that file systems keep
_COLUMNS = ["media", "size", "changed_ns", "sha256"]


def media_hashes(store: Store) -> dict[str, str]:
    """Return the hash of every media file of the corpus by its path there, `ABSENT` where there is no file.

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
    stats = {
        media: (path, path.stat()) for media, path in paths.items() if path is not None and path.is_file()
    }
    memory = store.path / "features" / ".media.parquet"
    known = _remembered(memory)
    hashes = dict.fromkeys(paths, ABSENT)
    todo = []
    for media, (_, stat) in stats.items():
        before = known.get(media)
        if before is not None and before[:2] == (stat.st_size, stat.st_mtime_ns):
            hashes[media] = before[2]
        else:
            todo.append(media)
    if not todo:
        return hashes
    now = time.time_ns()
    with ThreadPoolExecutor() as pool:
        hashes.update(zip(todo, pool.map(lambda media: file_hash(stats[media][0]), todo), strict=True))
    settled = [
        (media, stat.st_size, stat.st_mtime_ns, hashes[media])
        for media, (_, stat) in stats.items()
        if stat.st_mtime_ns < now - _SETTLED_NS
    ]
    with suppress(OSError):  # a store that cannot be written to is read from all the same
        write_parquet(memory, pd.DataFrame(settled, columns=_COLUMNS))
    return hashes


def _remembered(memory: Path) -> dict[str, tuple[int, int, str]]:
    """Return size, time of change and hash by media path; nothing where none is remembered."""
    if not memory.is_file():
        return {}
    table = read_parquet(memory)
    return {media: (size, changed, sha256) for media, size, changed, sha256 in table[_COLUMNS].to_numpy()}
