"""An utterance's media: its sound as mono samples, its pictures at wanted times.

Times are seconds from the start of the file (the earliest of its streams). Start and end are honoured to the
sample before resampling, and to the frame by time stamp, so a variable frame rate does not shift anything. A late
cut is as exact as the container's time stamps: to the sample in mp4, mov, wav and flac, to less than a millisecond
in Matroska, whose stamps are whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.extract.decoding import Absent, Unreadable, opened, packet_ends, require_half, told_end
from mixed_signals.extract.film import Viewer, look
from mixed_signals.extract.sound import mono, resampled

__all__ = ["Absent", "Clip", "Unreadable"]

SILENCE_DBFS = -80.0
"""Sound whose root mean square is below this level (relative to full scale) counts as silent."""

LOUDEST_DBFS = 60.0
"""Numbers whose root mean square is above this level are held to be no sound."""

SHORTEST_SOUND = 0.02
"""Seconds of sound below which no encoder gets a frame."""


@dataclass(frozen=True)
class Clip:
    """One utterance as an encoder sees it.

    Attributes
    ----------
    utterance_id, text : str
    media : Path, str or None
        A file of this machine, or a URL.
    start, end : float or None
        Seconds into the media; None means from its beginning, to its end.
    """

    utterance_id: str
    text: str = ""
    media: Path | str | None = None
    start: float | None = None
    end: float | None = None

    def waveforms(self, rates: Iterable[int]) -> dict[int, np.ndarray]:
        """Return the sound between start and end at several rates, decoded once.

        Parameters
        ----------
        rates : iterable of int
            In Hz.

        Returns
        -------
        dict of int to ndarray
            Mono float32 samples by rate, shape (n,), full scale 1.

        Raises
        ------
        Absent
            If there is no media, no audio track, or nothing but silence.
        Unreadable
            If the file is not there or cannot be decoded, has less than half of what lies between start and end, or
            holds less than `SHORTEST_SOUND` of it.
        """
        start = self.start or 0.0
        with opened(self.media) as container:
            if not container.streams.audio:
                raise Absent("no audio track")
            told = told_end(container)
            native, samples = mono(container, start, self.end)
        seconds = len(samples) / native if native else 0.0
        if self.end is None and told is not None and start + seconds < 0.5 * told:
            with opened(self.media) as container:
                packet_ends(container)  # refuses a file that breaks off; the sound alone may well end early
        require_half(seconds, 0.0 if self.end is None else self.end - start, "sound", start, self.end)
        if seconds < SHORTEST_SOUND:
            raise Unreadable(f"only {1000 * seconds:.0f} ms of sound")
        level = 10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-20)
        if level < SILENCE_DBFS:
            raise Absent(f"silent (below {SILENCE_DBFS:g} dBFS)")
        if not level < LOUDEST_DBFS:
            raise Unreadable("what it holds is no sound (numbers far above full scale)")
        return resampled(samples, native, rates)

    def waveform(self, rate: int) -> np.ndarray:
        """Return the sound between start and end as mono float32 samples at `rate` Hz, shape (n,).

        Raises what `waveforms` does.
        """
        return self.waveforms([rate])[rate]

    def look(self, viewers: Sequence[Viewer]) -> list[list[Any] | Exception]:
        """Show the pictures between start and end to viewers, each at its own times; the file is decoded once.

        Parameters
        ----------
        viewers : sequence
            Objects with `times(start, stop)` and `look(picture)`, as a `PictureReader` has. `stop` is where the
            utterance ends or the film does, whichever is first.

        Returns
        -------
        list
            For each viewer what it kept, one entry per time, or the exception that it raised.

        Raises
        ------
        Absent
            If there is no media or no video stream.
        Unreadable
            If the file is not there or cannot be decoded, or has less than half of what lies between start and end.
        """
        return look(self.media, self.start or 0.0, self.end, viewers)
