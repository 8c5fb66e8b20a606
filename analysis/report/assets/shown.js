/** Which rows a state shows, and in which order. Loops over typed arrays: 100,000 rows take some milliseconds. */
(() => {
  "use strict";

  const LAST = 0xffffffff;

  /**
   * The rows that filters, ranges, brushes and words show.
   * @param {Map} columns
   * @param {object} state see state.js
   * @param {string[] | null} texts transcripts in lower case, null as long as they are not there
   * @param {string | null} chart name of a brush to leave out
   * @returns {Uint8Array} 1 for each row that is shown
   */
  function mask(columns, state, texts, chart) {
    const ids = columns.get("utterance_id").values;
    const shown = new Uint8Array(ids.length).fill(1);
    for (const [name, levels] of Object.entries(state.filters)) narrowToLevels(shown, columns.get(name), levels);
    for (const [name, [low, high]] of Object.entries(state.ranges)) narrowToRange(shown, columns.get(name), low, high);
    for (const [name, axes] of Object.entries(state.brushes)) {
      if (name === chart) continue;
      for (const { column, low, high } of Object.values(axes)) narrowToRange(shown, columns.get(column), low, high);
    }
    if (state.find) narrowToWords(shown, ids, texts, state.find);
    return shown;
  }

  function narrowToLevels(mask, column, levels) {
    const wantedLevels = column.levels.map((level) => levels.includes(level));
    if (column.type === "flags") {
      const bits = wantedLevels.reduce((sum, on, k) => sum | (on << k), 0);
      for (let i = 0; i < mask.length; i++) if (!(column.bits[i] & bits)) mask[i] = 0;
    } else {
      const shown = Uint8Array.from(wantedLevels);
      const { codes } = column;
      for (let i = 0; i < mask.length; i++) if (shown[codes[i]] !== 1) mask[i] = 0;
    }
  }

  function narrowToRange(mask, { values }, low, high) {
    const least = Math.fround(low ?? -Infinity);
    const most = Math.fround(high ?? Infinity);
    for (let i = 0; i < mask.length; i++) if (!(values[i] >= least && values[i] <= most)) mask[i] = 0;
  }

  function narrowToWords(mask, ids, texts, find) {
    const words = find.toLowerCase().split(/\s+/).filter(Boolean);
    for (let i = 0; i < mask.length; i++) {
      if (!mask[i]) continue;
      const id = ids[i].toLowerCase();
      if (!words.every((word) => id.includes(word) || texts?.[i].includes(word))) mask[i] = 0;
    }
  }

  /**
   * The rows of a mask in the order of a column.
   * @param {Map} columns
   * @param {string} sort name of a column; "-" before it: highest first
   * @param {Uint8Array} mask
   * @returns {Uint32Array}
   */
  function order(columns, sort, mask) {
    const all = wholeOrder(columns.get(sort.replace(/^-/, "")), sort.startsWith("-"));
    return all.filter((row) => mask[row]);
  }

  /** All rows by a column, kept with the column. Rows of one value stay in their order, those without one come last. */
  function wholeOrder(column, descending) {
    const key = descending ? "descending" : "ascending";
    column.orders ??= {};
    column.orders[key] ??= sortedRows(keys(column, descending));
    return column.orders[key];
  }

  function keys(column, descending) {
    if (column.type === "number") return numberKeys(column.values, descending);
    const codes = column.type === "text" ? ranks(column.values) : column.codes;
    const most = column.type === "text" ? codes.length : column.levels.length;
    return Uint32Array.from(codes, (code) => (code >= most ? LAST : descending ? most - code : code));
  }

  /** Whole numbers in the order of floats: the bits of a float, turned so that they grow with it. */
  function numberKeys(values, descending) {
    const bits = new Uint32Array(values.slice().buffer);
    for (let i = 0; i < bits.length; i++) {
      if (Number.isNaN(values[i])) {
        bits[i] = LAST;
      } else {
        const growing = values[i] === 0 ? 0x80000000 : bits[i] & 0x80000000 ? ~bits[i] : bits[i] | 0x80000000;
        bits[i] = descending ? ~growing : growing;
      }
    }
    return bits;
  }

  function ranks(values) {
    const rows = Uint32Array.from(values, (_, i) => i);
    rows.sort((a, b) => (values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : a - b));
    const rank = new Uint32Array(values.length);
    rows.forEach((row, k) => { rank[row] = k; });
    return rank;
  }

  /** Rows by their keys, smallest first: a radix sort, 16 bits at a time. */
  function sortedRows(key) {
    let from = Uint32Array.from(key, (_, i) => i);
    let to = new Uint32Array(key.length);
    for (const shift of [0, 16]) {
      const place = new Uint32Array(65537);
      for (const value of key) place[((value >>> shift) & 0xffff) + 1]++;
      for (let digit = 0; digit < 65536; digit++) place[digit + 1] += place[digit];
      for (const row of from) to[place[(key[row] >>> shift) & 0xffff]++] = row;
      [from, to] = [to, from];
    }
    return from;
  }

  /** The pseudo column of modalities whose label is not the fusion's: bit k of `bits` is modality k. */
  function differing(columns, modalities) {
    const fusion = columns.get("label_fusion");
    const bits = new Uint32Array(fusion.codes.length);
    modalities.forEach((modality, k) => {
      const own = columns.get(`label_${modality}`);
      const same = own.levels.map((level) => fusion.levels.indexOf(level));
      for (let i = 0; i < bits.length; i++) {
        if (own.codes[i] < same.length && same[own.codes[i]] !== fusion.codes[i]) bits[i] |= 1 << k;
      }
    });
    return { name: "differs", label: "differs from the fusion", type: "flags", levels: modalities, bits };
  }

  MixedSignals.shown = { mask, order, differing };
})();
