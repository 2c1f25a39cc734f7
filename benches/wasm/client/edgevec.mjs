// This project in Pyodide. The calls are made and timed by Python, in subject.py.
let pyodide;

export class Edgevec {
  constructor(host, quantization) {
    this.host = host;
    this.quantization = quantization;
  }

  async load() {
    pyodide ??= await this.start();
    this.python = pyodide.pyimport("subject").Subject(this.quantization);
  }

  async start() {
    const started = await this.host.pyodide();
    for (const name of ["base.f32", "queries.f32"]) started.FS.writeFile(`/tmp/${name}`, await this.host.read(`data/${name}`));
    started.FS.writeFile("/tmp/subject.py", await this.host.read("client/subject.py"));
    started.runPython(`import sys; sys.path.insert(0, "/tmp")`);
    return started;
  }

  heap() {
    return 0;
  }

  bytes() {
    return this.python.bytes();
  }

  async build({ n, dim, M, ef_construction }) {
    return this.python.build("/tmp", n, dim, M, ef_construction);
  }

  ids(queries, k, ef) {
    return Array.from(this.python.ids(queries.length, k, ef).toJs());
  }

  round(queries, k, ef, seconds) {
    return this.python.round(queries.length, k, ef, seconds).toJs({ dict_converter: Object.fromEntries });
  }
}
