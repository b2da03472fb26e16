/** Arrays of any number of dimensions: a number, a line, a picture, or one of several pictures. */

import { el, fill } from "../dom.js";
import { count } from "../text.js";
import { attempt } from "./attempt.js";
import { picture, series } from "./draw.js";

/**
 * @param {object} array
 * @param {(from: number, to: number) => Promise<ArrayLike<number>>} array.read  values by their place
 * @param {number[]} array.shape  slowest first
 * @param {string} array.type  for people
 * @param {boolean} array.isUp  the first row is the lowest
 * @param {number} array.most  values that can be read at a time
 */
export async function showArray({ read, shape, type, isUp, most }) {
  const total = shape.reduce((product, side) => product * side, 1);
  const sides = shape.length ? shape.map(count).join(" × ") : "one number";
  const told = el("p", { class: "hint shape" }, `${sides}, ${type}`);
  if (total === 0) return el("div", {}, told, el("p", { class: "hint" }, "It is empty."));
  const [height, width] = shape.slice(-2);
  const isLine = shape.length < 2 || height === 1 || width === 1;
  if (shape.length < 3 && isLine) {
    const values = await read(0, Math.min(total, most));
    const cut =
      values.length < total && el("p", { class: "hint" }, `The first ${count(values.length)} of them.`);
    return el("div", {}, told, cut, series(values, type));
  }
  const planes = Math.round(total / (width * height));
  const rows = Math.min(height, Math.max(1, Math.floor(most / width)));
  const place = el("div");
  const show = async (plane) => {
    const begin = plane * width * height;
    const values = await read(begin, begin + rows * width);
    const drawn =
      width > 1 && rows > 1
        ? picture({ values, width, height: rows, isUp, name: type })
        : series(values, type);
    fill(
      place,
      rows < height && el("p", { class: "hint" }, `The first ${count(rows)} of ${count(height)} rows.`),
      drawn,
    );
  };
  await show(0);
  return el(
    "div",
    {},
    told,
    planes > 1 && chooser(planes, (plane) => attempt(place, () => show(plane))),
    place,
  );
}

function chooser(planes, show) {
  const output = el("output", { for: "plane" }, `1 of ${count(planes)}`);
  const input = el("input", {
    type: "range",
    id: "plane",
    min: 0,
    max: planes - 1,
    value: 0,
    on: {
      input: () => (output.textContent = `${count(Number(input.value) + 1)} of ${count(planes)}`),
      change: () => show(Number(input.value)),
    },
  });
  return el("div", { class: "choices" }, el("label", { for: "plane" }, "Plane"), input, output);
}
