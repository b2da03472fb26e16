/** Where one is: the part of the address behind `#`, which can be copied and sent to others. */

import { quoted } from "./api.js";

/**
 * @typedef {object} Place
 * @property {"list" | "key"} page
 * @property {string} name  the key, or what the keys listed begin with
 * @property {Record<string, string>} options
 */

/** @returns {Place} */
export function placeOf(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const options = Object.fromEntries(new URLSearchParams(query));
  const [, page = "", name = ""] = /^\/(in|key)\/(.*)$/s.exec(path) ?? [];
  try {
    return { page: page === "key" ? "key" : "list", name: decodeURIComponent(name), options };
  } catch {
    return { page: "list", name: "", options: {} };
  }
}

/** The address of a listing. @param {string} prefix @param {Record<string, any>} [options] */
export function listAt(prefix, options = {}) {
  return (prefix ? `#/in/${inHash(prefix)}` : "#/") + asked(options);
}

/** The address of the page of a key. */
export const keyAt = (key, options = {}) => `#/key/${inHash(key)}${asked(options)}`;

/** The folder that a key or a folder is in. */
export function parentOf(name) {
  return name.slice(0, name.replace(/\/$/, "").lastIndexOf("/") + 1);
}

/** Whether this is what `kvstore sync` keeps in a store, beside the data of users. */
export const isState = (name) => name.startsWith(".sync/");

/** The columns that an address names, null if it names none. @returns {string[] | null} */
export function columnsOf(text) {
  try {
    const columns = JSON.parse(text);
    return Array.isArray(columns) ? columns.filter((name) => typeof name === "string").slice(0, 12) : null;
  } catch {
    return null;
  }
}

const inHash = (name) => quoted(name).replaceAll("'", "%27");

function asked(options) {
  const pairs = Object.entries(options).filter(
    ([, value]) => value !== "" && value !== null && value !== undefined,
  );
  return pairs.length ? `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}` : "";
}
