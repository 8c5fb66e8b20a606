/** Plays one utterance from its start to its end, also where the file is longer. */
(() => {
  "use strict";

  const { make, button } = MixedSignals;
  const FULL = 1000; // steps of the slider

  /**
   * @param {object} media {kind, src, start, end} or {why, href?}
   * @param {string} id of the utterance
   * @returns {{element: HTMLElement, toggle: function | null, stop: function}}
   */
  function player(media, id) {
    if (!media || media.why !== undefined) {
      const why = media?.why || "There is no recording of this utterance.";
      const link = media?.href ? [" ", make("a", { href: media.href, rel: "noreferrer", target: "_blank" }, "Open it there")] : [];
      return { element: make("p", { class: "note no-media" }, why, ...link), toggle: null, stop: () => {} };
    }
    const start = media.start ?? 0;
    const tag = make(media.kind, { preload: "metadata", src: source(media, id), playsInline: true });
    tag.setAttribute("aria-label", `${media.kind === "video" ? "Video" : "Sound"} of ${id}`);
    const play = button("Play", toggle, { class: "play", "aria-keyshortcuts": "Space" });
    const slider = make("input", { type: "range", min: "0", max: String(FULL), value: "0", step: "1" });
    slider.setAttribute("aria-label", "Position");
    const time = make("span", { class: "time" });
    const element = make("div", { class: `player ${media.kind}` }, tag, make("div", { class: "controls" }, play, slider, time));

    function end() {
      const length = Number.isFinite(tag.duration) ? tag.duration : Infinity;
      return Math.min(media.end ?? Infinity, length);
    }

    function toggle() {
      if (!tag.paused) {
        tag.pause();
        return;
      }
      if (tag.currentTime < start || tag.currentTime >= end() - 0.03) tag.currentTime = start;
      tag.play().catch(fail);
    }

    function stop() {
      tag.pause();
      tag.removeAttribute("src");
      tag.load();
    }

    /** Called on every frame while it plays, for `timeupdate` alone may come a quarter of a second late. */
    function watch() {
      if (tag.currentTime >= end()) tag.pause();
      show();
      if (!tag.paused) requestAnimationFrame(watch);
    }

    function show() {
      const length = end() - start;
      const at = Math.min(Math.max(tag.currentTime - start, 0), length);
      play.textContent = tag.paused ? "Play" : "Pause";
      if (!Number.isFinite(length)) return;
      if (document.activeElement !== slider || !tag.paused) slider.value = String((at / length) * FULL);
      slider.setAttribute("aria-valuetext", `${at.toFixed(1)} of ${length.toFixed(1)} seconds`);
      time.textContent = `${at.toFixed(1)} / ${length.toFixed(1)} s`;
    }

    function fail(error) {
      if (error?.name === "AbortError" || !tag.hasAttribute("src")) return;
      element.replaceChildren(make("p", { class: "note no-media" },
        `The recording does not play: ${media.src} is not there any more, or this browser cannot play it. `
        + "Make the report again with --clips, which puts a clip of each utterance beside it."));
    }

    tag.addEventListener("loadedmetadata", () => {
      if (start > 0) tag.currentTime = start;
      show();
    });
    tag.addEventListener("play", watch);
    tag.addEventListener("timeupdate", () => {
      if (!tag.paused && tag.currentTime >= end()) tag.pause();
      show();
    });
    tag.addEventListener("pause", show);
    tag.addEventListener("error", fail);
    if (media.kind === "video") tag.addEventListener("click", toggle);
    slider.addEventListener("input", () => {
      const length = end() - start;
      if (Number.isFinite(length)) tag.currentTime = start + (Number(slider.value) / FULL) * length;
    });
    return { element, toggle: () => element.contains(tag) && toggle(), stop };
  }

  /** Where `explore` serves the page, recordings come from it by the utterance's id; clips are the report's own. */
  function source(media, id) {
    const served = location.protocol.startsWith("http") && document.documentElement.dataset.served !== undefined;
    return served && !media.src?.startsWith("assets/clips/") ? `media?id=${encodeURIComponent(id)}` : media.src;
  }

  MixedSignals.player = player;
})();
