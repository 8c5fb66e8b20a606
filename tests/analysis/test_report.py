"""The report of a run: a folder that is complete, says everything, replaces only itself, and shows text as text."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_study import Design, draw
from synthetic_study import CLASSES, corpus_of, metrics_of, planted_predictions, study_store

from mixed_signals.analysis.analysis import analyze
from mixed_signals.analysis.findings import TYPES, Finding
from mixed_signals.analysis.report.folder import MARK, check_report_folder, new_report
from mixed_signals.analysis.report.libraries import as_classic, write_libraries
from mixed_signals.analysis.report.page import SCRIPTS
from mixed_signals.analysis.report.story import MOST_TOLD, tell
from mixed_signals.store import MixedSignalsError, Run, Store, UsageError

HOSTILE = '<script>alert("{i}")</script><img src="http://x.example/y" onerror=run()> \' " & $x$ {{{{ 7*7 }}}}'
BASE = ("disagreement", "typology")


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.said = [], [], []
        self.feed(html)

    @classmethod
    def of(cls, path):
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.said.append(data)

    def values(self, name, of=None):
        return [value for tag, key, value in self.attributes if key == name and of in (None, tag)]

    @property
    def text(self):
        return " ".join("".join(self.said).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose texts, groups and name are hostile, analysed in full."""
    path = tmp_path_factory.mktemp("study") / "st"
    store = study_store(path, n=90, n_seeds=5, text=HOSTILE)
    return store, analyze(
        store, "study", resamples=100, refit=False, primary=["gated:text against fusion, excess"]
    )


@pytest.fixture(scope="module")
def page(study):
    return Page.of(study[1].report)


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
    table = utterances.set_index("utterance_id")
    assert (table["group"] == store.corpus.utterances.set_index("utterance_id")["group"]).all()


def test_the_page_says_what_was_studied_and_every_finding_and_warning(study, page):
    for words in ("made up", "study", "angry, neutral, warm", "90 in 20 groups", "5 trainings", "5 folds"):
        assert words in page.text
    for finding in study[1].findings:
        assert finding.verdict in page.text
    for warning in study[1].warnings:
        assert warning in page.text
    primary = next(finding for finding in study[1].findings if finding.primary)
    assert page.text.index("What this study is about") < page.text.index(primary.verdict)
    assert page.text.index(primary.verdict) < page.text.index("What weakens this")


def test_every_file_that_the_page_names_is_there(study, page):
    folder = study[1].report.parent
    named = [v for name in ("src", "href") for v in page.values(name) if not v.startswith(("#", "data:"))]
    assert len(named) > 60
    assert all(v.startswith("assets/") for v in named)
    assert [v for v in named if not (folder / v).is_file()] == []
    assert {path.stem for path in (folder / "assets").glob("*.js")} == set(SCRIPTS)
    here = {path.name for path in (folder / "assets" / "data").iterdir()}
    assert here == {"rows.js", "head-0.js", "charts-0.js", "texts.js", "part-00000.js"}
    assert {"findings.json", "typology.csv"} <= {
        path.name for path in (folder / "assets" / "tables").iterdir()
    }


def test_every_figure_is_a_picture_with_its_data(study, page):
    figures = {path.name for path in (study[1].report.parent / "assets" / "figures").iterdir()}
    stems = {Path(name).stem for name in figures}
    assert {"confidence", "raters", "gates", "risk", "people", "floor"} <= set(page.values("data-chart"))
    assert len(stems) == page.tags.count("figure") == page.tags.count("figcaption") == page.tags.count("img")
    assert figures == {f"{stem}.{suffix}" for stem in stems for suffix in ("svg", "png", "csv")}
    assert all(len(alt) > 20 for alt in page.values("alt", of="img"))


def test_the_page_is_accessible_in_its_parts(page):
    assert ("html", "lang", "en") in page.attributes
    assert page.tags.count("main") == page.tags.count("h1") == 1
    assert page.tags.count("table") == page.tags.count("caption") == 3
    assert len(page.values("scope", of="th")) == page.tags.count("th")
    assert [value for value, n in Counter(page.values("id")).items() if n > 1] == []
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(value in page.values("id") for value in page.values("aria-labelledby"))
    assert {"filters", "table", "detail", "explorer", "pictures", "findings"} <= set(page.values("id"))
    assert "noscript" in page.tags


def test_the_policy_allows_files_alone(study, page):
    policy = next(v for v in page.values("content", of="meta") if "default-src" in v)
    assert policy.startswith("default-src 'none'; script-src 'self' file:;")
    assert "eval" not in policy
    assert "http" not in policy
    html = study[1].report.read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|javascript:", html)


def test_hostile_names_stay_text(tmp_path):
    name = HOSTILE.format(i=0)
    rng = np.random.default_rng(0)
    predictions, truth, _ = planted_predictions(rng, 40, head="</h3><script>x</script>'\"")
    classes = {"warm": name, "angry": "%s{{x}}", "neutral": "\u202e\u2028"}
    predictions = predictions.rename(columns={f"p_{old}": f"p_{new}" for old, new in classes.items()})
    predictions = predictions.replace({"label_true": classes, "label_pred": classes})
    corpus = corpus_of(truth)
    table = corpus.utterances.assign(label=corpus.utterances["label"].map(classes), group=name)
    store = Store.create(tmp_path / "st", type(corpus)(name=name, utterances=table))
    gates = pd.DataFrame(columns=["head", "modalities", "utterance_id", "modality", "gate", "contribution"])
    labels = [classes[label] for label in CLASSES]
    Run(
        predictions, gates, metrics_of(predictions), {"classes": labels, "target": "label", "kind": "nominal"}
    ).save(store, "odd")
    result = analyze(store, "odd", questions=BASE[:1], resamples=100, refit=False)
    page = Page.of(result.report)
    assert page.tags.count("script") == len(SCRIPTS) + 2
    assert set(page.tags) <= {*(tag for tag in page.tags if tag != "img"), "img"}
    assert all(src.startswith("assets/figures/") for src in page.values("src", of="img"))
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert '<script>alert("0")</script>' in page.text
    assert json.loads(page.values("data-head-names")[0]) == result.heads


def test_what_is_missing_is_said_and_left_out(tmp_path):
    store = study_store(tmp_path / "st", n=60, n_groups=0, n_seeds=1, rated=False, gated=False)
    result = analyze(store, "study", resamples=100, refit=False, report=tmp_path / "elsewhere")
    assert result.report == tmp_path / "elsewhere" / "index.html"
    page = Page.of(result.report)
    for words in ("no groups", "no ratings", "at least 5 seeds"):
        assert words in page.text
    assert not {"raters", "gates", "people"} & set(page.values("data-chart"))
    assert result.table("link").empty
    assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", page.text.lower())


def test_several_heads_each_have_their_part(tmp_path):
    gated, truth, _ = planted_predictions(np.random.default_rng(0), 60)
    single = gated[(gated["seed"] == 0) & (gated["utterance_id"] > "u0009")].assign(head="logistic")
    single["model"] = "logistic:" + single["modalities"]
    predictions = pd.concat([gated, single], ignore_index=True)
    store = Store.create(tmp_path / "st", corpus_of(truth))
    gates = pd.DataFrame(columns=["head", "modalities", "utterance_id", "modality", "gate", "contribution"])
    Run(predictions, gates, metrics_of(predictions), {"classes": list(CLASSES)}).save(store, "two")
    result = analyze(store, "two", questions=BASE, resamples=100, refit=False)
    assert result.heads == ["gated", "logistic"]
    page = Page.of(result.report)
    assert [v for v in page.values("href") if v.startswith("#head")] == ["#head-1", "#head-2"]
    assert page.values("data-heads") == ["2"]
    assert page.values("data-head") == ["0", "1"]
    data = result.report.parent / "assets" / "data"
    assert {"head-0.js", "head-1.js", "charts-0.js", "charts-1.js"} <= {path.name for path in data.iterdir()}


def test_interval_targets_have_a_report(tmp_path):
    drawn = draw(np.random.default_rng(0), Design(n=80, kind="interval", n_seeds=2))
    store = drawn.store(tmp_path / "st")
    drawn.run().save(store, "values")
    result = analyze(store, "values", questions=BASE, resamples=100, refit=False)
    page = Page.of(result.report)
    assert "in standard deviations of the truth" in page.text
    assert {"confidence", "floor"} <= set(page.values("data-chart"))
    for finding in result.findings:
        assert finding.verdict in page.text
    assert "types" not in page.values("data-chart")


def test_without_disagreement_there_is_no_report(study):
    store, before = study
    result = analyze(store, "study", questions=["agreement"], resamples=100)
    assert result.report is None
    assert before.report.is_file()


def test_an_unknown_run_is_refused(study):
    with pytest.raises(UsageError, match="study"):
        analyze(study[0], "nothing")


def write_small_report(folder, said):
    with new_report(folder) as new:
        (new / "assets" / "clips").mkdir(parents=True, exist_ok=True)
        (new / "index.html").write_text(f"{MARK}{said}")


def test_a_new_report_takes_the_place_of_the_old_one_and_keeps_its_clips(tmp_path):
    folder = tmp_path / "out"
    write_small_report(folder, "old")
    (folder / "assets" / "clips" / "a.mp4").write_bytes(b"clip")
    (folder / "assets" / "gone.js").write_text("")
    write_small_report(folder, "new")
    assert "new" in (folder / "index.html").read_text()
    assert (folder / "assets" / "clips" / "a.mp4").read_bytes() == b"clip"
    assert not (folder / "assets" / "gone.js").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def interrupted(folder, error):
    with new_report(folder) as new:
        (new / "index.html").write_text("half")
        (new / "assets" / "clips" / "b.mp4").write_bytes(b"cut")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_writing_that_is_interrupted_leaves_the_old_report(tmp_path, error):
    folder = tmp_path / "out"
    write_small_report(folder, "old")
    (folder / "assets" / "clips" / "a.mp4").write_bytes(b"clip")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(error):
        interrupted(folder, error)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    with new_report(folder) as new:
        assert {path.name for path in new.rglob("*") if path.is_file()} == {"a.mp4", "b.mp4"}
        (new / "index.html").write_text(MARK)


def test_a_report_that_was_killed_while_it_was_exchanged_comes_back(tmp_path):
    write_small_report(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(OSError, match="full"), new_report(tmp_path / "out"):
        raise OSError("disk full")
    assert "old" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("there", ["notes.txt", "index.html", "assets/x.png"])
def test_a_folder_that_holds_something_else_is_refused_before_any_work(study, tmp_path, there):
    file = tmp_path / "mine" / there
    file.parent.mkdir(parents=True)
    file.write_text("<p>my own page</p>")
    with pytest.raises(UsageError, match=rf"--report .*mine: holds '{there.split('/')[0]}'.*another folder"):
        analyze(study[0], "study", report=tmp_path / "mine")
    assert file.read_text() == "<p>my own page</p>"


def test_a_report_beside_files_of_others_is_not_replaced(tmp_path):
    write_small_report(tmp_path / "out", "old")
    check_report_folder(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        write_small_report(tmp_path / "out", "new")
    with pytest.raises(UsageError, match="is a file"):
        check_report_folder(tmp_path / "out" / "notes.txt")


def finding(question, p=nan, *, primary=False, quantity="x", estimate=0.0):
    said = f"{question} {quantity} {p} {estimate}"
    return Finding(question, quantity, estimate, nan, nan, p, 1, 1, "", primary, said, p_adjusted=p)


def test_the_story_has_few_sentences_and_loses_none():
    findings = [finding(f"q{i}", 0.01 if i % 2 else 0.5) for i in range(15)]
    findings += [finding("q3", 0.001, quantity="clearest"), finding("q0", quantity="untested")]
    findings += [finding("q1", 0.2, primary=True), finding("q9", 0.3, primary=True)]
    story = tell(findings)
    assert len(story.primary) + len(story.told) == MOST_TOLD
    assert [q.text for q in story.told] == ["q0", "q1", "q3", "q5", "q7", "q9", "q11", "q13"]
    assert next(q for q in story.told if q.text == "q3").clearest.quantity == "clearest"
    every = [*story.primary, *(f for q in (*story.told, *story.further) for f in (q.clearest, *q.others))]
    assert sorted(f.verdict for f in every) == sorted(f.verdict for f in findings)


def test_of_types_the_largest_share_is_told():
    rare = finding(TYPES, 0.001, quantity="harmed, share", estimate=0.01)
    common = finding(TYPES, 0.4, quantity="agree right, share", estimate=0.6)
    other = finding(TYPES, quantity="misled by text, confirmed", estimate=0.9)
    assert tell([rare, common, other]).told[0].clearest is common


def test_the_libraries_are_classic_scripts_with_a_notice(tmp_path):
    write_libraries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "bokeh.min.js",
        "datatables.js",
        "datatables.css",
        "NOTICE.txt",
    }
    table = (tmp_path / "datatables.js").read_text(encoding="utf-8")
    assert "globalThis.DataTable=" in table
    assert not re.search(r"\bexport\s*\{", table)
    notice = (tmp_path / "NOTICE.txt").read_text(encoding="utf-8")
    for words in ("bokeh 3", "itables 2", "BSD", "MIT License", "DataTables", "jQuery"):
        assert words in notice


@pytest.mark.parametrize("module", ["var a;", "export{a as b};", "export{a as default};export{b};"])
def test_another_bundle_than_is_known_is_refused(module):
    with pytest.raises(MixedSignalsError, match=r"itables 9\.9.*default export"):
        as_classic(module, "itables 9.9")


def test_a_module_becomes_a_script_that_sets_its_default():
    script = as_classic("var a=1,b=2;export{b as default,a as c};\n// end", "x 1")
    assert "globalThis.DataTable=b;" in script
    assert "export" not in script
