/** JSON without the losses of JavaScript: large integers and the spelling of numbers survive. */

/**
 * Read JSON. Integers that a number cannot hold become BigInt, where the browser lets us see how
 * they are spelled.
 * @param {string} text
 */
export function parseJson(text) {
  return JSON.parse(text, (_name, value, context) => {
    const isLarge = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    const source = isLarge ? context?.source : undefined;
    return source !== undefined && /^-?\d+$/.test(source) ? BigInt(source) : value;
  });
}

/** The JSON text of what `parseJson` gave. @returns {string} */
export function toJson(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(toJson).join(",")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value)
      .map(([name, item]) => `${JSON.stringify(name)}:${toJson(item)}`)
      .join(",")}}`;
  }
  return JSON.stringify(value);
}

/**
 * Lay out JSON text for reading. Nothing but white space is changed, so numbers keep their spelling.
 * @param {string} text  valid JSON
 */
export function pretty(text) {
  let depth = 0;
  let laid = "";
  const line = () => `\n${"  ".repeat(depth)}`;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/gsu) ?? [];
  tokens.forEach((token, at) => {
    if (token === "{" || token === "[") {
      depth += 1;
      const isEmpty = tokens[at + 1] === "}" || tokens[at + 1] === "]";
      laid += isEmpty ? token : token + line();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      const isEmpty = tokens[at - 1] === "{" || tokens[at - 1] === "[";
      laid += isEmpty ? token : line() + token;
    } else if (token === ",") laid += `,${line()}`;
    else if (token === ":") laid += ": ";
    else laid += token;
  });
  return laid;
}

/** The JSON type of a value, as the filter language has them. */
export function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return { bigint: "number" }[typeof value] ?? typeof value;
}

/**
 * The value of a field, or undefined: a name with dots is first taken as it stands, then as a path
 * into objects.
 * @param {Record<string, any>} metadata
 * @param {string} name
 */
export function lookup(metadata, name) {
  if (Object.hasOwn(metadata, name)) return metadata[name];
  let node = metadata;
  for (const step of name.split(".")) {
    if (typeOf(node) !== "object" || !Object.hasOwn(node, step)) return undefined;
    node = node[step];
  }
  return node;
}

/** A value in a cell: strings as they are, all else as JSON. */
export const shown = (value) =>
  typeof value === "string" ? value : value === undefined ? "" : toJson(value);
