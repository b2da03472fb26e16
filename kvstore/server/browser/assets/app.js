/** The data browser: opens the server, and shows the page that the address names. */

import { Api } from "./api.js";
import { askToken, help } from "./dialogs.js";
import { button, el, fill } from "./dom.js";
import { Listing } from "./listing.js";
import { Live } from "./live.js";
import { nothing } from "./parts.js";
import { columnsOf, placeOf } from "./router.js";
import { visible } from "./text.js";
import { acceptDrops, Uploads } from "./upload.js";
import { ValuePage } from "./value.js";

const SHORTCUTS = "kvstore shortcuts";

export class App {
  constructor() {
    this.api = new Api(new URL(".", document.baseURI));
    this.api.onUnauthorized = () => this._signIn();
    this.main = document.getElementById("main");
    this.uploads = new Uploads(this, document.getElementById("uploads"));
    /** @type {Listing | ValuePage | null} */
    this.page = null;
    /** @type {Live | null} */
    this.live = null;
  }

  get canWrite() {
    return this.api.service !== null && !this.api.isReadonly;
  }

  /** Whether the server tells its users apart, so that there may be more than this one sees. */
  get isShared() {
    return this.api.token !== null || this.api.service?.user?.tag === "public";
  }

  async start() {
    addEventListener("hashchange", () => this.show());
    document.addEventListener("keydown", (event) => this._key(event));
    document.getElementById("help").addEventListener("click", () => this._help());
    document.getElementById("skip").addEventListener("click", (event) => {
      event.preventDefault();
      this.main.focus();
    });
    acceptDrops(this);
    await this.open();
  }

  /** Read who and what the server is, and show the page. */
  async open() {
    try {
      await this.api.open();
    } catch (error) {
      this._leave();
      fill(this.main, this._closed(error));
      return;
    }
    this._showUser();
    fill(
      document.getElementById("place"),
      el("span", { class: "host" }, location.host),
      this.api.isReadonly && el("span", {}, "read only"),
    );
    this._watch();
    this.show();
  }

  /** Show nothing any more of whom the store was open to before. */
  _leave() {
    this.page?.close();
    this.page = null;
    this.live?.close();
    this.api.service = null;
    fill(document.getElementById("user"));
    fill(document.getElementById("place"));
    document.getElementById("live").hidden = true;
    document.title = "kvstore";
  }

  /** What is said where the server does not let the user in, or does not answer. */
  _closed(error) {
    // With a token that is refused, trying again is of no use: another one must be asked for.
    const again = () => {
      this.api.token = null;
      this.open();
    };
    if (error.status === 401)
      return nothing(
        "You are not signed in",
        "This store is for those who have a token.",
        button("Sign in", again, { class: "primary" }),
      );
    return nothing(
      "The store cannot be opened",
      error.message,
      this.api.token && [403, 429].includes(error.status)
        ? button("Sign in with another token", again, { class: "primary" })
        : button("Try again", () => this.open(), { class: "primary" }),
    );
  }

  /** Show what the address names. */
  show({ isQuiet = false } = {}) {
    if (!this.api.service) return;
    const place = placeOf(location.hash);
    const isFirst = this.page === null;
    const before = this.page;
    before?.close();
    this.page = place.page === "key" ? new ValuePage(this, place) : new Listing(this, place);
    document.title = `${this.page.title} – kvstore`;
    const focused = document.activeElement?.dataset.focus;
    fill(this.main, this.page.element);
    const isListed = before instanceof Listing && this.page instanceof Listing;
    if (isListed) this.page.fields.goOnFrom(before.fields, focused);
    if (isListed && isQuiet) this._keepFacets(before, this.page);
    else if (!isFirst && !focused) this._focusOn(before);
    if (!isQuiet) scrollTo(0, 0);
    this.page.load();
  }

  /** Show everything anew, as it is on the server now. */
  reload() {
    this.show({ isQuiet: true });
  }

  /** @param {string} hash @param {{isQuiet?: boolean}} [how]  quiet: in place, without a new entry of the history */
  go(hash, { isQuiet = false } = {}) {
    if (!isQuiet) {
      if (location.hash === hash || (hash === "#/" && location.hash === "")) this.show();
      else location.hash = hash;
      return;
    }
    history.replaceState(null, "", hash);
    this.show({ isQuiet });
  }

  /** Say something in passing. */
  say(text) {
    const toast = document.getElementById("toast");
    toast.textContent = text;
    toast.classList.add("told");
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => toast.classList.remove("told"), 5000);
  }

  signOut() {
    this.api.token = null;
    this.live?.close();
    this.open();
  }

  _focusOn(before) {
    // Coming back from a key or a folder, one wants to go on from where one was.
    this.page.returnTo = before instanceof ValuePage ? before.key : before?.prefix;
    this.page.element.querySelector("h1")?.focus({ preventScroll: true });
  }

  /** Show the fields that are known, until they are counted anew. */
  _keepFacets(before, page) {
    if (!before.facets) return;
    page.facets = before.facets;
    page.filter.facets = before.facets;
    page.fields.show(before.facets, {
      ...before.sample,
      columns: columnsOf(page.options.columns) ?? before.shape.columns,
      filter: page.options.q ?? "",
    });
  }

  async _signIn() {
    // Many requests may be refused at once; one dialog is for all of them.
    this.signingIn ??= (async () => {
      const reason = this.api.token
        ? "The server does not take this token: it may have expired."
        : "This store is not open to everybody.";
      const token = await askToken(reason);
      if (token === null) return false;
      this.api.token = token;
      return true;
    })();
    const isSigned = await this.signingIn;
    this.signingIn = undefined;
    if (isSigned && this.api.service) {
      // What is shown was that of somebody else, or of nobody.
      setTimeout(() => this.open());
    }
    return isSigned;
  }

  _showUser() {
    const tag = this.api.service.user?.tag ?? "public";
    const place = document.getElementById("user");
    if (this.api.token) {
      fill(
        place,
        el("span", { class: "tag" }, visible(tag)),
        button("Sign out", () => this.signOut(), { class: "quiet", id: "sign-out" }),
      );
    } else if (tag === "public") {
      fill(
        place,
        button("Sign in", () => this._signIn(), { class: "quiet", id: "sign-in" }),
      );
    } else
      fill(
        place,
        el(
          "span",
          { class: "tag", title: "Everybody who reaches this server acts as this user" },
          visible(tag),
        ),
      );
  }

  _watch() {
    this.live?.close();
    const place = document.getElementById("live");
    place.hidden = true;
    if (!this.api.has("changes")) return;
    const live = new Live(this.api, {
      change: (change) => this.page?.changed?.(change),
      lost: () => this.reload(),
      state: (state) => {
        if (live !== this.live || place.dataset.state === state) return;
        place.hidden = state === "refused";
        place.dataset.state = state;
        fill(place, { live: "Live", waiting: "Reconnecting …" }[state]);
        place.title = {
          live: "Changes by others are shown as they happen",
          waiting: "What is shown may be out of date",
        }[state];
      },
    });
    place.dataset.state = "";
    this.live = live;
    live.run();
  }

  _help() {
    return help({
      isOn: localStorage.getItem(SHORTCUTS) !== "off",
      set: (isOn) => localStorage.setItem(SHORTCUTS, isOn ? "on" : "off"),
    });
  }

  _key(event) {
    const isWriting = event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog");
    if (isWriting || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (localStorage.getItem(SHORTCUTS) === "off") return;
    if (event.key === "?") {
      this._help();
      event.preventDefault();
    } else if (this.page?.shortcut(event.key)) event.preventDefault();
  }
}

new App().start();
