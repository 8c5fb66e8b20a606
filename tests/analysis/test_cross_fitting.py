"""Chances by regressions that have not seen a row's group."""

from __future__ import annotations

import numpy as np
import pytest

from mixed_signals.analysis.cross_fitting import N_FOLDS, cross_fit


def made_up(n=300, n_groups=15, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    return rng.random(n) < 1 / (1 + np.exp(-2 * X[:, 0])), X, np.arange(n) % n_groups


def test_each_group_is_held_out_as_a_whole_and_chances_tell_what_is_planted():
    positive, X, groups = made_up()
    found = cross_fit(positive, [X[:, :1], X[:, 1:]], groups)
    assert found.complete
    assert all(len(set(found.fold[groups == g])) == 1 for g in set(groups))
    assert len(set(found.fold)) == N_FOLDS
    told, mute = found.chances.T
    assert told[positive].mean() - told[~positive].mean() > 0.2
    assert abs(mute[positive].mean() - mute[~positive].mean()) < 0.05


def test_a_groups_own_outcomes_do_not_tell_its_chances():
    positive, X, groups = made_up()
    before = cross_fit(positive, [X], groups)
    own = before.fold == 2
    after = cross_fit(np.where(own, ~positive, positive), [X], groups)
    np.testing.assert_array_equal(after.chances[own], before.chances[own])
    assert np.abs(after.chances[~own] - before.chances[~own]).max() > 1e-3


def test_units_of_a_score_change_nothing():
    positive, X, groups = made_up()
    a, b = cross_fit(positive, [X, 100 * X - 3], groups).chances.T
    np.testing.assert_allclose(a, b, atol=1e-9)


def test_where_all_are_of_one_kind_the_share_is_the_chance_and_it_is_said():
    _, X, groups = made_up()
    never = cross_fit(np.zeros(300, dtype=bool), [X], groups)
    assert never.chances.max() == 0
    assert not never.complete
    rare = groups == 3
    found = cross_fit(rare, [X], groups)
    assert found.chances[rare, 0] == pytest.approx(0)
    assert not found.complete


def test_one_group_cannot_be_held_out():
    positive, X, _ = made_up()
    assert cross_fit(positive, [X], np.zeros(300, dtype=int)) is None
