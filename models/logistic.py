"""Multinomial logistic regression whose L2 penalty is chosen inside the training fold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from mixed_signals.models.base import BaseHead, standardization, standardized
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.saving import read_arrays, write_arrays

PENALTIES = tuple(10.0**k for k in range(-5, 2))


class LogisticHead(BaseHead):
    """L2-penalised multinomial logistic regression on standardised features.

    Absent features (NaN) take the training mean. The penalty is the one with the smallest mean log loss over
    grouped inner folds. The features are rotated to their principal axes first, which leaves the solution
    of an L2-penalised regression as it is and makes it quick where there are more features than rows.

    Parameters
    ----------
    penalties : sequence of float
        Inverse strengths ``C`` to choose from.
    n_inner_folds : int
        Inner folds of the choice; 0 takes the middle of `penalties`.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
    coef_ : ndarray, shape (K, D)
        Weights on standardised features.
    intercept_ : ndarray, shape (K,)
    C_ : float
        The inverse strength chosen.
    """

    def __init__(self, penalties: Sequence[float] = PENALTIES, n_inner_folds: int = 3) -> None:
        self.penalties = penalties
        self.n_inner_folds = n_inner_folds

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit on X (N, D), labels y (N,); rows of one group stay together in the inner folds."""
        X, codes = self._training_rows(X, y)
        self.mean_, self.scale_ = standardization(X)
        Z = standardized(X, self.mean_, self.scale_)
        _, _, axes = np.linalg.svd(Z, full_matrices=False)
        rotated = Z @ axes.T
        path = sorted(self.penalties)
        self.C_ = self._choose(rotated, codes, groups, path)
        weights, self.intercept_ = _fit_path(rotated, codes, [self.C_], len(self.classes_), tol=1e-6)[0]
        self.coef_ = weights @ axes
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (N, K)."""
        Z = standardized(self._rows(X), self.mean_, self.scale_)
        probabilities: np.ndarray = softmax(Z @ self.coef_.T + self.intercept_, axis=1)
        return probabilities

    def save(self, stem: str) -> str:
        """Write the head to ``<stem>.safetensors`` and return that path."""
        arrays = {name: getattr(self, name) for name in ("mean_", "scale_", "coef_", "intercept_")}
        return write_arrays(stem, self, arrays, {"C_": self.C_})

    @classmethod
    def load(cls, path: str) -> Self:
        """Read a head that `save` wrote."""
        return read_arrays(path, cls)

    def _choose(self, Z: np.ndarray, y: np.ndarray, groups: np.ndarray | None, path: list[float]) -> float:
        pairs = inner_folds(y, groups, self.n_inner_folds, seed=0) if self.n_inner_folds else []
        if not pairs or len(path) == 1:
            return path[len(path) // 2]
        losses = np.zeros(len(path))
        labels = np.arange(len(self.classes_))
        for train, held in pairs:
            for position, (weights, intercept) in enumerate(_fit_path(Z[train], y[train], path, len(labels))):
                probabilities = softmax(Z[held] @ weights.T + intercept, axis=1)
                losses[position] += log_loss(y[held], probabilities, labels=labels)
        return path[int(losses.argmin())]


def _fit_path(
    Z: np.ndarray, y: np.ndarray, path: list[float], n_classes: int, tol: float = 1e-4
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fit every penalty of an ascending path, each from the solution before it; weights (K, D), intercepts (K,)."""
    model = LogisticRegression(warm_start=True, max_iter=2000, tol=tol)
    fitted = []
    for C in path:
        model.set_params(C=C)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties need not end to be compared
            model.fit(Z, y)
        weights, intercept = model.coef_, model.intercept_
        if n_classes == 2:  # one logit for the second class: the same model with the first class's at zero
            weights = np.vstack([np.zeros_like(weights), weights])
            intercept = np.append(0.0, intercept)
        fitted.append((weights.copy(), intercept.copy()))
    return fitted
