/** The table of a listing: folders and keys, one a row, with chosen fields as columns. */

import { el, icon } from "./dom.js";
import { lookup, shown } from "./json.js";
import { isState, keyAt, listAt } from "./router.js";
import { bytes, count, figure, visible, when, whenInFull } from "./text.js";

/**
 * @typedef {object} Shape
 * @property {string} prefix  what all names begin with
 * @property {string[]} columns  fields
 * @property {string} order  a field, `-field`, or empty for the order of keys
 * @property {(name: string) => Record<string, any>} folderOptions  options of the link to a folder
 * @property {(field: string) => string} orderLink  where a click on a column leads
 */

/**
 * @param {(import("./api.js").Record_ | import("./api.js").Folder)[]} entries
 * @param {Shape} shape
 */
export function tableOf(entries, shape) {
  const columns = shape.columns.map((field) => ({ field, isNumber: isNumeric(entries, field) }));
  return el(
    "table",
    { class: "keys", role: "table", "aria-label": "Keys" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, headsOf(columns, shape))),
    el(
      "tbody",
      { role: "rowgroup" },
      entries.map((entry) =>
        "folder" in entry ? folderRow(entry, columns, shape) : keyRow(entry, columns, shape),
      ),
    ),
  );
}

/** The row of a key in a table. @param {HTMLElement} table @param {string} key */
export const rowOf = (table, key) =>
  [...table.querySelectorAll("tbody tr")].find((row) => row.dataset.key === key) ?? null;

/** Put another record into a row, in place. */
export function refreshRow(row, record, shape, table) {
  const columns = shape.columns.map((field) => ({
    field,
    isNumber: row.querySelector(`[data-field="${CSS.escape(field)}"]`)?.classList.contains("number"),
  }));
  const fresh = keyRow(record, columns, shape);
  const isFocused = row.contains(document.activeElement);
  row.replaceWith(fresh);
  if (isFocused) fresh.querySelector("a").focus({ preventScroll: true });
  flash(fresh);
  return table;
}

/** Let an element light up for a moment: it has changed. */
export function flash(element) {
  element.classList.remove("changed");
  requestAnimationFrame(() => element.classList.add("changed"));
}

/** Let the arrow keys go from row to row. */
export function moveByRows(table, event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 };
  if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return false;
  const links = [...table.querySelectorAll("tbody tr > :first-child a")];
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? 0 : at + steps[event.key]];
  if (!next) return false;
  next.focus();
  return true;
}

function headsOf(columns, shape) {
  return [
    head("Name", shape.orderLink(""), shape.order === "" ? "ascending" : "none"),
    ...columns.map(({ field, isNumber }) =>
      head(field, shape.orderLink(field), sorting(shape.order, field), isNumber),
    ),
    el("th", { scope: "col", role: "columnheader", class: "number" }, "Size"),
    el("th", { scope: "col", role: "columnheader" }, "Modified"),
  ];
}

function head(text, href, sort, isNumber = false) {
  const arrow = { ascending: icon("up"), descending: icon("down") }[sort];
  const label = el("a", { href, title: `Order by ${visible(text)}` }, el("bdi", {}, visible(text)), arrow);
  return el(
    "th",
    { scope: "col", role: "columnheader", class: isNumber && "number", "aria-sort": sort },
    label,
  );
}

const sorting = (order, field) => ({ [field]: "ascending", [`-${field}`]: "descending" })[order] ?? "none";

function folderRow({ folder }, columns, shape) {
  const name = folder.slice(shape.prefix.length);
  return el(
    "tr",
    { role: "row", class: isState(folder) ? "folder state" : "folder", "data-key": folder },
    el(
      "td",
      { role: "cell", class: "name" },
      el(
        "a",
        { href: listAt(folder, shape.folderOptions(folder)) },
        icon("folder"),
        named(name),
        isState(folder) && !isState(shape.prefix) && el("span", { class: "note" }, "kept by kvstore sync"),
      ),
    ),
    el("td", { role: "cell", class: "below", colspan: columns.length + 2, "data-below": folder }),
  );
}

function keyRow(record, columns, shape) {
  const cells = columns.map(({ field, isNumber }) => cell(field, lookup(record.metadata, field), isNumber));
  const modified = record.modified;
  return el(
    "tr",
    {
      role: "row",
      class: isState(record.key) && "state",
      "data-key": record.key,
      "data-revision": record.revision,
    },
    el(
      "td",
      { role: "cell", class: "name" },
      el(
        "a",
        { href: keyAt(record.key), title: visible(record.key) },
        icon("key"),
        named(record.key.slice(shape.prefix.length)),
      ),
    ),
    cells,
    el(
      "td",
      { role: "cell", class: "number fact", "data-label": "Size" },
      record.size < 0 ? "" : bytes(record.size),
    ),
    el(
      "td",
      {
        role: "cell",
        class: "fact",
        "data-label": "Modified",
        title: modified === null ? null : whenInFull(modified),
      },
      modified === null ? "" : when(modified),
    ),
  );
}

function cell(field, value, isNumber) {
  const exact = shown(value);
  // Digits that nobody reads would push the names aside; the exact number is in the title.
  const text = typeof value === "number" && exact.length > 9 ? figure(value) : exact;
  const title = exact !== text || exact.length > 24 ? visible(exact) : null;
  const props = {
    role: "cell",
    class: isNumber && "number",
    "data-label": visible(field),
    "data-field": field,
    title,
  };
  return el(
    "td",
    props,
    value === undefined
      ? el("span", { class: "none", "aria-label": "none" }, "–")
      : el("bdi", {}, visible(text.slice(0, 300))),
  );
}

/** A name of a folder or key; an empty one says so. */
export function named(name) {
  if (name === "" || name === "/") return el("i", { class: "empty-name" }, name ? "(no name)/" : "(no name)");
  return el("bdi", {}, visible(name));
}

function isNumeric(entries, field) {
  const values = entries
    .filter((entry) => "metadata" in entry)
    .map(({ metadata }) => lookup(metadata, field))
    .filter((value) => value !== undefined);
  return values.length > 0 && values.every((value) => ["number", "bigint"].includes(typeof value));
}

/** What is told of a folder once it is counted. */
export function tellBelow(table, folder, number) {
  const place = [...table.querySelectorAll("[data-below]")].find((one) => one.dataset.below === folder);
  if (place) place.textContent = number === 1 ? "1 key" : `${count(number)} keys`;
}
