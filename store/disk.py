"""Bytes put into files at known places, and a full disk as one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.layout import Block

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def room_or_error(path: Path, *, kept: bool = False) -> Iterator[None]:
    """Turn a full disk into an error of one line.

    Parameters
    ----------
    path : Path
        What is written.
    kept : bool
        Whether what was written before stays, and the same command goes on from there.

    Raises
    ------
    MixedSignalsError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        stays = "; what was written is kept" if kept else ""
        raise MixedSignalsError(
            f"{path}: {os.strerror(error.errno or 0).lower()}{stays}: make room and run the same command again"
        ) from error


@contextmanager
def saved_or_error(path: Path) -> Iterator[None]:
    """Turn what safetensors says where it cannot write, which names no file, into an error of one line.

    Raises
    ------
    MixedSignalsError
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise MixedSignalsError(
            f"{path}: cannot be written ({error}): make room and run the same command again"
        ) from error


def reserve(file: int, size: int) -> None:
    """Give the file its size, and its room on the disk where the system can."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def put(file: int, block: Block, row: int, values: np.ndarray) -> None:
    """Write rows of a block, from one of them on."""
    write_all(file, values.data.cast("B"), block.offset + row * block.row_bytes)


def write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write bytes at an offset, all of them."""
    while len(data):
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
