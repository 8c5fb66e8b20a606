/** The table of utterances: DataTables, which asks for one page of rows at a time. */
(() => {
  "use strict";

  const { make, theirs, number, count, level } = MixedSignals;
  const PER_PAGE = 25;
  const SNIPPET = 140;

  const place = document.querySelector("#table");
  let view = null;
  let table = null;
  let shown = { columns: null, order: null, sort: "" }; // what the table was drawn from
  let drawing = false;

  MixedSignals.on("view", (next) => {
    view = next;
    if (drawing) return;
    const { columns, order, state } = view;
    const before = shown;
    shown = { columns, order, sort: state.sort };
    if (before.columns !== columns) build();
    else if (before.order !== order) redraw(before.sort);
    showOpenRow();
  });

  // Columns ----------------------------------------------------------------------------------------------------------

  /** Columns of the table: {name (to sort by), title, says (words for it), cell: row -> Node, sortable}. */
  function tableColumns() {
    const { about, columns } = view;
    const has = (name) => columns.has(name);
    const numbers = (name, title, digits) =>
      ({ name, title, number: true, cell: (row) => plain(number(columns.get(name).values[row], digits)) });
    const levels = (name, title) => ({ name, title, cell: (row) => theirs(level(columns.get(name), row)) });
    const found = [{ name: "utterance_id", title: "utterance", cell: idCell, header: true }];
    if (has("group")) found.push(levels("group", columns.get("group").label));
    found.push(numbers(about.score, "disagreement"));
    found.push({ name: "text", title: "transcript", cell: snippet, sortable: false });
    if (about.kind === "interval") {
      found.push(numbers("y_true", "true value"));
      for (const model of about.models) found.push(numbers(`y_${model}`, model));
    } else {
      if (has("type")) found.push(levels("type", "type"));
      found.push(levels("label_true", "label"));
      for (const model of about.models) {
        found.push({ name: `confidence_${model}`, title: model, cell: (row) => modelCell(model, row), number: true });
      }
    }
    if (has("vote_entropy")) found.push(numbers("vote_entropy", "vote entropy"));
    else if (has("variance")) found.push(numbers("variance", "raters’ variance"));
    return found.map((column) => ({ says: columns.get(column.name)?.label ?? column.title, ...column }));
  }

  function plain(words) {
    return document.createTextNode(words);
  }

  function idCell(row) {
    const id = view.columns.get("utterance_id").values[row];
    return make("button", { type: "button", class: "open", "aria-label": `Open ${id}` }, theirs(id));
  }

  function modelCell(model, row) {
    const label = level(view.columns.get(`label_${model}`), row);
    if (!label) return plain("–");
    const right = label === level(view.columns.get("label_true"), row);
    const confidence = view.columns.get(`confidence_${model}`).values[row];
    return make("span", { class: right ? "right" : "wrong" },
      make("span", { "aria-hidden": "true" }, right ? "✓ " : "✗ "),
      make("span", { class: "away" }, right ? "right: " : "wrong: "), theirs(label), ` ${number(confidence)}`);
  }

  /** The beginning of a transcript, once its part is there. */
  function snippet(row) {
    const cell = make("span", { class: "snippet", dir: "auto" }, "…");
    MixedSignals.utterance(row).then(
      ({ text }) => {
        const words = text.slice(0, 2 * SNIPPET).replace(/\s+/g, " ").trim();
        const start = Array.from(words).slice(0, SNIPPET).join("");
        cell.textContent = start.length < words.length || text.length > 2 * SNIPPET ? `${start}…` : start;
      },
      (error) => {
        cell.textContent = "not there";
        MixedSignals.problem(error);
      },
    );
    return cell;
  }

  // The table --------------------------------------------------------------------------------------------------------

  function build() {
    table?.destroy(true);
    const columns = tableColumns();
    const heads = columns.map(({ title, says }) => make("th", { scope: "col", title: says }, title));
    const element = make("table", { class: "explorer" },
      make("caption", { class: "away" }, "Utterances; the button in the first column opens one"),
      make("thead", {}, make("tr", {}, ...heads)));
    const page = pageOf(view.state.row);
    place.replaceChildren(element);
    // No `title` is given and every cell is a node: DataTables writes strings as HTML, and these words are not ours.
    table = new DataTable(element, {
      serverSide: true,
      ajax: (asked, answer) => answer(rowsFor(asked)),
      columns: columns.map(({ name, title, cell, number: isNumber, header, sortable = true }) => ({
        name,
        ariaTitle: title,
        data: "row",
        render: (row, purpose) => (purpose === "display" ? cell(row) : row),
        type: "string",
        className: isNumber ? "number" : "",
        cellType: header ? "th" : "td",
        createdCell: header ? (th) => { th.scope = "row"; } : null,
        orderable: sortable,
        orderSequence: isNumber ? ["desc", "asc"] : ["asc", "desc"],
      })),
      createdRow: (tr, { row }) => { tr.dataset.row = row; },
      drawCallback: showOpenRow,
      order: orderOf(view.state.sort, columns),
      pageLength: PER_PAGE,
      displayStart: page * PER_PAGE,
      autoWidth: false,
      searching: false,
      processing: false,
      orderMulti: false,
      orderClasses: false,
      layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: "paging" },
      language: {
        info: "_START_ to _END_ of _TOTAL_", infoEmpty: "", infoFiltered: "", thousands: ",",
        zeroRecords: "No utterance is like that. Take a filter away.",
        emptyTable: "No utterance is like that. Take a filter away.",
      },
    });
  }

  /** One page of rows; a click on a header comes here first, with another order. */
  function rowsFor({ draw, start, length, order }) {
    const sort = order[0] ? (order[0].dir === "desc" ? "-" : "") + order[0].name : view.state.sort;
    if (sort !== view.state.sort) {
      drawing = true;
      MixedSignals.set({ sort });
      drawing = false;
      shown = { columns: view.columns, order: view.order, sort };
    }
    const data = Array.from(view.order.subarray(start, start + length), (row) => ({ row }));
    return { draw, recordsTotal: view.n, recordsFiltered: view.count, data };
  }

  function orderOf(sort, columns) {
    const k = columns.findIndex(({ name }) => name === sort.replace(/^-/, ""));
    return k < 0 ? [] : [[k, sort.startsWith("-") ? "desc" : "asc"]];
  }

  function redraw(sortBefore) {
    if (view.state.sort !== sortBefore) table.order(orderOf(view.state.sort, tableColumns()));
    table.page(pageOf(view.state.row)).draw(false);
  }

  /** The page that a row is on, the first where it is on none. */
  function pageOf(row) {
    return Math.max(0, Math.floor(view.order.indexOf(row) / PER_PAGE));
  }

  // The open row -----------------------------------------------------------------------------------------------------

  function showOpenRow() {
    const { row } = view.state;
    const at = view.order.indexOf(row);
    if (table && at >= 0 && table.page() !== pageOf(row) && opened !== row) {
      opened = row;
      table.page(pageOf(row)).draw("page");
      return;
    }
    opened = row;
    for (const tr of place.querySelectorAll("tbody tr[data-row]")) {
      const open = Number(tr.dataset.row) === row;
      tr.classList.toggle("is-open", open);
      if (open) tr.setAttribute("aria-current", "true");
      else tr.removeAttribute("aria-current");
    }
  }

  let opened = null; // the row that the table was last turned to: after that, its pages are turned by hand

  place.addEventListener("click", ({ target }) => {
    const tr = target.closest("tbody tr[data-row]");
    if (tr && !String(getSelection())) MixedSignals.set({ row: Number(tr.dataset.row) });
  });
})();
