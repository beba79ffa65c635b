const cache = new WeakMap();
const valuesOf = (map) => {
  if (!cache.has(map)) {
    const bytes = Uint8Array.from(atob(map.dataset.values), (mark) => mark.charCodeAt(0));
    cache.set(map, new Float32Array(bytes.buffer));
  }
  return cache.get(map);
};
const written = (value) => {
  const size = Math.abs(value), sign = value < 0 ? '−' : value > 0 ? '+' : '';
  return sign + (size === 0 ? '0' : size >= 1e7 || size < 1e-3 ? size.toExponential(1) : size >= 100 ? size.toFixed(0) : size.toPrecision(3));
};
const place = (map, event) => {
  const box = map.getBoundingClientRect();
  const limit = (share) => Math.min(Math.max(share, 0), 0.999999);
  return [limit((event.clientX - box.left) / box.width), limit((event.clientY - box.top) / box.height)];
};
const show = (map, across, down) => {
  const rows = Number(map.dataset.rows), columns = Number(map.dataset.columns);
  const row = Math.floor(down * rows), column = Math.floor(across * columns);
  map.nextElementSibling.textContent = `row ${row}, column ${column}: ${written(valuesOf(map)[row * columns + column])}`;
  map.dataset.across = across;
  map.dataset.down = down;
};
const mark = (map, name, across, down) => {
  const found = map.querySelector(name);
  found.hidden = false;
  found.style.left = `${100 * across}%`;
  found.style.top = `${100 * down}%`;
};
const ask = (map, across, down) => {
  if (!map.hasAttribute('tabindex')) return;
  element.querySelectorAll('.rp-disc').forEach((disc) => { disc.hidden = true; });
  mark(map, '.rp-disc', across, down);
  trigger('region', {method: map.dataset.method, across, down});
};
element.addEventListener('mousemove', (event) => {
  const map = event.target.closest('.rp-map');
  if (map) show(map, ...place(map, event));
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-save]'), map = event.target.closest('.rp-map');
  if (button) trigger('save', {kind: button.dataset.save, method: button.dataset.method});
  else if (map) { const at = place(map, event); show(map, ...at); ask(map, ...at); }
});
const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
element.addEventListener('keydown', (event) => {
  const map = event.target.closest('.rp-map');
  if (!map) return;
  const across = Number(map.dataset.across ?? 0.5), down = Number(map.dataset.down ?? 0.5);
  if (event.key in STEPS) {
    event.preventDefault();
    const step = event.shiftKey ? 0.1 : 0.01, limit = (share) => Math.min(Math.max(share, 0), 0.999999);
    const at = [limit(across + step * STEPS[event.key][0]), limit(down + step * STEPS[event.key][1])];
    show(map, ...at);
    mark(map, '.rp-cross', ...at);
  } else if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault();
    ask(map, across, down);
  }
});
