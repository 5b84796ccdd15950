// Reads a file with a reader that knows nothing of spillfs, and prints what it found as one JSON document.
//
//   CLIENTS_DIR=$(contrib/clients) node tests/clients/read.mjs FORMAT FILE... [-- FORMAT FILE...]...
//
//   parquet-duckdb FILE...   parquet-hyparquet FILE...   arrow FILE...   zarr2 DIR...   zarr3 DIR...
//   sql QUERY...             rows of an in-memory DuckDB, 64-bit integers as strings; a line for each query
//
// {"columns": [{name, type, dtype, count, shape, nulls, sum, min, max, sha256}]}: dtype is NumPy's name of what
// sha256 is of, the values put back into little-endian bytes. Integers are decimal strings, floats JavaScript's
// shortest. min and max leave NaN out. On failure {"error": ...} and exit code 1. Of several files all columns,
// each named after its file (and within it, if there are more); one that cannot be read is {name, error}.
// After each -- another document, on a line of its own.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parse, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

if (!process.env.CLIENTS_DIR) {
  console.error('read.mjs: CLIENTS_DIR is not set; contrib/clients installs the readers and prints it');
  process.exit(2);
}
const { load } = await import(pathToFileURL(resolve(process.env.CLIENTS_DIR, 'load.mjs')));

const ARRAYS = {
  '|i1': Int8Array, '<i2': Int16Array, '<i4': Int32Array, '<i8': BigInt64Array,
  '|u1': Uint8Array, '<u2': Uint16Array, '<u4': Uint32Array, '<u8': BigUint64Array,
  '<f2': Uint16Array, '<f4': Float32Array, '<f8': Float64Array, '|b1': Uint8Array,
};

// The sum of so many 32-bit integers is exact in a double.
const PIECE = 1 << 20;

// ---- what is said about a column ----------------------------------------------------------------

const bytesOf = a => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

function halfToNumber(h) {
  const sign = h & 0x8000 ? -1 : 1, exp = h >> 10 & 0x1f, frac = h & 0x3ff;
  if (exp === 0x1f) return frac ? NaN : sign * Infinity;
  return exp ? sign * 2 ** (exp - 25) * (1024 + frac) : sign * 2 ** -24 * frac;
}

const f32 = new Float32Array(1), f32bits = new Uint32Array(f32.buffer);

// The bits of a number that is a half; NaN keeps its upper bits.
function numberToHalf(x) {
  f32[0] = x;
  const bits = f32bits[0], sign = bits >>> 16 & 0x8000, exp = bits >>> 23 & 0xff, frac = bits & 0x7fffff;
  if (exp === 0xff) return sign | 0x7c00 | frac >> 13;
  if (exp >= 113) return sign | exp - 112 << 10 | frac >> 13;
  return sign | Math.abs(x) * 2 ** 24;
}

// Adds up the pieces of one column: typed arrays of its dtype, or bytes where the dtype is V (opaque).
class Column {
  constructor(name, type, dtype) {
    if (!ARRAYS[dtype] && !/^\|V[1-9]/.test(dtype)) throw new Error(`column ${name}: no bytes for type ${type}`);
    Object.assign(this, { name, type, dtype, count: 0, nulls: 0, hash: createHash('sha256') });
    this.size = +dtype.slice(2);
    this.sum = /[iub]/.test(dtype[1]) ? 0n : 0;
  }

  add(values, nulls = 0) {
    const bytes = bytesOf(values);
    if (bytes.length % this.size) throw new Error(`column ${this.name}: ${bytes.length} bytes of ${this.dtype}`);
    this.hash.update(bytes);
    this.count += bytes.length / this.size;
    this.nulls += nulls;
    if (this.dtype[1] === 'V') return;
    const numbers = this.dtype === '<f2' ? Float64Array.from(values, halfToNumber) : values;
    for (let i = 0; i < numbers.length; i += PIECE) this.tally(numbers.subarray(i, i + PIECE));
  }

  tally(values) {
    let { min, max } = this, sum = values instanceof BigInt64Array || values instanceof BigUint64Array ? 0n : 0;
    for (let i = 0; i < values.length; i++) {
      const v = values[i];
      sum += v;
      if (!(v >= min)) min = v === v ? v : min;
      if (!(v <= max)) max = v === v ? v : max;
    }
    this.sum += typeof this.sum === 'bigint' ? BigInt(sum) : sum;
    Object.assign(this, { min, max });
  }

  report(more) {
    const { name, type, dtype, count, nulls, sum, min, max } = this;
    const said = dtype[1] === 'V' ? {} : min === undefined ? { sum: `${sum}` }
      : { sum: `${sum}`, min: `${min}`, max: `${max}` };
    return { name, type, dtype, count, nulls, ...more, ...said, sha256: this.hash.digest('hex') };
  }
}

// ---- Parquet: which dtype the schema's element is ------------------------------------------------

const bit = (bits, signed) => `${bits === 8 ? '|' : '<'}${signed ? 'i' : 'u'}${bits / 8}`;

function parquetDtype({ type, length, int, half }) {
  switch (type) {
    case 'BOOLEAN': return '|b1';
    case 'FLOAT': return '<f4';
    case 'DOUBLE': return '<f8';
    case 'INT32': return int ? bit(int.bits, int.signed) : '<i4';
    case 'INT64': return int ? bit(int.bits, int.signed) : '<i8';
    case 'FIXED_LEN_BYTE_ARRAY': return half ? '<f2' : `|V${length}`;
    default: return type;
  }
}

// ---- DuckDB ----------------------------------------------------------------------------------------

let duck;
const duckdb = () => duck ??= duckdbStart();

async function duckdbStart() {
  const { DuckDBInstance } = await load('@duckdb/node-api');
  const db = await (await DuckDBInstance.create(':memory:')).connect();
  for (const o of ['autoinstall_known_extensions', 'autoload_known_extensions']) await db.run(`SET ${o} = false`);
  return db;
}

const text = s => `'${s.replaceAll("'", "''")}'`;
const ident = s => `"${s.replaceAll('"', '""')}"`;

async function rows(db, query) {
  const result = await db.run(query), names = result.deduplicatedColumnNames();
  return (await result.getRows()).map(row => Object.fromEntries(names.map((n, i) => [n, row[i]])));
}

// JSON has no NaN, no infinity and no integers of 64 bits.
const legible = v => v === null || typeof v === 'boolean' || Number.isFinite(v) ? v : `${v}`;

async function sql(query) {
  const found = await rows(await duckdb(), query);
  return found.map(r => Object.fromEntries(Object.entries(r).map(([k, v]) => [k, legible(v)])));
}

async function duckSchema(db, file) {
  const query = `SELECT name, type, type_length, converted_type, logical_type, num_children
    FROM parquet_schema(${text(file)})`;
  return (await rows(db, query)).filter(r => r.type !== null && !r.num_children).map(r => {
    const m = /^(U?)INT_(\d+)$/.exec(r.converted_type ?? '');
    const logical = r.logical_type ?? '';
    return {
      name: r.name, type: r.type, length: Number(r.type_length ?? 0), half: logical.startsWith('Float16'),
      int: m && { bits: +m[2], signed: !m[1] },
      unit: /\b(MILLIS|MICROS|NANOS)=\w/.exec(logical)?.[1],
    };
  });
}

// What a vector keeps is the typed array itself, save for what DuckDB widens or keeps apart.
function duckValues(vector, count, { half, unit }, dtype) {
  if (dtype[1] === 'V') {
    const parts = [];
    for (let i = 0; i < count; i++) parts.push(vector.getItemBytes(i) ?? []);
    return Buffer.concat(parts);
  }
  if (dtype === '|b1') return new Uint8Array(vector.dataView.buffer, vector.dataView.byteOffset, count);
  if (half) return Uint16Array.from(vector.items, numberToHalf);
  const kind = vector.constructor.name;
  if (/Decimal\d+Vector$/.test(kind)) return ARRAYS[dtype].from({ length: count }, (_, i) => vector.getScaledValue(i));
  if (unit === 'MILLIS' && /Timestamp(TZ)?Vector$/.test(kind)) return vector.items.map(v => v / 1000n);
  if (unit === 'NANOS' && /Timestamp(TZ)?Vector$/.test(kind)) throw new Error('nanoseconds were cut to microseconds');
  return vector.items;
}

async function duckColumn(db, file, element) {
  const from = `FROM read_parquet(${text(file)})`, name = ident(element.name), dtype = parquetDtype(element);
  const result = await db.run(`SELECT ${name} ${from}`);
  const type = `${result.columnType(0)}`, column = new Column(element.name, type, dtype);
  for (let chunk; (chunk = await result.fetchChunk())?.rowCount;) {
    const vector = chunk.getColumnVector(0), count = chunk.rowCount;
    let nulls = 0;
    for (let i = 0; vector.validity.data && i < count; i++) nulls += !vector.validity.itemValid(i);
    column.add(duckValues(vector, count, element, dtype), nulls);
  }
  const aggregates = /INT|FLOAT|DOUBLE/.test(type)
    ? `sum(${name}) AS sum, min(${name}) AS min, max(${name}) AS max`
    : type === 'BOOLEAN' ? `count(*) FILTER (${name}) AS sum` : 'NULL AS sum';
  const [agg] = await rows(db, `SELECT count(${name}) AS count, ${aggregates} ${from}`);
  const said = Object.entries(agg).map(([k, v]) => [k, v === null ? null : `${v}`]);
  return column.report({ sql: Object.fromEntries(said) });
}

async function parquetDuckdb(file) {
  const db = await duckdb(), columns = [];
  for (const element of await duckSchema(db, file)) columns.push(await duckColumn(db, file, element));
  return { columns };
}

// ---- hyparquet -------------------------------------------------------------------------------------

function hyElement({ name, type, type_length: length, logical_type: logical, converted_type: converted, scale }) {
  const m = /^(U?)INT_(\d+)$/.exec(converted ?? '');
  const int = logical?.type === 'INTEGER' ? { bits: logical.bitWidth, signed: logical.isSigned }
    : m && { bits: +m[2], signed: !m[1] };
  const said = logical?.type ?? converted, decimal = said === 'DECIMAL' ? 10 ** scale : 0;
  return { name, type, length, int, half: logical?.type === 'FLOAT16', said, decimal };
}

function hyValues(data, dtype, decimal) {
  if (dtype[1] === 'V') return Buffer.concat(data);
  const Values = ARRAYS[dtype];
  // It makes numbers of decimals, which have the digits of all up to 10^15.
  if (decimal) data = Array.from(data, v => Math.round(v * decimal));
  if (decimal && Values === BigInt64Array) data = data.map(BigInt);
  if (data instanceof Values) return data;
  if (dtype === '<f2') return Uint16Array.from(data, numberToHalf);
  if (dtype === '|b1') return Uint8Array.from(data, Number);
  return Values.from(data);
}

async function parquetHyparquet(path) {
  const hy = await load('hyparquet'), { compressors } = await load('hyparquet-compressors');
  const file = await hy.asyncBufferFromFile(path), metadata = await hy.parquetMetadataAsync(file);
  const keep = v => v;
  const parsers = { ...hy.DEFAULT_PARSERS, timestampFromMilliseconds: keep, timestampFromMicroseconds: keep,
    timestampFromNanoseconds: keep, dateFromDays: keep };
  const columns = [];
  for (const element of metadata.schema.filter(e => e.type).map(hyElement)) {
    const pieces = [], { name } = element;
    await hy.parquetRead({ file, metadata, compressors, parsers, columns: [name], utf8: false,
      onChunk: piece => pieces.push(piece) });
    const type = `${element.type}${element.said ? ` ${element.said}` : ''}`, dtype = parquetDtype(element);
    const column = new Column(name, type, dtype);
    for (const { columnData } of pieces.sort((a, b) => a.rowStart - b.rowStart)) {
      const there = Array.isArray(columnData) ? columnData.filter(v => v != null) : columnData;
      column.add(hyValues(there, dtype, element.decimal), columnData.length - there.length);
    }
    columns.push(column.report({ rows: `${metadata.num_rows}` }));
  }
  return { columns };
}

// ---- Arrow -----------------------------------------------------------------------------------------

function arrowDtype(type, { Type, DateUnit }) {
  switch (type.typeId) {
    case Type.Int: return bit(type.bitWidth, type.isSigned);
    case Type.Float: return `<f${2 << type.precision}`;
    case Type.Bool: return '|b1';
    case Type.Date: return type.unit === DateUnit.DAY ? '<i4' : '<i8';
    case Type.Timestamp: case Type.Duration: return '<i8';
    case Type.FixedSizeBinary: return `|V${type.byteWidth}`;
    default: return `${type}`;
  }
}

function arrowValues({ values, length, offset, type, stride }, dtype) {
  if (dtype === '|b1') return Uint8Array.from({ length }, (_, i) => values[offset + i >> 3] >> (offset + i & 7) & 1);
  const each = dtype[1] === 'V' ? type.byteWidth : stride;
  return values.subarray(0, length * each);
}

async function arrow(file) {
  const lib = await load('apache-arrow'), { decompress } = await load('fzstd');
  // What fzstd gives back may begin anywhere in its buffer; a copy begins where a Float64Array can.
  lib.compressionRegistry.set(lib.CompressionType.ZSTD, { decode: bytes => decompress(bytes).slice() });
  const table = lib.tableFromIPC(readFileSync(file));
  if (!table.schema.fields.length) throw new Error('no columns');
  return { columns: table.schema.fields.map((field, i) => {
    const dtype = arrowDtype(field.type, lib), column = new Column(field.name, `${field.type}`, dtype);
    for (const batch of table.batches) {
      const data = batch.data.children[i];
      column.add(arrowValues(data, dtype), data.nullCount);
    }
    return column.report({ batches: table.batches.length });
  }) };
}

// ---- Zarr ------------------------------------------------------------------------------------------

const ZARR = {
  int8: '|i1', int16: '<i2', int32: '<i4', int64: '<i8', uint8: '|u1', uint16: '<u2', uint32: '<u4', uint64: '<u8',
  float16: '<f2', float32: '<f4', float64: '<f8', bool: '|b1',
};

// In C order, whatever order the array is kept in.
function ordered({ data, shape, stride }, Values) {
  const flat = new Values(data.buffer, data.byteOffset, data.length);
  const step = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  if (shape.every((n, i) => n < 2 || stride[i] === step[i])) return flat;
  const at = n => shape.reduce((sum, length, i) => sum + Math.floor(n / step[i]) % length * stride[i], 0);
  return Values.from(flat, (_, n) => flat[at(n)]);
}

async function zarr(version, dir) {
  // Older Nodes have no halves; zarrita only carries the bits.
  globalThis.Float16Array ??= class Float16Array extends Uint16Array {};
  const lib = await load('zarrita'), { default: FileSystemStore } = await load('@zarrita/storage/fs');
  const array = await lib.open[version](new FileSystemStore(resolve(dir)), { kind: 'array' });
  // get() of an empty array fails.
  const empty = { data: new Uint8Array(), shape: array.shape, stride: [] };
  const got = array.shape.includes(0) ? empty : await lib.get(array);
  const dtype = ZARR[array.dtype] ?? array.dtype, column = new Column('', array.dtype, dtype);
  // Without dimensions there is one element, and that is what get() gives.
  const found = array.shape.length ? got : { data: ARRAYS[dtype].of(got), shape: [], stride: [] };
  column.add(ordered(found, ARRAYS[dtype]));
  return { columns: [column.report({ shape: found.shape, chunks: array.chunks, attrs: array.attrs })] };
}

// ---- main ------------------------------------------------------------------------------------------

const FORMATS = {
  'parquet-duckdb': parquetDuckdb, 'parquet-hyparquet': parquetHyparquet, arrow,
  zarr2: dir => zarr('v2', dir), zarr3: dir => zarr('v3', dir),
};

const reason = error => `${error?.message ?? error}${error?.cause?.message ? `: ${error.cause.message}` : ''}`;
const stem = path => parse(resolve(path)).name;

async function readOne(read, path) {
  const { columns } = await read(path);
  return { columns: columns.map(c => ({ ...c, name: c.name || stem(path) })) };
}

async function readAll(read, paths) {
  const columns = [];
  for (const path of paths) {
    const name = stem(path);
    try {
      const found = (await read(path)).columns;
      columns.push(...found.map(c => ({ ...c, name: found.length === 1 ? name : `${name}.${c.name}` })));
    } catch (error) {
      columns.push({ name, error: reason(error) });
      process.exitCode = 1;
    }
  }
  return { columns };
}

async function say(document) {
  try {
    console.log(JSON.stringify(await document));
  } catch (error) {
    console.log(JSON.stringify({ error: reason(error) }));
    process.exitCode = 1;
  }
}

const requests = [[]];
for (const arg of process.argv.slice(2)) arg === '--' ? requests.push([]) : requests.at(-1).push(arg);
if (requests.some(([format, ...args]) => !args.length || !FORMATS[format] && format !== 'sql')) {
  console.error(`usage: read.mjs ${Object.keys(FORMATS).join('|')} FILE...\n       read.mjs sql QUERY...`);
  process.exit(2);
}
for (const [format, ...args] of requests) {
  if (format === 'sql') for (const query of args) await say(sql(query));
  else await say(args.length === 1 ? readOne(FORMATS[format], args[0]) : readAll(FORMATS[format], args));
}
