// The worker: Pyodide, edgevec and the Python in python/, which answers the page's messages.
//
// In:  {id, name, args, file?}; a File is put where Python finds it, as args.path, until the call returns.
// Out: {id, result | error, heap, file?} once a call, and {event, ...} at any time; after "broken" no more is to be had.

import { countFetches, failure, fetchJson, importWhole } from "./download.mjs";

const here = new URL("./", import.meta.url);
const tell = (event, details) => postMessage({ event, ...details });
const INBOX = "/inbox";
let pyodide;
let session;

async function boot() {
  const manifest = await fetchJson(new URL("manifest.json", here).href);
  const files = Object.values(manifest).flat();
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const count = (bytes) => tell("loading", { loaded: Math.min((loaded += bytes), total), total });
  countFetches(new Map(files.map(({ path, bytes }) => [new URL(path, here).href, bytes])), count);
  tell("loading", { loaded, total });

  const [, contents] = await Promise.all([startPython(manifest.runtime, count), fetchFiles(manifest)]);
  for (const [path, bytes] of contents) {
    const target = `/${path}`;
    pyodide.FS.mkdirTree(target.slice(0, target.lastIndexOf("/")));
    pyodide.FS.writeFile(target, bytes);
  }
  pyodide.FS.mkdirTree(INBOX);
  pyodide.FS.chdir(INBOX); // so that Python's messages name the user's files and not where they lie
  tell("starting", {});
  pyodide.runPython("import sys; sys.path.insert(0, '/')");
  const { Session } = pyodide.pyimport("python");
  session = Session((json) => postMessage(JSON.parse(json)));
}

async function startPython(runtime, count) {
  const indexURL = new URL("pyodide/", here).href;
  // Scripts are imported and not fetched, so their bytes are counted when they are there.
  const script = async (name) => {
    const { path, bytes } = runtime.find(({ path }) => path.endsWith(name));
    const module = await importWhole(new URL(path, here).href);
    count(bytes);
    return module;
  };
  const [{ loadPyodide }] = await Promise.all([script("pyodide.mjs"), script("pyodide.asm.js")]);
  pyodide = await loadPyodide({ indexURL });
  const problems = [];
  await pyodide.loadPackage(["edgevec", "sqlite3"], {
    messageCallback: () => {},
    errorCallback: (message) => problems.push(message),
  });
  if (problems.length) throw new Error(problems.join("; "));
}

async function fetchFiles({ python, sample }) {
  return Promise.all(
    [...python, ...sample].map(async ({ path }) => {
      const response = await fetch(new URL(path, here).href);
      return [path, new Uint8Array(await response.arrayBuffer())];
    }),
  );
}

const booted = Promise.race([boot(), failure]);
booted.catch(() => {}); // told to whoever calls

// What fails between two steps of Python's event loop fails in nobody's call, and the call waits for ever.
addEventListener("unhandledrejection", ({ reason }) => tell("broken", { message: reason?.message ?? String(reason) }));

onmessage = async ({ data: { id, name, args, file } }) => {
  const fail = ({ name: kind, message }, fatal) => postMessage({ id, error: { kind, message, fatal } });
  try {
    await booted;
  } catch (error) {
    return fail(error, true);
  }
  try {
    if (file) args.path = await storeFile(file);
  } catch (error) {
    return fail(error, false); // unreadable, or too big to hold
  }
  try {
    const reply = JSON.parse(await answer(name, args));
    const out = { id, ...reply, heap: pyodide._module.HEAPU8.byteLength };
    if (name === "export" && !reply.error) out.file = pyodide.FS.readFile(args.path);
    postMessage(out, out.file ? [out.file.buffer] : []);
  } catch (error) {
    fail(error, true); // Python's own exceptions are in the reply: this is the runtime that broke
  }
  if (args.path) remove(args.path);
};

async function answer(name, args) {
  const reply = session.handle(name, JSON.stringify(args));
  if (typeof reply === "string") return reply;
  try {
    return await reply;
  } finally {
    reply.destroy();
  }
}

async function storeFile(file) {
  const path = file.name.replaceAll("/", "_");
  pyodide.FS.writeFile(path, new Uint8Array(await file.arrayBuffer()), { canOwn: true });
  return path;
}

function remove(path) {
  if (pyodide.FS.analyzePath(path).exists) pyodide.FS.unlink(path);
}
