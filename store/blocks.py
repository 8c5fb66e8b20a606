"""Reading a feature set's matrix piece by piece, so that one larger than memory can be read through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mixed_signals.store.features import FeatureSet

_BLOCK_BYTES = 16 * 2**20


def row_blocks(features: FeatureSet) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rows of a feature set in order, as (position of the first row, block of shape (B, D)).

    A block holds about 16 MiB (one row at the least) and is a copy: what the system keeps of the file in memory it can
    drop at once.
    """
    n, d = features.shape
    size = max(1, _BLOCK_BYTES // max(1, d * features.dtype.itemsize))
    for start in range(0, n, size):
        yield start, np.array(features.stored[start : start + size])
