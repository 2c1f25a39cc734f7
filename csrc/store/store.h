/* Slots: where everything about a vector lies.
 *
 * A slot is the place of one vector, numbered from 0, and is in one of the states below. Nodes form the graph; a vector
 * whose codes equal a node's becomes that node's duplicate: it hangs in the node's list of duplicates and has no links,
 * so that any number of copies cost the graph nothing. A removed node goes on routing (dead) until `repair` has led its
 * neighbors around it; then it is free. */
#ifndef EV_STORE_H
#define EV_STORE_H

#include "base/hash_table.h"
#include "quantize/quantize.h"

enum { EV_FREE = 0, EV_NODE = 1, EV_DUPLICATE = 2, EV_DEAD_NODE = 3, EV_DEAD_DUPLICATE = 4 };
#define EV_STATE 7u       /* the bits of a state byte that hold one of these */
#define EV_SAME_VECTOR 8u /* on a duplicate: its float vector too equals its node's */

/* The columns of a slot. A block is [code, or float vector when unquantized | 2 M links of level 0], a multiple of 64
 * bytes. */
typedef struct {
    ev__array blocks;
    ev__array factors;  /* ev__factor; quantized only */
    ev__array vectors;  /* float[dim], or int16[dim] that refine 8-bit codes; quantized with keep_vectors only. Where
                         * these lie in files (paged.h): uint32, the row's number */
    ev__array ids;      /* int64 */
    ev__array state;    /* uint8: EV_FREE.. | EV_SAME_VECTOR */
    ev__array level;    /* uint8: fixed when the slot is made */
    ev__array upper_at; /* uint32: where in `upper` the links of levels 1.. begin */
    ev__array upper;    /* uint32: M per level */
    ev__array next_duplicate; /* uint32: next duplicate of the node, or EV_NONE. Empty until the first duplicate */
    ev__array
        prefilter; /* rows of prefilter.c, made from the codes and not in files; 8-bit codes of some length only */
} ev__columns;

typedef struct ev__shadow ev__shadow;
typedef struct ev__paged ev__paged;

/* 4-bit codes of all slots, in memory alone (nibbles.c). */
typedef struct {
    uint32_t busy;    /* atomic: of who makes them, to whom version and asked belong */
    int64_t made;     /* atomic: 1 + the version of the store they are made of; 0: of none */
    int64_t bytes;    /* atomic */
    uint64_t version; /* of which they were asked for ... */
    int64_t asked;    /* ... so often */
    size_t slots, tile_bytes;
    float *center;        /* dim: what the codes are made around */
    char *memory, *tiles; /* of a tile: ev__tile_limits, then its numbers as kernels.h has them */
} ev__nibbles;

typedef struct {
    ev__quantizer quantizer;
    ev__columns columns;
    ev__paged *paged;               /* NULL, or paged.c's: what is kept of vectors lies in files */
    ev__shadow *shadow;             /* NULL, or shadow.c's: the same around another center, being made */
    size_t links_at, block_bytes;   /* links_at: offset of the links in a block */
    uint32_t M, m0;                 /* m0: 2 M */
    uint64_t seed;                  /* of the levels */
    ev__table id_table, duplicates; /* by id; living nodes by code, empty until first needed */
    size_t tabled;                  /* living nodes of so many slots have been put into `duplicates` */
    int64_t live, dead;             /* vectors held; dead nodes and duplicates */
    int64_t linked_ahead;           /* nodes of an ev_add under way: until it ends their state is that of dead ones */
    uint32_t *free_slots;           /* a stack */
    size_t free_count, free_room;
    uint64_t version; /* changes with the content; filters cache by it */
    ev__nibbles nibbles;
} ev__store;

static inline char *ev__block(const ev__store *store, uint32_t slot) {
    return store->columns.blocks.at + (size_t)slot * store->block_bytes;
}
static inline uint32_t *ev__links0(const ev__store *store, uint32_t slot) {
    return (uint32_t *)(void *)(ev__block(store, slot) + store->links_at);
}
static inline int64_t *ev__ids_of(const ev__store *store) { return (int64_t *)(void *)store->columns.ids.at; }
static inline uint8_t *ev__states(const ev__store *store) { return (uint8_t *)store->columns.state.at; }
static inline uint8_t *ev__levels(const ev__store *store) { return (uint8_t *)store->columns.level.at; }
static inline uint32_t *ev__next_duplicates(const ev__store *store) {
    return (uint32_t *)(void *)store->columns.next_duplicate.at;
}
static inline unsigned ev__state(const ev__store *store, uint32_t slot) { return ev__states(store)[slot] & EV_STATE; }
static inline bool ev__alive(const ev__store *store, uint32_t slot) {
    unsigned state = ev__state(store, slot);
    return state == EV_NODE || state == EV_DUPLICATE;
}
static inline size_t ev__slots(const ev__store *store) { return store->columns.state.count; }
static inline ev__factor *ev__factor_of(const ev__store *store, uint32_t slot) {
    return (ev__factor *)(void *)store->columns.factors.at + slot;
}
/* The float vector; NULL where none is kept in memory. */
static inline float *ev__vector(const ev__store *store, uint32_t slot) {
    if (store->quantizer.quantization == EV_QUANT_NONE) return (float *)(void *)ev__block(store, slot);
    if (store->quantizer.keep_vectors != EV_VECTORS_FLOAT32 || store->paged) return NULL;
    return (float *)(void *)store->columns.vectors.at + (size_t)slot * store->quantizer.dim;
}
/* What refines the slot's code, int16[dim]; NULL where nothing in memory does. */
static inline int16_t *ev__residual(const ev__store *store, uint32_t slot) {
    if (!store->quantizer.codec->refined || store->paged) return NULL;
    return (int16_t *)(void *)store->columns.vectors.at + (size_t)slot * store->quantizer.dim;
}
static inline uint32_t *ev__links(const ev__store *store, uint32_t slot, int level) {
    if (level == 0) return ev__links0(store, slot);
    uint32_t at = ((const uint32_t *)(const void *)store->columns.upper_at.at)[slot];
    return (uint32_t *)(void *)store->columns.upper.at + at + (size_t)(level - 1) * (size_t)store->M;
}
static inline uint32_t ev__max_links(const ev__store *store, int level) {
    return level == 0 ? store->m0 : (uint32_t)store->M;
}
/* the next duplicate of the same node */
static inline uint32_t ev__next_duplicate(const ev__store *store, uint32_t slot) {
    return store->columns.next_duplicate.count ? ev__next_duplicates(store)[slot] : EV_NONE;
}
/* From a node along its duplicates. In a file that was not verified they may lead anywhere and round in circles; this
 * ends all the same (Brent, 1980: what is met again is where the walk was at a power of two of steps). */
typedef struct {
    uint32_t slot, met;
    size_t steps, next_power;
} ev__chain;
static inline ev__chain ev__chain_from(uint32_t node) { return (ev__chain){node, node, 0, 1}; }
static inline void ev__chain_step(const ev__store *store, ev__chain *chain) {
    uint32_t next = ev__next_duplicate(store, chain->slot);
    chain->slot = next < ev__slots(store) && next != chain->met ? next : EV_NONE;
    if (++chain->steps == chain->next_power) {
        chain->next_power *= 2;
        chain->met = chain->slot;
    }
}
static inline bool ev__is_node(const ev__store *store, uint32_t slot) {
    unsigned state = ev__state(store, slot);
    return state == EV_NODE || state == EV_DEAD_NODE;
}
/* Which nodes may be results. allowed: bit per slot, NULL: all. Dead ones never are. */
typedef struct {
    bool on;
    const uint64_t *allowed;
} ev__mask;
static inline bool ev__slot_ok(const ev__store *store, const ev__mask *mask, uint32_t slot) {
    return ev__alive(store, slot) && (!mask->allowed || ev__bit(mask->allowed, slot));
}
/* the node or one of its duplicates is allowed */
bool ev__node_ok(const ev__store *store, const ev__mask *mask, uint32_t slot);

/* ---- slots.c --------------------------------------------------------------------------------- */

/* Geometry and empty columns; the quantizer is laid out. */
void ev__store_lay_out(ev__store *store, uint32_t M, uint64_t seed);
/* Room for `extra` more slots in every column (free slots are counted first) and as many ids. Nothing visible changes.
 */
int ev__store_reserve(ev__store *store, size_t extra);
/* What that would change in the bytes held, as ev__array_plan has it. */
void ev__store_plan(ev__store *store, size_t extra, size_t growth, int64_t *held, int64_t *peak);
/* A free or new slot; room was reserved. Its links are empty. */
uint32_t ev__slot_take(ev__store *store);
void ev__slot_free(ev__store *store, uint32_t slot);
/* That in two steps, where the table of codes does not know the slot: its bytes are as if it had never been used, so
 * that files do not tell what was removed; and it can be taken again. */
void ev__slot_blank(ev__store *store, uint32_t slot);
void ev__slot_give_back(ev__store *store, uint32_t slot);
/* Forget the vector and its id; the slot is dead, not free. */
void ev__slot_drop(ev__store *store, uint32_t slot);
int ev__duplicates_open(ev__store *store);             /* make the column of next duplicates */
void ev__links_clear(ev__store *store, uint32_t slot); /* of all levels */
/* code, factor, what is kept of the vector and id of one slot to another */
void ev__slot_copy(ev__store *store, uint32_t from, uint32_t to);
/* all arrays by name, for save, load, memory and compact */
typedef struct {
    const char *name;
    ev__array *array;
} ev__column;
#define EV_COLUMNS 10
#define EV_FILE_COLUMNS 9 /* the first of them; the rest is made from these */
void ev__list_columns(ev__columns *columns, ev__column out[EV_COLUMNS]);
void ev__columns_free(ev__columns *columns);
void ev__store_free(ev__store *store);
/* Fill id_table and the free-slot stack from ids and states (after a load or a compaction). */
int ev__store_index(ev__store *store);

/* ---- vectors.c ------------------------------------------------------------------------------- */

/* All that a slot holds of a vector (normalized under cosine): code and factor, the vector or what refines the code,
 * the row of prefilter.c. */
void ev__vector_write(const ev__store *store, uint32_t slot, const float *vector, ev__workspace *w);
/* The same of a slot that holds the vector already, or whose store shares it with another: float vectors stay. */
void ev__vector_encode(const ev__store *store, uint32_t slot, const float *vector, ev__workspace *w);
/* The vector as exactly as the slot holds it: its own memory, or buffer[dim]. */
const float *ev__vector_read(const ev__store *store, uint32_t slot, float *buffer, ev__workspace *w);
/* Do two slots with the same code and factor hold the same vector? */
bool ev__vector_same(const ev__store *store, uint32_t a, uint32_t b);
/* The row of prefilter.c that goes with a slot's code; is it what it should be? */
void ev__prefilter_write(const ev__store *store, uint32_t slot, ev__workspace *w);
bool ev__prefilter_ok(const ev__store *store, uint32_t slot, ev__workspace *w);
/* Of the vectors as they are kept. */
ev__space ev__float_space(const ev__store *store);
ev__space ev__search_space(const ev__store *store);
/* The space graphs are built in. codes/factors: the 8-bit codes of a binary index made for a large build, or NULL. */
ev__space ev__build_space(const ev__store *store, const int8_t *codes, const ev__factor *factors);
/* Of slots among each other by what is walked on, of sign codes by an estimate. */
ev__space ev__code_space(const ev__store *store);

/* ---- shadow.c ---------------------------------------------------------------------------------- */

/* Make a shadow copy around another center, of which no slot is encoded yet, or EV_E_NOMEM. One that there was goes. */
int ev__shadow_begin(ev__store *store, const float *center);
/* Encode up to `most` slots more of what is held, and tell how many vectors that were; on error it is as it was. */
int ev__shadow_advance(ev__store *store, size_t most, int64_t *encoded, ev__workspace *w);
/* The same by several threads, each other slots, and then ev__shadow_filled; without a table of codes. */
int64_t ev__shadow_encode(const ev__store *store, size_t from, size_t to, ev__workspace *w);
void ev__shadow_filled(ev__store *store);
bool ev__shadow_is_whole(const ev__store *store);
/* It takes the place of what is held, which goes. */
void ev__shadow_swap(ev__store *store);
void ev__shadow_drop(ev__store *store); /* NULL is allowed */
size_t ev__shadow_bytes(const ev__store *store);
/* What is to be done there when it has been done to what is held; nothing where the shadow copy has not come to the
 * slot. */
void ev__shadow_write(const ev__store *store, uint32_t slot, const float *vector, ev__workspace *w);
void ev__shadow_blank(const ev__store *store, uint32_t slot);
void ev__shadow_put(ev__store *store, uint32_t node);
void ev__shadow_remove(ev__store *store, uint32_t slot);
int ev__shadow_reserve(ev__store *store, size_t extra); /* of its table of codes */
void ev__shadow_link(const ev__store *store, uint32_t slot);
/* After level 0 of a node has other links. */
static inline void ev__links0_changed(const ev__store *store, uint32_t slot) {
    if (EV_UNLIKELY(store->shadow != NULL)) ev__shadow_link(store, slot);
}

/* ---- exact.c --------------------------------------------------------------------------------- */

/* A query's final distance to what ev__vector_read says of a slot, in double; where only signs are kept, what they
 * estimate. Under ip it is minus the dot product: next to 1, small ones would be lost. error: how far `distance` may
 * be from that; 0 says that it is that. */
typedef struct {
    double distance, error;
    uint32_t slot;
} ev__result;
/* Before the others: the query as it was given, and as the index would hold it. */
void ev__exact_init(const ev__store *store, const float *given, const float *query, ev__workspace *w);
/* Of m slots, at most 64, summed in float32: those whose distance may be within the bound; returns how many. */
size_t ev__exact_distances(const ev__store *store, const ev__query *query, const uint32_t *slots, size_t m,
                           double bound, ev__result *results, ev__workspace *w);
/* How far a float32 distance may be off. */
double ev__exact_error(const ev__store *store, uint32_t slot, double distance, const ev__workspace *w);
/* In double: nothing that was not exact before. */
void ev__exact_in_double(const ev__store *store, ev__result *result, ev__workspace *w);
/* Do codes tell which vectors cannot be within a bound? With the query's code, before the other; of m slots, at most
 * 64, it leaves those that may be, in their order, and returns how many. */
bool ev__code_bounds(const ev__store *store);
void ev__code_bounds_init(const ev__store *store, const ev__query *query, ev__workspace *w);
size_t ev__code_bounds_keep(const ev__store *store, const ev__query *query, double bound, uint32_t *slots, size_t m,
                            ev__workspace *w);
/* What a caller is told: 0 for what the index could not tell from the query. */
float ev__exact_shown(const ev__store *store, const ev__result *result);
/* Ask for what that will read beside the code, which a walk has just read. Float vectors the hardware fetches itself.
 */
void ev__exact_prefetch(const ev__store *store, uint32_t slot);

/* ---- tiles.c --------------------------------------------------------------------------------- */

typedef struct {
    double coded2, missed;               /* as in ev__workspace */
    double length, against, rest, least; /* likewise; length: 1 where that is 0 */
    ev__tile_test test;                  /* of the bound as it stands */
} ev__tile_query;
/* Queries, and the rows that they are compared with, at most EV_TILE at a time. */
typedef struct {
    ev__tile_queries queries;
    int8_t *codes; /* of the queries */
    int32_t *sums;
    ev__tile_query *query;
    int32_t *products; /* [queries][EV_TILE] */
    void *room;
    bool makes;    /* the rows' codes, around the center */
    int most;      /* integers of queries lie in [-most, most] */
    float *center; /* dim */
    int8_t *made;  /* EV_TILE * dim */
    ev__tile_limits limits;
    uint64_t mask; /* a bit for each row */
} ev__tiles;
/* Is there anything to compare so? */
bool ev__tiles_pay(const ev__store *store);
/* Lay out the memory for so many queries; returns how many bytes that takes. memory: NULL to ask. */
size_t ev__tiles_lay_out(const ev__store *store, size_t count, char *memory, ev__tiles *t);
/* Before all else; slots: some of the rows, at most EV_TILE. Then each query, after ev__exact_init. */
void ev__tiles_begin(const ev__store *store, ev__tiles *t, const uint32_t *slots, size_t m);
void ev__tiles_query(const ev__store *store, ev__tiles *t, size_t at, ev__workspace *w);
/* From now on that query looks for nothing beyond the bound. */
void ev__tiles_tighten(const ev__store *store, ev__tiles *t, size_t at, double bound);
/* Compare all queries with the next m rows; then: which of them may be within a query's bound, a bit each. */
void ev__tiles_rows(const ev__store *store, ev__tiles *t, const uint32_t *slots, size_t m);
uint64_t ev__tiles_keep(const ev__store *store, const ev__tiles *t, size_t at);

/* ---- nibbles.c ------------------------------------------------------------------------------- */

#define EV_NIBBLES_DUE 8 /* queries of an index that stays as it is, after which it pays to make them */

/* Is there anything to make them of, and a kernel to compare them by? */
bool ev__nibbles_pay(const ev__store *store);
/* So many queries are to be answered; are there 4-bit codes of all that is held? Makes them when they are due, unless
 * there is no memory or the call is to stop. Then it stays true while the index does not change. */
bool ev__nibbles_ready(ev__store *store, int64_t queries);
/* In place of ev__tiles_begin and ev__tiles_query, of the one query there is. */
void ev__nibbles_query(const ev__store *store, ev__tiles *t, ev__workspace *w);
/* Which of the slots from 64 * tile on may be within the bound, if they are alive: a bit each. */
uint64_t ev__nibbles_keep(const ev__store *store, const ev__tiles *t, size_t tile);
static inline size_t ev__nibbles_bytes(const ev__nibbles *n) { return (size_t)ev__atomic_load64(&n->bytes); }
void ev__nibbles_free(ev__nibbles *n);

/* ---- id_table.c, code_table.c, duplicates.c -------------------------------------------------- */

int ev__id_table_reserve(ev__table *map, const int64_t *ids, size_t count);
uint32_t ev__id_table_get(const ev__table *map, const int64_t *ids, int64_t id);
/* Ask for what a get will read: the table's cell; then the id that its first cell names. */
void ev__id_table_prefetch(const ev__table *map, int64_t id);
void ev__id_table_prefetch_id(const ev__table *map, const int64_t *ids, int64_t id);
void ev__id_table_put(ev__table *map, const int64_t *ids, int64_t id, uint32_t slot); /* room was reserved; replaces */
void ev__id_table_remove(ev__table *map, const int64_t *ids, int64_t id);
void ev__id_table_free(ev__table *map);

/* The node in the table whose code and factor equal the slot's, or EV_NONE. */
uint32_t ev__code_table_find(const ev__store *store, uint32_t slot);
void ev__code_table_put(ev__store *store, uint32_t node);
void ev__code_table_remove(ev__store *store, uint32_t slot); /* nothing where it is not in the table */
int ev__code_table_reserve(ev__store *store, size_t nodes);  /* room for so many in all */

/* The same, of living nodes, in the shadow copy's table too. */
uint32_t ev__duplicates_find(const ev__store *store, uint32_t slot);
void ev__duplicates_put(ev__store *store, uint32_t node);    /* room was reserved */
void ev__duplicates_remove(ev__store *store, uint32_t slot); /* nothing where it is not in the table */
int ev__duplicates_reserve(ev__store *store, size_t extra);  /* for so many more, and what is yet to be filled in */
void ev__duplicates_plan(const ev__store *store, size_t extra, int64_t *held, int64_t *peak); /* as ev__array_plan */
/* Look at so many slots more of those that were there before there was a table. Room was reserved; false: stopped. */
bool ev__duplicates_fill(ev__store *store, size_t most);
void ev__duplicates_free(ev__store *store); /* and of the shadow copy, which goes by them */
/* Put a duplicate into its node's list. */
void ev__attach_duplicate(ev__store *store, uint32_t node, uint32_t duplicate);

#endif
