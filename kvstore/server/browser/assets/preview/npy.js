/** NumPy arrays (.npy, format versions 1 to 3). Pickled objects are never read. */

import { el } from "../dom.js";
import { showArray } from "./planes.js";

/** Values that are read at a time: 32 MB of the largest. */
const MOST = 4 * 1024 * 1024;

export async function showNpy(source, _record, _kind, head) {
  const { descr, isFortran, shape, offset } = parseHeader(head);
  const kind = kindOf(descr);
  if (!kind) {
    return el(
      "div",
      {},
      el(
        "p",
        { class: "hint" },
        `An array of ${shape.join(" × ") || "one"} values of the type ${descr}, of which there is no picture.`,
      ),
    );
  }
  const read = async (from, to) => {
    const bytes = await source.read(offset + from * kind.size, offset + to * kind.size);
    return decode(bytes, kind);
  };
  if (!isFortran || shape.length < 2)
    return showArray({ read, shape, type: kind.name, isUp: false, most: MOST });
  // Columns come first: read all there is, and turn it.
  const total = shape.reduce((product, side) => product * side, 1);
  if (total > MOST) throw new Error("it is too large an array in Fortran order.");
  const turned = transposed(await read(0, total), shape);
  return showArray({
    read: async (from, to) => turned.slice(from, to),
    shape,
    type: `${kind.name}, Fortran order`,
    isUp: false,
    most: MOST,
  });
}

/** What the header says: a Python dictionary of three members. @param {Uint8Array} head */
export function parseHeader(head) {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const isLong = head[6] > 1;
  const [length, begin] = isLong ? [view.getUint32(8, true), 12] : [view.getUint16(8, true), 10];
  if (begin + length > head.length) throw new Error("its header is too long.");
  const text = new TextDecoder(head[6] > 2 ? "utf-8" : "latin1").decode(head.subarray(begin, begin + length));
  const shape = /'shape'\s*:\s*\(([^)]*)\)/.exec(text);
  const descr = /'descr'\s*:\s*(?:'([^']*)'|(\[.*?\])\s*,\s*'fortran)/s.exec(text);
  if (!shape || !descr) throw new Error("its header cannot be read.");
  return {
    descr: descr[1] ?? descr[2],
    isFortran: /'fortran_order'\s*:\s*True/.test(text),
    shape: shape[1]
      .split(",")
      .map((side) => side.trim())
      .filter(Boolean)
      .map(Number),
    offset: begin + length,
  };
}

const TYPES = {
  b1: "bool",
  i1: "int8",
  i2: "int16",
  i4: "int32",
  i8: "int64",
  u1: "uint8",
  u2: "uint16",
  u4: "uint32",
  u8: "uint64",
  f2: "float16",
  f4: "float32",
  f8: "float64",
  c8: "complex64",
  c16: "complex128",
};

function kindOf(descr) {
  const [, order, code] = /^([<>|=])([a-z]\d+)$/.exec(descr) ?? [];
  if (!(code in TYPES)) return null;
  const name = TYPES[code] + (code.startsWith("c") ? ", absolute values" : "");
  return { code, size: Number(code.slice(1)), isLittle: order !== ">", name };
}

/** @returns {Float64Array} */
function decode(bytes, { code, size, isLittle }) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Float64Array(Math.floor(bytes.byteLength / size));
  const one = {
    b1: (at) => view.getUint8(at),
    u1: (at) => view.getUint8(at),
    i1: (at) => view.getInt8(at),
    i2: (at) => view.getInt16(at, isLittle),
    u2: (at) => view.getUint16(at, isLittle),
    i4: (at) => view.getInt32(at, isLittle),
    u4: (at) => view.getUint32(at, isLittle),
    i8: (at) => Number(view.getBigInt64(at, isLittle)),
    u8: (at) => Number(view.getBigUint64(at, isLittle)),
    f2: (at) => half(view.getUint16(at, isLittle)),
    f4: (at) => view.getFloat32(at, isLittle),
    f8: (at) => view.getFloat64(at, isLittle),
    c8: (at) => Math.hypot(view.getFloat32(at, isLittle), view.getFloat32(at + 4, isLittle)),
    c16: (at) => Math.hypot(view.getFloat64(at, isLittle), view.getFloat64(at + 8, isLittle)),
  }[code];
  for (let at = 0; at < values.length; at += 1) values[at] = one(at * size);
  return values;
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function transposed(values, shape) {
  const turned = new Float64Array(values.length);
  const steps = shape.map((_, axis) => shape.slice(0, axis).reduce((product, side) => product * side, 1));
  const place = new Array(shape.length).fill(0);
  for (let at = 0; at < turned.length; at += 1) {
    turned[at] = values[place.reduce((sum, index, axis) => sum + index * steps[axis], 0)];
    for (let axis = shape.length - 1; axis >= 0 && (place[axis] += 1) === shape[axis]; axis -= 1)
      place[axis] = 0;
  }
  return turned;
}
