"""What a network is trained on, read as extraction reads it, and kept as far as there is room."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from mixed_signals.extract.children import cores
from mixed_signals.extract.decoding import opened, told_end
from mixed_signals.extract.encoders.passes import PassEncoder
from mixed_signals.extract.finetune.ranks import ALONE, Ranks
from mixed_signals.extract.job import clips_of, rough_lengths
from mixed_signals.extract.media import Absent, Clip, Unreadable
from mixed_signals.extract.reading import reading
from mixed_signals.extract.reads import Decoded, Read, fault
from mixed_signals.store import MixedSignalsError, Status, Store

_NEIGHBOURS = (
    8  # steps whose rows are sorted by length together: more would make the same batches every epoch
)


class Inputs:
    """What an encoder's reader makes of a corpus: one for all trainings of an encoder.

    Of several processes that train together each looks at its share of the utterances, so that looking takes no longer
    than with one. It keeps what it reads, then or later; what falls to it in an epoch and it has not kept, it reads. So
    an utterance is read as many times as there are processes, at most, over the first epochs; and what has no room,
    once an epoch by one of them.

    Parameters
    ----------
    store : Store
    encoder : PassEncoder
        Not loaded; its reader and its windows are used.
    workers : int, optional
        Processes that decode. By default one for each core, or a quarter of them where the network is on the processor.
    timeout : float
        Seconds after which an utterance is given up.
    memory : int
        Bytes that what was read may take; what has no room is read again in every epoch.
    max_seconds : float, optional
        Only so much of the beginning of each utterance's media is read.
    ranks : Ranks
        The processes that train together.

    Attributes
    ----------
    reasons : dict of str to str
        Why an utterance cannot be trained on, as far as they were looked at.
    """

    def __init__(
        self,
        store: Store,
        encoder: PassEncoder,
        *,
        workers: int | None = None,
        timeout: float = 600.0,
        memory: int = 4 << 30,
        max_seconds: float | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.encoder, self.timeout, self.memory, self.ranks = encoder, timeout, memory, ranks
        self.workers = workers or max(1, cores() // 4 if encoder.device == "cpu" else cores())
        self.reasons: dict[str, str] = {}
        with_media = encoder.modality != "text"
        self._clips = clips_of(store, with_media=with_media)
        self._lengths = rough_lengths(store, encoder.modality)
        if with_media and max_seconds is not None:
            self._clips = [shortened(clip, max_seconds) for clip in self._clips]
            self._lengths = np.minimum(self._lengths, max_seconds)
        self._rows = {clip.utterance_id: row for row, clip in enumerate(self._clips)}
        self._kept: dict[int, Any] = {}
        self._kept_bytes = 0
        self._looked_at: set[int] = set()

    def look(self, ids: Iterable[str], on_read: Callable[[], None] = lambda: None) -> list[str]:
        """Read what was not read yet, once; return those of the utterances that can be trained on.

        Parameters
        ----------
        ids : iterable of str
        on_read : callable
            Called for each utterance that was read, here.

        Raises
        ------
        MixedSignalsError
            If the reader cannot be loaded.
        """
        ids = list(ids)
        new = [self._rows[one] for one in ids if self._rows[one] not in self._looked_at]
        with self._reading(self.ranks.share(new)) as decoded:
            for one in decoded:
                self._looked_at.add(one.row)
                read = one.reads[0]
                if reason := self._reason(read):
                    self.reasons[self._clips[one.row].utterance_id] = reason
                else:
                    self._keep(one.row, read.value)
                on_read()
        if new:
            for reasons in self.ranks.all_gather(self.reasons):
                self.reasons |= reasons
            self._looked_at.update(new)
        return [one for one in ids if one not in self.reasons]

    def lengths(self, ids: Sequence[str]) -> np.ndarray:
        """Return about how long utterances are, shape (N,): bytes of text, seconds of media."""
        return self._lengths[[self._rows[one] for one in ids]]

    def values(self, batches: Sequence[Sequence[str]]) -> Generator[list[Any]]:
        """Yield what was read of each batch, in their order; what is not kept is read meanwhile.

        Raises
        ------
        MixedSignalsError
            If an utterance could be read before and cannot be now.
        """
        rows = [[self._rows[one] for one in batch] for batch in batches]
        again = [row for batch in rows for row in batch if row not in self._kept]
        with self._reading(again) as decoded:
            ahead: dict[int, Any] = {}
            for batch in rows:
                while any(row not in self._kept and row not in ahead for row in batch):
                    one = next(decoded)
                    if reason := self._reason(one.reads[0]):
                        name = self._clips[one.row].utterance_id
                        raise MixedSignalsError(f"{name}: could be read before, and not now: {reason}")
                    if not self._keep(one.row, one.reads[0].value):
                        ahead[one.row] = one.reads[0].value
                yield [self._kept[row] if row in self._kept else ahead.pop(row) for row in batch]

    def _keep(self, row: int, value: Any) -> bool:
        """Keep what was read if there is room for it; return whether there was."""
        size = n_bytes(value)
        if self._kept_bytes + size > self.memory:
            return False
        self._kept[row] = value
        self._kept_bytes += size
        return True

    def _reading(self, rows: Sequence[int]) -> AbstractContextManager[Iterator[Decoded]]:
        if not rows:
            return nullcontext(iter(()))
        return reading(
            [self.encoder.reader],
            self._clips,
            rows,
            workers=min(self.workers, len(rows)),
            timeout=self.timeout,
        )

    def _reason(self, read: Read) -> str:
        """Return why there is nothing to train on; empty where there is."""
        if read.status != Status.OK:
            return read.reason
        try:
            windows = self.encoder.windows(read.value)
        except Exception as error:  # one utterance's fault is its own
            return fault(error).reason
        return "" if len(windows) else "nothing in it that the network takes"


def steps(
    lengths: np.ndarray, batch_size: int, accumulate: int, seed: Sequence[int]
) -> list[list[np.ndarray]]:
    """Deal rows out into the steps of an epoch, in random order, each of rows of neighbouring lengths.

    Parameters
    ----------
    lengths : ndarray of float, shape (N,)
    batch_size : int
        Rows of a batch.
    accumulate : int
        Batches of a step. The steps do not depend on how one is cut into batches.
    seed : sequence of int

    Returns
    -------
    list of list of ndarray of int
        Batches of each step; each row once. The last batches may be smaller.

    Examples
    --------
    >>> [[batch.tolist() for batch in step] for step in steps(np.array([5.0, 1.0, 4.0, 2.0]), 1, 2, [0])]
    [[[3], [1]], [[0], [2]]]
    """
    draw = np.random.default_rng(seed)
    size = batch_size * accumulate
    planned: list[np.ndarray] = []
    for some in _parts(draw.permutation(len(lengths)), size * _NEIGHBOURS):
        planned += _parts(some[np.argsort(-lengths[some], kind="stable")], size)
    return [_parts(planned[number], batch_size) for number in draw.permutation(len(planned))]


def shortened(clip: Clip, seconds: float) -> Clip:
    """Return the beginning of a clip; all of one that is no longer, or of which nobody says how long it is."""
    start, end = clip.start or 0.0, clip.end
    if end is None:
        try:
            with opened(clip.media) as container:
                end = told_end(container)
        except (Absent, Unreadable):
            return clip  # its reader will say what is wrong
    return replace(clip, end=start + seconds) if end is not None and end - start > seconds else clip


def n_bytes(value: Any) -> int:
    """Return about how much memory arrays take, alone or in lists and tuples of them."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(map(n_bytes, value)) if isinstance(value, list | tuple) else 0


def _parts(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
