/** One file to one key: in one request if it is small, else so that it goes on where it broke off (tus 1.0). */

import { Problem } from "./api.js";

/** Bytes up to which a file goes in one request. */
const SMALL = 1024 * 1024;
/** Bytes of one request of an upload that can be resumed. */
const PART = 8 * 1024 * 1024;
const TRIES = 5;
const PAUSE = 500;

/**
 * @typedef {object} Job
 * @property {File} file
 * @property {string} key
 * @property {Record<string, string>} condition  header fields
 *
 * @typedef {{onProgress: (done: number) => void, signal: AbortSignal}} Options
 */

/**
 * @param {import("./api.js").Api} api
 * @param {Job} job
 * @param {Options} options
 * @throws {Problem}  412: the condition does not hold
 */
export async function send(api, job, options) {
  if (job.file.size <= SMALL || !api.has("uploads")) return sendWhole(api, job, options);
  return new Resumable(api, job, options).run();
}

function sendWhole(api, { file, key, condition }, options) {
  const headers = { ...condition, "Content-Type": typeOf(file) };
  return exchange(api, "PUT", api.urlOf(key, "data"), headers, file, options);
}

/** An upload by tus, which knows where it stood when the page was closed. */
class Resumable {
  constructor(api, job, options) {
    this.api = api;
    this.job = job;
    this.options = options;
    const { file, key } = job;
    this.name = `kvstore upload ${JSON.stringify([api.urls.uploads, key, file.name, file.size, file.lastModified, job.condition])}`;
  }

  async run() {
    this.url = localStorage.getItem(this.name);
    let offset = this.url ? await this._where() : null;
    offset ??= await this._create();
    for (let tries = 0; ; ) {
      try {
        while (offset < this.job.file.size) {
          offset = await this._part(offset);
          tries = 0;
        }
        this._forget();
        return;
      } catch (error) {
        if (error.name === "AbortError") throw await this._stopped(error);
        const mayPass =
          error.status === 0 || error.status === 409 || error.status === 423 || error.status >= 500;
        tries += 1;
        if (!mayPass || tries >= TRIES) {
          if (!mayPass) this._forget();
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, PAUSE * 2 ** tries));
        offset = await this._where(offset);
        if (offset === null) throw error;
      }
    }
  }

  /** Make the upload on the server. @returns {Promise<number>} where it begins */
  async _create() {
    const { file, key, condition } = this.job;
    const metadata = [
      ["key", key],
      ["filetype", typeOf(file)],
    ]
      .map(([name, text]) => `${name} ${base64(text)}`)
      .join(",");
    const headers = {
      ...condition,
      "Tus-Resumable": "1.0.0",
      "Upload-Length": String(file.size),
      "Upload-Metadata": metadata,
    };
    const answer = await this.api.request(this.api.urls.uploads, {
      method: "POST",
      headers,
      signal: this.options.signal,
    });
    this.url = new URL(answer.headers.get("Location"), this.api.urls.uploads).href;
    localStorage.setItem(this.name, this.url);
    return 0;
  }

  /** How much of it is there: null if the upload is gone. The last known where nobody answers. */
  async _where(known = null) {
    try {
      const answer = await this.api.request(this.url, {
        method: "HEAD",
        headers: { "Tus-Resumable": "1.0.0" },
        signal: this.options.signal,
      });
      return Number(answer.headers.get("Upload-Offset"));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (error.status === 0 && known !== null) return known;
      this._forget();
      return null;
    }
  }

  async _part(offset) {
    const part = this.job.file.slice(offset, offset + PART);
    const headers = {
      "Tus-Resumable": "1.0.0",
      "Upload-Offset": String(offset),
      "Content-Type": "application/offset+octet-stream",
    };
    const onProgress = (done) => this.options.onProgress(offset + done);
    const answer = await exchange(this.api, "PATCH", this.url, headers, part, {
      ...this.options,
      onProgress,
    });
    const now = Number(answer("Upload-Offset"));
    this.options.onProgress(now);
    return now;
  }

  /** Paused: what has come stays. Cancelled: it goes. */
  async _stopped(error) {
    if (this.job.isCancelled) {
      this._forget();
      await this.api
        .request(this.url, { method: "DELETE", headers: { "Tus-Resumable": "1.0.0" } })
        .catch(() => null);
    }
    return error;
  }

  _forget() {
    localStorage.removeItem(this.name);
  }
}

/**
 * A request that tells how far it is, which `fetch` cannot.
 * @returns {Promise<(name: string) => string | null>}  the header fields of the answer
 */
function exchange(api, method, url, headers, body, { onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    const end = (settle, value) => {
      signal.removeEventListener("abort", stop);
      settle(value);
    };
    request.open(method, url);
    for (const [name, value] of Object.entries({ ...headers, ...api.credentials() }))
      request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300)
        end(resolve, (name) => request.getResponseHeader(name));
      else end(reject, problemOf(request));
    });
    request.addEventListener("error", () => end(reject, new Problem(0, "The connection broke off.")));
    request.addEventListener("abort", () => end(reject, new DOMException("stopped", "AbortError")));
    if (signal.aborted) return end(reject, new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", stop);
    return request.send(body);
  });
}

function problemOf(request) {
  let members = {};
  try {
    members = JSON.parse(request.responseText);
  } catch {
    // The status says enough.
  }
  return new Problem(request.status, members.detail || `The server answered ${request.status}.`, members);
}

/** What a file is: the browser knows the usual ones. */
function typeOf(file) {
  const ending = /\.([a-z0-9]+)$/i.exec(file.name)?.[1].toLowerCase();
  const known = {
    fits: "application/fits",
    fit: "application/fits",
    md: "text/markdown",
    tsv: "text/tab-separated-values",
    csv: "text/csv",
  };
  return known[ending] || file.type || "application/octet-stream";
}

const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
