"""How the positions of an utterance (tokens, sound frames, patches, video frames) become one vector.

Pooled first on the device, window by window, in float32 and over real positions only; what comes back is small, and
is combined to utterances here in float64:

- mean: over all positions of all windows, each of equal weight
- std: standard deviation over all these positions (of the population: divided by their number)
- max: over all of them
- first, last: mean over windows of each window's first or last real position
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

POOLINGS = ("mean", "first", "last", "max", "std")


def needed(poolings: Sequence[str]) -> tuple[str, ...]:
    """Return what has to be pooled of each window so that `combine` can give these poolings.

    Examples
    --------
    >>> needed(["std", "max"])
    ('mean', 'max', 'std')
    """
    return tuple(one for one in POOLINGS if one in poolings or (one == "mean" and "std" in poolings))


def pool(states: Tensor, mask: Tensor | None, poolings: Sequence[str]) -> Tensor:
    """Pool each window on its own, where the states are.

    Parameters
    ----------
    states : Tensor, shape (B, T, D)
        Of any precision; pooled in float32.
    mask : Tensor of bool, shape (B, T), optional
        Which positions are real, at least one of each window; all of them if not given.
    poolings : sequence of str, length P
        What is pooled, from `POOLINGS`.

    Returns
    -------
    Tensor of float32, shape (B, P, D)
    """
    import torch

    states = states.float()
    if mask is None:
        n: Tensor | int = states.shape[1]
        real = states
    else:
        n = mask.sum(dim=1)[:, None]
        real = states.masked_fill(~mask[:, :, None], 0)
    parts: dict[str, Tensor] = {}
    if "mean" in poolings or "std" in poolings:
        parts["mean"] = real.sum(dim=1) / n
    if "std" in poolings:
        away = (states - parts["mean"][:, None]).square()
        away = away if mask is None else away.masked_fill(~mask[:, :, None], 0)
        parts["std"] = (away.sum(dim=1) / n).sqrt()
    if "max" in poolings:
        seen = states if mask is None else states.masked_fill(~mask[:, :, None], -torch.inf)
        parts["max"] = seen.amax(dim=1)
    rows = torch.arange(len(states), device=states.device)
    if "first" in poolings:
        parts["first"] = states[:, 0] if mask is None else states[rows, mask.int().argmax(dim=1)]
    if "last" in poolings:
        at = None if mask is None else mask.shape[1] - 1 - mask.int().flip(1).argmax(dim=1)
        parts["last"] = states[:, -1] if at is None else states[rows, at]
    return torch.stack([parts[one] for one in poolings], dim=1)


def combine(windows: np.ndarray, positions: np.ndarray, parts: Sequence[str], pooling: str) -> np.ndarray:
    """Combine the windows of one utterance.

    Parameters
    ----------
    windows : ndarray of float, shape (W, P, D)
        What `pool` gave of its windows.
    positions : ndarray of int, shape (W,)
        How many real positions each has.
    parts : sequence of str, length P
        What was pooled, as `needed` said.
    pooling : str
        What is wanted.

    Returns
    -------
    ndarray of float64, shape (D,)
    """
    part = windows[:, parts.index(pooling)].astype(np.float64)
    if pooling == "max":
        return part.max(axis=0)
    if pooling in ("first", "last"):
        return part.mean(axis=0)
    weights = (positions / positions.sum())[:, None]
    if pooling == "mean":
        return (part * weights).sum(axis=0)
    means = windows[:, parts.index("mean")].astype(np.float64)
    between = means - (means * weights).sum(axis=0)
    return np.sqrt(((part**2 + between**2) * weights).sum(axis=0))
