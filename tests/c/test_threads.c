/* Many threads on one index: searches side by side, and beside a writer. What makes it a test is ThreadSanitizer; what
 * is checked here is that no answer is torn. */
#include "check.h"
#include "internal.h"

#include <stdlib.h>

enum { DIM = 200, ROWS = 800, FIXED = 200, READERS = 7, ROUNDS = 60, BATCH = 200, K = 10 };

static float rows[ROWS * DIM];
static int64_t ids[ROWS];

static void make_rows(void) {
    for (int64_t i = 0; i < ROWS; i++) {
        ids[i] = i * 3;
        for (int64_t j = 0; j < DIM; j++)
            rows[i * DIM + j] = (float)(ev__mix((uint64_t)(i * DIM + j)) % 2001) / 1000.0f - 1.0f;
    }
}

typedef struct {
    ev_index *ix;
    ev_filter *fixed; /* the first FIXED ids, which no writer touches */
    bool writing;
    int64_t bad; /* atomic */
} scene;

static bool is_answer(const int64_t *found, const float *distances, bool filtered) {
    for (int i = 0; i < K; i++) {
        if (found[i] < 0 || found[i] % 3 || found[i] >= 3 * (filtered ? FIXED : ROWS)) return false;
        if (i && !(distances[i - 1] <= distances[i])) return false;
        for (int j = 0; j < i; j++)
            if (found[j] == found[i]) return false;
    }
    return true;
}

/* Searches of every kind: with a context of its own and a borrowed one, filtered and not, exact and not. */
static void search_all_ways(scene *s, int reader) {
    ev_context *own = NULL;
    int64_t bad = ev_context_new(s->ix, &own) != EV_OK;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t found[K];
        float distances[K];
        ev_search_params p = {.k = K, .ef = 20, .exact = round % 16 == 0, .threads = 1};
        p.filter = round % 3 ? NULL : s->fixed;
        p.context = round % 2 ? own : NULL;
        int rc = ev_search(s->ix, 1, rows + (int64_t)((reader * ROUNDS + round) % ROWS) * DIM, &p, found, distances);
        bad += rc != EV_OK || !is_answer(found, distances, p.filter != NULL);
    }
    ev_context_free(own);
    ev__add64(&s->bad, bad);
}

/* Take the rows after the fixed ones out and put them back, piece by piece. */
static void rewrite(scene *s) {
    int64_t bad = 0, removed;
    for (int64_t from = FIXED; from < ROWS; from += BATCH) {
        bad += ev_remove(s->ix, BATCH, ids + from, &removed) != EV_OK || removed != BATCH;
        bad += ev_compact(s->ix, NULL, NULL) != EV_OK;
        bad += ev_add(s->ix, BATCH, rows + from * DIM, ids + from, NULL, 2, NULL, NULL) != EV_OK;
    }
    ev__add64(&s->bad, bad);
}

static void work(void *arg, int worker) {
    scene *s = arg;
    if (worker == 0 && s->writing)
        rewrite(s);
    else
        search_all_ways(s, worker);
}

static void check_kind(int32_t metric, int32_t quantization) {
    ev_params p = {DIM, metric, quantization, 8, 40, 40, EV_VECTORS_FINE, 7};
    scene s = {0};
    CHECK(ev_new(&p, &s.ix) == EV_OK);
    CHECK(ev_filter_new(FIXED, ids, &s.fixed) == EV_OK);
    CHECK(ev_add(s.ix, ROWS, rows, ids, NULL, 4, NULL, NULL) == EV_OK);
    for (int writing = 0; writing < 2; writing++) {
        s.writing = writing;
        ev__parallel(READERS + 1, work, &s);
        CHECK(s.bad == 0);
    }
    ev_report r;
    CHECK(ev_check(s.ix, &r) == EV_OK && r.live == ROWS && !r.bad_links && !r.bad_codes && !r.bad_ids);
    ev_filter_free(s.fixed);
    ev_free(s.ix);
}

int main(void) {
    make_rows();
    check_kind(EV_METRIC_L2, EV_QUANT_NONE);
    check_kind(EV_METRIC_COSINE, EV_QUANT_SQ8);
    check_kind(EV_METRIC_IP, EV_QUANT_BINARY);
    return check_summary();
}
