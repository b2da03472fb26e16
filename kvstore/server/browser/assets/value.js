/** The page of a key: what it is, its data as a picture or text, and what can be done with it. */

import { etagOf, Problem } from "./api.js";
import { confirm } from "./dialogs.js";
import { button, el, fill, icon } from "./dom.js";
import { MetadataCard } from "./metadata.js";
import { crumbs, nothing } from "./parts.js";
import { PermissionsCard } from "./permissions.js";
import { preview } from "./preview/preview.js";
import { Source } from "./preview/source.js";
import { isState, keyAt, listAt, parentOf } from "./router.js";
import { named } from "./table.js";
import { bytes, count, visible, whenInFull } from "./text.js";
import { VersionsCard, versionsOf } from "./versions.js";

/** Bytes up to which data are put together in memory to be saved, where a link cannot carry the token. */
const LARGEST_SAVED = 2 ** 30;

export class ValuePage {
  /**
   * @param {import("./app.js").App} app
   * @param {import("./router.js").Place} place
   */
  constructor(app, place) {
    this.app = app;
    this.api = app.api;
    this.key = place.name;
    /** The version that is looked at, null for the present one. */
    this.version = place.options.version ?? null;
    this.aborter = new AbortController();
    this.name = this.key.slice(parentOf(this.key).length);
    this.body = el("div", { class: "value-body" }, el("p", { class: "waiting" }, "Reading …"));
    this.notice = el("div", { class: "notices", role: "status", "aria-live": "polite" });
    this.element = el(
      "article",
      { class: "value" },
      crumbs(this.key, {}, this.name),
      el("h1", { tabindex: "-1" }, named(this.name)),
      this.notice,
      this.body,
    );
  }

  get title() {
    return visible(this.key);
  }

  /** What the keys of files begin with that are dropped here. */
  get prefix() {
    return parentOf(this.key);
  }

  get isEditable() {
    return this.app.canWrite && this.version === null;
  }

  async load() {
    try {
      const present = await this._present();
      this.record = this.version === null ? present : await this._past();
      if (!this.record) throw new Problem(404, "There is no such key, or you may not see it.");
      this._show(present);
      if (this.early && this.early.time > (this.record.modified ?? Infinity)) this.changed(this.early);
    } catch (error) {
      this._fail(error);
    }
  }

  async _present() {
    try {
      return await this.api.record(this.key, this.aborter.signal);
    } catch (error) {
      if (error.status === 404 && this.version !== null) return null; // deleted, and its versions kept
      throw error;
    }
  }

  async _past() {
    this.versions = await versionsOf(this.api, this.key, this.aborter.signal);
    return this.versions.find(({ revision }) => revision === this.version);
  }

  _fail(error) {
    if (error.name === "AbortError") return;
    const folder = parentOf(this.key);
    const back = el(
      "a",
      { class: "button", href: listAt(folder) },
      folder ? `To the folder ${visible(folder)}` : "To all keys",
    );
    const isMissing = error.status === 404;
    const title = isMissing ? "There is no such key" : "The key could not be read";
    const text = isMissing ? "It may have been deleted or renamed, or you may not see it." : error.message;
    fill(
      this.body,
      nothing(
        title,
        text,
        isMissing ? back : button("Try again", () => this.app.reload(), { class: "primary" }),
      ),
    );
  }

  _show(present) {
    const { record } = this;
    const query = this.version === null ? "" : `?$version=${encodeURIComponent(this.version)}`;
    this.source = new Source(this.api, this.api.urlOf(this.key, "data") + query, record, this.aborter.signal);
    const card = el("section", { class: "card preview", "aria-label": "Preview" });
    const facts = el(
      "section",
      { class: "card", "aria-labelledby": "facts-title" },
      el("h2", { id: "facts-title" }, "Facts"),
      factsOf(record),
    );
    this.metadata = new MetadataCard(this);
    this.permissions =
      this.version === null && this.api.service.profile.parts?.permissions ? new PermissionsCard(this) : null;
    this.history = this.api.has("versions") ? new VersionsCard(this) : null;
    fill(
      this.body,
      this._actions(),
      isState(this.key) && stateNotice(),
      this.version !== null && this._pastNotice(present),
      el(
        "div",
        { class: "columns" },
        el("div", { class: "main-column" }, card),
        el(
          "div",
          { class: "side" },
          this.metadata.element,
          facts,
          this.permissions?.element,
          this.history?.element,
        ),
      ),
    );
    this.permissions?.load();
    this.history?.load();
    preview(this.source, record, card);
  }

  _pastNotice(present) {
    const restore =
      this.app.canWrite && button("Restore this version", () => this._restore(present), { id: "restore" });
    return el(
      "p",
      { class: "notice" },
      "This is how the key was at an earlier time. ",
      present && el("a", { href: keyAt(this.key) }, "To the present version"),
      restore,
    );
  }

  /** Set the key back to the version that is shown; what is there now becomes an earlier version. */
  async _restore(present) {
    const headers = {
      "Content-Type": "application/json",
      ...(present ? this.condition(present.revision) : {}),
    };
    try {
      const body = JSON.stringify({ restore: this.version });
      await this.api.request(this.api.urlOf(this.key, "versions"), { method: "POST", headers, body });
      this.app.say("The version is restored.");
      this.app.go(keyAt(this.key));
    } catch (error) {
      this.app.say(
        error.status === 412
          ? "Somebody has changed the key meanwhile: nothing was restored. Look at it again."
          : error.message,
      );
    }
  }

  _actions() {
    return el(
      "div",
      { class: "actions-row" },
      this._download(),
      button([icon("link"), " Copy link"], () => this._copyLink(), { id: "copy-link" }),
      this.isEditable &&
        button([icon("up"), " Replace data"], () => this.app.uploads.choose(parentOf(this.key), this.key), {
          id: "replace",
        }),
      this.isEditable &&
        button([icon("trash"), " Delete"], () => this._delete(), { id: "delete", class: "danger-quiet" }),
    );
  }

  _download() {
    const name = this.name.replace(/[\\/:*?"<>|\p{Cc}\p{Cf}]/gu, "_") || "data";
    const content = [icon("down"), " Download"];
    if (!this.api.token)
      return el(
        "a",
        { class: "button primary", id: "download", href: this.source.url, download: name },
        content,
      );
    return button(content, (event) => this._save(event.currentTarget, name), {
      class: "primary",
      id: "download",
    });
  }

  /** Save data that a link cannot fetch, as it would carry no token. */
  async _save(pressed, name) {
    if (this.record.size > LARGEST_SAVED) {
      this.app.say(`This is more than a page can save. Use: kvstore get ${location.origin} KEY`);
      return;
    }
    pressed.disabled = true;
    try {
      const pieces = [];
      let done = 0;
      for await (const piece of this.source.stream()) {
        pieces.push(piece);
        done += piece.length;
        fill(pressed, `${Math.floor((100 * done) / this.record.size)} %`);
      }
      if (done !== this.record.size) throw new Problem(0, "The download broke off.");
      const url = URL.createObjectURL(new Blob(pieces, { type: "application/octet-stream" }));
      el("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      if (error.name !== "AbortError") this.app.say(error.message);
    } finally {
      pressed.disabled = false;
      fill(pressed, icon("down"), " Download");
    }
  }

  async _copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      this.app.say("The link is in the clipboard.");
    } catch {
      this.app.say("The browser does not let this page copy. The link is the address of this page.");
    }
  }

  async _delete() {
    const size = bytes(this.record.size);
    if (
      !(await confirm(
        "Delete this key?",
        `${visible(this.key)} and its ${size} of data will be gone for everybody.`,
        "Delete",
      ))
    )
      return;
    try {
      await this.api.request(this.api.urlOfKey(this.key), { method: "DELETE", headers: this.condition() });
    } catch (error) {
      this.app.say(
        error.status === 412
          ? "Somebody has changed it meanwhile: nothing was deleted. Look at it again."
          : error.message,
      );
      if (error.status === 412) this.app.reload();
      return;
    }
    this.isDeleted = true;
    this.app.say("Deleted.");
    this.app.go(listAt(parentOf(this.key)));
  }

  /** The header fields that let a write fail if the key is no longer what is shown. */
  condition(revision = this.record.revision) {
    return revision === null ? {} : { "If-Match": etagOf(revision) };
  }

  /** Take note of a write of one's own. */
  async wrote(answer) {
    const revision = /^"(.*)"$/.exec(answer.headers.get("ETag") ?? "")?.[1];
    this.own = revision;
    this.app.reload();
  }

  /** @param {import("./live.js").Change} change */
  changed(change) {
    if (change.key !== this.key || this.version !== null || this.isDeleted) return;
    if (!this.record) {
      this.early = change; // what is being read may be from before it
      return;
    }
    if (change.action !== "delete" && [this.record.revision, this.own].includes(change.revision)) return;
    if (change.action === "delete") {
      this._tell("This key was deleted by somebody just now. What you see is the last that was read.", null);
    } else if (this.metadata.isEditing) {
      this._tell(
        "Somebody has changed this key while you were editing. Saving will show both versions.",
        null,
      );
    } else
      this._tell(
        "Somebody has changed this key.",
        button("Show it as it is now", () => this.app.reload(), { id: "show-now" }),
      );
  }

  _tell(text, action) {
    fill(this.notice, el("p", { class: "notice changed" }, text, " ", action));
  }

  shortcut(key) {
    if (key === "u") return (this.app.go(listAt(parentOf(this.key))), true);
    if (key === "e" && this.metadata && this.isEditable) return (this.metadata.edit(), true);
    if (key === "d") return (document.getElementById("download")?.click(), true);
    return false;
  }

  close() {
    this.aborter.abort();
    this.source?.close();
  }
}

function stateNotice() {
  return el(
    "p",
    { class: "notice" },
    el("code", {}, "kvstore sync"),
    " keeps here what it knows of another store, to send only what is new. Nothing else should change it.",
  );
}

function factsOf(record) {
  const rows = [
    [
      "Size",
      record.size >= 1000 ? `${bytes(record.size)} (${count(record.size)} bytes)` : bytes(record.size),
    ],
    ["Type", el("code", {}, visible(record.mimetype))],
    ["Modified", record.modified === null ? null : whenInFull(record.modified)],
    ["Created", record.created === null ? null : whenInFull(record.created)],
    ["Revision", record.revision && el("code", {}, visible(record.revision))],
    ["Digest", record.digest && el("code", { class: "digest" }, record.digest)],
  ];
  return el(
    "dl",
    { class: "facts" },
    rows
      .filter(([, value]) => value)
      .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
}
