"""The typology: exactly one type for every combination of labels, against a slow plain reference."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_study import Design, draw
from synthetic_study import planted_predictions

from mixed_signals.analysis.disagreement.chance import confusion
from mixed_signals.analysis.panel import make_panels
from mixed_signals.analysis.typology import (
    FAMILIES,
    classify,
    confirmation_table,
    evaluate,
    family,
    typology_table,
    utterance_types,
)
from mixed_signals.analysis.typology.chances import chance_values, type_chances

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
    result = typology_table(panel, utterance_types(panel), np.arange(400) % 20)
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
    typed = utterance_types(panel)
    types, stability = typed.types, typed.stability
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
    assert np.isnan(utterance_types(panel).stability).all()


@pytest.mark.parametrize(("n_modalities", "n_classes"), [(2, 2), (2, 4), (3, 3)])
def test_chances_equal_the_sum_over_all_combinations_of_labels(n_modalities, n_classes):
    rng = np.random.default_rng(0)
    names = NAMES[:n_modalities]
    tables = rng.dirichlet(np.ones(n_classes), size=(n_modalities + 1, n_classes))
    found = type_chances(np.arange(n_classes), tables[:-1], tables[-1], names)
    expected = {name: np.zeros(n_classes) for name in found}
    for truth in range(n_classes):
        for labels in product(range(n_classes), repeat=n_modalities + 1):
            (name,) = all_types(truth, labels[:-1], labels[-1], names)
            expected[name][truth] += np.prod(
                [table[truth, c] for table, c in zip(tables, labels, strict=True)]
            )
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(sum(found.values()), 1)


def test_shares_by_chance_are_those_of_the_models_own_confusions():
    rng = np.random.default_rng(1)
    truth, fusion, *unimodals = rng.integers(0, 3, (5, 80))
    tables = [confusion(labels, truth, 3) for labels in (*unimodals, fusion)]
    shares = np.bincount(truth, minlength=3) / 80
    values = chance_values(truth, unimodals, fusion, NAMES)
    for name, chances in type_chances(np.arange(3), tables[:-1], tables[-1], NAMES).items():
        assert values[name].mean() == pytest.approx(shares @ chances)


def test_what_shares_by_chance_vary_with_is_their_influence():
    """Deleting an utterance changes a share by chance as its value says, to first order."""
    rng = np.random.default_rng(2)
    truth, fusion, *unimodals = rng.integers(0, 3, (5, 400))
    rows = np.arange(400)
    whole = chance_values(truth, unimodals, fusion, NAMES)
    for name in ("misled by text", "agree wrong", "harmed", "follows audio+video"):
        influence = [
            whole[name].mean() - chance_values(
                truth[rows != i], [u[rows != i] for u in unimodals], fusion[rows != i], NAMES
            )[name].mean()
            for i in range(12)
        ]  # fmt: skip
        np.testing.assert_allclose(influence, (whole[name][:12] - whole[name].mean()) / 399, atol=2e-5)


def test_independent_models_have_their_types_as_often_as_chance_says():
    rng = np.random.default_rng(3)
    n, covered, rejected = 500, [], []
    for _ in range(20):
        panel = draw(rng, Design(n=n, n_groups=25, n_classes=3, n_seeds=1)).panel
        outputs = dict(panel.outputs)
        for model in panel.models:  # each right in 60%, on its own
            labels = np.where(rng.random(n) < 0.6, panel.truth, rng.integers(0, 3, n))
            outputs[model] = np.eye(3)[labels][None, None]
        chance = replace(panel, outputs=outputs)
        table = typology_table(chance, utterance_types(chance), panel.groups, resamples=200)
        assert table["estimate"].sum() == pytest.approx(1)
        covered += [(table["beyond_low"] <= 0) & (table["beyond_high"] >= 0)]
        rejected += [table["p"] <= 0.05]
    assert 0.88 <= np.mean(np.concatenate(covered)) <= 0.99
    assert np.mean(np.concatenate(rejected)) <= 0.1


def test_a_planted_conflict_is_above_chance_and_is_said_to_be():
    table, _, _ = planted_predictions(np.random.default_rng(0), 400, spread=2.0)
    (panel,), _ = make_panels(table)
    drawn = draw(np.random.default_rng(0), Design(n=20, n_groups=10))
    answer = evaluate(drawn.study(), panel)
    rows = answer.tables["typology"].set_index("type")
    assert rows.loc["agree right", "beyond_low"] > 0
    assert rows.loc["agree right", "p"] < 0.01
    said = {finding.quantity: finding.verdict for finding in answer.findings}
    assert "that is above the" in said["agree right, share"]
    assert said["agree right, share"].startswith("gated: in ")
    types = answer.tables["types"]
    assert types["type"].value_counts().to_dict() == rows.loc[rows["count"] > 0, "count"].to_dict()


def test_misled_is_confirmed_where_the_model_without_the_modality_is_right():
    drawn = draw(
        np.random.default_rng(4),
        Design(
            n=600,
            n_groups=30,
            n_classes=3,
            strengths={"text": 3, "audio": 1, "video": 1},
            conflict={"text": 0.3},
        ),
    )
    panel = drawn.panel
    typed = utterance_types(panel)
    types = typed.types
    table = confirmation_table(panel, typed, panel.groups).set_index("type")
    without = panel.mean("audio+video").argmax(axis=1)
    mine = types == "misled by text"
    assert mine.sum() > 50
    row = table.loc["misled by text"]
    assert (row["without"], row["by_definition"]) == ("audio+video", False)
    assert (row["count"], row["confirmed"]) == (mine.sum(), (without == panel.truth)[mine].sum())
    assert row["low"] < row["estimate"] < row["high"]
    assert 0 < row["confirmed"] < row["count"]
    several = table[table["by_definition"]]
    assert "misled by text+audio" in several.index
    assert (several["confirmed"] == several["count"]).all()
    answer = evaluate(drawn.study(), panel)
    said = {finding.quantity: finding.verdict for finding in answer.findings}
    assert (
        f"the model of audio+video alone is right on {row['confirmed']}" in said["misled by text, confirmed"]
    )
    assert "misled by text+audio, confirmed" not in said
    by_type = answer.tables["typology"].set_index("type")["confirmed"]
    assert by_type["misled by text"] == row["confirmed"]
    assert np.isnan(by_type["agree right"])
    by_utterance = answer.tables["types"]
    assert by_utterance.loc[mine, "confirmed"].sum() == row["confirmed"]
    assert by_utterance.loc[types == "agree right", "confirmed"].isna().all()


def test_without_the_model_nothing_is_confirmed_and_the_note_says_so():
    table, _, _ = planted_predictions(np.random.default_rng(5), 300, spread=3.0)
    (panel,), _ = make_panels(table)
    answer = evaluate(draw(np.random.default_rng(0), Design(n=20, n_groups=10)).study(), panel)
    (note,) = (note for note in answer.notes if "'misled by text'" in note)
    assert "no model of audio+video" in note
    assert "misled by text" not in set(answer.tables["confirmed"]["type"])


def test_an_interval_target_has_no_types():
    drawn = draw(np.random.default_rng(0), Design(n=40, n_groups=10, kind="interval"))
    answer = evaluate(drawn.study(), drawn.panel)
    assert answer.tables == {}
    assert answer.notes == ["gated: the typology needs classes; the target is interval."]
