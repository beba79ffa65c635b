// Curves with their intervals, and mean ranks with the critical difference.

const WIDE = 460, HIGH = 250, LEFT = 46, BOTTOM = 26;

function curves(data) {
  const tables = data.tables.filter((table) => table.curves.length);
  if (!tables.length) return null;
  const methods = [...new Set(tables.flatMap((table) => table.curves.flatMap((curve) => curve.lines.map((line) => line.method))))];
  const look = (method) => ({ stroke: data.colors[methods.indexOf(method) % data.colors.length], "stroke-dasharray": ["", "6 3", "2 2"][Math.floor(methods.indexOf(method) / data.colors.length) % 3] });
  const hidden = new Set();
  const charts = tables.flatMap((table) => table.curves.map((curve) => ({ table, ...curveChart(table, curve, look, hidden) })));
  const keys = methods.map((method) => {
    const key = el("button", { type: "button", class: "key", "aria-pressed": "true", onclick: () => {
      hidden.has(method) ? hidden.delete(method) : hidden.add(method);
      key.setAttribute("aria-pressed", String(!hidden.has(method)));
      charts.forEach((chart) => chart.draw());
    } }, svg("svg", { "aria-hidden": "true" }, svg("line", { x1: 0, x2: 20, y1: 4, y2: 4, "stroke-width": 2.5, ...look(method) })), method);
    return key;
  });
  return section("curves", "Curves", el("p", { class: "muted" }, "Means over images, with 95 % intervals as bands. Point at a chart for its values; a name hides its line."),
    el("div", { class: "keys", role: "group", "aria-label": "Methods of the curves" }, keys),
    el("div", { class: "grid" }, charts.map((chart) => el("div", { class: "panel", ...of(chart.table) }, chart.node))));
}

function curveChart(table, curve, look, hidden) {
  const plot = svg("g"), readout = el("div", { class: "readout", "aria-live": "off" });
  const starts = curve.lines.map((line) => `${line.method} from ${brief(line.points[0]?.[0])} to ${brief(line.points.at(-1)?.[0])}`).join("; ");
  const steps = Math.max(...curve.lines.map((line) => line.points.length)) - 1;
  const x = (step) => LEFT + (WIDE - LEFT - 8) * (steps ? step / steps : 0.5);
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${curve.name}: ${starts}`,
    onpointermove: (event) => {
      const box = picture.getBoundingClientRect();
      const step = Math.min(steps, Math.max(0, Math.round(((event.clientX - box.left) / box.width * WIDE - x(0)) / ((x(steps) - x(0)) / (steps || 1) || 1))));
      readout.textContent = `step ${step}: ` + curve.lines.filter((line) => !hidden.has(line.method)).map((line) => `${line.method} ${brief(line.points[step]?.[0])}`).join(" · ");
    },
    onpointerleave: () => { readout.textContent = ""; } }, plot);
  const draw = () => {
    const lines = curve.lines.filter((line) => !hidden.has(line.method));
    const values = lines.flatMap((line) => line.points.flatMap((point) => lines.length > 10 ? [point[0]] : point)).filter(known);
    const low = Math.min(...values), high = Math.max(...values);
    const y = (value) => 8 + (HIGH - BOTTOM - 8) * (1 - (high > low ? (value - low) / (high - low) : 0.5));
    plot.replaceChildren(...(values.length ? axes(low, high, y, steps, x) : []), ...lines.flatMap((line) => {
      const dots = line.points.map((point, step) => [x(step), ...point]).filter((dot) => known(dot[1]));
      const banded = lines.length <= 10 && dots.length && dots.every((dot) => known(dot[2]));
      const edge = [...dots.map((dot) => `${dot[0]},${y(dot[3])}`), ...dots.toReversed().map((dot) => `${dot[0]},${y(dot[2])}`)];
      return [banded ? svg("polygon", { class: "band", points: edge.join(" "), fill: look(line.method).stroke }) : null,
        svg("polyline", { class: "curve", points: dots.map((dot) => `${dot[0]},${y(dot[1])}`).join(" "), ...look(line.method) })];
    }).filter(Boolean));
  };
  draw();
  return { draw, node: el("figure", { class: "chart" }, el("figcaption", {}, el("strong", {}, curve.name), el("div", { class: "muted small" }, `${table.model}: ${table.metric}`)), picture, readout) };
}

function axes(low, high, y, steps, x) {
  const rows = ticks(low, high, 5).flatMap((tick) => [
    svg("line", { class: "axis", x1: LEFT, x2: WIDE - 8, y1: y(tick), y2: y(tick) }),
    svg("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, brief(tick))]);
  const marks = ticks(0, steps, 6).filter(Number.isInteger).map((tick) => svg("text", { x: x(tick), y: HIGH - 6, "text-anchor": "middle" }, String(tick)));
  return [...rows, ...marks, svg("text", { x: LEFT - 6, y: HIGH - 6, "text-anchor": "end" }, "step")];
}

function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= raw);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

function ranks(data) {
  const all = data.tables.flatMap((table) => table.ranks.map((rank) => ({ table, rank })));
  if (!all.length) return null;
  return section("ranks", "Ranks",
    el("p", { class: "muted" }, "Mean rank over the images that all methods scored, 1 for the best. Two methods differ at the 5 % level where their bars do not overlap: each bar is one critical difference long (Nemenyi's test, Demšar 2006). Methods that do not differ from the best are green."),
    el("div", { class: "grid" }, all.map(({ table, rank }) => el("div", { class: "panel", ...of(table) }, rankChart(table, rank)))));
}

function rankChart(table, rank) {
  const rows = [...rank.methods].sort((a, b) => a.rank - b.rank);
  const name = Math.min(190, 20 + 6.6 * Math.max(...rows.map((row) => row.method.length)));
  const line = 22, top = 26, high = top + line * rows.length + 6, half = rank.difference / 2;
  const low = Math.min(1, rows[0].rank - half), far = Math.max(rows.length, rows.at(-1).rank + half);
  const x = (value) => name + 14 + (WIDE - name - 60) * (value - low) / (far - low);
  const label = `Mean ranks by ${rank.value}: ${rows.map((row) => `${row.method} ${row.rank.toFixed(2)}`).join("; ")}. Critical difference ${rank.difference.toFixed(2)}.`;
  return el("figure", { class: "chart" },
    el("figcaption", {}, el("strong", {}, `${table.metric}: ${rank.value} ${rank.arrow}`), el("div", { class: "muted small" }, `${table.model} · ${rank.images} images · critical difference ${rank.difference.toFixed(2)}`)),
    svg("svg", { viewBox: `0 0 ${WIDE} ${high}`, role: "img", "aria-label": label },
      ticks(1, rows.length, 6).filter(Number.isInteger).flatMap((tick) => [
        svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: top - 6, y2: high }),
        svg("text", { x: x(tick), y: 13, "text-anchor": "middle" }, String(tick))]),
      rows.flatMap((row, number) => {
        const y = top + line * (number + 0.5), lead = row.rank - rows[0].rank < rank.difference;
        return [
          svg("text", { class: "name", x: name, y: y + 4, "text-anchor": "end" }, shortened(row.method, 28), svg("title", {}, row.method)),
          svg("line", { class: "whisker", x1: x(row.rank - half), x2: x(row.rank + half), y1: y, y2: y }),
          svg("circle", { class: lead ? "dot lead" : "dot", cx: x(row.rank), cy: y, r: 4.5 }),
          svg("text", { x: WIDE - 6, y: y + 4, "text-anchor": "end" }, row.rank.toFixed(2))];
      })));
}

const shortened = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
