"""The report in a real browser: filters, brushes, the address, players, keys, both themes, windows of any width."""

from __future__ import annotations

from itertools import pairwise

import pytest
from browser import contrast
from report_page import ReportPage
from report_study import report_store, write_media

from mixed_signals.analysis.analysis import analyze


@pytest.fixture(scope="module")
def made(browser, tmp_path_factory):
    """The report of a study of two heads with media, and what the analysis found."""
    folder = tmp_path_factory.mktemp("study")
    store = report_store(folder / "st", heads=("gated", "logistic"), media_root=write_media(folder / "media"))
    return analyze(store, "study", refit=False, resamples=100, report=folder / "report & more #1")


@pytest.fixture(scope="module")
def gated(made):
    """What pandas knows of the first head's utterances, in the order of the page."""
    table = made.table("utterances")
    table = table[table["head"] == "gated"].sort_values("utterance_id")
    return table.sort_values("jsd", ascending=False, kind="stable").reset_index(drop=True)


@pytest.fixture
def explorer(made, open_page):
    return ReportPage(open_page(made.report))


def differing(table, modality):
    return table[f"label_{modality}"] != table["label_fusion"]


def test_the_page_opens_with_all_utterances_most_disagreement_first(explorer, gated):
    assert explorer.count == len(gated) == 160
    assert explorer.ids() == gated["utterance_id"][: len(explorer.ids())].tolist()
    assert explorer.chips() == []


@pytest.mark.parametrize("column", ["type", "label_true", "group", "contested"])
def test_a_filter_keeps_what_pandas_keeps(explorer, gated, column):
    values = gated[column].map({True: "yes", False: "no"}) if column == "contested" else gated[column]
    level = values.value_counts().index[1]
    kept = gated[values == level]
    explorer.choose(column, level)
    explorer.wait(len(kept))
    assert explorer.ids() == kept["utterance_id"][: len(explorer.ids())].tolist()
    assert any(level in chip for chip in explorer.chips())


def test_several_levels_of_one_filter_are_any_of_them(explorer, gated):
    levels = gated["type"].value_counts().index[:3].tolist()
    explorer.choose("type", *levels)
    explorer.wait(int(gated["type"].isin(levels).sum()))


def test_modalities_that_differ_from_the_fusion_are_a_filter(explorer, gated):
    explorer.choose("differs", "audio")
    explorer.wait(int(differing(gated, "audio").sum()))
    explorer.choose("differs", "video")
    explorer.wait(int((differing(gated, "audio") | differing(gated, "video")).sum()))


def test_a_score_is_narrowed_from_both_ends(explorer, gated):
    explorer.range("jsd", 0.1, 0.5)
    explorer.wait(int(gated["jsd"].between(0.1, 0.5).sum()))
    explorer.range("jsd", 0.1, "")
    explorer.wait(int((gated["jsd"] >= 0.1).sum()))


def test_words_are_found_in_transcripts_and_ids(explorer, gated):
    explorer.page.get_by_label("Search", exact=True).fill("SAID. 7:")
    explorer.wait(int(gated["text"].str.contains("7:").sum()))
    explorer.page.get_by_label("Search", exact=True).fill("U0012")
    explorer.wait(1)
    explorer.page.get_by_label("Search", exact=True).fill("no such words")
    explorer.wait(0)


def test_filters_join_and_are_cleared_one_by_one_and_together(explorer, gated):
    label, group = gated["label_true"].iloc[0], gated["group"].iloc[0]
    explorer.choose("label_true", label)
    explorer.choose("group", group)
    explorer.range("jsd", 0.05)
    by_label, by_group = gated["label_true"] == label, gated["group"] == group
    high = gated["jsd"] >= 0.05
    explorer.wait(int((by_label & by_group & high).sum()))
    assert len(explorer.chips()) == 3
    explorer.page.locator("#chips").get_by_role("button", name=group).click()
    explorer.wait(int((by_label & high).sum()))
    explorer.page.get_by_role("button", name="Clear all").click()
    explorer.wait(160)
    assert explorer.chips() == []
    assert "#" not in explorer.page.url.replace("%23", "")


def test_filters_stay_where_they_are_while_charts_above_them_are_drawn(explorer):
    far = explorer.page.evaluate(
        """async () => {
          const place = document.querySelector("#filters");
          const frame = () => new Promise(requestAnimationFrame);
          const begun = () => [...document.querySelectorAll("figure.live")];
          place.scrollIntoView({ block: "center" });
          const first = place.getBoundingClientRect().y;
          let far = 0;
          while (!begun().length || begun().some((each) => !each.dataset.drawn)) {
            await frame();
            far = Math.max(far, Math.abs(place.getBoundingClientRect().y - first));
          }
          return far;
        }"""
    )
    assert far < 100  # pixels


def test_another_head_has_its_own_columns(explorer, made):
    table = made.table("utterances")
    other = table[table["head"] == "logistic"].sort_values("utterance_id")
    explorer.page.get_by_role("combobox", name="Head").select_option("logistic")
    kept = other[differing(other, "text")]
    explorer.choose("differs", "text")
    explorer.wait(len(kept))
    assert explorer.page.evaluate("MixedSignals.state.head") == 1


def test_a_click_on_a_header_sorts(explorer, gated):
    header = explorer.page.locator("#table thead th", has_text="utterance").first
    header.click()
    rising = sorted(gated["utterance_id"])
    explorer.page.wait_for_function(
        "(id) => document.querySelector('#table tbody tr[data-row] th').innerText === id", arg=rising[0]
    )
    assert explorer.ids() == rising[: len(explorer.ids())]
    assert header.get_attribute("aria-sort") == "ascending"


def test_the_next_page_of_the_table_goes_on(explorer, gated):
    first = explorer.ids()
    explorer.page.get_by_role("link", name="Next", exact=True).click()
    explorer.page.wait_for_function(
        "(id) => document.querySelector('#table tbody tr[data-row] th').innerText !== id", arg=first[0]
    )
    assert explorer.ids() == gated["utterance_id"][len(first) : len(first) + len(explorer.ids())].tolist()


# Brushes --------------------------------------------------------------------------------------------------------------


def in_box(table, brush):
    sides = [table[side["column"]].between(side["low"], side["high"]) for side in brush.values()]
    return table[sides[0] & sides[1]]


@pytest.fixture
def with_confidences(gated):
    """The same by the names that columns have in the page."""
    return gated.rename(columns=lambda name: name.replace("p_label_", "confidence_"))


def test_a_box_drawn_in_a_picture_filters_the_others_and_the_table(explorer, with_confidences):
    for chart in ("raters", "types"):
        explorer.drawn(chart)
    explorer.brush("confidence", (0.1, 0.95), (0.3, 1.0))
    explorer.page.wait_for_function("() => MixedSignals.state.brushes.confidence")
    brush = explorer.state()["brushes"]["confidence"]
    assert [side["column"].split("_")[-1] for side in brush.values()] == ["text", "fusion"]
    kept = in_box(with_confidences, brush)
    assert 5 < len(kept) < 155
    explorer.wait(len(kept))
    assert explorer.ids() == kept["utterance_id"][: len(explorer.ids())].tolist()
    assert len(explorer.chips()) == 1
    for chart in ("raters", "types"):
        figure = explorer.drawn(chart)
        explorer.page.wait_for_function(
            "([figure, n]) => figure.dataset.points === n", arg=[figure.element_handle(), str(len(kept))]
        )


def test_boxes_in_two_pictures_and_a_filter_join(explorer, with_confidences):
    explorer.brush("confidence", (0.1, 1.0), (0.2, 1.0), panel=1)
    explorer.page.wait_for_function("() => MixedSignals.state.brushes.confidence")
    explorer.brush("raters", (0.02, 0.7), (0.02, 1.0))
    explorer.page.wait_for_function("() => MixedSignals.state.brushes.raters")
    label = with_confidences["label_true"].iloc[0]
    explorer.choose("label_true", label)
    kept = with_confidences[with_confidences["label_true"] == label]
    for brush in explorer.state()["brushes"].values():
        kept = in_box(kept, brush)
    assert len(kept) > 0
    explorer.wait(len(kept))


# The address ----------------------------------------------------------------------------------------------------------


def test_an_address_shows_another_person_the_same_view(made, explorer, open_page):
    explorer.choose("type", "agree right")
    explorer.range("jsd", 0.001, 0.9)
    explorer.brush("confidence", (0.2, 1.0), (0.2, 1.0))
    explorer.page.locator("#table thead th", has_text="utterance").first.click()
    explorer.page.get_by_label("Search", exact=True).fill("line")
    explorer.page.wait_for_function(
        "() => MixedSignals.state.find === 'line' && MixedSignals.state.sort === 'utterance_id'"
    )
    explorer.page.locator("#table tbody tr[data-row]").nth(2).wait_for()
    explorer.open(explorer.ids()[2])
    state, said, ids = explorer.state(), explorer.said, explorer.ids()
    assert state["row"] is not None
    assert state["brushes"]
    other = ReportPage(open_page(made.report, "#" + explorer.page.url.split("#", 1)[1]))
    other.wait(int(said.split()[0].replace(",", "")))
    assert (other.state(), other.said, other.ids()) == (state, said, ids)
    assert other.chips() == explorer.chips()
    assert other.detail.get_by_role("heading").first.inner_text() == ids[2]


def test_back_and_forward_go_through_views(explorer, gated):
    label = gated["label_true"].iloc[0]
    explorer.choose("label_true", label)
    kept = int((gated["label_true"] == label).sum())
    explorer.wait(kept)
    explorer.page.go_back()
    explorer.wait(160)
    explorer.page.go_forward()
    explorer.wait(kept)


def test_an_address_of_what_is_not_there_shows_the_rest(made, open_page):
    fragment = (
        "#constructor=x&__proto__=y&range.__proto__=0..1&brush.constructor=x:jsd:0..1&brush.__proto__=x:jsd:0..1"
        "&range.jsd=low..high&head=nothing&sort=-nothing&row=nobody&type=no+such+type&%%%=&<b>=1"
    )
    page = ReportPage(open_page(made.report, fragment))
    assert page.page.evaluate("MixedSignals.state.filters") == {}
    page.wait(160)
    assert page.page.evaluate("MixedSignals.state.brushes") == {}
    assert page.page.evaluate("[({}).x, ({}).jsd]") == [None, None]


# The open utterance ---------------------------------------------------------------------------------------------------


def test_an_open_utterance_says_what_everybody_thought(explorer, made, gated):
    row = gated[gated["utterance_id"].isin(explorer.ids())].iloc[3]
    explorer.open(row["utterance_id"])
    said = explorer.detail.inner_text()
    assert row["text"] in said
    for words in (row["group"], row["label_true"], row["type"], "gate", "contribution"):
        assert words in said
    for model in ("text", "audio", "video", "fusion"):
        assert f"{row[f'p_label_{model}']:.2f}" in said
    votes = explorer.detail.get_by_role("table", name="Votes")
    assert "text+audio+video" in votes.inner_text()
    assert all(count.split()[1] in votes.inner_text() for count in row["votes"].split(", "))


def played(page, selector):
    """Press play, and return where the player was at every event, and where it stopped by itself."""
    return page.evaluate(
        """async (selector) => {
          const tag = document.querySelector(selector);
          if (tag.readyState < 1) await new Promise((then) => tag.addEventListener("loadedmetadata", then));
          const times = [];
          const note = () => times.push(tag.currentTime);
          const stopped = new Promise((then) => tag.addEventListener("pause", then, { once: true }));
          const begun = new Promise((then) => tag.addEventListener("playing", then, { once: true }));
          document.querySelector("#detail button.play").click();
          await begun;
          note();
          tag.addEventListener("timeupdate", note);
          await stopped;
          note();
          tag.removeEventListener("timeupdate", note);
          return times;
        }""",
        selector,
    )


@pytest.mark.parametrize(("kind", "file"), [("audio", "sound.wav"), ("video", "film.mp4")])
def test_a_recording_plays_from_its_start_to_its_end_and_again(explorer, made, gated, kind, file):
    number = {"audio": 0, "video": 1}[kind]
    chosen = next(i for i in gated["utterance_id"] if int(i[1:]) % 4 == number and int(i[1:]) % 30 > 5)
    start = 1 + 0.1 * (int(chosen[1:]) % 30)
    explorer.page.get_by_label("Search", exact=True).fill(chosen)
    explorer.wait(1)
    explorer.open(chosen)
    explorer.detail.locator(kind).wait_for(state="attached")
    assert explorer.detail.locator(kind).get_attribute("src").endswith(file)
    for _ in range(2):
        times = played(explorer.page, f"#detail {kind}")
        assert abs(times[0] - start) < 0.1
        assert abs(times[-1] - (start + 0.6)) < 0.15
        assert max(times) < start + 0.6 + 0.15
    assert explorer.detail.get_by_role("button", name="Play").is_visible()


def test_what_has_no_recording_says_so(explorer, gated):
    chosen = next(i for i in gated["utterance_id"][:25] if int(i[1:]) % 4 == 3)
    explorer.open(chosen)
    assert explorer.detail.locator("audio, video").count() == 0
    assert "no recording" in explorer.detail.inner_text()


# Keys -----------------------------------------------------------------------------------------------------------------


def test_keys_go_on_and_back_play_and_close(explorer, gated):
    keyboard = explorer.page.keyboard
    ids = explorer.ids()
    explorer.open(ids[0])
    for key, at in (("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("k", 0)):
        keyboard.press(key)
        explorer.page.wait_for_function(
            "(id) => document.querySelector('#detail-title').innerText === id", arg=ids[at]
        )
    while explorer.detail.locator("audio, video").count() == 0:
        keyboard.press("j")
        explorer.page.wait_for_timeout(100)
    tag = explorer.detail.locator("audio, video")
    explorer.page.wait_for_function(
        "() => document.querySelector('#detail :is(audio, video)').readyState > 0"
    )
    keyboard.press("Space")
    explorer.page.wait_for_function("() => !document.querySelector('#detail :is(audio, video)').paused")
    keyboard.press("Space")
    assert tag.evaluate("(tag) => tag.paused")
    keyboard.press("Escape")
    explorer.detail.wait_for(state="hidden")
    assert explorer.state()["row"] is None
    assert explorer.page.evaluate("document.activeElement.matches('#table button')")


def test_keys_go_past_the_end_of_a_page_of_the_table(explorer, gated):
    ids = explorer.ids()
    explorer.open(ids[-1])
    explorer.page.keyboard.press("j")
    following = gated["utterance_id"][len(ids)]
    explorer.detail.get_by_role("heading", name=following).wait_for()
    explorer.page.get_by_role("button", name=f"Open {following}", exact=True).wait_for()


def test_keys_mean_nothing_while_one_types(explorer):
    explorer.open(explorer.ids()[0])
    row = explorer.state()["row"]
    explorer.page.keyboard.press("/")
    search = explorer.page.get_by_label("Search", exact=True)
    assert search.evaluate("(field) => field === document.activeElement")
    explorer.page.keyboard.type("jk ?/")
    assert search.input_value() == "jk ?/"
    assert explorer.state()["row"] == row
    assert explorer.page.get_by_role("dialog").count() == 0


def test_a_question_mark_lists_the_keys(explorer):
    explorer.page.locator("body").press("?")
    dialog = explorer.page.get_by_role("dialog")
    dialog.wait_for()
    assert "next utterance" in dialog.inner_text()
    explorer.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


# How it looks ---------------------------------------------------------------------------------------------------------

COLOURS = """(selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility())
.map((element) => {
  let behind = element;
  const colour = (e) => getComputedStyle(e).backgroundColor;
  while (behind.parentElement && /, 0\\)$|transparent/.test(colour(behind))) behind = behind.parentElement;
  return [getComputedStyle(element).color, colour(behind), element.textContent.trim().slice(0, 40)];
})"""
READ = (
    "body", "#findings *", "#warnings *", "figcaption", "#table td", "#table th", "#table td *", "button", "summary",
    "#detail *", "#chips *", "label", "a", "nav *", "caption", "h1", "h2", "h3", "input", "select", "dt", "dd",
)  # fmt: skip


def test_all_text_can_be_read_in_light_and_in_dark(explorer):
    explorer.choose("type", "agree right")
    explorer.open(explorer.ids()[0])
    explorer.choice("group")
    backgrounds = []
    for scheme in ("light", "dark"):
        explorer.page.emulate_media(color_scheme=scheme)
        explorer.page.wait_for_timeout(300)  # transitions
        colours = [each for selector in READ for each in explorer.page.evaluate(COLOURS, selector)]
        backgrounds.append(explorer.page.evaluate(COLOURS, "body")[0][1])
        weak = {(round(contrast(ink, behind), 2), ink, behind, text) for ink, behind, text in colours if text}
        assert len(weak) > 50
        assert [each for each in sorted(weak) if each[0] < 4.5] == []
    assert backgrounds[0] != backgrounds[1]
    assert contrast("rgb(0, 0, 0)", backgrounds[0]) > 15 > 5 > contrast("rgb(0, 0, 0)", backgrounds[1])


@pytest.mark.parametrize("width", [480, 1600])
def test_a_window_of_any_width_scrolls_down_only(made, open_page, width):
    page = ReportPage(open_page(made.report, viewport={"width": width, "height": 800}))
    page.open(page.ids()[0])
    for chart in ("confidence", "raters"):
        page.drawn(chart)
    too_wide = page.page.evaluate(
        """() => document.documentElement.scrollWidth > innerWidth
          ? [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
            .map((e) => `${e.tagName} ${e.id} ${e.className}`).slice(0, 10) : []"""
    )
    assert too_wide == []


CUT = """(figure) => [...figure.querySelectorAll(".chart-panels > div")].flatMap((place, i) => {
  const view = Object.values(Bokeh.index.roots ?? Bokeh.index).find((each) => place.contains(each.el));
  const { model, frame: { bbox } } = view;
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "13px helvetica, sans-serif";
  const axis = model.below.find((each) => each.type.endsWith("Axis"));
  const middle = bbox.left + bbox.width / 2;
  const free = 2 * Math.min(middle, view.bbox.width - middle);
  const cut = axis.axis_label.split("\\n").filter((line) => pen.measureText(line).width > free);
  if (figure.dataset.chart !== "types") return cut;
  pen.font = "11px helvetica, sans-serif";
  const { n, words } = model.document.get_model_by_name("all").data;
  const ends = words.map((said, k) => view.frame.x_scale.compute(n[k]) + 4 + pen.measureText(said).width);
  return [...cut, ...words.filter((said, k) => ends[k] > bbox.right)];
})"""


@pytest.mark.parametrize("width", [400, 1280])
def test_no_title_and_no_value_of_a_chart_is_cut_off(made, open_page, width):
    explorer = ReportPage(open_page(made.report))
    explorer.page.set_viewport_size({"width": 1280, "height": 900})
    explorer.drawn("types")  # and then the window changes
    explorer.page.set_viewport_size({"width": width, "height": 900})
    for chart in ("confidence", "raters", "gates", "types", "risk", "floor", "people"):
        figure = explorer.drawn(chart)
        explorer.page.wait_for_timeout(300)
        assert figure.evaluate(CUT) == [], chart


def test_charts_follow_the_theme(explorer):
    figure = explorer.drawn("confidence")
    light = figure.screenshot()
    explorer.page.emulate_media(color_scheme="dark")
    explorer.page.wait_for_timeout(300)
    assert figure.screenshot() != light
    assert int(figure.get_attribute("data-points")) == 160


# Without scripts, and for those who do not see it ---------------------------------------------------------------------


def test_without_scripts_the_page_still_reads(made, open_page):
    page = open_page(made.report, java_script_enabled=False)
    text = page.locator("body").text_content()
    for finding in made.findings:
        assert " ".join(finding.verdict.split()) in " ".join(text.split())
    for warning in made.warnings:
        assert " ".join(warning.split()) in " ".join(text.split())
    images = page.locator("#pictures img")
    assert images.count() >= 5
    for image in images.all():
        assert image.get_attribute("alt")


def test_headings_are_in_order_and_pictures_have_words(explorer):
    explorer.open(explorer.ids()[0])
    levels = [
        int(tag[1])
        for tag in explorer.page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].filter((e) => e.checkVisibility())"
            ".map((e) => e.tagName)"
        )
    ]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert explorer.page.locator("img:not([alt]), img[alt='']").count() == 0
    assert explorer.page.get_by_role("main").count() == 1


def test_every_control_has_a_name(explorer):
    explorer.open(explorer.ids()[0])
    explorer.choice("scores")
    cdp = explorer.page.context.new_cdp_session(explorer.page)
    nodes = cdp.send("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "checkbox", "combobox", "textbox", "searchbox", "spinbutton", "slider", "link"}
    found = [node for node in nodes if not node["ignored"] and node["role"]["value"] in controls]
    assert len(found) > 40
    nameless = [node for node in found if not node.get("name", {}).get("value", "").strip()]
    assert nameless == []


def test_the_tab_key_reaches_filters_table_and_open_utterance(explorer):
    explorer.open(explorer.ids()[0])
    explorer.page.locator("body").evaluate("(body) => { document.activeElement.blur(); scrollTo(0, 0); }")
    places = []
    for _ in range(160):
        explorer.page.keyboard.press("Tab")
        where = explorer.page.evaluate(
            "['filters', 'table', 'detail'].find((id) => document.activeElement.closest('#' + id)) ?? ''"
        )
        if where and where not in places:
            places.append(where)
        if len(places) == 3:
            break
    assert set(places) == {"filters", "table", "detail"}
