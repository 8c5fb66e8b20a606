/** The controls that choose which utterances are shown, and the bar that says which are: how many, why, and a link. */
(() => {
  "use strict";

  const { make, button, theirs, number, count } = MixedSignals;
  const CHOICES = ["type", "differs", "label_true", "group", "dominant", "unsupported", "contested", "split"];
  const MANY = 12; // levels from which a choice has its own search
  const MOST = 200; // levels listed at once
  const SEPARATE = 6; // levels of one filter that get a chip each
  const PAUSE = 150; // milliseconds of typing rest before words are searched

  const place = document.querySelector("#filters");
  const bar = makeBar();
  let view = null;
  let made = null; // columns that the controls were made for
  let controls = [];

  MixedSignals.on("view", (next) => {
    view = next;
    if (made !== view.columns) makeControls();
    for (const control of controls) control();
    showBar();
  });

  // Controls: each maker returns the element and adds to `controls` what brings it in line with the state ------------

  function makeControls() {
    made = view.columns;
    controls = [];
    const choices = CHOICES.filter((name) => (made.get(name)?.levels.length ?? 0) > 1);
    place.setAttribute("role", "search");
    place.setAttribute("aria-label", "Filters");
    place.replaceChildren(
      ...(MixedSignals.headNames.length > 1 ? [headChoice()] : []),
      words(),
      ...choices.map((name) => choice(made.get(name))),
      scores(),
      button("Keys", () => MixedSignals.showKeys(), { class: "quiet", "aria-haspopup": "dialog" }),
    );
  }

  function headChoice() {
    const select = make("select", { id: "head" });
    MixedSignals.headNames.forEach((name, k) => select.append(make("option", { value: String(k) }, name)));
    select.onchange = () => MixedSignals.set({ head: Number(select.value) });
    controls.push(() => { select.value = String(view.state.head); });
    return make("label", { class: "field" }, make("span", {}, "Head"), select);
  }

  function words() {
    let rest = 0;
    const input = make("input", { type: "search", id: "find", "aria-keyshortcuts": "/", autocomplete: "off" });
    input.placeholder = "words in id or transcript";
    input.oninput = () => {
      clearTimeout(rest);
      rest = setTimeout(() => MixedSignals.set({ find: input.value.trim() }), PAUSE);
    };
    controls.push(() => {
      if (document.activeElement !== input || view.state.find === "") input.value = view.state.find;
    });
    return make("label", { class: "field wide" }, make("span", {}, "Search"), input);
  }

  /** A drop-down of check boxes for the levels of a column. Its list is made when it is opened. */
  function choice(column) {
    const chosen = () => view.state.filters[column.name] ?? [];
    const said = make("span", { class: "chosen" });
    const list = make("div", { class: "levels" });
    let sizes = null;
    const narrow = make("input", { type: "search", "aria-label": `Search in ${column.label}`, oninput: fillList });
    const inside = make("fieldset", {}, make("legend", { class: "away" }, column.label));
    if (column.levels.length > MANY) inside.append(narrow);
    inside.append(list);
    const box = make("details", { class: "pick", "data-column": column.name },
      make("summary", {}, make("span", {}, sentenceCase(column.label)), said), inside);
    box.ontoggle = () => {
      if (!box.open) return;
      for (const other of place.querySelectorAll("details[open]")) if (other !== box) other.open = false;
      fillList();
    };

    function fillList() {
      sizes ??= levelSizes(column);
      const looked = narrow.value.toLowerCase();
      const on = new Set(chosen());
      const fitting = column.levels.filter((level) => sizes.get(level) && level.toLowerCase().includes(looked));
      const first = fitting.filter((level) => column.levels.length > MANY && on.has(level));
      const shown = [...new Set([...first, ...fitting.slice(0, MOST)])];
      list.replaceChildren(...shown.map((level) => levelBox(level, on.has(level))));
      if (shown.length < fitting.length) {
        list.append(make("p", { class: "note" }, `${count(fitting.length - shown.length)} more: search above`));
      }
      if (!fitting.length) list.append(make("p", { class: "note" }, "none of that name"));
    }

    function levelBox(level, checked) {
      const input = make("input", { type: "checkbox", checked, onchange: () => toggle(level, input.checked) });
      input.dataset.level = level;
      return make("label", {}, input, theirs(level), make("span", { class: "size" }, count(sizes.get(level))));
    }

    function toggle(level, on) {
      const others = chosen().filter((other) => other !== level);
      const next = on ? [...others, level] : others;
      MixedSignals.change("filters", column.name, column.levels.filter((each) => next.includes(each)));
    }

    controls.push(() => {
      const on = new Set(chosen());
      said.replaceChildren(...(on.size ? [String(on.size), make("span", { class: "away" }, " chosen")] : []));
      for (const input of list.querySelectorAll("input")) input.checked = on.has(input.dataset.level);
    });
    return box;
  }

  function levelSizes(column) {
    const sizes = new Uint32Array(column.levels.length);
    if (column.type === "flags") {
      for (const bits of column.bits) for (let k = 0; k < sizes.length; k++) sizes[k] += (bits >>> k) & 1;
    } else {
      for (const code of column.codes) if (code < sizes.length) sizes[code]++;
    }
    return new Map(column.levels.map((level, k) => [level, sizes[k]]));
  }

  /** One score at a time, from and to. */
  function scores() {
    const columns = [...made.values()].filter(({ type, values }) => type === "number" && values.some((v) => v === v));
    const select = make("select", { "aria-label": "Score", onchange: show });
    select.append(...columns.map(({ name, label }) => make("option", { value: name }, label)));
    select.value = view.about.score;
    const ends = ["from", "to"].map((end) =>
      make("input", { type: "number", step: "any", "aria-label": `Score ${end}`, oninput: change }));
    const box = make("details", { class: "pick", "data-column": "scores" },
      make("summary", {}, make("span", {}, "Score range"), make("span", { class: "chosen" })),
      make("fieldset", {}, make("legend", { class: "away" }, "Score range"), select,
        make("div", { class: "range" }, ends[0], "to", ends[1])));

    function show() {
      const { values } = made.get(select.value);
      const bounds = view.state.ranges[select.value] ?? [null, null];
      const known = values.filter((value) => value === value);
      const limits = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
      ends.forEach((input, k) => {
        if (document.activeElement !== input) input.value = bounds[k] ?? "";
        input.placeholder = number(limits[k], 3);
      });
    }

    function change() {
      const bounds = ends.map((input) => (input.value === "" ? null : input.valueAsNumber));
      MixedSignals.change("ranges", select.value, bounds.every((end) => end === null) ? null : bounds);
    }

    box.ontoggle = () => box.open && show();
    controls.push(() => {
      const n = Object.keys(view.state.ranges).length;
      box.querySelector(".chosen").textContent = n ? String(n) : "";
      if (box.open) show();
    });
    return box;
  }

  addEventListener("click", ({ target }) => {
    for (const box of place.querySelectorAll("details[open]")) if (!box.contains(target)) box.open = false;
  });
  place.addEventListener("keydown", (event) => {
    const box = event.target.closest("details[open]");
    if (event.key !== "Escape" || !box) return;
    box.open = false;
    box.querySelector("summary").focus();
    event.stopPropagation();
  });

  // The bar ----------------------------------------------------------------------------------------------------------

  function makeBar() {
    const said = make("p", { id: "count", role: "status" });
    const chips = make("ul", { id: "chips", "aria-label": "What is filtered" });
    const clear = button("Clear all", () => MixedSignals.clear(), { id: "clear" });
    const copy = button("Copy link", copyLink, { id: "copy", class: "quiet" });
    copy.hidden = !navigator.clipboard;
    const element = make("div", { id: "shown", role: "group", "aria-label": "What is shown" }, said, chips, clear, copy);
    const first = document.querySelector("#pictures") ?? place;
    first.before(element);
    return { element, said, chips, clear };
  }

  async function copyLink({ target }) {
    try {
      await navigator.clipboard.writeText(location.href);
      target.textContent = "Copied";
    } catch {
      target.textContent = "Copy it from the address bar";
    }
    setTimeout(() => { target.textContent = "Copy link"; }, 2000);
  }

  let begun = false;

  function showBar() {
    const { n, count: shown } = view;
    bar.said.textContent = shown === n ? `${count(n)} utterances` : `${count(shown)} of ${count(n)} utterances`;
    const chips = allChips();
    const focused = [...bar.chips.querySelectorAll("button")].indexOf(document.activeElement);
    bar.chips.replaceChildren(...chips.map((chip) => make("li", {}, chip)));
    bar.clear.hidden = !chips.length;
    if (chips.length && !begun) bar.element.scrollIntoView(); // who follows a link to a view sees that view
    begun = true;
    if (focused >= 0) (chips[Math.min(focused, chips.length - 1)] ?? document.querySelector("#find")).focus();
  }

  function allChips() {
    const { filters, ranges, brushes, find } = view.state;
    const label = (name) => made.get(name).label;
    const found = [];
    if (find) found.push(chip("search", find, () => MixedSignals.set({ find: "" })));
    for (const [name, levels] of Object.entries(filters)) {
      if (levels.length > SEPARATE) {
        found.push(chip(label(name), `${levels.length} chosen`, () => MixedSignals.change("filters", name, null)));
        continue;
      }
      for (const level of levels) {
        const others = levels.filter((each) => each !== level);
        found.push(chip(label(name), level, () => MixedSignals.change("filters", name, others)));
      }
    }
    for (const [name, bounds] of Object.entries(ranges)) {
      found.push(chip(label(name), between(bounds), () => MixedSignals.change("ranges", name, null)));
    }
    for (const [name, axes] of Object.entries(brushes)) {
      const sides = Object.values(axes).map(({ column, low, high }) => `${label(column)} ${between([low, high])}`);
      found.push(chip("brush", sides.join("; "), () => MixedSignals.change("brushes", name, null)));
    }
    return found;
  }

  function between([low, high]) {
    const short = (value) => String(Number(value.toPrecision(5)));
    if (low === null) return `up to ${short(high)}`;
    return high === null ? `from ${short(low)}` : `${short(low)} to ${short(high)}`;
  }

  function chip(kind, words, remove) {
    return make("button", { type: "button", class: "chip", onclick: remove, "aria-label": `Remove ${kind}: ${words}` },
      make("span", { class: "kind" }, kind), theirs(words), make("span", { class: "x", "aria-hidden": "true" }, "×"));
  }

  function sentenceCase(words) {
    return words.charAt(0).toUpperCase() + words.slice(1);
  }
})();
