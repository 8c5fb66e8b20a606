/**
 * What the charts draw: from the columns of a head and the mask of the rows on show to the data of Bokeh's sources.
 *
 * A kind of chart has two functions. `prepare(about, columns)` does once for a head what does not depend on the mask;
 * `fill(memory, view, theme)` returns {sources: name -> data, count: rows drawn, ...}. Arrays are typed, and no row is
 * an object: 100,000 rows are filled in a few milliseconds.
 */
"use strict";

(() => {
  const NO_CELL = 65535;
  const MOST_POINTS_OF_A_CURVE = 200;

  const numbers = (columns, name) => columns.get(name).values;

  /** Rows of a mask by a column ("-" before its name: highest first) for which every one of some arrays has a value. */
  function sortedBy(columns, sort, mask, ...needed) {
    const arrays = [numbers(columns, sort.replace("-", "")), ...needed];
    const both = mask ? mask.slice() : new Uint8Array(arrays[0].length).fill(1);
    for (const values of arrays) {
      for (let row = 0; row < both.length; row++) if (Number.isNaN(values[row])) both[row] = 0;
    }
    return MixedSignals.shown.order(columns, sort, both);
  }

  function rowsWhere(n, holds) {
    const rows = new Uint32Array(n);
    let count = 0;
    for (let row = 0; row < n; row++) if (holds(row)) rows[count++] = row;
    return rows.slice(0, count);
  }

  function gathered(values, rows) {
    const found = new Float32Array(rows.length);
    for (let i = 0; i < rows.length; i++) found[i] = values[rows[i]];
    return found;
  }

  const words = (column, rows) => Array.from(rows, (row) => column.levels[column.codes[row]] ?? "");

  /** Mean of the values of the rows of a mask (of all rows without one); NaN where there is none. */
  function meanOf(values, mask) {
    let sum = 0;
    let count = 0;
    for (let row = 0; row < values.length; row++) {
      const value = values[row];
      if ((mask && !mask[row]) || Number.isNaN(value)) continue;
      sum += value;
      count += 1;
    }
    return sum / count;
  }

  /** 1 where two categories differ, 0 where they are the same, NaN where one has no value. */
  function different(one, other) {
    const inOne = other.levels.map((level) => one.levels.indexOf(level));
    const found = new Float32Array(one.codes.length);
    for (let row = 0; row < found.length; row++) {
      const [a, b] = [one.codes[row], other.codes[row]];
      const known = a < one.levels.length && b < other.levels.length;
      found[row] = known ? Number(a !== inOne[b]) : NaN;
    }
    return found;
  }

  // Points, or counts by cell

  function prepareScatter(about, columns) {
    const axes = about.panels.map(({ x, y }) => [numbers(columns, x.column), numbers(columns, y.column)]);
    const n = axes[0][0].length;
    const family = columns.get(about.by);
    const colours = family?.levels.map((level) => about.legend.find((entry) => entry.level === level)) ?? [];
    const memory = { about, columns, axes, n, family, colours };
    if (about.dense) memory.cells = axes.map(([x, y], i) => cellsOf(x, y, about.panels[i], about.cells));
    return memory;
  }

  const isKnown = (memory, row) => memory.axes.every(([x, y]) => !Number.isNaN(x[row] + y[row]));

  function fillScatter(memory, view, theme) {
    const sources = memory.cells ? densities(memory, view) : points(memory, view, theme);
    if (memory.about.means) sources.means = meansOfParts(memory, view.mask);
    return sources;
  }

  /** Where the open row is, if one is open. */
  const ringAround = (memory, row) => columnsOf(memory, row === null ? [] : [row]);

  /** Of each row, what each panel draws at x and y: x0, y0, x1, ... */
  function columnsOf(memory, rows) {
    const data = {};
    memory.axes.forEach(([x, y], i) => {
      data[`x${i}`] = gathered(x, rows);
      data[`y${i}`] = gathered(y, rows);
    });
    return data;
  }

  /** What is shown, in colour, over what is not; what the modalities disagree on most comes last, on top. */
  function points(memory, view, theme) {
    const shown = rowsWhere(memory.n, (row) => view.mask[row] && isKnown(memory, row)).reverse();
    const rest = rowsWhere(memory.n, (row) => !view.mask[row] && isKnown(memory, row));
    const data = columnsOf(memory, shown);
    const ids = memory.columns.get("utterance_id").values;
    data.row = shown;
    data.id = Array.from(shown, (row) => ids[row]);
    if (memory.family) {
      const looks = memory.colours.map((look) => ({ colour: theme.colour(look.colour), marker: look.marker }));
      const type = memory.columns.get("type");
      data.type = words(type, shown);
      data.colour = Array.from(shown, (row) => looks[memory.family.codes[row]]?.colour ?? theme.ink);
      data.marker = Array.from(shown, (row) => looks[memory.family.codes[row]]?.marker ?? "circle");
    }
    return { shown: data, rest: columnsOf(memory, rest), count: shown.length };
  }

  /** The number of each row's cell, from the lower left on, row by row; NO_CELL where it has none. */
  function cellsOf(x, y, panel, [across, up]) {
    const found = new Uint16Array(x.length).fill(NO_CELL);
    const [perX, perY] = [across / (panel.x.high - panel.x.low), up / (panel.y.high - panel.y.low)];
    for (let row = 0; row < x.length; row++) {
      const i = Math.floor((x[row] - panel.x.low) * perX);
      const j = Math.floor((y[row] - panel.y.low) * perY);
      if (i >= 0 && i < across && j >= 0 && j < up) found[row] = j * across + i;
    }
    return found;
  }

  /** Counts by cell as images; NaN, which is not drawn, where nothing is. */
  function densities(memory, view) {
    const [across, up] = memory.about.cells;
    const images = {};
    let count = 0;
    let most = 1;
    memory.cells.forEach((cells, i) => {
      const counts = new Float32Array(across * up);
      const hidden = new Float32Array(across * up);
      count = 0;
      for (let row = 0; row < cells.length; row++) {
        if (cells[row] === NO_CELL) continue;
        if (view.mask[row]) {
          counts[cells[row]] += 1;
          count += 1;
        } else hidden[cells[row]] = 1;
      }
      for (let cell = 0; cell < counts.length; cell++) {
        most = Math.max(most, counts[cell]);
        if (counts[cell] || !hidden[cell]) hidden[cell] = NaN;
        if (!counts[cell]) counts[cell] = NaN;
      }
      images[`density-${i}`] = counts;
      images[`faint-${i}`] = hidden;
    });
    return { images, shape: [up, across], most, count };
  }

  /** Means of x and y of equal parts by x, as numpy.array_split makes them. */
  function meansOfParts({ about, columns, axes }, mask) {
    const [x, y] = axes[0];
    const parts = about.means;
    const rows = sortedBy(columns, about.panels[0].x.column, mask, y);
    const means = { x: [], y: [] };
    if (rows.length < about.fewest) return means;
    let start = 0;
    for (let part = 0; part < parts; part++) {
      const end = start + Math.floor(rows.length / parts) + Number(part < rows.length % parts);
      if (end === start) break;
      const mine = rows.subarray(start, end);
      means.x.push(meanOf(gathered(x, mine)));
      means.y.push(meanOf(gathered(y, mine)));
      start = end;
    }
    return means;
  }

  // Gates

  function prepareGates(about, columns) {
    const values = about.names.map((name) => about.modalities.map((m) => numbers(columns, `${name}_${m}`)));
    const type = about.types.length ? columns.get("type") : null;
    const place = type ? type.levels.map((level) => about.types.indexOf(level)) : [];
    const memory = { about, values, type, place };
    memory.all = means(memory, null);
    return memory;
  }

  /** Mean of each name and modality in each type (in all rows where there are no types). */
  function means({ about, values, type, place }, mask) {
    const width = Math.max(1, about.types.length);
    return values.map((ofName) =>
      ofName.map((own) => {
        const [sums, counts] = [new Float64Array(width), new Float64Array(width)];
        for (let row = 0; row < own.length; row++) {
          const at = type ? place[type.codes[row]] ?? -1 : 0;
          if ((mask && !mask[row]) || at < 0 || Number.isNaN(own[row])) continue;
          sums[at] += own[row];
          counts[at] += 1;
        }
        return sums.map((sum, at) => sum / counts[at]);
      }),
    );
  }

  function fillGates(memory, view, theme) {
    const { about, all } = memory;
    const colours = about.modalities.map((_, m) => theme.colour(about.legend[m].colour));
    const sources = { count: view.count };
    const step = 0.8 / about.modalities.length;
    for (const [which, found] of [["shown", means(memory, view.mask)], ["all", all]]) {
      found.forEach((ofName, i) => {
        const data = { y: [], value: [], colour: [], what: [] };
        ofName.forEach((ofModality, m) => {
          ofModality.forEach((value, at) => {
            if (Number.isNaN(value)) return;
            data.y.push(at + (m - (about.modalities.length - 1) / 2) * step);
            data.value.push(value);
            data.colour.push(colours[m]);
            data.what.push([about.modalities[m], about.types[at]].filter(Boolean).join(", "));
          });
        });
        sources[`${which}-${i}`] = data;
      });
    }
    return sources;
  }

  // Types

  function prepareTypes(about, columns) {
    const type = columns.get("type");
    const place = type.levels.map((level) => about.types.indexOf(level));
    const memory = { about, type, place };
    memory.all = countsOf(memory, null);
    return memory;
  }

  function countsOf({ about, type, place }, mask) {
    const counts = new Array(about.types.length).fill(0);
    for (let row = 0; row < type.codes.length; row++) {
      const at = place[type.codes[row]];
      if (at >= 0 && (!mask || mask[row])) counts[at] += 1;
    }
    return counts;
  }

  function fillTypes(memory, view, theme) {
    const { about, all } = memory;
    const colour = about.colours.map(theme.colour);
    const y = about.types.map((_, at) => at);
    const n = countsOf(memory, view.mask);
    const said = n.map((count, at) => `${count.toLocaleString("en")} of ${all[at].toLocaleString("en")}`);
    return { shown: { y, n, colour, words: said }, all: { y, n: all, colour, words: said }, count: view.count };
  }

  // Risk and coverage

  function prepareRisk(about, columns) {
    const { different: labels, squared } = about.loss;
    const loss = labels
      ? different(columns.get(labels[0]), columns.get(labels[1]))
      : numbers(columns, squared[0]).map((value, row) => (value - numbers(columns, squared[1])[row]) ** 2);
    const memory = { about, columns, loss };
    memory.all = curves(memory, null);
    return memory;
  }

  /** The curve of each score, of the rows of a mask. */
  function curves({ about, columns, loss }, mask) {
    return about.scores.map(({ sort }) => {
      const doubt = numbers(columns, sort.replace("-", ""));
      return riskCurve(sortedBy(columns, sort, mask, loss), loss, doubt);
    });
  }

  /**
   * Risk among the first of some rows, sorted by doubt, by the share that these are. It is expected over the orders of
   * tied rows: the first t of a run of m with the loss E, after K others with the loss L, have (L + t E / m) / (K + t).
   */
  function riskCurve(rows, loss, doubt) {
    const n = rows.length;
    const [xs, ys] = [[], []];
    const step = Math.max(1, (n - 1) / (MOST_POINTS_OF_A_CURVE - 1));
    let [before, lost, next] = [0, 0, 0];
    while (before < n) {
      let end = before;
      let ofRun = 0;
      while (end < n && doubt[rows[end]] === doubt[rows[before]]) ofRun += loss[rows[end++]];
      for (; Math.round(next) < end; next += step) {
        const k = Math.round(next) + 1;
        xs.push(k / n);
        ys.push((lost + ((k - before) * ofRun) / (end - before)) / k);
      }
      lost += ofRun;
      before = end;
    }
    return { xs, ys };
  }

  function fillRisk(memory, view, theme) {
    const { about, all } = memory;
    const colour = about.scores.map((score) => theme.colour(score.colour));
    const data = (found, of) => ({
      xs: found.map((curve) => curve.xs),
      ys: found.map((curve) => curve.ys),
      colour,
      what: about.scores.map((score) => `${score.level}, ${of}`),
    });
    return { shown: data(curves(memory, view.mask), "of what is shown"), all: data(all, "of all"), count: view.count };
  }

  // Rates of disagreement

  function prepareFloor(about, columns) {
    const values = {
      rate: about.pairs.map(({ models: [first, second] }) => {
        if (about.measure === "label") return different(columns.get(`label_${first}`), columns.get(`label_${second}`));
        const other = numbers(columns, `y_${second}`);
        return numbers(columns, `y_${first}`).map((value, row) => Math.abs(value - other[row]) / about.scale);
      }),
      excess: about.pairs.map(({ excess }) => columns.get(excess)?.values),
    };
    return { about, values };
  }

  function fillFloor({ about, values }, view) {
    const sources = { count: view.count };
    about.names.forEach((name, i) => {
      const found = values[name].map((own) => (own ? meanOf(own, view.mask) : NaN));
      const y = about.pairs.map((_, at) => at).filter((at) => !Number.isNaN(found[at]));
      sources[`shown-${i}`] = { y, value: y.map((at) => found[at]), what: y.map(() => "of what is shown") };
    });
    return sources;
  }

  MixedSignals.chartData = {
    scatter: { prepare: prepareScatter, fill: fillScatter, ring: ringAround },
    gates: { prepare: prepareGates, fill: fillGates },
    types: { prepare: prepareTypes, fill: fillTypes },
    risk: { prepare: prepareRisk, fill: fillRisk },
    floor: { prepare: prepareFloor, fill: fillFloor },
    static: { prepare: () => null, fill: (_, view) => ({ count: view.n }) },
  };
})();
