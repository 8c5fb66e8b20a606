"""What a training says of itself while it goes: a file of JSON lines, and TensorBoard's where that is wanted."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from mixed_signals.store.errors import UsageError
from mixed_signals.store.files import plain

METRICS = "metrics.jsonl"
_BOARD = "tensorboard"


class Log:
    """The metrics of a training, open for more.

    Parameters
    ----------
    folder : Path
        Takes ``metrics.jsonl``, and ``tensorboard/``.
    size : int
        How many bytes of ``metrics.jsonl`` hold; what comes after was said by an epoch that was broken off.
    tensorboard : bool
        Whether all numbers are written for TensorBoard too. It is given what the file holds already once more, since
        an epoch that was broken off would stay in what was written for it.

    Raises
    ------
    UsageError
        If TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, size: int, *, tensorboard: bool = False) -> None:
        writer = board_writer() if tensorboard else None
        self._open = ExitStack()
        self._board: Any = None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS
        path.touch()
        self._file = self._open.enter_context(path.open("r+b"))
        self._file.seek(self._file.truncate(min(size, path.stat().st_size)))
        if writer is not None:
            shutil.rmtree(folder / _BOARD, ignore_errors=True)
            self._board = writer(str(folder / _BOARD))
            self._open.callback(self._board.close)
            for line in path.read_bytes().splitlines():
                self._show(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def size(self) -> int:
        """How many bytes ``metrics.jsonl`` has."""
        return self._file.tell()

    def say(self, said: dict[str, Any]) -> None:
        """Write a line; one with a ``step`` is of that step, else of the ``epoch`` it names."""
        said = plain(said)
        self._file.write(json.dumps(said, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        if self._board is not None:
            self._show(said)

    def _show(self, said: dict[str, Any]) -> None:
        what = "step" if "step" in said else "epoch"
        for name, value in said.items():
            if isinstance(value, float):
                self._board.add_scalar(f"{what}/{name}", value, said[what])


class NoLog:
    """What stands in for it in a process that does not write."""

    size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is open."""

    def say(self, said: dict[str, Any]) -> None:
        """Say nothing."""


def board_writer() -> Any:
    """Return the class that writes for TensorBoard.

    Raises
    ------
    UsageError
        If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard: TensorBoard is not installed: pip install tensorboard, or leave the flag out"
        ) from None
    return SummaryWriter
