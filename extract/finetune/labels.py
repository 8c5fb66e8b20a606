"""What an encoder is trained to say of utterances: how labels become numbers, and how good an answer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.terminal import counted


@dataclass(frozen=True)
class Labels:
    """A target's labels.

    Attributes
    ----------
    kind : str
        nominal, ordinal or interval.
    classes : tuple of str
        In order; empty for interval.
    values : mapping of str to str or float
        By utterance.

    Raises
    ------
    UsageError
        If encoders are not trained on such a target.
    """

    kind: str
    classes: tuple[str, ...]
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.kind == "multilabel":
            raise UsageError(
                "--target: a multilabel target cannot train an encoder (its classes are not alternatives): name a "
                "nominal, ordinal or interval one"
            )
        if self.kind != "interval" and len(self.classes) < 2:
            raise UsageError(
                "--target: an encoder is trained to tell classes apart: it needs two at the least"
            )


@dataclass(frozen=True)
class Coding:
    """How the labels of one training become numbers.

    Attributes
    ----------
    kind : str
    classes : tuple of str
    weights : tuple of float
        What a row of each class counts; one entry for interval.
    mean, scale : float
        Interval: what values are standardised by.
    """

    kind: str
    classes: tuple[str, ...] = ()
    weights: tuple[float, ...] = (1.0,)
    mean: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(
        cls,
        labels: Labels,
        ids: Sequence[str],
        *,
        class_weights: bool,
        left_out: Mapping[str, str] | None = None,
    ) -> Coding:
        """Return the coding that the rows of a training give; those left out, and why, are told where that matters.

        A class weighs n / (K n_k), of n rows, n_k of them of this class, K classes that occur: each class counts alike;
        one that does not occur, and may among the rows to stop on, weighs 1
        (King and Zeng 2001, "Logistic Regression in Rare Events Data", Political Analysis 9; scikit-learn: balanced).

        Raises
        ------
        MixedSignalsError
            If the rows have no labels, one class only, or one value only.
        """
        values = _values(labels, ids)
        if len(set(values)) < 2:
            found = f"only {values[0]!r}" if values else "no row"
            mend = "use fewer --folds, or another --target"
            if left_out:
                one, reason = next(iter(left_out.items()))
                found += f", without {counted(len(left_out), 'row')} that cannot be read ({one}: {reason})"
                mend = f"mend these, {mend}"
            raise MixedSignalsError(
                f"there is nothing to tell apart in the rows of a training: {found}; {mend}"
            )
        if labels.kind == "interval":
            numbers = np.array(values, dtype=np.float64)
            return cls("interval", (), (1.0,), float(numbers.mean()), float(numbers.std()))
        counts = np.array([values.count(name) for name in labels.classes])
        balanced = np.where(counts, len(values) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 1.0)
        weights = balanced if class_weights else np.ones(len(counts))
        return cls(labels.kind, tuple(labels.classes), tuple(weights.tolist()))

    @property
    def width(self) -> int:
        """How many outputs the linear layer has."""
        return len(self.classes) or 1

    def encode(self, labels: Labels, ids: Sequence[str]) -> np.ndarray:
        """Return the number of each row's class, or its standardised value, shape (N,)."""
        values = _values(labels, ids)
        if self.kind == "interval":
            return (np.array(values, dtype=np.float64) - self.mean) / self.scale
        return np.array([self.classes.index(value) for value in values], dtype=np.int64)

    def score(self, outputs: np.ndarray, encoded: np.ndarray) -> float:
        """Return how good outputs (N, width) are: macro F1, of the classes that occur, or for interval concordance."""
        if self.kind == "interval":
            return concordance(encoded, outputs[:, 0])
        from sklearn.metrics import f1_score

        found = np.unique(encoded)
        return float(
            f1_score(encoded, outputs.argmax(axis=1), labels=found, average="macro", zero_division=0)
        )

    @property
    def measure(self) -> str:
        """What `score` gives, in words."""
        return "concordance" if self.kind == "interval" else "macro F1"


def concordance(truth: np.ndarray, values: np.ndarray) -> float:
    """Return Lin's concordance correlation, 0 where neither varies.

    Source: Lin 1989, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45: twice the
    covariance over the sum of both variances and the squared distance of the means.
    """
    x, y = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    below = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * ((x - x.mean()) * (y - y.mean())).mean() / below) if below > 0 else 0.0


def _values(labels: Labels, ids: Sequence[str]) -> list[Any]:
    missing = [one for one in ids if one not in labels.values]
    if missing:
        raise MixedSignalsError(f"{missing[0]}: has no label to be trained on; leave it out of the training")
    return [labels.values[one] for one in ids]
