// What this browser must have, asked before anything is fetched.

// A module whose only function returns i8x16.popcnt(i8x16.splat(0)): it is valid where SIMD128 is known.
const SIMD_MODULE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

// What is missing, as the end of a sentence; undefined when nothing is.
export function missingFeature() {
  if (typeof WebAssembly !== "object") return "WebAssembly, which is off or unknown here";
  if (!WebAssembly.validate(Uint8Array.from(SIMD_MODULE))) return "WebAssembly SIMD (Chrome 91, Firefox 89, Safari 16.4 or newer)";
  if (typeof Worker !== "function") return "Web Workers";
  return undefined;
}
