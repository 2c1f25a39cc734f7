/* Comparing many queries with every vector that may be a result: each row is read once for all of them. */
#include "index/search.h"

#include <math.h>

enum {
    FEW_ROWS = 4096,           /* for which, or for rows that lie apart, a block for one query does not pay */
    MOST = 256,                /* queries at a time: their products with a tile of rows stay in the cache */
    MOST_BYTES = 1 << 23,      /* at most for so many queries, in each thread */
    MOST_ASKED = 16 * EV_LINE, /* of a row: the hardware follows */
    BETWEEN = 16               /* tiles after which it is asked whether to stop */
};

/* What a query needs for itself. The rest of its scratch is its worker's. */
typedef struct {
    ev__query query;
    ev__scratch scratch;
    ev__reranker reranker;
} member;

typedef struct {
    ev__search_call *b;
    ev__scratch *worker;
    ev__tiles tiles;
    member *members;
    size_t count, bytes;
    char *memory;
} block;

/* ---- memory ---------------------------------------------------------------------------------- */

static size_t results_of(const ev__search_call *b) {
    size_t slots = ev__slots(&b->ix->graph.store);
    return (b->k < slots ? b->k : slots) + 1;
}

/* Lay out the block's memory for so many queries; returns how many bytes that takes. */
static size_t lay_out(block *a, size_t count, char *memory) {
    const ev__store *store = &a->b->ix->graph.store;
    size_t dim = store->quantizer.dim, room = results_of(a->b);
    ev__arena arena = {memory, ev__tiles_lay_out(store, count, memory, &a->tiles)};
    a->members = ev__arena_take(&arena, count * sizeof *a->members);
    for (size_t i = 0; i < count; i++) {
        double *exact = ev__arena_take(&arena, dim * sizeof *exact);
        float *unit = ev__arena_take(&arena, dim * sizeof *unit),
              *centered = ev__arena_take(&arena, dim * sizeof *centered);
        ev__result *results = ev__arena_take(&arena, room * sizeof *results);
        if (!memory) continue;
        member *m = &a->members[i];
        *m = (member){.scratch = {.work = a->worker->work, .results = {results, 0, room}}};
        m->scratch.work.exact = exact;
        m->scratch.work.unit = unit;
        m->scratch.work.centered = centered;
    }
    return arena.used;
}

/* Is it answered by a scan that this file does as well or better? Where 8-bit codes would be ranked, they are bounds
 * here, and results are exact. */
static bool is_for_blocks(const ev__search_call *b, int64_t n) {
    const ev__store *store = &b->ix->graph.store;
    if (!b->matches || b->by_nibbles || !ev__tiles_pay(store)) return false;
    if (n < 2 && (b->mask.allowed || b->matches < FEW_ROWS)) return false;
    return ev__scans_vectors(b) || (b->scan && ev__code_bounds(store));
}

size_t ev__scan_block_most(const ev__search_call *b, int64_t n) {
    block one = {.b = (ev__search_call *)(uintptr_t)b};
    if (!is_for_blocks(b, n)) return 0;
    size_t each = lay_out(&one, 2, NULL) - lay_out(&one, 1, NULL), most = MOST_BYTES / each;
    return most < MOST ? most : MOST;
}

/* ---- queries --------------------------------------------------------------------------------- */

static void begin(block *a, int64_t row, size_t i) {
    const ev__search_call *b = a->b;
    const ev__store *store = &b->ix->graph.store;
    const ev__quantizer *q = &store->quantizer;
    member *m = &a->members[i];
    ev__workspace *w = &m->scratch.work;
    const float *given = b->queries + (size_t)row * q->dim, *vector = ev__unit(q, given, w->unit);
    m->reranker =
        (ev__reranker){.b = a->b, .query = &m->query, .s = &m->scratch, .limit = INFINITY, .excluded = EV_NONE};
    if (b->exclude_ids)
        m->reranker.excluded = ev__id_table_get(&store->id_table, ev__ids_of(store), b->exclude_ids[row]);
    ev__query_init(q, vector, &m->query, w);
    ev__exact_init(store, given, vector, w);
    ev__tiles_query(store, &a->tiles, i, w);
}

/* The rows that were kept of the tile before are compared by their vectors, which were asked for then; so the next tile
 * is held against a bound that knows of them. */
static void flush(block *a, size_t i) {
    ev__reranker *r = &a->members[i].reranker;
    if (!r->count) return;
    double before = ev__rerank_bound(r);
    ev__rerank_flush(r);
    double bound = ev__rerank_bound(r);
    if (bound < before) ev__tiles_tighten(&a->b->ix->graph.store, &a->tiles, i, bound);
}

static void keep(block *a, size_t i, const uint32_t *slots) {
    const ev__store *store = &a->b->ix->graph.store;
    ev__reranker *r = &a->members[i].reranker;
    for (uint64_t kept = ev__tiles_keep(store, &a->tiles, i); kept; kept &= kept - 1) {
        uint32_t slot = slots[ev__lowest_bit(kept)];
        if (slot == r->excluded) continue;
        ev__exact_prefetch(store, slot);
        r->slots[r->count++] = slot;
    }
}

/* ---- the block ------------------------------------------------------------------------------- */

/* Rows that lie apart are asked for while the tile before is compared; those in order the hardware sees coming. */
static void ask_for(const block *a, const uint32_t *slots, size_t n) {
    const ev__store *store = &a->b->ix->graph.store;
    size_t bytes = store->quantizer.code_bytes;
    if (!a->b->mask.allowed) return;
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at < bytes && at < MOST_ASKED; at += EV_LINE) EV_PREFETCH(ev__block(store, slots[i]) + at);
}

/* Returns how many rows were compared. */
static int64_t scan(block *a) {
    const ev__store *store = &a->b->ix->graph.store;
    uint32_t slots[2][EV_SCAN_BATCH];
    int64_t rows = 0;
    size_t at = 0, tile = 0, n = ev__scan_next(a->b, EV_NONE, &at, slots[0]), next;
    for (; n; n = next, tile++) {
        const uint32_t *now = slots[tile % 2];
        if (tile % BETWEEN == BETWEEN - 1 && ev__search_is_to_stop(a->b)) break;
        next = ev__scan_next(a->b, EV_NONE, &at, slots[(tile + 1) % 2]);
        ask_for(a, slots[(tile + 1) % 2], next);
        ev__tiles_rows(store, &a->tiles, now, n);
        for (size_t i = 0; i < a->count; i++) {
            flush(a, i);
            keep(a, i, now);
        }
        rows += (int64_t)n;
    }
    for (size_t i = 0; i < a->count; i++) flush(a, i);
    return rows;
}

bool ev__scan_block(ev__search_call *b, int64_t from, int64_t to, ev__scratch *s) {
    const ev__store *store = &b->ix->graph.store;
    block a = {.b = b, .worker = s, .count = (size_t)(to - from)};
    uint32_t some[EV_SCAN_BATCH];
    double start = ev__now();
    a.bytes = lay_out(&a, a.count, NULL);
    if (!(a.memory = ev__alloc(a.bytes, EV_LINE))) return false;
    lay_out(&a, a.count, a.memory);
    size_t first = 0, n = ev__scan_next(b, EV_NONE, &first, some);
    ev__tiles_begin(store, &a.tiles, some, n);
    for (size_t i = 0; i < a.count; i++) begin(&a, from + (int64_t)i, i);
    int64_t rows = scan(&a);
    for (size_t i = 0; i < a.count; i++) ev__rerank_write(b, &a.members[i].scratch, from + (int64_t)i);
    s->stats = (ev_search_stats){.queries = s->stats.queries + (int64_t)a.count,
                                 .strategy = EV_STRATEGY_EXACT,
                                 .distances = rows,
                                 .seconds = (ev__now() - start) / (double)a.count};
    ev__release(a.memory, a.bytes, EV_LINE);
    return true;
}
