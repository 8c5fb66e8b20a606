"""Rank correlations and AUROC against scipy and scikit-learn, plain and by jackknife."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mixed_signals.analysis.ranks import auroc_interval, rank_correlation, rank_correlation_interval
from mixed_signals.models.intervals import group_jackknife


@settings(max_examples=50)
@given(st.integers(0, 500))
def test_rank_correlation_equals_scipy(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, 40), rng.normal(size=40).round(1)
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_what_does_not_vary_has_no_rank_correlation():
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_rank_correlations_equal_scipy_and_the_inverse_of_the_correlation_matrix():
    rng = np.random.default_rng(8)
    x, y, z, w = rng.integers(0, 9, (4, 120)).astype(float)
    y = y + x + z
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    inverse = np.linalg.inv(spearmanr(np.column_stack([x, y, z, w])).statistic)
    expected = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert rank_correlation(x, y, z, w) == pytest.approx(expected)
    assert np.isnan(rank_correlation(x, np.ones(120)))
    assert np.isnan(rank_correlation(x, y, x))


def test_intervals_are_the_jackknife_of_the_plain_statistics():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), 10)
    x, z = rng.normal(size=(2, 120)).round(1)
    y = x + rng.normal(size=120)
    positive = y > 0
    for found, plain, limits in (
        (rank_correlation_interval(x, y, groups=groups), lambda r: rank_correlation(x[r], y[r]), (-1, 1)),
        (
            rank_correlation_interval(x, y, z, groups=groups),
            lambda r: rank_correlation(x[r], y[r], z[r]),
            (-1, 1),
        ),
        (auroc_interval(x, positive, groups), lambda r: roc_auc_score(positive[r], x[r]), (0, 1)),
    ):
        expected = group_jackknife(plain, 120, groups, limits=limits)
        assert (found.estimate, found.low, found.high) == pytest.approx(
            (expected.estimate, expected.low, expected.high)
        )
    assert np.isnan(auroc_interval(np.zeros(0), np.zeros(0, dtype=bool)).estimate)
