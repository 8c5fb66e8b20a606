"""What the page's scripts are given: the values of the analysis, in files that no text of a corpus can end."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_study import Design, draw
from synthetic_study import (
    CLASSES,
    corpus_of,
    metrics_of,
    planted_predictions,
    ratings_of,
    study_store,
)  # fmt: skip

from mixed_signals.analysis.analysis import ASKED_ONCE, QUESTIONS, Analysis, _described, _together
from mixed_signals.analysis.report.details import parts
from mixed_signals.analysis.report.rows import Rows
from mixed_signals.analysis.report.side_files import (
    PART_SIZE,
    category_column,
    encode,
    number_column,
    text_column,
    write_side_file,
)
from mixed_signals.analysis.study import Study
from mixed_signals.store import Run, Store

HOSTILE = [
    "</script><script>alert(1)</script>", "\u2028\u2029", "\"'`\\", "${7*7} {{7*7}}", "\ud800 half",
    "\u202eright to left", "🙂", "x" * 50_000, "<!--", "]]>", "", "%s %d %%",
]  # fmt: skip


def decoded(column):
    """Return a column's values as a script reads them."""
    if column["type"] == "text":
        return column["values"]
    packed = column["codes" if column["type"] == "category" else "values"]
    codes = np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=f"<u{column['bytes']}")
    none = 256 ** column["bytes"] - 1
    if column["type"] == "category":
        return [None if code == none else column["levels"][code] for code in codes]
    return np.where(codes == none, np.nan, column["low"] + column["step"] * codes.astype(float))


def columns_of(file):
    return {column["name"]: decoded(column) for column in file["columns"]}


def received(path):
    """Return what a side file hands over, if it is one call on one line and plain ASCII."""
    text = path.read_text(encoding="ascii")
    before = f'MixedSignals.receive("{path.stem}",'
    assert text.startswith(before)
    assert text.endswith(");\n")
    assert text.count("\n") == 1
    return json.loads(text[len(before) : -3])


def test_hostile_texts_stay_in_their_strings(tmp_path):
    write_side_file(tmp_path, "texts", encode(HOSTILE))
    assert received(tmp_path / "texts.js") == HOSTILE
    assert decoded(text_column("text", "text", HOSTILE)) == HOSTILE
    assert decoded(category_column("group", "group", [*HOSTILE, None], HOSTILE)) == [*HOSTILE, None]


@pytest.mark.parametrize(
    "values",
    [
        [0.1, 0.9999, np.nan, 1.0, 0.0], [3, 7, 254, 0], [0, 254.0, np.nan], [0, 100_000, -70_000],
        [-12.3456, 25.1, 0.03],
        [1e-7, 3.2e-7, 2e-7], [5.25, 5.25], [np.nan, np.nan], [], [1e9 + 0.5, 1e9 + 0.75], [2.0**40, 1.0],
        [np.inf, 1.5],
    ],
)  # fmt: skip
def test_numbers_come_back_with_four_digits_of_their_range(values):
    values = np.array(values, dtype=float)
    back = decoded(number_column("x", "x", values))
    known = np.isfinite(values)
    assert (np.isfinite(back) == known).all()
    spread = np.ptp(values[known]) if known.any() else 0
    assert np.abs(back[known] - values[known]).max(initial=0) <= spread / 2e4 + 1e-12 * np.abs(
        values[known]
    ).max(initial=0)


def test_whole_numbers_come_back_as_they_are():
    votes = [2, 5, 3, np.nan]
    column = number_column("n_votes", "votes", votes)
    assert column["bytes"] == 1
    np.testing.assert_array_equal(decoded(column), votes)


@pytest.mark.parametrize("n", [2, 255, 256, 70_000])
def test_categories_come_back_however_many_levels(n):
    levels = [f"g{i}" for i in range(n)]
    values = [levels[0], None, levels[-1]]
    assert decoded(category_column("group", "group", values, levels)) == values
    assert decoded(category_column("group", "group", values)) == values


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        encode({"p": float("nan")})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of three heads: a gated one, one of other rows, and their parts."""
    rng = np.random.default_rng(0)
    gated, truth, conflicted = planted_predictions(rng, 300, n_seeds=2)
    other = gated[gated["utterance_id"] > "u0020"].assign(head="other")
    other["model"] = "other:" + other["modalities"]
    predictions = pd.concat([gated, other], ignore_index=True)
    keys = ["utterance_id", "model", "head", "modalities", "partition", "fold", "order", "seed"]
    fused = predictions.loc[predictions["model"] == "gated:text+audio+video", keys]
    gates = pd.concat(
        [
            fused.assign(modality=m, gate=g, contribution=-g)
            for m, g in (("text", 0.5), ("audio", 0.25), ("video", 0.125))
        ]
    )
    ratings = ratings_of(rng, truth, conflicted)
    store = Store.create(tmp_path_factory.mktemp("made") / "st", corpus_of(truth, ratings=ratings))
    info = {"classes": list(CLASSES), "group": "group", "target": "label", "kind": "nominal"}
    Run(predictions, gates, metrics_of(predictions), info).save(store, "made")
    study = Study.open(store, "made", resamples=100, refit=False)
    analysis = analysed(study, "disagreement", "typology", "agreement")
    return Rows.of(analysis, study), analysis, study


def analysed(study, *questions):
    """Return what is found of a study, as a report is given it."""
    answers = [
        QUESTIONS[name](study, panel) for panel in study.panels for name in questions if name in QUESTIONS
    ]
    answers += [ASKED_ONCE[name](study) for name in questions if name in ASKED_ONCE]
    tables = dict(_together(answers).tables)
    tables["utterances"] = _described(study, tables["utterances"], tables)
    modalities = {panel.head: panel.unimodals for panel in study.panels}
    return Analysis("made up", study.run, modalities, tables, [], [], "", Path())


def test_rows_are_sorted_by_disagreement_and_hold_every_head(made):
    rows, analysis, study = made
    columns = columns_of(rows.shared()) | columns_of(rows.head(study.panels[0]))
    assert (np.diff(columns["jsd"]) <= 1e-4).all()
    table = analysis.table("utterances").query("head == 'gated'").set_index("utterance_id").loc[rows.ids]
    for name in ("label_true", "group", "type", "family", "label_text", "label_fusion"):
        assert list(table[name]) == columns[name], name
    for name in ("jsd", "p_true_audio", "vote_entropy", "stability", "n_votes"):
        np.testing.assert_allclose(columns[name], table[name].astype(float), atol=6e-5)
    np.testing.assert_allclose(columns["confidence_text"], table["p_label_text"], atol=6e-5)
    assert columns["contested"] == ["yes" if x else "no" for x in table["contested"]]
    assert set(columns["gate_audio"]) == {0.25}
    assert set(columns["contribution_video"]) == {-0.125}


def test_a_head_has_no_value_where_it_does_not_predict(made):
    rows, _, study = made
    columns = columns_of(rows.head(study.panels[1]))
    absent = rows.ids <= "u0020"
    assert absent.sum() == 21
    assert (np.isnan(columns["jsd"]) == absent).all()
    assert [label is None for label in columns["label_text"]] == list(absent)
    assert "gate_text" not in columns


def test_parts_hold_each_row_in_its_place(made):
    rows, analysis, study = made
    media = [{"why": f"none for {name} %s"} for name in rows.ids]
    found = [json.loads(part) for part in parts(rows, media)]
    assert [len(part) for part in found] == [PART_SIZE, 300 - PART_SIZE]
    every = [row for part in found for row in part]
    assert [row["id"] for row in every] == list(rows.ids)
    assert [row["media"] for row in every] == media
    gated, other = study.panels
    table = analysis.table("utterances").query("head == 'gated'").set_index("utterance_id")
    for row in every:
        i = int(np.flatnonzero(gated.ids == row["id"])[0])
        head = row["heads"][0]
        np.testing.assert_allclose(head["models"]["fusion"]["p"], gated.mean("fusion")[i], atol=6e-5)
        about = table.loc[row["id"]]
        assert head["models"]["audio"]["label"] == about["label_audio"]
        assert (head["type"], row["label"], row["group"]) == (
            about["type"],
            about["label_true"],
            about["group"],
        )
        assert head["gates"] == {"text": 0.5, "audio": 0.25, "video": 0.125}
        assert ", ".join(f"{vote['value']} {vote['count']}" for vote in row["votes"]) == about["votes"]
        assert {vote["shown"] for vote in row["votes"]} == {"text+audio+video"}
        assert (row["heads"][1] is None) == (row["id"] not in set(other.ids))


def test_hostile_texts_of_a_corpus_come_back_from_the_parts(made):
    rows, analysis, study = made
    told = study.utterances["text"].astype(object).copy()
    told.iloc[: len(HOSTILE)] = HOSTILE
    utterances = study.utterances.drop(columns="text").join(told)
    rows = Rows(analysis, replace(study, utterances=utterances), rows.ids)
    back = [row["text"] for part in parts(rows, [{"why": "none"}] * 300) for row in json.loads(part)]
    assert back == list(told.reindex(rows.ids))


def test_a_row_takes_few_bytes(made):
    """A hundred thousand rows of three modalities, gates and ratings are to be loaded with the page."""
    rows, _, study = made
    columns = rows.head(study.panels[0])["columns"]
    sizes = {column["name"]: len(column.get("codes", column.get("values"))) / 300 for column in columns}
    assert len(sizes) == 22
    assert all(size < 2 * 4 / 3 + 0.1 for size in sizes.values())
    assert sum(sizes.values()) < 50


def test_without_groups_ratings_types_and_gates_there_are_no_such_columns(tmp_path):
    study_store(tmp_path / "st", n=60, n_groups=0, n_seeds=1, rated=False, gated=False)
    study = Study.open(tmp_path / "st", "study", resamples=100, refit=False)
    rows = Rows.of(analysed(study, "disagreement"), study)
    assert set(columns_of(rows.shared())) == {"utterance_id", "label_true"}
    names = set(columns_of(rows.head(study.panels[0])))
    assert names == {"jsd"} | {
        f"{what}_{model}" for what in ("label", "confidence", "p_true") for model in study.panels[0].models
    }
    first = json.loads(next(iter(parts(rows, [{"why": "none"}] * 60))))[0]
    assert first["votes"] == []
    assert first["group"] == ""
    assert first["heads"][0]["type"] is first["heads"][0]["gates"] is first["heads"][0]["phi"] is None


def test_interval_targets_have_values_and_differences():
    study = draw(np.random.default_rng(0), Design(n=90, kind="interval", n_seeds=2)).study(
        resamples=100, refit=False
    )
    analysis = analysed(study, "disagreement", "dominance")
    rows = Rows.of(analysis, study)
    assert rows.head(study.panels[0])["score"] == "spread"
    columns = columns_of(rows.shared()) | columns_of(rows.head(study.panels[0]))
    table = analysis.table("utterances").set_index("utterance_id").loc[rows.ids]
    for name in ("y_true", "spread", "y_text", "y_fusion", "difference_audio"):
        np.testing.assert_allclose(columns[name], table[name], atol=1e-4)
    shapley = analysis.table("shapley").set_index(["utterance_id", "modality"])
    for name, dominant in zip(rows.ids[:30], columns["dominant"], strict=False):
        mine = shapley.loc[name]
        assert (dominant == "none") == (not mine["dominant"].any())
        assert dominant == "none" or mine.loc[dominant, "dominant"]
    first = json.loads(next(iter(parts(rows, [{"why": "none"}] * 90))))[0]
    assert first["label"] == pytest.approx(table["y_true"].iloc[0])
    assert first["heads"][0]["models"]["fusion"]["value"] == pytest.approx(
        table["y_fusion"].iloc[0], rel=1e-5
    )
    assert set(first["heads"][0]["phi"]) == {"text", "audio", "video"}
