"""Tests that respect groups: figures of their sources, independent implementations, size under correlated rows."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from mlxtend.evaluate import cochrans_q
from outside_data import outside_data
from scipy.stats import ttest_1samp
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import cochrans_q as stats_cochrans_q
from statsmodels.stats.contingency_tables import mcnemar as stats_mcnemar
from statsmodels.stats.multitest import multipletests

from mixed_signals.analysis import inference
from mixed_signals.analysis.findings import Finding


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def grouped_noise(rng, n_groups=20, size=15, icc=0.3):
    groups = np.repeat(np.arange(n_groups), size)
    return np.sqrt(icc) * rng.normal(size=n_groups)[groups] + np.sqrt(1 - icc) * rng.normal(
        size=len(groups)
    ), groups


def size_of(p_values):
    return float(np.mean(np.array(p_values) <= 0.05))


# --- sign flips


def test_sign_flips_of_few_groups_are_all_made(rng):
    values, groups = rng.normal(0.5, 1, 30), np.arange(30) % 9
    sums = np.array([values[groups == g].sum() for g in range(9)])
    signs = np.array(list(itertools.product([-1, 1], repeat=9)))
    expected = np.mean(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12)
    found = inference.sign_flip(values, groups)
    assert found.p == expected
    assert found.n_groups == 9
    assert found.method == "sign flips of 9 groups, all 512"


def test_random_sign_flips_come_near_the_t_test_and_repeat(rng):
    x = rng.normal(0.15, 1, 200)
    found = inference.sign_flip(x, resamples=20_000, seed=3)
    assert found.p == pytest.approx(ttest_1samp(x, 0).pvalue, abs=0.01)
    assert found == inference.sign_flip(x, resamples=20_000, seed=3)
    assert found.p != inference.sign_flip(x, resamples=20_000, seed=4).p


def test_what_rounding_leaves_of_zeros_is_not_tested():
    found = inference.sign_flip(np.full(160, 3e-17), np.arange(160) % 12)
    assert np.isnan(found.p)
    assert found.method == "no test: nothing but zeros"
    assert inference.sign_flip(np.full(160, 1e-6), np.arange(160) % 12).p == 2 / 2**12


def test_a_random_p_is_never_nothing():
    assert inference.sign_flip(np.ones(100), resamples=99).p == 1 / 100


def test_flipping_groups_keeps_its_size_where_flipping_rows_does_not(rng):
    grouped, rows = [], []
    for i in range(300):
        x, groups = grouped_noise(rng)
        grouped.append(inference.sign_flip(x, groups, resamples=199, seed=i).p)
        rows.append(inference.sign_flip(x, resamples=199, seed=i).p)
    assert 0.02 <= size_of(grouped) <= 0.085
    assert size_of(rows) > 0.2


# --- McNemar


def two_answers(rng, n=400):
    return rng.random(n) < 0.7, rng.random(n) < 0.62


def test_mcnemar_without_groups_is_that_of_statsmodels(rng):
    first, second = two_answers(rng)
    table = np.array([[np.sum((first == a) & (second == b)) for b in (1, 0)] for a in (1, 0)])
    expected = stats_mcnemar(table, exact=False, correction=False)
    found = inference.mcnemar(first, second, method="durkalski")
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    obuchowski = inference.mcnemar(first, second)
    assert obuchowski.statistic == pytest.approx(expected.statistic * 399 / 400)


def test_clustered_mcnemar_is_obuchowskis_variance_written_out(rng):
    """The variance as first published, before Yang, Sun and Hardin simplified it."""
    first, second = two_answers(rng)
    groups = rng.integers(0, 25, 400)
    table = pd.DataFrame({"x": first, "y": second, "g": groups}).astype(int)
    by, n, K = table.groupby("g")[["x", "y"]].sum(), table.groupby("g").size(), 25
    pooled = (first.mean() + second.mean()) / 2
    a, b = by["x"] - n * pooled, by["y"] - n * pooled
    variance = K / (K - 1) * ((a**2).sum() + (b**2).sum() - 2 * (a * b).sum()) / 400**2
    expected = (first.mean() - second.mean()) ** 2 / variance
    assert inference.mcnemar(first, second, groups).statistic == pytest.approx(expected)


def test_face_against_both_channels_of_crema_d():
    """Majority right, ties wrong, against the emotion in the file name: 138 plain, 48.5 clustered by actor."""
    folder = outside_data("cremad")
    votes = pd.read_csv(folder / "tabulatedVotes.csv")
    clip, channel = votes.iloc[:, 0] % 100_000, votes.iloc[:, 0] // 100_000  # 1 voice, 2 face, 3 both
    names = pd.read_csv(folder / "SentenceFilenames.csv", index_col=0)["Filename"]
    intended = clip.map(names).str.split("_").str[2].str[0]  # ANG, DIS, FEA, HAP, NEU, SAD
    letters = list("ADFHNS")
    counts = votes[letters].to_numpy()
    tied = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1
    right = (np.array(letters)[counts.argmax(axis=1)] == intended.to_numpy()) & ~tied
    table = pd.DataFrame({"clip": clip, "channel": channel, "right": right})
    wide = table.pivot_table(index="clip", columns="channel", values="right", aggfunc="first")
    assert wide.mean().round(3).tolist() == [0.416, 0.663, 0.722]
    actor = wide.index.map(names).str[:4].to_numpy(object)
    face, both = wide[2].to_numpy(bool), wide[3].to_numpy(bool)
    assert inference.mcnemar(face, both, method="durkalski").statistic == pytest.approx(138, abs=0.5)
    clustered = inference.mcnemar(face, both, actor, method="durkalski")
    assert clustered.n_groups == 91
    assert clustered.statistic == pytest.approx(48.5, abs=0.05)
    assert inference.mcnemar(face, both, actor).statistic == pytest.approx(48.5 * 90 / 91, abs=0.05)
    assert clustered.p < 1e-10


def test_clustered_mcnemar_keeps_its_size_where_the_plain_one_does_not(rng):
    clustered, plain = [], []
    for _ in range(300):
        lean, groups = grouped_noise(rng, 40, 10, 0.5)
        u = rng.random(400)
        first, second = u < 0.5 + 0.15 * np.sign(lean), u < 0.5 - 0.15 * np.sign(lean)
        clustered.append(inference.mcnemar(first, second, groups).p)
        plain.append(inference.mcnemar(first, second).p)
    assert 0.02 <= size_of(clustered) <= 0.085
    assert size_of(plain) > 0.12


def test_few_groups_leave_mcnemar_without_p(rng):
    first, second = two_answers(rng)
    found = inference.mcnemar(first, second, np.arange(400) % 7)
    assert np.isnan(found.p)
    assert found.statistic > 0
    assert "at least 8" in found.method
    with pytest.raises(ValueError, match="obuchowski or durkalski"):
        inference.mcnemar(first, second, method="yang")
    assert "no group" in inference.mcnemar(first, first).method


# --- Cochran


def test_cochrans_q_is_that_of_statsmodels_and_mlxtend(rng):
    right = rng.random((300, 3)) < np.array([0.6, 0.55, 0.7])
    found = inference.cochran(right, resamples=20_000)
    expected = stats_cochrans_q(right)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)
    other, _ = cochrans_q(np.ones(300, dtype=int), *right.T.astype(int))
    assert found.statistic == pytest.approx(other)


def test_all_channel_orders_of_few_groups_are_made(rng):
    right, groups = rng.random((40, 3)) < 0.5, np.arange(40) % 4
    found = inference.cochran(right, groups)
    assert found.method.endswith("channels permuted within 4 groups, all 1,296")
    sums = np.array([right[groups == g].sum(axis=0) for g in range(4)])
    spread = [
        (np.array([s[list(o)] for s, o in zip(sums, orders, strict=True)]).sum(axis=0) ** 2).sum()
        for orders in itertools.product(itertools.permutations(range(3)), repeat=4)
    ]
    assert found.p == np.mean(np.array(spread) >= (sums.sum(axis=0) ** 2).sum())


def test_cochran_of_two_channels_is_the_sign_flip_of_their_difference(rng):
    right, groups = rng.random((60, 2)) < np.array([0.7, 0.4]), np.arange(60) % 10
    differences = right[:, 0].astype(float) - right[:, 1]
    assert inference.cochran(right, groups).p == inference.sign_flip(differences, groups).p


def test_cochran_moves_each_group_as_one(rng):
    grouped, rows = [], []
    for i in range(200):
        lean = 0.25 * rng.choice([-1, 0, 1], size=(30, 3))
        groups = np.repeat(np.arange(30), 8)
        right = rng.random((240, 3)) < 0.5 + lean[groups]
        grouped.append(inference.cochran(right, groups, resamples=99, seed=i).p)
        rows.append(inference.cochran(right, resamples=99, seed=i).p)
    assert size_of(grouped) <= 0.09
    assert size_of(rows) > 0.12


def test_channels_right_on_the_same_rows_have_no_test():
    assert "same rows" in inference.cochran(np.ones((10, 3))).method


# --- rearranging rows


def correlation(x, y):
    return float(np.corrcoef(x, y)[0, 1])


def walks(rng, n_groups=10, size=30):
    steps = rng.normal(size=(n_groups, size))
    series = np.empty_like(steps)
    series[:, 0] = steps[:, 0]
    for t in range(1, size):
        series[:, t] = 0.9 * series[:, t - 1] + np.sqrt(1 - 0.81) * steps[:, t]
    return series.ravel()


def test_shifts_keep_their_size_in_series_where_permutations_do_not(rng):
    def product(x, y):
        return float(x @ y)

    shifted, permuted = [], []
    groups, when = np.repeat(np.arange(10), 30), np.tile(np.arange(30), 10)
    for i in range(150):
        x, y = walks(rng), walks(rng)
        shifted.append(inference.circular_shift(product, x, y, groups, when, resamples=79, seed=i).p)
        permuted.append(inference.group_permutation(product, x, y, groups, resamples=79, seed=i).p)
    assert size_of(shifted) <= 0.12
    assert size_of(permuted) > 0.2


@pytest.mark.parametrize(("n_groups", "how"), [(40, "sign flips of 40 groups"), (6, "circular shifts")])
def test_short_series_keep_their_size_where_there_are_groups_enough(rng, n_groups, how):
    groups, when = np.repeat(np.arange(n_groups), 10), np.tile(np.arange(10), n_groups)
    tests = [
        inference.within_groups(
            walks(rng, n_groups, 10), walks(rng, n_groups, 10), groups, when, resamples=199
        )
        for _ in range(300)
    ]
    assert all(how in test.method for test in tests)
    assert size_of([test.p for test in tests]) <= (0.09 if n_groups == 40 else 1)
    x = walks(rng, n_groups, 10)
    assert inference.within_groups(x, x + walks(rng, n_groups, 10), groups, when).p < 0.05


def test_groups_of_one_row_count_for_nothing_and_a_missing_time_costs_no_validity(rng):
    groups, when = np.repeat(np.arange(20), 10), np.tile(np.arange(10.0), 20)
    x, y = walks(rng, 20, 10), walks(rng, 20, 10)
    alone = inference.within_groups(x, y, groups, when, resamples=199)
    lone = np.arange(100, 150)
    more = [np.concatenate([v, rng.normal(size=50)]) for v in (x, y)]
    both = inference.within_groups(
        *more, np.concatenate([groups, lone]), np.concatenate([when, np.full(50, np.nan)]), resamples=199
    )
    assert both == alone
    assert alone.n_groups == 20
    when[3] = np.nan
    assert "sign flips of 20 groups" in inference.within_groups(x, y, groups, when).method
    nothing = inference.within_groups(x, y, np.arange(200), when)
    assert np.isnan(nothing.p)


def test_what_groups_have_in_common_is_not_together_within_them(rng):
    groups = np.repeat(np.arange(30), 10)
    level = rng.normal(size=30)[groups]
    x, y = (level + 0.2 * rng.normal(size=300) for _ in range(2))
    assert correlation(x, y) > 0.8
    assert inference.within_groups(x, y, groups, np.arange(300.0)).p > 0.05
    assert inference.within_groups(x, y, groups).p > 0.05


def test_a_shift_moves_rows_in_the_order_of_time_within_their_group(rng):
    groups, when = np.array(["b", "a"] * 5, dtype=object), rng.permutation(10).astype(float)
    x, y = np.arange(10.0), np.arange(10.0) + 100
    pairs = []

    def seen(first, second):
        pairs.append(dict(zip(second - 100, first, strict=True)))
        return float(first[0])

    inference.circular_shift(seen, x, y, groups, when, resamples=50)
    assert pairs[0] == {i: i for i in range(10)}
    for drawn in pairs[1:]:
        for name in ("a", "b"):
            series = np.flatnonzero(groups == name)[np.argsort(when[groups == name])]
            moved = [drawn[i] for i in series]
            assert any(moved == np.roll(series, k).tolist() for k in range(5))
    assert len({tuple(sorted(p.items())) for p in pairs}) > 15


def test_permutations_stay_within_groups_and_ignore_what_lies_between_them(rng):
    groups = np.repeat(np.arange(20), 6)
    level = rng.normal(size=20)[groups]
    x, y = level + 0.3 * rng.normal(size=120), level + 0.3 * rng.normal(size=120)
    assert inference.group_permutation(correlation, x, y, groups, resamples=499).p > 0.05
    assert inference.group_permutation(correlation, x, y, resamples=499).p == 2 / 500
    within = rng.normal(size=120)
    linked = inference.group_permutation(correlation, level + within, level - within, groups, resamples=499)
    assert linked.p == 2 / 500
    assert linked.n_groups == 20


def test_rows_that_cannot_move_have_no_test(rng):
    x = rng.normal(size=30)
    assert "no group has two rows" in inference.group_permutation(correlation, x, x, np.arange(30)).method
    assert "undefined" in inference.group_permutation(lambda a, b: np.nan, x, x).method


# --- covariates


def test_the_clustered_t_is_that_of_statsmodels(rng):
    groups = rng.integers(0, 30, 300)
    Z = rng.normal(size=(300, 2))
    x = Z @ [1, -1] + rng.normal(size=300)
    y = Z @ [2, 1] + 0.1 * x + rng.normal(size=300)
    design = np.column_stack([np.ones(300), Z, x])
    fit = OLS(y, design).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    found = inference.freedman_lane(y, x, Z, groups)
    assert found.statistic == pytest.approx(fit.tvalues[-1])
    assert found.n_groups == 30


def test_each_flip_is_a_fit_anew_to_the_flipped_residuals(rng):
    groups = np.arange(40) % 8
    Z, x = rng.normal(size=40), rng.normal(size=40)
    y = Z + 0.3 * x + rng.normal(size=40)
    reduced, full = np.column_stack([np.ones(40), Z]), np.column_stack([np.ones(40), Z, x])
    fit = OLS(y, reduced).fit()

    def t_of(values):
        options = {"groups": groups, "use_correction": False}
        return OLS(values, full).fit(cov_type="cluster", cov_kwds=options).tvalues[-1]

    drawn = [
        t_of(fit.fittedvalues + np.array(signs)[groups] * fit.resid)
        for signs in itertools.product([-1, 1], repeat=8)
    ]
    expected = np.mean(np.abs(drawn) >= abs(t_of(y)) - 1e-9)
    assert inference.freedman_lane(y, x, Z, groups).p == expected


def test_freedman_lane_keeps_its_size_with_a_common_cause_and_groups(rng):
    """y depends on the covariate alone, which x goes with too; residuals and x are alike within groups."""
    controlled, uncontrolled, power = [], [], []
    for i in range(200):
        noise, groups = grouped_noise(rng, 25, 8, 0.4)
        cause = rng.normal(size=200)
        x = cause + grouped_noise(rng, 25, 8, 0.4)[0]
        y = cause + noise
        controlled.append(inference.freedman_lane(y, x, cause, groups, resamples=199, seed=i).p)
        uncontrolled.append(inference.freedman_lane(y, x, np.zeros(200), groups, resamples=199, seed=i).p)
        power.append(inference.freedman_lane(y + 0.4 * x, x, cause, groups, resamples=199, seed=i).p)
    assert 0.02 <= size_of(controlled) <= 0.095
    assert size_of(uncontrolled) > 0.9
    assert size_of(power) > 0.8


def test_what_covariates_determine_has_no_test(rng):
    Z = rng.normal(size=(50, 2))
    assert "determine x" in inference.freedman_lane(rng.normal(size=50), Z @ [1, 2], Z).method
    assert "determine y" in inference.freedman_lane(Z @ [1, 2], rng.normal(size=50), Z).method


# --- resamplings and corrections


def test_the_corrected_t_is_the_usual_one_with_a_larger_variance(rng):
    d = rng.normal(0.02, 0.03, 10)
    found = inference.corrected_resampled_t(d, 80, 20)
    usual = ttest_1samp(d, 0)
    assert found.statistic == pytest.approx(usual.statistic * np.sqrt((1 / 10) / (1 / 10 + 1 / 4)))
    low, high = usual.confidence_interval()
    widened = np.sqrt((1 / 10 + 1 / 4) / (1 / 10))
    assert (found.high - found.low) == pytest.approx((high - low) * widened)
    assert found.method == "95% corrected resampled t(9), variance factor 0.350"
    assert inference.corrected_resampled_t(d, np.full(10, 80), np.full(10, 20)) == found


def test_one_fold_and_equal_folds_have_no_test():
    assert "two folds" in inference.corrected_resampled_t([0.1], 80, 20).method
    assert "do not differ" in inference.corrected_resampled_t([0.1, 0.1, 0.1], 80, 20).method
    assert "undefined" in inference.corrected_resampled_t([0.1, np.nan], 80, 20).method


@pytest.mark.parametrize("seed", range(5))
def test_corrections_are_those_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(17) ** 3, 3)  # with ties
    p[[3, 9]] = np.nan
    there = np.isfinite(p)
    for ours, name in ((inference.holm, "holm"), (inference.benjamini_hochberg, "fdr_bh")):
        found = ours(p)
        np.testing.assert_allclose(found[there], multipletests(p[there], method=name)[1])
        assert np.isnan(found[~there]).all()
    assert inference.holm([]).shape == (0,)


def test_what_is_primary_is_corrected_by_itself():
    def finding(p, primary):
        return Finding("q", "x", 0.1, 0, 1, p, 10, 5, "m", primary, "v")

    found = inference.adjust(
        [
            finding(0.03, True),
            finding(0.02, False),
            finding(np.nan, False),
            finding(0.01, False),
            finding(0.04, True),
        ]
    )
    np.testing.assert_allclose([f.p_adjusted for f in found], [0.06, 0.02, np.nan, 0.02, 0.06])
    assert [f.p for f in found][3] == 0.01
