"""How far modalities speak for what a head predicts: one number for any kind of target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixed_signals.models.coding import Coding


def support(coding: Coding, outputs: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return how far each modality's part of the outputs speaks for what the outputs predict.

    - softmax: the part of the predicted class, less the mean over classes;
    - two classes: half the part, for the predicted class, which is the same;
    - ordinal: half the sum over thresholds, each for the side on which the predicted class is;
    - multilabel: half the sum over classes, each for what is predicted of it;
    - interval: the part in units of the target.

    Parameters
    ----------
    coding : Coding
    outputs : ndarray, shape (N, width)
        What the head puts out.
    parts : ndarray, shape (N, M, width)
        What each modality adds to that.

    Returns
    -------
    ndarray, shape (N, M)
    """
    if coding.kind == "interval":
        raised: np.ndarray = parts[:, :, 0] * coding.scale
        return raised
    P = coding.decode(outputs)
    predicted = P.argmax(axis=1)[:, None]
    if coding.link == "softmax":
        centred = parts - parts.mean(axis=2, keepdims=True)
        found: np.ndarray = np.take_along_axis(centred, predicted[:, None], axis=2)[:, :, 0]
        return found
    above = P > 0.5 if coding.kind == "multilabel" else predicted > np.arange(coding.width)
    halves: np.ndarray = (parts * np.where(above, 0.5, -0.5)[:, None, :]).sum(axis=2)
    return halves


def by_leaving_out(
    coding: Coding, outputs_of: Callable[[np.ndarray], np.ndarray], present: np.ndarray
) -> np.ndarray:
    """Return how much less the outputs speak for what they predict when a modality is left out.

    Where outputs are a sum over modalities these are its terms; else they need not add up to the outputs.

    Parameters
    ----------
    coding : Coding
    outputs_of : callable
        Outputs (N, width) where the rows have these modalities (N, M).
    present : ndarray of bool, shape (N, M)

    Returns
    -------
    ndarray, shape (N, M)
        See `support`; 0 where a modality is absent.
    """
    outputs, each = outputs_of(present), np.eye(present.shape[1], dtype=bool)
    parts = np.stack([outputs - outputs_of(present & ~one) for one in each], axis=1)
    return np.where(present, support(coding, outputs, parts), 0.0)
