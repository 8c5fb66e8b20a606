"""The interactive charts: what Python says of them, and what the page's scripts draw of a report's columns."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import bokeh
import numpy as np
import pandas as pd
import pytest
from synthetic_study import study_store

from mixed_signals.analysis.analysis import analyze
from mixed_signals.analysis.report import charts as charts_module
from mixed_signals.analysis.report.charts import charts
from mixed_signals.analysis.report.rows import Rows
from mixed_signals.analysis.report.side_files import encode, write_side_file
from mixed_signals.analysis.robustness.selective import risk_coverage
from mixed_signals.analysis.study import Study

ASSETS = Path(charts_module.__file__).parent / "assets"
SCRIPTS = ("lib/bokeh.min", "side", "shown", "state", "chart_data", "charts")
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file: 'unsafe-inline'; img-src data: file:"
)
N = 120
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    store = study_store(tmp_path_factory.mktemp("charts") / "st", n=N, n_seeds=5, text=HOSTILE)
    analysis = analyze(
        store, "study", questions=("disagreement", "typology", "agreement"), resamples=20, refit=False
    )
    return analysis, Study.open(store, "study")


@pytest.fixture(scope="module")
def made(study):
    analysis, opened = study
    return charts(analysis, opened, analysis.heads[0])


def keys_of(value):
    if isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from keys_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from keys_of(part)


def test_charts_are_the_same_bytes_each_time_and_small(study, made):
    analysis, opened = study
    again = charts(analysis, opened, analysis.heads[0])
    assert encode(again) == encode(made)
    assert len(encode(made)) < 200_000


def test_ids_do_not_depend_on_what_was_made_before(made):
    ids = {plot for chart in made.values() for plot in chart["plots"]}
    assert len(ids) == sum(len(chart["plots"]) for chart in made.values())
    for name, chart in made.items():
        assert all(plot.startswith(f"{name}-") for plot in chart["plots"])
        assert [root["id"] for root in chart["doc"]["roots"]] == chart["plots"]


def test_no_chart_brings_code(made):
    said = json.dumps(made)
    assert "CustomJS" not in said
    assert "code" not in set(keys_of(made))


def test_a_chart_whose_data_are_not_there_is_not_made(study, made):
    analysis, opened = study
    assert set(made) == {"confidence", "raters", "gates", "types", "risk", "floor"}
    table = analysis.tables["utterances"]
    without = type(
        "Found", (), {"tables": {**analysis.tables, "utterances": table.drop(columns="vote_entropy")}}
    )
    assert "raters" not in charts(without, opened, analysis.heads[0])
    ungated = table.drop(columns=[name for name in table if name.startswith("gate_")])
    without = type("Found", (), {"tables": {**analysis.tables, "utterances": ungated}})
    assert charts(without, opened, analysis.heads[0])["gates"]["names"] == ["contribution"]


def test_a_large_study_is_drawn_as_a_density(study, made, monkeypatch):
    assert not made["confidence"]["dense"]
    monkeypatch.setattr(charts_module, "MOST_POINTS", N - 1)
    analysis, opened = study
    dense = charts(analysis, opened, analysis.heads[0])["confidence"]
    assert dense["dense"]
    assert "utterances in a cell" in json.dumps(dense["doc"])
    assert '"rest"' not in json.dumps(dense["doc"])


# In the browser


def write_site(folder: Path, study, made) -> Path:
    analysis, opened = study
    (folder / "assets" / "data").mkdir(parents=True)
    (folder / "assets" / "lib").mkdir()
    shutil.copy(
        Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js", folder / "assets" / "lib"
    )
    for name in (*(f"{script}.js" for script in SCRIPTS[1:]), "charts.css"):
        shutil.copy(ASSETS / name, folder / "assets")
    rows = Rows.of(analysis, opened)
    data = folder / "assets" / "data"
    write_side_file(data, "rows", encode(rows.shared()))
    write_side_file(data, "head-0", encode(rows.head(opened.panels[0])))
    write_side_file(data, "charts-0", encode(made))
    figures = "".join(f'<figure data-chart="{name}"><img alt="picture of {name}"></figure>' for name in made)
    scripts = "".join(f'<script defer src="assets/{name}.js"></script>' for name in SCRIPTS)
    page = folder / "index.html"
    page.write_text(
        f'<!DOCTYPE html><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="assets/charts.css">'
        f"<body data-heads=1 data-head-names='[\"{analysis.heads[0]}\"]'>{figures}{scripts}"
    )
    return page


class Browser:
    """A page with charts, and what tests ask of it."""

    def __init__(self, page):
        self.page, self.problems = page, []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.problems.append(said.text))

    def open(self, path: Path, hash_: str = ""):
        self.page.goto("about:blank")
        self.page.goto(f"{path.as_uri()}{hash_}")
        for figure in self.page.locator("figure[data-chart]").all():
            self.page.locator(
                f'figure[data-chart="{figure.get_attribute("data-chart")}"][data-drawn]'
            ).wait_for()
        return self

    def set(self, change):
        self.page.evaluate("change => MixedSignals.set(change)", change)

    def data(self, chart, source="shown"):
        """Return what a source of a chart holds."""
        return self.page.evaluate(
            """([chart, name]) => {
              const doc = Bokeh.documents.findLast((doc) => doc.roots()[0].id.startsWith(`${chart}-`));
              const source = doc.get_model_by_name(name);
              return Object.fromEntries(source.columns().map((key) => [key, Array.from(source.get(key))]));
            }""",
            [chart, source],
        )

    def figure(self, name):
        return self.page.locator(f'figure[data-chart="{name}"]')

    def column(self, name):
        return self.page.evaluate(
            """async (name) => {
              const column = (await MixedSignals.columns(0)).get(name);
              return Array.from(column.values ?? column.codes, (value) => column.levels ? column.levels[value] : value);
            }""",
            name,
        )


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'"
    )
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium: apt install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, study, made):
    return write_site(tmp_path_factory.mktemp("site"), study, made)


@pytest.fixture(scope="module")
def opened(chromium, site):
    page = chromium.new_page(viewport={"width": 1280, "height": 3000}, color_scheme="light")
    browser = Browser(page).open(site)
    yield browser
    page.close()


@pytest.fixture
def browser(opened):
    opened.set({"filters": {}, "ranges": {}, "brushes": {}, "row": None})
    yield opened
    assert opened.problems == []


def test_every_chart_is_drawn_in_place_of_its_picture(browser, made):
    for name in made:
        assert browser.figure(name).get_attribute("data-points") == str(N)
        assert browser.figure(name).locator(".chart").get_attribute("aria-label") == f"picture of {name}"
        assert not browser.figure(name).locator("img").is_visible()
    browser.page.emulate_media(media="print")
    assert browser.figure("types").locator("img").is_visible()
    assert not browser.figure("types").locator(".chart").is_visible()
    browser.page.emulate_media(media="screen")


def test_points_are_those_on_show_and_the_others_stay_faint(browser):
    families = browser.column("family")
    kept = [i for i, name in enumerate(families) if name == "follows"]
    types = sorted({t for t, f in zip(browser.column("type"), families, strict=True) if f == "follows"})
    browser.set({"filters": {"type": types}})
    shown = browser.data("confidence")
    assert sorted(shown["row"]) == kept
    assert set(shown["colour"]) == {"#56B4E9"}
    assert len(browser.data("confidence", "rest")["x0"]) == N - len(kept)
    x = browser.column("p_true_text")
    assert shown["x0"] == [x[row] for row in shown["row"]]


def test_a_box_becomes_a_brush_that_filters_and_stays(browser, site, study):
    box = browser.figure("confidence").locator(".chart-panels > div").nth(1).bounding_box()
    mouse = browser.page.mouse
    mouse.move(box["x"] + 90, box["y"] + 40)
    mouse.down()
    mouse.move(box["x"] + 180, box["y"] + 150, steps=5)
    mouse.up()
    browser.page.locator('figure[data-chart="confidence"][data-brush]').wait_for()
    brush = browser.page.evaluate("MixedSignals.state.brushes.confidence")
    second = study[1].panels[0].unimodals[1]
    assert (brush["x"]["column"], brush["y"]["column"]) == (f"p_true_{second}", "p_true_fusion")
    inside = [
        i
        for i, (x, y) in enumerate(
            zip(browser.column(brush["x"]["column"]), browser.column(brush["y"]["column"]), strict=True)
        )
        if brush["x"]["low"] <= x <= brush["x"]["high"] and brush["y"]["low"] <= y <= brush["y"]["high"]
    ]
    assert 0 < len(inside) < N
    assert sorted(browser.data("raters")["row"]) == inside
    assert sum(browser.data("types")["n"]) == len(inside)

    again = Browser(browser.page).open(site, browser.page.evaluate("location.hash"))
    assert again.figure("raters").get_attribute("data-points") == str(len(inside))
    drawn = again.page.evaluate(
        """() => { const doc = Bokeh.documents.findLast((doc) => doc.roots()[0].id.startsWith("confidence-"));
        const boxes = ["brush-0", "brush-1"].map((name) => doc.get_model_by_name(name));
        return boxes.map((box) => [box.visible, box.visible ? box.left : null]); }"""
    )
    assert drawn == [[False, None], [True, brush["x"]["low"]]]
    box = again.figure("confidence").locator(".chart-panels > div").nth(1).bounding_box()
    mouse.dblclick(box["x"] + 200, box["y"] + 200)
    again.page.locator('figure[data-chart="confidence"]:not([data-brush])').wait_for()
    assert again.figure("raters").get_attribute("data-points") == str(N)


def test_a_tap_on_a_bar_chooses_its_type_and_another_lets_it_go(browser, made):
    box = browser.figure("types").locator(".chart-panels > div").bounding_box()
    click = [box["x"] + 300, box["y"] + 20]
    browser.page.mouse.click(*click)
    first = made["types"]["types"][0]
    browser.page.locator(f'figure[data-chart="raters"]:not([data-points="{N}"])').wait_for()
    assert browser.page.evaluate("MixedSignals.state.filters.type") == [first]
    browser.page.wait_for_timeout(600)  # or it would be a double tap
    browser.page.mouse.click(*click)
    browser.page.locator(f'figure[data-chart="raters"][data-points="{N}"]').wait_for()


def test_a_tap_on_a_point_opens_its_row_and_rings_mark_it(browser):
    place = browser.page.evaluate(
        """() => { const doc = Bokeh.documents.findLast((doc) => doc.roots()[0].id.startsWith("raters-"));
        const source = doc.get_model_by_name("shown"), plot = doc.get_model_by_name("plot-0");
        const frame = Bokeh.index.find_one(plot).frame, k = source.get("row").length - 1;
        return [frame.x_scale.compute(source.get("x0")[k]), frame.y_scale.compute(source.get("y0")[k]),
                source.get("row")[k]]; }"""
    )
    box = browser.figure("raters").locator(".chart-panels > div").bounding_box()
    browser.page.mouse.click(box["x"] + place[0], box["y"] + place[1])
    browser.page.wait_for_timeout(500)
    row = browser.page.evaluate("MixedSignals.state.row")
    assert row is not None
    ring = {"x0": [browser.column("jsd")[row]], "y0": [browser.column("vote_entropy")[row]]}
    assert browser.data("raters", "ring") == ring
    assert browser.data("confidence", "ring")["x0"] == [browser.column("p_true_text")[row]]


def test_risk_is_that_of_the_analysis_for_what_is_shown(browser):
    truth, label = browser.column("label_true"), browser.column("label_fusion")
    wrong = np.array([a != b for a, b in zip(truth, label, strict=True)], dtype=float)
    doubt = {
        "confidence": -np.array(browser.column("confidence_fusion")),
        "divergence": np.array(browser.column("jsd")),
    }
    kept = np.array([value == truth[0] for value in truth])
    browser.set({"filters": {"label_true": [truth[0]]}})
    shown, every = browser.data("risk"), browser.data("risk", "all")
    for i, values in enumerate(doubt.values()):
        for found, mask in ((shown, kept), (every, np.ones(N, dtype=bool))):
            coverage, risk, _ = risk_coverage(wrong[mask], values[mask])
            assert found["xs"][i] == pytest.approx(coverage.tolist())
            assert found["ys"][i] == pytest.approx(risk.tolist())


def test_tied_rows_stand_in_expected_order(browser):
    tied = browser.page.evaluate(
        """() => { const loss = Float32Array.of(1, 0, 0, 1, 1), doubt = Float32Array.of(0, 1, 1, 1, 2);
        const columns = new Map([["d", { name: "d", type: "number", values: doubt }], ["a", null], ["b", null]]);
        const [one, other] = [[0, 1, 1, 0, 0], [1, 1, 1, 1, 1]].map((codes) => ({ levels: ["p", "q"], codes }));
        columns.set("a", one).set("b", other);
        const about = { scores: [{ sort: "d", level: "d", colour: "red" }], loss: { different: ["a", "b"] } };
        return MixedSignals.chartData.risk.prepare(about, columns).all[0]; }"""
    )
    coverage, risk, _ = risk_coverage([1, 0, 0, 1, 1], [0, 1, 1, 1, 2])
    assert tied["xs"] == pytest.approx(coverage.tolist())
    assert tied["ys"] == pytest.approx(risk.tolist())


def test_fifths_are_means_of_equal_parts(browser):
    table = pd.DataFrame({"x": browser.column("jsd"), "y": browser.column("vote_entropy")}).dropna()
    parts = np.array_split(table.sort_values("x", kind="stable").to_numpy(), 5)
    means = browser.data("raters", "means")
    assert means["x"] == pytest.approx([part[:, 0].mean() for part in parts], abs=1e-5)
    assert means["y"] == pytest.approx([part[:, 1].mean() for part in parts], abs=1e-5)


def test_rates_of_what_is_shown_stand_beside_those_of_all(browser, study):
    rates = study[0].tables["rates"]
    rates = rates[(rates["measure"] == "label") & (rates["quantity"] == "rate")]
    assert browser.data("floor", "shown-0")["value"] == pytest.approx(rates["estimate"].tolist()[:6])
    pair = rates.iloc[0]
    one, other = browser.column(f"label_{pair['first']}"), browser.column(f"label_{pair['second']}")
    browser.set({"filters": {"differs": [pair["first"]]}})
    assert any(a != b for a, b in zip(one, other, strict=True))
    assert browser.data("floor", "shown-0")["value"][0] == 1


def test_colours_follow_the_scheme_when_it_changes(browser):
    ink = """() => { const doc = Bokeh.documents.findLast((doc) => doc.roots()[0].id.startsWith("types-"));
      return [...doc.all_models].find((model) => model.type === "LinearAxis").axis_label_text_color; }"""
    light = browser.page.evaluate(ink)
    browser.page.emulate_media(color_scheme="dark")
    browser.page.wait_for_timeout(500)
    dark = browser.page.evaluate(ink)
    browser.page.emulate_media(color_scheme="light")
    browser.page.wait_for_timeout(500)
    assert light != dark
    assert browser.page.evaluate(ink) == light


def test_a_density_counts_what_is_shown_in_each_cell(chromium, study, tmp_path, monkeypatch):
    monkeypatch.setattr(charts_module, "MOST_POINTS", 0)
    analysis, opened = study
    made = charts(analysis, opened, analysis.heads[0])
    page = chromium.new_page(viewport={"width": 1000, "height": 3000})
    dense = Browser(page).open(write_site(tmp_path / "dense", study, made))
    x, y = (np.array(dense.column(name), dtype=float) for name in ("jsd", "vote_entropy"))
    axes = made["raters"]["panels"][0]
    edges = [
        np.linspace(axes[name]["low"], axes[name]["high"], cells + 1)
        for name, cells in zip("xy", made["raters"]["cells"], strict=True)
    ]
    known = np.isfinite(y)
    expected = np.histogram2d(y[known], x[known], bins=edges[::-1])[0]
    image = page.evaluate(
        """() => { const doc = Bokeh.documents.findLast((doc) => doc.roots()[0].id.startsWith("raters-"));
        const image = doc.get_model_by_name("density-0").get("image")[0];
        return [image.shape, Array.from(image, (count) => count || 0)]; }"""
    )
    assert image[0] == list(expected.shape)
    assert np.array(image[1]).reshape(image[0]).tolist() == expected.tolist()
    assert dense.figure("raters").get_attribute("data-points") == str(int(known.sum()))
    dense.set(
        {
            "brushes": {
                "raters": {name: {k: axes[name][k] for k in ("column", "low", "high")} for name in "xy"}
            }
        }
    )
    assert dense.figure("confidence").get_attribute("data-points") == str(int(known.sum()))
    assert dense.problems == []
    page.close()


def test_an_utterance_named_like_markup_is_shown_as_text(browser):
    said = browser.page.evaluate(
        """(name) => { const doc = Bokeh.documents.findLast((doc) => doc.roots()[0].id.startsWith("raters-"));
        const source = doc.get_model_by_name("shown"), hover = [...doc.all_models].find((m) => m.type === "HoverTool");
        source.data = { ...Object.fromEntries(source.columns().map((key) => [key, source.get(key)])),
                        id: source.get("id").map(() => name) };
        const plot = doc.get_model_by_name("plot-0"), frame = Bokeh.index.find_one(plot).frame;
        return [frame.x_scale.compute(source.get("x0")[0]), frame.y_scale.compute(source.get("y0")[0])]; }""",
        HOSTILE,
    )
    box = browser.figure("raters").locator(".chart-panels > div").bounding_box()
    browser.page.mouse.move(box["x"] + said[0], box["y"] + said[1])
    browser.page.get_by_text(HOSTILE).first.wait_for()
    assert browser.page.title() != "1"
    assert math.isfinite(said[0])
