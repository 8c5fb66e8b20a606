"""What tests do with a report's page: read what it shows, choose, brush."""

from __future__ import annotations

import re


class ReportPage:
    """A page in the browser, by what stands on it.

    Parameters
    ----------
    page : Page
    """

    def __init__(self, page):
        self.page = page
        self.detail = page.locator("#detail")
        page.locator("#table tbody tr[data-row]").first.wait_for()

    @property
    def said(self):
        """How many utterances the page says that it shows, in words."""
        return self.page.locator("#count").inner_text()

    @property
    def count(self):
        """How many utterances the page says that it shows."""
        return int(re.match(r"[\d,]+", self.said).group().replace(",", ""))

    def wait(self, count):
        """Wait until the page says that it shows so many."""
        self.page.wait_for_function(
            "(n) => document.querySelector('#count').textContent.startsWith(n + ' ')", arg=f"{count:,}"
        )

    def ids(self):
        """Return the ids of the rows that the table shows now."""
        return self.page.locator("#table tbody tr[data-row] th").all_inner_texts()

    def choice(self, column):
        """Open the list of a column's levels; return it."""
        box = self.page.locator(f"#filters details[data-column='{column}']")
        while (
            box.get_attribute("open") is None
        ):  # a click goes astray where charts above take their place meanwhile
            box.locator("summary").click()
        box.locator(".levels > *, select").first.wait_for()
        return box

    def choose(self, column, *levels):
        """Tick levels in the list of a column."""
        box = self.choice(column)
        for level in levels:
            box.get_by_role("checkbox", name=re.compile(rf"^{re.escape(level)}\s*[\d,]*$")).check()
        box.locator("summary").click()

    def range(self, column, low="", high=""):
        """Narrow a score to a range."""
        box = self.choice("scores")
        box.get_by_label("Score", exact=True).select_option(column)
        box.get_by_label("Score from").fill(str(low))
        box.get_by_label("Score to").fill(str(high))
        box.locator("summary").click()

    def chips(self):
        """Return what stands on the chips."""
        return self.page.locator("#chips button").all_inner_texts()

    def open(self, utterance):
        """Open an utterance that the table shows."""
        self.page.get_by_role("button", name=f"Open {utterance}", exact=True).click()
        self.detail.get_by_role("heading", name=utterance).wait_for()

    def state(self):
        """Return what the address keeps."""
        return self.page.evaluate("JSON.parse(JSON.stringify(MixedSignals.state))")

    def drawn(self, chart):
        """Scroll to a chart and wait until it is drawn; return its figure."""
        figure = self.page.locator(f"figure[data-chart='{chart}']").locator("visible=true").first
        figure.scroll_into_view_if_needed()
        self.page.wait_for_function("(figure) => figure.dataset.points", arg=figure.element_handle())
        return figure

    def brush(self, chart, across, up, panel=0):
        """Draw a box in a panel of a chart, with the mouse; both sides are shares of the panel, from lower left."""
        figure = self.drawn(chart)
        plot = figure.locator(".chart-panels > div").nth(panel)
        plot.scroll_into_view_if_needed()
        inner = self.page.evaluate(INNER, [plot.element_handle(), panel])
        x, y = ([inner[k] + share * inner[k + 2] for share in shares] for k, shares in ((0, across), (1, up)))
        mouse = self.page.mouse
        mouse.move(x[0], y[0])
        mouse.down()
        mouse.move((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, steps=4)
        mouse.move(x[1], y[1], steps=4)
        mouse.up()


INNER = """([element, i]) => {
  const views = Object.values(Bokeh.index.roots ?? Bokeh.index);
  const root = element.querySelector(".bk-Figure") ?? element.firstElementChild;
  const box = root.getBoundingClientRect();
  const view = [...views].find((each) => each.el === root);
  const { left, top, width, height } = view.frame.bbox;
  return [box.left + left, box.top + top + height, width, -height];
}"""
