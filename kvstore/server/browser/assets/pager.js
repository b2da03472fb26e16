/** Where in a result one is, and the links to its other pages. */

import { button, el } from "./dom.js";
import { listAt } from "./router.js";
import { count, plural } from "./text.js";

/**
 * What is shown of how much.
 * @param {object} state
 * @param {any[]} state.entries  of this page
 * @param {number | undefined} state.total  keys in all, once they are counted
 * @param {boolean} state.isFolders
 * @param {string | null} state.next  where the next page begins
 * @param {Record<string, string>} state.options  those of the address
 */
export function told({ entries, total, isFolders, next, options }) {
  if (!entries.length) return total ? `${plural(total, "key")} in all` : "No keys";
  const folders = entries.filter((entry) => "folder" in entry).length;
  const keys = entries.length - folders;
  if (isFolders) {
    const parts = [folders && plural(folders, "folder"), keys && plural(keys, "key")]
      .filter(Boolean)
      .join(", ");
    const page = next || options.after ? " on this page" : "";
    const isWhole = total === undefined || (total === keys && !folders);
    return `${parts}${page}${isWhole ? "" : ` · ${plural(total, "key")} in all`}`;
  }
  const from = Number(options.at ?? 0);
  if (from === 0 && !next) return plural(keys, "key");
  return `${count(from + 1)} to ${count(from + keys)}${total === undefined ? " keys" : ` of ${count(total)}`}`;
}

/** Links to the first page, back, and on. */
export function pagerOf(prefix, kept, { after, at = "0" }, next, shown) {
  const link = (text, options, props) =>
    el("a", { class: "button", href: listAt(prefix, { ...kept, ...options }), ...props }, text);
  return [
    after && link("First page", {}, { id: "first-page" }),
    after && button("Back", () => history.back(), { id: "back-page" }),
    next &&
      link(
        "Next page",
        { after: next, at: Number(at) + shown },
        { id: "next-page", class: "button primary", rel: "next" },
      ),
  ];
}
