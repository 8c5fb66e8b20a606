"""Contested parts, the stress test on real held-out heads, and what is said where the data cannot answer."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_study import Design, draw

from mixed_signals.analysis.disagreement.distances import unimodal_divergence
from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.perturbing import HeldOut, swap
from mixed_signals.analysis.robustness import evaluate, stress
from mixed_signals.analysis.robustness.parts import part_table
from mixed_signals.analysis.robustness.stress import stress_table
from mixed_signals.analysis.sources import SOURCES
from mixed_signals.analysis.study import Study
from mixed_signals.models import sweep
from mixed_signals.store import folds


def drawn(seed=0, **design):
    return draw(np.random.default_rng(seed), Design(n_seeds=2, **design))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A run through real heads: text says what is true, video nothing."""
    made = drawn(n=240, n_groups=12, strengths={"text": 2.0, "video": 0.0})
    store = made.store(tmp_path_factory.mktemp("stress") / "store")
    views = store.views(text="planted", video="planted")
    sweep(views, ["logistic"], "all", folds(views, 2), (0,), n_jobs=1).save(store, "first")
    return Study.open(store, "first")


@pytest.fixture(scope="module")
def stressed(study):
    table = stress_table(study, study.panels[0])
    return table.set_index(["modality", "change", "measure", "quantity"])


@pytest.mark.parametrize("change", ["drop", "swap", "noise", "permute"])
def test_changing_the_informative_modality_hurts_and_changing_noise_does_not(stressed, change):
    hurt = stressed.loc[("text", change, "accuracy", "change")]
    assert hurt["high"] < -0.02
    assert hurt["p"] < 0.01
    assert stressed.loc[("text", change, "log loss", "change"), "low"] > 0
    unhurt = stressed.loc[("video", change, "accuracy", "change")]
    assert abs(unhurt["estimate"]) < 0.03
    assert unhurt["high"] > -0.01


def test_disagreement_rises_where_a_modality_contradicts(study, stressed):
    assert stressed.loc[("text", "swap", "divergence", "after"), "n"] == 240
    assert ("text", "drop", "divergence", "after") not in stressed.index
    panel = study.panels[0]
    said = HeldOut(study, panel, "text").said(swap("text"))
    expected = unimodal_divergence(panel, {"text": said}).mean()
    assert stressed.loc[("text", "swap", "divergence", "after"), "estimate"] == pytest.approx(expected)


def test_what_is_after_less_what_was_before_is_the_change(stressed):
    for measure in ("accuracy", "log loss", "divergence"):
        before = stressed.loc[("", "", measure, "before"), "estimate"]
        after = stressed.loc[("text", "noise", measure, "after"), "estimate"]
        change = stressed.loc[("text", "noise", measure, "change"), "estimate"]
        assert change == pytest.approx(after - before)
    assert (stressed["p"].notna() == stressed.index.isin(["change"], level="quantity")).all()


class Unmoved:
    """Heads that say what they said, whatever is changed."""

    def __init__(self, study, panel, model=FUSION, seeds=None):
        self.kept = panel.outputs[model][:, [panel.seeds.index(seed) for seed in seeds]]

    def said(self, change):
        return self.kept


@pytest.mark.parametrize(("most", "asked"), [(100, 1), (900, 2), (30_000, 3)])
def test_of_large_runs_the_same_few_seeds_are_asked_before_and_after(monkeypatch, most, asked):
    study = draw(np.random.default_rng(3), Design(n_seeds=3)).study()
    monkeypatch.setattr(stress, "HeldOut", Unmoved)
    monkeypatch.setattr(stress, "MOST_PREDICTIONS", most)
    table = stress_table(study, study.panels[0])
    assert set(table["n_seeds"]) == {asked}
    assert (table.loc[table["quantity"] == "change", "estimate"].abs() < 1e-12).all()


def test_the_whole_answer_of_a_run_with_heads(study):
    answer = evaluate(study, study.panels[0])
    assert set(answer.tables) == {"risk_coverage", "selective", "calibration", "parts", "stress"}
    for table in answer.tables.values():
        assert table.columns[0] == "head"
        assert set(table["head"]) == {"logistic"}
    assert answer.notes == []
    quantities = [finding.quantity for finding in answer.findings]
    assert len(set(quantities)) == len(quantities)
    for finding in answer.findings:
        assert finding.verdict.startswith("logistic: ")
        assert not re.search(r"\bnan\b", finding.verdict)
    cited = {
        key
        for said in answer.methods
        for found in re.findall(r"\[([^\]]+)\]", said)
        for key in found.split("; ")
    }
    assert {"Geifman 2017", "Traub 2024", "Kumar 2019", "Broecker 2012"} <= cited <= set(SOURCES)
    hurt = next(f for f in answer.findings if f.quantity == "noise text, change of accuracy")
    assert "below 0" in hurt.verdict
    assert hurt.p < 0.01


def contested_panel(n=800):
    """The fusion and text are right half as often where people do not agree."""
    rng = np.random.default_rng(1)
    panel = drawn(n=n, n_groups=20).panel
    contested = rng.random(n) < 0.3
    wrong = rng.random(n) < np.where(contested, 0.6, 0.2)
    said = np.eye(2)[np.where(wrong, 1 - panel.truth, panel.truth)] * 0.8 + 0.1
    outputs = {**panel.outputs, FUSION: np.broadcast_to(said, (1, 2, n, 2))}
    return replace(panel, outputs=outputs), contested, wrong


def test_parts_are_scored_apart_and_their_difference_is_found():
    panel, contested, wrong = contested_panel()
    rated = np.arange(len(contested)) % 4 > 0
    table = part_table(panel, contested, rated).set_index(["model", "measure", "part"]).sort_index()
    fusion = table.loc[(FUSION, "accuracy")]
    assert fusion.loc["contested", "estimate"] == pytest.approx(1 - wrong[contested & rated].mean())
    assert fusion.loc["uncontested", "estimate"] == pytest.approx(1 - wrong[~contested & rated].mean())
    assert fusion.loc["uncontested", "n"] == (~contested & rated).sum()
    difference = fusion.loc["difference"]
    assert difference["estimate"] == pytest.approx(
        fusion.loc["contested", "estimate"] - fusion.loc["uncontested", "estimate"]
    )
    assert difference["high"] < -0.25
    assert table.loc[("text", "accuracy", "difference"), "high"] > 0
    loss = table.loc[(FUSION, "log loss")]
    expected = np.where(wrong, -np.log(0.1), -np.log(0.9))[contested & rated].mean()
    assert loss.loc["contested", "estimate"] == pytest.approx(expected)


def test_what_a_run_without_ratings_and_heads_cannot_answer_is_said():
    study = replace(drawn().study(), ratings=None)
    answer = evaluate(study, study.panels[0])
    assert set(answer.tables) == {"risk_coverage", "selective", "calibration"}
    assert any("no ratings" in note for note in answer.notes)
    assert any("no stress test" in note for note in answer.notes)


def test_ratings_that_are_all_of_one_mind_make_no_parts():
    study = drawn().study()
    votes = pd.DataFrame(
        {"utterance_id": study.panels[0].ids, "value": "c0", "count": 3, "shown": "", "rater": ""}
    )
    answer = evaluate(replace(study, ratings=votes), study.panels[0])
    assert "parts" not in answer.tables
    assert any("all 400 rated utterances are uncontested" in note for note in answer.notes)


def test_interval_targets_have_no_confidence_and_that_is_said():
    study = drawn(kind="interval", n=300).study()
    answer = evaluate(study, study.panels[0])
    assert "calibration" not in answer.tables
    assert any("no confidence" in note for note in answer.notes)
    assert set(answer.tables["selective"]["loss"]) == {"squared error", "absolute error"}
    assert "parts" not in answer.tables
    assert any("no majority" in note for note in answer.notes)
    assert len({f.quantity for f in answer.findings}) == len(answer.findings)


def test_few_groups_have_estimates_and_no_claim():
    study = drawn(n_groups=4, n=200).study()
    answer = evaluate(study, study.panels[0])
    for table in ("selective", "calibration", "parts"):
        assert answer.tables[table]["low"].isna().all()
    for finding in answer.findings:
        assert not re.search("above|below|adds|distinguishable|nan", finding.verdict)
