// The benchmark under Node: a line of JSON in, {name, args}, and a line out, {result} or {error}. node node.mjs FOLDER
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { Benchmark } from "./benchmark.mjs";

const folder = resolve(process.argv[2]);
const load = (path) => import(pathToFileURL(join(folder, path)));
const host = {
  agent: `Node ${process.version}`,
  load,
  // Pyodide refuses Node's Buffer, so a plain view of the same bytes.
  read: async (path) => new Uint8Array(readFileSync(join(folder, path))),
  async pyodide() {
    const { loadPyodide } = await load("pyodide/pyodide.mjs");
    const pyodide = await loadPyodide({ indexURL: join(folder, "pyodide/") });
    await pyodide.loadPackage("edgevec", { messageCallback: () => {} });
    return pyodide;
  },
};

// What packages print must not get between the answers.
const answer = process.stdout.write.bind(process.stdout);
for (const noisy of ["log", "info", "warn", "error", "debug"]) console[noisy] = () => {};
const benchmark = new Benchmark(host);
for await (const line of createInterface({ input: process.stdin })) {
  const { name, args } = JSON.parse(line);
  try {
    answer(JSON.stringify({ result: (await benchmark[name](...args)) ?? null }) + "\n");
  } catch (error) {
    answer(JSON.stringify({ error: String(error?.message ?? error) }) + "\n");
  }
}
process.exit(0);
