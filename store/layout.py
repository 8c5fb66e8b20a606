"""The HDF5 file of a feature set: named, contiguous blocks at known offsets, and nothing else.

HDF5 gives the file its form, so that any HDF5 reader opens it; the bytes of the blocks are written and mapped as
plain bytes. HDF5 itself never touches the disk when a file is made or filled: a full disk is then an ordinary error of
the operating system, and a process killed at any moment leaves a file that opens.

A file may come from anyone, so `read_blocks` takes only what `define_blocks` makes: datasets in the root group by hard
links, contiguous, inside this file, of plain numbers or fixed-length text. No link is followed out of the file, no
object is unpickled. The vectors alone may lie elsewhere: then `embedding` is HDF5's virtual dataset, for other readers,
and the block `pieces` says to ours which shards they are in (`mixed_signals.store.pieces`).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import h5py
import numpy as np

from mixed_signals.store.errors import MixedSignalsError

FORMAT = 3
REASON_BYTES = 200
SEAL_BYTES = 32
LOG_BYTES = 8192
# What never changes once a file is made.
SEALED = ("utterance_id", "row_hash", "entry_hash", "batch", "dimension", "provenance")
_ALIGNMENT = 4096  # blocks begin at whole pages of memory

# Name -> (kinds of numpy type that are taken, axes): N rows, D dimensions, and B bytes of provenance, H of a hash, L of
# the log.
_EXPECTED = {
    "utterance_id": ("S", "N"),
    "row_hash": ("S", "N"),
    "entry_hash": ("S", "N"),
    "status": ("u1", "N"),
    "reason": ("S", "N"),
    "checksum": ("u8", "N"),
    "batch": ("i4", "N"),
    "dimension": ("S", "D"),
    "provenance": ("u1", "B"),
    "seal": ("u1", "H"),
    "log": ("u1", "L"),
    "embedding": ("f4 f2", "ND"),
}
_PIECES = "pieces"  # of a file whose vectors lie in others: bytes, as many as there are


class Block(NamedTuple):
    """Where one dataset lies in the file: its first byte, its shape and its type."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of the first axis."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def stop(self) -> int:
        """The first byte after the block."""
        return self.offset + self.shape[0] * self.row_bytes

    def array(self, buffer: memoryview | bytes) -> np.ndarray:
        """Return the block as an array over the file's bytes; nothing is copied."""
        count = int(np.prod(self.shape, dtype=np.int64))
        return np.frombuffer(buffer, self.dtype, count, self.offset).reshape(self.shape)


class Definition(NamedTuple):
    """A file that is yet to be written: its blocks, its size, and HDF5's own bytes with their offsets."""

    blocks: dict[str, Block]
    size: int
    pieces: list[tuple[int, bytes]]


def define_blocks(
    n_rows: int,
    n_dimensions: int,
    types: Mapping[str, np.dtype],
    n_bytes: int,
    *,
    sources: Sequence[tuple[str, int]] = (),
    n_piece_bytes: int = 0,
) -> Definition:
    """Lay out a feature set's file.

    Parameters
    ----------
    n_rows, n_dimensions : int
        N and D.
    types : mapping of str to dtype
        Types of the blocks whose type is not fixed: `embedding` and the texts (``S<width>``).
    n_bytes : int
        Length of the provenance.
    sources : sequence of (str, int)
        Where the vectors lie in other files: the place of each, relative to this one, and its number of rows.
    n_piece_bytes : int
        Length of what `pieces` says of them.
    """
    lengths = {"N": n_rows, "D": n_dimensions, "B": n_bytes, "H": SEAL_BYTES, "L": LOG_BYTES}
    allocated = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    allocated.set_layout(h5py.h5d.CONTIGUOUS)
    allocated.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    allocated.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    sparse, blocks = _Sparse(), {}
    page = {"alignment_threshold": _ALIGNMENT, "alignment_interval": _ALIGNMENT}
    with h5py.File(sparse, "w", **page) as file:
        file.attrs["format"] = FORMAT
        for name, (kinds, axes) in _EXPECTED.items():
            shape = tuple(lengths[axis] for axis in axes)
            dtype = np.dtype(types.get(name, kinds.split()[0]))
            if name == "embedding" and sources:
                _define_virtual(file, shape, dtype, sources)
                blocks[name] = Block(0, shape, dtype)
                continue
            dataset = file.create_dataset(name, shape, dtype, dcpl=allocated)
            blocks[name] = Block(dataset.id.get_offset(), shape, dtype)
        if sources:
            dataset = file.create_dataset(_PIECES, n_piece_bytes, np.uint8, dcpl=allocated)
            blocks[_PIECES] = Block(dataset.id.get_offset(), (n_piece_bytes,), np.dtype(np.uint8))
    return Definition(blocks, sparse.size, sparse.pieces)


def _define_virtual(
    file: h5py.File, shape: tuple[int, ...], dtype: np.dtype, sources: Sequence[tuple[str, int]]
) -> None:
    layout, start = h5py.VirtualLayout(shape, dtype), 0
    for place, n_rows in sources:
        source = h5py.VirtualSource(place, "embedding", (n_rows, *shape[1:]), dtype)
        layout[start : start + n_rows] = source
        start += n_rows
    file.create_virtual_dataset("embedding", layout, fillvalue=np.nan)


def read_blocks(handle: BinaryIO, path: Path) -> dict[str, Block]:
    """Return the blocks of a feature set's file.

    Parameters
    ----------
    handle : binary file
        Open for reading; what is returned describes this very file, whatever takes its name later.
    path : Path
        Its name, for messages.

    Raises
    ------
    MixedSignalsError
        If the file is not a feature set, or holds anything that could lead out of it.
    """
    size = handle.seek(0, io.SEEK_END)
    try:
        with h5py.File(handle, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise _Refused(f"not of format {FORMAT}; remove it, then extract or import it again")
            pieces = {_PIECES: ("u1", "P")} if _PIECES in file else {}
            virtual = {"embedding"} if pieces else set()
            blocks = {
                name: _checked_block(file, name, size, kinds, len(axes), virtual=name in virtual)
                for name, (kinds, axes) in (_EXPECTED | pieces).items()
            }
    except _Refused as error:
        raise MixedSignalsError(f"{path}: refused as a feature set: {error}") from None
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise MixedSignalsError(
            f"{path}: damaged, or no feature set; remove it, then extract or import it again ({error})"
        ) from error
    lengths = {"H": SEAL_BYTES, "L": LOG_BYTES}
    for name, (_, axes) in _EXPECTED.items():
        for axis, length in zip(axes, blocks[name].shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise MixedSignalsError(
                    f"{path}: refused as a feature set: shapes do not match ({name} has {length:,}, "
                    f"expected {lengths[axis]:,})"
                )
    return blocks


def sealed_blocks(blocks: Collection[str]) -> tuple[str, ...]:
    """Return the names of the blocks that never change once a file is made."""
    return (*SEALED, _PIECES) if _PIECES in blocks else SEALED


def seal(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the SHA-256 of the arrays that never change once a file is made, shape (32,), uint8."""
    digest = hashlib.sha256()
    for name in sealed_blocks(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return np.frombuffer(digest.digest(), np.uint8)


class _Refused(Exception):  # noqa: N818
    """What is in the file is not taken."""


def _checked_block(file: h5py.File, name: str, size: int, kinds: str, n_axes: int, *, virtual: bool) -> Block:
    """Return one dataset's block if it is what we write: a contiguous block of plain values in this file.

    Of one that is to be `virtual` nothing is read by way of it; its block lies nowhere.
    """
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise _Refused(f"{name} is a {type(link).__name__} to somewhere else")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise _Refused(f"{name} is not a dataset")
    plist = dataset.id.get_create_plist()
    if plist.get_external_count():
        raise _Refused(f"{name} lies in another file")
    if dataset.is_virtual and not virtual:
        raise _Refused(f"{name} is a virtual dataset over other files")
    if plist.get_layout() != (h5py.h5d.VIRTUAL if virtual else h5py.h5d.CONTIGUOUS):
        raise _Refused(f"{name} is not contiguous")
    dtype = dataset.dtype
    if dtype.kind == "O" or not any(dtype.kind == k or dtype.str[1:] == k for k in kinds.split()):
        raise _Refused(f"{name} holds {dtype}, not plain {'text' if kinds == 'S' else kinds}")
    shape = dataset.shape
    if shape is None or len(shape) != n_axes or 0 in shape:
        raise _Refused(f"{name} has the shape {shape}")
    if virtual:
        return Block(0, shape, np.dtype(dtype.str))
    block = Block(dataset.id.get_offset() or size, shape, np.dtype(dtype.str))
    if block.stop > size:
        raise _Refused(f"{name} reaches beyond the end of the file")
    return block


class _Sparse(io.RawIOBase):
    """A file in memory that remembers only what was written: HDF5's own bytes, not the space it allocates."""

    def __init__(self) -> None:
        self.size = 0
        self.pieces: list[tuple[int, bytes]] = []
        self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def write(self, data: bytes) -> int:  # type: ignore[override]
        piece = bytes(data)
        self.pieces.append((self._position, piece))
        self._position += len(piece)
        self.size = max(self.size, self._position)
        return len(piece)

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        start, stop = self._position, self._position + len(buffer)
        buffer[:] = bytes(len(buffer))
        for offset, piece in self.pieces:
            begin, end = max(offset, start), min(offset + len(piece), stop)
            if begin < end:
                buffer[begin - start : end - start] = piece[begin - offset : end - offset]
        self._position = stop
        return len(buffer)
