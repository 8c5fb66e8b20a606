"""How much of a fusion is more than a sum over its modalities: the additive projection of its held-out heads.

Conventions
-----------
The empirical multimodally-additive projection (EMAP, Hessel and Lee 2020) of a function f of two modalities on n rows
is the additive function that is nearest to f over all n x n pairs of their modalities::

    emap_i = mean_j f(a_i, b_j) + mean_j f(a_j, b_i) - mean_jk f(a_j, b_k)

and of M modalities, over the product of their marginal distributions::

    emap_i = sum_m mean of f with modality m of row i, all others drawn - (M - 1) * mean of f

f are class-centred log probabilities (log p, at least log FLOOR, less their mean over classes: the centred logits of a
softmax), or values of an interval target. With two modalities the means are over all pairs. With more, they are over
draws: a draw takes, for each modality m, the others from rows drawn one by one, the same for every row i, and for the
mean of f it permutes every modality on its own over the rows. Since the projection keeps the mean of f, the means of m
are centred over the rows first::

    emap_i = sum_m (mean over draws with modality m of row i, less its mean over rows) + mean of f

so that an additive f is found again exactly, with any draws. The error that draws leave in a statistic is the jackknife
over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixed_signals.analysis.dominance.shapley import FLOOR
from mixed_signals.analysis.perturbing import Vectors

Function = Callable[[Vectors], NDArray[np.float64]]
"""Maps vectors (n, D) to logits or values (n, C)."""
_CHUNK = 4096


@dataclass(frozen=True)
class Projection:
    """A function on rows, and its additive projection.

    Attributes
    ----------
    full, additive : array, shape (n, C)
    without : array, shape (K, n, C), or None
        The projection without each of the draws; None where it is exact.
    """

    full: NDArray[np.float64]
    additive: NDArray[np.float64]
    without: NDArray[np.float64] | None

    def error(self, statistic: Callable[[NDArray[np.float64]], float]) -> float:
        """Return the standard error that the draws leave in a statistic of the projection (n, C), 0 where exact."""
        if self.without is None:
            return 0.0
        found = np.array([statistic(each) for each in self.without])
        return float(np.sqrt((len(found) - 1) / len(found) * ((found - found.mean()) ** 2).sum()))


def centred_logs(P: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log probabilities (..., C), at least log `FLOOR`, less their mean over classes."""
    logs = np.log(np.maximum(P, FLOOR))
    return np.asarray(logs - logs.mean(axis=-1, keepdims=True))


def additive_projection(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the additive projection of a function of two modalities.

    Parameters
    ----------
    pairs : array, shape (n, n, C)
        The function with the first modality of row i and the second of row j.

    Returns
    -------
    array, shape (n, C)

    Examples
    --------
    >>> additive_projection(np.array([[[0.0], [1.0]], [[2.0], [7.0]]])).ravel().tolist()
    [-1.0, 6.0]
    """
    return np.asarray(pairs.mean(axis=1) + pairs.mean(axis=0) - pairs.mean(axis=(0, 1)))


def project(
    function: Function, X: Vectors, blocks: dict[str, slice], draws: int, rng: np.random.Generator
) -> Projection:
    """Return a function on rows and its additive projection.

    Parameters
    ----------
    function : callable
        See `Function`.
    X : array, shape (n, D)
    blocks : dict of str to slice
        Columns of the M modalities.
    draws : int
        With more than two modalities, at least 2; with two, all pairs are taken.
    rng : Generator
    """
    full = function(X)
    if len(blocks) == 2:
        return Projection(full, additive_projection(_pairs(function, X, next(iter(blocks.values())))), None)
    by_modality = np.zeros((draws, *full.shape))
    overall = np.zeros((draws, 1, full.shape[1]))
    for k in range(draws):
        for kept in blocks:
            drawn = X.copy()
            for other, block in blocks.items():
                if other != kept:
                    drawn[:, block] = X[rng.integers(len(X)), block]
            values = function(drawn)
            by_modality[k] += values - values.mean(axis=0)
        mixed = X.copy()
        for block in blocks.values():
            mixed[:, block] = X[rng.permutation(len(X)), block]
        overall[k] = function(mixed).mean(axis=0)
    parts = by_modality + overall
    total = parts.sum(axis=0)
    return Projection(full, total / draws, (total - parts) / (draws - 1))


def _pairs(function: Function, X: Vectors, first: slice) -> NDArray[np.float64]:
    """Return the function of every row's first modality, of columns `first`, with every row's rest, shape (n, n, C)."""
    n = len(X)
    step = max(1, _CHUNK // n)
    found = []
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        crossed = np.tile(X, (len(rows), 1))
        crossed[:, first] = np.repeat(X[rows, first], n, axis=0)
        found.append(function(crossed).reshape(len(rows), n, -1))
    return np.concatenate(found)
