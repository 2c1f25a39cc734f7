// Pyodide with edgevec in it, started on the first call.
let booted;

async function start() {
  const { loadPyodide } = await import("./pyodide/pyodide.mjs");
  const pyodide = await loadPyodide();
  await pyodide.loadPackage("edgevec", { messageCallback: () => {} });
  return pyodide;
}

export const boot = () => (booted ??= start());
