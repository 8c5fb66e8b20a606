/** Of several heads the pictures of one are shown, chosen by buttons above them; without scripts those of all are there. */
(() => {
  "use strict";

  const { make, button, headNames } = MixedSignals;
  if (headNames.length < 2) return;
  const sections = [...document.querySelectorAll("#pictures [data-head]")];
  const buttons = headNames.map((name, head) => button(name, () => MixedSignals.set({ head })));
  document.querySelector("#pictures-title").after(
    make("div", { class: "heads", role: "group", "aria-label": "Head whose pictures and utterances are shown" }, ...buttons),
  );

  for (const link of document.querySelectorAll('a[href^="#head-"]')) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      MixedSignals.set({ head: Number(link.hash.slice("#head-".length)) - 1 });
      document.querySelector("#pictures").scrollIntoView();
    });
  }

  MixedSignals.on("view", ({ state }) => {
    sections.forEach((section) => { section.hidden = Number(section.dataset.head) !== state.head; });
    buttons.forEach((each, head) => each.setAttribute("aria-pressed", String(head === state.head)));
  });
})();
