/* Everything that differs between compilers and systems: attributes, prefetching, thread-local data, atomics. */
#ifndef EV_PLATFORM_H
#define EV_PLATFORM_H

#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* mmap, madvise, sched_getaffinity, reader-writer locks */
#endif
#if !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64 /* files of 2 GB and more where a long has 32 bits */
#endif
#if defined(__MINGW32__) && !defined(__USE_MINGW_ANSI_STDIO)
#define __USE_MINGW_ANSI_STDIO 1 /* the older C runtime of Windows does not know %zu */
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "edgevec's file is read in place and is little-endian"
#endif

#if defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
#define EV_THREADS 0
#else
#define EV_THREADS 1
#endif

#if defined(__GNUC__)
#if defined(__MINGW32__) && !defined(__clang__)
#define EV_PRINTF(a, b) __attribute__((format(gnu_printf, a, b)))
#else
#define EV_PRINTF(a, b) __attribute__((format(printf, a, b)))
#endif
#define EV_LIKELY(x) __builtin_expect(!!(x), 1)
#define EV_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define EV_PRINTF(a, b)
#define EV_LIKELY(x) (x)
#define EV_UNLIKELY(x) (x)
#endif

/* EV_PREFETCH brings a line into the nearest cache; EV_PREFETCH_SOON, for many lines of which each has a while to come,
 * only into the next, which can wait for more of them at once. */
#if defined(__GNUC__) && !defined(__EMSCRIPTEN__)
#define EV_PREFETCHES 1
#define EV_PREFETCH(p) __builtin_prefetch(p)
#define EV_PREFETCH_SOON(p) __builtin_prefetch(p, 0, 2)
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <xmmintrin.h>
#define EV_PREFETCHES 1
#define EV_PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define EV_PREFETCH_SOON(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#elif defined(_MSC_VER) && defined(_M_ARM64)
#include <intrin.h>
#define EV_PREFETCHES 1
#define EV_PREFETCH(p) __prefetch(p)
#define EV_PREFETCH_SOON(p) __prefetch(p)
#else
#define EV_PREFETCHES 0
#define EV_PREFETCH(p) ((void)(p))
#define EV_PREFETCH_SOON(p) ((void)(p))
#endif

/* EV_FETCH and EV_FETCH_SOON are the same of what may be read. WebAssembly has no such instruction, and there it is
 * read: who reads a line waits for it, but for many, one right after the other, little longer than for one. So these
 * are for lines that are all needed, and soon; what cannot be known to be there is only prefetched. */
#if defined(__wasm__)
#define EV_FETCH(p) ((void)*(const volatile char *)(p))
#define EV_FETCH_SOON(p) EV_FETCH(p)
#else
#define EV_FETCH(p) EV_PREFETCH(p)
#define EV_FETCH_SOON(p) EV_PREFETCH_SOON(p)
#endif

/* The number of the lowest bit that is set; one is. */
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static inline unsigned ev__lowest_bit(uint64_t x) {
    unsigned long at, low = _BitScanForward(&at, (unsigned long)x);
    if (low) return at;
    _BitScanForward(&at, (unsigned long)(x >> 32));
    return at + 32;
}
#else
static inline unsigned ev__lowest_bit(uint64_t x) { return (unsigned)__builtin_ctzll(x); }
#endif

/* A bit for each of eight words, aligned to 32 bytes, that equals this one: what every CPU of a kind can do. */
#if defined(__SSE2__) || (defined(_MSC_VER) && defined(_M_X64))
#include <emmintrin.h>
static inline unsigned ev__equal8(const uint32_t *words, uint32_t word) {
    const __m128i *at = (const __m128i *)(const void *)words;
    __m128i all = _mm_set1_epi32((int)word);
    __m128i low = _mm_cmpeq_epi32(_mm_load_si128(at), all), high = _mm_cmpeq_epi32(_mm_load_si128(at + 1), all);
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128()));
}
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
static inline unsigned ev__equal8(const uint32_t *words, uint32_t word) {
    static const uint8_t places[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    uint32x4_t all = vdupq_n_u32(word), low = vceqq_u32(vld1q_u32(words), all),
               high = vceqq_u32(vld1q_u32(words + 4), all);
    return vaddv_u8(vand_u8(vmovn_u16(vcombine_u16(vmovn_u32(low), vmovn_u32(high))), vld1_u8(places)));
}
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
static inline unsigned ev__equal8(const uint32_t *words, uint32_t word) {
    v128_t all = wasm_i32x4_splat((int32_t)word);
    return wasm_i32x4_bitmask(wasm_i32x4_eq(wasm_v128_load(words), all)) |
           wasm_i32x4_bitmask(wasm_i32x4_eq(wasm_v128_load(words + 4), all)) << 4;
}
#else
static inline unsigned ev__equal8(const uint32_t *words, uint32_t word) {
    unsigned bits = 0;
    for (unsigned i = 0; i < 8; i++) bits |= (unsigned)(words[i] == word) << i;
    return bits;
}
#endif

#if !EV_THREADS
#define EV_THREAD_LOCAL
#elif defined(_MSC_VER)
#define EV_THREAD_LOCAL __declspec(thread)
#else
#define EV_THREAD_LOCAL _Thread_local
#endif

/* Move bytes up by a few places, for which others have a fast memmove. A WASM module calls that out of another module,
 * and it moves a word at a time. */
#if defined(__wasm_simd128__)
static inline void ev__move_up(void *from, size_t bytes, size_t by) {
    char *p = from;
    if (bytes < 16) {
        while (bytes--) p[bytes + by] = p[bytes];
        return;
    }
    v128_t head = wasm_v128_load(p);
    while (bytes > 16) {
        bytes -= 16;
        wasm_v128_store(p + bytes + by, wasm_v128_load(p + bytes));
        __asm__ volatile(""); /* else compilers see what this is and call memmove */
    }
    wasm_v128_store(p + by, head);
}
#else
static inline void ev__move_up(void *from, size_t bytes, size_t by) { memmove((char *)from + by, from, bytes); }
#endif

/* Relaxed loads and stores of words that other threads may be writing, and counters. */
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static inline uint32_t ev__load32(const uint32_t *p) { return *(const volatile uint32_t *)p; }
static inline void ev__store32(uint32_t *p, uint32_t v) { *(volatile uint32_t *)p = v; }
static inline int64_t ev__add64(int64_t *p, int64_t v) { return _InterlockedExchangeAdd64((volatile __int64 *)p, v); }
static inline int64_t ev__add64_ordered(int64_t *p, int64_t v) { return ev__add64(p, v); }
static inline int64_t ev__atomic_load64(const int64_t *p) { return _InterlockedOr64((volatile __int64 *)p, 0); }
static inline void ev__atomic_store64(int64_t *p, int64_t v) { _InterlockedExchange64((volatile __int64 *)p, v); }
static inline bool ev__swap64(int64_t *p, int64_t *was, int64_t v) {
    int64_t found = _InterlockedCompareExchange64((volatile __int64 *)p, v, *was), wanted = *was;
    *was = found;
    return found == wanted;
}
static inline uint32_t ev__load32_acquire(const uint32_t *p) { return (uint32_t)_InterlockedOr((volatile long *)p, 0); }
static inline void ev__store32_release(uint32_t *p, uint32_t v) { _InterlockedExchange((volatile long *)p, (long)v); }
static inline uint32_t ev__exchange32(uint32_t *p, uint32_t v) {
    return (uint32_t)_InterlockedExchange((volatile long *)p, (long)v);
}
static inline void ev__store8(uint8_t *p, uint8_t v) { *(volatile uint8_t *)p = v; }
static inline uint8_t ev__load8(const uint8_t *p) { return *(const volatile uint8_t *)p; }
#else
static inline uint32_t ev__load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void ev__store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline int64_t ev__add64(int64_t *p, int64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
/* acquires and releases */
static inline int64_t ev__add64_ordered(int64_t *p, int64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); }
static inline int64_t ev__atomic_load64(const int64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void ev__atomic_store64(int64_t *p, int64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
/* where *was is still there; else that becomes what is */
static inline bool ev__swap64(int64_t *p, int64_t *was, int64_t v) {
    return __atomic_compare_exchange_n(p, was, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
static inline uint32_t ev__load32_acquire(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void ev__store32_release(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint32_t ev__exchange32(uint32_t *p, uint32_t v) { return __atomic_exchange_n(p, v, __ATOMIC_ACQUIRE); }
static inline void ev__store8(uint8_t *p, uint8_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline uint8_t ev__load8(const uint8_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
#endif

#endif
