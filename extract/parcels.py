"""Large arrays from a worker process to this one, through memory instead of a pipe.

A pipe moves some hundred megabytes a second whatever the number of workers, for all of them together; two seconds of
pictures for a video network are 2.4 MB. Arrays therefore go by a file in the system's shared memory (or, where there is
none, in the folder for temporary files), which the receiver maps and removes. What is small, and what finds no room,
goes by the pipe.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

_LEAST_BYTES = 1 << 18  # less goes as quickly by the pipe
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (a folder of its own is made in it)
_PREFIX = "mixed-signals-"


class Parcel(NamedTuple):
    """What a worker sends: an object without its arrays' bytes, and where those are."""

    head: bytes
    sizes: tuple[int, ...]
    path: str  # empty where the bytes come along
    bodies: tuple[bytes, ...] = ()


@contextmanager
def spool_folder() -> Iterator[Path]:
    """Make a folder for parcels on their way, and remove it at the end, with those that killed processes left."""
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        _sweep(left)
    folder, claim = _claimed_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(claim)


def send(content: Any, folder: Path | None = None) -> Parcel:
    """Pack an object of plain values and arrays; for `receive` in another process.

    Without a folder the bytes come along, whatever their size.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(content, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    sizes = tuple(one.nbytes for one in raw)
    if folder is not None and sum(sizes) >= _LEAST_BYTES:
        with suppress(OSError):  # no room there: it goes by the pipe
            return Parcel(head, sizes, _spooled(raw, folder))
    return Parcel(head, sizes, "", tuple(map(bytes, raw)))


def receive(parcel: Parcel) -> Any:
    """Return what was packed; its arrays are this process's own, and may be written to."""
    if not parcel.path:
        return pickle.loads(parcel.head, buffers=[bytearray(body) for body in parcel.bodies])  # noqa: S301 (our own)
    with open(parcel.path, "rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    os.unlink(parcel.path)
    buffers, begin = [], 0
    for size in parcel.sizes:
        buffers.append(whole[begin : begin + size])
        begin += size
    return pickle.loads(parcel.head, buffers=buffers)  # noqa: S301 (our own)


def _spooled(buffers: list[memoryview], folder: Path) -> str:
    """Write buffers into a new file, and return its path."""
    handle, path = tempfile.mkstemp(dir=folder)
    try:
        with open(handle, "wb") as file:
            file.writelines(buffers)
    except OSError:
        os.unlink(path)
        raise
    return path


def _claimed_folder(parent: Path) -> tuple[Path, int]:
    """Make a folder that is locked while this process lives: its number says little where containers share memory."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with suppress(FileNotFoundError):  # another process may sweep it away before it is locked
            claim = os.open(folder, os.O_RDONLY)
            fcntl.flock(claim, fcntl.LOCK_EX)
            if folder.exists():
                return folder, claim
            os.close(claim)


def _sweep(folder: Path) -> None:
    """Remove a folder whose process is no more."""
    with suppress(OSError):
        claim = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(claim)
