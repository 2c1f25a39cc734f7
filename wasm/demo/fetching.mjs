// Fetches whose bytes are counted as they arrive, also those that Pyodide makes.

const original = globalThis.fetch.bind(globalThis);

// A fetch that failed, with the file named.
export class FetchError extends Error {
  name = "FetchError";
}

export async function fetchWhole(url, options) {
  let response;
  try {
    response = await original(url, options);
  } catch (error) {
    throw new FetchError(`${url} cannot be fetched: ${error.message}`);
  }
  if (!response.ok) throw new FetchError(`${url} cannot be fetched: the server answers ${response.status}`);
  return response;
}

// From now on every fetch of this worker calls count(bytes) for each piece that arrives.
export function countFetches(count) {
  globalThis.fetch = async (input, options) => counted(await fetchWhole(input.url ?? String(input), options), count);
}

function counted(response, count) {
  const counter = new TransformStream({
    transform(piece, controller) {
      count(piece.byteLength);
      controller.enqueue(piece);
    },
  });
  // The URL is gone from the copy, but the type stays, which WebAssembly's streaming compilation asks for.
  return new Response(response.body.pipeThrough(counter), { headers: response.headers, status: response.status });
}
