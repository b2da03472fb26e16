/** Elements, made without markup: whatever is shown is text, never HTML. */

/**
 * @typedef {Record<string, any>} Props  Attributes; `on` holds listeners, `text` the content,
 *   what is null, undefined or false is left out.
 * @typedef {Node | string | number | null | undefined | false} Child
 */

/**
 * Make an element.
 * @param {string} tag
 * @param {Props} [props]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function el(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** Make an SVG element; as `el`. @returns {any} */
export function svg(tag, props = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

/** Replace the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter(isThere));
  return element;
}

/** A button that is no submit button. */
export function button(text, onClick, props = {}) {
  return el("button", { type: "button", ...props, on: { click: onClick } }, text);
}

/** One of the page's own icons, drawn of lines. @param {keyof PATHS} name */
export function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 20 20", width: 16, height: 16, class: `icon icon-${name}`, "aria-hidden": "true" },
    svg("path", { d: PATHS[name] }),
  );
}

const PATHS = {
  folder:
    "M2.5 5.5a1.5 1.5 0 0 1 1.500-1.500h3.500l2 2.200h6.500a1.500 1.500 0 0 1 1.500 1.500v6.800a1.500 1.500 0 0 1-1.500 1.500h-12a1.500 1.500 0 0 1-1.500-1.500z",
  key: "M5 2.500h6.500l3.500 3.500v11.500h-10zM11.500 2.500v3.500h3.500",
  up: "M10 16V4.500M5 9l5-5 5 5",
  down: "M10 4v11.500M5 11l5 5 5-5",
  link: "M8.500 11.500l3-3M7 9l-2 2a2.800 2.800 0 0 0 4 4l2-2M13 11l2-2a2.800 2.800 0 0 0-4-4l-2 2",
  trash: "M4 5.500h12M8 5.500v-2h4v2M5.500 5.500l.8 11h7.400l.8-11",
  close: "M5 5l10 10M15 5L5 15",
  nothing: "M3 6.500l7-3.500 7 3.500v7l-7 3.500-7-3.500zM3 6.500l7 3.500 7-3.500M10 10v7",
};

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "text") element.textContent = value;
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") {
      element[name] = value;
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter(isThere));
  return element;
}

const isThere = (child) => child !== null && child !== undefined && child !== false;
