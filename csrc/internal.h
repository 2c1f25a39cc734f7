/* What the library's own files share. Floors, from the ground:
 *
 *   alloc, error, thread      memory, messages, locks and workers
 *   simd/                     kernels
 *   rotate, codes, vectors    vectors -> codes; what of a slot's vector is kept, written and read
 *   space                     distances
 *   sift                      which distances are not worth computing
 *   store, idmap              slots: where everything about a vector lies, and which id is where
 *   walk, link, repair, blind the graph: searching it, growing it, mending it, and as if a node were not there
 *   add, remove, compact, search, filter, save, load, check     one file per verb of edgevec.h
 *
 * A slot is the place of one vector, numbered from 0. A slot is in one of the states below. Nodes form the graph; a
 * vector whose codes equal a node's becomes that node's duplicate: it hangs on the node's chain and has no links, so
 * that any number of copies cost the graph nothing. A removed node goes on routing (dead) until `repair` has led its
 * neighbours around it; then it is free.
 */
#ifndef EV_INTERNAL_H
#define EV_INTERNAL_H

#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* mmap, madvise, sched_getaffinity, reader-writer locks */
#endif
#include <stdbool.h>
#include <string.h>

#include "edgevec.h"
#include "base/platform.h"
#include "simd/kernels.h"

#define EV_NONE UINT32_MAX /* no slot; ends a list of links */
#define EV_MAX_DIM 65535
#define EV_MAX_M 256
#define EV_MAX_LEVEL 30
#define EV_LINE 64

enum { EV_FREE = 0, EV_NODE = 1, EV_DUPLICATE = 2, EV_DEAD_NODE = 3, EV_DEAD_DUPLICATE = 4 };
#define EV_STATE 7u /* the bits of a state byte that hold one of these */
#define EV_TWIN 8u  /* on a duplicate: its float vector too equals its node's */

/* ---- alloc.c --------------------------------------------------------------------------------- */

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

/* ---- codes.c, rotate.c ----------------------------------------------------------------------- */

/* What a code needs beside its integers: value = scale * integer. bias: l2 and cosine: squared length of the decoded,
 * centred vector; ip: minus its dot product with the centre. */
typedef struct {
    float scale, bias;
} ev__factor;

/* A fast random rotation of `dim` (zero-padded to `bits`) coordinates: rounds of sign flips and Hadamard transforms.
 * Adds, subtracts and one multiplication a coordinate: the same bits on every machine. */
typedef struct {
    size_t dim, bits;
    uint64_t *signs; /* EV_ROUNDS * bits bits */
} ev__rotation;
int ev__rotation_init(ev__rotation *r, size_t dim, size_t bits, uint64_t seed);
void ev__rotation_free(ev__rotation *r);
size_t ev__rotation_bytes(const ev__rotation *r);
void ev__rotate(const ev__rotation *r, const float *in, float *out);   /* in[dim] -> out[bits] */
void ev__rotate_back(const ev__rotation *r, float *inout, float *out); /* inout[bits] is used up -> out[dim] */

typedef struct ev__scratch ev__scratch;

/* Squared length, summed in double in a fixed order. */
double ev__norm2(const float *v, size_t dim);
/* squared distance, likewise */
double ev__apart_fixed(const double *a, const float *b, size_t dim);
/* dot product, likewise */
double ev__dot_fixed(const float *a, const float *b, size_t dim);
/* Write vector / sqrt(norm2). */
void ev__normalize(const float *v, double norm2, float *out, size_t dim);

/* Rows that the index can hold or be asked for: finite, not too long, and under cosine not zero. */
int ev__check_rows(const ev_index *ix, int64_t n, const float *rows);
/* The row as the index holds it: at unit length in buffer[dim] under cosine, else the row itself. */
const float *ev__unit(const ev_index *ix, const float *row, float *buffer);

/* vector (normalised under cosine) -> code and factor; the code's layout is the walking code of the index (i8 or bits).
 */
void ev__encode(const ev_index *ix, const float *vector, void *code, ev__factor *factor, ev__scratch *scratch);
/* what an 8-bit code of this scale needs in ev__factor */
float ev__code_bias(const ev_index *ix, const int8_t *code, float scale);
/* the 8-bit code whatever the index's quantisation: what quantised graphs are built on */
void ev__encode_i8(const ev_index *ix, const float *vector, int8_t *code, ev__factor *factor);
/* numbers as integers in [-7, 7], in EV_PLANES planes of `stride` bytes; returns their scale, and in *sum their sum */
float ev__encode_planes(const float *numbers, size_t n, uint8_t *planes, size_t stride, int32_t *sum);
/* the decoded vector of a slot, un-centred and un-rotated; at unit length under cosine */
void ev__decode(const ev_index *ix, uint32_t slot, float *out, ev__scratch *scratch);

/* ---- vectors.c ------------------------------------------------------------------------------- */

/* All that a slot holds of a vector (normalised under cosine): code and factor, the vector or what refines the code,
 * the row of sift.c. */
void ev__vector_write(const ev_index *ix, uint32_t slot, const float *vector, ev__scratch *s);
/* The vector as exactly as the slot holds it: its own memory, or buffer[dim]. */
const float *ev__vector_read(const ev_index *ix, uint32_t slot, float *buffer, ev__scratch *s);
/* Do two slots with the same code and factor hold the same vector? */
bool ev__vector_same(const ev_index *ix, uint32_t a, uint32_t b);

/* ---- space.c: distances ---------------------------------------------------------------------- */

/* Where the rows to compare with lie: walking codes, float vectors, or the 8-bit codes that a binary index is built on.
 */
typedef enum {
    EV_SPACE_DOT,
    EV_SPACE_L2,
    EV_SPACE_I8,
    EV_SPACE_BITS,
    EV_SPACE_HAMMING,
    EV_SPACE_I8_FRESH,
    EV_SPACE_FINE
} ev__space_kind;
typedef struct {
    ev__space_kind kind;
    const char *rows; /* row of slot s: rows + s * stride. I8_FRESH: float vectors, encoded anew for each comparison */
    size_t stride, bytes;      /* bytes: of a row, as far as it is compared */
    const ev__factor *factors; /* of slot s; NULL for DOT, L2 and I8_FRESH. FINE: scales of the 24-bit vectors */
} ev__space;

/* The same side against sign codes (sift.c); planes: NULL where nothing is sifted. */
typedef struct {
    const uint8_t *planes;
    int32_t sum; /* of the integers in the planes */
    float scale, error;
} ev__sieve;

/* One side of many comparisons. key: smaller is nearer, comparable between rows of one probe only. offset + gain * key
 * is the estimated distance of a query, and for a slot's probe a measure comparable with those of other slots' probes.
 */
typedef struct {
    const void *data;  /* f32[dim], centred where rows are 24-bit vectors | i8[dim] | bit planes | bits */
    int32_t sum;       /* bit planes: sum of the query's integers */
    float scale, bias; /* key = bias * row.bias - scale * row.scale * integer product */
    float offset, gain;
    ev__sieve sieve;
} ev__probe;

static inline float ev__key(const ev__probe *probe, ev__factor factor, float product) {
    return probe->bias * factor.bias - (probe->scale * factor.scale) * product;
}

ev__space ev__walk_space(const ev_index *ix);
/* The space graphs are built in. codes/factors: the 8-bit codes of a binary index made for a large build, or NULL. */
ev__space ev__build_space(const ev_index *ix, const int8_t *codes, const ev__factor *factors);
/* Of slots among each other by what is walked on, of sign codes by an estimate. */
ev__space ev__code_space(const ev_index *ix);
void ev__probe_query(const ev_index *ix, const float *query, ev__probe *probe, ev__scratch *scratch);
/* data points into the row, or for I8_FRESH and FINE into the buffer: dim bytes, or floats */
void ev__probe_slot(const ev_index *ix, const ev__space *space, uint32_t slot, ev__probe *probe, void *buffer);
/* keys of m rows */
void ev__keys(const ev_index *ix, const ev__space *space, const ev__probe *probe, const uint32_t *slots, size_t m,
              float *keys, ev__scratch *scratch);
/* A query's final distance to what ev__vector_read says of a slot, in double; where only signs are kept, what they
 * estimate. Under ip it is minus the dot product: next to 1, small ones would be lost. error: how far `distance` may
 * be from that; 0 says that it is that. */
typedef struct {
    double distance, error;
    uint32_t slot;
} ev__result;
/* Before the others: the query as it was given, and as the index would hold it. */
void ev__measure_from(const ev_index *ix, const float *given, const float *query, ev__scratch *scratch);
/* Of m slots, at most 64, summed in float32: those whose distance may be within the bound; returns how many. */
size_t ev__measure(const ev_index *ix, const ev__probe *probe, const uint32_t *slots, size_t m, double bound,
                   ev__result *results, ev__scratch *scratch);
/* How far a float32 distance may be off. */
double ev__error(const ev_index *ix, uint32_t slot, double distance, const ev__scratch *scratch);
/* In double: nothing that was not exact before. */
void ev__measure_exactly(const ev_index *ix, ev__result *result, ev__scratch *scratch);
/* What a caller is told: 0 for what the index could not tell from the query. */
float ev__shown(const ev_index *ix, const ev__result *result);
/* Ask for what that will read beside the code, which a walk has just read. Float vectors the hardware fetches itself.
 */
void ev__distances_prefetch(const ev_index *ix, uint32_t slot);

/* ---- sift.c ---------------------------------------------------------------------------------- */

size_t ev__sift_bits(size_t dim); /* signs of a row; 0 where a code is too short for sifting to pay */
size_t ev__sift_bytes(size_t bits);
int ev__sift_init(ev_index *ix);
/* The row of a slot from its code and factor; of all slots, after a load; is it what it should be? */
void ev__sift_write(const ev_index *ix, uint32_t slot, ev__scratch *s);
int ev__sift_all(ev_index *ix);
bool ev__sift_ok(const ev_index *ix, uint32_t slot, ev__scratch *s);
/* probe->sieve of a vector whose squared length is norm2, keys being ... - unit * (vector . row); or of a slot's code
 */
void ev__sift_query(const ev_index *ix, const float *query, double norm2, float unit, ev__probe *probe, ev__scratch *s);
void ev__sift_slot(const ev_index *ix, uint32_t slot, ev__probe *probe, ev__scratch *s);
/* Keep, in place and in order, those of n slots whose key may be below the bound; returns how many. */
size_t ev__sift(const ev_index *ix, const ev__probe *probe, float bound, uint32_t *slots, size_t n, ev__scratch *s);
/* Of them at most so many, those whose keys may be least. */
size_t ev__sift_nearest(const ev_index *ix, const ev__probe *probe, size_t most, uint32_t *slots, size_t n,
                        ev__scratch *s);
/* The keys of those kept, as ev__keys */
void ev__sifted_keys(const ev_index *ix, const ev__probe *probe, const uint32_t *slots, size_t n, float *keys,
                     ev__scratch *s);

/* ---- store.c: slots -------------------------------------------------------------------------- */

/* The columns of a slot. A block is [code, or float vector when unquantised | 2 M links of level 0], a multiple of 64
 * bytes. */
typedef struct {
    ev__array blocks;
    ev__array factors;  /* ev__factor; quantised only */
    ev__array vectors;  /* float[dim], or int16[dim] that refine 8-bit codes; quantised with keep_vectors only */
    ev__array ids;      /* int64 */
    ev__array state;    /* uint8: EV_FREE.. | EV_TWIN */
    ev__array level;    /* uint8: fixed when the slot is made */
    ev__array upper_at; /* uint32: where in `upper` the links of levels 1.. begin */
    ev__array upper;    /* uint32: M per level */
    ev__array chain;    /* uint32: next duplicate of the node, or EV_NONE. Empty until the first duplicate */
    ev__array sift;     /* rows of sift.c, made from the codes and not in files; 8-bit codes of some length only */
} ev__store;

/* ---- idmap.c, twins.c ------------------------------------------------------------------------ */

/* See table.h. */
typedef struct {
    uint32_t *cells;
    size_t room, used; /* room: 0 or a power of two */
    uint64_t salt;     /* so that nobody can choose ids that collide */
} ev__table;
int ev__idmap_reserve(ev__table *map, const int64_t *ids, size_t count);
uint32_t ev__idmap_get(const ev__table *map, const int64_t *ids, int64_t id);
void ev__idmap_put(ev__table *map, const int64_t *ids, int64_t id, uint32_t slot); /* room was reserved; replaces */
void ev__idmap_remove(ev__table *map, const int64_t *ids, int64_t id);
void ev__idmap_free(ev__table *map);

/* The living node whose code and factor equal the slot's, or EV_NONE. */
uint32_t ev__twins_get(const ev_index *ix, uint32_t slot);
void ev__twins_put(ev_index *ix, uint32_t node);    /* room was reserved */
void ev__twins_remove(ev_index *ix, uint32_t slot); /* nothing where it is not in the table */
int ev__twins_reserve(ev_index *ix, size_t extra);  /* makes the table when there is none */
void ev__twins_free(ev_index *ix);

/* ---- the index ------------------------------------------------------------------------------- */

struct ev_index {
    ev_params p;
    const ev__kernels *kernels;
    size_t dim, code_bytes, links_at, block_bytes; /* links_at: offset of the links in a block */
    size_t bits, sift_bytes; /* bits of a sign code; bytes of a row of sift.c; 0: there are none */
    uint32_t m0;             /* 2 M */

    ev__store store;
    ev__table idmap, twins;        /* by id; living nodes by code, empty until first needed */
    ev__rotation rotation;         /* binary only */
    uint32_t *flips;               /* 2 bits, of sift.c */
    float *centre;                 /* dim; quantised only */
    int64_t trained_on, unchecked; /* vectors behind the centre; vectors added since it was last looked at */
    int32_t trainings;
    int32_t walk;   /* EV_WALK_* */
    int64_t looked; /* rows read to learn the centre, to see whether it fits, and to encode anew */
    int64_t fresh;  /* unquantised: vectors added since it was last seen whether float32 tells them apart */
    double unfit;   /* for vectors so short a better centre was looked for in vain; 0: never */
    double longest; /* unquantised, ip: no vector is longer */

    uint32_t entry;              /* EV_NONE when empty */
    int64_t live, dead;          /* vectors held; dead nodes and duplicates */
    int64_t next_id, unrepaired; /* unrepaired: nodes linked since the graph was last mended */
    int64_t built_distances, changes;
    uint32_t *free_slots; /* a stack */
    size_t free_count, free_room;
    uint64_t version; /* changes with the content; filters cache by it */
    uint64_t serial;  /* of this index in this process; filters cache by it */

    ev__rwlock lock;
    ev__mutex scratch_lock;
    ev__scratch *scratches; /* spare ones */
    void *map;              /* the mapped file, or NULL */
    size_t map_bytes;
};

/* The codes walked on. Binary vectors of up to 32 dimensions have 8-bit codes: smaller than a sign code that could tell
 * them apart. */
static inline bool ev__by_bits(const ev_index *ix) { return ix->bits && !ix->sift_bytes; }
static inline bool ev__by_bytes(const ev_index *ix) { return ix->p.quantization != EV_QUANT_NONE && !ev__by_bits(ix); }
/* Does what is kept of the vectors refine the codes? */
static inline bool ev__fine(const ev_index *ix) { return ix->p.keep_vectors == EV_VECTORS_FINE; }
static inline bool ev__sifts(const ev_index *ix) { return ix->sift_bytes != 0; }
static inline bool ev__walks_codes(const ev_index *ix) {
    return ix->p.quantization != EV_QUANT_NONE && (ix->walk == EV_WALK_CODES || ix->walk == EV_WALK_BLURRED);
}
static inline char *ev__block(const ev_index *ix, uint32_t slot) {
    return ix->store.blocks.at + (size_t)slot * ix->block_bytes;
}
static inline uint32_t *ev__links0(const ev_index *ix, uint32_t slot) {
    return (uint32_t *)(void *)(ev__block(ix, slot) + ix->links_at);
}
static inline int64_t *ev__ids_of(const ev_index *ix) { return (int64_t *)(void *)ix->store.ids.at; }
static inline uint8_t *ev__states(const ev_index *ix) { return (uint8_t *)ix->store.state.at; }
static inline uint8_t *ev__levels(const ev_index *ix) { return (uint8_t *)ix->store.level.at; }
static inline uint32_t *ev__chain(const ev_index *ix) { return (uint32_t *)(void *)ix->store.chain.at; }
static inline unsigned ev__state(const ev_index *ix, uint32_t slot) { return ev__states(ix)[slot] & EV_STATE; }
static inline bool ev__alive(const ev_index *ix, uint32_t slot) {
    unsigned state = ev__state(ix, slot);
    return state == EV_NODE || state == EV_DUPLICATE;
}
static inline size_t ev__slots(const ev_index *ix) { return ix->store.state.count; }
static inline ev__factor *ev__factor_of(const ev_index *ix, uint32_t slot) {
    return (ev__factor *)(void *)ix->store.factors.at + slot;
}
/* The float vector; NULL where none is kept. */
static inline float *ev__vector(const ev_index *ix, uint32_t slot) {
    if (ix->p.quantization == EV_QUANT_NONE) return (float *)(void *)ev__block(ix, slot);
    if (ix->p.keep_vectors != EV_VECTORS_FLOAT32) return NULL;
    return (float *)(void *)ix->store.vectors.at + (size_t)slot * ix->dim;
}
/* What refines the slot's 8-bit code, int16[dim], where anything does. */
static inline int16_t *ev__residual(const ev_index *ix, uint32_t slot) {
    return (int16_t *)(void *)ix->store.vectors.at + (size_t)slot * ix->dim;
}
static inline uint32_t *ev__links(const ev_index *ix, uint32_t slot, int level) {
    if (level == 0) return ev__links0(ix, slot);
    uint32_t at = ((const uint32_t *)(const void *)ix->store.upper_at.at)[slot];
    return (uint32_t *)(void *)ix->store.upper.at + at + (size_t)(level - 1) * (size_t)ix->p.M;
}
static inline uint32_t ev__max_links(const ev_index *ix, int level) { return level == 0 ? ix->m0 : (uint32_t)ix->p.M; }
/* next of a node's chain */
static inline uint32_t ev__next(const ev_index *ix, uint32_t slot) {
    return ix->store.chain.count ? ev__chain(ix)[slot] : EV_NONE;
}

/* ---- index.c: calls under way ---------------------------------------------------------------- */

typedef enum { EV_NO_LOCK, EV_READ, EV_WRITE } ev__lock_kind;
/* A public call that has an index's lock, on its own stack, and those of the same thread in whose callbacks it is. */
typedef struct ev__call {
    ev_index *ix;
    ev__lock_kind held;
    struct ev__call *outer;
} ev__call;
/* Take the lock, or EV_E_REENTRANT where a call of this thread on this index is under way: it would wait for itself.
 * All that belongs to the index, its spare scratches among it, is taken after this and given back before ev__leave. */
int ev__enter(ev_index *ix, ev__lock_kind kind, ev__call *call);
/* To read what stays the same during such a call; then without a lock. */
void ev__enter_to_look(ev_index *ix, ev__call *call);
void ev__leave(ev__call *call);

/* store.c */
int ev__index_make(const ev_params *params, ev_index **out); /* checked parameters, geometry, empty columns */
int ev__params_check(const ev_params *params);
/* Room for `extra` more slots in every column (free slots are counted first) and as many ids. Nothing visible changes.
 */
int ev__store_reserve(ev_index *ix, size_t extra);
/* A free or new slot; room was reserved. Its links are empty. */
uint32_t ev__slot_take(ev_index *ix);
void ev__slot_free(ev_index *ix, uint32_t slot);
/* Forget the vector and its id; the slot is dead, not free (remove.c). */
void ev__slot_drop(ev_index *ix, uint32_t slot);
int ev__chain_open(ev_index *ix);                  /* make the chain column */
void ev__links_clear(ev_index *ix, uint32_t slot); /* of all levels */
/* code, factor, what is kept of the vector and id of one slot to another */
void ev__slot_copy(ev_index *ix, uint32_t from, uint32_t to);
/* all arrays by name, for save, load, memory and compact */
typedef struct {
    const char *name;
    ev__array *array;
} ev__column;
#define EV_COLUMNS 10
#define EV_FILE_COLUMNS 9 /* the first of them; the rest is made from these */
void ev__columns(ev__store *store, ev__column out[EV_COLUMNS]);
void ev__store_free(ev__store *store);
/* Fill idmap and the free-slot stack from ids and states (after a load or a compaction). */
int ev__store_index(ev_index *ix);

/* ---- scratch: what one search or one building thread needs (scratch.c) ----------------------- */

typedef struct {
    float key;
    uint32_t slot;
} ev__hit;

typedef struct {
    ev__hit *at; /* sorted by key */
    size_t count, room;
} ev__pool;

typedef struct {
    ev__result *at; /* sorted by distance, equal ones by id */
    size_t count, room;
} ev__ranking;

/* What a walk has done with each slot, emptied by counting on: a mark below the epoch is of an earlier walk, the epoch
 * says seen, the next number expanded, its links having been read. Bits would be eight times closer together and were
 * slower: a walk marks many slots at once, and a CPU that finds two of them in one word does them one by one. */
typedef struct {
    uint16_t *at;
    size_t room;
    uint16_t epoch;
} ev__marks;
/* true when it was not seen before */
static inline bool ev__see(ev__marks *m, uint32_t slot) {
    uint16_t mark = m->at[slot];
    m->at[slot] = mark < m->epoch ? m->epoch : mark;
    return mark < m->epoch;
}
static inline void ev__expand(ev__marks *m, uint32_t slot) { m->at[slot] = (uint16_t)(m->epoch + 1); }
static inline bool ev__expanded(const ev__marks *m, uint32_t slot) { return m->at[slot] > m->epoch; }

struct ev__scratch {
    struct ev__scratch *next;
    uint64_t geometry;
    bool kept; /* as a spare even beside a small index: a search has used it, and more may come */
    ev__marks marks;
    uint32_t blind;      /* the node that walks do not see, or EV_NONE */
    ev__pool pool;       /* what a walk found */
    ev__ranking results; /* what a search returns */
    ev__hit *heap;       /* of masked walks */
    size_t heap_room;
    /* dim, dim, bits, bits, dim: the query at unit length, centred, being turned, turned; a decoded row */
    float *unit, *query, *turning, *rotated, *decoded;
    double *exact;           /* dim: the query in double, at unit length under cosine */
    double root;             /* of dim */
    double sum, least;       /* what float32 sums round off, relative to their terms; what they may take for 0 */
    double span;             /* a code's reach from the centre, in scales */
    double rate, rest;       /* ip: what they round off for each unit that a vector is long, and beside that */
    double length, off;      /* of the query; of the query minus the centre, under ip of the centre */
    double against;          /* ip: dot product of query and centre */
    const float *held;       /* the query as the index would hold it */
    void *code;              /* query code or planes */
    uint8_t *planes;         /* of a sieve */
    void *probe_a, *probe_b; /* two slots: codes, I8_FRESH, or floats, FINE */
    int8_t *fresh;           /* and of the row they are compared with */
    const void **rows;       /* EV_BATCH */
    int32_t *integers;       /* EV_BATCH */
    uint32_t *slots;         /* EV_BATCH: unvisited neighbours */
    float *keys;
    ev__hit *candidates; /* EV_BATCH: for link selection */
    uint32_t *chosen;    /* (EV_MAX_LEVEL + 1) * m0 selected links of a node under insertion */
    uint32_t chosen_count[EV_MAX_LEVEL + 1];
    size_t bytes;
    void *memory;
    ev_search_stats stats;
};
#define EV_BATCH 1024 /* more than the links of two nodes */

int ev__scratch_new(const ev_index *ix, ev__scratch **out);
void ev__scratch_free(ev__scratch *s);
size_t ev__scratch_bytes(const ev__scratch *s);
/* fit for the index as it stands now, a pool of ef, k results and, when masked, a heap */
int ev__scratch_fit(const ev_index *ix, ev__scratch *s, size_t ef, size_t k, bool masked);
void ev__new_walk(ev__scratch *s); /* nothing is seen any more but the blind node, and nothing expanded */
/* One of the index's spares, or one that small indexes share, or a new one; put it back afterwards. The calling thread
 * has the index's lock. */
int ev__scratch_borrow(ev_index *ix, ev__scratch **out);
void ev__scratch_return(ev_index *ix, ev__scratch *s);
void ev__scratch_drop_all(ev_index *ix);
/* at the making and at the end of an index */
void ev__scratch_open(void);
void ev__scratch_close(ev_index *ix);

/* ---- walk.c ---------------------------------------------------------------------------------- */

/* Which nodes may be results. allowed: bit per slot, NULL: all. Dead ones never are. */
typedef struct {
    bool on;
    const uint64_t *allowed;
} ev__mask;
static inline bool ev__slot_ok(const ev_index *ix, const ev__mask *mask, uint32_t slot) {
    return ev__alive(ix, slot) && (!mask->allowed || (mask->allowed[slot >> 6] >> (slot & 63) & 1));
}
/* the node or one of its duplicates is allowed */
bool ev__node_ok(const ev_index *ix, const ev__mask *mask, uint32_t slot);
/* From the entry down to level `bottom` + 1: the nearest node found, by greedy steps; *key is its key. */
uint32_t ev__descend(const ev_index *ix, const ev__space *space, const ev__probe *probe, int bottom, float *key,
                     ev__scratch *s);
/* The ef nearest nodes of one level into s->pool, from `start`. With a mask: the ef nearest allowed ones; false when
 * more than `budget` distances were needed (then the pool is of no use). */
bool ev__walk(const ev_index *ix, const ev__space *space, const ev__probe *probe, int level, uint32_t start,
              float start_key, size_t ef, const ev__mask *mask, int64_t budget, ev__scratch *s);
/* Is a squared distance from this node much longer than a few of its own first links, so that it lies in another
 * cluster? */
bool ev__apart(const ev_index *ix, uint32_t near, float distance, uint32_t looked_at, size_t few, ev__scratch *s);
/* After a walk of level 0: when all it found lies apart from the probe, it may have ended in the wrong one of many
 * clusters, whose members filled the pool. Then walk again from many entries, and add what is nearer. Times `square`
 * the estimated distance is a squared one. Not under ip. */
void ev__look_around(const ev_index *ix, const ev__space *space, const ev__probe *probe, float square, size_t ef,
                     const ev__mask *mask, ev__scratch *s);
/* Insert into a sorted pool of at most `limit`; the place, or SIZE_MAX when it is too far. */
size_t ev__pool_insert(ev__pool *pool, size_t limit, float key, uint32_t slot);

/* Rows that a walk is about to read, asked for a line at a time: of *slots those from `at` on. Beside them, of slots
 * just met, what is read first or along with the rows: signs, or factors. */
typedef struct {
    const uint32_t *slots, *end;
    const char *rows, *beside, *row;
    size_t stride, bytes, beside_stride, at;
} ev__fetch;
static inline ev__fetch ev__fetch_rows(const ev_index *ix, const ev__space *space, const ev__probe *probe,
                                       const uint32_t *slots, size_t n) {
    bool sifts = probe->sieve.planes != NULL;
    return (ev__fetch){.slots = slots,
                       .end = slots + n,
                       .rows = space->rows,
                       .row = n ? space->rows + *slots * space->stride : NULL,
                       .stride = space->stride,
                       .bytes = space->bytes,
                       .beside = sifts ? ix->store.sift.at : (const char *)space->factors,
                       .beside_stride = sifts ? ix->sift_bytes : sizeof(ev__factor)};
}
static inline void ev__fetch_line(ev__fetch *f) {
    if (f->slots == f->end) return;
    EV_PREFETCH_SOON(f->row + f->at);
    f->at += EV_LINE;
    if (f->at >= f->bytes && ++f->slots != f->end) {
        f->row = f->rows + *f->slots * f->stride;
        f->at = 0;
    }
}
static inline void ev__fetch_beside(const ev__fetch *f, uint32_t slot) {
    if (!f->beside) return;
    const char *row = f->beside + slot * f->beside_stride;
    for (size_t at = 0; at < f->beside_stride; at += EV_LINE) EV_PREFETCH(row + at);
}

/* ---- blind.c --------------------------------------------------------------------------------- */

/* Until s->blind is set back to EV_NONE walks do not see the vector's node, where it is there for that vector alone.
 * Returns the vector's slot, which must be no result, or EV_NONE where it is not held. */
uint32_t ev__blind(const ev_index *ix, int64_t id, ev__scratch *s);
/* After the n unseen neighbours of a node, marked as seen: had the blind node not been there, those
 * that link to it would link to another instead, to one that now hides behind it. Without such links the graph has a
 * hole just where the query is. Returns how many there are then. */
size_t ev__look_behind(const ev_index *ix, uint32_t slot, int level, uint32_t *unseen, size_t n, ev__scratch *s);

/* ---- link.c ---------------------------------------------------------------------------------- */

typedef struct {
    ev_index *ix;
    ev__space space;
    ev__spin *locks; /* striped by slot, NULL with one thread */
    ev__mutex *entry_lock;
} ev__builder;
#define EV_STRIPES 4096

/* Choose at most `most` of the candidates, in place: the first `kept`, and of the others, which are sorted, those that
 * are not nearer to a chosen one than to the centre. Returns how many. */
size_t ev__select(const ev_index *ix, const ev__space *space, ev__hit *candidates, size_t kept, size_t count,
                  size_t most, ev__scratch *s);
/* ev__select among slots, from `slot` as the centre: the chosen are s->candidates. */
size_t ev__reselect(const ev_index *ix, const ev__space *space, uint32_t slot, const uint32_t *candidates, size_t kept,
                    size_t count, size_t most, ev__scratch *s);
/* Links of `slot` chosen from candidates: the first `kept` of them, and what ev__select adds of the others. */
void ev__relink(const ev_index *ix, const ev__space *space, uint32_t slot, int level, const uint32_t *candidates,
                size_t kept, size_t count, ev__scratch *s);
/* to -> slot: appended while there is room, else the list is chosen anew. Where `slot` must be in it, it takes the last
 * place if it was not chosen. Returns whether it is in it. */
bool ev__link_back(const ev__builder *b, uint32_t to, uint32_t slot, int level, bool must, ev__scratch *s);
/* Link one slot, codes written, into the graph: it becomes a node. */
void ev__insert(ev__builder *b, uint32_t slot, ev__scratch *s);

/* ---- repair.c -------------------------------------------------------------------------------- */

/* Put a duplicate on its node's chain. */
void ev__hang(ev_index *ix, uint32_t node, uint32_t duplicate);
/* Lead all links around dead nodes and free their slots. */
int ev__bury(ev_index *ix, int32_t threads);
/* Link nodes that the entry cannot reach on level 0, and clusters that searches do not find. */
int ev__reconnect(ev_index *ix);
/* Mark in `reached` (bit per slot, zeroed) what the entry reaches on level 0; stack: room for all slots. */
void ev__reach(const ev_index *ix, uint32_t from, uint64_t *reached, uint32_t *stack);

/* ---- train.c --------------------------------------------------------------------------------- */

/* Before n rows are added: learn the centre when there is none or when it no longer fits, and encode what is held anew;
 * and see whether what is walked on tells the rows apart. */
int ev__train(ev_index *ix, int64_t n, const float *rows, int threads, ev__scratch *s);
/* The same of what is held, whether or not it has grown. */
int ev__train_again(ev_index *ix, ev__scratch *s);
/* What EV_WALK_* what is held calls for now. */
int ev__judge(ev_index *ix, int32_t *walk, ev__scratch *s);
/* Keep ix->longest true of a vector. */
void ev__note_length(ev_index *ix, const float *row);

/* ---- add.c ----------------------------------------------------------------------------------- */

/* Link all that is held anew, in the space that `walk` calls for; nothing is dead. On error all is as before. */
int ev__link_anew(ev_index *ix, int32_t walk, int threads);

/* ---- filter.c -------------------------------------------------------------------------------- */

/* The bit set over ix's slots (reader lock held) and how many of them are set; valid until ev__filter_release. */
int ev__filter_slots(ev_filter *filter, ev_index *ix, const uint64_t **bits, int64_t *count, void **hold);
void ev__filter_release(ev_filter *filter, void *hold);

/* ---- small things ---------------------------------------------------------------------------- */

static inline uint64_t ev__mix(uint64_t x) { /* splitmix64 */
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}
static inline size_t ev__round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

#endif
