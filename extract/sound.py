"""The sound of a media file as mono samples: cut to the sample, in step with the time stamps, at any rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mixed_signals.extract.decoding import LONGEST_GAP, Unreadable, decoded

RATES = (1_000, 768_000)
"""Lowest and highest sample rate, in Hz, that is held to be one of sound."""

MOST_SAMPLES = 2**28
"""Samples that an utterance may have: an hour and a half at 48 kHz, 1 GiB."""

_GAP = 0.01  # seconds between time stamps and samples from which on something is missing


def mono(container: Any, start: float, end: float | None) -> tuple[int, np.ndarray]:
    """Return the file's own sample rate and the samples between start and end, channels averaged.

    Gaps between time stamps (lost packets) are silence, so that sound stays in step with the picture.

    Returns
    -------
    rate : int
    samples : ndarray of float32, shape (n,)
        Full scale is 1.

    Raises
    ------
    Unreadable
        If the rate is none of sound or changes, a gap is too long to be one, or there is too much of it.
    """
    rate = 0
    position = kept = 0  # of the next sample, counted from the file's beginning
    first, last = 0, None
    pieces = []

    def keep(samples: np.ndarray) -> None:
        nonlocal kept
        pieces.append(samples)
        kept += len(samples)
        if kept > MOST_SAMPLES:
            raise Unreadable(f"more than {MOST_SAMPLES / rate / 60:.0f} minutes of sound in one utterance")

    for time, frame in decoded(container, container.streams.audio[0], start):
        if not rate:
            rate = frame.sample_rate
            if not RATES[0] <= rate <= RATES[1]:
                raise Unreadable(f"a sample rate of {rate} Hz is none of sound")
            first, last = round(start * rate), None if end is None else round(end * rate)
            position = round(time * rate)
        elif frame.sample_rate != rate:
            raise Unreadable(f"its sample rate changes from {rate} to {frame.sample_rate} Hz")
        stamped = round(time * rate)
        if stamped - position > _GAP * rate:
            silent = (stamped if last is None else min(stamped, last)) - max(position, first)
            if silent > LONGEST_GAP * rate:
                raise Unreadable(f"its time stamps leave {silent / rate:.0f} s of sound out")
            keep(np.zeros(max(silent, 0), np.float32))
            position = stamped
        samples = _mixed(frame)
        keep(samples[max(first - position, 0) : None if last is None else max(last - position, 0)])
        position += len(samples)
        if last is not None and position >= last:
            break
    return rate, np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def resampled(samples: np.ndarray, rate: int, rates: Iterable[int]) -> dict[int, np.ndarray]:
    """Return mono samples at other rates.

    Raises
    ------
    Unreadable
        If there would be too many of them.
    """
    return {other: samples if other == rate else _resampled(samples, rate, other) for other in rates}


def _resampled(samples: np.ndarray, rate: int, other: int) -> np.ndarray:
    import av

    if len(samples) / rate * other > MOST_SAMPLES:
        raise Unreadable(f"{len(samples) / rate / 60:.0f} minutes of sound in one utterance")
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=other)
    pieces = [piece.to_ndarray()[0] for given in (frame, None) for piece in resampler.resample(given)]
    return np.concatenate(pieces)


def _mixed(frame: Any) -> np.ndarray:
    """Return the mean of a frame's channels as float32, full scale 1."""
    try:
        values = frame.to_ndarray()  # (channels, n), or (1, n * channels)
    except ValueError as error:
        raise Unreadable(f"sound in the format {frame.format.name} is not read") from error
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            return values.mean(axis=0, dtype=np.float32)
    middle = 128 if values.dtype.kind == "u" else 0
    scale = 2.0 ** (8 * values.dtype.itemsize - 1)
    return ((values.mean(axis=0) - middle) / scale).astype(np.float32)
