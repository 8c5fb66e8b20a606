"""Disagreement against known truth: planted conflicts, seed noise alone, one model twice, and plain loops."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon as scipy_distance
from synthetic_study import FULL, null_predictions, planted_predictions

from mixed_signals.analysis.disagreement import (
    between_seeds,
    disagreement_rates,
    jensen_shannon,
    pair_measures,
    utterance_table,
)
from mixed_signals.analysis.panel import FUSION, make_panels


def panel_of(table):
    (panel,), _ = make_panels(table)
    return panel


def pick(rates, first, second, quantity):
    rows = rates[(rates["first"] == first) & (rates["second"] == second) & (rates["quantity"] == quantity)]
    assert len(rows) == 1
    return rows.iloc[0]


labels = arrays(
    np.intp, st.tuples(st.integers(1, 2), st.integers(2, 4), st.integers(1, 5)), elements=st.integers(0, 3)
)


@settings(deadline=None)
@given(labels, st.integers(0, 1000))
def test_between_seeds_equals_the_plain_loop(a, seed):
    b = np.random.default_rng(seed).integers(0, 4, a.shape)
    for first, second in ((a, b), (a, a)):
        pairs = list(permutations(range(a.shape[1]), 2))
        loop = np.mean([first[:, s] != second[:, t] for s, t in pairs], axis=(0, 1))
        np.testing.assert_allclose(between_seeds(first, second, 4), loop)


def test_excess_is_zero_in_expectation_for_seed_noise_alone():
    """Over many made-up studies the mean excess is 0 and the interval covers it about as often as it says."""
    rng = np.random.default_rng(5)
    groups = np.arange(300) % 20
    means, covered = [], []
    for _ in range(60):
        rates = disagreement_rates(panel_of(null_predictions(rng)), groups)
        for m in ("text", "audio", "video"):
            excess = pick(rates, m, FUSION, "excess")
            means.append(excess["estimate"])
            covered.append(excess["low"] <= 0 <= excess["high"])
    floor = pick(rates, "text", FUSION, "floor")["estimate"]
    assert floor > 0.3
    assert abs(np.mean(means)) < 0.003
    assert min(means) < 0 < max(means)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_planted_conflicts_are_found_where_they_are():
    table, _, conflicted = planted_predictions(np.random.default_rng(1), 400)
    panel = panel_of(table)
    rates = disagreement_rates(panel, np.arange(400) % 20)
    share = conflicted.mean()
    audio = pick(rates, "audio", FUSION, "excess")
    assert audio["estimate"] == pytest.approx(share, abs=0.02)
    assert audio["low"] > 0.2
    assert pick(rates, "audio", FUSION, "rate")["estimate"] == pytest.approx(share, abs=0.01)
    assert pick(rates, "text", FUSION, "rate")["estimate"] < 0.01
    assert pick(rates, "text", "audio", "rate")["estimate"] == pytest.approx(share, abs=0.01)
    utterances = utterance_table(panel)
    assert utterances.loc[conflicted, "jsd"].min() > utterances.loc[~conflicted, "jsd"].max()
    assert (utterances["n_labels"].to_numpy() == 1 + conflicted).mean() > 0.99


def test_one_model_under_two_names_never_disagrees():
    table, _, _ = planted_predictions(np.random.default_rng(2), 200, spread=1.0, noise=1.0)
    text = table[table["modalities"] == "text"]
    twice = pd.concat([text.assign(modalities=name) for name in ("text", "audio", "video", FULL)])
    panel = panel_of(twice)
    rates = disagreement_rates(panel, np.arange(200) % 10)
    assert (rates.loc[rates["quantity"].isin(["rate", "excess"]), "estimate"] == 0).all()
    assert (rates.loc[rates["quantity"] == "floor", "estimate"] > 0.05).all()
    utterances = utterance_table(panel)
    assert (utterances["jsd"] < 1e-12).all()
    assert (utterances["n_labels"] == 1).all()


def test_rates_average_seeds_before_labels_and_partitions_after():
    table, _, _ = planted_predictions(
        np.random.default_rng(3), 60, spread=1.5, noise=1.5, n_seeds=3, n_partitions=2
    )
    classes = ["p_angry", "p_neutral", "p_warm"]
    by_partition = []
    for _, part in table.groupby("partition"):
        mean = part.groupby(["modalities", "utterance_id"])[classes].mean()
        guess = mean.idxmax(axis=1)
        by_partition.append((guess["audio"] != guess[FULL]).mean())
    rates = disagreement_rates(panel_of(table))
    assert by_partition[0] != by_partition[1]
    assert pick(rates, "audio", FUSION, "rate")["estimate"] == pytest.approx(np.mean(by_partition))


def test_one_seed_has_no_floor_and_says_why():
    table, _, _ = planted_predictions(np.random.default_rng(4), 100, n_seeds=1)
    panel = panel_of(table)
    assert set(pair_measures(panel, "text", FUSION)) == {"rate"}
    rates = disagreement_rates(panel, np.arange(100) % 10)
    unmeasured = rates[rates["quantity"] != "rate"]
    assert unmeasured["estimate"].isna().all()
    assert unmeasured["method"].str.contains("at least two seeds").all()
    assert (unmeasured["n_groups"] == 10).all()
    assert rates.loc[rates["quantity"] == "rate", "estimate"].notna().all()


def test_two_modalities_are_enough():
    table, _, _ = planted_predictions(np.random.default_rng(6), 100)
    table = table[table["modalities"] != "video"]
    table.loc[table["modalities"] == FULL, "modalities"] = "text+audio"
    panel = panel_of(table)
    assert panel.unimodals == ("text", "audio")
    rates = disagreement_rates(panel)
    assert set(zip(rates["first"], rates["second"], strict=True)) == {
        ("text", FUSION), ("audio", FUSION), ("text", "audio"),
    }  # fmt: skip


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_jensen_shannon_of_two_is_the_squared_distance_in_bits(seed, n_classes):
    p, q = np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.3), size=(2, 5))
    np.testing.assert_allclose(jensen_shannon(p, q), scipy_distance(p, q, base=2, axis=1) ** 2, atol=1e-9)


def test_jensen_shannon_at_its_ends():
    eye = np.eye(3)
    assert jensen_shannon(eye[0], eye[1], eye[2]) == pytest.approx(np.log2(3))
    assert jensen_shannon(eye[0], eye[0], eye[0]) == 0
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=3)
    assert jensen_shannon(*p) == pytest.approx(jensen_shannon(*p[::-1]))
    assert jensen_shannon(p[0], p[0]) == 0


def test_utterance_table_follows_the_averaged_probabilities():
    table, truth, _ = planted_predictions(np.random.default_rng(7), 50, spread=2.0, noise=1.0)
    panel = panel_of(table)
    utterances = utterance_table(panel)
    p = panel.outputs["video"].mean(axis=(0, 1))
    np.testing.assert_allclose(utterances["p_label_video"], p.max(axis=1))
    np.testing.assert_allclose(utterances["p_true_video"], p[np.arange(50), truth])
    right = (utterances["label_video"] == utterances["label_true"]).to_numpy()
    np.testing.assert_array_equal(right, p.argmax(axis=1) == truth)
    f = panel.outputs[FUSION].mean(axis=(0, 1))
    np.testing.assert_allclose(utterances["jsd_video"], jensen_shannon(p, f))
