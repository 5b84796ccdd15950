// One DuckDB that answers queries, a line each: {"sql": ...} gives {"seconds", "rows"} or {"error"}.
//
//   CLIENTS_DIR=$(contrib/clients) node tests/bench/duck.mjs
//
// The clock covers the query alone. DuckDB remembers nothing of a file between queries.
import { createInterface } from 'node:readline';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const { load } = await import(pathToFileURL(resolve(process.env.CLIENTS_DIR, 'load.mjs')));
const { DuckDBInstance } = await load('@duckdb/node-api');
const db = await (await DuckDBInstance.create(':memory:')).connect();
for (const o of ['autoinstall_known_extensions', 'autoload_known_extensions', 'enable_external_file_cache',
  'parquet_metadata_cache']) await db.run(`SET ${o} = false`);

async function answer({ sql }) {
  const start = process.hrtime.bigint();
  const rows = await (await db.run(sql)).getRows();
  return {
    seconds: Number(process.hrtime.bigint() - start) / 1e9,
    rows: rows.map(r => r.map(v => typeof v === 'number' || v === null ? v : `${v}`)),
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const said = await answer(JSON.parse(line)).catch(e => ({ error: `${e.message ?? e}` }));
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
