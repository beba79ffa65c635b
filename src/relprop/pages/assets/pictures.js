// Maps: a gray level per pixel, colored here, so that one picture serves at any opacity and for the value under the pointer.

const MIDDLE = 127, SNAP = 2; // JPEG may move the level of zero by one or two
let palette = null;

function usePalette(hex) {
  palette = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
}

async function decoded(base64) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${base64}`;
  await image.decode();
  return image;
}

async function levels(base64) {
  const image = await decoded(base64);
  const canvas = el("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  const found = new Uint8Array(width * height);
  for (let place = 0; place < found.length; place++) {
    const level = Math.min(data[4 * place], palette.length / 3 - 1);
    found[place] = Math.abs(level - MIDDLE) <= SNAP ? MIDDLE : level;
  }
  return { levels: found, width, height };
}

// Draw a map in colors, or over its grayed photo, the more opaque the stronger, as relprop's own pictures do.
function paint(canvas, map, photo, mode, opacity) {
  const over = mode === "overlay";
  canvas.width = over ? photo.naturalWidth : map.width;
  canvas.height = over ? photo.naturalHeight : map.height;
  const context = canvas.getContext("2d");
  const colors = new ImageData(map.width, map.height);
  map.levels.forEach((level, place) => {
    for (let channel = 0; channel < 3; channel++) colors.data[4 * place + channel] = palette[3 * level + channel];
    colors.data[4 * place + 3] = over ? 255 * opacity * Math.sqrt(Math.abs(level - MIDDLE) / MIDDLE) : 255;
  });
  if (!over) return context.putImageData(colors, 0, 0);
  context.drawImage(photo, 0, 0);
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "hsl(0 0% 50%)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "rgb(255 255 255 / 25%)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const layer = el("canvas", { width: map.width, height: map.height });
  layer.getContext("2d").putImageData(colors, 0, 0);
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
}

function legend(tile) {
  const first = tile.below ? 0 : MIDDLE, last = tile.above ? palette.length / 3 - 1 : MIDDLE;
  const stops = Array.from({ length: 9 }, (_, number) => Math.round(first + (last - first) * number / 8));
  const bar = el("div", { class: "legend" });
  bar.style.background = `linear-gradient(to right, ${stops.map((stop) => `rgb(${palette.slice(3 * stop, 3 * stop + 3).join(" ")})`).join(", ")})`;
  return [bar, el("div", { class: "ends" }, tile.ends.map((text) => el("span", {}, text.replace(/e-(?=\d)/, "e\u2011"))))];
}
