// Which cards are shown, in which order, and how: the state of the gallery and its controls.

const CONFIDENCE = -1, NAME = -2, ALL = -1;

function galleryState(gallery) {
  const measure = gallery.measures.length ? 0 : NAME;
  return { model: "", group: "", answer: "", text: "", measure, method: ALL, order: "worst", low: null, high: null, mode: "overlay", opacity: gallery.opacity, methods: new Set(gallery.methods.keys()) };
}

function value(card, state) {
  if (state.measure === CONFIDENCE) return card.probability;
  const rows = state.method === ALL ? card.scores : [card.scores[state.method]];
  return mean(rows.map((row) => row[state.measure]).filter(known));
}

function chosen(gallery, state) {
  const text = state.text.trim().toLowerCase();
  const found = [...gallery.cards.keys()].filter((number) => {
    const card = gallery.cards[number];
    if (state.model && card.model !== state.model) return false;
    if (state.group && ![card.explained, card.predicted, card.label].includes(state.group)) return false;
    if (state.answer && card.right !== (state.answer === "right")) return false;
    if (text && !card.name.toLowerCase().includes(text)) return false;
    if (state.measure === NAME || (state.low === null && state.high === null)) return true;
    const score = value(card, state);
    return known(score) && !(state.low !== null && score < state.low) && !(state.high !== null && score > state.high);
  });
  const backwards = state.order === "worst" ? 1 : -1;
  const better = gallery.measures[state.measure]?.direction === "lower" ? -1 : 1;
  if (state.measure === NAME) return found.sort((a, b) => backwards * gallery.cards[a].name.localeCompare(gallery.cards[b].name, undefined, { numeric: true }));
  return found.sort((a, b) => order(value(gallery.cards[a], state), value(gallery.cards[b], state), backwards * better));
}

function controls(gallery, state, sorted, repainted, print) {
  const cards = gallery.cards;
  const distinct = (...names) => [...new Set(cards.flatMap((card) => names.map((name) => card[name])).filter(Boolean))].sort((a, b) => a.localeCompare(b));
  const set = (name, number) => (given) => { state[name] = number ? Number(given) : given; relabel(); sorted(); };
  const models = distinct("model"), groups = distinct("explained", "predicted", "label");
  const sorts = [...gallery.measures.map((one, number) => [number, one.name]), ...(cards.some((card) => known(card.probability)) ? [[CONFIDENCE, "probability of the class"]] : []), [NAME, "name"]];
  const measure = choice("Sort by", sorts, set("measure", true));
  const method = choice("Score of", [[ALL, "all methods, mean"], ...gallery.methods.map((name, number) => [number, name])], set("method", true));
  const way = choice("Order", [["worst", ""], ["best", ""]], set("order"));
  const bound = (name) => el("input", { type: "number", step: "any", "aria-label": name === "low" ? "lowest score" : "highest score", placeholder: name === "low" ? "from" : "to",
    oninput: (event) => { state[name] = event.target.value === "" ? null : Number(event.target.value); sorted(); } });
  const limits = el("fieldset", {}, el("legend", {}, "Score"), el("div", {}, bound("low"), bound("high")));
  measure.select.value = String(state.measure);
  const relabel = () => {
    const scored = state.measure >= 0, direction = gallery.measures[state.measure]?.direction ?? "none";
    const texts = state.measure === NAME ? ["A to Z", "Z to A"] : direction === "none" ? ["lowest first", "highest first"] : ["worst first", "best first"];
    [...way.select.options].forEach((option, number) => { option.textContent = texts[number]; });
    method.node.hidden = !scored || gallery.methods.length < 2;
    limits.hidden = state.measure === NAME;
  };
  relabel();
  const slider = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: state.opacity, oninput: () => { state.opacity = Number(slider.value); repainted(); } });
  const radio = (mode) => el("label", {}, el("input", { type: "radio", name: "mode", value: mode, checked: mode === state.mode, onchange: () => { state.mode = mode; slider.disabled = mode !== "overlay"; repainted(); } }), mode);
  const box = (name, number) => el("label", {}, el("input", { type: "checkbox", checked: true, onchange: (event) => {
    event.target.checked ? state.methods.add(number) : state.methods.delete(number);
    repainted();
  } }), name);
  return el("div", { class: "panel controls", role: "search", "aria-label": "Filter and sort the gallery" },
    measure.node, method.node, way.node, limits,
    models.length > 1 ? choice("Model", [["", "all"], ...models.map((name) => [name, name])], set("model")).node : null,
    groups.length > 1 ? choice("Class", [["", "all"], ...groups.map((name) => [name, name])], set("group")).node : null,
    cards.some((card) => card.right !== null) ? choice("Prediction", [["", "all"], ["right", "right"], ["wrong", "wrong"]], set("answer")).node : null,
    labeled("Name", el("input", { type: "search", placeholder: "part of the name", oninput: (event) => { state.text = event.target.value; sorted(); } })),
    el("fieldset", {}, el("legend", {}, "Show"), el("div", {}, radio("overlay"), radio("map"))),
    labeled("Opacity", slider),
    gallery.methods.length > 1 ? el("fieldset", {}, el("legend", {}, "Methods"), el("div", {}, gallery.methods.map(box))) : null,
    el("button", { type: "button", class: "button", onclick: print }, "Print the shown cards"));
}
