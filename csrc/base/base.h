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

/* ---- account.c ------------------------------------------------------------------------------- */

/* The bytes that an index holds and may hold. It lives as long as anything that was allocated under it. */
typedef struct {
    int64_t held, peak, limit, floor; /* atomic; limit 0: none; readers may go up to the floor, where that is more */
    int64_t owners;                   /* atomic: the index, its contexts, and sets of its slots that filters keep */
    size_t growth;
} ev__account;
/* floor: bytes up to which readers may go, also where the limit is less. */
void ev__account_set_limit(ev__account *account, int64_t bytes, int64_t floor);
void ev__account_read(const ev__account *account, ev_memory *out);
/* What this thread allocates and releases from now on is counted in it; NULL: nowhere. Returns the one before.
 * ev__enter chooses the index's, and ev__parallel has its threads count where the caller does. */
ev__account *ev__charge_to(ev__account *account);
/* Count what is allocated, or taken over from elsewhere: false, and nothing is counted, where it would pass the limit.
 */
bool ev__charge(size_t bytes);
void ev__discharge(size_t bytes);
/* Whether so many more would fit, without counting them. */
bool ev__may_charge(size_t bytes);
int64_t ev__limit(void); /* 0: none */
/* Does this thread read only, so that it may go up to the floor? */
void ev__charge_as_reader(bool reads);
/* What a limit refused this thread in the call under way; asked is 0 where the system has refused something since. */
typedef struct {
    int64_t asked, held, limit;
} ev__refusal;
const ev__refusal *ev__last_refusal(void);
void *ev__refused_by_none(void); /* forget it; returns NULL */
/* An array that grows step by step grows by a growth-th part of itself; 0: by no more than it must. Only where calls
 * that change the index come one after the other. */
#define EV_GROWTH ((size_t)4)
size_t ev__growth(void);
void ev__set_growth(size_t growth);

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

/* Room for at least `room` items: exactly that, or more when growing step by step, as ev__growth() says. */
int ev__array_reserve(ev__array *array, size_t room);
/* What that would change in the bytes held, and in *peak how many more there would be meanwhile, with those of *held
 * from before. */
void ev__array_plan(const ev__array *array, size_t room, size_t growth, int64_t *held, int64_t *peak);
int ev__array_resize(ev__array *array, size_t count);
/* Give back the room beyond what is in it. False: there is not the memory for the copy that this may take. */
bool ev__array_shrink(ev__array *array);
void ev__array_free(ev__array *array);
size_t ev__array_bytes(const ev__array *array);

/* An account with one owner, NULL: there is no memory for it; one more owner; and one less, NULL is allowed. */
ev__account *ev__account_new(void);
ev__account *ev__account_share(ev__account *account);
void ev__account_drop(ev__account *account);

/* What a block of so many bytes takes of the system: the largest come in huge pages. */
size_t ev__block_bytes(size_t size);

/* ---- error.c --------------------------------------------------------------------------------- */

/* Note the detail (printf) and the row for ev_error_*, and return code. ev__ok clears them. EV_E_NOMEM becomes
 * EV_E_MEMORY_LIMIT where it was a limit that refused. */
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
