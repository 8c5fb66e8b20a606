"""Standardisation of columns over the rows that have them."""

from __future__ import annotations

import warnings

import numpy as np


def standardization(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each column over the rows that have it, shape (D,) each, float64.

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
