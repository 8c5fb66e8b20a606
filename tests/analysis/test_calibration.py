"""Calibration against sums over pairs, the published formula, and simulated models whose calibration is known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from planted_study import Design, draw, group_numbers

from mixed_signals.analysis.robustness.calibration import (
    OVERCONFIDENCE,
    TOP,
    calibration_table,
    equal_mass_bins,
    squared_calibration_error,
)
from mixed_signals.models.intervals import group_jackknife
from mixed_signals.store import UsageError


def over_pairs(p, y, groups, n_bins):
    bins, total, used = equal_mass_bins(p, n_bins), 0.0, 0
    for b in set(bins):
        mine = np.flatnonzero(bins == b)
        products = [(y[i] - p[i]) * (y[j] - p[j]) for i, j in combinations(mine, 2) if groups[i] != groups[j]]
        if products:
            total += len(mine) * np.mean(products)
            used += len(mine)
    return total / used


@pytest.mark.parametrize("n_groups", [4, 120])
def test_the_error_is_a_mean_over_pairs_of_different_groups(n_groups):
    rng = np.random.default_rng(0)
    groups = np.array([f"g{g}" for g in group_numbers(rng, 120, n_groups)])
    p = rng.random(120).round(1)
    y = rng.random(120) < p**2
    assert squared_calibration_error(p, y, groups, n_bins=6) == pytest.approx(over_pairs(p, y, groups, 6))


def test_the_error_is_the_published_one_where_bins_hold_one_probability():
    """Kumar, Liang and Ma (2019), section 5: sum_b share_b ((mean p - mean y)^2 - mean y (1 - mean y) / (n_b - 1))."""
    rng = np.random.default_rng(1)
    p = np.repeat([0.1, 0.4, 0.9], [50, 100, 50])
    y = rng.random(200) < p + 0.05
    expected = 0.0
    for value, share in ((0.1, 0.25), (0.4, 0.5), (0.9, 0.25)):
        mean = y[p == value].mean()
        expected += share * ((value - mean) ** 2 - mean * (1 - mean) / ((p == value).sum() - 1))
    assert squared_calibration_error(p, y, n_bins=4) == pytest.approx(expected)


def test_a_calibrated_model_has_no_error_in_expectation_even_where_groups_share_their_luck():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 10)
    names = groups.astype(str)
    found, by_rows, plugged = [], [], []
    for _ in range(250):
        luck = np.where(rng.random(30)[groups] < 0.5, rng.random(30)[groups], rng.random(300))
        p = rng.random(300)
        y = luck < p
        found.append(squared_calibration_error(p, y, names, n_bins=5))
        by_rows.append(squared_calibration_error(p, y, n_bins=5))
        bins = equal_mass_bins(p, 5)
        plugged.append(sum((bins == b).mean() * (y - p)[bins == b].mean() ** 2 for b in range(5)))
    noise = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * noise
    assert min(found) < 0
    assert np.mean(by_rows) > 4 * noise
    assert np.mean(plugged) > 10 * noise


def test_a_known_miscalibration_is_found_without_bias():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        p = rng.uniform(0.2, 0.8, 200)
        found.append(squared_calibration_error(p, rng.random(200) < p + 0.1, n_bins=5))
    assert np.mean(found) == pytest.approx(0.01, abs=3 * np.std(found) / np.sqrt(300))


def test_the_order_of_rows_does_not_matter_where_probabilities_are_tied():
    rng = np.random.default_rng(4)
    p, y = rng.random(90).round(1), rng.random(90) < 0.5
    order = rng.permutation(90)
    assert squared_calibration_error(p, y) == pytest.approx(squared_calibration_error(p[order], y[order]))
    for value in set(p):
        assert len(set(equal_mass_bins(p)[p == value])) == 1
    assert np.bincount(equal_mass_bins(rng.random(90), 15)).tolist() == [6] * 15


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [([0.5], [1, 0], "one of each"), ([], [], "one of each"), ([1.2], [1], "between 0 and 1")],
)
def test_what_is_no_probability_is_refused(p, y, message):
    with pytest.raises(UsageError, match=message):
        squared_calibration_error(p, y)


def test_one_group_has_no_error_that_could_be_told():
    assert np.isnan(squared_calibration_error([0.2, 0.8], [0, 1], ["a", "a"]))


def panel_of(seed=5, **design):
    return draw(np.random.default_rng(seed), Design(n_seeds=2, **design)).panel


def test_intervals_are_those_of_the_group_jackknife():
    """With one bin, so that bins stay the same without a group."""
    panel = panel_of()
    table = calibration_table(panel, n_bins=1)
    mine = table[(table["model"] == "text") & (table["quantity"] == TOP)].iloc[0]
    said = panel.mean("text")
    p, y = said.max(axis=1), said.argmax(axis=1) == panel.truth
    plain = group_jackknife(
        lambda r: squared_calibration_error(p[r], y[r], panel.groups[r], n_bins=1), len(p), panel.groups
    )
    assert [mine["estimate"], mine["low"], mine["high"]] == pytest.approx(
        [plain.estimate, plain.low, plain.high]
    )
    assert (mine["n"], mine["n_groups"]) == (400, 20)


def test_every_model_and_class_has_its_row():
    panel = panel_of(n_classes=3)
    table = calibration_table(panel)
    assert set(table["quantity"]) == {TOP, OVERCONFIDENCE, "class c0", "class c1", "class c2"}
    assert list(dict.fromkeys(table["model"])) == ["text", "audio", "video", "fusion"]
    assert len(table) == 20
    said = panel.mean("audio")
    mine = table[(table["model"] == "audio") & (table["quantity"] == "class c1")].iloc[0]
    expected = squared_calibration_error(said[:, 1], panel.truth == 1, panel.groups)
    assert mine["estimate"] == pytest.approx(expected)


def test_both_classes_of_two_are_calibrated_alike():
    table = calibration_table(panel_of()).set_index(["model", "quantity"])["estimate"]
    assert table["fusion", "class c0"] == pytest.approx(table["fusion", "class c1"])


def test_a_model_that_claims_more_than_it_keeps_is_overconfident():
    """Evidence that errs alike in all modalities, and is taken for independent."""
    same = {"audio": "text", "video": "text"}
    table = calibration_table(panel_of(same=same, n=2000, noise=0.0)).set_index(["model", "quantity"])
    over = table.loc[("fusion", OVERCONFIDENCE)]
    assert over["low"] > 0.02
    assert table.loc[("fusion", TOP), "low"] > 0
    alone = table.loc[("text", OVERCONFIDENCE)]
    assert alone["low"] < 0.01
    assert alone["estimate"] < over["estimate"] - 0.02
