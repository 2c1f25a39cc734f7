// Which module does not arrive: a browser says only that some script of the page cannot be loaded.

// A sentence about the first of a module and all that it imports that cannot be had.
export async function findMissingModule(url, seen = new Set()) {
  const found = await search(url, seen);
  return found ?? `${url} cannot be loaded`;
}

async function search(url, seen) {
  if (seen.has(url.href)) return undefined;
  seen.add(url.href);
  let response, text;
  try {
    response = await fetch(url, { cache: "no-store" });
    text = await response.text();
  } catch (error) {
    return `${url} cannot be fetched: ${error.message}`;
  }
  if (!response.ok) return `${url} cannot be fetched: the server answers ${response.status}`;
  const type = response.headers.get("content-type") ?? "no type";
  if (!/javascript|ecmascript/.test(type)) return `${url} cannot be used: the server sends it as ${type} and not as JavaScript`;
  for (const [, path] of text.matchAll(/^(?:import|export) [^;]*?from "(\.[^"]+)"/gms)) {
    const found = await search(new URL(path, url), seen);
    if (found) return found;
  }
  return undefined;
}
