/** Parts that several pages have: the way to where one is, and what is said where nothing is. */

import { button, el, icon } from "./dom.js";
import { listAt } from "./router.js";
import { named } from "./table.js";
import { visible } from "./text.js";

/** The way to a folder, each step a link. */
export function crumbs(name, options = {}, last = null) {
  const steps = name.match(/[^/]*\/|[^/]+$/g) ?? [];
  const folders = last === null ? steps : steps.slice(0, -1);
  const kept = { view: options.view };
  let path = "";
  const links = folders.map((step, at) => {
    path += step;
    const isHere = last === null && at === folders.length - 1;
    return el(
      "li",
      {},
      el("a", { href: listAt(path, kept), "aria-current": isHere && "location" }, named(step)),
    );
  });
  const root = el(
    "li",
    {},
    el("a", { href: listAt("", kept), "aria-current": name === "" && "location" }, "All keys"),
  );
  return el(
    "nav",
    { class: "crumbs", "aria-label": "Folders" },
    el("ol", {}, root, links, last !== null && el("li", { "aria-current": "page" }, named(last))),
  );
}

/** A place where nothing is, and what can be done about it. */
export function nothing(title, ...more) {
  return el(
    "div",
    { class: "nothing" },
    icon("nothing"),
    el("h2", {}, title),
    more.filter(Boolean).map((one) => (typeof one === "string" ? el("p", {}, one) : one)),
  );
}

/**
 * What is said of a listing without keys.
 * @param {object} listing
 * @param {string} listing.prefix
 * @param {Record<string, string>} listing.options  those of the address
 * @param {() => void} listing.clear  takes the filter away
 * @param {() => void} listing.restart  goes to the first page
 * @param {(() => void) | false} listing.upload  lets files be chosen
 * @param {boolean} listing.isPartial  whether there may be keys that this user may not see
 */
export function nothingFound({ prefix, options, clear, restart, upload, isPartial }) {
  if (options.q) {
    const below = prefix ? `Below ${visible(prefix)} there is none.` : "";
    return nothing("No key fits the filter", below, button("Clear the filter", clear));
  }
  if (options.after) {
    return nothing("This page is empty", "What was here is gone.", button("To the first page", restart));
  }
  const none = isPartial ? "There is nothing here that you may see" : "This store is empty";
  const title = prefix ? "Nothing begins with this name" : none;
  if (!upload) return nothing(title, "Whatever is stored here will be shown as it comes.");
  const choose = button([icon("up"), " Upload files"], upload, { class: "primary" });
  return nothing(title, "Drop files anywhere on this page, or choose some.", choose);
}
