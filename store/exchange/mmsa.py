"""Feature pickles as MMSA publishes them for CMU-MOSI, CMU-MOSEI and CH-SIMS.

::

    {"train" | "valid" | "test": {"id": [n texts], "text" | "audio" | "vision": (n, T, D) numbers,
                                  "audio_lengths" | "vision_lengths": [n counts], ...}}

Each utterance's T steps become their mean. Which steps count: those that are not all zero, as such files pad with
zeros, and of them the first ``<key>_lengths`` where the file has that key. Such lengths are not taken at their word:
one is 1 where there is no step at all, and with zeros in front it says how many steps there are but not where, or ends
within the zeros. So where it would leave none, or the first step is zero and no more than so many are not, all that
are not zero count. A step with a value that is not finite (COVAREP has -inf) is left out; an utterance that loses all
its steps so is `failed`, one that has none is `missing`.

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
    if key == "text_bert":
        raise UsageError(
            f"{source}: 'text_bert' is BERT's input (token ids, mask and segments), not features; leave --key out, or "
            "make vectors of the texts with extract-features"
        )
    content = load_plain_pickle(source)
    splits = [content[name] for name in _SPLITS if name in content] if isinstance(content, dict) else []
    if not splits or not all(isinstance(split, dict) for split in splits):
        found = ", ".join(_names(content)[:5]) if isinstance(content, dict) else type(content).__name__
        raise UsageError(
            f"{source}: not laid out as MMSA's feature files, {{'train': {{'id': ..., {key!r}: ...}}, ...}} "
            f"(it has: {one_line(found)}); save the vectors as .npz with utterance_id and embedding instead"
        )
    parts = [_read_split(source, split, key) for split in splits]
    widths = {vectors.shape[1] for _, vectors, _ in parts}
    if len(widths) > 1:
        raise UsageError(f"{source}: {key!r} has {sorted(widths)} dimensions, not the same in every split")
    timed = [f"{key}_lengths" in split for split in splits]
    steps = f"within {key}_lengths, not all zero" if all(timed) else "those not all zero"
    return Matrix(
        [utterance for ids, _, _ in parts for utterance in ids],
        np.concatenate([vectors for _, vectors, _ in parts]),
        numbered(request.name, widths.pop()),
        np.concatenate([missing for _, _, missing in parts]),
        f"mean over steps: {steps}, finite",
    )


def _read_split(source: Path, split: dict[str, Any], key: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return ids, means (n, D) and which rows have no step."""
    for name in ("id", key):
        if name not in split:
            raise lacking(source, name, _names(split))
    steps = _array(split[key], f"{source}: {key!r}")
    pooled = steps.ndim == 2
    if pooled:
        steps = steps[:, None, :]
    if steps.ndim != 3 or 0 in steps.shape[1:] or steps.dtype.kind not in "biuf":
        raise UsageError(
            f"{source}: {key!r} is {steps.dtype} of shape {steps.shape}; expected numbers, (n, T, D)"
        )
    ids = as_texts(_array(split["id"], f"{source}: 'id'"), f"{source}: 'id'", len(steps))
    lengths = None
    if f"{key}_lengths" in split and not pooled:
        what = f"{source}: '{key}_lengths'"
        lengths = _array(split[f"{key}_lengths"], what)
        if lengths.shape != (len(steps),) or lengths.dtype.kind not in "iu":
            raise UsageError(
                f"{what} is {lengths.dtype} of shape {lengths.shape}; expected a whole number a row"
            )
        outside = np.flatnonzero((lengths < 0) | (lengths > steps.shape[1]))
        if len(outside):
            raise UsageError(
                f"{what}: {len(outside):,} of {len(lengths):,} are not within 0 to {steps.shape[1]:,}, the steps there "
                f"are, e.g. {lengths[outside[0]]} for {one_line(ids[outside[0]])}; mend them, or take the key out"
            )
    means, missing = _pool(steps, lengths)
    return ids, means, missing


def _names(content: dict[Any, Any]) -> list[str]:
    """Return the keys of a dict that are text; other keys may be too large to say."""
    return [name for name in content if isinstance(name, str)]


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
            there = (block != 0).any(axis=2)
            if lengths is not None:
                within = there & (np.arange(n_steps) < lengths[part, None])
                from_the_first = there[:, 0] | (there.sum(axis=1) > lengths[part])
                taken = within.any(axis=1) & from_the_first
                there[taken] = within[taken]
            used = there & np.isfinite(block).all(axis=2)
            block[~used] = 0
            means[part] = block.sum(axis=1) / used.sum(axis=1)[:, None]
        missing[part] = ~there.any(axis=1)
    return means, missing
