"""The analysis of a run as files and a page: complete, self-contained, and safe with hostile text."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from synthetic_study import CLASSES, corpus_of, metrics_of, planted_predictions, study_store

from mixed_signals.analysis.analysis import analyze
from mixed_signals.analysis.report import figures
from mixed_signals.store import Run, Store, UsageError

HOSTILE = '<script>alert("{i}")</script><img src="http://x.example/y" onerror=run()> \' " & $x$ {{{{ 7*7 }}}}'


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.said = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.said.append(data)

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]

    @property
    def text(self):
        return " ".join("".join(self.said).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    store = study_store(tmp_path_factory.mktemp("study") / "st", n=120, n_seeds=5, text=HOSTILE)
    return store, analyze(store, "study")


@pytest.fixture(scope="module")
def page(study):
    return Page(study[1].report.read_text(encoding="utf-8"))


def test_tables_and_findings_are_written_and_returned(study):
    store, result = study
    folder = store.run_path("study") / "analysis"
    assert {"utterances", "rates", "typology", "link", "dominance", "risk_coverage"} <= set(result.tables)
    for name, table in result.tables.items():
        assert len(pd.read_parquet(folder / "tables" / f"{name}.parquet")) == len(table) > 0
    findings = json.loads((folder / "findings.json").read_text())
    assert [f["verdict"] for f in findings] == [f.verdict for f in result.findings]
    utterances = result.table("utterances")
    assert set(utterances["utterance_id"]) == set(store.corpus.ids)
    assert result.table("typology")["count"].sum() == 120
    table = utterances.set_index("utterance_id")
    assert (table["group"] == store.corpus.utterances.set_index("utterance_id")["group"]).all()


def test_the_page_says_every_finding(study, page):
    for finding in study[1].findings:
        assert finding.verdict in page.text


def test_hostile_text_stays_text(page):
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert re.search(r"<script>alert\(\"\d+\"\)</script><img src=", page.text)
    assert "{{ 7*7 }}" in page.text


def test_the_page_loads_nothing(study, page):
    html = study[1].report.read_text(encoding="utf-8")
    assert "link" not in page.tags
    targets = [v for name in ("src", "href", "xlink:href", "action") for v in page.values(name)]
    assert targets
    assert all(v.startswith(("#", "assets/", "data:")) for v in targets)
    assert not re.search(r"url\((?!#)|@import", html)


def test_the_page_is_accessible(page):
    figures_shown = [value for tag, name, value in page.attributes if name == "role" and value == "img"]
    assert page.tags.count("figure") == page.tags.count("figcaption") == len(figures_shown) == 5
    assert page.tags.count("table") == page.tags.count("caption") == 4
    assert len([1 for tag, name, _ in page.attributes if (tag, name) == ("th", "scope")]) == page.tags.count(
        "th"
    )
    assert ("html", "lang", "en") in page.attributes
    repeated = [value for value, n in Counter(page.values("id")).items() if n > 1]
    assert repeated == []
    labels = [value for tag, name, value in page.attributes if name == "aria-label"]
    assert all(labels)


def test_figures_are_files_beside_the_page(study, page):
    assets = study[1].report.parent / "assets"
    linked = {v for v in page.values("href") if v.startswith("assets/")}
    assert linked == {f"assets/{file.name}" for file in assets.iterdir()}
    assert {file.suffix for file in assets.iterdir()} == {".svg", ".png"}
    assert all(file.stat().st_size > 1000 for file in assets.iterdir())


def test_the_same_run_gives_the_same_page(study):
    store, result = study
    before = result.report.read_bytes()
    assert analyze(store, "study").report.read_bytes() == before


def test_what_is_missing_is_said_and_left_out(tmp_path):
    store = study_store(tmp_path / "st", n=60, n_groups=0, n_seeds=1, rated=False, gated=False)
    result = analyze(store, "study", report=tmp_path / "elsewhere")
    assert result.report == tmp_path / "elsewhere" / "index.html"
    page = Page(result.report.read_text(encoding="utf-8"))
    for words in ("no groups", "no ratings", "at least 5 seeds"):
        assert words in page.text
    assert page.tags.count("figure") == 3
    assert result.table("link").empty
    assert not (result.folder / "tables" / "link.parquet").exists()
    assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", page.text.lower())


def test_groups_fewer_than_eight_have_no_intervals(tmp_path):
    result = analyze(study_store(tmp_path / "st", n=60, n_groups=5), "study")
    assert result.table("rates")["low"].isna().all()
    assert any("Only 5 groups" in said for said in result.warnings)
    assert "Only 5 groups" in Page(result.report.read_text(encoding="utf-8")).text


def test_several_heads_each_have_their_part(tmp_path):
    rng = np.random.default_rng(0)
    gated, truth, _ = planted_predictions(rng, 60)
    single = gated[gated["seed"] == 0].assign(head="logistic")
    single["model"] = "logistic:" + single["modalities"]
    predictions = pd.concat([gated, single], ignore_index=True)
    store = Store.create(tmp_path / "st", corpus_of(truth))
    gates = pd.DataFrame(columns=["head", "modalities", "utterance_id", "modality", "gate"])
    Run(predictions, gates, metrics_of(predictions), {"classes": list(CLASSES)}).save(store, "two")
    result = analyze(store, "two")
    assert result.heads == ["gated", "logistic"]
    assert len(result.table("utterances")) == 120
    page = Page(result.report.read_text(encoding="utf-8"))
    assert [v for v in page.values("href") if v.startswith("#head")] == ["#head-1", "#head-2"]
    assert analyze(store, "two", heads=["logistic"]).heads == ["logistic"]


def test_an_unknown_run_is_refused(study):
    with pytest.raises(UsageError, match="study"):
        analyze(study[0], "nothing")


def test_many_points_become_pixels():
    rng = np.random.default_rng(0)

    def scatter(n):
        table = pd.DataFrame(
            {"p_true_text": rng.random(n), "p_true_fusion": rng.random(n), "family": "harmed"}
        )
        return figures.save(figures.confidence(table, ["text"]), "x")["x.svg"]

    few, many = scatter(500), scatter(figures.RASTERISE_FROM + 1)
    assert b"<image" not in few
    assert b"<image" in many
    assert len(many) < len(few)
