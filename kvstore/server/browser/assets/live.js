/** What others change, as it happens: server-sent events, read by `fetch` so that a token can go along. */

const SHORTEST = 500;
const LONGEST = 30_000;
/** Milliseconds of silence after which a connection is taken for dead; the server comments every 15 s. */
const SILENCE = 45_000;

/**
 * @typedef {{seq: number, action: "set" | "update" | "delete", key: string, revision: string | null,
 *   metadata: Record<string, any>, time: number}} Change
 */

export class Live {
  /**
   * @param {import("./api.js").Api} api
   * @param {object} on
   * @param {(change: Change) => void} on.change
   * @param {() => void} on.lost  changes were missed: read everything again
   * @param {(state: "live" | "waiting" | "refused") => void} on.state
   */
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.last = null;
    this.pause = SHORTEST;
    this.isClosed = false;
  }

  async run() {
    while (!this.isClosed) {
      try {
        await this._listen();
      } catch (error) {
        if (error.status === 410) {
          this.last = null;
          this.on.lost();
        } else if (error.status >= 400 && error.status < 500 && ![408, 429].includes(error.status)) {
          // Asking again would not help: no token that holds, or a proxy that has no live answers.
          this.on.state("refused");
          return this.close();
        }
      }
      if (this.isClosed) return;
      this.on.state("waiting");
      await new Promise((resolve) => setTimeout(resolve, this.pause));
      this.pause = Math.min(this.pause * 2, LONGEST);
    }
  }

  close() {
    this.isClosed = true;
    this.aborter?.abort();
  }

  async _listen() {
    this.aborter = new AbortController();
    const headers = {
      Accept: "text/event-stream",
      ...(this.last === null ? {} : { "Last-Event-ID": String(this.last) }),
    };
    const answer = await this.api.request(this.api.urls.changes, { headers, signal: this.aborter.signal });
    // Where no event has come yet, going on later must not miss what comes in between.
    this.last ??= Number(answer.headers.get("Kvstore-Sequence") ?? 0);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const timer = setTimeout(() => this.aborter.abort(), SILENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(timer));
      if (done) return;
      this.on.state("live");
      this.pause = SHORTEST;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) this._take(event);
    }
  }

  _take(event) {
    const fields = {};
    for (const line of event.split("\n")) {
      const [, name, value] = /^([a-z]+): ?(.*)$/s.exec(line) ?? [];
      if (name) fields[name] = value;
    }
    if (fields.event === "lost") {
      this.last = null;
      this.on.lost();
    } else if (fields.data !== undefined) {
      this.last = Number(fields.id ?? this.last);
      this.on.change(JSON.parse(fields.data));
    }
  }
}
