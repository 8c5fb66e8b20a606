"""A sweep that is under way, on disk: what was asked for, and the blocks that are done.

It lies beside the runs as ``runs/.<name>.unfinished/`` until the run is whole: ``call.json``, a ``<block>.npz`` for
each finished block, and the heads' files in ``heads/``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixed_signals.models.blocks import head_file
from mixed_signals.store import MixedSignalsError, Store, UsageError
from mixed_signals.store.files import checked_name, plain, read_json, write_json
from mixed_signals.store.locks import sole_writer


@dataclass(frozen=True)
class KeptHead:
    """A fitted head whose file is there already, under a name without its ending."""

    stem: Path

    def save(self, stem: str) -> str:
        """Move the file to where the run keeps its heads; return its path."""
        path = head_file(self.stem)
        if path is None:
            raise MixedSignalsError(f"{self.stem}: the head's file is gone; begin the run anew (--restart)")
        moved = f"{stem}{path.suffix}"
        path.rename(moved)
        return moved


def unfinished_path(store: Store, name: str) -> Path:
    """Return the folder of a run that is not whole yet, whether it is there or not."""
    return store.inside("runs", f".{checked_name(name, 'run')}.unfinished")


def _run_name(folder: Path) -> str:
    return folder.name.removeprefix(".").removesuffix(".unfinished")


@contextmanager
def unfinished(store: Store, name: str, *, restart: bool = False) -> Iterator[Path]:
    """Hold the folder of a run that is not whole yet; no other process may work on the same run.

    Parameters
    ----------
    store : Store
    name : str
        The run's name.
    restart : bool
        Whether what is there already is thrown away.
    """
    folder = unfinished_path(store, name)
    with sole_writer(folder / "run", "run"):
        if restart:
            for made in (folder / "call.json", *folder.glob("*.npz")):
                made.unlink(missing_ok=True)
            shutil.rmtree(folder / "heads", ignore_errors=True)
        try:
            yield folder
        except BaseException:
            if not any(folder.glob("*.npz")):  # nothing to go on from
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder)


def check_call(folder: Path, call: Mapping[str, Any]) -> None:
    """Note what a sweep was asked for, or hold that it is what it was begun with.

    Raises
    ------
    UsageError
        If the folder holds blocks of another call; the message names what differs.
    """
    path = folder / "call.json"
    now = plain(dict(call))
    if path.exists() and any(folder.glob("*.npz")):
        begun = read_json(path)
        differing = sorted(key for key in {*begun, *now} if begun.get(key) != now.get(key))
        if differing:
            raise UsageError(
                f"run {_run_name(folder)!r} was begun with other {', '.join(differing)}; finish it with the same call, "
                "choose another name (--run), or begin anew (--restart)"
            )
    else:
        write_json(path, now)
