// A device model in a browser; types are in c2f.d.ts. Sums are of float64, in the order of c2f_dgl.serving.

const KINDS = {
  U8: Uint8Array, U16: Uint16Array, U32: Uint32Array, I8: Int8Array, I64: BigInt64Array,
  F16: Uint16Array, F32: Float32Array,
};
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const whole = (value, least = 0, most = Infinity) => Number.isSafeInteger(value) && value >= least && value <= most;
const wholes = (values) => Array.isArray(values) && values.every((value) => whole(value));
const shown = (value) => String(JSON.stringify(value)).slice(0, 60);

function refuse(problem) {
  throw new Error(`no c2f_dgl model, or damaged: ${problem}`);
}

function decoded(bytes) {
  try {
    return UTF8.decode(bytes);
  } catch {
    return refuse("not all text is UTF-8");
  }
}

function half(bits) {
  const power = (bits >> 10) & 31, size = 2 ** ((power || 1) - 15) * ((bits & 1023) / 1024 + (power ? 1 : 0));
  return power === 31 ? NaN : bits >> 15 ? -size : size;
}

// The manifest of a file, and what takes tensors from it.
function opened(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = bytes.length < 8 ? NaN : Number(view.getBigUint64(0, true));
  if (!(length <= Math.min(2 ** 20, bytes.length - 8))) refuse("it has no header");
  const data = bytes.subarray(8 + length), wrong = (name, problem) => refuse(`tensor ${shown(name)} ${problem}`);
  let header, manifest;
  try {
    header = JSON.parse(decoded(bytes.subarray(8, 8 + length)));
    manifest = JSON.parse(header.__metadata__.c2f);
  } catch {
    refuse("it holds no manifest");
  }
  delete header.__metadata__;
  const left = new Map(Object.entries(header)), places = [];
  for (const [name, tensor] of left) {
    const { dtype, shape, data_offsets: place } = tensor ?? {};
    const fits = Object.keys(KINDS).includes(dtype) && wholes(shape) && wholes(place)
      && place[1] - place[0] === shape.reduce((a, b) => a * b, KINDS[dtype].BYTES_PER_ELEMENT);
    if (!fits) wrong(name, "has another size than it says");
    places.push(place);
  }
  let end = 0;
  for (const place of [...places.sort((a, b) => a[1] - b[1]), [data.length]]) {
    if (place[0] !== end) refuse("it is cut, or its tensors overlap");
    end = place[1];
  }

  // A tensor of some types and of a shape, where that is null of 1 to `most`; its numbers are below a limit.
  function tensor(name, dtypes, size, { most = 256, limit = Infinity } = {}) {
    const { dtype, shape, data_offsets: place } = left.get(name) ?? wrong(name, "is missing");
    left.delete(name);
    const fits = shape.length === size.length
      && shape.every((n, axis) => (size[axis] === null ? whole(n, 1, most) : n === size[axis]));
    if (!fits || !dtypes.split(" ").includes(dtype)) wrong(name, `is ${dtype} [${shape}]`);
    // A copy begins where its type may.
    let values = new KINDS[dtype](new Uint8Array(data.subarray(...place)).buffer);
    if (dtype === "F16") values = Float32Array.from(values, half);
    if (dtype[0] === "F" && !values.every(Number.isFinite)) wrong(name, "holds values that are not finite");
    if (values.some((value) => value >= limit)) wrong(name, `holds numbers of ${limit} or more`);
    return Object.assign(values, { shape });
  }

  return { manifest, left, tensor, wrong };
}

export function read(file) {
  const { buffer = file, byteOffset, byteLength } = file;
  const { manifest, left, tensor, wrong } = opened(new Uint8Array(buffer, byteOffset, byteLength));
  const { format, version, items: n, d, starts, ids: kind, details } = manifest ?? {};
  if (format !== "c2f_dgl model") refuse("its manifest is of something else");
  if (version !== 1) refuse(`it is of version ${shown(version)}, and 1 can be read`);
  const sized = whole(n, 1, 2 ** 32 - 1) && whole(d, 1, 2 ** 20) && wholes(starts) && whole(starts.length, 1, 256);
  const odd = Object(details) !== details || Array.isArray(details) || !["integers", "text"].includes(kind);
  if (odd || !sized) refuse("its manifest is odd");

  function texts(name) {
    const ends = tensor(`${name}_ends`, "U32", [n]), bytes = tensor(`${name}s`, "U8", [ends[n - 1]]);
    return Array.from(ends, (end, row) => {
      const start = row && ends[row - 1];
      if (start > end) wrong(`${name}_ends`, "is not in ascending order");
      return decoded(bytes.subarray(start, end));
    });
  }

  // Vectors, floats or int8 with a scale a row.
  function vectors(name, ...shape) {
    const values = tensor(name, "F32 F16 I8", shape, { most: 2 ** 20 }), [size, width] = values.shape;
    return { values, size, width, scale: values instanceof Int8Array && tensor(`${name}_scale`, "F32", [size]) };
  }

  const levels = left.has("table") ? [{ ...vectors("table", n, d), start: 0 }] : starts.map((start, number) => {
    const book = vectors(`codebook_${number}`, null, null);
    return { ...book, start, codes: tensor(`code_${number}`, "U8 U16", [n], { limit: book.size }) };
  });
  const ends = levels.map(({ start, width }) => start + width);
  const columns = levels.reduce((sum, { width }) => sum + width, 0);
  if (Math.max(...ends) !== d || columns < d) refuse(`${columns} columns of levels are not all of ${d}`);
  const [w, t] = ["history_weight", "item_weight"].map((name) => tensor(name, "F32", [null]));
  const popularity = tensor("degree_level", "U8", [n], { limit: Math.min(w.length, t.length) });

  // Neighbours, and the entries of each source.
  let sources, k, values, steps, v, entries, from;
  if (left.has("neighbours")) {
    sources = tensor("neighbours", "U16 U32", [n, null], { most: n, limit: n + 1 });
    k = sources.shape[1];
    values = tensor("neighbour_value", "F32", [null]);
    steps = tensor("neighbour_level", "U8", [n, k], { limit: values.length });
    v = tensor("neighbour_history_weight", "F32", [null]);
    if (popularity.some((level) => level >= v.length)) refuse("neighbours have too few weights");
    from = new Uint32Array(n + 2);
    entries = new Uint32Array(n * k);
    for (const j of sources) from[j + 1] += 1;
    for (let j = 0; j <= n; j++) from[j + 1] += from[j];
    const next = from.slice();
    sources.forEach((j, entry) => { entries[next[j]++] = entry; });
  }

  const plain = (id) => (Number.isSafeInteger(Number(id)) ? Number(id) : id);
  const ids = kind === "text" ? texts("id") : Array.from(tensor("ids", "U16 U32 I64", [n]), plain);
  const titles = left.has("titles") ? texts("title") : null;
  for (const name of left.keys()) wrong(name, "is unexpected");
  const rowOf = new Map(ids.map((id, row) => [String(id), row]));
  if (rowOf.size < n) refuse("an id occurs twice");

  const find = (id) => rowOf.get(String(id)) ?? -1;
  const named = (row) => ({ row, id: ids[row], title: titles && titles[row] });
  const known = (history) => [...new Set(Array.from(history, find))].filter((row) => row >= 0);

  // Adds weight x its part of an item's vector to `out`, from a column on.
  function add({ values, width, scale, codes }, row, weight, out, start) {
    const code = codes ? codes[row] : row, by = scale ? scale[code] : 1;
    for (let c = 0; c < width; c++) out[start + c] += values[code * width + c] * by * weight;
  }

  function vector(row) {
    const out = new Float64Array(d);
    for (const level of levels) add(level, row, 1, out, level.start);
    return out;
  }

  function scored(history) {
    const q = new Float64Array(d), out = new Float64Array(n);
    for (const level of levels) {
      const part = new Float64Array(level.width);
      for (const row of history) add(level, row, w[popularity[row]], part, 0);
      part.forEach((value, c) => { q[level.start + c] += value; });
    }
    for (const { values, size, width, scale, codes, start } of levels) {
      const table = new Float64Array(size);
      for (let code = 0; code < size; code++) {
        let sum = 0;
        for (let c = 0; c < width; c++) sum += values[code * width + c] * q[start + c];
        table[code] = scale ? sum * scale[code] : sum;
      }
      for (let row = 0; row < n; row++) out[row] += table[codes ? codes[row] : row];
    }
    for (let row = 0; row < n; row++) out[row] *= t[popularity[row]];
    for (const row of k ? history : []) {
      for (const entry of entries.subarray(from[row], from[row + 1])) {
        out[Math.floor(entry / k)] += v[popularity[row]] * values[steps[entry]];
      }
    }
    return out;
  }

  function recommend(history, most = 10) {
    if (!whole(most, 1)) throw new Error(`k = ${shown(most)} is no whole number of 1 or more`);
    const given = [...history], rows = known(given), scores = scored(rows), had = new Set(rows), best = [];
    for (let row = 0; row < n; row++) {
      if ((best.length < most || scores[row] > scores[best[most - 1]]) && !had.has(row)) {
        let place = Math.min(best.length, most - 1);
        for (; place > 0 && scores[row] > scores[best[place - 1]]; place--) best[place] = best[place - 1];
        best[place] = row;
      }
    }
    const items = best.map((row) => ({ ...named(row), score: scores[row] }));
    return { items, unknown: given.filter((id) => find(id) < 0) };
  }

  function explain(history, item) {
    const target = find(item);
    if (target < 0) throw new Error(`no item ${shown(String(item))}`);
    const z = vector(target), terms = known(history).map((row) => {
      const weight = w[popularity[row]] * t[popularity[target]];
      let contribution = vector(row).reduce((sum, value, c) => sum + value * weight * z[c], 0);
      for (let at = target * k; at < (target + 1) * k; at++) {
        if (sources[at] === row) contribution += v[popularity[row]] * values[steps[at]];
      }
      return { ...named(row), contribution };
    });
    terms.sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution));
    return { ...named(target), score: terms.reduce((sum, term) => sum + term.contribution, 0), terms };
  }

  return { length: n, ids, titles, details, find, recommend, explain };
}
