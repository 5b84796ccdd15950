// samples.mjs DIR: for each file of DIR/raw but records, DIR/arrow/NAME.arrow and DIR/arrow-zstd/NAME.arrow, as
// apache-arrow writes them: two record batches, the latter's buffers compressed by zstd(1) where that helps.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parse, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const { load } = await import(pathToFileURL(resolve(process.env.CLIENTS_DIR, 'load.mjs')));
const lib = await load('apache-arrow');
const { CompressionType, Field, FixedSizeBinary, RecordBatch, Schema, Struct, Table, makeData, tableToIPC } = lib;

const TYPES = {
  i8: [lib.Int8, Int8Array], i16: [lib.Int16, Int16Array], i32: [lib.Int32, Int32Array],
  i64: [lib.Int64, BigInt64Array], u8: [lib.Uint8, Uint8Array], u16: [lib.Uint16, Uint16Array],
  u32: [lib.Uint32, Uint32Array], u64: [lib.Uint64, BigUint64Array], f16: [lib.Float16, Uint16Array],
  f32: [lib.Float32, Float32Array], f64: [lib.Float64, Float64Array], bool: [lib.Bool, Uint8Array],
};
const TIMES = { ms: lib.TimestampMillisecond, us: lib.TimestampMicrosecond, ns: lib.TimestampNanosecond };
const OPAQUE = { c64: 8, c128: 16 };

const packed = bytes => Uint8Array.from({ length: Math.ceil(bytes.length / 8) }, (_, i) =>
  bytes.subarray(8 * i, 8 * i + 8).reduce((bits, bit, k) => bits | bit << k, 0));

function typeOf(name, suffix) {
  if (OPAQUE[suffix]) return { type: new FixedSizeBinary(OPAQUE[suffix]), Values: Uint8Array, size: OPAQUE[suffix] };
  const [Type, Values] = TYPES[suffix], Time = name.startsWith('time') && TIMES[name.slice(4)];
  return { type: new (Time || Type)(), Values, size: Values.BYTES_PER_ELEMENT };
}

function batchOf(bytes, { type, Values, size }) {
  const length = bytes.length / size, own = type instanceof lib.Bool ? packed(bytes) : Uint8Array.from(bytes);
  const field = new Field('x', type, false);
  const column = makeData({ type, length, nullCount: 0, data: new Values(own.buffer) });
  const children = [column];
  return new RecordBatch(new Schema([field]), makeData({ type: new Struct([field]), length, nullCount: 0, children }));
}

lib.compressionRegistry.set(CompressionType.ZSTD, {
  encode: input => spawnSync('zstd', ['-q', '-c'], { input }).stdout,
});
const dir = process.argv[2];
for (const d of ['arrow', 'arrow-zstd']) mkdirSync(`${dir}/${d}`);
for (const file of readdirSync(`${dir}/raw`).filter(f => !f.includes(':'))) {
  const { name, ext } = parse(file), type = typeOf(name, ext.slice(1)), bytes = readFileSync(`${dir}/raw/${file}`);
  // A whole number of elements, and of bytes of bits.
  const half = 8 * type.size * 1000;
  const table = new Table([bytes.subarray(0, half), bytes.subarray(half)].map(part => batchOf(part, type)));
  writeFileSync(`${dir}/arrow/${name}.arrow`, tableToIPC(table, 'file'));
  writeFileSync(`${dir}/arrow-zstd/${name}.arrow`, tableToIPC(table, 'file', CompressionType.ZSTD));
}
