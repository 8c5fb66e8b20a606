/** Small things that the scripts of the page share: making elements, writing numbers, saying what went wrong. */
(() => {
  "use strict";

  /**
   * Makes an element. Children that are strings become text, whatever they hold.
   * @param {string} tag
   * @param {object} properties of the element; `class`, names with "-" and `role` are attributes, null leaves out
   * @param {...(Node | string | null)} children
   * @returns {HTMLElement}
   */
  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === null) continue;
      if (name === "class" || name === "role" || name.includes("-")) element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  /** A button with words on it. */
  function button(words, onclick, properties = {}) {
    return make("button", { type: "button", onclick, ...properties }, words);
  }

  /** Words from a corpus, in their own direction of writing, so that they turn nothing beside them around. */
  function theirs(words) {
    return make("bdi", {}, String(words ?? ""));
  }

  /** A number for reading; a dash where there is none. */
  function number(value, digits = 2) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    return value.toFixed(digits).replace("-", "−");
  }

  /** A count for reading: 12,345. */
  function count(value) {
    return value.toLocaleString("en");
  }

  /** The level of a row in a column of categories, "" where it has none. */
  function level(column, row) {
    return column?.levels[column.codes[row]] ?? "";
  }

  const problems = make("div", { id: "problems", role: "alert" });
  document.querySelector("#explorer").prepend(problems);
  MixedSignals.on("problem", (sentence) => {
    if ([...problems.children].some((shown) => shown.textContent === sentence)) return;
    problems.append(make("p", {}, sentence));
  });

  Object.assign(MixedSignals, { make, button, theirs, number, count, level });
})();
