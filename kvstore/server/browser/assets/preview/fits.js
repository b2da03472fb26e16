/** FITS files (version 4.0 of the standard): images of any HDU, and the headers of all that is there. */

import { el, fill } from "../dom.js";
import { bytes, plural, visible } from "../text.js";
import { attempt } from "./attempt.js";
import { showArray } from "./planes.js";

const BLOCK = 2880;
const CARD = 80;
/** Blocks of a header, and HDUs of a file, that are looked at. */
const BLOCKS = 200;
const HDUS = 50;
/** Bytes that are read at a time where little is asked for. */
const AHEAD = 64 * 1024;
const MOST = 4 * 1024 * 1024;
const TYPES = { 8: "uint8", 16: "int16", 32: "int32", 64: "int64", "-32": "float32", "-64": "float64" };

export async function showFits(whole) {
  const source = ahead(whole);
  const hdus = [];
  for (let at = 0; at < source.size && hdus.length < HDUS; ) {
    const hdu = await readHdu(source, at, hdus.length);
    if (!hdu) break;
    hdus.push(hdu);
    at = hdu.data + Math.ceil(hdu.size / BLOCK) * BLOCK;
  }
  if (!hdus.length) throw new Error("its header cannot be read.");
  // Tables and compressed images have a first part without data before them.
  const first = [({ isImage, size }) => isImage && size > 0, ({ size }) => size > 0, () => true]
    .map((suits) => hdus.findIndex(suits))
    .find((at) => at >= 0);
  const place = el("div");
  const show = async (at) => fill(place, await shownHdu(source, hdus[at]));
  const choice = el(
    "select",
    { id: "hdu", on: { change: () => attempt(place, () => show(choice.selectedIndex)) } },
    hdus.map((hdu, at) => el("option", { selected: at === first }, titleOf(hdu, at))),
  );
  await show(first);
  return el(
    "div",
    {},
    hdus.length > 1 && el("div", { class: "choices" }, el("label", { for: "hdu" }, "Part "), choice),
    place,
  );
}

/** Reads more than is asked for, so that the blocks of a header come in one request. */
function ahead(source) {
  let [begin, known] = [0, new Uint8Array()];
  const read = async (start, end) => {
    const isKnown = start >= begin && Math.min(end, source.size) <= begin + known.length;
    if (!isKnown && end - start >= AHEAD) return source.read(start, end);
    if (!isKnown) [begin, known] = [start, await source.read(start, start + AHEAD)];
    return known.subarray(start - begin, end - begin);
  };
  return { size: source.size, read };
}

async function readHdu(source, begin, number) {
  const cards = new Map();
  const lines = [];
  for (let block = 0; block < BLOCKS; block += 1) {
    const at = begin + block * BLOCK;
    const bytes = await source.read(at, at + BLOCK);
    if (bytes.length < BLOCK) return null;
    const text = new TextDecoder("latin1").decode(bytes);
    if (block === 0 && !/^(SIMPLE {2}|XTENSION)=/.test(text)) return null;
    for (let place = 0; place < BLOCK; place += CARD) {
      const card = text.slice(place, place + CARD);
      if (card.startsWith("END     ")) return hduOf(cards, lines, at + BLOCK, number);
      if (card.trim()) lines.push(card.trimEnd());
      if (card[8] === "=" && !cards.has(card.slice(0, 8).trim()))
        cards.set(card.slice(0, 8).trim(), valueOf(card.slice(10)));
    }
  }
  return null;
}

function hduOf(cards, lines, data, number) {
  const numberOf = (name, otherwise) =>
    Number.isFinite(Number(cards.get(name) ?? NaN)) ? Number(cards.get(name)) : otherwise;
  const axes = Math.min(numberOf("NAXIS", 0), 99);
  // The first axis is the fastest.
  const shape = Array.from({ length: axes }, (_, at) => numberOf(`NAXIS${axes - at}`, 0));
  const bits = numberOf("BITPIX", 8);
  const values = axes ? shape.reduce((product, side) => product * side, 1) : 0;
  const size = (Math.abs(bits) / 8) * numberOf("GCOUNT", 1) * (numberOf("PCOUNT", 0) + values);
  const kind = number === 0 ? "IMAGE" : String(cards.get("XTENSION") ?? "").trim();
  const scale = {
    zero: numberOf("BZERO", 0),
    factor: numberOf("BSCALE", 1),
    blank: bits > 0 ? numberOf("BLANK", NaN) : NaN,
  };
  return { cards, lines, data, shape, bits, size, kind, scale, isImage: kind === "IMAGE" && bits in TYPES };
}

/** The value of a card: a text in quotes, a logical, or a number. */
function valueOf(text) {
  const quoted = /^\s*'((?:[^']|'')*)'/.exec(text);
  if (quoted) return quoted[1].replaceAll("''", "'").trimEnd();
  const plain = text.split("/")[0].trim();
  return /^[+-]?[\d.]/.test(plain) ? Number(plain.replace(/[dD]/, "e")) : plain;
}

async function shownHdu(source, hdu) {
  const header = el(
    "details",
    { class: "header-cards" },
    el("summary", {}, `Header, ${plural(hdu.lines.length, "card")}`),
    el("pre", { class: "text", tabindex: "0" }, hdu.lines.map(visible).join("\n")),
  );
  const missing = hdu.data + hdu.size - source.size;
  const cut =
    missing > 0 &&
    el("p", { class: "notice" }, `The file is cut short: ${bytes(missing)} of this part are missing.`);
  return el("div", {}, cut, await contentOf(source, hdu), header);
}

async function contentOf(source, hdu) {
  if (!hdu.isImage) return el("p", { class: "hint" }, tableOf(hdu));
  if (!hdu.shape.length) return el("p", { class: "hint" }, "This part has a header and no data.");
  if (hdu.size > 0 && hdu.data >= source.size) return null;
  const size = Math.abs(hdu.bits) / 8;
  const read = async (from, to) =>
    decode(await source.read(hdu.data + from * size, hdu.data + to * size), hdu);
  return showArray({ read, shape: hdu.shape, type: TYPES[hdu.bits], isUp: true, most: MOST });
}

function tableOf({ kind, cards, shape }) {
  if (cards.get("ZIMAGE") === "T")
    return `A compressed image (${visible(String(cards.get("ZCMPTYPE") ?? "by an unknown method"))}), which this page does not unpack. Download it to see it.`;
  const names = [...cards]
    .filter(([name]) => /^TTYPE\d+$/.test(name))
    .map(([, name]) => visible(String(name)));
  const isTable = kind === "BINTABLE" || kind === "TABLE";
  const what = isTable ? `A table of ${plural(shape[0] ?? 0, "row")}` : `A part of the kind ${visible(kind)}`;
  const columns = isTable && names.length ? ` with the columns ${names.join(", ")}` : "";
  return `${what}${columns}, of which there is no picture.`;
}

function titleOf({ cards, kind, shape }, at) {
  const sides = shape.length ? ` ${[...shape].reverse().join(" × ")}` : " no data";
  const name = cards.get("EXTNAME") ? ` ${visible(String(cards.get("EXTNAME")))}` : "";
  return `${at}:${name} ${visible(kind.toLowerCase())}${sides}`;
}

/** Numbers are big-endian, and scaled. @returns {Float64Array} */
function decode(bytes, { bits, scale: { zero, factor, blank } }) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = Math.abs(bits) / 8;
  const one = {
    8: (at) => view.getUint8(at),
    16: (at) => view.getInt16(at),
    32: (at) => view.getInt32(at),
    64: (at) => Number(view.getBigInt64(at)),
    "-32": (at) => view.getFloat32(at),
    "-64": (at) => view.getFloat64(at),
  }[bits];
  const values = new Float64Array(Math.floor(bytes.byteLength / size));
  for (let at = 0; at < values.length; at += 1) {
    const value = one(at * size);
    values[at] = value === blank ? NaN : value * factor + zero;
  }
  return values;
}
