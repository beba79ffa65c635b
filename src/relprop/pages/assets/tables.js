// Tables of scores: sorted by any column, the best marked, intervals drawn.

function summary(data) {
  const models = [...new Set(data.tables.map((table) => table.model))];
  const metrics = [...new Set(data.tables.map((table) => table.metric))];
  const panels = data.tables.flatMap((table) => table.grids.map((grid) => panel(table, grid)));
  const state = { model: "", metric: "" };
  const show = () => document.querySelectorAll("[data-metric]").forEach((node) => {
    node.hidden = Boolean((state.model && node.dataset.model !== state.model) || (state.metric && node.dataset.metric !== state.metric));
  });
  const pick = (name, label, values) => values.length < 2 ? null
    : choice(label, [["", "all"], ...values.map((value) => [value, value])], (value) => { state[name] = value; show(); }).node;
  const controls = [pick("model", "Model", models), pick("metric", "Metric", metrics)].filter(Boolean);
  return section("summary", "Summary",
    el("p", { class: "muted" }, data.method, data.baseline ? ` Δ is the difference to ${data.baseline}, paired by image; bold where its interval leaves out zero.` : ""),
    controls.length ? el("div", { class: "panel controls" }, controls, el("span", { class: "muted small" }, "for tables, ranks and curves")) : null,
    panels);
}

// What the filters above the tables look at.
const of = (table) => ({ "data-model": table.model, "data-metric": table.metric });

function panel(table, grid) {
  const columns = [
    { title: "method", text: true, key: (row) => row.method },
    ...grid.columns.flatMap((column, number) => [
      { title: `${column.name} ${column.arrow}`.trim(), hint: column.meaning, direction: column.direction, key: (row) => row.scores[number].value, cell: (row) => score(row.scores[number], ends(grid, number, "scores")) },
      ...(table.baseline ? [{ title: `Δ ${column.name}`, hint: `difference to ${table.baseline}`, direction: column.direction, key: (row) => row.gaps[number]?.value, cell: (row) => gap(row.gaps[number], ends(grid, number, "gaps")) }] : []),
    ]),
    { title: table.unit, key: (row) => row.images },
    { title: "failed", key: (row) => row.failed },
  ];
  const first = columns.findIndex((column) => column.direction && column.direction !== "none");
  const meanings = grid.columns.filter((column) => column.meaning);
  return el("div", { class: "panel", ...of(table) },
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${table.model}: ${grid.caption}` },
      sortable(`${table.model}: ${grid.caption}`, columns, grid.rows, first)),
    meanings.length ? el("details", { class: "small" }, el("summary", {}, "What the values say"),
      el("dl", {}, meanings.flatMap((column) => [el("dt", {}, `${column.name} ${column.arrow}`.trim()), el("dd", {}, column.meaning)]))) : null);
}

function sortable(caption, columns, rows, first) {
  const body = el("tbody");
  const heads = columns.map((column, number) => el("th", { scope: "col", title: column.hint || null },
    el("button", { type: "button", onclick: () => sort(number) }, column.title)));
  let sorted = null;
  const sort = (number, way) => {
    const column = columns[number];
    const natural = column.text || column.direction === "lower" ? 1 : -1;
    const sign = way ?? (sorted?.number === number ? -sorted.sign : natural);
    sorted = { number, sign };
    heads.forEach((head, place) => place === number ? head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort"));
    body.replaceChildren(...[...rows].sort((a, b) => order(column.key(a), column.key(b), sign)).map((row) => el("tr", {},
      columns.map((each, place) => place ? el("td", { class: each.cell?.(row)?.className }, each.cell ? [...each.cell(row).childNodes] : String(each.key(row)))
        : el("th", { scope: "row" }, row.method)))));
  };
  if (first >= 0) sort(first); else sort(0);
  return el("table", {}, el("caption", {}, el("strong", {}, caption)), el("thead", {}, el("tr", {}, heads)), body);
}

function order(a, b, sign) {
  if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
  if (b === null || b === undefined) return -1;
  return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
}

function score(entry, range) {
  return el("div", { class: entry.best ? "best" : null },
    el("span", { class: "score" }, entry.best ? el("span", { class: "tag" }, "best") : null, entry.text),
    el("span", { class: "range" }, [entry.range, entry.undefined ? `${entry.undefined} undefined` : ""].filter(Boolean).join(" · ")), span(entry, range));
}

function gap(entry, range) {
  if (!entry) return el("div", {}, el("span", { class: "muted" }, "baseline"));
  const sure = known(entry.low) && (entry.low > 0 || entry.high < 0);
  return el("div", { class: sure ? "sure" : null }, el("span", { class: "score" }, entry.text), el("span", { class: "range" }, entry.range), span(entry, range, true));
}

// The smallest and the largest end of a column's intervals.
function ends(grid, number, kind) {
  const entries = grid.rows.map((row) => row[kind][number]).filter((entry) => entry && known(entry.value));
  const values = entries.flatMap((entry) => [entry.value, entry.low, entry.high]).filter(known);
  return values.length ? [Math.min(...values, ...(kind === "gaps" ? [0] : [])), Math.max(...values, ...(kind === "gaps" ? [0] : []))] : null;
}

function span(entry, range, zero) {
  if (!range || !known(entry.value)) return null;
  const at = (value) => range[1] > range[0] ? 4 + 92 * (value - range[0]) / (range[1] - range[0]) : 50;
  const place = (value) => `${at(value)}%`;
  return svg("svg", { class: "span", "aria-hidden": "true" },
    svg("line", { x1: "4%", x2: "96%", y1: 5, y2: 5 }),
    zero ? svg("line", { class: "zero", x1: place(0), x2: place(0), y1: 0, y2: 9 }) : null,
    known(entry.low) ? svg("line", { class: "whisker", x1: place(entry.low), x2: place(entry.high), y1: 5, y2: 5 }) : null,
    svg("circle", { cx: place(entry.value), cy: 5, r: 3.5 }));
}
