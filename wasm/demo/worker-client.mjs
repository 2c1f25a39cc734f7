// The page's side of the worker: calls that return promises, and latest-wins for calls that come fast.

import { findMissingModule } from "./missing.mjs";

export class WorkerError extends Error {
  constructor({ kind, message, fatal = false }) {
    super(message);
    this.kind = kind;
    this.fatal = fatal; // the worker is of no more use
  }
}

export class WorkerClient {
  #worker;
  #waiting = new Map();
  #listeners = new Map();
  #calls = 0;
  #broken; // the error after which nothing is answered any more
  heap = 0; // bytes of the worker's memory, as of its last answer

  start() {
    this.#worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => (data.event ? this.#listeners.get(data.event)?.(data) : this.#settle(data));
    this.on("broken", ({ message }) => this.#break({ kind: "WorkerError", message }));
    this.#worker.onerror = async (event) => {
      event.preventDefault();
      const error = event.message
        ? { kind: "WorkerError", message: event.message }
        : { kind: "FetchError", message: await findMissingModule(new URL("./worker.mjs", import.meta.url)) };
      this.#break(error);
    };
  }

  // What the worker tells by itself: "loading", "starting", "building", "measuring", "broken".
  on(event, listener) {
    this.#listeners.set(event, listener);
  }

  // Returns what the Python method of that name returns; for "export" the file's bytes as well.
  call(name, args = {}, file = undefined) {
    if (this.#broken) return Promise.reject(new WorkerError(this.#broken));
    const id = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, name, args, file });
    });
  }

  #break(error) {
    this.#broken = { ...error, fatal: true };
    for (const id of this.#waiting.keys()) this.#settle({ id, error: this.#broken });
  }

  #settle({ id, result, error, heap, file }) {
    if (!this.#waiting.has(id)) return; // it was told already that the worker broke
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    this.heap = heap ?? this.heap;
    error ? reject(new WorkerError(error)) : resolve(file ? { ...result, file } : result);
  }
}

// At most one call runs and at most one waits: a newer one takes the place of the one that waits.
export function latest(run) {
  let running = false;
  let waiting;
  return async (input) => {
    waiting = { input };
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const { input: next } = waiting;
        waiting = undefined;
        await run(next, () => waiting !== undefined);
      }
    } finally {
      running = false;
    }
  };
}
