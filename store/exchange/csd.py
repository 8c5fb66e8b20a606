"""Computational sequences (``.csd``) of the CMU Multimodal SDK: HDF5 with a time series an entry.

::

    /<sequence>/data/<entry>/features   (T, D) numbers
    /<sequence>/data/<entry>/intervals  (T, 2) seconds: where each step begins and ends

An utterance's vector is the mean over steps. An entry is called as the utterance (``video[3]`` as well), and all its
steps count; or, with `entry`, as the value of a corpus column, e.g. the video, and the steps count whose interval
overlaps the utterance's start to end (an utterance without start or end reaches to the entry's). A step with a value
that is not finite is left out; an utterance that loses all its steps so is `failed`, one without a step `missing`.

A file may come from anyone: groups and datasets are taken only by hard links, with their values inside this file, as
plain numbers, and of a size that the stored bytes can account for.

Source: https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from mixed_signals.store.cells import texts
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.exchange.hdf5_file import inside, numbers
from mixed_signals.store.exchange.matrices import (
    Matrix,
    Request,
    as_matrix,
    lacking,
    numbered,
    refuse_strangers,
    unreadable,
)


def read_sequence(source: Path, request: Request) -> Matrix:
    """Read the sequence of a file (`request.key` where it has several), a mean over time for each utterance.

    Raises
    ------
    UsageError
        If entries belong to no utterance, hold something else than numbers, or lead out of the file.
    MixedSignalsError
        If the file is not readable.
    """
    try:
        with h5py.File(source, "r", locking=False) as file:
            means = _means(source, file, request)
    except MixedSignalsError:
        raise
    except Exception as error:  # damaged bytes make HDF5 raise nearly anything
        raise unreadable(source, error) from error
    if not means:
        raise UsageError(
            f"{source}: has no step for any utterance; with --entry, check the corpus's start and end times"
        )
    ids = request.corpus.ids
    vectors = as_matrix(np.array([means[row] for row in sorted(means)]), str(source))
    steps = "all" if request.entry is None else "those that overlap the utterance"
    return Matrix(
        [ids[row] for row in sorted(means)],
        vectors,
        numbered(request.name, vectors.shape[1]),
        pooling=f"mean over steps: {steps}, finite",
    )


def _means(source: Path, file: h5py.File, request: Request) -> dict[int, np.ndarray]:
    """Return the mean of every corpus row that has a step; NaN where none of them is finite."""
    data = _sequence(source, file, request.key)
    utterances = request.corpus.utterances
    if request.entry is not None and request.entry not in utterances:
        raise UsageError(
            f"--entry: no column {request.entry!r} in the corpus (it has: {', '.join(map(str, utterances))})"
        )
    names = request.corpus.ids if request.entry is None else texts(utterances[request.entry]).to_numpy()
    refuse_strangers(
        source,
        data,
        names,
        request.ignore_extra,
        "entries",
        "" if request.entry else "if they are called as another column of the corpus, name it with --entry",
    )
    starts = utterances["start"].fillna(-np.inf).to_numpy()
    ends = utterances["end"].fillna(np.inf).to_numpy()
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows_of.setdefault(name, []).append(row)
    means: dict[int, np.ndarray] = {}
    width = None
    for name in data:
        if name not in rows_of:  # left out by --ignore-extra
            continue
        where = f"{source}: entry {name!r}"
        entry = inside(data, name, where)
        features = numbers(entry, "features", where).astype(np.float64)
        if width not in (None, features.shape[1]):
            raise UsageError(f"{where}: {features.shape[1]} dimensions, others have {width}")
        width = features.shape[1]
        finite = np.isfinite(features).all(axis=1)
        intervals = None if request.entry is None else numbers(entry, "intervals", where).astype(np.float64)
        if intervals is not None and intervals.shape != (len(features), 2):
            raise UsageError(f"{where}: intervals of shape {intervals.shape} for {len(features)} steps")
        for row in rows_of[name]:
            there = (
                np.ones(len(features), dtype=bool)
                if intervals is None
                else _overlap(intervals, starts[row], ends[row])
            )
            if there.any():
                used = features[there & finite]
                means[row] = used.mean(axis=0) if len(used) else np.full(width, np.nan)
    return means


def _overlap(intervals: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return which intervals, shape (T, 2), share time with start to end, shape (T,); a point of time has some."""
    begin, stop = intervals.T
    return (begin < end) & (np.maximum(stop, np.nextafter(begin, np.inf)) > start)


def _sequence(source: Path, file: h5py.File, key: str | None) -> h5py.Group:
    """Return the group of entries."""
    names = list(file)
    if key is not None and key not in names:
        raise lacking(source, key, names)
    found = [name for name in names if key in (None, name)]
    if len(found) != 1:
        raise UsageError(
            f"{source}: holds {len(found)} sequences ({', '.join(found)}); choose one with --key"
        )
    return inside(inside(file, found[0], str(source)), "data", str(source))
