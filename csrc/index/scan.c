/* Comparing a query with every vector that may be a result. */
#include "index/search.h"

#include <math.h>

enum {
    FEW = 1024,    /* this many are compared by their float vectors at once: cheaper than finding and re-ranking */
    BETWEEN = 16,  /* batches after which it is asked whether to stop ... */
    SLOW_K = 4096, /* ... or one, where as many are kept in order */
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

/* Codes, a quarter or an eighth of the memory, rule out most rows once k are found. */
static void scan_vectors(ev__reranker *r) {
    const ev__store *store = &r->b->ix->graph.store;
    bool by_codes = ev__code_bounds(store);
    size_t batch = 0;
    if (by_codes) ev__code_bounds_init(store, r->query, &r->s->work);
    for (size_t at = 0; (r->count = ev__scan_next(r->b, r->excluded, &at, r->slots));) {
        if (is_to_stop_at(r, batch++, r->b->k)) break;
        double bound = ev__rerank_bound(r);
        r->s->stats.distances += (int64_t)r->count;
        if (by_codes && bound < INFINITY)
            r->count = ev__code_bounds_keep(store, r->query, bound, r->slots, r->count, &r->s->work);
        if (r->count) ev__rerank_flush(r);
    }
    r->s->stats.reranked = 0; /* it is what the vectors were compared by */
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
    r->s->results.count = 0;
    r->count = 0;
    r->s->stats.strategy = EV_STRATEGY_EXACT;
    if (ev__scans_vectors(r->b))
        scan_vectors(r);
    else
        scan_codes(r);
}
