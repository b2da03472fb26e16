/** Metadata as a table, and as a document to edit; what others wrote meanwhile is never overwritten. */

import { button, el, fill } from "./dom.js";
import { pretty, shown, typeOf } from "./json.js";
import { visible } from "./text.js";

export class MetadataCard {
  /** @param {import("./value.js").ValuePage} page */
  constructor(page) {
    this.page = page;
    this.api = page.api;
    this.isEditing = false;
    this.body = el("div");
    this.element = el(
      "section",
      { class: "card metadata", "aria-labelledby": "metadata-title" },
      el("h2", { id: "metadata-title" }, "Metadata"),
      this.body,
    );
    this.show();
  }

  show() {
    this.isEditing = false;
    const { metadata } = this.page.record;
    const fields = Object.entries(metadata);
    fill(
      this.body,
      fields.length
        ? el(
            "dl",
            { class: "facts" },
            fields.map(([name, value]) =>
              el(
                "div",
                {},
                el("dt", {}, el("bdi", {}, visible(name))),
                el("dd", { "data-type": typeOf(value) }, valueOf(value)),
              ),
            ),
          )
        : el("p", { class: "hint" }, "There are none."),
      this.page.isEditable && button("Edit", () => this.edit(), { id: "edit-metadata" }),
    );
  }

  /** Show the document to edit, as it is on the server now. */
  async edit() {
    if (this.isEditing) return;
    this.isEditing = true;
    let document;
    try {
      document = await this._read();
    } catch (error) {
      this.isEditing = false;
      this.page.app.say(error.message);
      return;
    }
    this._editor(document.text, document.etag);
  }

  /** The document in its own spelling: numbers are not what JavaScript makes of them. */
  async _read() {
    const answer = await this.api.request(this.api.urlOf(this.page.key, "metadata"));
    return { text: pretty(await answer.text()), etag: answer.headers.get("ETag") };
  }

  _editor(text, etag, conflict = null) {
    this.etag = etag;
    this.error = el("p", { id: "metadata-error", class: "field-error", role: "alert" });
    this.area = el("textarea", {
      id: "metadata-text",
      rows: Math.min(24, Math.max(6, text.split("\n").length + 1)),
      spellcheck: "false",
      value: text,
      "aria-describedby": "metadata-error",
      "aria-label": "Metadata, a JSON object",
      on: { keydown: (event) => this._key(event), input: () => this._check() },
    });
    fill(
      this.body,
      conflict,
      this.area,
      this.error,
      el(
        "div",
        { class: "actions" },
        button("Cancel", () => this._cancel(), {}),
        button(conflict ? "Save mine" : "Save", () => this.save(), { class: "primary", id: "save-metadata" }),
      ),
    );
    (conflict?.querySelector("h3") ?? this.area).focus();
  }

  _cancel() {
    this.isEditing = false;
    this.page.app.reload();
  }

  _key(event) {
    if (event.key === "Escape") this._cancel();
    else if ((event.ctrlKey || event.metaKey) && (event.key === "s" || event.key === "Enter")) this.save();
    else return;
    event.preventDefault();
  }

  _check() {
    let message = "";
    try {
      const value = JSON.parse(this.area.value);
      if (typeOf(value) !== "object") message = "Metadata are a JSON object: { … }";
    } catch (error) {
      message = `That is no JSON yet: ${placed(error.message, this.area.value)}`;
    }
    this.area.setAttribute("aria-invalid", String(message !== ""));
    this.error.textContent = message;
    return message === "";
  }

  async save() {
    if (!this._check()) return this.area.focus();
    const headers = { "Content-Type": "application/json", ...(this.etag ? { "If-Match": this.etag } : {}) };
    const url = this.api.urlOf(this.page.key, "metadata");
    try {
      const answer = await this.api.request(url, { method: "PUT", headers, body: this.area.value });
      this.isEditing = false;
      this.page.app.say("The metadata are saved.");
      await this.page.wrote(answer);
    } catch (error) {
      if (error.status === 412) await this._conflict(this.area.value);
      else if (error.name !== "AbortError") this.error.textContent = error.message;
    }
  }

  /** Both versions, and nothing decided: what is saved next is what the user has seen. */
  async _conflict(mine) {
    let theirs;
    try {
      theirs = await this._read();
    } catch (error) {
      const isGone = error.status === 404;
      this.error.textContent = isGone
        ? "Nothing was saved: somebody has deleted this key meanwhile."
        : error.message;
      return;
    }
    const marked = (text, other) => {
      const known = new Set(other.split("\n").map((line) => line.replace(/,$/, "")));
      return el(
        "pre",
        { class: "text", tabindex: "0" },
        text
          .split("\n")
          .map((line) => el(known.has(line.replace(/,$/, "")) ? "span" : "mark", {}, `${visible(line)}\n`)),
      );
    };
    const box = el(
      "div",
      { class: "conflict", role: "alert" },
      el("h3", { tabindex: "-1" }, "Somebody has saved another version meanwhile"),
      el("p", {}, "Nothing of yours was saved, and nothing of theirs is lost. Lines that differ are marked."),
      el(
        "div",
        { class: "versions-both" },
        el("div", {}, el("h4", {}, "On the server now"), marked(theirs.text, mine)),
        el("div", {}, el("h4", {}, "Yours"), marked(mine, theirs.text)),
      ),
      el(
        "p",
        {},
        "Take theirs, or bring both together below. What you save then replaces the version that is shown above, and no later one.",
      ),
      button("Take theirs", () => this._cancel(), { id: "take-theirs" }),
    );
    this._editor(mine, theirs.etag, box);
  }
}

function valueOf(value) {
  const type = typeOf(value);
  if (type === "object" || type === "array")
    return el("pre", {}, visible(pretty(shown(value))).replaceAll("\\n", "\n"));
  return el("bdi", {}, value === "" ? el("span", { class: "none" }, "empty text") : visible(shown(value)));
}

/** The message of the browser, with a line instead of a count of characters. */
function placed(message, text) {
  const position = /position (\d+)/.exec(message);
  if (!position) return message;
  const line = text.slice(0, Number(position[1])).split("\n").length;
  return message.replace(/ in JSON.*$/, "").replace(/ at position.*$/, "") + ` in line ${line}`;
}
