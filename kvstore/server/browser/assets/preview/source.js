/** The data of a key, read in bounded pieces of one revision. */

import { etagOf, Problem } from "../api.js";

export class Source {
  /**
   * @param {import("../api.js").Api} api
   * @param {string} url
   * @param {import("../api.js").Record_} record
   * @param {AbortSignal} signal
   */
  constructor(api, url, record, signal) {
    this.api = api;
    this.url = url;
    this.size = record.size;
    this.signal = signal;
    // An earlier version has a URL of its own; the present one must not change between two reads.
    const isPresent = !url.includes("?");
    this.condition = isPresent && record.revision !== null ? { "If-Match": etagOf(record.revision) } : {};
    /** @type {string[]} */
    this.made = [];
  }

  /**
   * The bytes from `start` to before `end`, fewer at the end of the data.
   * @returns {Promise<Uint8Array>}
   */
  async read(start, end) {
    const last = Math.min(end, this.size) - 1;
    if (last < start) return new Uint8Array();
    const answer = await this._request({ Range: `bytes=${start}-${last}` });
    const bytes = new Uint8Array(await answer.arrayBuffer());
    // A server without ranges sends everything.
    return answer.status === 206 ? bytes : bytes.subarray(start, last + 1);
  }

  /** All the bytes, as they come. @returns {AsyncGenerator<Uint8Array>} */
  async *stream() {
    const reader = (await this._request({})).body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  }

  async _request(headers) {
    try {
      return await this.api.request(this.url, {
        headers: { ...headers, ...this.condition },
        signal: this.signal,
      });
    } catch (error) {
      if (error.status === 412) throw new Problem(412, "The data were changed while they were read.");
      throw error;
    }
  }

  /** A URL of bytes of this page's own, for an `img`. */
  blobUrl(bytes, type) {
    const url = URL.createObjectURL(new Blob([bytes], { type }));
    this.made.push(url);
    return url;
  }

  close() {
    for (const url of this.made) URL.revokeObjectURL(url);
    this.made = [];
  }
}
