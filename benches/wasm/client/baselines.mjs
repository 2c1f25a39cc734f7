// One small adapter per baseline: load, build, and search one query, each as its documentation does it.

class Baseline {
  constructor(host) {
    this.host = host;
  }

  heap() {
    return this.memory().byteLength;
  }

  setEf(_) {}

  ids(queries, k, ef) {
    this.setEf(ef);
    return queries.flatMap((query) => {
      const found = Array.from(this.search(query, k));
      return found.concat(Array(k - found.length).fill(-1));
    });
  }

  round(queries, k, ef, seconds) {
    this.setEf(ef);
    const clock = performance, calls = [], end = clock.now() + seconds * 1e3;
    for (const query of queries) {
      const start = clock.now();
      this.search(query, k);
      const now = clock.now();
      calls.push((now - start) * 1e3);
      if (now > end) break;
    }
    return { calls_us: calls, core_us: [] };
  }
}

export class HnswlibWasm extends Baseline {
  async load() {
    const { loadHnswlib } = await this.host.load("baselines/hnswlib-wasm/dist/hnswlib.js");
    this.lib = await loadHnswlib();
  }

  memory() {
    return this.lib.HEAPU8.buffer;
  }

  async build({ n, dim, base, M, ef_construction }) {
    this.index?.delete();
    this.index = new this.lib.HierarchicalNSW("ip", dim, "");
    this.index.initIndex(n, M, ef_construction, 100);
    this.index.addItems(base, false);
  }

  setEf(ef) {
    this.index.setEfSearch(ef);
  }

  search(query, k) {
    return this.index.searchKnn(query, k, undefined).neighbors;
  }
}

// Squared L2 over unit vectors, which gives the order of cosine: the package's own cosine gives the opposite one.
export class EdgevecNpm extends Baseline {
  async load() {
    this.lib = await this.host.load("baselines/edgevec/edgevec.js");
    this.exports = await this.lib.default({ module_or_path: await this.host.read("baselines/edgevec/edgevec_bg.wasm") });
  }

  memory() {
    return this.exports.memory.buffer;
  }

  // The package takes ef when an index is made and never again. Building anew for each would take minutes, so a number
  // that stands nowhere else is given, and overwritten where it is found.
  async build({ n, dim, flat, M, ef_construction }) {
    const mark = 0x5eaf00d;
    this.index?.free();
    this.index = this.make({ dim, M, ef_construction, ef: mark });
    const words = new Uint32Array(this.memory());
    this.efs = [];
    for (let at = words.indexOf(mark); at >= 0; at = words.indexOf(mark, at + 1)) this.efs.push(at);
    this.setEf(ef_construction);
    this.fill(flat, n);
  }

  make({ dim, M, ef_construction, ef }) {
    this.config?.free();
    this.config = new this.lib.EdgeVecConfig(dim);
    this.config.metric = "l2";
    this.config.m = M;
    this.config.m0 = 2 * M;
    this.config.ef_construction = ef_construction;
    this.config.ef_search = ef;
    return new this.lib.EdgeVec(this.config);
  }

  fill(flat, n) {
    const ids = this.index.insertBatchFlat(flat, n);
    if (ids.length !== n) throw new Error(`took ${ids.length} of ${n} vectors`);
    this.first = ids[0];
  }

  // What an index answers that was made with this ef and never touched: for the test that the above is sound.
  untouched({ n, dim, flat, M, ef_construction }, queries, k, ef) {
    this.index.free();
    this.index = this.make({ dim, M, ef_construction, ef });
    this.efs = [];
    this.fill(flat, n);
    return this.ids(queries, k, ef);
  }

  setEf(ef) {
    const words = new Uint32Array(this.memory());
    for (const at of this.efs) words[at] = ef;
  }

  search(query, k) {
    return this.index.search(query, k).map(({ id }) => id - this.first);
  }
}

export class Voy extends Baseline {
  async load() {
    this.lib = await this.host.load("baselines/voy-search/voy_search_bg.js");
    const bytes = await this.host.read("baselines/voy-search/voy_search_bg.wasm");
    const { instance } = await WebAssembly.instantiate(bytes, { "./voy_search_bg.js": this.lib });
    this.exports = instance.exports;
    this.lib.__wbg_set_wasm(instance.exports);
  }

  memory() {
    return this.exports.memory.buffer;
  }

  async build({ base }) {
    const embeddings = base.map((row, i) => ({ id: String(i), title: "", url: "", embeddings: Array.from(row) }));
    this.index?.free();
    this.index = new this.lib.Voy({ embeddings });
  }

  search(query, k) {
    return this.index.search(query, k).neighbors.map(({ id }) => Number(id));
  }
}

// What anyone would write: one loop of multiplications over all rows, and the best k kept in order.
export class ExactScan extends Baseline {
  async load() {}

  heap() {
    return 0;
  }

  bytes() {
    return this.flat.byteLength;
  }

  async build({ flat, dim }) {
    this.flat = flat.slice();
    this.dim = dim;
  }

  search(query, k) {
    const { flat, dim } = this, ids = new Int32Array(k).fill(-1), best = new Float32Array(k).fill(-Infinity);
    for (let row = 0, at = 0; at < flat.length; row++, at += dim) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, i = 0;
      for (; i + 4 <= dim; i += 4) {
        s0 += query[i] * flat[at + i];
        s1 += query[i + 1] * flat[at + i + 1];
        s2 += query[i + 2] * flat[at + i + 2];
        s3 += query[i + 3] * flat[at + i + 3];
      }
      for (; i < dim; i++) s0 += query[i] * flat[at + i];
      const product = s0 + s1 + (s2 + s3);
      if (product <= best[k - 1]) continue;
      let slot = k - 1;
      for (; slot && product > best[slot - 1]; slot--) {
        best[slot] = best[slot - 1];
        ids[slot] = ids[slot - 1];
      }
      best[slot] = product;
      ids[slot] = row;
    }
    return ids;
  }
}
