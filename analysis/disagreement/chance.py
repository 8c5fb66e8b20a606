"""What two models would disagree by chance: independent of each other, with the mistakes that each of them makes.

Conventions
-----------
Accuracy alone makes models disagree. Two models that are independent of each other *given the true class* ``y``, each
with its own confusions ``P(label | y)``, disagree in a share::

    sum_y P(y) (1 - sum_c P(first = c | y) P(second = c | y))

of utterances. With right and wrong instead of labels this is the expected error consistency of Geirhos et al. (2020,
NeurIPS 33); labels count wrong answers that differ as well. In one stratum for all utterances, in place of the true
classes, it is one minus the agreement that Cohen (1960, Educational and Psychological Measurement 20) takes off in
kappa. Observed disagreement below it means that the models find the same utterances hard.

The functions return one number for each utterance, of which the mean *is* the expected disagreement and which vary as
its influence does: with ``A_y`` the expected agreement in the stratum of utterance ``i``, the one that shares ``i``'s
label counts for both models::

    1 - (P(second = first_i | y) + P(first = second_i | y) - A_y)

So intervals and tests of means respect, to first order, that the confusions are estimated from the same utterances.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_STRATA = 20


def confusion(labels: NDArray[np.intp], strata: NDArray[np.intp], n_classes: int) -> NDArray[np.float64]:
    """Return the share of each label within each stratum, shape (Y, C); zeros for a stratum without rows.

    Parameters
    ----------
    labels, strata : arrays of int, shape (N,)
        Labels from 0 to C - 1, strata (true classes) from 0.
    n_classes : int
    """
    n_strata = int(strata.max(initial=0)) + 1
    counts = np.bincount(strata * n_classes + labels, minlength=n_strata * n_classes)
    table = counts.reshape(n_strata, n_classes).astype(np.float64)
    shares: NDArray[np.float64] = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    return shares


def expected_disagreement(
    first: ArrayLike, second: ArrayLike, strata: ArrayLike, n_classes: int
) -> NDArray[np.float64]:
    """Return, by utterance, the disagreement of two models that are independent within strata.

    Parameters
    ----------
    first, second, strata : array-like of int, shape (N,)
        Labels of two models, and the true class; zeros in its place for independence outright.
    n_classes : int

    Returns
    -------
    array of shape (N,)
        Its mean is the expected disagreement; see this module's conventions.

    Examples
    --------
    >>> truth, first, second = [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 1]
    >>> float(expected_disagreement(first, second, truth, 2).mean())  # 3/4 * 1/2 + 1/4 * 1/2
    0.5
    """
    a, b, y = (np.asarray(values, dtype=np.intp) for values in (first, second, strata))
    p, q = confusion(a, y, n_classes), confusion(b, y, n_classes)
    agreement = np.einsum("yc,yc->y", p, q)
    return 1 - (q[y, a] + p[y, b] - agreement[y])


def expected_difference(first: ArrayLike, second: ArrayLike, strata: ArrayLike) -> NDArray[np.float64]:
    """Return, by utterance, the mean absolute difference of two models' errors that are independent within strata.

    Parameters
    ----------
    first, second : array-like of shape (N,)
        Errors (value minus truth) of two models.
    strata : array-like of int, shape (N,)
        Of the true values; see `strata_of`.

    Returns
    -------
    array of shape (N,)
        Its mean is the mean over strata of ``|first_i - second_j|`` over all pairs ``i, j`` within one.
    """
    x, y, within = np.asarray(first), np.asarray(second), np.asarray(strata)
    found = np.empty(len(x))
    for stratum in np.unique(within):
        rows = within == stratum
        to_second, to_first = _mean_distance(x[rows], y[rows]), _mean_distance(y[rows], x[rows])
        found[rows] = to_second + to_first - to_second.mean()
    return found


def strata_of(truth: ArrayLike, n_strata: int = N_STRATA) -> NDArray[np.intp]:
    """Return which part of equal size of the true values each one is in, shape (N,); equal values stay together."""
    values = np.asarray(truth, dtype=np.float64)
    ends = np.quantile(values, np.arange(1, n_strata) / n_strata)
    return np.searchsorted(ends, values)


def _mean_distance(x: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean absolute difference of each x from all others, by one sorting."""
    ordered = np.sort(others)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    below = np.searchsorted(ordered, x)
    return (x * (2 * below - len(ordered)) + sums[-1] - 2 * sums[below]) / len(ordered)
