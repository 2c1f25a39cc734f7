/* Memory, growing arrays, errors, limits, and small arithmetic: nothing about vectors. */
#ifndef EV_BASE_H
#define EV_BASE_H

#include "base/platform.h"
#include "edgevec.h"

#include <stdbool.h>
#include <string.h>

#define EV_NONE UINT32_MAX /* no slot; ends a list of links */
#define EV_MAX_DIM 65535
#define EV_MAX_M 256
#define EV_MAX_LEVEL 30
#define EV_LINE 64

/* ---- memory.c -------------------------------------------------------------------------------- */

void *ev__alloc(size_t size, size_t align);
void *ev__alloc_zero(size_t size, size_t align);
void ev__release(void *memory, size_t size, size_t align);

/* A growing array of fixed-size items, new ones zero, 64-byte aligned. `mapped`: it lies in a mapped file and is not
 * ours to release. */
typedef struct {
    char *at;
    size_t item, count, room;
    bool mapped;
} ev__array;

/* Room for at least `room` items (exactly that, or a quarter more when growing step by step). */
int ev__array_reserve(ev__array *array, size_t room);
int ev__array_resize(ev__array *array, size_t count);
void ev__array_free(ev__array *array);
size_t ev__array_bytes(const ev__array *array);

/* ---- error.c --------------------------------------------------------------------------------- */

/* Note the detail (printf) and the row for ev_error_*, and return code. ev__ok clears them. */
int ev__fail(int code, const char *format, ...) EV_PRINTF(2, 3);
int ev__fail_row(int code, int64_t row, const char *format, ...) EV_PRINTF(3, 4);
int ev__fail_errno(int code, int error, const char *format, ...) EV_PRINTF(3, 4);
int ev__ok(void);

/* ---- small things ---------------------------------------------------------------------------- */

static inline uint64_t ev__mix(uint64_t x) { /* splitmix64 */
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}
static inline size_t ev__round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Buffers that lie in one allocation. With at = NULL they are only measured: used is what the allocation needs. */
typedef struct {
    char *at;
    size_t used;
} ev__arena;
static inline void *ev__arena_take(ev__arena *a, size_t bytes) {
    void *at = a->at ? a->at + a->used : NULL;
    a->used += ev__round_up(bytes, EV_LINE);
    return at;
}

/* Sets of slots, a bit each. */
static inline size_t ev__bit_words(size_t bits) { return (bits + 63) / 64; }
static inline bool ev__bit(const uint64_t *bits, uint32_t i) { return bits[i >> 6] >> (i & 63) & 1; }
static inline void ev__bit_set(uint64_t *bits, uint32_t i) { bits[i >> 6] |= (uint64_t)1 << (i & 63); }
static inline void ev__bit_clear(uint64_t *bits, uint32_t i) { bits[i >> 6] &= ~((uint64_t)1 << (i & 63)); }

#endif
