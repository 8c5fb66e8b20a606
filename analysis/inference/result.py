"""What a test gives back, how it is written into a table, and the p-value of rearrangements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixed_signals.models.intervals import Interval


@dataclass(frozen=True)
class Test:
    """A test's result.

    Attributes
    ----------
    statistic : float
    p : float
        Two-sided; NaN where the test cannot be made.
    method : str
        What was done, or why it could not be.
    n_groups : int
    """

    statistic: float
    p: float
    method: str
    n_groups: int
    __test__ = False  # no class of tests, for pytest


def with_test(interval: Interval, test: Test | None = None) -> dict[str, Any]:
    """Return the columns of a table's row: those of an interval, with a test's `p` (NaN without) and its method."""
    if test is None:
        return {**vars(interval), "p": math.nan}
    return {**vars(interval), "p": test.p, "method": f"{interval.method}; {test.method}"}


def tail_share(values: NDArray[np.float64], observed: float, exact: bool) -> float:
    """Return the p-value of the upper tail; ties up to rounding count, as do values that are undefined."""
    count = int((~(values < observed - 1e-9 * max(1.0, abs(observed)))).sum())
    return count / len(values) if exact else (1 + count) / (1 + len(values))


def how_made(values: NDArray[np.float64], exact: bool, what: str) -> str:
    """Return what was done in words."""
    return f"{what}, all {len(values):,}" if exact else f"{what}, {len(values):,} random draws"
