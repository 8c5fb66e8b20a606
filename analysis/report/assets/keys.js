/** Keys, and the list of them. They are left alone while somebody types or holds another key down. */
(() => {
  "use strict";

  const { make, button } = MixedSignals;
  const LIST = [
    [["j", "↓", "→"], "next utterance"],
    [["k", "↑", "←"], "previous utterance"],
    [["space"], "play or pause"],
    [["Escape"], "close the utterance"],
    [["/"], "search"],
    [["?"], "this list"],
  ];
  const FIELDS = "input, select, textarea, [contenteditable]";
  const STEPS = { j: 1, k: -1, ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

  const dialog = makeDialog();

  function makeDialog() {
    const list = make("dl", {});
    for (const [keys, what] of LIST) {
      const all = keys.flatMap((key, k) => [...(k ? [" or "] : []), make("kbd", {}, key)]);
      list.append(make("div", {}, make("dt", {}, ...all), make("dd", {}, what)));
    }
    const element = make("dialog", { id: "keys", "aria-labelledby": "keys-title" },
      make("h2", { id: "keys-title" }, "Keys"), list, button("Close", () => element.close()));
    document.body.append(element);
    return element;
  }

  function pressed(event) {
    const { key, target } = event;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (target.closest(FIELDS)) return;
    if (act(key, target)) event.preventDefault();
  }

  /** Does what a key is for; true where it was for something. */
  function act(key, target) {
    const isOpen = MixedSignals.state.row !== null;
    if (key === "?") {
      dialog.showModal();
    } else if (key === "/") {
      document.querySelector("#find")?.focus();
    } else if (key === "Escape" && isOpen) {
      MixedSignals.close();
    } else if (key === " " && isOpen) {
      return !target.closest("button, summary, a") && MixedSignals.play();
    } else if (key in STEPS && (!key.startsWith("Arrow") || (isOpen && isNear(target)))) {
      MixedSignals.step(STEPS[key]);
    } else {
      return false;
    }
    return true;
  }

  /** Arrows scroll the page, unless the focus is where the utterances are. */
  function isNear(target) {
    return target.closest("#table, #detail") !== null;
  }

  document.addEventListener("keydown", pressed);
  MixedSignals.showKeys = () => dialog.showModal();
})();
