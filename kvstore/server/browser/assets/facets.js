/** What fields a result has, and which values: counted in a sample of it. */

import { toJson, typeOf } from "./json.js";

/**
 * @typedef {object} Facet
 * @property {string} name
 * @property {number} records  that have it
 * @property {string} type  its JSON type, `mixed` for several
 * @property {Map<string, number>} values  JSON text of scalars to how often it comes
 * @property {number[]} numbers
 */

const MOST_VALUES = 500;
const DEPTH = 3;

/**
 * @param {import("./api.js").Record_[]} records
 * @returns {Facet[]}  most frequent first
 */
export function facetsOf(records) {
  /** @type {Map<string, Facet>} */
  const facets = new Map();
  for (const { metadata } of records) add(facets, metadata, "", DEPTH);
  return [...facets.values()].sort((a, b) => b.records - a.records || (a.name < b.name ? -1 : 1));
}

function add(facets, object, prefix, depth) {
  for (const [step, value] of Object.entries(object)) {
    const name = prefix + step;
    const type = typeOf(value);
    if (type === "object" && depth > 1) {
      add(facets, value, `${name}.`, depth - 1);
      continue;
    }
    let facet = facets.get(name);
    if (!facet) facets.set(name, (facet = { name, records: 0, type, values: new Map(), numbers: [] }));
    facet.records += 1;
    if (facet.type !== type) facet.type = "mixed";
    if (type === "number") facet.numbers.push(Number(value));
    if (type === "array" || type === "object") continue;
    const text = toJson(value);
    if (facet.values.has(text) || facet.values.size < MOST_VALUES)
      facet.values.set(text, (facet.values.get(text) ?? 0) + 1);
  }
}

/** The most frequent values of a facet. @param {Facet} facet @param {number} most */
export function commonValues(facet, most) {
  return [...facet.values].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, most);
}

/** Fields that say something in a table: in many records, short, not the same everywhere. */
export function tellingFields(records, most = 3) {
  const facets = facetsOf(records).filter(
    ({ type, records: has }) => !["array", "object"].includes(type) && has * 3 >= records.length,
  );
  const isShort = (facet) => [...facet.values.keys()].every((text) => text.length <= 42);
  const varies = (facet) => facet.values.size > 1 || records.length === 1;
  const rank = (facet) => (isShort(facet) ? 0 : 2) + (varies(facet) ? 0 : 1);
  return facets
    .sort((a, b) => rank(a) - rank(b))
    .slice(0, most)
    .map(({ name }) => name);
}
