/**
 * Charts that take the place of the static figures: Bokeh's, filled from the rows on show, with brushes.
 *
 * `<figure data-chart="NAME">` with an `<img>` gets the chart NAME of charts-K once it comes near the window, and is
 * filled again whenever the view changes. The picture stays in the page for print. On a figure that is drawn stand
 * `data-drawn` (the head's number), `data-points` (how many rows are drawn in full colour) and, with a brush,
 * `data-brush`. Rows that are not shown stay where they are, faint, in every scatter: so one sees what is left of what,
 * and nothing moves.
 */
"use strict";

(() => {
  const NEAR = "400px";
  const OVERHANG = 30; // pixels by which the title of an axis may be longer than the axis
  const NARROW = 260; // pixels of an axis below which it has fewer ticks
  const REACH = 12; // pixels from a point within which a tap opens it
  const SYMBOLS = { circle: "●", x: "✕", bar: "■", line: "━", diamond: "◆", square: "■", tick: "❙" };
  const LIGHT_SCALE = [[214, 230, 244], [66, 146, 198], [8, 48, 107]];
  const DARK_SCALE = [[24, 62, 94], [66, 146, 198], [222, 240, 255]];
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const figures = document.querySelectorAll("figure[data-chart]");
  const near = new Set();
  const drawn = new Map(); // figure -> what draw() keeps of its chart
  let view = null;
  let head = 0; // whose columns the view has: state.head is ahead of it while those of another head load
  let theme = themeNow();

  // Colours

  function themeNow() {
    const ink = getComputedStyle(document.body ?? document.documentElement).color;
    return { ink, colour: (name) => (name === "ink" ? ink : name === "faint" ? "#8c8c8c" : name) };
  }

  /** 64 colours between those of the scale. */
  function palette() {
    const stops = dark.matches ? DARK_SCALE : LIGHT_SCALE;
    return Array.from({ length: 64 }, (_, i) => {
      const at = (i / 63) * (stops.length - 1);
      const k = Math.min(Math.floor(at), stops.length - 2);
      const mixed = stops[k].map((low, c) => Math.round(low + (at - k) * (stops[k + 1][c] - low)));
      return `rgb(${mixed.join(", ")})`;
    });
  }

  function setIfThere(model, values) {
    const own = Object.entries(values).filter(([name]) => name in model.properties);
    model.setv(Object.fromEntries(own));
  }

  /** Give everything in a document that is drawn in the colour of text that colour. */
  function paintInTheme(doc) {
    const { ink } = theme;
    for (const model of doc.all_models) {
      if (model.type.endsWith("Axis")) {
        setIfThere(model, {
          axis_label_text_color: ink, major_label_text_color: ink,
          axis_line_color: ink, axis_line_alpha: 0.4, major_tick_line_color: ink, major_tick_line_alpha: 0.4,
        });
      } else if (model.type === "Grid") setIfThere(model, { grid_line_color: ink, grid_line_alpha: 0.12 });
      else if (model.type === "ColorBar") {
        setIfThere(model, { title_text_color: ink, major_label_text_color: ink, major_tick_line_color: ink });
      } else if (model.name === "cells") model.palette = palette();
      if (model.tags.includes("ink")) setIfThere(model.glyph ?? model, { line_color: ink, text_color: ink });
    }
  }

  // Drawing

  /** Put the chart of the current head into a figure, or its picture where the head has no such chart. */
  async function draw(figure) {
    const kept = { head, chart: null };
    erase(figure);
    drawn.set(figure, kept);
    const chart = (await MixedSignals.load(`charts-${kept.head}`))[figure.dataset.chart];
    if (!chart || drawn.get(figure) !== kept) return;
    const host = document.createElement("div");
    host.className = "chart";
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", figure.querySelector("img")?.alt ?? figure.dataset.chart);
    const panels = host.appendChild(document.createElement("div"));
    panels.className = `chart-panels chart-${chart.kind}`;
    const places = Object.fromEntries(
      chart.plots.map((id) => [id, panels.appendChild(document.createElement("div"))]),
    );
    if (chart.legend) host.append(legendOf(chart.legend));
    if (chart.note) host.append(paragraph(chart.note));
    figure.prepend(host);
    figure.querySelector("figcaption")?.append(swapOf(figure));
    figure.classList.add("live");
    kept.host = host;
    const [views] = await Bokeh.embed.embed_items(
      { [chart.kind]: chart.doc },
      [{ docid: chart.kind, roots: places, root_ids: chart.plots }],
    );
    if (drawn.get(figure) !== kept) {
      views.clear();
      return;
    }
    const doc = Bokeh.documents.find((each) => each.get_model_by_id(chart.plots[0]) === views.roots[0].model);
    const titles = chart.plots.map((id) => axisBelow(doc.get_model_by_id(id)).axis_label);
    const memory = MixedSignals.chartData[chart.kind].prepare(chart, view.columns);
    Object.assign(kept, { chart, views, doc, titles, memory });
    listen(figure, kept);
    paintInTheme(doc);
    fill(figure, true);
    kept.sizes = new ResizeObserver(() => requestAnimationFrame(() => drawn.get(figure) === kept && fit(kept)));
    kept.sizes.observe(host);
    figure.dataset.drawn = String(kept.head);
  }

  function erase(figure) {
    const kept = drawn.get(figure);
    kept?.sizes?.disconnect();
    kept?.views?.clear();
    kept?.host?.remove();
    figure.querySelector(".swap")?.remove();
    figure.classList.remove("live", "as-picture");
    drawn.delete(figure);
    for (const name of ["drawn", "points", "brush"]) delete figure.dataset[name];
  }

  // Fitting into a narrow window

  const axisBelow = (plot) => plot.below.find((model) => model.type.endsWith("Axis"));

  /** Wrap the titles below panels to their widths, and leave room for what stands beside the longest bar. */
  function fit({ doc, chart, titles }) {
    chart.plots.forEach((id, i) => {
      const plot = doc.get_model_by_id(id);
      const axis = axisBelow(plot);
      const width = plot.inner_width;
      if (!(width > 0)) return;
      axis.axis_label = wrapped(titles[i], width + OVERHANG, widthIn(axis.axis_label_text_font_size));
      axis.ticker.desired_num_ticks = width < NARROW ? 4 : 6;
      if (chart.kind !== "types") return;
      const said = doc.get_model_by_name("all").get("words").map(widthIn("11px"));
      const beside = Math.min(0.6 * width, 12 + Math.max(0, ...said));
      plot.x_range.range_padding = Math.max(0.5, (2 * beside) / (width - beside)); // half of it on either side
    });
  }

  function widthIn(size) {
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `${size} helvetica, sans-serif`;
    return (text) => pen.measureText(text).width;
  }

  /** Break a text between words, so that no line is wider than it may be. */
  function wrapped(text, most, widthOf) {
    const lines = [];
    for (const word of text.split(" ")) {
      const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
      if (lines.length && widthOf(longer) <= most) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    return lines.join("\n");
  }

  function paragraph(text) {
    const element = document.createElement("p");
    element.className = "chart-note";
    element.textContent = text;
    return element;
  }

  /** A button that puts the picture, with its intervals, in the place of the chart, and back. */
  function swapOf(figure) {
    const words = () => (figure.classList.contains("as-picture") ? "Show the chart" : "Show the picture as printed");
    return MixedSignals.button(words(), ({ currentTarget }) => {
      figure.classList.toggle("as-picture");
      currentTarget.textContent = words();
    }, { class: "quiet swap" });
  }

  function legendOf(entries) {
    const list = document.createElement("ul");
    list.className = "chart-legend";
    for (const { level, colour, marker } of entries) {
      const item = list.appendChild(document.createElement("li"));
      const symbol = item.appendChild(document.createElement("span"));
      symbol.textContent = SYMBOLS[marker];
      symbol.dataset.colour = colour;
      symbol.style.color = theme.colour(colour);
      item.append(` ${level}`);
    }
    return list;
  }

  /** Fill the sources of a chart from the view: all, or where the rows on show are the same, the open row's. */
  function fill(figure, again = false) {
    const kept = drawn.get(figure);
    const { doc, chart, memory } = kept;
    if (chart.kind === "scatter" && (again || kept.row !== view.state.row)) {
      kept.row = view.state.row;
      doc.get_model_by_name("ring").data = MixedSignals.chartData.scatter.ring(memory, kept.row);
    }
    if (!again && kept.mask === view.mask) return;
    kept.mask = view.mask;
    const { count, images, shape, most, ...sources } = MixedSignals.chartData[chart.kind].fill(memory, view, theme);
    for (const [name, data] of Object.entries(sources)) {
      const source = doc.get_model_by_name(name);
      if (source) source.data = data;
    }
    for (const [name, values] of Object.entries(images ?? {})) {
      const source = doc.get_model_by_name(name);
      const Kind = source.get("image")[0].constructor; // Bokeh's array with a shape, which its bundle does not name
      source.data = { image: [new Kind(values, shape)] };
    }
    if (images) doc.get_model_by_name("cells").high = Math.max(2, most);
    showBrush(figure, kept);
    figure.dataset.points = String(count);
  }

  function showBrush(figure, { doc, chart }) {
    const brush = view.state.brushes[figure.dataset.chart];
    if (!chart.panels) return;
    chart.panels.forEach(({ x, y }, i) => {
      const mine = brush && (brush.x ?? x).column === x.column && (brush.y ?? y).column === y.column;
      const box = doc.get_model_by_name(`brush-${i}`);
      if (mine) {
        const [across, up] = [brush.x ?? x, brush.y ?? y];
        box.setv({ left: across.low ?? x.low, right: across.high ?? x.high });
        box.setv({ bottom: up.low ?? y.low, top: up.high ?? y.high });
      }
      box.visible = Boolean(mine);
    });
    if (brush) figure.dataset.brush = JSON.stringify(brush);
    else delete figure.dataset.brush;
  }

  // What people do

  function listen(figure, kept) {
    const { chart, doc } = kept;
    const name = figure.dataset.chart;
    chart.plots.forEach((id, i) => {
      const plot = doc.get_model_by_id(id);
      if (chart.kind === "scatter") {
        plot.on_event("selectiongeometry", ({ geometry, final }) => final && brushed(name, chart.panels[i], geometry));
        plot.on_event("doubletap", () => MixedSignals.change("brushes", name, null));
        if (!chart.dense) plot.on_event("tap", (event) => openNearest(doc, plot, i, event));
      }
      if (chart.kind === "types") {
        plot.on_event("tap", ({ y }) => toggleType(chart.types[Math.round(y)]));
        plot.on_event("reset", () => fit(kept));
      }
    });
  }

  function brushed(name, { x, y }, { x0, x1, y0, y1 }) {
    const side = (axis, one, other) => {
      const step = 10 ** (Math.floor(Math.log10(axis.high - axis.low)) - 3); // for a short address
      const rounded = (value) => Number((Math.round(value / step) * step).toPrecision(12));
      return { column: axis.column, low: rounded(Math.min(one, other)), high: rounded(Math.max(one, other)) };
    };
    const brush = { x: side(x, x0, x1), y: side(y, y0, y1) };
    if (brush.x.low === brush.x.high || brush.y.low === brush.y.high) return;
    MixedSignals.change("brushes", name, brush);
  }

  /** Open the shown row whose point is nearest to a tap. */
  function openNearest(doc, plot, i, { x, y }) {
    const source = doc.get_model_by_name("shown");
    const [xs, ys, rows] = [`x${i}`, `y${i}`, "row"].map((name) => source.get(name));
    const perX = plot.inner_width / (plot.x_range.end - plot.x_range.start);
    const perY = plot.inner_height / (plot.y_range.end - plot.y_range.start);
    let [nearest, best] = [null, REACH ** 2];
    for (let k = 0; k < rows.length; k++) {
      const distance = ((xs[k] - x) * perX) ** 2 + ((ys[k] - y) * perY) ** 2;
      if (distance <= best) [nearest, best] = [rows[k], distance];
    }
    if (nearest !== null) MixedSignals.set({ row: nearest });
  }

  function toggleType(type) {
    if (type === undefined) return;
    const on = view.state.filters.type ?? [];
    MixedSignals.change("filters", "type", on.includes(type) ? on.filter((each) => each !== type) : [...on, type]);
  }

  // When

  /** Whether a figure belongs to the head on show: pictures of the others stay as they are. */
  function belongs(figure) {
    const own = figure.closest("[data-head]")?.dataset.head;
    return own === undefined || Number(own) === head;
  }

  function refresh(figure) {
    if (!view) return;
    const kept = drawn.get(figure);
    if (!belongs(figure)) erase(figure);
    else if (!near.has(figure)) return;
    else if (!kept || kept.head !== head) draw(figure).catch(reportError);
    else if (kept.chart) fill(figure);
  }

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) near.add(target);
        else near.delete(target);
        refresh(target);
      }
    },
    { rootMargin: NEAR },
  );

  dark.addEventListener("change", () => {
    theme = themeNow();
    for (const [figure, kept] of drawn) {
      for (const symbol of figure.querySelectorAll("[data-colour]")) {
        symbol.style.color = theme.colour(symbol.dataset.colour);
      }
      if (!kept.chart) continue;
      paintInTheme(kept.doc);
      fill(figure, true);
    }
  });

  for (const figure of figures) watcher.observe(figure);
  MixedSignals.on("view", (next) => {
    view = next;
    head = Math.max(0, MixedSignals.headNames.indexOf(view.about.name));
    for (const figure of figures) refresh(figure);
  });
})();
