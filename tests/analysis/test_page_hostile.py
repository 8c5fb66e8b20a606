"""Ids, transcripts, labels, groups, raters, files, heads and corpora that attack the page are text and nothing else."""

from __future__ import annotations

import pytest
from hostile_study import ATTACKS, CORPUS, HEAD, LABELS, LONG, hostile_ids, hostile_store, hostile_texts
from report_page import ReportPage

from mixed_signals.analysis.analysis import analyze

N = 48


@pytest.fixture(scope="module")
def made(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    store = hostile_store(folder / "st", folder / "media", n=N)
    return analyze(store, "study", refit=False, resamples=100, report=folder / "re<b>port' #&%41")


@pytest.fixture
def explorer(made, open_page):
    return ReportPage(open_page(made.report))


def is_safe(page):
    """Say that nothing ran, nothing was made of the words, and no address leads anywhere but to files."""
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("Object.keys(Object.prototype)") == []
    handlers = page.evaluate(
        "[...document.querySelectorAll('*')]"
        ".filter((e) => [...e.attributes].some((a) => a.name.startsWith('on'))).length"
    )
    assert handlers == 0
    addresses = page.evaluate(
        "[...document.querySelectorAll('[src], [href]')].map((e) => String(e.src ?? e.href?.baseVal ?? e.href))"
    )
    assert addresses
    assert [
        a for a in addresses if a != "data:," and not a.startswith(("file:", "blob:", "data:image/"))
    ] == []


def test_nothing_runs_on_opening(explorer):
    is_safe(explorer.page)
    assert explorer.page.locator("h1").count() == 1
    assert (
        CORPUS in explorer.page.title()
        or CORPUS in explorer.page.locator("header, main").first.text_content()
    )


def test_every_utterance_shows_its_words_as_they_are(explorer):
    ids, texts = hostile_ids(N), hostile_texts(N)
    expected = dict(zip(ids, texts, strict=True))
    explorer.page.locator("#table button.open").first.click()
    seen = set()
    for _ in range(N):
        name = explorer.page.locator("#detail-title").text_content()
        transcript = explorer.detail.locator(".transcript")
        transcript.wait_for()
        assert name in expected
        if expected[name] == LONG:
            explorer.detail.get_by_role("button", name="Show all 50,000 characters").click()
        assert transcript.text_content() == expected[name]
        seen.add(name)
        explorer.page.keyboard.press("j")
        if len(seen) < N:
            explorer.page.wait_for_function(
                "(id) => document.querySelector('#detail-title').textContent !== id", arg=name
            )
    assert seen == set(expected)
    is_safe(explorer.page)


def test_ids_in_the_table_are_as_they_are(explorer):
    shown = explorer.page.locator("#table tbody tr[data-row] th").evaluate_all(
        "(all) => all.map((e) => e.textContent)"
    )
    assert len(shown) == 25
    assert set(shown) <= set(hostile_ids(N))


def test_levels_of_filters_are_as_they_are_and_filter(explorer, made):
    box = explorer.choice("group")
    shown = box.locator("label bdi").evaluate_all("(all) => all.map((e) => e.textContent)")
    assert set(shown) == {attack.strip() for attack in ATTACKS}
    for attack in ("__proto__", "constructor", ATTACKS[1]):
        box.locator("label").filter(has=explorer.page.get_by_text(attack, exact=True)).locator(
            "input"
        ).check()
    explorer.wait(9)
    chips = explorer.page.locator("#chips bdi").evaluate_all("(all) => all.map((e) => e.textContent)")
    assert set(chips) == {"__proto__", "constructor", ATTACKS[1]}
    labels = (
        explorer.choice("label_true")
        .locator("label bdi")
        .evaluate_all("(all) => all.map((e) => e.textContent)")
    )
    assert set(labels) == set(LABELS)
    is_safe(explorer.page)


def test_an_address_with_hostile_levels_and_ids_shows_the_same(explorer, made, open_page):
    box = explorer.choice("group")
    for attack in ATTACKS[:4] + ATTACKS[-5:]:
        box.locator("label").filter(has=explorer.page.get_by_text(attack, exact=True)).locator(
            "input"
        ).check()
    explorer.wait(27)
    explorer.page.locator("#table button.open").nth(3).click()
    explorer.detail.locator(".transcript").wait_for()
    other = ReportPage(open_page(made.report, "#" + explorer.page.url.split("#")[-1]))
    other.wait(27)
    assert other.state() == explorer.state()
    assert (
        other.page.locator("#detail-title").text_content()
        == explorer.page.locator("#detail-title").text_content()
    )
    is_safe(other.page)


def test_charts_and_their_tips_run_nothing(explorer):
    for chart in ("confidence", "raters", "gates", "types", "people"):
        if explorer.page.locator(f"figure[data-chart='{chart}']").count():
            figure = explorer.drawn(chart)
            box = figure.bounding_box()
            for k in range(1, 12):
                explorer.page.mouse.move(
                    box["x"] + box["width"] * k / 12, box["y"] + box["height"] * (k % 4 + 1) / 6
                )
    is_safe(explorer.page)


def test_another_head_named_by_an_attack_opens(explorer):
    head = explorer.page.get_by_role("combobox", name="Head")
    assert head.locator("option").first.text_content() == HEAD
    head.select_option("logistic")
    explorer.page.wait_for_function("() => MixedSignals.state.head === 1")
    is_safe(explorer.page)


def test_a_recording_with_a_hostile_name_plays(explorer):
    explorer.page.get_by_label("Search", exact=True).fill("text 18")
    explorer.wait(1)
    explorer.page.locator("#table button.open").first.click()
    tag = explorer.detail.locator("audio")
    tag.wait_for(state="attached")
    explorer.page.wait_for_function("() => document.querySelector('#detail audio').readyState > 0")
    explorer.detail.get_by_role("button", name="Play").click()
    explorer.page.wait_for_function("() => document.querySelector('#detail audio').currentTime > 0.6")
    is_safe(explorer.page)


def test_names_that_look_like_addresses_are_no_media(explorer):
    for number in (1, 2, 4):
        explorer.page.get_by_label("Search", exact=True).fill(hostile_ids(N)[number])
        explorer.page.locator("#table button.open").filter(
            has=explorer.page.get_by_text(hostile_ids(N)[number], exact=True)
        ).click()
        explorer.detail.locator(".transcript").wait_for()
        assert explorer.detail.locator("audio, video").count() == 0
        explorer.page.keyboard.press("Escape")
    is_safe(explorer.page)


def test_without_scripts_there_is_no_markup_either(made, open_page):
    page = open_page(made.report, java_script_enabled=False)
    assert page.locator("img:not([src^='assets/figures/'])").count() == 0
    assert page.locator("script:not([src^='assets/'])").count() == 0
    assert page.locator("[onload], [onerror], [onmouseover], [onclick]").count() == 0
    assert page.locator("a[href^='javascript'], a[href^='data']").count() == 0


def test_every_file_of_the_report_is_below_its_folder(made):
    folder = made.report.parent
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    assert all(str(file).startswith("assets/") or str(file) == "index.html" for file in files)
    outside = {file.name for file in folder.parent.iterdir()}
    assert outside == {"st", "media", folder.name}
    for file in folder.glob("assets/data/*.js"):
        written = file.read_bytes()
        assert max(written) < 128
        assert written.startswith(b"MixedSignals.receive(")
        assert written.count(b"\n") <= 1
