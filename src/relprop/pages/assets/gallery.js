// The gallery: only cards near the window hold pictures; the others are empty boxes of their size.

const NEAR = "500px 0px";

function gallerySection(gallery) {
  usePalette(gallery.colors);
  const state = galleryState(gallery), live = new Map(), list = el("div", { class: "cards" }), count = el("p", { id: "count", class: "muted", role: "status" });
  const nodes = gallery.cards.map((card, number) => el("article", { class: "card", "data-card": number, "aria-label": card.name }));
  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting ? fill(entry.target) : empty(entry.target)), { rootMargin: NEAR });
  const fill = async (node) => {
    const number = Number(node.dataset.card);
    if (live.has(number)) return live.get(number);
    const work = filled(gallery, state, number, node);
    live.set(number, work);
    try { await work; } catch (error) { node.append(el("p", { class: "callout" }, `This card cannot be shown: ${error.message}`)); }
    if (!live.has(number)) node.replaceChildren();
    return work;
  };
  const empty = (node) => {
    if (!live.delete(Number(node.dataset.card))) return;
    node.style.minHeight = `${node.offsetHeight}px`;
    node.replaceChildren();
  };
  const sorted = () => {
    const shown = chosen(gallery, state);
    list.replaceChildren(...shown.map((number) => nodes[number]));
    count.textContent = shown.length ? `${shown.length} of ${nodes.length} images` : "No image fits these filters.";
    live.forEach(async (work, number) => (await work)?.caption());
  };
  const repainted = () => live.forEach(async (work) => (await work)?.paint());
  const print = async () => {
    watcher.disconnect();
    for (const node of [...list.children]) await fill(node);
    window.print();
    nodes.forEach((node) => watcher.observe(node));
  };
  const found = section("gallery", "Gallery", el("p", { class: "muted" }, gallery.notes.join(" ")), controls(gallery, state, sorted, repainted, print), count, list);
  sorted();
  nodes.forEach((node) => watcher.observe(node));
  return found;
}

async function filled(gallery, state, number, node) {
  const card = gallery.cards[number], pictures = read(`card-${number}`);
  const photo = await decoded(pictures.photo);
  const tiles = await Promise.all(pictures.tiles.map(async (tile) => tile.map ? { ...tile, ...(await levels(tile.map)), canvas: el("canvas", { role: "img" }) } : tile));
  const figures = tiles.map((tile, place) => figure(gallery, card, tile, () => zoom(gallery, state, card, photo, tiles, place)));
  photo.alt = `photo ${card.name}`;
  node.replaceChildren(head(card, gallery.cards.some((other) => other.model !== card.model)), el("div", { class: "tiles" },
    el("figure", { class: "tile" }, el("figcaption", {}, "photo"), el("button", { type: "button", title: "Enlarge", onclick: () => zoom(gallery, state, card, photo, tiles, 0) }, photo)),
    figures.map((one) => one.node)));
  node.style.minHeight = "";
  const caption = () => figures.forEach((one) => one.caption(state));
  const paintAll = () => tiles.forEach((tile, place) => {
    figures[place].node.hidden = !state.methods.has(tile.method);
    if (tile.canvas && !figures[place].node.hidden) paint(tile.canvas, tile, photo, state.mode, state.opacity);
  });
  caption();
  paintAll();
  return { caption, paint: paintAll };
}

const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;

function head(card, many) {
  const chip = (label, text) => text ? el("span", { class: "chip" }, `${label} `, el("b", {}, text)) : null;
  const explained = card.explained && known(card.probability) ? `${card.explained}, ${percent(card.probability)}` : card.explained;
  return el("header", {}, el("h3", {}, card.name), chip("explained:", explained),
    card.predicted !== card.explained ? chip("predicted:", card.predicted) : null,
    card.label !== card.explained ? chip("true:", card.label) : null,
    card.right === null ? null : el("span", { class: card.right ? "right" : "wrong" }, card.right ? "✓ right" : "✗ wrong"),
    many ? chip("model:", card.model) : null);
}

function figure(gallery, card, tile, open) {
  const method = gallery.methods[tile.method], title = [method, tile.title].filter(Boolean).join(" · ");
  const score = el("span", { class: "value" });
  const caption = (state) => {
    const own = state.measure >= 0 ? card.scores[tile.method][state.measure] : null;
    const all = state.measure >= 0 ? card.scores.map((row) => row[state.measure]).filter(known) : [];
    const direction = gallery.measures[state.measure]?.direction;
    const best = all.length > 1 && known(own) && ((direction === "higher" && own === Math.max(...all)) || (direction === "lower" && own === Math.min(...all)));
    score.textContent = known(own) ? `${best ? "★ " : ""}${brief(own)}` : "";
    score.className = best ? "value best" : "value";
    tile.canvas?.setAttribute("aria-label", `${title}: map of ${card.name}, ${tile.numbers.join(", ")}`);
  };
  const picture = tile.canvas ? el("button", { type: "button", onclick: open, title: "Enlarge" }, tile.canvas) : el("div", { class: "none" }, tile.reason);
  return { caption, node: el("figure", { class: "tile" }, el("figcaption", {}, el("b", {}, title), score), picture, tile.canvas ? legend(tile) : null) };
}

// A map at full size beside its photo; the arrow keys go from method to method.
function zoom(gallery, state, card, photo, tiles, start) {
  const dialog = document.getElementById("zoom"), shown = tiles.filter((tile) => tile.canvas && state.methods.has(tile.method));
  if (!shown.length) return;
  let place = Math.max(0, shown.indexOf(tiles[start]));
  const canvas = el("canvas", { role: "img" }), readout = el("p", { class: "readout" }), title = el("h3"), details = el("div"), still = photo.cloneNode();
  canvas.addEventListener("pointermove", (event) => {
    const tile = shown[place], box = canvas.getBoundingClientRect();
    const x = Math.min(tile.width - 1, Math.floor((event.clientX - box.left) / box.width * tile.width)), y = Math.min(tile.height - 1, Math.floor((event.clientY - box.top) / box.height * tile.height));
    const unit = (tile.levels[Math.max(0, y) * tile.width + Math.max(0, x)] - MIDDLE) / MIDDLE;
    readout.textContent = `under the pointer: ${Math.abs(unit) === 1 ? "beyond " : "about "}${brief(tile.white + unit * tile.size)}`;
  });
  const show = (step) => {
    place = (place + step + shown.length) % shown.length;
    const tile = shown[place];
    paint(canvas, tile, photo, state.mode, state.opacity);
    title.textContent = [gallery.methods[tile.method], tile.title, card.name].filter(Boolean).join(" · ");
    canvas.setAttribute("aria-label", `${title.textContent}, ${tile.numbers.join(", ")}`);
    readout.textContent = "Point at the map for its value.";
    details.replaceChildren(...legend(tile), el("p", { class: "muted small" }, tile.numbers.join(" · ")));
  };
  dialog.replaceChildren(
    el("div", { class: "bar" }, title, el("div", { class: "pair" },
      shown.length > 1 ? [el("button", { type: "button", class: "button", onclick: () => show(-1), "aria-label": "previous map" }, "←"), el("button", { type: "button", class: "button", onclick: () => show(1), "aria-label": "next map" }, "→")] : null,
      el("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Close"))),
    el("div", { class: "zoomed" }, still, canvas), details, readout);
  dialog.onkeydown = (event) => { if (event.key === "ArrowLeft") show(-1); if (event.key === "ArrowRight") show(1); };
  show(0);
  dialog.showModal();
}
