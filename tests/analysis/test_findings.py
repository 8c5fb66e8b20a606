"""Words follow the numbers: which side of a reference is said, and how numbers are written."""

from __future__ import annotations

import numpy as np

from mixed_signals.analysis.findings import side, with_interval


def row(estimate, low=np.nan, high=np.nan):
    return {"estimate": estimate, "low": low, "high": high}


def test_a_side_is_taken_only_by_a_whole_interval():
    assert side(row(0.2, 0.1, 0.3), 0) == "above"
    assert side(row(-0.2, -0.3, -0.1), 0) == "below"
    assert side(row(0.2, -0.1, 0.5), 0) == "not distinguishable from"
    assert side(row(0.2, 0.0, 0.5), 0) == "not distinguishable from"
    assert side(row(0.2), 0) == ""


def test_numbers_as_text():
    assert with_interval(row(0.1234, 0.1, 0.15), "%") == "12.3% (10.0 to 15.0)"
    assert with_interval(row(0.1234), "points") == "12.3 points"
    assert with_interval(row(0.5, 0.41, 0.6), "bits") == "0.50 bits (0.41 to 0.60)"
    assert with_interval(row(0.5, 0.41, 0.6)) == "0.50 (0.41 to 0.60)"
    assert with_interval(row(-0.0001, -0.2, 0.2)) == "0.00 (-0.20 to 0.20)"
