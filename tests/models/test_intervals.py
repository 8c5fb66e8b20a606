"""Bootstrap-t and group jackknife: plain loops, coverage under correlated groups, and when there is no interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student_t

from mixed_signals.models.intervals import (
    FEWEST_RESAMPLED,
    MOST_BLOCKS,
    MOST_DELETIONS,
    _resamples,
    group_codes,
    group_jackknife,
    mean_interval,
    sums_interval,
)
from mixed_signals.models.measures import macro_f1


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
    fast = sums_interval(lambda s: s[..., 0] / s[..., 1], np.column_stack([a, b]), groups)
    slow = group_jackknife(lambda rows: a[rows].sum() / b[rows].sum(), 200, groups)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high))


@pytest.mark.parametrize("n_groups", [8, 20])
def test_coverage_with_correlated_groups(n_groups):
    rng = np.random.default_rng(n_groups)
    grouped = rowwise = 0
    for i in range(400):
        sizes = rng.integers(10, 30, n_groups)
        groups = np.repeat(np.arange(n_groups), sizes)
        x = rng.normal(size=n_groups)[groups] * 0.6 + rng.normal(size=len(groups))
        result = mean_interval(x, groups)
        grouped += result.low <= 0 <= result.high
        if i < 100:
            result = mean_interval(x)
            rowwise += result.low <= 0 <= result.high
    assert 0.92 <= grouped / 400 <= 0.98
    assert rowwise / 100 < 0.75


def skewed(rng, n_groups):
    """Groups of very different sizes, whose levels and rows are skewed; the mean is 1."""
    sizes = np.clip(rng.lognormal(2.5, 0.8, n_groups).astype(int), 2, 200)
    groups = np.repeat(np.arange(n_groups), sizes)
    return rng.exponential(size=n_groups)[groups] * rng.exponential(size=len(groups)), groups


@pytest.mark.parametrize("n_groups", [42, 91])
def test_bootstrap_t_covers_skewed_groups_of_unequal_sizes_better_than_the_jackknife(n_groups):
    rng = np.random.default_rng(n_groups)
    covered = above = jackknife_above = 0
    for _ in range(400):
        x, groups = skewed(rng, n_groups)
        found = mean_interval(x, groups)
        covered += found.low <= 1 <= found.high
        above += found.high < 1
        jackknife_above += jackknife_of_mean(x, groups)[2] < 1
    assert 0.915 <= covered / 400 <= 0.98
    assert above / 400 <= 0.07
    assert jackknife_above > 1.3 * above


@pytest.mark.parametrize("n_groups", [42, 91])
def test_bootstrap_t_covers_normal_groups_and_rare_events(n_groups):
    rng = np.random.default_rng(n_groups)
    normal = rare = 0
    for _ in range(400):
        groups = np.repeat(np.arange(n_groups), rng.integers(5, 40, n_groups))
        x = 0.5 * rng.normal(size=n_groups)[groups] + rng.normal(size=len(groups))
        found = mean_interval(x, groups)
        normal += found.low <= 0 <= found.high
        hit = rng.random(len(groups)) < rng.beta(0.8, 15.2, n_groups)[groups]
        found = mean_interval(hit, groups, limits=(0, 1))
        rare += found.low <= 0.05 <= found.high
    assert 0.92 <= normal / 400 <= 0.98
    assert 0.92 <= rare / 400 <= 0.985


def jackknife_of_mean(x, groups):
    n_groups = groups.max() + 1
    sums, sizes = np.bincount(groups, x), np.bincount(groups)
    without = (sums.sum() - sums) / (len(x) - sizes)
    spread = np.sqrt((n_groups - 1) / n_groups * np.sum((without - x.mean()) ** 2))
    reach = student_t.ppf(0.975, n_groups - 1) * spread
    return x.mean(), x.mean() - reach, x.mean() + reach


def test_bootstrap_t_is_the_plain_loop_over_resamples():
    """For a ratio of sums the standard error has a textbook form: of what is left after the ratio, by group."""
    rng = np.random.default_rng(5)
    groups = np.append(np.arange(45), rng.integers(0, 45, 300))
    a, b = rng.exponential(size=345), rng.uniform(1, 2, size=345)

    def ratio(drawn):
        top, bottom = np.bincount(groups, a)[drawn], np.bincount(groups, b)[drawn]
        value = top.sum() / bottom.sum()
        return value, np.sqrt(45 / 44 * np.sum((top - value * bottom) ** 2)) / bottom.sum()

    estimate, spread = ratio(np.arange(45))
    drawn = [np.repeat(np.arange(45), w.astype(int)) for w in _resamples(45, 1000, 2)[1:]]
    z = np.sort([(value - estimate) / se for value, se in map(ratio, drawn)])
    names = pd.factorize(groups)[1]
    assert names.tolist() == list(range(45))
    found = sums_interval(lambda s: s[..., 0] / s[..., 1], np.column_stack([a, b]), groups, seed=2)
    assert found.estimate == pytest.approx(estimate)
    assert found.low == pytest.approx(estimate - z[975] * spread, rel=1e-4)
    assert found.high == pytest.approx(estimate - z[24] * spread, rel=1e-4)
    assert found.method == "95% bootstrap-t, 1000 resamples of 45 groups"


def test_many_columns_and_columns_that_do_not_vary_change_nothing():
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(60), 5)
    a, b = rng.exponential(size=300), rng.uniform(1, 2, size=300)
    few = sums_interval(lambda s: s[..., 0] / s[..., 1], np.column_stack([a, b]), groups)
    columns = np.column_stack([a, np.ones(300), np.zeros(300), *rng.normal(size=(8, 300)), b])
    many = sums_interval(lambda s: s[..., 0] / s[..., -1] + 0 * s[..., 1] * s[..., 4], columns, groups)
    assert (many.low, many.high) == pytest.approx((few.low, few.high))


def test_many_counts_with_a_class_that_some_resamples_lack():
    """Macro F1 jumps where a class vanishes; elsewhere its interval is about as wide as the jackknife's."""
    rng = np.random.default_rng(9)
    groups = rng.integers(0, 80, 1500)
    truth = rng.choice(7, 1500, p=[0.3, 0.3, 0.2, 0.1, 0.07, 0.02, 0.01])
    P = np.exp(rng.normal(size=(1500, 7)) + 2 * np.eye(7)[truth])
    rare = np.flatnonzero((truth == 6) | (P.argmax(axis=1) == 6))
    groups[rare] = rare % 5  # so that a resample in a hundred has none
    measure = macro_f1(truth, P)
    found = sums_interval(measure.function, measure.columns, groups)
    slow = group_jackknife(
        lambda rows: float(measure.function(measure.columns[rows].sum(axis=0))), 1500, groups
    )
    assert "bootstrap-t" in found.method
    assert found.estimate == slow.estimate
    assert found.high - found.low == pytest.approx(slow.high - slow.low, rel=0.3)


@pytest.mark.parametrize("n_groups", [60, 1500])
def test_resamples_repeat_by_seed_and_many_groups_are_resampled_in_blocks(n_groups):
    x = np.random.default_rng(1).exponential(size=3000)
    groups = np.arange(3000) % n_groups
    found = mean_interval(x, groups)
    assert mean_interval(x, groups) == found
    other = mean_interval(x, groups, seed=1)
    assert (other.low, other.high) != (found.low, found.high)
    assert other.high - other.low == pytest.approx(found.high - found.low, rel=0.12)
    in_blocks = f"{n_groups} groups in {MOST_BLOCKS} blocks" in found.method
    assert in_blocks == (n_groups > MOST_BLOCKS)
    assert found.high - found.low == pytest.approx(
        np.subtract(*jackknife_of_mean(x, groups)[:0:-1]), rel=0.12
    )


def test_groups_decide_what_is_done():
    x = np.random.default_rng(2).normal(size=400)
    assert "jackknife, t(38), 39 groups" in mean_interval(x, np.arange(400) % (FEWEST_RESAMPLED - 1)).method
    assert "bootstrap-t" in mean_interval(x, np.arange(400) % FEWEST_RESAMPLED).method
    many = group_jackknife(lambda rows: float(np.median(x[rows])), 400, np.arange(400) % 60)
    assert "jackknife, t(59), 60 groups" in many.method


def test_where_resamples_leave_it_undefined_the_jackknife_stands_in():
    hit = np.zeros(200)
    hit[[3, 60, 130]] = 1
    found = mean_interval(hit, np.arange(200) // 4, limits=(0, 1))
    assert 0 < found.low < found.estimate < found.high
    assert "delete-a-group jackknife of log-odds, t(49)" in found.method
    assert "undefined in" in found.method


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
