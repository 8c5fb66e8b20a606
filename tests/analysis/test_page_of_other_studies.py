"""The page of studies that lack something, of interval targets, of a few questions; clips; the page as it is served."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from browser import inside, watched
from planted_study import Design, draw
from report_page import ReportPage
from report_study import report_store, write_media

from mixed_signals.analysis.analysis import analyze

TWO = ("disagreement", "typology")


def quickly(store, folder, **options):
    return analyze(store, "study", refit=False, resamples=100, report=folder, **options)


def test_an_interval_target_is_explored_by_its_values(tmp_path, open_page):
    drawn = draw(
        np.random.default_rng(0), Design(n=120, n_groups=12, kind="interval", conflict={"audio": 0.2})
    )
    store = drawn.store(tmp_path / "st")
    drawn.run(np.random.default_rng(1)).save(store, "study")
    result = quickly(store, tmp_path / "out")
    table = result.table("utterances").sort_values(["spread", "utterance_id"], ascending=[False, True])
    page = ReportPage(open_page(result.report))
    assert page.count == 120
    assert page.ids() == table["utterance_id"][: len(page.ids())].tolist()
    middle = round(float(table["spread"].median()), 2)
    page.range("spread", middle)
    page.wait(int((table["spread"] >= middle).sum()))
    row = table.iloc[0]
    page.page.get_by_role("button", name="Clear all").click()
    page.open(row["utterance_id"])
    said = page.detail.inner_text().replace("−", "-")
    for model in ("text", "audio", "video", "fusion"):
        assert f"{row[f'y_{model}']:.2f}" in said
    page.brush("confidence", (0.3, 1.0), (0.3, 1.0))
    page.page.wait_for_function("() => MixedSignals.state.brushes.confidence")
    sides = page.state()["brushes"]["confidence"].values()
    kept = table
    for side in sides:
        kept = kept[kept[side["column"]].between(side["low"], side["high"])]
    page.wait(len(kept))


def test_a_study_without_ratings_groups_gates_and_media_opens(tmp_path, open_page):
    store = report_store(tmp_path / "st", n=60, rated=False, grouped=False, gated=False)
    page = ReportPage(open_page(quickly(store, tmp_path / "out").report))
    assert page.count == 60
    assert page.page.locator("#filters details[data-column='group']").count() == 0
    page.open(page.ids()[0])
    said = page.detail.inner_text()
    assert "No ratings" in said
    assert "no recording" in said
    assert page.page.locator("figure[data-chart='raters']").count() == 0
    assert page.page.get_by_role("combobox", name="Head").count() == 0


def test_two_questions_alone_have_a_page(tmp_path, open_page):
    store = report_store(tmp_path / "st", n=60)
    result = quickly(store, tmp_path / "out", questions=TWO)
    page = ReportPage(open_page(result.report))
    assert page.count == 60
    level = result.table("utterances")["type"].value_counts()
    page.choose("type", level.index[0])
    page.wait(int(level.iloc[0]))


def test_one_utterance_of_each_class_is_enough(tmp_path, open_page):
    store = report_store(tmp_path / "st", n=4)
    page = ReportPage(open_page(quickly(store, tmp_path / "out").report))
    assert page.count == 4


@pytest.fixture(scope="module")
def clipped(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clipped")
    store = report_store(
        folder / "st", n=12, media_root=write_media(folder / "media"), files=("old.mpg", "sound.wav")
    )
    return store, quickly(store, folder / "out", clips=True, questions=TWO)


def play(page):
    """Play what is open to its end; return where the player was when it stopped, and how long its file is."""
    page.page.wait_for_function("() => document.querySelector('#detail :is(audio, video)')?.readyState > 0")
    page.detail.get_by_role("button", name="Play").click()
    page.page.wait_for_function("() => !document.querySelector('#detail :is(audio, video)').paused")
    page.page.wait_for_function("() => document.querySelector('#detail :is(audio, video)').paused")
    return page.page.evaluate(
        "[document.querySelector('#detail :is(audio, video)')].map((tag) => [tag.currentTime, tag.duration])[0]"
    )


def test_clips_are_as_long_as_their_utterances_and_play_wherever_the_folder_goes(
    clipped, tmp_path, open_page
):
    moved = shutil.copytree(clipped[1].report.parent, tmp_path / "sent to a colleague")
    page = ReportPage(open_page(moved / "index.html"))
    for number, kind in ((0, "video"), (1, "audio")):
        page.open(f"u000{number}")
        tag = page.detail.locator(kind)
        tag.wait_for(state="attached")
        address = tag.evaluate("(tag) => tag.currentSrc || tag.src")
        assert inside(moved / "assets" / "clips", address)
        at, length = play(page)
        assert length == pytest.approx(0.6, abs=0.15)
        assert at == pytest.approx(0.6, abs=0.15)


@pytest.fixture
def served(clipped, tmp_path):
    """The address of a page as `mixed-signals explore` serves it, of a report that links recordings."""
    store, _ = clipped
    quickly(store, tmp_path / "linked", questions=TWO)
    command = [sys.executable, "-m", "mixed_signals.analysis.explore_cli", str(store.path), "--no-browser"]
    command += ["--report", str(tmp_path / "linked")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            lines = iter(server.stdout.readline, "")
            yield next(
                found.group() for line in lines if (found := re.search(r"http://127\.0\.0\.1:\S+", line))
            )
        finally:
            server.terminate()


def test_a_served_page_is_the_same_and_plays_by_range(served, browser):
    with watched(browser, allowed=(served,)) as context:
        tab = context.new_page()
        tab.goto(served)
        page = ReportPage(tab)
        assert page.count == 12
        for utterance, kind, end, source in (
            ("u0001", "audio", 1.7, "media?id=u0001"),
            ("u0000", "video", 0.6, "assets/clips/"),
        ):  # linked, and cut from MPEG-1
            page.open(utterance)
            assert source in page.detail.locator(kind).get_attribute("src")
            at, _ = play(page)
            assert at == pytest.approx(end, abs=0.15)
        part = context.request.get(f"{served}media?id=u0001", headers={"Range": "bytes=1000-1099"})
        assert (part.status, len(part.body())) == (206, 100)
        page.choose("label_true", "angry")
        assert "label_true=angry" in tab.url
