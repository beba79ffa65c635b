// Small helpers. Texts of the data only ever become text nodes or attributes, never HTML.

const SVG = "http://www.w3.org/2000/svg";

function put(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...[children ?? []].flat(3).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const el = (name, attributes, ...children) => put(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => put(document.createElementNS(SVG, name), attributes, children);
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const known = (value) => typeof value === "number";
const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
const brief = (value) => (known(value) ? String(Number(value.toPrecision(3))).replace("-", "−") : "–");

let serial = 0;
const fresh = () => `n${++serial}`;

function section(id, title, ...children) {
  return el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), ...children);
}

// A form control under its name.
function labeled(name, control) {
  const id = fresh();
  control.setAttribute("aria-labelledby", id);
  return el("label", {}, el("span", { id }, name), control);
}

function choice(name, entries, onchange) {
  const select = el("select", { onchange: () => onchange(select.value) }, entries.map(([value, text]) => el("option", { value }, text)));
  return { node: labeled(name, select), select };
}

const callouts = (texts) => texts.map((text) => el("p", { class: "callout" }, text));
