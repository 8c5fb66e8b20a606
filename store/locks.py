"""The one lock of the store: a writer's, on the feature set, the run or the encoder that it writes.

It is the operating system's own lock on a small file beside what is written, so it is free the moment its owner ends,
however it ends. The file names the owner for the message that a second writer gets.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from mixed_signals.store.errors import MixedSignalsError


@contextmanager
def sole_writer(path: Path, what: str = "feature set", *, patience: float = 0.0) -> Iterator[None]:
    """Hold the writer's lock of a file, by default a feature set's; wait for it so many seconds.

    Raises
    ------
    MixedSignalsError
        If another process holds it; the message names host and process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    note = lock_of(path)
    if note.is_symlink():
        raise MixedSignalsError(f"{note}: refused: a link in the place of a lock; remove it")
    lock = filelock.FileLock(str(note))
    try:
        lock.acquire(timeout=patience)
    except filelock.Timeout:
        raise MixedSignalsError(
            f"{path}: {_owner(note)} is writing this {what}; wait for it, or stop it"
        ) from None
    try:
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T")}
        note.write_text(json.dumps(owner), encoding="utf-8")
        yield
    finally:
        lock.release()


def lock_of(path: Path) -> Path:
    """Return where the lock of a file is."""
    return path.with_name(f".{path.name}.lock")


def remove_alone(path: Path) -> None:
    """Remove a file that nobody writes, and its lock; where there is none, do nothing.

    Raises
    ------
    MixedSignalsError
        If another process writes it.
    """
    if path.exists():
        with sole_writer(path):
            path.unlink()
            lock_of(path).unlink(missing_ok=True)


def _owner(note: Path) -> str:
    try:
        owner = json.loads(note.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
