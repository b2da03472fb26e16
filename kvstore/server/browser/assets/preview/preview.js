/** Which data can be shown, and how. Nothing that could run is ever rendered: SVG and HTML are text. */

import { el, fill } from "../dom.js";
import { bytes } from "../text.js";

const HEAD = 4096;
/** What the first bytes of files are. */
const MAGIC = [
  ["npy", /^\x93NUMPY/],
  ["fits", /^SIMPLE  = {20}T/],
  ["image/png", /^\x89PNG\r\n\x1a\n/],
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/gif", /^GIF8[79]a/],
  ["image/webp", /^RIFF[^]{4}WEBP/],
  ["image/avif", /^[^]{4}ftypavi[fs]/],
];

/**
 * What data are: by their first bytes, then by their media type and the name of the key.
 * @param {import("../api.js").Record_} record
 * @param {Uint8Array} head
 */
export function kindOf(record, head) {
  const begin = String.fromCharCode(...head.subarray(0, 64));
  const known = MAGIC.find(([, pattern]) => pattern.test(begin));
  if (known) return known[0];
  if (!isText(head)) return "binary";
  const type = record.mimetype.split(";")[0].trim().toLowerCase();
  const ending = /\.([a-z0-9]+)$/i.exec(record.key)?.[1].toLowerCase() ?? "";
  if (type === "application/json" || type.endsWith("+json") || ending === "json") return "json";
  if (["text/csv", "text/tab-separated-values"].includes(type) || ["csv", "tsv"].includes(ending))
    return "csv";
  return "text";
}

/** Show the data of `source` in `card`, as far as they can be shown. */
export async function preview(source, record, card) {
  const tell = (text) => fill(card, el("p", { class: "hint none-shown" }, text));
  if (source.size === 0) return tell("There are no data, only metadata.");
  tell("Reading …");
  try {
    const head = await source.read(0, HEAD);
    const kind = kindOf(record, head);
    card.dataset.kind = kind;
    const show = await shower(kind);
    fill(card, await show(source, record, kind, head));
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    return tell(`There is no preview of these ${bytes(source.size)}: ${error.message}`);
  }
  return undefined;
}

async function shower(kind) {
  if (kind === "npy") return (await import("./npy.js")).showNpy;
  if (kind === "fits") return (await import("./fits.js")).showFits;
  if (kind === "csv") return (await import("./csv.js")).showCsv;
  const { showBinary, showImage, showJson, showText } = await import("./plain.js");
  return { binary: showBinary, json: showJson, text: showText }[kind] ?? showImage;
}

function isText(head) {
  if (head.some((byte) => byte < 9 || (byte > 13 && byte < 32 && byte !== 27))) return false;
  try {
    // A character may be cut off by the end.
    new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: true });
    return true;
  } catch {
    return false;
  }
}
