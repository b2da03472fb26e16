/** The page of a listing: folders or keys, filtered, in pages, with the fields beside them. */

import { button, el, fill, icon } from "./dom.js";
import { facetsOf, tellingFields } from "./facets.js";
import { FieldsPanel } from "./fields.js";
import { FilterError, parseFilter } from "./filter.js";
import { pagerOf, told } from "./pager.js";
import { crumbs, nothing, nothingFound } from "./parts.js";
import { columnsOf, listAt, parentOf } from "./router.js";
import { FilterBox } from "./suggest.js";
import { flash, moveByRows, refreshRow, rowOf, tableOf, tellBelow } from "./table.js";
import { visible } from "./text.js";

const PAGE = 100;
const SAMPLE = 1000;
const PATIENCE = 400; // milliseconds that counting one folder may take before the rest is left
const SLOW = 3000; // milliseconds after which only what is needed is asked for
const PAUSE = 300; // milliseconds in which changes are gathered

export class Listing {
  /**
   * @param {import("./app.js").App} app
   * @param {import("./router.js").Place} place
   */
  constructor(app, place) {
    this.app = app;
    this.api = app.api;
    this.prefix = place.name;
    this.options = place.options;
    this.aborter = new AbortController();
    this.pending = new Set();
    this.pause = PAUSE;
    this._build();
  }

  get isFolders() {
    return this.options.view !== "keys" && this.api.has("folders") && !this.options.order;
  }

  get title() {
    return visible(this.prefix) || "All keys";
  }

  _build() {
    this.filter = new FilterBox({ value: this.options.q ?? "", onFilter: (q) => this._go({ q }) });
    this.fields = new FieldsPanel({
      onColumns: (columns) =>
        this._go({ columns: JSON.stringify(columns), ...this._samePage() }, { isQuiet: true }),
      onCondition: (condition) => this.filter.toggle(condition),
    });
    this.status = el("p", { class: "status", role: "status", "aria-live": "polite" }, "Looking …");
    this.results = el("div", { class: "results", "aria-busy": "true" });
    this.pager = el("nav", { class: "pager", "aria-label": "Pages" });
    this.element = el(
      "div",
      { class: "listing" },
      el("h1", { class: "unseen", tabindex: "-1" }, this.title),
      el("div", { class: "top" }, crumbs(this.prefix, this.options), this._tools()),
      this.filter.element,
      el(
        "div",
        { class: "columns" },
        el(
          "section",
          { class: "main-column", "aria-label": "Results" },
          this.status,
          this.results,
          this.pager,
        ),
        el("aside", { class: "side", "aria-label": "Fields of these keys" }, this.fields.element),
      ),
    );
  }

  _tools() {
    const choice = (view, text) =>
      el(
        "a",
        {
          href: listAt(this.prefix, {
            ...this._kept(),
            view: view === "keys" ? "keys" : "",
            order: view === "keys" ? this.options.order : "",
          }),
          "aria-current": String(this.isFolders === (view !== "keys")),
        },
        text,
      );
    return el(
      "div",
      { class: "tools" },
      this.api.has("folders") &&
        el(
          "nav",
          { class: "switch", "aria-label": "View" },
          choice("folders", "Folders"),
          choice("keys", "All keys"),
        ),
      this.app.canWrite &&
        button([icon("up"), " Upload"], () => this.app.uploads.choose(this.prefix), {
          class: "primary",
          id: "upload",
        }),
    );
  }

  /** What stays when something else of the listing changes. */
  _kept() {
    const { q, view, order, columns } = this.options;
    return { q, view, order, columns };
  }

  _samePage() {
    const { after, at } = this.options;
    return { after, at };
  }

  _go(options, { isQuiet = false } = {}) {
    this.app.go(listAt(this.prefix, { ...this._kept(), ...options }), { isQuiet });
  }

  /** What the server is asked for, without the page. */
  _asked() {
    const { where, glob } = parseFilter(this.options.q ?? "");
    return { prefix: this.prefix, where, glob, order: this.options.order };
  }

  async load() {
    try {
      const asked = this._asked();
      const delimiter = this.isFolders ? "/" : "";
      const begun = performance.now();
      const { entries, next } = await this.api.query(
        { ...asked, delimiter, limit: PAGE, after: this.options.after },
        this.aborter.signal,
      );
      this.isSlow = performance.now() - begun > SLOW;
      this._show(entries, next);
      await this._lookAround(asked);
    } catch (error) {
      this._fail(error);
    }
  }

  /** Count what is found, and look what fields it has. */
  async _lookAround(asked) {
    const isAll = !this.next && !this.options.after && (!this.isFolders || !this.entries.length);
    if (isAll || this.isSlow) {
      // A page that is all there is has been seen; what took long must not be done three times.
      this.total = isAll ? this.entries.length : undefined;
      const records = this.entries.filter((entry) => "metadata" in entry);
      this._tell();
      this._showFacets(records, isAll);
      return;
    }
    await Promise.all([this._count(asked), this._sample(asked)]);
    await this._countFolders(asked);
  }

  _fail(error) {
    if (error.name === "AbortError") return;
    this.results.setAttribute("aria-busy", "false");
    if (error instanceof FilterError || error.status === 400 || error.status === 414) {
      this.filter.fail(error);
      fill(this.status, "Nothing was looked for.");
      fill(
        this.results,
        nothing("The filter cannot be read", "Below the box it says what is wrong with it."),
      );
      return;
    }
    fill(this.status, "");
    fill(
      this.results,
      nothing(
        "The listing could not be read",
        error.message,
        button("Try again", () => this.app.reload(), { class: "primary" }),
      ),
    );
  }

  _show(entries, next) {
    this.entries = entries;
    this.next = next;
    this.shape = this._shape(entries);
    this.results.setAttribute("aria-busy", "false");
    if (entries.length) {
      this.table = tableOf(entries, this.shape);
      this.table.addEventListener(
        "keydown",
        (event) => moveByRows(this.table, event) && event.preventDefault(),
      );
      fill(this.results, this.table);
      this._focusBack();
    } else {
      this.table = null;
      fill(this.results, this._empty());
    }
    this._tell();
    this._paging();
  }

  /** Go on from the row that one comes back from, unless one is somewhere else already. */
  _focusBack() {
    const row = this.returnTo && rowOf(this.table, this.returnTo);
    this.returnTo = undefined;
    if (row && this.element.querySelector("h1") === document.activeElement) row.querySelector("a").focus();
  }

  _shape(entries) {
    const records = entries.filter((entry) => "metadata" in entry);
    const chosen = columnsOf(this.options.columns);
    const { order = "" } = this.options;
    return {
      prefix: this.prefix,
      columns: chosen ?? tellingFields(records),
      order,
      folderOptions: () => ({ ...this._kept() }),
      // Once up, once down, and back to the order of keys. Only keys have an order by a field.
      orderLink: (field) => {
        const next = field === "" || order === `-${field}` ? "" : order === field ? `-${field}` : field;
        return listAt(this.prefix, { ...this._kept(), order: next, view: next ? "keys" : this.options.view });
      },
    };
  }

  _empty() {
    const { app, prefix, options } = this;
    return nothingFound({
      prefix,
      options,
      clear: () => this._go({ q: "" }),
      restart: () => this._go({}),
      upload: app.canWrite && (() => app.uploads.choose(prefix)),
      isPartial: app.isShared,
    });
  }

  _tell() {
    const { total, isFolders, next, entries } = this;
    fill(this.status, told({ entries, total, isFolders, next, options: this.options }));
  }

  _paging() {
    fill(this.pager, pagerOf(this.prefix, this._kept(), this.options, this.next, this.entries.length));
  }

  async _count({ prefix, where, glob }) {
    try {
      this.total = await this.api.count({ prefix, where, glob }, this.aborter.signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return; // a number that is missing is no reason to show nothing
    }
    this._tell();
  }

  /** Count the values of fields in the first of all keys that are found, on whatever page one is. */
  async _sample(asked) {
    const limit = Math.min(SAMPLE, this.api.service.limits?.page ?? SAMPLE);
    const { entries, next } = await this.api.query({ ...asked, limit }, this.aborter.signal);
    this._showFacets(entries, next === null);
  }

  _showFacets(records, isAll) {
    this.facets = facetsOf(records);
    this.filter.facets = this.facets;
    this.sample = { sampled: records.length, isAll, isPage: !isAll && this.isSlow };
    this.fields.show(this.facets, {
      ...this.sample,
      columns: this.shape.columns,
      filter: this.options.q ?? "",
    });
  }

  /** Tell how many keys the folders hold, as long as the server counts them quickly. */
  async _countFolders({ where, glob }) {
    for (const entry of this.entries) {
      if (!("folder" in entry)) continue;
      const begun = performance.now();
      const number = await this.api.count({ prefix: entry.folder, where, glob }, this.aborter.signal);
      if (this.table) tellBelow(this.table, entry.folder, number);
      if (performance.now() - begun > PATIENCE) return;
    }
  }

  // -- changes by others -------------------------------------------------------------------

  /** @param {{key: string}} change */
  changed(change) {
    if (!change.key.startsWith(this.prefix)) return;
    this.pending.add(change.key);
    this._plan();
  }

  _plan() {
    if (this.isRefreshing || this.timer || !this.pending.size || this.aborter.signal.aborted) return;
    this.timer = setTimeout(() => this._refresh(), this.pause);
  }

  /** Look again at this page, and light up what is new in it. */
  async _refresh() {
    this.timer = undefined;
    this.isRefreshing = true;
    const begun = performance.now();
    const keys = new Set(this.pending);
    this.pending.clear();
    try {
      const asked = this._asked();
      const delimiter = this.isFolders ? "/" : "";
      const { entries, next } = await this.api.query(
        { ...asked, delimiter, limit: PAGE, after: this.options.after },
        this.aborter.signal,
      );
      this._merge(entries, next, keys);
      await this._lookAround(asked);
    } catch (error) {
      // Where nobody answers, what is shown stays: that it may be out of date is told above.
      if (!(error instanceof FilterError) && error.status !== 0) this._fail(error);
    }
    this.isRefreshing = false;
    // Where much is changed, looking must not keep the server busy.
    this.pause = Math.max(PAUSE, 4 * (performance.now() - begun));
    this._plan();
  }

  _merge(entries, next, keys) {
    const nameOf = (entry) => ("folder" in entry ? entry.folder : entry.key);
    const isSame =
      this.table &&
      entries.length === this.entries.length &&
      entries.every((entry, at) => nameOf(entry) === nameOf(this.entries[at]));
    if (isSame) {
      for (const record of entries) {
        const row = "metadata" in record ? rowOf(this.table, record.key) : null;
        if (row && row.dataset.revision !== record.revision) refreshRow(row, record, this.shape, this.table);
      }
      this.entries = entries;
      this.next = next;
      this._paging();
    } else {
      const focused = document.activeElement?.closest?.("tr")?.dataset.key;
      const counted = this.table
        ? [...this.table.querySelectorAll("[data-below]")].map((place) => [
            place.dataset.below,
            place.textContent,
          ])
        : [];
      this._show(entries, next);
      for (const [folder, text] of counted) {
        const place =
          this.table &&
          [...this.table.querySelectorAll("[data-below]")].find((one) => one.dataset.below === folder);
        if (place) place.textContent = text;
      }
      if (focused !== undefined && this.table)
        rowOf(this.table, focused)?.querySelector("a").focus({ preventScroll: true });
      for (const key of keys) {
        const row = this.table && rowOf(this.table, key);
        if (row) flash(row);
      }
    }
    for (const entry of entries) {
      if ("folder" in entry && [...keys].some((key) => key.startsWith(entry.folder))) {
        const row = this.table && rowOf(this.table, entry.folder);
        if (row) flash(row);
      }
    }
  }

  /** Keys that mean something here. @returns {boolean} whether this one did */
  shortcut(key) {
    const press = (selector) => {
      const found = this.element.querySelector(selector);
      found?.click();
      return Boolean(found);
    };
    if (key === "/") return (this.filter.input.focus(), this.filter.input.select(), true);
    if (key === "n") return press("#next-page");
    if (key === "p") return press("#back-page");
    if (key === "u")
      return (
        this.prefix !== "" && (this.app.go(listAt(parentOf(this.prefix), { view: this.options.view })), true)
      );
    if (key === "v") return press('.switch a[aria-current="false"]');
    if (key === "a") return press("#upload");
    if (["j", "k"].includes(key)) return Boolean(this.table && moveByRows(this.table, { key }));
    return false;
  }

  close() {
    this.aborter.abort();
    clearTimeout(this.timer);
  }
}
