"""The shards of a feature set while they are merged: one open at a time, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.features import FeatureSet
from mixed_signals.store.folder import ShardFile, Store
from mixed_signals.store.locks import sole_writer
from mixed_signals.store.pieces import Piece
from mixed_signals.store.verify import own_file
from mixed_signals.store.virtual import piece_of


class Shards(Sequence[FeatureSet]):
    """The shards of a feature set, each opened where it is asked for; none may change before the merge is done."""

    def __init__(self, store: Store, shards: Sequence[ShardFile]) -> None:
        self.shards = list(shards)
        self._store = store
        self._seen: dict[int, tuple[int, int, int]] = {}

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, number: int) -> FeatureSet: ...
    @overload
    def __getitem__(self, number: slice) -> list[FeatureSet]: ...
    def __getitem__(self, number: int | slice) -> FeatureSet | list[FeatureSet]:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        shard = self.shards[number]  # an IndexError ends an iteration
        self._refuse_changed(number)
        return FeatureSet(shard.path)

    @contextmanager
    def alone(self, number: int) -> Iterator[Path]:
        """Let nobody write one. The first is held for as long as the merge takes, so that no two meet."""
        path = self.shards[number].path
        with sole_writer(own_file(self._store, path)) if number else nullcontext():
            self._refuse_changed(number)
            yield path

    def remove(self) -> None:
        """Remove the files, the first one's last."""
        names = {shard.path.name for shard in self.shards}
        for number in reversed(range(len(self))):
            with self.alone(number) as path:
                path.unlink()
        for left in self.shards[0].path.parent.glob(".*.h5.*"):  # locks; what killed writers left
            if left.name[1 : left.name.rindex(".h5.") + 3] in names:
                left.unlink()

    def refuse_changed(self) -> None:
        """Refuse to go on where any of them was written or removed since it was first opened."""
        for number in range(len(self)):
            self._refuse_changed(number)

    def _refuse_changed(self, number: int) -> None:
        path = self.shards[number].path
        try:
            found = own_file(self._store, path).stat()
        except FileNotFoundError:
            raise MixedSignalsError(
                f"{path}: is gone since the merge began; run the same command again"
            ) from None
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if self._seen.setdefault(number, seen) != seen:
            raise MixedSignalsError(f"{path}: was written while it was merged; run the same command again")


@dataclass
class Said:
    """What shards say of themselves, one after the other.

    Attributes
    ----------
    pieces : list of Piece
        Where their vectors lie.
    checksums : list of ndarray of uint64
    jobs : list of dict
    versions : list of dict
        Of libraries, each once.
    """

    n_rows: int = 0
    pieces: list[Piece] = field(default_factory=list)
    checksums: list[np.ndarray] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, str]] = field(default_factory=list)

    def add(self, features: FeatureSet) -> None:
        """Take down what one says."""
        self.n_rows += len(features)
        self.pieces.append(piece_of(features))
        self.checksums.append(np.array(features.checksums))
        self.jobs += features.jobs
        self.versions += [one for one in features.provenance["versions"] if one not in self.versions]
