"""How a target is put before a head as columns of numbers, and read back from the head's outputs.

========== ======= ============================================ ==========================================
kind       columns what a column says                           loss of a row
========== ======= ============================================ ==========================================
nominal    K       the share of class k (1 and 0 for a label)   softmax cross-entropy
two        1       the share of the second class                logistic cross-entropy
ordinal    K - 1   the share of classes above class k           sum of logistic cross-entropies
multilabel C       whether class c applies                      sum of logistic cross-entropies
interval   1       the value, less its mean, over its deviation half the squared error
========== ======= ============================================ ==========================================

"two" is a nominal or ordinal target of two classes. The cumulative columns of an ordinal target are those of Frank
and Hall 2001 ("A simple approach to ordinal classification", ECML); where the probabilities that come out of them rise
from one threshold to the next they are sorted (the rearrangement of Chernozhukov, Fernandez-Val and Galichon 2010,
Econometrica 78).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import expit, log_softmax, softmax


@dataclass(frozen=True)
class Coding:
    """The columns in which one head learns its target.

    Attributes
    ----------
    kind : str
        nominal, ordinal, interval or multilabel.
    classes : tuple
        The labels of the probability columns, in order; empty for an interval target.
    mean, scale : float
        Interval: what the values were standardised by.
    """

    kind: str
    classes: tuple[Any, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(
        cls,
        kind: str,
        y: np.ndarray,
        classes: tuple[Any, ...] = (),
        votes: np.ndarray | None = None,
    ) -> Self:
        """Return the coding for training rows.

        Parameters
        ----------
        kind : str
        y : ndarray, shape (N,) or (N, C)
        classes : tuple
            All labels, in the order of the columns of `votes` (ordinal: rising); those of `y`, sorted, by default. The
            coding keeps those that a row has or votes for.
        votes : ndarray, shape (N, K), optional

        Raises
        ------
        ValueError
            If a nominal or ordinal target has one class only or a label that is not among the classes, or a multilabel
            one is not 0 or 1 for each class.
        """
        if kind == "interval":
            values = np.asarray(y, dtype=np.float64)
            scale = float(values.std())
            return cls(kind, (), float(values.mean()), scale if scale > 0 else 1.0)
        if kind == "multilabel":
            if len(classes or y.T) != y.shape[1] or not np.isin(y, (0, 1)).all():
                raise ValueError(
                    f"several labels at once: 0 or 1 for each class, not {y.shape[1]} columns of {np.unique(y)[:3]}"
                )
            return cls(kind, classes or tuple(range(y.shape[1])))
        if classes:
            if unknown := set(np.unique(y).tolist()).difference(classes):
                raise ValueError(f"label {min(unknown)!r} is not among the classes {list(classes)}")
            held = np.isin(np.array(classes, dtype=object), np.unique(y))
            if votes is not None:
                held |= np.asarray(votes).any(axis=0)
            found = tuple(name for name, here in zip(classes, held, strict=True) if here)
        else:
            found = tuple(np.unique(y).tolist())
        if len(found) < 2:
            raise ValueError(f"the training rows hold one class only ({found[0]!r})")
        return cls(kind, found)

    @property
    def link(self) -> str:
        """What makes probabilities of outputs: ``"softmax"``, ``"logistic"`` or ``"identity"``."""
        if self.kind == "interval":
            return "identity"
        return "softmax" if self.kind == "nominal" and len(self.classes) > 2 else "logistic"

    @property
    def width(self) -> int:
        """Columns of the encoded target and of a head's outputs."""
        if self.link == "identity":
            return 1
        whole = self.link == "softmax" or self.kind == "multilabel"
        return len(self.classes) if whole else len(self.classes) - 1

    def encode(
        self, y: np.ndarray, votes: np.ndarray | None = None, columns: tuple[Any, ...] = ()
    ) -> np.ndarray:
        """Return the columns to learn, shape (N, width), float64.

        Parameters
        ----------
        y : ndarray, shape (N,) or (N, C)
        votes : ndarray, shape (N, K), optional
            Votes for each class; a row with votes is learnt as their shares, one without as its label.
        columns : tuple
            The labels of the columns of `votes`.
        """
        if self.kind == "interval":
            return ((np.asarray(y, dtype=np.float64) - self.mean) / self.scale)[:, None]
        if self.kind == "multilabel":
            return np.asarray(y, dtype=np.float64)
        shares = (y[:, None] == np.array(self.classes, dtype=object)[None, :]).astype(np.float64)
        if votes is not None:
            place = {name: column for column, name in enumerate(columns)}
            counts = np.asarray(votes, dtype=np.float64)[:, [place[name] for name in self.classes]]
            total = counts.sum(axis=1, keepdims=True)
            shares = np.where(total > 0, counts / np.maximum(total, 1e-300), shares)
        if self.link == "softmax":
            return shares
        above: np.ndarray = shares[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        return above

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return what outputs (..., N, width) say: probabilities (..., N, K); interval: values (..., N)."""
        z = np.asarray(outputs, dtype=np.float64)
        if self.kind == "interval":
            values: np.ndarray = z[..., 0] * self.scale + self.mean
            return values
        if self.link == "softmax":
            probabilities: np.ndarray = softmax(z, axis=-1)
            return probabilities
        p: np.ndarray = expit(z)
        if self.kind == "multilabel":
            return p
        above = np.sort(p, axis=-1)[..., ::-1]
        ends = np.ones_like(above[..., :1])
        steps: np.ndarray = np.concatenate([ends, above], axis=-1) - np.concatenate(
            [above, 0 * ends], axis=-1
        )
        return steps

    def losses(self, outputs: np.ndarray, encoded: np.ndarray) -> np.ndarray:
        """Return the loss of each row, shape (..., N), for outputs (..., N, width) and encoded targets (N, width)."""
        z = np.asarray(outputs, dtype=np.float64)
        if self.link == "identity":
            squared: np.ndarray = 0.5 * ((z - encoded) ** 2).sum(axis=-1)
            return squared
        if self.link == "softmax":
            crossed: np.ndarray = -(encoded * log_softmax(z, axis=-1)).sum(axis=-1)
            return crossed
        binary: np.ndarray = (np.logaddexp(0, z) - encoded * z).sum(axis=-1)
        return binary
