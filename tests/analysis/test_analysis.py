"""The whole analysis of a run: every kind of target, what was named beforehand, another run, and raters alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from planted_study import Design, draw
from synthetic_study import study_store

from mixed_signals.analysis.analysis import ASKED_ONCE, QUESTIONS, analyze, analyze_people
from mixed_signals.models import sweep
from mixed_signals.store import Corpus, Store, UsageError, load_run
from mixed_signals.store.cross_fits import ALIGNED

QUICK = {"resamples": 200, "refit": False}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return study_store(tmp_path_factory.mktemp("study") / "st", n=120, n_seeds=5)


def test_everything_is_asked_and_every_finding_is_of_its_head(store):
    asked = []
    result = analyze(store, "study", **QUICK, on_question=asked.append)
    assert asked == [*(f"gated: {name}" for name in QUESTIONS), *ASKED_ONCE]
    assert {finding.head for finding in result.findings} == {"gated", ""}
    assert all(finding.verdict.startswith("gated: ") for finding in result.findings if finding.head)
    keys = [(finding.head, finding.question, finding.quantity) for finding in result.findings]
    assert len(set(keys)) == len(keys)
    assert not any(finding.primary for finding in result.findings)
    assert "[Lin 1991]" in result.methods


def test_what_was_named_beforehand_comes_first_and_is_corrected_among_itself(store):
    named = ["gated:text against fusion, excess", "gated:audio against fusion, excess"]
    plain = {f"{f.head}:{f.quantity}": f for f in analyze(store, "study", **QUICK).findings}
    assert all(name in plain for name in named), sorted(plain)[:20]
    result = analyze(store, "study", **QUICK, primary=named)
    assert [f"{f.head}:{f.quantity}" for f in result.findings if f.primary] == named
    assert [f.primary for f in result.findings[:3]] == [True, True, False]
    p = sorted(f.p for f in result.findings[:2])
    holm = [min(1, 2 * p[0]), max(min(1, 2 * p[0]), p[1])]
    assert sorted(f.p_adjusted for f in result.findings[:2]) == pytest.approx(holm)
    with pytest.raises(
        UsageError, match=r"--primary: no finding 'gated:text'; the nearest are .* all was written"
    ):
        analyze(store, "study", **QUICK, primary=["gated:text"])
    with pytest.raises(UsageError, match="write HEAD:QUANTITY; heads: gated"):
        analyze(store, "study", **QUICK, primary=["text against fusion"])


def test_what_a_run_says_of_its_features_is_in_everything_that_is_written(store):
    note = f"{ALIGNED}: text/tuned"
    run = load_run(store, "study")
    folder = replace(run, info={**run.info, "overrides": [note]}).save(store, "aligned")
    told = f"{note[0].upper()}{note[1:]}."
    result = analyze(store, "aligned", **QUICK, questions=["disagreement"], against="aligned")
    assert result.warnings[:2] == [told, f"Run aligned: {told}"]
    written = folder / "analysis" / "disagreement"
    findings = json.loads((written / "findings.json").read_text())
    assert findings
    assert all(finding["overrides"] == [told, f"Run aligned: {told}"] for finding in findings)
    assert told in (written / "methods.md").read_text()
    first_screen = result.report.read_text().partition("<main>")[0]
    assert escape(note) in first_screen
    plain = analyze(store, "study", **QUICK, questions=["typology"])
    assert all(finding.overrides == () for finding in plain.findings)


def test_only_some_questions(store):
    result = analyze(store, "study", **QUICK, questions=["typology"])
    assert set(result.tables) == {"typology", "types", "confirmed"} & set(result.tables)
    assert result.report is None
    with pytest.raises(UsageError, match="--only: no question 'mood'; there are disagreement, typology"):
        analyze(store, "study", questions=["mood"])


def test_raters_alone_need_no_run(tmp_path):
    table = pd.DataFrame({"utterance_id": [f"u{i}" for i in range(40)], "label": ["calm", "warm"] * 20})
    rng = np.random.default_rng(0)
    rows = [
        (name, shown, value, count)
        for name, label in zip(table["utterance_id"], table["label"], strict=True)
        for shown, right in (("audio", 3), ("audio+video", 5))
        for value, count in ((label, right), ("warm" if label == "calm" else "calm", int(rng.integers(0, 4))))
    ]
    ratings = pd.DataFrame(rows, columns=["utterance_id", "shown", "value", "count"])
    store = Store.create(tmp_path / "st", Corpus("votes", table, ratings[ratings["count"] > 0]))
    result = analyze_people(store, resamples=200)
    assert result.run is None
    assert {"people", "channels"} <= set(result.tables)
    assert (store.path / "people" / "findings.json").exists()
    with pytest.raises(UsageError, match="no run and no ratings"):
        analyze_people(Store.create(tmp_path / "other", Corpus("x", table)))


def test_people_are_asked_for_categories_and_grouped_as_the_run_was():
    drawn = draw(np.random.default_rng(0), Design(n=120, n_groups=10, kind="nominal"))
    study = drawn.study(resamples=100)
    moved = study.utterances.rename(columns={"group": "speaker"}).assign(group="")
    run = replace(study.run, info={**study.run.info, "group": "speaker"})
    answer = ASKED_ONCE["people"](replace(study, utterances=moved, run=run))
    assert {finding.n_groups for finding in answer.findings} == {10}
    numbers = draw(np.random.default_rng(0), Design(n=120, n_groups=10, kind="interval")).study(resamples=100)
    written = numbers.utterances.assign(label=numbers.utterances["label"].round().astype(int).astype(str))
    answer = ASKED_ONCE["people"](replace(numbers, utterances=written))
    assert answer.findings == []
    assert "is a number" in answer.notes[0]


@pytest.mark.parametrize("kind", ["ordinal", "interval"])
def test_other_targets_are_analysed_with_real_heads_and_set_beside_another_run(tmp_path, kind):
    drawn = draw(np.random.default_rng(0), Design(n=160, n_groups=10, n_classes=3, kind=kind))
    store = drawn.store(tmp_path / "st", width=12)
    views = store.views(text="planted", audio="planted", video="planted")
    head = "ridge" if kind == "interval" else "logistic"
    for name in ("first", "second"):
        heads = (head,) if name == "second" else (head, "gated@max_epochs=4@n_scouts=0")
        sweep(views, heads, seeds=range(5), n_jobs=1).save(store, name)
    result = analyze(store, "first", resamples=200, against="second")
    assert {"rates", "utterances", "dominance", "link", "stress", "comparison"} <= set(result.tables)
    excess = result.table("rates").query("quantity == 'excess' and second == 'fusion'")
    assert set(excess["repeats"]) == {"bags", "seeds"}
    assert excess["estimate"].notna().all()
    between = result.table("comparison").query("first.str.startswith('first: ')")
    assert set(between["first"].str.removeprefix("first: ")) == set(
        between["second"].str.removeprefix("second: ")
    )
    assert (between["estimate"] == 0).all()  # the second run is the first one again
    assert set(between["n_groups"]) == {10}
    assert result.report is not None
    assert not [note for note in result.warnings if "fit-heads again" in note]
