"""The typology: exactly one type for every combination of labels, against a slow plain reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_study import planted_predictions

from mixed_signals.analysis.panel import make_panels
from mixed_signals.analysis.typology import FAMILIES, classify, family, typology_table, utterance_types

NAMES = ("text", "audio", "video")


def all_types(truth, unimodals, fusion, names):
    """Every rule that holds, each written out alone."""
    right = [n for n, label in zip(names, unimodals, strict=True) if label == truth]
    same = [n for n, label in zip(names, unimodals, strict=True) if label == fusion]
    ok = fusion == truth
    found = []
    if ok and len(right) == len(names):
        found.append("agree right")
    if ok and not right:
        found.append("fusion rescues")
    if ok and 0 < len(right) < len(names):
        found.append("follows " + "+".join(right))
    if not ok and not right and len(set(unimodals)) == 1:
        found.append("agree wrong")
    if not ok and not right and len(set(unimodals)) > 1:
        found.append("all wrong")
    if not ok and right and same:
        found.append("misled by " + "+".join(same))
    if not ok and right and not same:
        found.append("harmed")
    return found


@pytest.mark.parametrize("n_modalities", [2, 3])
def test_every_combination_has_exactly_one_type(n_modalities):
    names = NAMES[:n_modalities]
    combinations = list(product(range(5), repeat=n_modalities + 2))
    expected = [all_types(c[0], c[2:], c[1], names) for c in combinations]
    assert {len(found) for found in expected} == {1}
    columns = np.array(combinations).T
    types = classify(columns[0], columns[2:], columns[1], names)
    assert types.tolist() == [found[0] for found in expected]
    assert set(family(types)) == set(FAMILIES)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from("abcd")] * 5), min_size=1, max_size=20))
def test_any_labels_and_shapes(rows):
    truth, fusion, *unimodals = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    types = classify(truth, unimodals, fusion, NAMES)
    for i, row in enumerate(rows):
        assert [types[i]] == all_types(row[0], row[2:], row[1], NAMES)
    stacked = classify(
        np.stack([truth, truth]), [np.stack([u, u]) for u in unimodals], np.stack([fusion, fusion]), NAMES
    )
    assert (stacked == types).all()


def test_table_is_complete_and_names_the_planted_conflicts():
    table, _, conflicted = planted_predictions(np.random.default_rng(0), 400)
    (panel,), _ = make_panels(table)
    result = typology_table(panel, np.arange(400) % 20)
    assert result["count"].sum() == 400
    assert result["estimate"].sum() == pytest.approx(1)
    follows = result.set_index("type").loc["follows text+video"]
    assert follows["count"] == pytest.approx(conflicted.sum(), abs=3)
    assert follows["low"] < conflicted.mean() < follows["high"]


def test_stability_is_the_share_of_single_seeds_with_the_same_type():
    table, truth, _ = planted_predictions(
        np.random.default_rng(1), 30, spread=2, noise=2, n_seeds=5, n_partitions=2
    )
    (panel,), _ = make_panels(table)
    types, stability = utterance_types(panel)
    for i in range(30):
        same = []
        for p, s in product(range(2), range(5)):
            labels = {m: panel.outputs[m][p, s, i].argmax() for m in panel.models}
            found = all_types(truth[i], [labels[m] for m in NAMES], labels["fusion"], NAMES)
            same.append(found[0] == types[i])
        assert stability[i] == pytest.approx(np.mean(same))
    assert 0 < stability.mean() < 1


def test_one_seed_has_no_stability():
    table, _, _ = planted_predictions(np.random.default_rng(2), 30, n_seeds=1)
    (panel,), _ = make_panels(table)
    assert np.isnan(utterance_types(panel)[1]).all()
