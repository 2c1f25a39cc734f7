/* Included before everything else in a build with a system's emcc, which may be older than the runtime: the types of the C
 * library that the runtime (Emscripten 3.1.58 and later) and older headers see differently. */
#ifndef EDGEVEC_WASM_ABI_H
#define EDGEVEC_WASM_ABI_H

/* 64 bits; older headers say long, and then the runtime writes past the end of a struct timespec. */
typedef long long time_t;
#define __DEFINED_time_t

#endif
