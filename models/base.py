"""What every head shares: the scikit-learn contract over columns that may be absent."""

from __future__ import annotations

import warnings
from abc import abstractmethod

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class BaseHead(ClassifierMixin, BaseEstimator):
    """A classifier over a matrix (N, D) of float32 or float64 in which NaN means that a feature is absent.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
        The labels, sorted: the order of the probability columns.
    """

    classes_: np.ndarray

    @abstractmethod
    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (N, K)."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable labels, shape (N,)."""
        check_is_fitted(self)
        labels: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def __sklearn_tags__(self):  # type: ignore[no-untyped-def]
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _training_rows(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Check what `fit` was given, keep the classes, and return X and class codes (N,)."""
        X, y = validate_data(self, X, y, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"the training rows hold one class only ({self.classes_[0]!r})")
        return X, codes

    def _rows(self, X: np.ndarray) -> np.ndarray:
        """Check what a fitted head is to predict."""
        check_is_fitted(self)
        checked: np.ndarray = validate_data(self, X, reset=False, ensure_all_finite="allow-nan")
        return checked


def standardization(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each column over the rows that have it, shape (D,) each.

    A constant or empty column has scale 1 (and mean 0 if empty), so that it standardises to zero.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value
        mean = np.nan_to_num(np.nanmean(X, axis=0, dtype=np.float64))
        scale = np.nan_to_num(np.nanstd(X, axis=0, dtype=np.float64))
    return mean, np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1e-12), scale, 1.0)


def standardized(X: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return X less the mean, over the scale, as float64; what is absent becomes 0, the mean."""
    Z: np.ndarray = np.nan_to_num((X.astype(np.float64) - mean) / scale)
    return Z
