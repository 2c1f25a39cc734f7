/* Comparing a query with every vector that may be a result. */
#include "index/search.h"

#include <math.h>

enum {
    FEW = 1024,      /* this many are compared by their float vectors at once: cheaper than finding and re-ranking */
    BETWEEN = 16,    /* batches after which it is asked whether to stop ... */
    SLOW_K = 4096,   /* ... or one, where as many are kept in order */
    MANY = 4096,     /* rows from which on 4-bit codes are made of them; for fewer the bound comes too late ... */
    SHARE = 4,       /* ... as for less than one in so many of them ... */
    FEW_QUERIES = 24 /* ... and for as many queries blocks are better */
};

/* A bit for each of the 64 slots around this one that are allowed and not before it. */
static uint64_t allowed_from(const ev__search_call *b, size_t at) {
    size_t end = ev__slots(&b->ix->graph.store), first = at / 64 * 64;
    uint64_t bits = b->mask.allowed ? b->mask.allowed[at / 64] : UINT64_MAX;
    if (end - first < 64) bits &= ((uint64_t)1 << (end - first)) - 1;
    return bits & (UINT64_MAX << at % 64);
}

size_t ev__scan_next(const ev__search_call *b, uint32_t excluded, size_t *at, uint32_t *slots) {
    const ev__store *store = &b->ix->graph.store;
    size_t n = 0, end = ev__slots(store);
    while (*at < end) {
        size_t next = (*at / 64 + 1) * 64;
        for (uint64_t bits = allowed_from(b, *at); bits; bits &= bits - 1) {
            uint32_t slot = (uint32_t)(*at / 64 * 64) + ev__lowest_bit(bits);
            if (!ev__alive(store, slot) || slot == excluded) continue;
            if (n == EV_SCAN_BATCH) {
                *at = slot;
                return n;
            }
            slots[n++] = slot;
        }
        *at = next;
    }
    return n;
}

static bool is_to_stop_at(const ev__reranker *r, size_t batch, size_t kept) {
    return (batch % BETWEEN == BETWEEN - 1 || kept > SLOW_K) && ev__search_is_to_stop(r->b);
}

/* What waits in r->slots. */
static void look_at_kept(ev__reranker *r, bool by_codes, double bound) {
    const ev__store *store = &r->b->ix->graph.store;
    if (by_codes && bound < INFINITY)
        r->count = ev__code_bounds_keep(store, r->query, bound, r->slots, r->count, &r->s->work);
    if (r->count) ev__rerank_flush(r);
}

/* Codes, a quarter or an eighth of the memory, rule out most rows once k are found. */
static void scan_vectors(ev__reranker *r) {
    const ev__store *store = &r->b->ix->graph.store;
    bool by_codes = ev__code_bounds(store);
    size_t batch = 0;
    if (by_codes) ev__code_bounds_init(store, r->query, &r->s->work);
    for (size_t at = 0; (r->count = ev__scan_next(r->b, r->excluded, &at, r->slots));) {
        if (is_to_stop_at(r, batch++, r->b->k)) break;
        r->s->stats.distances += (int64_t)r->count;
        look_at_kept(r, by_codes, ev__rerank_bound(r));
    }
    r->s->stats.reranked = 0; /* it is what the vectors were compared by */
}

bool ev__scan_by_nibbles(const ev__search_call *b, int64_t n) {
    ev__store *store = &b->ix->graph.store;
    return n < FEW_QUERIES && b->matches >= MANY && b->matches >= (int64_t)(ev__slots(store) / SHARE) && !b->ix->map &&
           ev__scans_vectors(b) && ev__nibbles_pay(store) && ev__nibbles_ready(store, n);
}

enum { ASKED = 8 * EV_LINE }; /* of an 8-bit code at most: the hardware follows */

/* Those of a tile that may be near enough, for the next look. */
static void keep(ev__reranker *r, const ev__tiles *t, size_t tile, uint64_t allowed) {
    const ev__store *store = &r->b->ix->graph.store;
    size_t bytes = store->quantizer.code_bytes < ASKED ? store->quantizer.code_bytes : ASKED;
    for (uint64_t kept = ev__nibbles_keep(store, t, tile) & allowed; kept; kept &= kept - 1) {
        uint32_t slot = (uint32_t)(tile * EV_TILE) + ev__lowest_bit(kept);
        if (!ev__alive(store, slot) || slot == r->excluded) continue;
        for (size_t at = 0; at < bytes; at += EV_LINE) EV_PREFETCH(ev__block(store, slot) + at);
        r->slots[r->count++] = slot;
    }
}

/* What a tile leaves is compared after the next tile, when it has come: by its 8-bit codes, and then by its vectors. */
static bool scan_nibbles(ev__reranker *r) {
    const ev__store *store = &r->b->ix->graph.store;
    ev__tiles tiles;
    size_t slots = store->nibbles.slots; /* what an ev_add has taken since is not alive */
    size_t bytes = ev__tiles_lay_out(store, 1, NULL, &tiles);
    char *memory = ev__alloc(bytes, EV_LINE);
    if (!memory) return false;
    ev__tiles_lay_out(store, 1, memory, &tiles);
    ev__nibbles_query(store, &tiles, &r->s->work);
    bool by_codes = ev__code_bounds(store);
    if (by_codes) ev__code_bounds_init(store, r->query, &r->s->work);
    double bound = INFINITY;
    for (size_t tile = 0; tile * EV_TILE < slots && !is_to_stop_at(r, tile, r->b->k); tile++) {
        uint64_t allowed = allowed_from(r->b, tile * EV_TILE);
        if (r->count) look_at_kept(r, by_codes, bound);
        if (ev__rerank_bound(r) < bound) ev__tiles_tighten(store, &tiles, 0, bound = ev__rerank_bound(r));
        if (allowed) keep(r, &tiles, tile, allowed);
    }
    look_at_kept(r, by_codes, bound);
    ev__release(memory, bytes, EV_LINE);
    r->s->stats.distances += r->b->matches;
    r->s->stats.reranked = 0;
    return true;
}

static void scan_codes(ev__reranker *r) {
    const ev_index *ix = r->b->ix;
    ev__space space = ev__search_space(&ix->graph.store);
    ev__candidates *candidates = &r->s->candidates;
    size_t ef = r->b->scan_ef < candidates->room ? r->b->scan_ef : candidates->room - 1, n;
    uint32_t slots[EV_SCAN_BATCH];
    float distances[EV_SCAN_BATCH];
    size_t batch = 0;
    candidates->count = 0;
    for (size_t at = 0; (n = ev__scan_next(r->b, r->excluded, &at, slots));) {
        if (is_to_stop_at(r, batch++, ef)) return;
        ev__approx_distances(&ix->graph.store.quantizer, &space, r->query, slots, n, distances, &r->s->work);
        for (size_t i = 0; i < n; i++) ev__candidates_insert(candidates, ef, distances[i], slots[i]);
        r->s->stats.distances += (int64_t)n;
    }
    ev__rerank_candidates(r, false);
}

bool ev__scans_vectors(const ev__search_call *b) {
    const ev__quantizer *q = &b->ix->graph.store.quantizer;
    return b->exact || (b->scan && ((b->matches <= FEW && q->keep_vectors) || !ev__searches_codes(q)));
}

void ev__scan_call(ev__reranker *r) {
    if (ev__scans_vectors(r->b)) r->limit = ev__rerank_bound(r);
    r->s->results.count = 0;
    r->count = 0;
    r->s->stats.strategy = EV_STRATEGY_EXACT;
    if (ev__scans_vectors(r->b)) {
        if (!r->b->by_nibbles || !scan_nibbles(r)) scan_vectors(r);
    } else {
        scan_codes(r);
    }
}
