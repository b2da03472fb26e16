/**
 * Filters as people write them, `exposure >= 30 filter = "B" name ^= m3`, and what the server is
 * asked for them: `$where` and, for words about the key itself, `$glob`.
 *
 *     either := all ("or" all)*
 *     all    := one ("and"? one)*
 *     one    := "not" one | "(" either ")" | "has" field | field operator value | word
 */

/**
 * @typedef {object} Token
 * @property {"word" | "text" | "json" | "operator" | "(" | ")" | ","} kind
 * @property {string} text  the word, the string without its quotes, or the JSON
 * @property {number} from  where it begins in the input
 * @property {number} to  behind its end
 *
 * @typedef {{where: string | null, glob: string | null}} Asked
 */

/** What is wrong with a filter, and where. */
export class FilterError extends Error {
  /** @param {string} message @param {number} from @param {number} [to] */
  constructor(message, from, to = from + 1) {
    super(message);
    this.from = from;
    this.to = to;
  }
}

/** How operators are written, what they are called in `$where`, and what they mean. */
export const OPERATORS = [
  { text: "=", name: "eq", says: "equals" },
  { text: "!=", name: "ne", says: "differs from" },
  { text: "<", name: "lt", says: "less than" },
  { text: "<=", name: "le", says: "at most" },
  { text: ">", name: "gt", says: "more than" },
  { text: ">=", name: "ge", says: "at least" },
  { text: "^=", name: "prefix", says: "begins with" },
  { text: "*=", name: "contains", says: "contains" },
  { text: "in", name: "in", says: "is one of" },
];
const NAMES = new Map([
  ...OPERATORS.map(({ text, name }) => [text, name]),
  ["==", "eq"],
  ["contains", "contains"],
]);
const WORDS = ["and", "or", "not", "has"];
const WORD = /[^\s()[\]{}<>=!^*,"']+/uy;
const OPERATOR = /[<>!=^*]=?|==/uy;
const NUMBER = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/;

/**
 * What the server is to be asked.
 * @param {string} input
 * @returns {Asked}
 * @throws {FilterError}
 */
export function parseFilter(input) {
  if (!input.trim()) return { where: null, glob: null };
  if (input.trimStart().startsWith("{")) return { where: checkedJson(input), glob: null };
  const parser = new Parser(tokens(input), input.length);
  const clause = parser.whole();
  return { where: clause && JSON_OF(clause), glob: parser.glob };
}

/** The tokens of a filter. @returns {Token[]} @throws {FilterError} */
export function tokens(input) {
  const found = [];
  let at = 0;
  const take = (kind, text, to) => {
    found.push({ kind, text, from: at, to });
    at = to;
  };
  while (at < input.length) {
    const one = input[at];
    if (/\s/u.test(one)) at += 1;
    else if ("(),".includes(one)) take(one, one, at + 1);
    else if (one === '"' || one === "'") take("text", ...string(input, at));
    else if (one === "[" || one === "{") take("json", ...balanced(input, at));
    else {
      const word = matched(WORD, input, at);
      const operator = word ? null : matched(OPERATOR, input, at);
      // `*` and `?` within a word are wildcards for keys: m3*
      if (word || !operator || operator === "*") take("word", ...wild(input, at));
      else take("operator", operator, at + operator.length);
    }
  }
  return found;
}

function wild(input, at) {
  const found = matched(/(?:[^\s()[\]{}<>=!^*,"']|\*(?!=))+/uy, input, at);
  if (!found) throw new FilterError(`“${input[at]}” has no meaning here.`, at);
  return [found, at + found.length];
}

function matched(pattern, input, at) {
  pattern.lastIndex = at;
  return pattern.exec(input)?.[0] ?? null;
}

function string(input, at) {
  const quote = input[at];
  let end = at + 1;
  while (end < input.length && input[end] !== quote) end += input[end] === "\\" ? 2 : 1;
  if (end >= input.length) throw new FilterError(`The ${quote} is never closed.`, at, input.length);
  const inner = input.slice(at + 1, end);
  if (quote === "'") return [inner.replace(/\\(.)/gsu, "$1"), end + 1];
  try {
    return [JSON.parse(`"${inner}"`), end + 1];
  } catch {
    throw new FilterError("Within double quotes a backslash begins an escape, as in JSON.", at, end + 1);
  }
}

function balanced(input, at) {
  let depth = 0;
  for (let end = at; end < input.length; end += 1) {
    if (input[end] === '"') end = string(input, end)[1] - 1;
    else if ("[{".includes(input[end])) depth += 1;
    else if ("]}".includes(input[end]) && (depth -= 1) === 0) {
      const text = input.slice(at, end + 1);
      try {
        JSON.parse(text);
      } catch {
        throw new FilterError("That is no JSON; strings in it are in double quotes.", at, end + 1);
      }
      return [text, end + 1];
    }
  }
  throw new FilterError(`The ${input[at]} is never closed.`, at, input.length);
}

function checkedJson(input) {
  try {
    JSON.parse(input);
  } catch (error) {
    const place = Number(/position (\d+)/.exec(error.message)?.[1] ?? input.length);
    throw new FilterError(
      "A filter that begins with { is JSON, and this is none yet.",
      Math.min(place, input.length),
    );
  }
  return input.trim();
}

// A clause is {field, name, value} with the operand as JSON text, {all: []}, {any: []} or {not: clause}.
class Parser {
  /** @param {Token[]} tokens @param {number} end */
  constructor(tokens, end) {
    this.tokens = tokens;
    this.end = end;
    this.at = 0;
    this.depth = 0;
    /** @type {Token[]} */
    this.keyWords = [];
  }

  get glob() {
    if (!this.keyWords.length) return null;
    return `*${this.keyWords.map(({ kind, text }) => (kind === "text" ? text.replace(/[*?[]/g, "[$&]") : text.replace(/\[/g, "[[]"))).join("*")}*`;
  }

  whole() {
    const clause = this.either();
    const rest = this.tokens[this.at];
    if (rest) throw new FilterError(`“${rest.text}” is too much here.`, rest.from, rest.to);
    return clause;
  }

  either() {
    const parts = [this.all()];
    while (this.isWord("or")) {
      this.noKeyWords("or");
      this.at += 1;
      parts.push(this.all());
      this.noKeyWords("or");
    }
    return parts.length === 1 ? parts[0] : { any: parts };
  }

  all() {
    const parts = [this.one()];
    for (;;) {
      if (this.isWord("and")) this.at += 1;
      else if (!this.tokens[this.at] || this.isWord("or") || this.tokens[this.at].kind === ")") break;
      parts.push(this.one());
    }
    const real = parts.filter(Boolean);
    return real.length > 1 ? { all: real } : (real[0] ?? null);
  }

  one() {
    const token = this.tokens[this.at];
    if (!token) throw new FilterError("Something is missing at the end.", this.end);
    if (token.kind === "(") return this.group(token);
    if (this.isWord("not") && this.tokens[this.at + 1]?.kind !== "operator") {
      this.at += 1;
      this.depth += 1;
      const part = this.one();
      this.depth -= 1;
      return { not: part };
    }
    if (this.isWord("has") && isName(this.tokens[this.at + 1])) {
      this.at += 2;
      return this.checked(this.tokens[this.at - 1], "exists", "true");
    }
    if (!isName(token))
      throw new FilterError(`A field is expected here, not “${token.text}”.`, token.from, token.to);
    this.at += 1;
    const operator = this.operator();
    return operator ? this.test(token, operator) : this.keyWord(token);
  }

  group(open) {
    this.at += 1;
    this.depth += 1;
    const clause = this.either();
    this.depth -= 1;
    if (this.tokens[this.at]?.kind !== ")")
      throw new FilterError("This parenthesis is never closed.", open.from);
    this.at += 1;
    return clause;
  }

  operator() {
    const token = this.tokens[this.at];
    const isOne =
      token?.kind === "operator" || (token?.kind === "word" && ["in", "contains"].includes(token.text));
    if (!isOne) return null;
    this.at += 1;
    if (!NAMES.has(token.text)) {
      throw new FilterError(
        `There is no operator “${token.text}”; there are ${[...NAMES.keys()].join(" ")}`,
        token.from,
        token.to,
      );
    }
    return token;
  }

  test(field, operator) {
    const name = NAMES.get(operator.text);
    const value = name === "in" ? this.list(operator) : this.value(operator);
    const isText = name !== "prefix" || value.startsWith('"');
    return this.checked(field, name, isText ? value : JSON.stringify(value));
  }

  checked(field, name, value) {
    if (field.text === "not" && (name !== "eq" || value.startsWith("{"))) {
      throw new FilterError("A field called “not” can only be compared by “=”.", field.from, field.to);
    }
    return { field: field.text, name, value };
  }

  value(behind) {
    const token = this.tokens[this.at];
    const isValue = token && ["word", "text", "json"].includes(token.kind);
    if (!isValue) throw new FilterError(`A value is missing after “${behind.text}”.`, behind.from, behind.to);
    this.at += 1;
    return literal(token);
  }

  list(behind) {
    const token = this.tokens[this.at];
    if (token?.kind === "json" && token.text.startsWith("[")) {
      this.at += 1;
      return token.text;
    }
    if (token?.kind !== "(") {
      throw new FilterError("After “in” comes a list: (B, V, R)", behind.from, behind.to);
    }
    const values = [];
    do {
      this.at += 1;
      values.push(this.value(this.tokens[this.at - 1]));
    } while (this.tokens[this.at]?.kind === ",");
    if (this.tokens[this.at]?.kind !== ")") throw new FilterError("This list is never closed.", token.from);
    this.at += 1;
    return `[${values.join(",")}]`;
  }

  keyWord(token) {
    if (this.depth) {
      throw new FilterError(
        `“${token.text}” alone looks for keys, which has no place in “not” and parentheses. A field needs an operator.`,
        token.from,
        token.to,
      );
    }
    this.keyWords.push(token);
    return null;
  }

  noKeyWords(word) {
    const [token] = this.keyWords;
    if (token)
      throw new FilterError(
        `“${token.text}” alone looks for keys, which does not go with “${word}”.`,
        token.from,
        token.to,
      );
  }

  isWord(word) {
    const token = this.tokens[this.at];
    return token?.kind === "word" && token.text === word;
  }
}

const isName = (token) => token?.kind === "word" || token?.kind === "text";

function literal(token) {
  if (token.kind === "json") return token.text;
  if (token.kind === "word" && (NUMBER.test(token.text) || ["true", "false", "null"].includes(token.text)))
    return token.text;
  return JSON.stringify(token.text);
}

const JSON_OF = (clause) => {
  if (clause.field !== undefined) return `{${member(clause)}}`;
  if (clause.not !== undefined) return `{"not":${JSON_OF(clause.not)}}`;
  if (clause.any) return `{"any":[${clause.any.map(JSON_OF).join(",")}]}`;
  const fields = clause.all.map(({ field }) => field);
  // A document names a field once.
  const canMerge = fields.every((field) => field !== undefined) && new Set(fields).size === fields.length;
  return canMerge
    ? `{${clause.all.map(member).join(",")}}`
    : `{"all":[${clause.all.map(JSON_OF).join(",")}]}`;
};

function member({ field, name, value }) {
  // As they stand, a list would make `all` and `any`, and an object `not` or operators, of a field.
  const isPlain = name === "eq" && !/^[[{]/.test(value);
  return `${JSON.stringify(field)}:${isPlain ? value : `{${JSON.stringify(name)}:${value}}`}`;
}

/** A field or a string, as it is written in a filter. @param {string} text */
export function written(text) {
  const isBare = /^(?:[^\s()[\]{}<>=!^*,"'?])+$/u.test(text) && !WORDS.includes(text) && !NAMES.has(text);
  return isBare ? text : JSON.stringify(text);
}

/** A JSON value as it is written in a filter. @param {string} json  its text */
export function writtenValue(json) {
  if (!json.startsWith('"')) return json;
  const text = JSON.parse(json);
  const isBare = written(text) === text && literal({ kind: "word", text }) === json;
  return isBare ? text : json;
}

/**
 * What could be written at a place in a filter that is not complete.
 * @param {string} input
 * @param {number} cursor
 * @returns {{expects: "field" | "operator" | "value" | "joiner", field: string, typed: string,
 *   from: number, to: number} | null}  null where nothing can be said
 */
export function expectedAt(input, cursor) {
  if (input.trimStart().startsWith("{")) return null;
  let known;
  try {
    known = tokens(input.slice(0, cursor));
  } catch {
    return null; // within a string that is still open
  }
  const last = known.at(-1);
  const isTyped = last && last.to === cursor && isName(last);
  if (isTyped) known.pop();
  let expects = "field";
  let field = "";
  let inList = false;
  for (const token of known) {
    const isWord = token.kind === "word" && WORDS.includes(token.text);
    if (inList) {
      if (token.kind === ")") [inList, expects] = [false, "joiner"];
      else expects = token.kind === "," || token.kind === "(" ? "value" : "joiner";
    } else if (expects === "value") {
      if (token.kind === "(") inList = true;
      else expects = "joiner";
    } else if (token.kind === "operator" || (expects === "operator" && NAMES.has(token.text)))
      expects = "value";
    else if (isWord || token.kind === "(") expects = "field";
    else if (token.kind === ")") expects = "joiner";
    else [field, expects] = [token.text, "operator"];
  }
  if (inList && expects === "joiner") return null;
  const from = isTyped ? last.from : cursor;
  return { expects, field, typed: isTyped ? last.text : "", from, to: cursor };
}
