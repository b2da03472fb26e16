/** The server, by the protocol: requests, their errors, queries and records. */

import { parseJson } from "./json.js";

/**
 * @typedef {object} Record_
 * @property {string} key
 * @property {Record<string, any>} metadata
 * @property {number} size  bytes
 * @property {number | null} created  seconds since the epoch
 * @property {number | null} modified  seconds since the epoch
 * @property {string} mimetype
 * @property {string | null} revision
 * @property {string | null} digest
 *
 * @typedef {{folder: string}} Folder
 * @typedef {{entries: (Record_ | Folder)[], next: string | null}} Page
 */

/** An answer that is an error, or no answer at all (status 0). */
export class Problem extends Error {
  /** @param {number} status @param {string} detail @param {any} [members] */
  constructor(status, detail, members = {}) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.members = members;
  }
}

/** The server of this page. */
export class Api {
  /** @param {URL} root  where the page is */
  constructor(root) {
    this.root = root;
    /** @type {any} */
    this.service = null;
    /** Asks for credentials; false: the user will not give any. @type {() => Promise<boolean>} */
    this.onUnauthorized = async () => false;
    // Pages below one host share its storage: each server has a name of its own there.
    this._name = `kvstore token ${root.pathname}`;
  }

  get token() {
    return sessionStorage.getItem(this._name);
  }

  set token(token) {
    if (token) sessionStorage.setItem(this._name, token);
    else sessionStorage.removeItem(this._name);
  }

  /** Read the service document, anew if it was read before. */
  async open() {
    const url = new URL(".well-known/kvstore", this.root);
    const document = await (await this.request(url)).json();
    const at = (name) => (document.profile[name] ? new URL(document.profile[name], url).href : null);
    this.urls = {
      base: at("base")?.replace(/\/$/, ""),
      query: at("query"),
      changes: at("changes"),
      uploads: at("uploads"),
    };
    this.service = document;
  }

  /** Whether the server announces an extension. @param {string} capability */
  has(capability) {
    return this.service.capabilities.includes(capability);
  }

  get isReadonly() {
    return this.service.store?.readonly === true;
  }

  /** The URL of a part of a key. @param {string} key @param {string} part */
  urlOf(key, part) {
    const { url_format: format = "{base}/{key}/{part}", parts = {} } = this.service.profile;
    const name = { ...{ permissions: "auth" }, ...parts }[part] ?? part;
    return this._expanded(format, key, name);
  }

  /** The URL of a key as a whole. */
  urlOfKey(key) {
    return this._expanded(this.service.profile.url_format_no_part ?? "{base}/{key}", key, "");
  }

  _expanded(format, key, part) {
    const values = { base: this.urls.base, key: quoted(key), part };
    return format.replace(/\{(base|key|part)\}/g, (_all, name) => values[name]);
  }

  /** The header fields that say who asks. */
  credentials() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  /**
   * Send a request; sign in and send it again where it answers 401.
   * @param {string | URL} url
   * @param {RequestInit} [options]
   * @returns {Promise<Response>}
   * @throws {Problem}
   */
  async request(url, options = {}) {
    for (;;) {
      const headers = { ...options.headers, ...this.credentials() };
      let answer;
      try {
        answer = await fetch(url, {
          ...options,
          headers,
          credentials: "omit",
          redirect: "error",
          cache: "no-store",
        });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Problem(0, "The server does not answer. Is it running, and is this machine connected?");
      }
      if (answer.ok) return answer;
      if (answer.status !== 401 || !(await this.onUnauthorized())) throw await problemOf(answer);
    }
  }

  /**
   * One page of records, and of folders where a delimiter is asked for.
   * @param {Record<string, string | number | null | undefined>} options  the parameters, without `$`
   * @param {AbortSignal} [signal]
   * @returns {Promise<Page>}
   */
  async query(options, signal) {
    const url = this._queryUrl(options);
    const answer = await this.request(url, { headers: { Accept: "application/x-ndjson" }, signal });
    const next = /<([^>]*)>\s*;\s*rel="?next"?/.exec(answer.headers.get("Link") ?? "");
    const text = await answer.text();
    return {
      entries: text.split("\n").filter(Boolean).map(parseJson),
      next: next && new URL(next[1], url).searchParams.get("$after"),
    };
  }

  /** How many keys a query finds. */
  async count(options, signal) {
    const answer = await this.request(this._queryUrl({ ...options, count: "true" }), { signal });
    return (await answer.json()).count;
  }

  /**
   * All that is known of a key.
   * @returns {Promise<Record_>}
   * @throws {Problem} 404 where there is no such key
   */
  async record(key, signal) {
    // Of the keys that begin with it, a key is the first: no part of the protocol tells the whole
    // record without the data.
    const { entries } = await this.query({ prefix: key, limit: 1 }, signal);
    const record = /** @type {Record_ | undefined} */ (entries[0]);
    if (record?.key !== key) throw new Problem(404, "There is no such key, or you may not see it.");
    return record;
  }

  _queryUrl(options) {
    const url = new URL(this.urls.query);
    for (const [name, value] of Object.entries(options)) {
      if (value !== null && value !== undefined && value !== "")
        url.searchParams.set(`$${name}`, String(value));
    }
    return url.href;
  }
}

/** The header value that names a revision. */
export const etagOf = (revision) => `"${revision}"`;

/** Read what an error says of itself. @param {Response} answer */
export async function problemOf(answer) {
  let members = {};
  try {
    members = await answer.json();
  } catch {
    // A proxy may answer in words of its own; the status says enough.
  }
  return new Problem(
    answer.status,
    members.detail || members.title || `The server answered ${answer.status}.`,
    members,
  );
}

/** A key in a URL: what may stand for itself in a path does. */
export function quoted(key) {
  return encodeURIComponent(key).replace(/%(2F|24|26|2B|2C|3B|3D|3A|40)/g, decodeURIComponent);
}
