/** Small pictures of numbers: histograms and lines, as SVG, so that they follow the theme. */

import { el, svg } from "./dom.js";
import { count, figure as exact, plural } from "./text.js";

const WIDTH = 320;
const HEIGHT = 90;

const figure = (number) => exact(number, 4);

/** Smallest and largest of the finite numbers, without a limit on how many. */
export function extent(numbers) {
  let [low, high] = [Infinity, -Infinity];
  for (const number of numbers) {
    if (!Number.isFinite(number)) continue;
    if (number < low) low = number;
    if (number > high) high = number;
  }
  return [low, high];
}

/** How many of `numbers` lie in each of `bins` equal parts of their range. */
export function binned(numbers, bins, [low, high] = extent(numbers)) {
  const counts = new Array(bins).fill(0);
  const scale = high > low ? bins / (high - low) : 0;
  for (const number of numbers) {
    if (number >= low && number <= high) counts[Math.min(bins - 1, Math.floor((number - low) * scale))] += 1;
  }
  return counts;
}

/**
 * A histogram with its range below.
 * @param {ArrayLike<number> & Iterable<number>} numbers
 * @param {string} name  what the numbers are, for those who listen
 */
export function histogram(numbers, name, range = extent(numbers)) {
  const [low, high] = range;
  if (!(low <= high)) return el("p", { class: "hint" }, "There are no finite numbers to draw.");
  const bins = low === high ? 1 : Math.min(32, Math.max(8, Math.ceil(Math.sqrt(numbers.length))));
  const counts = binned(numbers, bins, range);
  const most = Math.max(...counts, 1);
  const step = WIDTH / bins;
  const edge = (at) => figure(low + ((high - low) * at) / bins);
  const bars = counts.map((number, at) => {
    const height = number ? Math.max(1.5, (number / most) * HEIGHT) : 0;
    const shape = { x: at * step + 0.5, y: HEIGHT - height, width: Math.max(step - 1, 0.5), height, rx: 1 };
    return svg("rect", shape, svg("title", {}, `${edge(at)} to ${edge(at + 1)}: ${count(number)}`));
  });
  const label = `Histogram of ${plural(numbers.length, "number")} (${name}), from ${figure(low)} to ${figure(high)}`;
  return figureOf("histogram", label, bars, [figure(low), figure(high)]);
}

/**
 * Numbers as a line, with the least and the most of each part where there are more than points.
 * @param {ArrayLike<number>} numbers
 */
export function line(numbers, name) {
  const [low, high] = extent(numbers);
  if (!(low <= high)) return el("p", { class: "hint" }, "There are no finite numbers to draw.");
  const y = (number) =>
    high > low ? HEIGHT - ((number - low) / (high - low)) * (HEIGHT - 4) - 2 : HEIGHT / 2;
  const points = [];
  const parts = Math.min(numbers.length, WIDTH * 2);
  for (let part = 0; part < parts; part += 1) {
    const [from, to] = [part, part + 1].map((at) => Math.floor((at * numbers.length) / parts));
    const x = parts > 1 ? (part / (parts - 1)) * WIDTH : WIDTH / 2;
    const [least, most] = extent(Array.prototype.slice.call(numbers, from, to));
    if (!(least <= most)) points.push(null);
    else points.push([x, y(least)], ...(most > least ? [[x, y(most)]] : []));
  }
  let isDown = false;
  const path = points.map((point) => {
    if (!point) return ((isDown = false), "");
    const step = `${isDown ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    isDown = true;
    return step;
  });
  const label = `Line of ${plural(numbers.length, "number")} (${name}), between ${figure(low)} and ${figure(high)}`;
  const drawn = svg("path", { d: path.join(""), class: "line" });
  return figureOf("lines", label, [drawn], ["0", count(numbers.length - 1)], [figure(low), figure(high)]);
}

function figureOf(kind, label, shapes, [left, right], heights = null) {
  const view = {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    class: "plot",
    role: "img",
    "aria-label": label,
  };
  const rule = svg("path", { d: `M0 ${HEIGHT - 0.5}H${WIDTH}`, class: "rule" });
  const ends = (low, high) => [el("span", {}, low), el("span", {}, high)];
  return el(
    "figure",
    { class: `figure ${kind}` },
    heights &&
      el("div", { class: "ends heights", "aria-hidden": "true" }, ends(heights[0], heights[1]).reverse()),
    svg("svg", view, ...shapes, rule),
    el("div", { class: "ends", "aria-hidden": "true" }, ends(left, right)),
  );
}
