"""Dominance: exact Shapley values and their companions, matched rows, exchanged modalities, additive projections."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from small_store import planted_store
from synthetic_study import study_store

from mixed_signals.analysis.dominance import evaluate, gate_means
from mixed_signals.analysis.dominance.additivity import additive_projection, centred_logs, project
from mixed_signals.analysis.dominance.matching import matched
from mixed_signals.analysis.dominance.sentences import importance_findings
from mixed_signals.analysis.dominance.shapley import (
    FLOOR,
    dominant,
    left_out,
    shapley_values,
    subset_values,
    unsupported,
)
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.sources import SOURCES
from mixed_signals.analysis.study import Study
from mixed_signals.models import sweep
from mixed_signals.store import Corpus, Store, folds, import_features
from mixed_signals.store.predictions import Run
from mixed_signals.store.targets import Target

MODALITIES = ("text", "audio", "video")
SMALL = "gated@max_epochs=15@n_scouts=0@learning_rate=0.02"


def panel_of(outputs, truth, *, prior=None, groups=None, kind="nominal"):
    """A panel of one partition, its outputs (S, N, C) by model."""
    n_seeds, n, n_classes = outputs[FUSION].shape
    single = tuple(m for m in MODALITIES if m in outputs)
    return Panel(
        head="made",
        kind=kind,
        classes=() if kind == "interval" else tuple("abcdef"[:n_classes]),
        ids=np.array([f"u{i:04d}" for i in range(n)], dtype=object),
        truth=np.asarray(truth),
        unimodals=single,
        between=tuple(name for name in outputs if "+" in name),
        outputs={name: values[None] for name, values in outputs.items()},
        folds=np.zeros((1, n), dtype=np.intp),
        prior=prior,
        groups=groups,
        when=None,
        seeds=tuple((s, 0) for s in range(n_seeds)),
        deterministic=False,
        left_out=0,
    )


def study_of_panel(panel):
    gates = pd.DataFrame(
        columns=["utterance_id", "head", "modalities", "modality", "gate", "contribution"], dtype=object
    )
    predictions = pd.DataFrame(columns=["partition", "fold", "utterance_id"], dtype=object)
    return Study(Run(predictions, gates, pd.DataFrame(), {}), (panel,), pd.DataFrame(), None)


def random_panel(seed=0, n=50, kind="nominal"):
    rng = np.random.default_rng(seed)
    names = [*MODALITIES, "text+audio", "text+video", "audio+video", FUSION]
    if kind == "interval":
        outputs = {name: rng.normal(size=(3, n, 1)) for name in names}
        return panel_of(outputs, rng.normal(size=n), prior=np.full((1, n, 1), 0.1), kind=kind)
    outputs = {name: rng.dirichlet(np.ones(3), size=(3, n)) for name in names}
    prior = np.tile([0.5, 0.3, 0.2], (1, n, 1))
    return panel_of(outputs, rng.integers(0, 3, n), prior=prior)


@pytest.mark.parametrize("n_modalities", [2, 3, 4])
def test_shapley_values_are_the_mean_gain_over_all_orders(n_modalities):
    values = np.random.default_rng(n_modalities).normal(size=(2**n_modalities, 20))
    gains = np.zeros((n_modalities, 20))
    orders = list(permutations(range(n_modalities)))
    for order in orders:
        subset = 0
        for m in order:
            gains[m] += (values[subset | 1 << m] - values[subset]) / len(orders)
            subset |= 1 << m
    np.testing.assert_allclose(shapley_values(values), gains)


@pytest.mark.parametrize("kind", ["nominal", "interval"])
@pytest.mark.parametrize("towards", ["decision", "label"])
def test_shapley_values_sum_to_the_value_of_all_less_that_of_nothing(kind, towards):
    values = subset_values(random_panel(kind=kind), towards)
    np.testing.assert_allclose(shapley_values(values).sum(axis=0), values[-1] - values[0])
    np.testing.assert_allclose(left_out(values)[1], values[7] - values[5])


def test_the_value_of_a_subset_is_the_seed_mean_log_probability_of_the_fusions_decision_or_the_label():
    panel = random_panel()
    decided = panel.outputs[FUSION][0].mean(axis=0).argmax(axis=1)
    for towards, target in (("decision", decided), ("label", panel.truth)):
        values = subset_values(panel, towards)
        for i in (0, 7):
            np.testing.assert_allclose(values[0, i], np.log([0.5, 0.3, 0.2][target[i]]))
            assert values[4, i] == pytest.approx(np.log(panel.outputs["video"][0, :, i, target[i]]).mean())
            mixed = panel.outputs["text+video"][0, :, i, target[i]]
            assert values[5, i] == pytest.approx(np.log(mixed).mean())


def test_probabilities_have_a_floor():
    panel = random_panel()
    panel.outputs["text"][..., :] = 0
    assert subset_values(panel)[1].tolist() == pytest.approx([np.log(FLOOR)] * 50)


def test_the_value_of_an_interval_targets_subset_is_minus_its_squared_error_over_the_variance():
    panel = random_panel(kind="interval")
    for towards, target in (("label", panel.truth), ("decision", panel.mean(FUSION)[:, 0])):
        values = subset_values(panel, towards)
        missed = ((panel.outputs["audio"][0, :, :, 0] - target) ** 2).mean(axis=0)
        np.testing.assert_allclose(values[2], -missed / panel.truth.var())
        np.testing.assert_allclose(values[0], -((0.1 - target) ** 2) / panel.truth.var())


def test_a_modality_dominates_with_half_of_all_and_is_unsupported_where_the_others_give_less_than_the_prior():
    phi = np.array([[2.0, -3.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert dominant(phi).tolist() == [[True, True, False], [False] * 3, [False] * 3]
    given = {"text": 0.9, "audio": 0.3, "video": 0.2, FUSION: 0.8}
    for audio, expected in ((0.3, [True, False, False]), (0.6, [False, False, False])):
        given["audio"] = audio
        outputs = {m: np.array([[[p, 1 - p]]]) for m, p in given.items()}
        panel = panel_of(outputs, [0], prior=np.array([[[0.5, 0.5]]]))
        assert unsupported(panel)[:, 0].tolist() == expected


def test_cases_are_matched_within_their_group_and_decile_of_confidence():
    rng = np.random.default_rng(0)
    n = 300
    confidence, groups = rng.uniform(size=n), rng.integers(0, 4, n)
    case, wrong = rng.random(n) < 0.3, (rng.random(n) < 0.4).astype(float)
    found = matched(case, wrong, confidence, groups)
    tenth = pd.qcut(confidence, 10, labels=False)
    for i in range(n):
        like = ~case & (groups == groups[i]) & (tenth == tenth[i])
        if like.any():
            assert found[i] == pytest.approx(wrong[like].mean())
        else:
            assert np.isnan(found[i])


def test_the_projection_of_two_modalities_is_the_papers():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(23, 4)).astype(np.float32)
    blocks = {"text": slice(0, 1), "audio": slice(1, 4)}

    def function(rows):
        product_ = rows[:, 0] * rows[:, 1] + np.tanh(rows[:, 2] - rows[:, 0])
        return np.stack([product_, rows[:, 3] ** 2], axis=1).astype(np.float64)

    found = project(function, X, blocks, 0, rng)
    pairs = np.array([[function(np.r_[a[:1], b[1:]][None])[0] for b in X] for a in X])
    for i in range(23):
        by_text = np.mean([pairs[i, j] for j in range(23)], axis=0)
        by_audio = np.mean([pairs[j, i] for j in range(23)], axis=0)
        np.testing.assert_allclose(found.additive[i], by_text + by_audio - pairs.mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(found.additive, additive_projection(pairs), atol=1e-6)
    assert found.error(lambda values: float(values.mean())) == 0


def test_an_additive_function_is_its_own_projection_with_any_draws():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 3)).astype(np.float32)
    blocks = {m: slice(k, k + 1) for k, m in enumerate(MODALITIES)}
    found = project(lambda rows: rows.astype(np.float64) ** 2 @ np.ones((3, 1)), X, blocks, 3, rng)
    np.testing.assert_allclose(found.additive, found.full, atol=1e-6)


def test_draws_over_three_modalities_come_as_near_to_all_triples_as_they_say():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(15, 3)).astype(np.float32)
    blocks = {m: slice(k, k + 1) for k, m in enumerate(MODALITIES)}

    def function(rows):
        z = rows.astype(np.float64)
        return np.tanh(z[:, :1] * z[:, 1:2] + z[:, 2:] * z[:, :1] + z[:, 1:2])

    cube = np.zeros((15, 15, 15))
    for i, j, k in product(range(15), repeat=3):
        cube[i, j, k] = function(np.array([[X[i, 0], X[j, 1], X[k, 2]]]))[0, 0]
    exact = cube.mean(axis=(1, 2)) + cube.mean(axis=(0, 2)) + cube.mean(axis=(0, 1)) - 2 * cube.mean()
    found = project(function, X, blocks, 200, rng)
    for i in range(15):
        error = found.error(lambda values, i=i: float(values[i, 0]))
        assert 0 < error < 0.2
        assert abs(found.additive[i, 0] - exact[i]) < 4 * error


def test_centred_logs_are_the_centred_logits_of_a_softmax():
    logits = np.random.default_rng(0).normal(size=(9, 4))
    P = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(centred_logs(P), logits - logits.mean(axis=1, keepdims=True))


def conflicted(*, misled, n=1200, n_groups=20):
    """Text alone decides half of the rows; there it is wrong more often, or as often as in others of its confidence."""
    rng = np.random.default_rng(4)
    case, truth = np.arange(n) % 2 == 0, rng.integers(0, 2, n)
    wrong = rng.random(n) < np.where(case & misled, 0.5, 0.2)
    decided = np.where(wrong, 1 - truth, truth)

    def sure(label, p):
        P = np.empty((2, n, 2))
        P[:, np.arange(n), label], P[:, np.arange(n), 1 - label] = p, 1 - np.asarray(p)
        return P

    outputs = {
        "text": sure(decided, np.where(case, 0.95, 0.7)),
        "audio": sure(decided, np.where(case, 0.4, 0.7)),
        FUSION: sure(decided, 0.75 + 0.1 * rng.random(n)),
    }
    groups = np.array([f"g{i}" for i in rng.integers(0, n_groups, n)], dtype=object)
    return panel_of(outputs, truth, prior=np.full((1, n, 2), 0.5), groups=groups)


def of(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    return table.iloc[0]


@pytest.mark.parametrize("misled", [True, False])
def test_a_modality_that_misleads_unsupported_is_told_from_one_that_does_not(misled):
    panel = conflicted(misled=misled)
    answer = evaluate(study_of_panel(panel), panel)
    rows = answer.tables["dominant_rows"]
    assert of(rows, modality="text", quantity="dominates unsupported")["estimate"] == 0.5
    found = of(rows, modality="text", quantity="difference from matched rows")
    verdict = next(f for f in answer.findings if f.quantity == "text, difference from matched rows")
    if misled:
        assert 0.1 < found["low"] < 0.3 < found["high"] < 0.5
        assert found["p"] < 0.01
        assert "above 0 (p" in verdict.verdict
    else:
        assert found["low"] < 0 < found["high"]
        assert found["p"] > 0.05
        assert "not distinguishable from 0" in verdict.verdict
    assert np.isnan(of(rows, modality="audio", quantity="difference from matched rows")["estimate"])


def test_what_is_missing_is_said_and_the_rest_stands():
    panel = conflicted(misled=True)
    noted = evaluate(study_of_panel(panel), replace(panel, prior=None))
    assert "dominant_rows" not in noted.tables
    assert set(noted.tables["dominance"]["measure"]) == {"leave-one-out", "leave-one-out, label"}
    assert any("sentinel `majority`" in note for note in noted.notes)
    assert any("has no gates" in note for note in noted.notes)
    assert any("permuted or exchanged" in note and "fit-heads again" in note for note in noted.notes)
    assert any(
        "of two modalities one always has half" in n for n in evaluate(study_of_panel(panel), panel).notes
    )
    few = random_panel()
    del few.outputs["text+audio"]
    noted = evaluate(study_of_panel(few), few)
    assert any("every subset" in note for note in noted.notes)
    assert not noted.tables
    assert not noted.findings


def test_gates_are_averaged_by_utterance_and_modality(tmp_path):
    study = Study.open(study_store(tmp_path / "s"), "study")
    panel = study.panels[0]
    gates, contributions = gate_means(study.run.gates, panel)
    means = study.run.gates.groupby(["modality", "utterance_id"])[["gate", "contribution"]].mean()
    for m, name in enumerate(panel.unimodals):
        np.testing.assert_allclose(gates[m], means.loc[name].loc[panel.ids, "gate"])
        np.testing.assert_allclose(contributions[m], means.loc[name].loc[panel.ids, "contribution"])


def test_measures_that_rank_the_modalities_otherwise_are_set_against_each_other():
    panel = random_panel()
    table = pd.DataFrame(
        [
            {"measure": k, "modality": m, "estimate": v, "n": 9, "n_groups": 3}
            for k, of_text in (("gate", 0.7), ("shapley share", 0.3))
            for m, v in (("text", of_text), ("audio", 1 - of_text), ("video", 0.0))
        ]
    )
    table = table.assign(low=np.nan, high=np.nan, method="none")
    found = importance_findings(panel, table)[-1]
    assert "Shapley values rank audio, text, video" in found.verdict
    assert "gates rank text, audio, video" in found.verdict
    assert found.estimate == 0.5


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    store = planted_store(folder, 160, 10, {"text": 4.0, "audio": 0.0, "video": 0.0}, width=4)
    views = store.views(text="planted", audio="planted", video="planted")
    run = sweep(views, ["logistic", SMALL], folds=folds(views, 2), seeds=(0, 1), n_jobs=1)
    run.save(store, "r")
    study = Study.open(store, "r", resamples=200)
    return {panel.head: (panel, evaluate(study, panel)) for panel in study.panels}


def test_the_one_modality_that_informs_is_first_by_every_measure_and_dominates(planted):
    for panel, answer in planted.values():
        table = answer.tables["dominance"]
        assert list(table.columns[:3]) == ["head", "modality", "measure"]
        first = table[(table["modality"] == "text")]
        expected = {"shapley", "shapley share", "leave-one-out", "permutation", "permutation, normalised"}
        if panel.head == SMALL:
            expected |= {"gate", "contribution"}
        assert expected <= set(first["measure"])
        assert (first["rank"] == 1).all()
        assert of(table, modality="text", measure="shapley share")["low"] > 0.5
        assert of(table, modality="text", measure="permutation")["low"] > 0.3
        audio = of(table, modality="audio", measure="permutation")
        assert abs(audio["estimate"]) < 0.1
        assert of(answer.tables["dominant_rows"], modality="text", quantity="dominates")["estimate"] > 0.8


def test_exchanging_the_one_modality_that_informs_turns_the_decision_and_no_other_does(planted):
    for _, answer in planted.values():
        table = answer.tables["exchange"]
        text, audio = (of(table, modality=m, quantity="difference") for m in ("text", "audio"))
        assert text["low"] > 0.6
        assert text["p"] < 0.01
        assert abs(audio["estimate"]) < 0.1
        assert of(table, modality="text", quantity="follows, control")["estimate"] < 0.2
        finding = next(f for f in answer.findings if f.quantity == "text, exchange less control")
        assert finding.p == text["p"]
        assert "above 0" in finding.verdict


def test_a_linear_head_has_no_interaction_to_lose(planted):
    _, answer = planted["logistic"]
    table = answer.tables["additivity"]
    assert of(table, quantity="gap")["estimate"] == 0
    assert of(table, quantity="variance not additive")["estimate"] < 1e-8
    assert of(table, quantity="gap")["n_draws"] == 30
    assert of(planted[SMALL][1].tables["additivity"], quantity="variance not additive")["estimate"] > 1e-6


def test_findings_are_sentences_with_two_measures_at_least_and_their_sources_are_known(planted):
    for panel, answer in planted.values():
        assert all(
            f.verdict.startswith(f"{panel.head}: ") and f.verdict.endswith(".") for f in answer.findings
        )
        assert all(f.head == panel.head and panel.head not in f.quantity for f in answer.findings)
        assert len({f.quantity for f in answer.findings}) == len(answer.findings)
        for m in MODALITIES:
            verdict = next(f.verdict for f in answer.findings if f.quantity == f"{m}, shapley")
            assert "Shapley values" in verdict
            assert "leaving it out" in verdict
            assert "permuting it" in verdict
        keys = [part.split("]")[0] for said in answer.methods for part in said.split("[")[1:]]
        assert set(keys) == {"Shapley 1953", "Cochran 1968", "Gat 2021", "Hessel 2020"} <= set(SOURCES)
        for name, table in answer.tables.items():
            assert table.columns[0] == "head", name
            if name != "shapley":
                assert {"estimate", "low", "high", "n", "n_groups", "method"} <= set(table.columns)
        by_utterance = answer.tables["shapley"]
        assert len(by_utterance) == 3 * len(panel.ids)


@pytest.mark.parametrize("grouped", [True, False])
def test_interval_targets_are_answered_too(tmp_path, grouped):
    rng = np.random.default_rng(0)
    y = rng.normal(size=120)
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(120)],
            "valence": y,
            "group": [f"g{i % 10}" if grouped else "" for i in range(120)],
        }
    )
    store = Store.create(tmp_path / "s", Corpus("made", table, declared=(Target("valence", "interval"),)))
    for modality, strength in (("text", 2.0), ("audio", 0.0)):
        X = rng.normal(size=(120, 4))
        X[:, 0] += strength * y
        np.savez(tmp_path / "x.npz", utterance_id=table["utterance_id"].to_numpy(str), embedding=X)
        import_features(store, tmp_path / "x.npz", modality, "planted")
    views = store.views(text="planted", audio="planted", target="valence")
    group = "group" if grouped else None
    run = sweep(views, ["ridge"], folds=folds(views, 2, group=group), group=group, seeds=(0,), n_jobs=1)
    run.save(store, "r")
    study = Study.open(store, "r", resamples=100)
    panel = study.panels[0]
    answer = evaluate(study, panel)
    assert {"dominance", "shapley", "dominant_rows", "exchange", "additivity"} == set(answer.tables)
    text = answer.tables["dominance"].query("modality == 'text'")
    assert (text["rank"] == 1).all()
    assert of(answer.tables["exchange"], modality="text", quantity="difference")["estimate"] > 0.25
    assert of(answer.tables["additivity"], quantity="gap")["estimate"] == pytest.approx(0, abs=1e-6)
