/** Earlier versions of a key, where the server keeps them. */

import { el, fill } from "./dom.js";
import { parseJson } from "./json.js";
import { keyAt } from "./router.js";
import { bytes, plural, when, whenInFull } from "./text.js";

/**
 * The versions of a key, newest first.
 * @param {import("./api.js").Api} api
 * @returns {Promise<import("./api.js").Record_[]>}
 */
export async function versionsOf(api, key, signal) {
  const answer = await api.request(api.urlOf(key, "versions"), {
    headers: { Accept: "application/x-ndjson" },
    signal,
  });
  return (await answer.text()).split("\n").filter(Boolean).map(parseJson);
}

export class VersionsCard {
  /** @param {import("./value.js").ValuePage} page */
  constructor(page) {
    this.page = page;
    this.body = el("div");
    this.element = el(
      "section",
      { class: "card versions", "aria-labelledby": "versions-title" },
      el("h2", { id: "versions-title" }, "Versions"),
      this.body,
    );
  }

  async load() {
    const { page } = this;
    try {
      const versions = page.versions ?? (await versionsOf(page.api, page.key, page.aborter.signal));
      fill(this.body, this._list(versions));
    } catch (error) {
      if (error.name !== "AbortError") fill(this.body, el("p", { class: "hint" }, error.message));
    }
  }

  _list(versions) {
    if (versions.length < 2) return el("p", { class: "hint" }, "There is only this one.");
    const row = (record, at) => {
      const isShown = record.revision === this.page.record.revision;
      const href = at === 0 ? keyAt(this.page.key) : keyAt(this.page.key, { version: record.revision });
      const time = record.modified === null ? `version ${versions.length - at}` : when(record.modified);
      return el(
        "li",
        {},
        el(
          "a",
          {
            href,
            "aria-current": isShown && "true",
            title: record.modified === null ? null : whenInFull(record.modified),
          },
          time,
        ),
        el(
          "span",
          { class: "note" },
          `${bytes(record.size)}, ${plural(Object.keys(record.metadata).length, "field")}`,
        ),
      );
    };
    return el("ol", { class: "version-list" }, versions.map(row));
  }
}
