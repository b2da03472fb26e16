/** Texts for people: sizes, times, numbers, and keys that hold what cannot be seen. */

// Controls, and characters that have no width or turn the direction of what follows: a key must
// not look like another one.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

/** `text` with escapes for what could not be seen. */
export function visible(text) {
  return text.replace(UNSEEN, (one) => {
    const known = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[one];
    return known ?? `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`;
  });
}

const NUMBERS = new Intl.NumberFormat("en");

/** A whole number with groups of digits. */
export const count = (number) => NUMBERS.format(number);

/** `1 key`, `2 keys`. */
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Bytes as people say them. */
export function bytes(size) {
  if (size < 1000) return plural(size, "byte");
  const units = ["kB", "MB", "GB", "TB"];
  let value = size;
  let unit = -1;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const DATE = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit" });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "long" });

/** A point in time, short: the time if it was today, else the date. @param {number} seconds */
export function when(seconds, now = Date.now()) {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return "";
  const day = DATE.format(date);
  return day === DATE.format(new Date(now)) ? `today ${TIME.format(date)}` : day;
}

/** A point in time, in full. */
export function whenInFull(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? "" : FULL.format(date);
}

/** A measured number, with as many digits as one wants to read. @param {number} number */
export function figure(number, digits = 6) {
  if (!Number.isFinite(number)) return String(number);
  const size = Math.abs(number);
  if (Number.isInteger(number) && size < 1e9) return count(number);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return number.toExponential(digits - 2);
  return String(Number(number.toPrecision(digits)));
}
