"""The figures of an analysis as files: complete, the same each time, and said in words."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planted_study import Design, draw
from synthetic_study import study_store

from mixed_signals.analysis.analysis import analyze
from mixed_signals.analysis.report.pictures import pictures, slug
from mixed_signals.analysis.study import Study

QUESTIONS = ("disagreement", "typology", "ambiguity", "dominance", "robustness", "agreement", "people")
NAMES = (
    "confidence", "raters", "gates", "types", "floor", "risk", "people", "dominance", "reliability", "thresholds",
)  # fmt: skip


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    store = study_store(tmp_path_factory.mktemp("study") / "st", n=120, n_seeds=5)
    options = {"resamples": 40, "refit": False}
    return analyze(store, "study", questions=QUESTIONS, **options), Study.open(store, "study", **options)


@pytest.fixture(scope="module")
def made(analysed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return pictures(*analysed, "gated", folder), folder


def test_every_figure_that_there_is_data_for_is_drawn(made):
    found, folder = made
    assert tuple(picture.name for picture in found) == NAMES
    assert {file.name for file in folder.iterdir()} == {
        f"gated-{name}.{suffix}" for name in NAMES for suffix in ("svg", "png", "csv")
    }


def test_files_are_pictures_of_readable_size(made):
    found, folder = made
    for picture in found:
        image = Image.open(folder / f"{picture.stem}.png")
        assert image.width == 1380
        assert len(set(image.convert("L").tobytes())) > 5
        assert b"<text" in (folder / f"{picture.stem}.svg").read_bytes()


def test_words_hold_numbers_and_say_how_to_read(made):
    for picture in made[0]:
        assert re.search(r"\d\.\d", picture.alt), picture.name
        assert picture.caption.count(".") >= 2
        assert "n = 120" in picture.caption or "120 utterances" in picture.caption
        assert "nan" not in f"{picture.alt} {picture.caption}"
        for sentence in (picture.title, picture.alt, picture.caption):
            assert sentence == " ".join(sentence.split())


def test_the_data_behind_a_figure_is_what_it_draws(analysed, made):
    analysis, _ = analysed
    folder = made[1]
    types = pd.read_csv(folder / "gated-types.csv")
    table = analysis.table("typology").set_index("type")
    np.testing.assert_allclose(types["estimate"], table.loc[types["type"], "estimate"], rtol=1e-5)
    points = pd.read_csv(folder / "gated-confidence.csv").set_index("utterance_id")
    truth = analysis.table("utterances").set_index("utterance_id")
    np.testing.assert_allclose(points["p_true_fusion"], truth.loc[points.index, "p_true_fusion"], rtol=1e-5)
    gates = pd.read_csv(folder / "gated-gates.csv")
    every = gates[(gates["family"] == "all utterances") & (gates["quantity"] == "gate")].set_index("modality")
    own = analysis.table("dominance")
    own = own[own["measure"] == "gate"].set_index("modality")
    np.testing.assert_allclose(every["estimate"], own.loc[every.index, "estimate"], rtol=1e-5)


def test_the_same_bytes_each_time_whatever_the_settings(analysed, made, tmp_path):
    with mpl.rc_context({"font.size": 20.0, "svg.fonttype": "path", "axes.facecolor": "red"}):
        pictures(*analysed, "gated", tmp_path)
        assert mpl.rcParams["font.size"] == 20.0
    for file in made[1].iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_sentence_of_a_figure_is_that_of_the_table(analysed, made):
    analysis, _ = analysed
    row = analysis.table("rates")
    row = row[(row["measure"] == "label") & (row["quantity"] == "excess") & (row["first"] == "audio")]
    row = row[row["second"] == "fusion"].iloc[0]
    floor = next(picture for picture in made[0] if picture.name == "floor")
    assert f"audio {100 * row['estimate']:.1f} points ({100 * row['low']:.1f} to" in floor.alt


def test_what_there_is_no_data_for_is_left_out(analysed, tmp_path):
    analysis, study = analysed
    few = replace(analysis, tables={name: analysis.tables[name] for name in ("rates", "typology")})
    assert [picture.name for picture in pictures(few, study, "gated", tmp_path)] == ["types", "floor"]


def test_hostile_names_of_heads_become_safe_file_names():
    names = [
        "gated",
        "../../etc/passwd",
        "a/b",
        "A",
        "a",
        "",
        "..",
        "💥",
        "x" * 300,
        "con:1",
        "\ud800",
        "a b",
    ]
    slugs = [slug(name) for name in names]
    assert slugs[0] == "gated"
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,60}", made) for made in slugs)


@pytest.mark.filterwarnings("error")
def test_hostile_groups_and_types_stay_text(analysed, tmp_path):
    analysis, study = analysed
    name = '<script>alert("$x$")</script>\n😀\x00'
    tables = dict(analysis.tables)
    tables["typology"] = tables["typology"].assign(type=name, family="harmed")
    (picture,) = pictures(
        replace(analysis, tables={"typology": tables["typology"]}), study, "gated", tmp_path
    )
    drawn = (tmp_path / f"{picture.stem}.svg").read_bytes()
    assert b"<script" not in drawn
    assert b"\x00" not in drawn
    assert b"&lt;script" in drawn


def test_interval_targets_have_theirs(tmp_path):
    drawn = draw(np.random.default_rng(0), Design(n=120, n_groups=12, kind="interval"))
    store = drawn.store(tmp_path / "st")
    drawn.run().save(store, "planted")
    options = {"resamples": 40, "refit": False}
    asked = ("disagreement", "ambiguity", "robustness", "agreement")
    analysis = analyze(store, "planted", questions=asked, **options)
    found = pictures(analysis, Study.open(store, "planted", **options), "gated", tmp_path / "figures")
    assert [picture.name for picture in found] == ["confidence", "raters", "floor", "risk"]
    assert not any("nan" in f"{picture.alt} {picture.caption}" for picture in found)


def test_vectors_of_large_studies_stay_small(analysed, tmp_path):
    analysis, study = analysed
    rng = np.random.default_rng(0)
    rows = analysis.table("utterances")
    many = rows.iloc[rng.integers(0, len(rows), 30_000)].reset_index(drop=True)
    for name in ("p_true_text", "p_true_audio", "p_true_video", "p_true_fusion", "jsd"):
        many[name] = rng.random(len(many))
    pictures(replace(analysis, tables={"utterances": many}), study, "gated", tmp_path)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir() if file.suffix == ".svg"}
    assert {"gated-confidence.svg", "gated-raters.svg"} <= set(sizes)
    assert max(sizes.values()) < 1_500_000
    buffer = io.BytesIO((tmp_path / "gated-confidence.svg").read_bytes())
    assert b"<image" in buffer.getvalue()
