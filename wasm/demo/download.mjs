// Fetches whose bytes are counted as they arrive, also those that Pyodide makes. What does not arrive whole is named:
// Pyodide waits forever for a module that never comes.

const original = globalThis.fetch.bind(globalThis);
const PATIENCE = 60_000; // ms without a byte

// A file that did not arrive.
export class FetchError extends Error {
  name = "FetchError";
}

let fail;
export const failure = new Promise((_, reject) => (fail = reject)); // rejects with the first FetchError
failure.catch(() => {}); // whoever waits for it hears of it

function refuse(url, reason) {
  const error = new FetchError(`${url} cannot be fetched: ${reason}`);
  fail(error);
  return error;
}

export async function fetchWhole(url, options, sizes = new Map(), count = () => {}) {
  let response;
  try {
    response = await inTime(original(url, options));
  } catch (error) {
    throw refuse(url, error.message);
  }
  if (!response.ok) throw refuse(url, `the server answers ${response.status}`);
  // The URL is gone from the copy, but the type stays, which WebAssembly's streaming compilation asks for.
  return new Response(whole(url, response.body.getReader(), sizes.get(url), count), {
    headers: response.headers,
    status: response.status,
  });
}

// From now on every fetch of this worker calls count(bytes) for each piece that arrives.
// sizes: bytes by address, where they are known.
export function countFetches(sizes, count) {
  globalThis.fetch = (input, options) => fetchWhole(input.url ?? String(input), options, sizes, count);
}

// A module's exports. The browser fetches scripts by itself, and says little of what went wrong.
export async function importWhole(url) {
  try {
    return await import(url);
  } catch (error) {
    throw refuse(url, error.message);
  }
}

export async function fetchJson(url) {
  const response = await fetchWhole(url);
  try {
    return await response.json();
  } catch (error) {
    throw refuse(url, `it is not JSON: ${error.message}`);
  }
}

function whole(url, reader, size, count) {
  let arrived = 0;
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await inTime(reader.read());
        if (done && size !== undefined && arrived !== size) {
          throw new Error(`${arrived.toLocaleString("en")} bytes arrived of ${size.toLocaleString("en")}`);
        }
        if (done) return controller.close();
        arrived += value.byteLength;
        count(value.byteLength);
        controller.enqueue(value);
      } catch (error) {
        controller.error(refuse(url, error.message));
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing arrived for ${PATIENCE / 1000} seconds`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
