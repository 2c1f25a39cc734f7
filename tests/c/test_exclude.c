/* A search that excludes a vector answers as an index that never held it: against brute force, and against an index
 * that was made without it. */
#include "check.h"
#include "index/index.h"

#include <math.h>
#include <stdlib.h>

enum { DIM = 20, ROWS = 1500, K = 5, COPIES = 30, GONE = 40 };

static float rows[ROWS * DIM];
static int64_t ids[ROWS];

/* The last COPIES rows are copies of the first. */
static void make_rows(void) {
    for (int64_t i = 0; i < ROWS; i++) {
        int64_t of = i < ROWS - COPIES ? i : i - (ROWS - COPIES);
        ids[i] = 7 - 2 * i;
        for (int64_t j = 0; j < DIM; j++)
            rows[i * DIM + j] = (float)(ev__mix((uint64_t)(of * DIM + j)) % 2001) / 1000.0f - 1.0f;
    }
}

static float distance(int32_t metric, int64_t a, int64_t b) {
    double sum = 0, aa = 0, bb = 0;
    for (int j = 0; j < DIM; j++) {
        double x = rows[a * DIM + j], y = rows[b * DIM + j];
        sum += metric == EV_METRIC_L2 ? (x - y) * (x - y) : x * y;
        aa += x * x;
        bb += y * y;
    }
    if (metric == EV_METRIC_COSINE) sum /= sqrt(aa * bb);
    return (float)(metric == EV_METRIC_L2 ? sum : 1 - sum);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The distances of the K nearest of the rows from GONE on, but for the row itself. */
static void nearest(int32_t metric, int64_t row, float *out) {
    static float all[ROWS];
    size_t n = 0;
    for (int64_t i = GONE; i < ROWS; i++)
        if (i != row) all[n++] = distance(metric, row, i);
    qsort(all, n, sizeof *all, by_value);
    memcpy(out, all, K * sizeof *out);
}

/* Returns how many results were as near as brute force has them. */
static int ask(ev_index *ix, int32_t metric, int64_t row, ev_filter *filter, int32_t ef, bool exact) {
    int64_t found[K];
    float got[K], want[K];
    ev_search_params p = {.k = K, .ef = ef, .exact = exact, .threads = 1, .filter = filter, .exclude_ids = ids + row};
    CHECK(ev_search(ix, 1, rows + row * DIM, &p, found, got) == EV_OK);
    nearest(metric, row, want);
    int right = 0;
    for (int i = 0; i < K; i++) {
        CHECK(found[i] != ids[row]);
        right += fabsf(got[i] - want[i]) < 1e-4f;
    }
    return right;
}

static void check_kind(int32_t metric, int32_t quantization) {
    ev_params p = {DIM, metric, quantization, 8, 60, 60, 1, 3};
    ev_index *ix;
    ev_filter *all;
    int64_t removed;
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_filter_new(ROWS, ids, &all) == EV_OK);
    CHECK(ev_add(ix, ROWS, rows, ids, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_remove(ix, GONE, ids, &removed) == EV_OK && removed == GONE); /* so walks are masked */
    for (int masked = 1; masked >= 0; masked--) {
        int walked = 0, narrow = 0, asked = 0;
        for (int64_t row = GONE; row < ROWS; row += 7, asked += K) {
            CHECK(ask(ix, metric, row, NULL, 0, true) == K);
            CHECK(ask(ix, metric, row, all, 0, true) == K);
            walked += ask(ix, metric, row, row % 2 ? all : NULL, 40, false);
            narrow += ask(ix, metric, row, NULL, K, false);
        }
        CHECK(walked > asked * 9 / 10);
        CHECK(narrow < walked); /* it is no scan that answers */
        CHECK(ev_compact(ix, NULL, NULL) == EV_OK);
    }
    ev_filter_free(all);
    ev_free(ix);
}

/* Without the node at which every search begins, one begins all the same. */
static void check_entry(void) {
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 8, 60, 60, 1, 3};
    ev_index *ix;
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, ROWS - GONE, rows + GONE * DIM, ids + GONE, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ask(ix, EV_METRIC_L2, GONE + (int64_t)ix->graph.entry, NULL, 40, false) >= K - 1);
    ev_free(ix);
}

static void check_edges(void) {
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_NONE, 8, 60, 60, 1, 3};
    ev_index *ix;
    int64_t found[K], strange[2] = {7, 8};
    float got[K * 2];
    ev_search_params s = {.k = 1, .threads = 1, .exclude_ids = strange};
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, 1, rows, ids, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_search(ix, 1, rows, &s, found, got) == EV_OK && found[0] == -1); /* the only one there is */
    CHECK(ev_search(ix, 2, rows, &s, found, got) == EV_OK && found[0] == -1 && found[1] == ids[0]); /* 8 is not held */
    s.exclude_ids = NULL;
    CHECK(ev_search(ix, 1, rows, &s, found, got) == EV_OK && found[0] == ids[0]); /* nothing is left behind */
    ev_free(ix);
}

int main(void) {
    make_rows();
    for (int32_t metric = 0; metric < 3; metric++)
        for (int32_t quantization = 0; quantization < 3; quantization++) check_kind(metric, quantization);
    check_entry();
    check_edges();
    return check_summary();
}
