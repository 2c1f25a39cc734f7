/* What the files of kernels share: which machine this is, how one function is compiled for an instruction set that the
 * rest of the library must not assume, and loads that stop where the data stop.
 *
 * An ISA file defines EV_KERNEL, EV_STEP and EV_NAME, the few steps that the template_*.h name, and includes those. It
 * holds kernels alone and no vector constant at file scope: such a constant may become code that runs when the library
 * is loaded, on any machine. */
#ifndef EV_ISA_H
#define EV_ISA_H

#include "base/platform.h"
#include "simd/kernels.h"

#include <string.h>

#if defined(__x86_64__) || (defined(_M_X64) && !defined(_M_ARM64EC))
#define EV_X86_64 1
#elif defined(__aarch64__) || defined(_M_ARM64)
#define EV_AARCH64 1
#elif defined(__wasm_simd128__)
#define EV_WASM128 1
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define EV_INLINE static __forceinline
#define EV_TARGET(isa)
#else
#define EV_INLINE static inline __attribute__((always_inline))
#define EV_TARGET(isa) __attribute__((target(isa)))
#endif

#if defined(EV_X86_64)
/* Shared by tables of more instructions. */
ev__kernel ev__l2_bits_avx2, ev__dot_bits_avx2;
void ev__tile_i4_avx2(const int8_t *query, int32_t sum, const void *tile, size_t n, int32_t *out);
uint32_t ev__crc32c_sse42(uint32_t crc, const void *bytes, size_t n);

extern const ev__kernels ev__kernels_avx2;
extern const ev__kernels ev__kernels_avx512;        /* F, BW, VL, DQ */
extern const ev__kernels ev__kernels_avx512_vnni;   /* and VNNI */
extern const ev__kernels ev__kernels_avx512_popcnt; /* and VNNI, VPOPCNTDQ */
#elif defined(EV_AARCH64)
extern const ev__kernels ev__kernels_neon;
/* Before version 16, clang knew the dot product of ARMv8.2 only where the whole file may use it. */
#if !defined(__clang__) || __clang_major__ >= 16 || defined(__ARM_FEATURE_DOTPROD)
#define EV_NEON_DOT 1
extern const ev__kernels ev__kernels_neon_dot;
#endif
#elif defined(EV_WASM128)
extern const ev__kernels ev__kernels_wasm128;
#endif

EV_INLINE uint64_t ev__read64(const void *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* The k < 8 bytes at p with zeros above them. Two loads overlap, so that none reaches beyond p + k. */
EV_INLINE uint64_t ev__head8(const uint8_t *p, size_t k) {
    if (k >= 4) {
        uint32_t low, high;
        memcpy(&low, p, sizeof low);
        memcpy(&high, p + k - 4, sizeof high);
        return low | (uint64_t)high << (8 * (k - 4));
    }
    if (k >= 2) {
        uint16_t low, high;
        memcpy(&low, p, sizeof low);
        memcpy(&high, p + k - 2, sizeof high);
        return low | (uint64_t)high << (8 * (k - 2));
    }
    return k ? *p : 0;
}

/* The same for k < 16, as two words. */
EV_INLINE void ev__head16(const void *from, size_t k, uint64_t words[2]) {
    const uint8_t *p = from;
    words[0] = k >= 8 ? ev__read64(p) : ev__head8(p, k);
    words[1] = k > 8 ? ev__head8(p + 8, k - 8) : 0;
}

/* Ask for a part of a long run that is read once from its beginning to its end, a while after what is read now. */
EV_INLINE void ev__prefetch_run(const void *at, size_t bytes) {
    enum { AHEAD = 8192 };
    for (size_t i = 0; i < bytes; i += 64) EV_PREFETCH_SOON((const char *)at + AHEAD + i);
}

/* How far ahead of the row in work others are asked for. Where to ask is to read, as many as half of a small L1 cache
 * holds: all that are read at once are waited for once. */
enum { EV_READ_AT_ONCE = 16384, EV_LEAST_AHEAD = 4 };
EV_INLINE size_t ev__rows_ahead(size_t bytes) {
    enum { AHEAD = 8, MOST = 32 };
    if (EV_PREFETCHES) return AHEAD;
    size_t rows = EV_READ_AT_ONCE / (bytes + 1);
    return rows > MOST ? MOST : rows < EV_LEAST_AHEAD ? EV_LEAST_AHEAD : rows;
}

/* Ask for the rows [from, to) of the m there are. The hardware follows a row by itself once it has seen its first two
 * lines, and asking for more was slower; where to ask is to read, it was not. */
EV_INLINE void ev__prefetch(const void *const *rows, size_t from, size_t to, size_t m, size_t bytes) {
    enum { LINE = 64, MOST = EV_PREFETCHES ? 2 * LINE : EV_READ_AT_ONCE / EV_LEAST_AHEAD };
    if (bytes > MOST) bytes = MOST;
    for (size_t i = from; i < to && i < m; i++) {
        EV_FETCH(rows[i]);
        for (size_t at = LINE; at < bytes; at += LINE) EV_FETCH((const char *)rows[i] + at);
    }
}

#endif
