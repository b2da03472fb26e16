/** The box in which filters are written, with suggestions of fields, operators and values. */

import { button, el, fill } from "./dom.js";
import { commonValues } from "./facets.js";
import { expectedAt, FilterError, OPERATORS, parseFilter, written, writtenValue } from "./filter.js";
import { plural, visible } from "./text.js";

/** @typedef {{text: string, insert: string, note: string, isWhole?: boolean}} Suggestion */

const MOST = 12;

export class FilterBox {
  /**
   * @param {object} options
   * @param {(text: string) => void} options.onFilter  called with a filter that can be read
   * @param {string} options.value
   */
  constructor({ onFilter, value }) {
    this.onFilter = onFilter;
    /** @type {import("./facets.js").Facet[]} */
    this.facets = [];
    /** @type {Suggestion[]} */
    this.suggestions = [];
    this.chosen = -1;
    this._build(value);
  }

  _build(value) {
    this.input = el("input", {
      type: "text",
      id: "filter",
      class: "filter-input",
      value,
      autocomplete: "off",
      spellcheck: "false",
      autocapitalize: "off",
      enterkeyhint: "search",
      role: "combobox",
      "aria-expanded": "false",
      "aria-controls": "suggestions",
      "aria-autocomplete": "list",
      "aria-describedby": "filter-error",
      placeholder: "Filter: exposure >= 30  filter = B  m31",
      on: {
        input: () => this._typed(),
        keydown: (event) => this._key(event),
        focus: () => this._typed(),
        blur: () => this._close(),
      },
    });
    this.clear = button("Clear", () => this._submit(""), {
      class: "quiet",
      "aria-label": "Clear the filter",
    });
    this.list = el("ul", {
      id: "suggestions",
      class: "suggestions",
      role: "listbox",
      "aria-label": "Suggestions",
      hidden: true,
    });
    this.error = el("p", { id: "filter-error", class: "filter-error", role: "alert" });
    this.element = el(
      "form",
      {
        class: "filter",
        role: "search",
        "aria-label": "Filter",
        on: { submit: (event) => (event.preventDefault(), this._submit(this.input.value)) },
      },
      el("label", { class: "unseen", for: "filter" }, "Filter the keys by their metadata"),
      el(
        "div",
        { class: "filter-row" },
        this.input,
        this.clear,
        el("button", { type: "submit", class: "filter-go" }, "Filter"),
      ),
      this.list,
      this.error,
    );
    this.clear.hidden = !value;
  }

  /** Show what is wrong, and where. @param {Error | null} error */
  fail(error) {
    this.input.setAttribute("aria-invalid", String(error !== null));
    if (error === null) return fill(this.error);
    const text = this.input.value;
    if (!(error instanceof FilterError)) return fill(this.error, error.message);
    const to = Math.max(error.to, error.from + 1);
    return fill(
      this.error,
      error.message,
      el(
        "code",
        { class: "filter-place", "aria-hidden": "true" },
        text.slice(0, error.from),
        el("mark", {}, text.slice(error.from, to) || " "),
        text.slice(to),
      ),
    );
  }

  /** Add a condition to the filter, or take it out where it stands already. */
  toggle(condition) {
    const padded = ` ${this.input.value.trim()} `;
    const without = padded.replace(` ${condition} `, " ");
    this._submit((without === padded ? padded + condition : without).trim());
  }

  _submit(text) {
    this._close();
    this.input.value = text;
    this.clear.hidden = !text;
    try {
      parseFilter(text);
    } catch (error) {
      this.fail(error);
      this.input.focus();
      return;
    }
    this.fail(null);
    this.onFilter(text.trim());
  }

  _typed() {
    this.clear.hidden = !this.input.value;
    if (this.input.getAttribute("aria-invalid") === "true") this.fail(null);
    const cursor = this.input.selectionStart ?? this.input.value.length;
    this.expected = expectedAt(this.input.value, cursor);
    this.suggestions =
      this.expected && document.activeElement === this.input
        ? suggestionsFor(this.expected, this.facets)
        : [];
    this.chosen = -1;
    this._show();
  }

  _show() {
    const isOpen = this.suggestions.length > 0;
    this.list.hidden = !isOpen;
    this.input.setAttribute("aria-expanded", String(isOpen));
    this.input.removeAttribute("aria-activedescendant");
    fill(
      this.list,
      this.suggestions.map(({ text, note }, at) =>
        el(
          "li",
          {
            id: `suggestion-${at}`,
            role: "option",
            "aria-selected": String(at === this.chosen),
            // Pressing must not take the focus from the input, or the list is gone before the click.
            on: { mousedown: (event) => event.preventDefault(), click: () => this._accept(at) },
          },
          el("bdi", {}, visible(text)),
          el("span", { class: "note" }, note),
        ),
      ),
    );
    if (this.chosen >= 0) {
      this.input.setAttribute("aria-activedescendant", `suggestion-${this.chosen}`);
      this.list.children[this.chosen].scrollIntoView({ block: "nearest" });
    }
  }

  _key(event) {
    const many = this.suggestions.length;
    if (event.key === "Escape") {
      if (many) this._close();
      else this.input.blur();
      event.preventDefault();
    } else if (!many) return;
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.chosen = this.chosen < 0 && step < 0 ? many - 1 : (this.chosen + step + many) % many;
      this._show();
      event.preventDefault();
    } else if (this.chosen >= 0 && (event.key === "Enter" || event.key === "Tab")) {
      this._accept(this.chosen);
      event.preventDefault();
    }
  }

  _accept(at) {
    const { insert } = this.suggestions[at];
    const { from, to } = this.expected;
    const text = this.input.value;
    this.input.value = `${text.slice(0, from)}${insert} ${text.slice(to).trimStart()}`;
    const cursor = from + insert.length + 1;
    this.input.setSelectionRange(cursor, cursor);
    this._typed();
  }

  _close() {
    this.suggestions = [];
    this.chosen = -1;
    this._show();
  }
}

/** @returns {Suggestion[]} */
export function suggestionsFor({ expects, field, typed }, facets) {
  const fits = (text) => text.toLowerCase().includes(typed.toLowerCase());
  const facet = facets.find(({ name }) => name === field);
  const all = {
    field: () =>
      facets.map(({ name, records, type }) => ({
        text: name,
        insert: written(name),
        note: `${type} in ${plural(records, "key")}`,
      })),
    operator: () => operatorsOf(facet).map(({ text, says }) => ({ text, insert: text, note: says })),
    value: () =>
      (facet ? commonValues(facet, 200) : []).map(([json, times]) => ({
        text: writtenValue(json),
        insert: writtenValue(json),
        note: plural(times, "key"),
      })),
    joiner: () =>
      (typed
        ? [
            ["and", "both hold"],
            ["or", "one of both holds"],
          ]
        : []
      ).map(([text, note]) => ({ text, insert: text, note })),
  }[expects]();
  return all.filter(({ text }) => fits(text) && text !== typed).slice(0, MOST);
}

function operatorsOf(facet) {
  const isText = facet?.type === "string";
  const isNumber = facet?.type === "number";
  return OPERATORS.filter(({ name }) => {
    if (["lt", "le", "gt", "ge"].includes(name)) return !facet || isNumber || isText;
    if (["prefix"].includes(name)) return !facet || isText;
    if (name === "contains") return !facet || isText || facet.type === "array";
    return true;
  });
}
