/** The panel of fields: which are columns, which values they have, and their numbers as a picture. */

import { button, el, fill } from "./dom.js";
import { commonValues } from "./facets.js";
import { written, writtenValue } from "./filter.js";
import { histogram, extent } from "./plot.js";
import { count, figure as exact, plural, visible } from "./text.js";

const figure = (number) => exact(number, 4);
const FIELDS = 40;
const VALUES = 8;
/** Fields that are unfolded at first, where there is room. */
const UNFOLDED = 2;

export class FieldsPanel {
  /**
   * @param {object} options
   * @param {(columns: string[]) => void} options.onColumns
   * @param {(condition: string) => void} options.onCondition
   */
  constructor({ onColumns, onCondition }) {
    this.onColumns = onColumns;
    this.onCondition = onCondition;
    /** Which fields are unfolded; null until there are any. @type {Set<string> | null} */
    this.open = null;
    this.body = el("div", { class: "fields-body" });
    this.title = el("summary", {}, "Fields");
    this.element = el("details", { class: "fields", "aria-label": "Fields" }, this.title, this.body);
    this.isWide = matchMedia("(min-width: 900px)").matches;
    this.element.open = this.isWide;
  }

  /**
   * @param {import("./facets.js").Facet[]} facets
   * @param {{columns: string[], sampled: number, isAll: boolean, isPage: boolean, filter: string}} state
   */
  show(facets, state) {
    const focused = this.body.contains(document.activeElement)
      ? document.activeElement.dataset.focus
      : this.wanted;
    this.wanted = undefined;
    this._fill(facets, state);
    const found = [...this.body.querySelectorAll("[data-focus]")].find(
      (one) => one.dataset.focus === focused,
    );
    found?.focus({ preventScroll: true });
  }

  /**
   * Take the place of another panel.
   * @param {FieldsPanel} before
   * @param {string | undefined} focused  what had the focus there, if it was in it
   */
  goOnFrom(before, focused) {
    this.open = before.open;
    this.element.open = before.element.open;
    this.wanted = focused;
  }

  _fill(facets, { columns, sampled, isAll, isPage, filter }) {
    this.columns = columns;
    if (!facets.length) {
      return fill(
        this.body,
        el(
          "p",
          { class: "hint" },
          sampled ? "The keys here have no metadata." : "There is nothing to count.",
        ),
      );
    }
    this.open ??= new Set(this.isWide ? facets.slice(0, UNFOLDED).map(({ name }) => name) : []);
    const all = `all ${plural(sampled, "key")}`;
    const some = isPage
      ? `the ${plural(sampled, "key")} on this page`
      : `the first ${plural(sampled, "key")}`;
    const told = `Counted in ${isAll ? (sampled === 1 ? "the one key" : all) : some} of this result.`;
    const rest = facets.length - FIELDS;
    return fill(
      this.body,
      el("p", { class: "hint" }, told, " A tick makes a field a column."),
      el(
        "ul",
        { class: "field-list" },
        facets.slice(0, FIELDS).map((facet) => this._field(facet, filter)),
      ),
      rest > 0 && el("p", { class: "hint" }, `${plural(rest, "rarer field")} not shown.`),
    );
  }

  _field(facet, filter) {
    const isColumn = this.columns.includes(facet.name);
    const toggle = el("input", {
      type: "checkbox",
      checked: isColumn,
      "data-focus": `column ${facet.name}`,
      "aria-label": `Column ${visible(facet.name)}`,
      on: {
        change: (event) =>
          this.onColumns(
            event.target.checked
              ? [...this.columns, facet.name]
              : this.columns.filter((name) => name !== facet.name),
          ),
      },
    });
    const details = el(
      "details",
      { class: "field" },
      el(
        "summary",
        { "data-focus": `field ${facet.name}` },
        el("bdi", {}, visible(facet.name)),
        el("span", { class: "note" }, count(facet.records)),
      ),
    );
    const unfold = () => details.childElementCount === 1 && details.append(this._values(facet, filter));
    if (this.open.has(facet.name)) {
      details.open = true;
      unfold();
    }
    details.addEventListener("toggle", () => {
      if (details.open) unfold();
      this.open[details.open ? "add" : "delete"](facet.name);
    });
    return el("li", {}, toggle, details);
  }

  _values(facet, filter) {
    const isMany = facet.numbers.length > 1 && facet.values.size > 6;
    if (isMany && facet.type === "number") {
      const [low, high] = extent(facet.numbers);
      const mean = facet.numbers.reduce((sum, number) => sum + number, 0) / facet.numbers.length;
      return el(
        "div",
        { class: "numbers" },
        histogram(facet.numbers, facet.name),
        el("p", { class: "hint" }, `${figure(low)} to ${figure(high)}, mean ${figure(mean)}`),
        el(
          "div",
          { class: "chips" },
          ["le", "ge"].map((side) =>
            this._chip(
              `${written(facet.name)} ${side === "le" ? "<=" : ">="} ${Number(mean.toPrecision(3))}`,
              side === "le"
                ? `up to ${figure(Number(mean.toPrecision(3)))}`
                : `from ${figure(Number(mean.toPrecision(3)))}`,
              filter,
            ),
          ),
        ),
      );
    }
    if (!facet.values.size) return el("p", { class: "hint" }, `Its values are of the type ${facet.type}.`);
    const values = commonValues(facet, VALUES);
    const rest = facet.values.size - values.length;
    return el(
      "div",
      { class: "values" },
      el(
        "ul",
        {},
        values.map(([json, times]) =>
          el(
            "li",
            {},
            this._chip(
              `${written(facet.name)} = ${writtenValue(json)}`,
              visible(writtenValue(json).slice(0, 80)),
              filter,
            ),
            el("span", { class: "note" }, count(times)),
          ),
        ),
      ),
      rest > 0 && el("p", { class: "hint" }, `and ${plural(rest, "other value")}`),
    );
  }

  _chip(condition, text, filter) {
    const isOn = ` ${filter} `.includes(` ${condition} `);
    return button(text, () => this.onCondition(condition), {
      class: "chip",
      "data-focus": condition,
      "aria-pressed": String(isOn),
      title: isOn ? "Take out of the filter" : `Filter: ${condition}`,
    });
  }
}
