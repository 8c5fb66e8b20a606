"""Vectors of one encoder, brought into the frame of another. Experimental: all that rests on it says so.

Both encoders began with the same weights and were trained apart, so that their frames are near each other and not the
same. The map from one to the other is orthogonal, after centring: lengths and angles stay as its encoder made them.

On which rows may it be fitted? Not on test rows, not even without labels. Not on rows that taught one of the encoders:
that one shows their labels by heart and the other does not, so that the two vectors of such a row do not correspond,
and the map would come out as these labels have it: heads would be trained on vectors that are not made as those they
are tested on. (Tests would be honest all the same, since no label of a test row has a part in it.) So the anchors are
the rows on which the two trainings stopped early: of each, one encoder has never seen the label, and to the other it
said which epoch to keep, no more.

What a head holds out of its training rows for itself, to stop early or to choose a penalty, is not out of reach of the
encoders: one of them has seen these labels. That is so in the design nested as well, and of no consequence to tests.

There are few of them, fewer than dimensions as a rule, and then an orthogonal map is not determined: most of it would
be arbitrary. So a prior says that the frames are the same until anchors say otherwise: for each dimension one anchor
more, along its axis, as long as the others are on average, at the same place in both frames. With many anchors it
counts for nothing.

Sources: P. H. Schönemann (1966), "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31; for
anchors that stand for a prior, H. Theil & A. S. Goldberger (1961), "On pure and mixed statistical estimation in
economics", International Economic Review 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHOD = "orthogonal Procrustes, centred, prior of the same frame"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """A map of vectors into another frame: ``(x - source) @ rotation + target``.

    Attributes
    ----------
    rotation : ndarray, shape (D, D)
        Orthogonal.
    source, target : ndarray, shape (D,)
        The anchors' means in either frame.
    """

    rotation: Floats
    source: Floats
    target: Floats

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors (N, D) in the other frame, of their own type; NaN stays NaN."""
        mapped: np.ndarray = (vectors.astype(np.float64) - self.source) @ self.rotation + self.target
        return mapped.astype(vectors.dtype)


def fit_map(source: np.ndarray, target: np.ndarray) -> Map:
    """Return the map that brings the anchors nearest to where they are in the other frame.

    Minimises, over orthogonal R, ||X R - Y||² + λ ||R - I||² with X and Y the centred anchors and λ the mean squared
    length of an anchor, ||X|| ||Y|| / N (Frobenius).

    Parameters
    ----------
    source, target : ndarray, shape (N, D)
        Vectors of the same rows in either frame; at least one row.

    Examples
    --------
    >>> turned = np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> rows = np.random.default_rng(0).normal(size=(500, 2))
    >>> bool(np.abs(fit_map(rows, rows @ turned + 3).rotation - turned).max() < 0.01)
    True
    """
    from scipy.linalg import orthogonal_procrustes

    means = source.mean(axis=0, dtype=np.float64), target.mean(axis=0, dtype=np.float64)
    X, Y = source - means[0], target - means[1]
    prior = np.sqrt(np.linalg.norm(X) * np.linalg.norm(Y) / len(X)) * np.eye(X.shape[1])
    rotation, _ = orthogonal_procrustes(np.vstack([X, prior]), np.vstack([Y, prior]))
    return Map(rotation, *means)


def relative_error(source: np.ndarray, target: np.ndarray) -> float:
    """Return ``||source - target|| / ||target - its mean||`` (Frobenius): 0 in one frame, 1 if no better than the mean.

    NaN where the targets do not differ.
    """
    scale = np.linalg.norm(target - target.mean(axis=0))
    return float(np.linalg.norm(source - target) / scale) if scale > 0 else float("nan")


def held_out_error(halves: tuple[np.ndarray, np.ndarray], source: np.ndarray, target: np.ndarray) -> float:
    """Return the relative error of maps on anchors that they were not fitted on.

    Fitted on the anchors of either half, and measured on the other: each map has half of the anchors that there are,
    so that the one of all is rather better.

    Parameters
    ----------
    halves : pair of ndarray of int
        Rows; of no group in common.
    source, target : ndarray, shape (N, D)
    """
    mapped = np.empty(source.shape, np.float64)
    for own, other in (halves, halves[::-1]):
        mapped[other] = fit_map(source[own], target[own])(source[other])
    return relative_error(mapped, target)


def describe(halves: tuple[np.ndarray, np.ndarray], source: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    """Return what a feature set's provenance says of its alignment, of the same arguments as `held_out_error`.

    ``method``; ``anchors``, how many; ``error_before`` and ``error_after``, relative errors on the anchors, the latter
    on those held out.
    """
    return {
        "method": METHOD,
        "anchors": len(source),
        "error_before": round(relative_error(source, target), 4),
        "error_after": round(held_out_error(halves, source, target), 4),
    }
