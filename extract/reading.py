"""The first stage of the job: each utterance read once for all the encoders of its modality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from mixed_signals.extract.encoders.base import Reader, TextReader
from mixed_signals.extract.media import Clip
from mixed_signals.extract.parcels import spool_folder
from mixed_signals.extract.reads import Decoded, read_texts
from mixed_signals.extract.workers import Workers

ReadRows = Callable[
    [Sequence[Clip], Mapping[int, Sequence[int]], float | None, Callable[[], None]], Iterator[Decoded]
]


@contextmanager
def reading(
    readers: Sequence[Reader],
    clips: Sequence[Clip],
    rows: Iterable[int] | Mapping[int, Sequence[int]],
    *,
    workers: int = 1,
    timeout: float | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Iterator[Decoded]]:
    """Read utterances; worker processes begin at once, and end with the block.

    Parameters
    ----------
    readers : sequence of Reader
        All of one modality.
    clips : sequence of Clip
    rows : iterable of int, or mapping of int to sequence of int
        Which of the clips, in the order in which they are begun; a mapping also says by which of the readers.
    workers : int
        Processes that decode media; text is read in this one.
    timeout : float, optional
        Seconds after which an utterance is given up.
    meanwhile : callable
        Called now and then while media are waited for; what it raises ends the reading.

    Yields
    ------
    iterator of Decoded
        As they come; those of media not quite in the order of `rows`.

    Raises
    ------
    MixedSignalsError
        If a reader cannot be loaded.
    """
    wanted = rows if isinstance(rows, Mapping) else dict.fromkeys(rows, range(len(readers)))
    with readers_at_work(readers, workers) as read:
        yield read(clips, wanted, timeout, meanwhile)


@contextmanager
def readers_at_work(readers: Sequence[Reader], workers: int, memory: int | None = None) -> Iterator[ReadRows]:
    """Begin worker processes that read whatever they are given, again and again, until the block ends.

    Parameters
    ----------
    readers : sequence of Reader
        All of one modality.
    workers : int
        Processes that decode media.
    memory : int, optional
        Bytes that each of them may take; an utterance that needs more fails.

    Yields
    ------
    callable
        Takes clips, the readers by clip, a time-out and `meanwhile`, as `reading` has them; yields `Decoded`.
    """
    if isinstance(readers[0], TextReader):
        texts = cast(Sequence[TextReader], readers)
        yield lambda clips, wanted, timeout, meanwhile: read_texts(texts, clips, wanted)
        return
    with spool_folder() as spool, Workers(readers, spool, workers, memory) as begun:
        yield begun.read
