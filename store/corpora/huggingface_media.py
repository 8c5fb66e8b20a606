"""Media of data sets that the library `datasets` saved: paths, and bytes that are embedded in the table.

Embedded media are unpacked into files. Their names are made of the utterance's id (its SHA-256 where the id could not
stand as a file's name) and of what the bytes are, never of a path that stands in the data.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mixed_signals.store.corpora.published import Faults
from mixed_signals.store.corpora.reading import Rows
from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.files import replacing
from mixed_signals.store.urls import is_url

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,119}")
# Where a mark stands in a file's first bytes, the mark, and the suffix of such files.
_MARKS = (
    (8, b"WAVE", ".wav"),
    (8, b"AVI ", ".avi"),
    (0, b"fLaC", ".flac"),
    (0, b"OggS", ".ogg"),
    (0, b"ID3", ".mp3"),
    (0, b"\xff\xfb", ".mp3"),
    (0, b"\xff\xf3", ".mp3"),
    (4, b"ftyp", ".mp4"),
    (0, b"\x1a\x45\xdf\xa3", ".mkv"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG", ".png"),
)


class StoredMedia:
    """The media of one split.

    Parameters
    ----------
    column : str
        What the column is called.
    values : ChunkedArray
        ``struct<bytes, path>``, or one of both alone (N rows).

    Attributes
    ----------
    embedded : ndarray
        Which rows hold the medium itself, shape (N,).
    """

    def __init__(self, column: str, values: pa.ChunkedArray) -> None:
        self.column = column
        parts = {field.name for field in values.type} if pa.types.is_struct(values.type) else set()
        alone = (
            "path" if pa.types.is_string(values.type) or pa.types.is_large_string(values.type) else "bytes"
        )
        held = {part: pc.struct_field(values, part) for part in parts} or {alone: values}
        self._bytes = held["bytes"].cast(pa.large_binary()) if "bytes" in held else None
        self._paths = held["path"].cast(pa.large_string()) if "path" in held else None
        none = np.zeros(len(values), dtype=bool)
        self.embedded = none if self._bytes is None else self._bytes.is_valid().to_numpy()

    def entries(self, ids: Iterable[str], root: Path | str, rows: Rows, faults: Faults) -> list[str]:
        """Return the media entry of every row; a path that leaves the media root is noted, and empty."""
        none = [""] * len(self.embedded)
        paths = none if self._paths is None else [path or "" for path in self._paths.to_pylist()]
        starts = none if self._bytes is None else pc.binary_slice(self._bytes, 0, 12).to_pylist()
        real = [] if isinstance(root, str) else [os.path.abspath(root), os.path.realpath(root)]
        bases = [os.path.join(base, "") for base in real]
        found = [
            _file_name(utterance, start) if embedded else _below(path, bases)
            for utterance, path, start, embedded in zip(ids, paths, starts, self.embedded, strict=True)
        ]
        astray = np.array([entry is None for entry in found], dtype=bool)
        mend = "is not below the media root; name a folder that holds it (--media-root)"
        faults.add(rows, astray, self.column, lambda row: f"{paths[row]!r} {mend}")
        return [entry or "" for entry in found]

    def unpack(self, entries: Iterable[str], root: Path) -> None:
        """Write what is embedded; a file that holds the same already is left alone.

        Raises
        ------
        MixedSignalsError
            If another file has one of the names.
        """
        if self._bytes is None:
            return
        for entry, medium in zip(entries, self._bytes, strict=True):
            path, content = root / entry, medium.as_py()
            if content is None:
                continue
            if not path.exists():
                with replacing(path) as temporary:
                    temporary.write_bytes(content)
            elif path.stat().st_size != len(content) or path.read_bytes() != content:
                raise MixedSignalsError(
                    f"{path}: holds something else than the data set's medium of this name; "
                    "move it away or name another --media-root"
                )


def _file_name(utterance: str, start: bytes) -> str:
    stem = utterance
    if not _FILE_NAME.fullmatch(utterance):
        stem = hashlib.sha256(utterance.encode()).hexdigest()
    return stem + next((suffix for at, mark, suffix in _MARKS if start.startswith(mark, at)), "")


def _below(path: str, bases: Sequence[str]) -> str | None:
    """Return a path as a media entry; None if it leads out of the media root, and any if one of both is a URL."""
    if not path or not bases or is_url(path):
        return path
    full = os.path.normpath(os.path.join(bases[0], path))
    inside = next((full[len(base) :] for base in bases if full.startswith(base)), None)
    return None if inside is None else inside.replace(os.sep, "/")
