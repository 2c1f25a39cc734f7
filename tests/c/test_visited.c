/* The slots that a walk has met, as marks and as a hash set that grows, against a plain array; and walks with either.
 */
#include "check.h"
#include "edgevec_test.h"
#include "index/index.h"

#include <stdlib.h>

enum { SLOTS = 1 << 20, FEW_SLOTS = 1000, MET = 4096 };
enum { DIM = 8, ROWS = 20000, QUERIES = 40, K = 10, HASHED = 1, MARKED = 1 << 30 };

static uint8_t plain[SLOTS];
static ev__visited visited;

static void clear(void) {
    memset(plain, 0, sizeof plain);
    ev__visited_clear(&visited);
}

/* Not rand(), of whose numbers some systems have no more than 32,768. */
static uint64_t draw(void) {
    static uint64_t drawn;
    return ev__mix(drawn++);
}

static uint32_t some_slot(uint32_t slots) { return (uint32_t)(draw() % slots); }

/* Of `among` slots from `first` on, a few to every one of them met, some often. Returns whether all was as expected. */
static bool walk(uint32_t first, uint32_t among, size_t steps) {
    bool right = true;
    for (size_t i = 0; i < steps; i++) {
        uint32_t slot = first + some_slot(among);
        right &= ev__visit(&visited, slot) == !plain[slot];
        plain[slot] = 1;
    }
    return right;
}

/* Nothing that was met is new, and nothing else is seen. */
static bool holds_all(void) {
    bool right = true;
    for (uint32_t slot = 0; slot < visited.slots; slot++) right &= !plain[slot] || !ev__visit(&visited, slot);
    for (uint32_t slot = 0; slot < visited.slots; slot += 997) right &= plain[slot] || ev__visit(&visited, slot);
    return right;
}

static void check_marks(void) {
    CHECK(ev__visited_fit(&visited, FEW_SLOTS, FEW_SLOTS + 24, 64) == EV_OK && !visited.hashed);
    CHECK(ev__visited_bytes(&visited) == FEW_SLOTS + 24);
    for (int round = 0; round < 2000; round++) { /* epochs run out */
        ev__visited_clear(&visited);
        uint32_t slot = some_slot(FEW_SLOTS);
        CHECK(ev__visit(&visited, slot) && !ev__visit(&visited, slot));
    }
    clear();
    CHECK(walk(0, FEW_SLOTS, 3000) && holds_all());
}

/* Walks that meet what was foreseen, more, and far more; near slots and far ones. */
static void check_hashed(void) {
    for (int round = 0; round < 60; round++) {
        uint32_t among = 1u << (6 + draw() % 12), first = some_slot(SLOTS - among);
        CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, MET) == EV_OK && visited.hashed);
        CHECK(visited.bucket_count * EV_BUCKET == MET);
        clear();
        CHECK(walk(first, among, among) && walk(0, SLOTS, among / 8));
        CHECK(!visited.full && (visited.hashed ? visited.used <= visited.bucket_count * EV_BUCKET : among > MET));
        CHECK(holds_all());
        CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, 64) == EV_OK && visited.hashed); /* fewer, in the same memory */
        clear();
        CHECK(walk(first, 256, 500) && holds_all());
    }
}

/* One that meets nearly all becomes marks; one that is to, begins so. */
static void check_becoming_marks(void) {
    CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, MET) == EV_OK && visited.hashed);
    clear();
    CHECK(walk(0, SLOTS, SLOTS) && !visited.hashed && holds_all());
    CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, SLOTS / 2) == EV_OK && !visited.hashed);
    CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, MET) == EV_OK && visited.hashed);
}

/* Slots of one bucket, many times what it holds: they go into the next ones, around the end. */
static void check_collisions(void) {
    CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, MET) == EV_OK);
    clear();
    uint32_t slots[64];
    size_t n = 0;
    for (uint32_t slot = 0; slot < SLOTS && n < 64; slot++)
        if (ev__bucket_of(&visited, slot) == visited.bucket_count - 1) slots[n++] = slot;
    CHECK(n == 64);
    for (size_t i = 0; i < n; i++) CHECK(ev__visit(&visited, slots[i]));
    for (size_t i = 0; i < n; i++) CHECK(!ev__visit(&visited, slots[i]));
    CHECK(visited.used == n && !visited.full);
}

/* Without memory to grow it is filled to the last place. Then it is full, and says so; what it has met it still knows,
 * and the next walk grows it. */
static void check_no_memory(void) {
    ev__visited_free(&visited);
    CHECK(ev__visited_bytes(&visited) == 0);
    ev_fault_alloc(1);
    CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, MET) == EV_E_NOMEM);
    CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, MET) == EV_OK);
    clear();
    ev_fault_alloc(1);
    size_t taken = 0;
    for (uint32_t slot = 0; slot < 2 * MET; slot++) {
        bool new = ev__visit(&visited, slot);
        plain[slot] = new;
        taken += new;
    }
    CHECK(taken == MET && visited.full && visited.used == MET);
    for (uint32_t slot = 0; slot < 2 * MET; slot++) CHECK(!ev__visit(&visited, slot));
    CHECK(ev__visited_fit(&visited, SLOTS, SLOTS, MET) == EV_OK);
    clear();
    CHECK(!visited.full && walk(0, 2 * MET, 4 * MET) && !visited.full && holds_all());
}

/* ---- walks ----------------------------------------------------------------------------------- */

static float rows[ROWS * DIM];

typedef struct {
    int64_t ids[QUERIES * K];
    float distances[QUERIES * K];
} answers;

static void ask(ev_index *ix, int32_t ef, ev_filter *filter, answers *a) {
    static int64_t own[QUERIES];
    for (int64_t i = 0; i < QUERIES; i++) own[i] = i;
    ev_search_params p = {.k = K, .ef = ef, .threads = 1, .filter = filter, .exclude_ids = ef % 2 ? own : NULL};
    CHECK(ev_search(ix, QUERIES, rows, &p, a->ids, a->distances) == EV_OK);
}

/* An index that was grown, thinned, compacted, and its bytes. */
static ev_index *make(int64_t hash_from, char **bytes, int64_t *size) {
    static int64_t ids[ROWS];
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 4, 60, 60, EV_VECTORS_SQ24, 3};
    ev_index *ix;
    int64_t removed;
    ev_hash_from(hash_from);
    for (int64_t i = 0; i < ROWS; i++) ids[i] = i;
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, ROWS, rows, ids, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_remove(ix, ROWS / 4, ids + ROWS / 2, &removed) == EV_OK);
    CHECK(ev_add(ix, 100, rows, ids + ROWS / 2, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_save_bytes(ix, 0, NULL, size) == EV_OK);
    *bytes = malloc((size_t)*size);
    CHECK(ev_save_bytes(ix, *size, *bytes, size) == EV_OK);
    return ix;
}

/* What walks find, and what they build, is the same whatever they keep what they met in: also where they outgrow it. */
static void check_walks(void) {
    static answers with, without;
    char *bytes[2];
    int64_t size[2], every[ROWS / 3];
    ev_filter *filter;
    for (size_t i = 0; i < ROWS * DIM; i++) rows[i] = (float)(ev__mix(i) % 2001) / 1000.0f - 1.0f;
    for (int64_t i = 0; i < ROWS / 3; i++) every[i] = 3 * i;
    CHECK(ev_filter_new(ROWS / 3, every, &filter) == EV_OK);
    ev_index *hashed = make(HASHED, &bytes[0], &size[0]), *marked = make(MARKED, &bytes[1], &size[1]);
    CHECK(size[0] == size[1] && memcmp(bytes[0], bytes[1], (size_t)size[0]) == 0);
    for (int32_t ef = K; ef < 500; ef += ef / 3) {
        for (int filtered = 0; filtered < 2; filtered++) {
            ev_hash_from(HASHED);
            ask(hashed, ef, filtered ? filter : NULL, &with);
            ev_hash_from(MARKED);
            ask(marked, ef, filtered ? filter : NULL, &without);
            CHECK(memcmp(with.ids, without.ids, sizeof with.ids) == 0);
            CHECK(memcmp(with.distances, without.distances, sizeof with.distances) == 0);
        }
    }
    ev_hash_from(0);
    ev_filter_free(filter);
    free(bytes[0]);
    free(bytes[1]);
    ev_free(hashed);
    ev_free(marked);
}

/* The n-th allocation of a search fails, n = 1, 2, ...: a walk that could not grow its set has ended too soon, and a
 * scan answers in its place. */
static void check_walk_without_memory(void) {
    static answers walked, scanned, found;
    char *bytes;
    int64_t size, every[ROWS / 3], scans = 0;
    bool any = true;
    ev_context *context;
    ev_search_stats stats;
    ev_filter *filter;
    for (int64_t i = 0; i < ROWS / 3; i++) every[i] = 3 * i;
    CHECK(ev_filter_new(ROWS / 3, every, &filter) == EV_OK);
    ev_index *ix = make(HASHED, &bytes, &size);
    ev_search_params exact = {.k = K, .exact = 1, .threads = 1, .filter = filter};
    CHECK(ev_search(ix, QUERIES, rows, &exact, scanned.ids, scanned.distances) == EV_OK);
    ask(ix, 64, filter, &walked);
    CHECK(ev_context_new(ix, &context) == EV_OK);
    CHECK(ev_search(ix, 1, rows, &(ev_search_params){.k = K, .ef = 64, .threads = 1, .context = context}, found.ids,
                    found.distances) == EV_OK); /* what a search has at hand is there */
    for (int64_t n = 1; any; n++) {
        any = false;
        for (int64_t i = 0; i < QUERIES; i++) {
            ev_search_params p = {.k = K, .ef = 64, .threads = 1, .filter = filter, .context = context};
            int64_t *ids = found.ids + i * K;
            ev_fault_alloc(n);
            int rc = ev_search(ix, 1, rows + i * DIM, &p, ids, found.distances);
            bool failed = ev_fault_alloc(0) >= n;
            any |= failed;
            CHECK(rc == EV_OK || (rc == EV_E_NOMEM && failed));
            ev_context_stats(context, &stats);
            bool by_scan = stats.strategy == EV_STRATEGY_EXACT;
            CHECK(rc || memcmp(ids, (by_scan ? scanned.ids : walked.ids) + i * K, K * sizeof *ids) == 0);
            CHECK(rc || failed || !by_scan);
            scans += by_scan;
        }
    }
    CHECK(scans);
    ev_hash_from(0);
    ev_context_free(context);
    ev_filter_free(filter);
    free(bytes);
    ev_free(ix);
}

/* A list that has room for all nodes is a walk over all of them, each once. */
static void check_once(void) {
    enum { ALL = 700 };
    static int64_t ids[ALL];
    static const ev__mask everything = {false, NULL};
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 8, 60, 60, EV_VECTORS_SQ24, 3};
    ev_index *ix;
    ev__scratch *s;
    for (int64_t i = 0; i < ALL; i++) ids[i] = i;
    CHECK(ev_new(&p, &ix) == EV_OK && ev_add(ix, ALL, rows, ids, NULL, 1, NULL, NULL) == EV_OK);
    ev__graph *g = &ix->graph;
    ev__space space = ev__search_space(&g->store);
    CHECK(ev__scratch_borrow(g, &s) == EV_OK && ev__scratch_fit(g, s, ALL, K, false) == EV_OK);
    for (int64_t i = 0; i < QUERIES; i++) {
        ev__query query;
        float distance;
        ev__query_init(&g->store.quantizer, rows + i * DIM, &query, &s->work);
        uint32_t start = ev__search_upper_layers(g, &space, &query, 0, &distance, s);
        s->stats.visited = 0;
        CHECK(ev__search_layer(g, &space, &query, 0, start, distance, ALL, &everything, 0, s));
        CHECK(s->candidates.count == ALL && s->stats.visited == ALL);
    }
    ev__scratch_return(g, s);
    ev_free(ix);
}

int main(void) {
    check_marks();
    check_hashed();
    check_becoming_marks();
    check_collisions();
    check_no_memory();
    ev__visited_free(&visited);
    CHECK(!visited.marks && !visited.buckets);
    check_walks();
    check_walk_without_memory();
    check_once();
    return check_summary();
}
