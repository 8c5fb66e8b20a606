/** What is shown: kept in the address, turned into a view (which rows, in which order), and announced. */
(() => {
  "use strict";

  const OFTEN = new Set(["row", "find", "ranges", "brushes"]); // in a row, these make one step of the browser's history

  /** Read it; change it with `set` only. A row is a number, `sort` a column's name, with "-" before it: highest first. */
  const state = blank();
  const listeners = [];
  const problems = [];
  let columns = null;
  let about = null;
  let view = null;
  let texts = null;
  let lastKind = "";
  let wanted = null; // row by utterance id, until the columns are there
  const names = JSON.parse(document.body.dataset.headNames ?? "[]");
  const charts = new Set([...document.querySelectorAll("figure[data-chart]")].map((each) => each.dataset.chart));

  function blank() {
    const named = () => Object.create(null);
    return { head: 0, filters: named(), ranges: named(), find: "", brushes: named(), sort: "", row: null };
  }

  /**
   * Changes what is shown.
   * @param {object} change keys of `state` and their new values
   */
  function set(change) {
    const head = state.head;
    Object.assign(state, change);
    remember(Object.keys(change));
    if (state.head !== head) open();
    else if (columns) refresh(change);
  }

  /**
   * Changes one of the filters, ranges or brushes.
   * @param {"filters" | "ranges" | "brushes"} key
   * @param {string} name
   * @param {any} value null or [] takes it away
   */
  function change(key, name, value) {
    const others = Object.entries(state[key]).filter(([other]) => other !== name);
    const entries = value === null || value.length === 0 ? others : [...others, [name, value]];
    set({ [key]: Object.fromEntries(entries) });
  }

  /** Takes away every filter, range and brush, and the words searched. */
  function clear() {
    set({ filters: {}, ranges: {}, brushes: {}, find: "" });
  }

  // The address ------------------------------------------------------------------------------------------------------

  function address() {
    const said = new URLSearchParams();
    if (state.head) said.set("head", names[state.head]);
    for (const [name, levels] of Object.entries(state.filters)) levels.forEach((level) => said.append(name, level));
    for (const [name, bounds] of Object.entries(state.ranges)) said.append(`range.${name}`, between(bounds));
    for (const [name, axes] of Object.entries(state.brushes)) {
      for (const [axis, { column, low, high }] of Object.entries(axes)) {
        said.append(`brush.${name}`, `${axis}:${column}:${between([low, high])}`);
      }
    }
    if (state.find) said.set("find", state.find);
    if (about && state.sort !== `-${about.score}`) said.set("sort", state.sort);
    const id = columns && state.row !== null ? columns.get("utterance_id").values[state.row] : wanted;
    if (id !== null) said.set("row", id);
    return said.size ? `#${said}`.replaceAll("%3A", ":") : "";
  }

  function between([low, high]) {
    return `${low ?? ""}..${high ?? ""}`;
  }

  function bounds(said) {
    const ends = said.split("..").map((end) => (end === "" ? null : Number(end)));
    return ends.length === 2 && !ends.some(Number.isNaN) ? ends : null;
  }

  function read(hash) {
    const found = blank();
    wanted = null;
    for (const [key, value] of new URLSearchParams(hash.slice(1))) {
      const [, kind, name] = /^(range|brush)\.(.*)$/s.exec(key) ?? [];
      if (key === "head") found.head = Math.max(names.indexOf(value), 0);
      else if (key === "find" || key === "sort") found[key] = value;
      else if (key === "row") wanted = value;
      else if (kind === "range" && bounds(value)) found.ranges[name] = bounds(value);
      else if (kind === "brush") readBrush((found.brushes[name] ??= {}), value);
      else if (!kind) (found.filters[key] ??= []).push(value);
    }
    return found;
  }

  function readBrush(brush, said) {
    const [, axis, column, range] = /^([xy]):(.*):([^:]*)$/s.exec(said) ?? [];
    const ends = axis && bounds(range);
    if (ends) brush[axis] = { column, low: ends[0], high: ends[1] };
  }

  function remember(keys) {
    const next = here(address());
    if (location.href === next) return;
    const kind = keys.length === 1 && OFTEN.has(keys[0]) ? keys[0] : "";
    if (kind && kind === lastKind) history.replaceState(null, "", next);
    else history.pushState(null, "", next);
    lastKind = kind;
  }

  function here(hash) {
    return location.href.split("#")[0] + hash;
  }

  /** Whether a link leads to a place of this page, which leaves what is shown as it is. */
  function isPlace(hash) {
    return hash !== "" && !hash.includes("=");
  }

  function follow() {
    const hash = location.hash;
    if (isPlace(hash)) {
      history.replaceState(null, "", here(address() || hash));
      return;
    }
    const head = state.head;
    Object.assign(state, read(hash));
    lastKind = "";
    if (!columns || head !== state.head) {
      open();
    } else {
      settle();
      refresh(state);
    }
  }

  // The view ---------------------------------------------------------------------------------------------------------

  async function open() {
    const head = state.head;
    try {
      const [found, file] = await Promise.all([MixedSignals.columns(head), MixedSignals.load(`head-${head}`)]);
      if (head !== state.head) return;
      columns = found;
      const { name, kind, modalities, models, classes, score } = file;
      about = { name, kind, modalities, models, classes, score };
      if (kind !== "interval") columns.set("differs", MixedSignals.shown.differing(columns, modalities));
      settle();
      refresh(state);
    } catch (error) {
      problem(error);
    }
  }

  /** Brings the state in line with the columns: what an address names and this head has not is left out. */
  function settle() {
    const has = (name, ...types) => types.includes(columns.get(name)?.type);
    const keep = (entries, test) => Object.fromEntries(Object.entries(entries).filter(test));
    const known = Object.entries(state.filters).map(([name, levels]) =>
      [name, levels.filter((level) => columns.get(name)?.levels?.includes(level))]);
    state.filters = keep(Object.fromEntries(known), ([, levels]) => levels.length > 0);
    state.ranges = keep(state.ranges, ([name]) => has(name, "number"));
    state.brushes = keep(state.brushes, ([chart, axes]) =>
      charts.has(chart) && Object.keys(axes).length > 0 && Object.values(axes).every(({ column }) => has(column, "number")));
    if (!has(state.sort.replace(/^-/, ""), "text", "category", "number")) state.sort = `-${about.score}`;
    if (wanted !== null) {
      const row = columns.get("utterance_id").values.indexOf(wanted);
      if (row >= 0) state.row = row;
      else problem(new Error(`The address asks for utterance ${wanted}, which this report does not have.`));
      wanted = null;
    }
    if (!isPlace(location.hash)) history.replaceState(null, "", here(address()));
  }

  function refresh(change) {
    if (view?.columns !== columns || Object.keys(change).some((key) => key !== "row" && key !== "sort")) {
      const mask = maskWithout(null);
      const order = MixedSignals.shown.order(columns, state.sort, mask);
      view = { state, about, columns, n: mask.length, mask, count: order.length, order };
    } else {
      const order = "sort" in change ? MixedSignals.shown.order(columns, state.sort, view.mask) : view.order;
      view = { ...view, order };
    }
    if (state.find && !texts) readTexts();
    announce();
  }

  function announce() {
    for (const listener of listeners) {
      try {
        listener(view);
      } catch (error) {
        reportError(error);
      }
    }
  }

  /**
   * The rows that all filters show but one brush: what the chart of that brush is drawn from.
   * @param {string | null} chart name of the brush to leave out
   * @returns {Uint8Array} 1 for each row that is shown
   */
  function maskWithout(chart) {
    return MixedSignals.shown.mask(columns, state, texts, chart);
  }

  async function readTexts() {
    try {
      const found = await MixedSignals.load("texts");
      texts = found.map((text) => text.toLowerCase());
      if (state.find && columns) refresh({ find: state.find });
    } catch (error) {
      problem(error);
    }
  }

  // Announcing -------------------------------------------------------------------------------------------------------

  /**
   * Calls back now, if it can, and whenever something changes.
   * @param {"view" | "problem"} event
   * @param {function} listener for "view": of {state, about (name, kind, modalities, models, classes and score of the
   *   head), columns, n, mask, count, order}; mask and order are the same objects as before where nothing in them
   *   changed. For "problem": of a sentence.
   */
  function on(event, listener) {
    if (event === "problem") {
      problems.push(listener);
    } else {
      listeners.push(listener);
      if (view) listener(view);
    }
  }

  /** Says on the page what went wrong. */
  function problem(error) {
    for (const listener of problems) listener(error.message);
  }

  addEventListener("hashchange", follow);
  document.addEventListener("DOMContentLoaded", () => {
    if (!isPlace(location.hash)) Object.assign(state, read(location.hash));
    open();
  });

  Object.assign(MixedSignals, { state, set, change, clear, on, problem, maskWithout, headNames: names });
})();
