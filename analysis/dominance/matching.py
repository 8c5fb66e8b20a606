"""Cases beside rows that are like them in group and confidence.

A case is compared with the mean of the rows of its own group and decile of confidence that are no cases
(subclassification, Cochran 1968); deciles are those of all rows. Cases without such a row are left out. The mean
difference is that of the cases as they are: a stratum counts by its cases, not by its rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixed_signals.analysis.scores import DECILES, deciles


def matched(
    case: NDArray[np.bool_],
    outcome: NDArray[np.float64],
    confidence: NDArray[np.float64],
    groups: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return the mean outcome of the rows that each row is matched with, shape (N,), NaN where there is none.

    Parameters
    ----------
    case : array of bool, shape (N,)
        Rows that others are not matched with.
    outcome, confidence : array, shape (N,)
    groups : array of int, shape (N,)

    Examples
    --------
    >>> case, none = np.array([True, False, False]), np.zeros(3)
    >>> matched(case, np.array([1.0, 0.0, 1.0]), none, np.zeros(3, dtype=int)).tolist()
    [0.5, 0.5, 0.5]
    """
    stratum = groups * DECILES + deciles(confidence)
    count = np.bincount(stratum, ~case)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.bincount(stratum, outcome * ~case) / count)[stratum])
