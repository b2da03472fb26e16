/** Arrays of numbers as pictures: scaled by percentiles, coloured, with the values under the pointer. */

import { el, fill } from "../dom.js";
import { extent, histogram, line } from "../plot.js";
import { count, figure, plural } from "../text.js";

/** Pixels of the longer side of a picture. */
const LARGEST = 1200;
/** Values that percentiles are taken from. */
const SAMPLED = 50_000;

/** @typedef {{values: ArrayLike<number>, width: number, height: number, isUp: boolean, name: string}} Plane
 *  isUp: the first row is the lowest, as in FITS. */

/** Some of the finite values, evenly taken and sorted. */
export function sampled(values, most = SAMPLED) {
  const step = Math.max(1, Math.floor(values.length / most));
  const some = [];
  for (let at = 0; at < values.length; at += step) if (Number.isFinite(values[at])) some.push(values[at]);
  return Float64Array.from(some).sort();
}

/** The value below which a share (0 to 1) of sorted values lies. */
export const percentile = (sorted, share) =>
  sorted[Math.min(sorted.length - 1, Math.round(share * (sorted.length - 1)))];

const RANGES = { "99.5 %": 0.0025, "98 %": 0.01, all: 0 };
const STRETCHES = {
  linear: (part) => part,
  "square root": Math.sqrt,
  asinh: (part) => Math.asinh(10 * part) / Math.asinh(10),
};
const MAPS = {
  grey: (part) => [255 * part, 255 * part, 255 * part],
  "grey, inverted": (part) => [255 - 255 * part, 255 - 255 * part, 255 - 255 * part],
  viridis: (part) => viridis(part),
};

/** A picture of a plane, with what one can choose about it. @param {Plane} plane */
export function picture(plane) {
  const { values, width, height, name } = plane;
  const sorted = sampled(values);
  if (!sorted.length) return el("p", { class: "hint" }, "There is no finite number in it.");
  const reduced = reduce(plane);
  const canvas = el("canvas", {
    width: reduced.width,
    height: reduced.height,
    class: "canvas",
    role: "img",
    "aria-label": `${name}, ${count(width)} by ${count(height)} values`,
  });
  canvas.classList.toggle("coarse", Math.max(width, height) < 400);
  const readout = el("output", { class: "readout" }, "Point at the picture to read values.");
  const choices = { range: "99.5 %", stretch: "linear", map: "grey" };
  const legend = el("div");
  const draw = () => {
    const share = RANGES[choices.range];
    const [low, high] = share
      ? [percentile(sorted, share), percentile(sorted, 1 - share)]
      : [sorted[0], sorted.at(-1)];
    paint(canvas, reduced, low, high, STRETCHES[choices.stretch], MAPS[choices.map]);
    fill(
      legend,
      histogram(
        Array.from(sorted).filter((value) => value >= low && value <= high),
        "values",
      ),
    );
  };
  const choose = (what, options) =>
    el(
      "label",
      {},
      `${what} `,
      el(
        "select",
        { on: { change: (event) => ((choices[what.toLowerCase()] = event.target.value), draw()) } },
        Object.keys(options).map((text) => el("option", {}, text)),
      ),
    );
  canvas.addEventListener("pointermove", (event) => (readout.textContent = under(event, canvas, plane)));
  draw();
  const statistics = `${figure(sorted[0])} to ${figure(sorted.at(-1))}, median ${figure(percentile(sorted, 0.5))}`;
  return el(
    "div",
    { class: "picture" },
    el(
      "div",
      { class: "choices" },
      choose("Range", RANGES),
      choose("Stretch", STRETCHES),
      choose("Map", MAPS),
    ),
    canvas,
    readout,
    legend,
    el("p", { class: "hint" }, statistics),
  );
}

/** Numbers in a row: as a line, and how often each comes. */
export function series(values, name) {
  const finite = sampled(values);
  if (values.length < 2) return el("p", { class: "single" }, String(values[0]));
  const missing = Array.prototype.filter.call(values, (value) => !Number.isFinite(value)).length;
  const [low, high] = extent(values);
  const told = finite.length
    ? `${figure(low)} to ${figure(high)}, median ${figure(percentile(finite, 0.5))}`
    : "";
  return el(
    "div",
    { class: "plots" },
    line(values, name),
    histogram(finite, name),
    el("p", { class: "hint" }, told, missing > 0 && `; ${plural(missing, "value")} not finite`),
  );
}

/** A plane that fits on a screen: means of blocks of values, upright. @param {Plane} plane */
function reduce({ values, width, height, isUp }) {
  const block = Math.max(1, Math.ceil(Math.max(width, height) / LARGEST));
  const [wide, high] = [width, height].map((side) => Math.ceil(side / block));
  const means = new Float64Array(wide * high);
  for (let y = 0; y < high; y += 1) {
    const top = isUp ? high - 1 - y : y;
    for (let x = 0; x < wide; x += 1) {
      let [sum, number] = [0, 0];
      for (let row = top * block; row < Math.min(height, (top + 1) * block); row += 1) {
        for (let column = x * block; column < Math.min(width, (x + 1) * block); column += 1) {
          const value = values[row * width + column];
          if (Number.isFinite(value)) [sum, number] = [sum + value, number + 1];
        }
      }
      means[y * wide + x] = number ? sum / number : NaN;
    }
  }
  return { means, width: wide, height: high };
}

function paint(canvas, { means, width, height }, low, high, stretch, map) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const colours = Array.from({ length: 256 }, (_, at) => map(stretch(at / 255)));
  const scale = high > low ? 255 / (high - low) : 0;
  means.forEach((value, at) => {
    if (!Number.isFinite(value)) return; // stays transparent
    const part = scale ? Math.max(0, Math.min(255, Math.round((value - low) * scale))) : 128;
    image.data.set(colours[part], at * 4);
    image.data[at * 4 + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

function under(event, canvas, { values, width, height, isUp }) {
  const box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * height);
  if (x < 0 || y < 0 || x >= width || y >= height) return "";
  const row = isUp ? height - 1 - y : y;
  return `x ${x}, y ${row}: ${figure(values[row * width + x])}`;
}

// Nine colours of matplotlib's viridis, with straight lines between them.
const VIRIDIS = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];

function viridis(part) {
  const place = part * (VIRIDIS.length - 1);
  const at = Math.min(VIRIDIS.length - 2, Math.floor(place));
  return VIRIDIS[at].map((colour, band) => colour + (VIRIDIS[at + 1][band] - colour) * (place - at));
}
