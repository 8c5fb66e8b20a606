"""Feature pickles as MMSA publishes them for CMU-MOSI, CMU-MOSEI and CH-SIMS.

::

    {"train" | "valid" | "test": {"id": [n texts], "text" | "audio" | "vision": (n, T, D) numbers,
                                  "audio_lengths" | "vision_lengths": [n counts], ...}}

Each utterance's T steps become their mean. Which steps count: the first ``<key>_lengths`` of them where the file has
that key; otherwise those that are not all zero, which is how such files pad. A step with a value that is not finite
(COVAREP has -inf) is left out; an utterance that loses all its steps so is `failed`, one that has none is `missing`.

Source: https://github.com/thuiar/MMSA, which reads them with an ordinary, and so unsafe, unpickler.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.store.errors import UsageError
from mixed_signals.store.exchange.matrices import Matrix, Request, as_texts, lacking, numbered, one_line
from mixed_signals.store.exchange.plain_pickle import PickledArray, load_plain_pickle

_SPLITS = ("train", "valid", "test")
_KEYS = {"text": "text", "audio": "audio", "video": "vision"}
_BLOCK_BYTES = 1 << 26


def read_pickle(source: Path, request: Request) -> Matrix:
    """Read the modality (or `request.key`) of every split, a mean over time for each utterance.

    Raises
    ------
    UsageError
        If the pickle holds more than data, is laid out otherwise, or has no ids.
    MixedSignalsError
        If the file is not readable.
    """
    key = request.key or _KEYS[request.modality]
    content = load_plain_pickle(source)
    splits = [content[name] for name in _SPLITS if name in content] if isinstance(content, dict) else []
    if not splits or not all(isinstance(split, dict) for split in splits):
        found = (
            ", ".join(map(repr, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        )
        raise UsageError(
            f"{source}: not laid out as MMSA's feature files, {{'train': {{'id': ..., {key!r}: ...}}, ...}} "
            f"(it has: {one_line(found)}); save the vectors as .npz with utterance_id and embedding instead"
        )
    parts = [_read_split(source, split, key) for split in splits]
    widths = {vectors.shape[1] for _, vectors, _ in parts}
    if len(widths) > 1:
        raise UsageError(f"{source}: {key!r} has {sorted(widths)} dimensions, not the same in every split")
    timed = [f"{key}_lengths" in split for split in splits]
    steps = f"the first {key}_lengths" if all(timed) else "those not all zero"
    return Matrix(
        [utterance for ids, _, _ in parts for utterance in ids],
        np.concatenate([vectors for _, vectors, _ in parts]),
        numbered(source, widths.pop()),
        np.concatenate([missing for _, _, missing in parts]),
        f"mean over steps: {steps}, finite",
    )


def _read_split(source: Path, split: dict[str, Any], key: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return ids, means (n, D) and which rows have no step."""
    for name in ("id", key):
        if name not in split:
            raise lacking(source, name, map(str, split))
    steps = _array(split[key], f"{source}: {key!r}")
    if steps.ndim == 2:
        steps = steps[:, None, :]
    if steps.ndim != 3 or 0 in steps.shape[1:] or steps.dtype.kind not in "biuf":
        raise UsageError(
            f"{source}: {key!r} is {steps.dtype} of shape {steps.shape}; expected numbers, (n, T, D)"
        )
    ids = as_texts(_array(split["id"], f"{source}: 'id'"), f"{source}: 'id'", len(steps))
    lengths = None
    if f"{key}_lengths" in split:
        what = f"{source}: '{key}_lengths'"
        lengths = _array(split[f"{key}_lengths"], what)
        if lengths.shape != (len(steps),) or lengths.dtype.kind not in "iu":
            raise UsageError(
                f"{what} is {lengths.dtype} of shape {lengths.shape}; expected a whole number a row"
            )
    means, missing = _pool(steps, lengths)
    return ids, means, missing


def _array(value: Any, what: str) -> np.ndarray:
    """Return an array, or a list of texts or of whole numbers as one."""
    if isinstance(value, PickledArray):
        return value.values
    kinds = {type(entry) for entry in value} if isinstance(value, list) else set()
    if kinds not in ({str}, {int}):
        raise UsageError(f"{what} is not an array, nor a list of texts or of whole numbers")
    return np.array(value, dtype=object if kinds == {str} else None)


def _pool(steps: np.ndarray, lengths: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over the steps that count, shape (n, D), float32, and which rows have no step, shape (n,)."""
    n, n_steps, width = steps.shape
    means = np.empty((n, width), np.float32)
    missing = np.empty(n, dtype=bool)
    rows = max(1, _BLOCK_BYTES // (8 * n_steps * width))
    for begin in range(0, n, rows):
        part = slice(begin, begin + rows)
        with np.errstate(invalid="ignore", over="ignore"):  # 0 / 0 where no step is used
            block = steps[part].astype(np.float64)
            there = (block != 0).any(axis=2) if lengths is None else np.arange(n_steps) < lengths[part, None]
            used = there & np.isfinite(block).all(axis=2)
            block[~used] = 0
            means[part] = block.sum(axis=1) / used.sum(axis=1)[:, None]
        missing[part] = ~there.any(axis=1)
    return means, missing
