/** Files on their way up: chosen or dropped, with progress, and with a question before anything is replaced. */

import { etagOf } from "./api.js";
import { button, el, fill, icon } from "./dom.js";
import { keyAt } from "./router.js";
import { send } from "./send.js";
import { bytes, visible } from "./text.js";

/** Uploads that run at the same time. */
const TOGETHER = 2;

/** @typedef {"waiting" | "running" | "asking" | "paused" | "failed" | "done" | "cancelled"} State */

class Item {
  /** @param {File} file @param {string} key @param {{revision: string | null} | null} replaces */
  constructor(file, key, replaces) {
    this.file = file;
    this.key = key;
    /** What is known of the key that this may replace; null: it must be new. */
    this.replaces = replaces;
    /** @type {State} */
    this.state = "waiting";
    this.done = 0;
    this.message = "";
    this.aborter = new AbortController();
  }

  get condition() {
    if (!this.replaces) return { "If-None-Match": "*" };
    return this.replaces.revision === null ? {} : { "If-Match": etagOf(this.replaces.revision) };
  }
}

export class Uploads {
  /** @param {import("./app.js").App} app @param {HTMLElement} place */
  constructor(app, place) {
    this.app = app;
    this.place = place;
    /** @type {Item[]} */
    this.items = [];
    this.list = el("ul");
    this.title = el("h2", {}, "Uploads");
    this.summary = el("p", { class: "unseen", role: "status" });
    const close = button(icon("close"), () => this._close(), {
      class: "quiet round",
      "aria-label": "Close the list of uploads",
    });
    fill(place, el("div", { class: "uploads-head" }, this.title, close), this.summary, this.list);
    addEventListener(
      "beforeunload",
      (event) => this.items.some(({ state }) => state === "running") && event.preventDefault(),
    );
  }

  /**
   * Let the user choose files.
   * @param {string} prefix  what their keys begin with
   * @param {string | null} key  the key of a single file, which it replaces
   */
  choose(prefix, key = null) {
    const record = key === null ? null : this.app.page.record;
    const input = el("input", {
      type: "file",
      multiple: key === null,
      class: "unseen",
      id: "chosen-files",
      "aria-hidden": "true",
      tabindex: "-1",
    });
    input.addEventListener("change", () => {
      if (key === null) this.add([...input.files], prefix);
      else this._begin([new Item(input.files[0], key, { revision: record.revision })]);
      input.remove();
    });
    input.addEventListener("cancel", () => input.remove());
    document.getElementById("chosen-files")?.remove();
    document.body.append(input);
    input.click();
  }

  /** Upload files below a prefix. @param {(File & {path?: string})[]} files @param {string} prefix */
  add(files, prefix) {
    this._begin(files.map((file) => new Item(file, prefix + (file.path ?? file.name), null)));
  }

  _begin(items) {
    for (const item of items) {
      item.row = el("li", { "data-key": item.key });
      this.items.push(item);
      this.list.append(item.row);
      this._draw(item);
    }
    this.place.hidden = false;
    this._next();
  }

  _next() {
    const running = this.items.filter(({ state }) => state === "running").length;
    const waiting = this.items.filter(({ state }) => state === "waiting");
    waiting.slice(0, Math.max(0, TOGETHER - running)).forEach((item) => this._run(item));
  }

  async _run(item) {
    item.aborter = new AbortController();
    this._become(item, "running");
    try {
      await send(this.app.api, item, {
        onProgress: (done) => {
          item.done = done;
          this._progress(item);
        },
        signal: item.aborter.signal,
      });
      this._become(item, "done");
      this._landed(item);
    } catch (error) {
      if (error.name === "AbortError") this._become(item, item.isCancelled ? "cancelled" : "paused");
      else if (error.status === 412) await this._ask(item);
      else if (error.status === 401 && (await this.app.api.onUnauthorized())) this._become(item, "waiting");
      else this._become(item, "failed", error.message);
    }
    this._next();
  }

  /** Something has this key already. What it is is said before it can be replaced. */
  async _ask(item) {
    try {
      const record = await this.app.api.record(item.key);
      item.found = record;
      this._become(
        item,
        "asking",
        item.replaces
          ? "It was changed meanwhile. Replace it all the same?"
          : `There is such a key already, of ${bytes(record.size)}. Replace its data?`,
      );
    } catch (error) {
      this._become(item, "failed", error.status === 404 ? "It was deleted meanwhile." : error.message);
    }
  }

  _become(item, state, message = "") {
    item.state = state;
    item.message = message;
    this._draw(item);
    this._summarize();
  }

  _draw(item) {
    const { state, row, file } = item;
    const again = (replaces) => () => {
      item.replaces = replaces;
      this._become(item, "waiting");
      this._next();
    };
    const cancel = () => {
      item.isCancelled = true;
      item.aborter.abort();
      if (item.state !== "running") this._become(item, "cancelled");
    };
    const actions = {
      running: [button("Pause", () => item.aborter.abort()), button("Cancel", cancel)],
      waiting: [button("Cancel", cancel)],
      paused: [button("Resume", again(item.replaces), { class: "primary" }), button("Cancel", cancel)],
      failed: [button("Try again", again(item.replaces), { class: "primary" }), button("Cancel", cancel)],
      asking: [
        button("Keep it", cancel),
        button("Replace", again({ revision: item.found?.revision ?? null }), { class: "danger" }),
      ],
      done: [],
      cancelled: [],
    }[state];
    const label = {
      waiting: "Waiting",
      running: "",
      asking: "",
      paused: "Paused",
      failed: "Failed",
      done: "Done",
      cancelled: "Not uploaded",
    }[state];
    row.className = `upload ${state}`;
    item.bar = el("progress", {
      max: Math.max(file.size, 1),
      value: item.done,
      "aria-label": `Upload of ${visible(item.key)}`,
    });
    item.figure = el("span", { class: "note" });
    const name =
      state === "done"
        ? el("a", { href: keyAt(item.key) }, el("bdi", {}, visible(item.key)))
        : el("bdi", {}, visible(item.key));
    fill(
      row,
      el("div", { class: "upload-name" }, name, item.figure),
      ["running", "paused"].includes(state) && item.bar,
      (label || item.message) &&
        el("p", { class: "upload-state" }, [label, item.message].filter(Boolean).join(": ")),
      actions.length > 0 && el("div", { class: "actions" }, actions),
    );
    this._progress(item);
  }

  _progress(item) {
    item.bar.value = item.done;
    const isPart = ["running", "paused"].includes(item.state) && item.file.size > 0;
    item.figure.textContent = isPart
      ? `${Math.floor((100 * item.done) / item.file.size)} % of ${bytes(item.file.size)}`
      : bytes(item.file.size);
  }

  _summarize() {
    const number = (state) => this.items.filter((item) => item.state === state).length;
    const parts = [
      ["done", "done"],
      ["running", "running"],
      ["waiting", "waiting"],
      ["asking", "to decide"],
      ["failed", "failed"],
      ["paused", "paused"],
    ];
    this.summary.textContent = `Uploads: ${parts
      .map(([state, text]) => [number(state), text])
      .filter(([many]) => many)
      .map((part) => part.join(" "))
      .join(", ")}`;
    const isRunning = number("running") + number("waiting") > 0;
    this.title.textContent = isRunning ? "Uploading …" : "Uploads";
  }

  _landed(item) {
    // With a live feed the page learns of it as of all changes.
    if (!this.app.api.has("changes") || (item.replaces && this.app.page.key === item.key)) this.app.reload();
  }

  _close() {
    const isBusy = ({ state }) => ["running", "waiting", "asking", "paused"].includes(state);
    for (const item of this.items.filter((one) => !isBusy(one))) item.row.remove();
    this.items = this.items.filter(isBusy);
    if (this.items.length) this.app.say("Uploads that are not done stay in the list.");
    this.place.hidden = this.items.length === 0;
  }
}

/** Take files that are dropped anywhere on the page. @param {import("./app.js").App} app */
export function acceptDrops(app) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const mark = (by) => {
    depth = Math.max(0, depth + by);
    document.body.classList.toggle("dropping", depth > 0 && app.canWrite);
  };
  addEventListener("dragenter", (event) => hasFiles(event) && mark(1));
  addEventListener("dragleave", (event) => hasFiles(event) && mark(-1));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    mark(-depth);
    if (!app.canWrite)
      return app.say(app.api.service ? "This store can only be read." : "The store is not open yet.");
    const files = await filesOf(event.dataTransfer);
    app.uploads.add(files, app.page?.prefix ?? "");
  });
}

/** All files that were dropped, those in folders too, with their paths. */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(({ isDirectory }) => isDirectory)) return [...transfer.files];
  const files = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      file.path = path + file.name;
      files.push(file);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!batch.length) return;
      for (const child of batch) await walk(child, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return files;
}
