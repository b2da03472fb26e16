/** What a user asks for of a preview that is shown already. */

import { el, fill } from "../dom.js";

/**
 * Do it, and say so in `place` if it cannot be done. Leaving the page ends it without a word.
 * @param {HTMLElement} place
 * @param {() => Promise<void>} work
 */
export async function attempt(place, work) {
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") fill(place, el("p", { class: "hint" }, error.message));
  }
}
