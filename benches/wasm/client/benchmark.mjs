// The benchmark, alike in a page and in Node: engines are started once, and then do one thing at a time when told to.
// `host` says where this is: read(path) gives a file's bytes, load(path) imports a module, pyodide() starts Pyodide.
import { EdgevecNpm, ExactScan, HnswlibWasm, Voy } from "./baselines.mjs";
import { Edgevec } from "./edgevec.mjs";

const ENGINES = {
  "edgevec none": (host) => new Edgevec(host, "none"),
  "edgevec sq8": (host) => new Edgevec(host, "sq8"),
  "edgevec binary": (host) => new Edgevec(host, "binary"),
  "hnswlib-wasm": (host) => new HnswlibWasm(host),
  "npm edgevec": (host) => new EdgevecNpm(host),
  "voy-search": (host) => new Voy(host),
  "exact scan": (host) => new ExactScan(host),
};

export class Benchmark {
  constructor(host) {
    this.host = host;
    this.engines = new Map();
  }

  // settings: {n, dim, queries, M, ef_construction, k}
  async open(settings) {
    const floats = async (path) => new Float32Array((await this.host.read(path)).slice().buffer);
    const rows = (flat) =>
      Array.from({ length: flat.length / settings.dim }, (_, i) => flat.subarray(i * settings.dim, (i + 1) * settings.dim));
    const base = await floats("data/base.f32");
    this.work = { ...settings, flat: base, base: rows(base), queries: rows(await floats("data/queries.f32")) };
    return { clock_us: clockStep(), agent: this.host.agent };
  }

  // Load the engine and build a small index, so that its code is compiled before anything is timed.
  async start(name, warm) {
    const engine = ENGINES[name](this.host);
    await engine.load();
    const few = { ...this.work, n: warm, base: this.work.base.slice(0, warm), flat: this.work.flat.subarray(0, warm * this.work.dim) };
    await engine.build(few);
    engine.ids(this.work.queries.slice(0, 10), this.work.k, 20);
    this.engines.set(name, engine);
  }

  async build(name) {
    const engine = this.engines.get(name), before = engine.heap();
    const start = performance.now();
    const seconds = (await engine.build(this.work)) ?? (performance.now() - start) / 1e3;
    // Of an engine that does not tell, how much its memory grew.
    return { seconds, bytes: engine.bytes?.() ?? engine.heap() - before };
  }

  // Ids found, k a query, -1 where there are fewer; for the first `count` queries.
  answers(name, ef, count) {
    return this.engines.get(name).ids(this.work.queries.slice(0, count), this.work.k, ef);
  }

  untouched(name, ef, count) {
    return this.engines.get(name).untouched(this.work, this.work.queries.slice(0, count), this.work.k, ef);
  }

  // Microseconds of single calls, for as many queries as fit in the seconds; and of a query within a batch, where an
  // engine has batches.
  round(name, ef, seconds) {
    return this.engines.get(name).round(this.work.queries, this.work.k, ef, seconds);
  }
}

// The least that the clock moves by.
function clockStep() {
  let step = Infinity;
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    step = Math.min(step, now - start);
  }
  return step * 1e3;
}
