// Run a Python program in Pyodide under Node: node node.mjs JOB.json
// A job names the runtime's folder, files to copy in ({path, target}), archives to unpack ({path, format, folder}), folders to
// mount ({path, target}), the program, and the file that its last expression, a string, is written to.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// Pyodide refuses Node's Buffer, so a plain view of the same bytes.
const bytes = (path) => new Uint8Array(readFileSync(path));

async function main(job) {
  const { loadPyodide } = await import(pathToFileURL(join(job.runtime, "pyodide.mjs")));
  const pyodide = await loadPyodide({ indexURL: job.runtime + "/" });
  for (const { path, target } of job.files) {
    pyodide.FS.writeFile(target, bytes(path));
  }
  for (const { path, format, folder } of job.archives) {
    pyodide.unpackArchive(bytes(path), format, { extractDir: folder });
  }
  for (const { path, target } of job.mounts) {
    pyodide.mountNodeFS(target, path);
  }
  const program = readFileSync(job.program, "utf8");
  writeFileSync(job.result, await pyodide.runPythonAsync(program, { filename: job.program }));
}

try {
  await main(JSON.parse(readFileSync(process.argv[2], "utf8")));
  process.exit(0);
} catch (error) {
  // The message alone: uncaught, Node would print the line of the minified runtime that threw.
  console.error(error.message ?? String(error));
  process.exit(1);
}
