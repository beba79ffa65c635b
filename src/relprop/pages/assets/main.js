// The page, from its data.

function settingsSection(data) {
  if (!data.settings.length) return null;
  return section("settings", "Settings and versions", el("div", { class: "panel" },
    data.settings.map(([title, entries]) => [el("h3", {}, title), el("dl", {}, entries.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])), el("br")])));
}

function failuresSection(data) {
  if (!data.failures.length) return null;
  return section("failed", "Failed", el("div", { class: "panel" }, data.failures.map((one) => el("details", {},
    el("summary", {}, `${one.model}, ${one.metric}, ${one.method}: ${one.images.length} image${one.images.length === 1 ? "" : "s"}: ${one.reason}`), el("p", { class: "small muted" }, one.images.join(", "))))));
}

const data = read("data");
const parts = [
  data.tables.length ? summary(data) : null,
  ranks(data),
  curves(data),
  data.gallery?.cards.length ? gallerySection(data.gallery) : data.missing ? section("gallery", "Gallery", el("p", { class: "callout" }, data.missing)) : null,
  failuresSection(data),
  settingsSection(data),
].filter(Boolean);
document.getElementById("lead").textContent = data.lead;
document.getElementById("nav").append(...parts.map((part) => el("a", { href: `#${part.id}` }, part.firstChild.textContent)));
document.getElementById("main").append(...callouts(data.notes), ...parts, el("footer", {}, data.foot));
document.documentElement.dataset.ready = "true";
