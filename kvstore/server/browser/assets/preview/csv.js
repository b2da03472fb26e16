/** Tables of text: the first rows, and the numbers of a column as a picture. */

import { el, fill } from "../dom.js";
import { histogram, line } from "../plot.js";
import { bytes, count, plural, visible } from "../text.js";
import { showText } from "./plain.js";

const READ = 1024 * 1024;
const ROWS = 200;
const COLUMNS = 60;

export async function showCsv(source, record) {
  const isAll = source.size <= READ;
  let text = new TextDecoder().decode(await source.read(0, READ));
  if (!isAll) text = text.slice(0, text.lastIndexOf("\n") + 1);
  const { comments, body } = withoutComments(text);
  const rows = parseRows(body, separatorOf(body, record.key));
  if (rows.length < 2 || rows[0].length < 2) return showText(source);
  const [head, ...data] = hasHead(rows) ? rows : [rows[0].map((_, at) => `Column ${at + 1}`), ...rows];
  const told = isAll
    ? plural(data.length, "row")
    : `${count(data.length)} rows in the first ${bytes(READ)} of ${bytes(source.size)}`;
  return el(
    "div",
    {},
    plots(head, data),
    el(
      "p",
      { class: "hint" },
      `${told}, ${plural(head.length, "column")}${data.length > ROWS ? `; the first ${ROWS} below` : ""}.`,
    ),
    comments &&
      el(
        "details",
        { class: "comments" },
        el("summary", {}, "Remarks in the file"),
        el("pre", { class: "text" }, visibleLines(comments)),
      ),
    table(head.slice(0, COLUMNS), data.slice(0, ROWS)),
  );
}

/** The rows of a text; quotes hold separators and line ends (RFC 4180). @returns {string[][]} */
export function parseRows(text, separator) {
  const rows = [];
  let row = [];
  let cell = "";
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const one = text[at];
    if (isQuoted) {
      if (one !== '"') cell += one;
      else if (text[at + 1] === '"') cell += text[(at += 1)];
      else isQuoted = false;
    } else if (one === '"' && cell.trim() === "") [isQuoted, cell] = [true, ""];
    else if (one === separator) {
      row.push(cell);
      cell = "";
    } else if (one === "\n") {
      rows.push([...row, cell.replace(/\r$/, "")]);
      [row, cell] = [[], ""];
    } else cell += one;
  }
  if (cell || row.length) rows.push([...row, cell.replace(/\r$/, "")]);
  return rows
    .filter((cells) => cells.length > 1 || cells[0] !== "")
    .map((cells) => cells.map((text_) => text_.trim()));
}

function withoutComments(text) {
  const [comments] = /^(?:#.*(?:\n|$))*/.exec(text);
  return { comments, body: text.slice(comments.length) };
}

function separatorOf(text, key) {
  if (/\.tsv$/i.test(key)) return "\t";
  const first = text.slice(0, text.indexOf("\n") + 1 || undefined);
  const times = (one) => first.split(one).length;
  return [",", "\t", ";"].sort((a, b) => times(b) - times(a))[0];
}

const isNumber = (text) => text !== "" && Number.isFinite(Number(text));
const hasHead = ([first, second]) =>
  first.every((cell) => !isNumber(cell)) ||
  second.some((cell, at) => isNumber(cell) && !isNumber(first[at] ?? ""));

function numbersOf(data, at) {
  const cells = data
    .map((row) => row[at] ?? "")
    .filter((cell) => !["", "nan", "na", "null", "-"].includes(cell.toLowerCase()));
  const numbers = cells.filter(isNumber).map(Number);
  return numbers.length > 1 && numbers.length >= cells.length * 0.9 ? numbers : null;
}

function plots(head, data) {
  const numeric = head
    .map((name, at) => ({ name: visible(name), numbers: numbersOf(data, at) }))
    .filter(({ numbers }) => numbers);
  if (!numeric.length) return null;
  const place = el("div", { class: "plots" });
  const draw = (at) =>
    fill(
      place,
      line(numeric[at].numbers, numeric[at].name),
      histogram(numeric[at].numbers, numeric[at].name),
    );
  // The first column mostly counts, or tells the time.
  const first = Math.min(1, numeric.length - 1);
  const choice = el(
    "select",
    { id: "csv-column", on: { change: () => draw(choice.selectedIndex) } },
    numeric.map(({ name }, at) => el("option", { selected: at === first }, name)),
  );
  draw(first);
  return el("div", { class: "plot-box" }, el("label", { for: "csv-column" }, "Column "), choice, place);
}

function table(head, data) {
  const isNumeric = head.map((_, at) => numbersOf(data, at) !== null);
  const cell = (text, at) => el("td", { class: isNumeric[at] && "number" }, visible(text.slice(0, 200)));
  return el(
    "div",
    { class: "scroller", tabindex: "0", role: "region", "aria-label": "Rows" },
    el(
      "table",
      { class: "rows" },
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          head.map((name, at) => el("th", { scope: "col", class: isNumeric[at] && "number" }, visible(name))),
        ),
      ),
      el(
        "tbody",
        {},
        data.map((row) => el("tr", {}, row.slice(0, COLUMNS).map(cell))),
      ),
    ),
  );
}

const visibleLines = (text) => text.split("\n").map(visible).join("\n");
