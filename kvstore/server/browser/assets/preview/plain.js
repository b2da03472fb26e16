/** Text, JSON, images, and bytes that are none of these. */

import { el, fill, button } from "../dom.js";
import { pretty } from "../json.js";
import { bytes, count, visible } from "../text.js";
import { attempt } from "./attempt.js";

const TEXT = 256 * 1024;
const JSON_SIZE = 1024 * 1024;
const IMAGE = 64 * 1024 * 1024;
const HEX = 512;
/** Characters of JSON that are coloured. */
const COLOURED = 100_000;

/** The first part of a text, and more of it for who wants it. */
export async function showText(source) {
  const shown = el("pre", { class: "text", tabindex: "0", "aria-label": "Text" });
  const rest = el("p", { class: "more" });
  const decoder = new TextDecoder();
  let at = 0;
  const more = async () => {
    const piece = await source.read(at, at + TEXT);
    at += piece.length;
    shown.append(unhidden(decoder.decode(piece, { stream: true })));
    fill(
      rest,
      at < source.size && [
        `The first ${bytes(at)} of ${bytes(source.size)}. `,
        button("Show more", () => attempt(rest, more)),
      ],
    );
  };
  await more();
  return el("div", {}, shown, rest);
}

/** JSON, laid out; as text where it is too large or none. */
export async function showJson(source, ...rest) {
  if (source.size > JSON_SIZE) return showText(source, ...rest);
  const text = new TextDecoder().decode(await source.read(0, source.size));
  try {
    JSON.parse(text);
  } catch (error) {
    return el(
      "div",
      {},
      el("p", { class: "hint" }, `This says it is JSON, but: ${error.message}`),
      await showText(source),
    );
  }
  return el("pre", { class: "text json", tabindex: "0", "aria-label": "JSON" }, coloured(pretty(text)));
}

/** An image that cannot run anything, from bytes that were fetched. */
export async function showImage(source, record, type) {
  if (source.size > IMAGE) throw new Error(`images are shown up to ${bytes(IMAGE)}.`);
  const url = source.blobUrl(await source.read(0, source.size), type);
  const image = el("img", { src: url, alt: `The image ${visible(record.key)}`, class: "image" });
  await image.decode().catch(() => {
    throw new Error("the browser cannot read this image.");
  });
  return el(
    "figure",
    { class: "picture" },
    image,
    el(
      "figcaption",
      { class: "hint" },
      `${count(image.naturalWidth)} × ${count(image.naturalHeight)} pixels, ${type.split("/")[1].toUpperCase()}`,
    ),
  );
}

/** The first bytes, as bytes. */
export async function showBinary(source, _record, _kind, head) {
  const lines = [];
  for (let at = 0; at < Math.min(HEX, head.length); at += 16) {
    const part = head.subarray(at, at + 16);
    const hex = [...part].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = [...part]
      .map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·"))
      .join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  const rest = source.size > HEX ? ` The first ${HEX} of ${count(source.size)} bytes:` : "";
  return el(
    "div",
    {},
    el("p", { class: "hint" }, `There is no picture of data of this kind.${rest}`),
    el("pre", { class: "text hex", tabindex: "0", "aria-label": "Bytes" }, lines.join("\n")),
  );
}

/** Text with its lines and tabs, and escapes for what could not be seen. */
function unhidden(text) {
  return text
    .split(/(\r?\n|\t)/)
    .map((part) => (/^\r?\n$|^\t$/.test(part) ? part : visible(part)))
    .join("");
}

function coloured(text) {
  if (text.length > COLOURED) return unhidden(text);
  const parts = [];
  let at = 0;
  for (const token of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*|true|false|null/g)) {
    const kind = token[2] ? "name" : token[1] ? "string" : "other";
    const shown = token[2] ? token[1] : token[0];
    parts.push(text.slice(at, token.index), el("span", { class: `json-${kind}` }, visible(shown)));
    at = token.index + shown.length;
  }
  return [...parts, text.slice(at)];
}
