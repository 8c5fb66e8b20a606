/** The open utterance: what was said and recorded, what each model made of it, and where the raters stood. */
(() => {
  "use strict";

  const { make, button, theirs, number, count, level } = MixedSignals;
  const LONG = 1500; // characters of a transcript that are shown at once

  const place = document.querySelector("#detail");
  const title = make("h3", { id: "detail-title", tabIndex: -1 });
  const body = make("div", { class: "detail-body" });
  const position = make("span", { class: "note" });
  let view = null;
  let playing = null;
  let last = null; // the row that was open last
  let shown = { row: null, columns: null };
  let cameFrom = null; // what had the focus before the panel opened

  place.hidden = true;
  place.setAttribute("role", "region");
  place.setAttribute("aria-labelledby", "detail-title");
  place.replaceChildren(
    make("div", { class: "detail-head" },
      make("div", { class: "detail-bar" },
        button("‹", () => step(-1), { "aria-label": "Previous utterance", "aria-keyshortcuts": "k" }),
        button("›", () => step(1), { "aria-label": "Next utterance", "aria-keyshortcuts": "j" }),
        position,
        button("×", close, { class: "close", "aria-label": "Close", "aria-keyshortcuts": "Escape" })),
      title),
    body,
  );

  MixedSignals.on("view", (next) => {
    const first = view === null;
    view = next;
    const { row } = view.state;
    if (row !== shown.row || view.columns !== shown.columns) {
      const opened = shown.row === null && row !== null;
      if (opened) cameFrom = document.activeElement;
      const moved = row !== shown.row && !first;
      shown = { row, columns: view.columns };
      show(row);
      if (row !== null && moved) title.focus({ preventScroll: true });
    }
    if (row !== null) showPosition(row);
  });

  /**
   * Opens the utterance that stands so many rows further in the table.
   * @param {number} by 1 or -1
   */
  function step(by) {
    const { order, state } = view;
    const at = order.indexOf(state.row);
    const next = order[at < 0 ? 0 : at + by];
    if (next !== undefined) MixedSignals.set({ row: next });
  }

  function close() {
    MixedSignals.set({ row: null });
    const button = document.querySelector(`#table tr[data-row="${last}"] button.open`);
    (button ?? cameFrom ?? document.body).focus();
  }

  /** Plays or pauses the open utterance; false where there is nothing to play. */
  function play() {
    if (!playing?.toggle) return false;
    playing.toggle();
    return true;
  }

  function showPosition(row) {
    const at = view.order.indexOf(row);
    position.textContent = at < 0 ? "not among those shown" : `${count(at + 1)} of ${count(view.count)}`;
  }

  function show(row) {
    playing?.stop();
    playing = null;
    if (place.hidden !== (row === null)) {
      keepInPlace(row ?? last, () => {
        place.hidden = row === null;
        document.body.classList.toggle("has-detail", row !== null);
      });
    }
    if (row === null) return;
    last = row;
    title.replaceChildren(theirs(view.columns.get("utterance_id").values[row]));
    body.replaceChildren(make("p", { class: "note" }, "…"));
    const mine = shown;
    MixedSignals.utterance(row).then(
      (entry) => shown === mine && fill(entry, row),
      (error) => shown === mine && body.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message)),
    );
  }

  /** Changes the width that the page has, without moving what is looked at: the row, or what is in the middle. */
  function keepInPlace(row, resize) {
    const tr = document.querySelector(`#table tr[data-row="${row}"]`);
    const at = tr?.getBoundingClientRect();
    const isSeen = at && at.bottom > 0 && at.top < innerHeight;
    const anchor = isSeen ? tr : document.elementFromPoint(innerWidth / 4, innerHeight / 2);
    const before = anchor?.getBoundingClientRect().top;
    resize();
    if (anchor) scrollBy(0, anchor.getBoundingClientRect().top - before);
  }

  function fill(entry, row) {
    const head = entry.heads[view.state.head];
    playing = MixedSignals.player(entry.media, entry.id);
    const parts = [facts(entry, head, row), transcript(entry.text), playing.element];
    if (head === null) {
      parts.push(make("p", { class: "note" }, `The head ${view.about.name} does not predict this utterance.`));
    } else {
      parts.push(view.about.kind === "interval" ? values(entry, head) : probabilities(entry, head), modalities(head));
    }
    parts.push(votes(entry.votes));
    body.replaceChildren(...parts.filter((part) => part !== null));
    place.scrollTop = 0;
  }

  function facts(entry, head, row) {
    const said = (name) => view.columns.get(name)?.label ?? name;
    const truth = typeof entry.label === "number" ? number(entry.label) : entry.label;
    const pairs = [
      ["label", theirs(truth || "none")],
      [said("group"), entry.group ? theirs(entry.group) : null],
      ["split", level(view.columns.get("split"), row) || null],
      ["type", head?.type ? typeWords(head) : null],
      ["dominant", level(view.columns.get("dominant"), row) || null],
      ["disagreement", number(view.columns.get(view.about.score).values[row])],
    ];
    const list = make("dl", { class: "facts" });
    for (const [term, what] of pairs) if (what) list.append(make("div", { class: term === "type" ? "wide" : "" }, make("dt", {}, term), make("dd", {}, what)));
    return list;
  }

  function typeWords({ type, stability, confirmed }) {
    const words = [];
    if (stability !== null) words.push(`the same in ${Math.round(100 * stability)}% of trainings`);
    if (confirmed !== null) words.push(confirmed ? "right where trained without it" : "wrong without it as well");
    return make("span", {}, theirs(type), words.length ? make("span", { class: "note" }, ` (${words.join("; ")})`) : null);
  }

  function transcript(text) {
    const words = make("p", { class: "transcript", dir: "auto" });
    const characters = Array.from(text);
    if (!characters.length) words.append(make("span", { class: "note" }, "no transcript"));
    else if (characters.length <= LONG) words.append(text);
    else words.append(`${characters.slice(0, LONG).join("")}…`);
    const section = make("section", { "aria-label": "Transcript" }, words);
    if (characters.length > LONG) {
      const all = button(`Show all ${count(characters.length)} characters`, () => {
        words.textContent = text;
        words.tabIndex = -1;
        words.focus();
        all.remove();
      });
      section.append(all);
    }
    return section;
  }

  function probabilities(entry, { models }) {
    const { classes } = view.about;
    const names = view.about.models.filter((name) => models[name]);
    const rows = classes.map((label, k) => [
      make("span", {}, theirs(label), label === entry.label ? make("span", { class: "note" }, " (label)") : null),
      ...names.map((name) => {
        const cell = bar(models[name].p[k], number(models[name].p[k]));
        if (models[name].label === label) mark(cell, label === entry.label);
        return cell;
      }),
    ]);
    return grid("Probabilities", ["class", ...names], rows, "✓ is a model’s own label where it is right, ✗ where it is wrong.");
  }

  function mark(cell, right) {
    cell.classList.add(right ? "right" : "wrong");
    cell.prepend(make("span", { "aria-hidden": "true" }, right ? "✓ " : "✗ "),
      make("span", { class: "away" }, right ? "its label, right: " : "its label, wrong: "));
  }

  function values(entry, { models }) {
    const names = view.about.models.filter((name) => models[name]);
    const rows = names.map((name) => [name, number(models[name].value),
      typeof entry.label === "number" ? number(models[name].value - entry.label) : "–"]);
    return grid("Values", ["model", "value", "minus the true value"], rows);
  }

  function modalities({ gates, contributions, phi }) {
    const given = [["gate", gates], ["contribution", contributions], ["Shapley value, nats", phi]].filter(([, own]) => own);
    if (!given.length) return null;
    const rows = view.about.modalities.map((modality) => [modality,
      ...given.map(([name, own]) => (name === "gate" ? bar(own[modality], number(own[modality])) : number(own[modality])))]);
    return grid("Modalities", ["modality", ...given.map(([name]) => name)], rows);
  }

  function votes(given) {
    if (!given.length) return make("p", { class: "note" }, "No ratings of this utterance.");
    const totals = new Map();
    for (const { shown: what, count: n } of given) totals.set(what, (totals.get(what) ?? 0) + n);
    const rows = given.map(({ shown: what, value, count: n }, k) => [
      given[k - 1]?.shown === what ? make("span", { class: "away" }, what) : what || "not said",
      theirs(value), bar(n / totals.get(what), `${count(n)} of ${count(totals.get(what))}`)]);
    return grid("Votes", ["raters were shown", "value", "votes"], rows);
  }

  /** A table; the first cell of each row is its header. Cells are nodes or words. */
  function grid(name, heads, rows, note = "") {
    const table = make("table", { class: "grid" }, make("caption", {}, name, note ? make("span", { class: "note" }, ` ${note}`) : null),
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, theirs(head))))),
      make("tbody", {}, ...rows.map(([first, ...others]) =>
        make("tr", {}, make("th", { scope: "row" }, first), ...others.map((cell) => make("td", {}, cell))))));
    return make("div", { class: "scroll" }, table);
  }

  function bar(share, words) {
    const element = make("span", { class: "bar" }, words);
    element.style.setProperty("--share", String(Math.min(Math.max(share, 0), 1)));
    return element;
  }

  Object.assign(MixedSignals, { step, play, close });
})();
