"""Vectors that lie in several files: the shards of a feature set, left where they are and read as one matrix.

The set's own file says of each piece which file it is, where in it the vectors begin, and what the file was sealed with
(`mixed_signals.store.virtual` writes it). Files are named without a folder: they lie in ``.shards`` beside the set, so
that a store can be moved and copied. A piece is opened where it is read, and closed again; then its seal and the
checksums of all its rows are held against the set's, so a file that was made anew is an error and never other vectors
in silence. Vectors themselves are read by nobody who does not ask for them (``mixed-signals store verify`` does).
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from mixed_signals.store.errors import MixedSignalsError

FOLDER = ".shards"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*\.h5")
_SEAL_BYTES = 32


@dataclass(frozen=True)
class Piece:
    """One file of a set that lies in several.

    Attributes
    ----------
    file : str
        Its name in ``.shards``.
    rows : int
        How many of the set's rows are in it: all of the file's, in its order.
    size : int
        Bytes of the file.
    embedding, checksum, seal_at : int
        Where in it these blocks begin.
    seal : str
        The file's seal, as hexadecimal digits.
    """

    file: str
    rows: int
    size: int
    embedding: int
    checksum: int
    seal_at: int
    seal: str


class Pieces:
    """A matrix whose rows lie in several files, one file's after the other's.

    Parameters
    ----------
    path : Path
        The set's own file.
    pieces : sequence of Piece
    width : int
        D.
    dtype : dtype
    checksums : ndarray of uint64, shape (N,)
        What the set says of each row; a file must say the same.

    Attributes
    ----------
    shape : (int, int)
    dtype : dtype
    """

    def __init__(
        self, path: Path, pieces: Sequence[Piece], width: int, dtype: np.dtype, checksums: np.ndarray
    ) -> None:
        self.path, self.pieces, self.dtype = path, list(pieces), dtype
        self._ends = np.cumsum([piece.rows for piece in self.pieces])
        self._starts = self._ends - [piece.rows for piece in self.pieces]
        self._checksums = checksums
        self.shape = (int(self._ends[-1]), width)

    @classmethod
    def read(cls, path: Path, described: bytes, width: int, dtype: np.dtype, checksums: np.ndarray) -> Self:
        """Return the pieces that a set's file describes; it may come from anyone.

        Raises
        ------
        MixedSignalsError
            If they are not as `describe` writes them: other files than shards, or other rows than the set's.
        """
        try:
            pieces = [Piece(**one) for one in json.loads(described)]
            for piece in pieces:
                numbers = (piece.rows, piece.size, piece.embedding, piece.checksum, piece.seal_at)
                sound = all(type(number) is int and number >= 0 for number in numbers) and piece.rows > 0
                stops = (
                    piece.embedding + piece.rows * width * dtype.itemsize,
                    piece.checksum + piece.rows * 8,
                    piece.seal_at + _SEAL_BYTES,
                )
                if not (sound and _FILE.fullmatch(piece.file) and max(stops) <= piece.size):
                    raise ValueError
                if len(bytes.fromhex(piece.seal)) != _SEAL_BYTES:
                    raise ValueError
            if sum(piece.rows for piece in pieces) != len(checksums):
                raise ValueError
        except (ValueError, TypeError, RecursionError) as error:
            raise MixedSignalsError(
                f"{path}: refused as a feature set: which files its vectors lie in is not readable"
            ) from error
        return cls(path, pieces, width, dtype, checksums)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return rows as a new array; an integer, a slice, or an array of integers or bool picks them."""
        rows = np.arange(len(self))[key]
        found = np.empty((rows.size, self.shape[1]), self.dtype)
        self.read_rows(rows.reshape(-1), found)
        return found.reshape(*rows.shape, self.shape[1])

    @property
    def files(self) -> list[Path]:
        """The files."""
        return [self.path.parent / FOLDER / piece.file for piece in self.pieces]

    def read_rows(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows into an array, file by file: each that is needed is opened once.

        Parameters
        ----------
        rows : ndarray of int, shape (B,)
            -1 gives NaN.
        out : ndarray, shape (B, D)
            Of any type and strides.
        """
        number = np.where(rows < 0, -1, np.searchsorted(self._ends, rows, side="right"))
        order = np.argsort(number, kind="stable")
        cuts = np.flatnonzero(np.diff(number[order])) + 1
        for at in np.split(order, cuts) if len(order) else ():
            which = int(number[at[0]])
            if which < 0:
                out[at] = np.nan
            else:
                out[at] = self._vectors(which)[rows[at] - self._starts[which]]

    def check(self) -> None:
        """See that every file is there and is the one that the set was made of; no vector and no checksum is read.

        Raises
        ------
        MixedSignalsError
            It names the file.
        """
        for piece in self.pieces:
            with self._opened(piece):
                pass

    def check_checksums(self) -> None:
        """Hold the checksums of every file against the set's.

        Raises
        ------
        MixedSignalsError
            It names the file.
        """
        for number in range(len(self.pieces)):
            self._vectors(number)

    def _vectors(self, number: int) -> np.ndarray:
        """Return a file's vectors, mapped."""
        piece = self.pieces[number]
        with self._opened(piece) as handle:
            buffer = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        said = np.frombuffer(buffer, np.uint64, piece.rows, piece.checksum)
        if not np.array_equal(said, self._checksums[self._starts[number] : self._ends[number]]):
            raise self._changed(piece, "was made again, with other vectors,")
        count = piece.rows * self.shape[1]
        return np.frombuffer(buffer, self.dtype, count, piece.embedding).reshape(piece.rows, -1)

    @contextmanager
    def _opened(self, piece: Piece) -> Iterator[BinaryIO]:
        """Open a file, if it is the one that the set was made of."""
        folder = self.path.parent / FOLDER
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            if folder.is_symlink():
                raise OSError(f"{folder} is a link")
            handle = os.fdopen(os.open(folder / piece.file, flags), "rb")
        except FileNotFoundError:
            raise self._changed(piece, "is gone") from None
        except OSError as error:
            raise self._changed(piece, f"cannot be read ({error})") from error
        with handle:
            if os.fstat(handle.fileno()).st_size != piece.size:
                raise self._changed(piece, "has changed")
            handle.seek(piece.seal_at)
            if handle.read(_SEAL_BYTES).hex() != piece.seal:
                raise self._changed(piece, "has changed")
            yield handle

    def _changed(self, piece: Piece, what: str) -> MixedSignalsError:
        file = self.path.parent / FOLDER / piece.file
        return MixedSignalsError(
            f"{file}: {what} since {self.path.name} was made to read from it; put it back, or make it with the call "
            "that made the shards, then mixed-signals store merge --virtual"
        )


def describe(pieces: Sequence[Piece]) -> bytes:
    """Return what `Pieces.read` reads."""
    return json.dumps([asdict(piece) for piece in pieces]).encode()
