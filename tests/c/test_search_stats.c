/* What a search tells of itself where ev_search_params.stats points to: the same as its context tells. */
#include "check.h"
#include "index/index.h"

#include <stdlib.h>

enum { DIM = 24, ROWS = 3000, QUERIES = 40, K = 5, UNTOUCHED = 0x55 };

static float rows[ROWS * DIM], queries[QUERIES * DIM];
static int64_t found[QUERIES * K];
static float got[QUERIES * K];
static ev_index *ix;

static void fill(float *out, int64_t count, uint64_t seed) {
    for (int64_t i = 0; i < count; i++) out[i] = (float)(ev__mix(seed + (uint64_t)i) % 2001) / 1000.0f - 1.0f;
}

static bool is_untouched(const ev_search_stats *stats) {
    const unsigned char *bytes = (const unsigned char *)stats;
    for (size_t i = 0; i < sizeof *stats; i++)
        if (bytes[i] != UNTOUCHED) return false;
    return true;
}

/* Of the same search: time aside, and the number of searches that its scratch had made before. */
static bool are_same(const ev_search_stats *a, const ev_search_stats *b) {
    return a->visited == b->visited && a->distances == b->distances && a->prefiltered == b->prefiltered &&
           a->reranked == b->reranked && a->strategy == b->strategy && a->ef == b->ef;
}

static int search(int64_t n, const ev_search_params *p) { return ev_search(ix, n, queries, p, found, got); }

/* Asked with a context alone, with stats alone and with both; of several queries the last one counts. */
static void check_way(ev_search_params p, int64_t n, int32_t strategy) {
    ev_search_stats own, alone, both;
    ev_context *context;
    CHECK(ev_context_new(ix, &context) == EV_OK);
    p.threads = 1;
    p.context = context;
    p.stats = NULL;
    CHECK(search(n, &p) == EV_OK);
    ev_context_stats(context, &own);
    CHECK(own.strategy == strategy && own.queries == n && own.distances > 0);
    CHECK(strategy == EV_STRATEGY_EXACT || (own.visited > 0 && own.ef >= K));

    int64_t ids[QUERIES * K];
    memcpy(ids, found, sizeof ids);
    memset(&alone, UNTOUCHED, sizeof alone);
    p.context = NULL;
    p.stats = &alone;
    CHECK(search(n, &p) == EV_OK && !memcmp(ids, found, (size_t)n * K * sizeof *ids));
    CHECK(are_same(&alone, &own) && alone.seconds >= 0 && alone.seconds < 1000);

    memset(&both, UNTOUCHED, sizeof both);
    p.context = context;
    p.stats = &both;
    CHECK(search(n, &p) == EV_OK);
    ev_context_stats(context, &own);
    CHECK(are_same(&both, &own) && are_same(&both, &alone));
    CHECK(both.queries == own.queries && own.queries == 2 * n && both.seconds == own.seconds);

    p.context = NULL;
    p.stats = NULL; /* nobody is told, and nothing else changes */
    CHECK(search(n, &p) == EV_OK && !memcmp(ids, found, (size_t)n * K * sizeof *ids));
    ev_search_stats after;
    ev_context_stats(context, &after);
    CHECK(are_same(&after, &own) && after.queries == own.queries);
    ev_context_free(context);
}

static void check_kind(int32_t quantization) {
    int64_t some[ROWS / 2];
    for (int64_t i = 0; i < ROWS / 2; i++) some[i] = 2 * i;
    ev_params params = {DIM, EV_METRIC_L2, quantization, 8, 60, 40, 1, 3};
    ev_filter *filter;
    CHECK(ev_new(&params, &ix) == EV_OK);
    CHECK(ev_add(ix, ROWS, rows, NULL, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_filter_new(ROWS / 2, some, &filter) == EV_OK);
    for (int64_t n = 1; n <= QUERIES; n += QUERIES - 1) {
        check_way((ev_search_params){.k = K}, n, EV_STRATEGY_GRAPH);
        check_way((ev_search_params){.k = K, .ef = 100}, n, EV_STRATEGY_GRAPH);
        check_way((ev_search_params){.k = K, .ef = 5, .filter = filter}, n, EV_STRATEGY_GRAPH_FILTERED);
        check_way((ev_search_params){.k = K, .exact = 1}, n, EV_STRATEGY_EXACT);
        check_way((ev_search_params){.k = K, .exact = 1, .filter = filter}, n, EV_STRATEGY_EXACT);
    }
    ev_filter_free(filter);
}

/* Who shares queries out to several threads, or is refused, is told nothing. */
static void check_what_tells_nothing(void) {
    ev_search_stats stats;
    memset(&stats, UNTOUCHED, sizeof stats);
    ev_search_params p = {.k = K, .threads = 4, .stats = &stats};
    CHECK(search(QUERIES, &p) == EV_OK && is_untouched(&stats) == (bool)EV_THREADS);
    memset(&stats, UNTOUCHED, sizeof stats);
    CHECK(search(0, &p) == EV_OK && is_untouched(&stats));
    p.k = 0;
    CHECK(search(1, &p) == EV_E_PARAM && is_untouched(&stats));
}

int main(void) {
    fill(rows, ROWS * DIM, 1);
    fill(queries, QUERIES * DIM, 1000000);
    for (int32_t quantization = 0; quantization < 3; quantization++) {
        check_kind(quantization);
        check_what_tells_nothing();
        ev_free(ix);
    }
    return check_summary();
}
