/** Side files: classic scripts in assets/data that hand what they hold to `MixedSignals.receive`, and their columns. */
(() => {
  "use strict";

  const MOST_PARTS = 48;
  const received = new Map();
  const asked = new Map();
  const decoded = new Map();
  const ARRAYS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };

  /** Takes what a side file holds; each side file is one call of this. */
  function receive(name, value) {
    received.set(name, value);
  }

  /**
   * Loads a side file once.
   * @param {string} name of the file, without folder and ".js"
   * @returns {Promise<any>} what it holds; rejected with an Error whose message is a sentence for readers
   */
  function load(name) {
    if (!asked.has(name)) {
      asked.set(name, request(name).catch((error) => {
        asked.delete(name);
        throw error;
      }));
    }
    return asked.get(name);
  }

  function request(name) {
    const file = `assets/data/${name}.js`;
    return new Promise((resolve, reject) => {
      if (received.has(name)) {
        resolve(received.get(name));
        return;
      }
      const script = document.createElement("script");
      script.src = file;
      script.onload = () => {
        script.remove();
        if (received.has(name)) resolve(received.get(name));
        else reject(new Error(`${file} is damaged: it holds nothing that can be read. ${MEND}`));
      };
      script.onerror = () => {
        script.remove();
        reject(new Error(`${file} did not load. ${MEND}`));
      };
      document.head.append(script);
    });
  }

  const MEND = "The folder assets has to stand beside this page, whole: copy the report's folder again, or make the "
    + "report again with analyze-disagreement --report.";

  /**
   * What one row holds beyond its columns. The most recent parts are kept.
   * @param {number} row
   * @returns {Promise<object>} an entry of the row's part
   */
  async function utterance(row) {
    const { partSize } = await load("rows");
    const name = `part-${String(Math.floor(row / partSize)).padStart(5, "0")}`;
    const part = await load(name);
    forgetOldParts(name);
    return part[row % partSize];
  }

  function forgetOldParts(latest) {
    const value = asked.get(latest);
    asked.delete(latest);
    asked.set(latest, value);
    const parts = [...asked.keys()].filter((name) => name.startsWith("part-"));
    for (const name of parts.slice(0, -MOST_PARTS)) {
      asked.delete(name);
      received.delete(name);
    }
  }

  /**
   * The columns of a head and those that all heads share, as typed arrays.
   * @param {number} head
   * @returns {Promise<Map<string, object>>} by name: {name, label, type} and, for texts, `values` (strings); for
   *   categories `levels` and `codes` (typed array; a code that no level has is no value); for numbers `values`
   *   (Float32Array, NaN where there is none)
   */
  async function columns(head) {
    const both = await Promise.all([decodedColumns("rows"), decodedColumns(`head-${head}`)]);
    return new Map(both.flat().map((column) => [column.name, column]));
  }

  function decodedColumns(name) {
    if (!decoded.has(name)) {
      const ready = load(name).then((file) => Promise.all(file.columns.map(decode)));
      decoded.set(name, ready.catch((error) => {
        decoded.delete(name);
        throw error;
      }));
    }
    return decoded.get(name);
  }

  async function decode(column) {
    const { name, label, type } = column;
    if (type === "text") return { name, label, type, values: column.values };
    const packed = type === "category" ? column.codes : column.values;
    const codes = new ARRAYS[column.bytes](await inflate(packed));
    if (type === "category") return { name, label, type, levels: column.levels, codes };
    return { name, label, type, values: numbers(codes, column) };
  }

  function numbers(codes, { bytes, low, step }) {
    const none = 256 ** bytes - 1;
    const values = new Float32Array(codes.length);
    for (let i = 0; i < codes.length; i++) values[i] = codes[i] === none ? NaN : low + step * codes[i];
    return values;
  }

  function inflate(text) {
    const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  function fromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const said = atob(text); // browsers of before 2025
    const bytes = new Uint8Array(said.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = said.charCodeAt(i);
    return bytes;
  }

  globalThis.MixedSignals = { receive, load, utterance, columns };
})();
