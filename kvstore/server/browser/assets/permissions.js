/** Who may do what with a key: for its owners to see and to change. */

import { button, el, fill } from "./dom.js";
import { pretty } from "./json.js";
import { visible } from "./text.js";

const KNOWN = {
  __proto__: null, // names come from anybody, "constructor" too
  owned: "may do everything, and decide who else may",
  read: "may read",
  write: "may change data and metadata, and delete",
};

export class PermissionsCard {
  /** @param {import("./value.js").ValuePage} page */
  constructor(page) {
    this.page = page;
    this.api = page.api;
    this.body = el("div");
    this.element = el(
      "section",
      { class: "card permissions", "aria-labelledby": "permissions-title" },
      el("h2", { id: "permissions-title" }, "Permissions"),
      this.body,
    );
  }

  async load() {
    try {
      const answer = await this.api.request(this.api.urlOf(this.page.key, "permissions"), {
        signal: this.page.aborter.signal,
      });
      this.permissions = await answer.json();
      this.etag = answer.headers.get("ETag");
      this.show();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 403)
        fill(
          this.body,
          el("p", { class: "hint" }, "Only owners of this key see who else may read or change it."),
        );
      else if ([404, 405, 501].includes(error.status)) this.element.hidden = true;
      else fill(this.body, el("p", { class: "hint" }, error.message));
    }
  }

  show() {
    const names = [...new Set([...Object.keys(KNOWN), ...Object.keys(this.permissions)])];
    const row = (name) => {
      const tags = this.permissions[name] ?? [];
      const shownTags = tags.length
        ? tags.map((tag) => el("span", { class: "tag" }, tag === "public" ? "everybody" : visible(tag)))
        : el("span", { class: "none" }, "nobody else");
      return el(
        "div",
        {},
        el("dt", { title: KNOWN[name] }, visible(name)),
        el("dd", { class: "tags" }, shownTags),
      );
    };
    fill(
      this.body,
      el("dl", { class: "facts" }, names.map(row)),
      this.page.isEditable && button("Edit", () => this.edit(), { id: "edit-permissions" }),
    );
  }

  edit() {
    const names = [...new Set([...Object.keys(KNOWN), ...Object.keys(this.permissions)])];
    const inputs = names.map((name) => [
      name,
      el("input", {
        id: `may-${name}`,
        type: "text",
        value: (this.permissions[name] ?? []).join(", "),
        spellcheck: "false",
        autocomplete: "off",
      }),
    ]);
    this.error = el("p", { class: "field-error", role: "alert" });
    const submit = (event) => {
      event.preventDefault();
      this.save(Object.fromEntries(inputs.map(([name, input]) => [name, tagsOf(input.value)])));
    };
    fill(
      this.body,
      el(
        "form",
        { on: { submit } },
        inputs.map(([name, input]) =>
          el(
            "div",
            { class: "field-row" },
            el(
              "label",
              { for: input.id },
              visible(name),
              KNOWN[name] && el("span", { class: "note" }, ` ${KNOWN[name]}`),
            ),
            input,
          ),
        ),
        el(
          "p",
          { class: "hint" },
          "Users and groups, with commas. ",
          el("code", {}, "public"),
          " is everybody.",
        ),
        this.error,
        el(
          "div",
          { class: "actions" },
          button("Cancel", () => this.show()),
          el("button", { type: "submit", class: "primary", id: "save-permissions" }, "Save"),
        ),
      ),
    );
    inputs[0][1].focus();
  }

  async save(permissions) {
    const kept = Object.fromEntries(
      Object.entries(permissions).filter(([name, tags]) => tags.length || name === "owned"),
    );
    const headers = { "Content-Type": "application/json", ...(this.etag ? { "If-Match": this.etag } : {}) };
    try {
      const answer = await this.api.request(this.api.urlOf(this.page.key, "permissions"), {
        method: "PUT",
        headers,
        body: pretty(JSON.stringify(kept)),
      });
      this.page.app.say("The permissions are saved.");
      await this.page.wrote(answer);
    } catch (error) {
      if (error.status !== 412) this.error.textContent = error.message;
      else
        this.error.textContent =
          "Somebody has changed this key meanwhile, so nothing was saved. Cancel, and look at it again.";
    }
  }
}

const tagsOf = (text) =>
  [
    ...new Set(
      text
        .split(",")
        .map((tag) => tag.trim())
        .filter(Boolean),
    ),
  ].sort();
