"""Group jackknife: the plain loop, coverage under correlated groups, and when there is no interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t

from mixed_signals.models.intervals import (
    MOST_DELETIONS,
    group_codes,
    group_jackknife,
    mean_interval,
    sums_jackknife,
)


def plain_loop(x, groups):
    names = sorted(set(groups))
    whole = sum(x) / len(x)
    squares = 0.0
    for name in names:
        rest = [value for value, group in zip(x, groups, strict=True) if group != name]
        squares += (sum(rest) / len(rest) - whole) ** 2
    spread = (squares * (len(names) - 1) / len(names)) ** 0.5
    reach = student_t.ppf(0.975, len(names) - 1) * spread
    return whole, whole - reach, whole + reach


@settings(deadline=None)
@given(st.integers(8, 15), st.integers(0, 10_000))
def test_all_paths_equal_the_plain_loop(n_groups, seed):
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 40)])
    x = rng.normal(size=len(groups)) + groups
    expected = plain_loop(x.tolist(), groups.tolist())
    fast = mean_interval(x, groups)
    slow = group_jackknife(lambda rows: x[rows].mean(), len(x), groups)
    for result in (fast, slow):
        assert (result.estimate, result.low, result.high) == pytest.approx(expected)
        assert (result.n, result.n_groups) == (len(x), n_groups)


def test_a_ratio_of_sums_equals_the_general_path():
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 12, 200)
    a, b = rng.normal(size=200), rng.uniform(1, 2, size=200)
    fast = sums_jackknife(lambda s: s[..., 0] / s[..., 1], np.column_stack([a, b]), groups)
    slow = group_jackknife(lambda rows: a[rows].sum() / b[rows].sum(), 200, groups)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high))


@pytest.mark.parametrize("n_groups", [8, 20])
def test_coverage_with_correlated_groups(n_groups):
    rng = np.random.default_rng(n_groups)
    grouped = rowwise = 0
    for _ in range(400):
        sizes = rng.integers(10, 30, n_groups)
        groups = np.repeat(np.arange(n_groups), sizes)
        x = rng.normal(size=n_groups)[groups] * 0.6 + rng.normal(size=len(groups))
        result = mean_interval(x, groups)
        grouped += result.low <= 0 <= result.high
        result = mean_interval(x)
        rowwise += result.low <= 0 <= result.high
    assert 0.92 <= grouped / 400 <= 0.98
    assert rowwise / 400 < 0.75


def test_coverage_of_a_rate_in_groups():
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(400):
        chances = rng.beta(3, 7, 20)
        groups = np.repeat(np.arange(20), 15)
        result = mean_interval(rng.random(300) < chances[groups], groups, limits=(0, 1))
        hits += result.low <= 0.3 <= result.high
    assert 0.92 <= hits / 400 <= 0.98


def test_few_groups_leave_the_estimate_alone():
    result = mean_interval(np.arange(21.0), np.arange(21) % 7)
    assert result.estimate == 10
    assert np.isnan([result.low, result.high]).all()
    assert result.method == "no interval: 7 groups, at least 8 are needed"
    assert (
        mean_interval(np.arange(24), np.arange(24) % 8).method
        == "95% delete-a-group jackknife, t(7), 8 groups"
    )


def test_no_spread_and_undefined_statistics_have_no_interval():
    assert "does not vary" in mean_interval(np.zeros(20)).method
    x = np.array([1.0] + [0.0] * 19)

    def share_of_ones(rows):
        return 1.0 if x[rows].any() else np.nan

    assert "undefined without one" in group_jackknife(share_of_ones, 20).method
    assert "undefined here" in mean_interval([], None).method


def test_missing_groups_stand_alone():
    codes = group_codes(["a", None, "a", float("nan"), "b", "", ""], 7)
    assert sorted(set(codes.tolist())) == [0, 1, 2, 3, 4, 5]
    assert codes[0] == codes[2]
    assert group_codes(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="2 groups for 3"):
        group_codes(["a", "b"], 3)


def test_limits_draw_an_end_back():
    values = [0] * 19 + [1]
    assert mean_interval(values).low < 0
    assert mean_interval(values, limits=(0, 1)).low == 0


def test_many_groups_are_deleted_in_blocks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=2_000)
    calls = []

    def mean(rows):
        calls.append(len(rows))
        return x[rows].mean()

    blocked = group_jackknife(mean, len(x))
    assert len(calls) == MOST_DELETIONS + 1
    whole = mean_interval(x)
    assert blocked.high - blocked.low == pytest.approx(whole.high - whole.low, rel=0.25)
    assert f"2000 groups in {MOST_DELETIONS} blocks" in blocked.method
