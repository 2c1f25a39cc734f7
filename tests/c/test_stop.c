/* A call is stopped the n-th time that it asks, for growing n, until it comes to its end: each call, on each kind of
 * index. After each stop the index holds what it held, answers as it did, and goes on working. */
#include "check.h"
#include "edgevec_test.h"
#include "number.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PATH "test_stop.edgevec"
enum { DIM = 16, HELD = 2200, NEW = 2100, K = 5, ASKED = 20 };

static float rows[HELD + NEW][DIM], far[NEW][DIM], farther[2 * NEW][DIM];
static int64_t ids[HELD + NEW];

static void make_rows(void) {
    for (int i = 0; i < HELD + NEW; i++) {
        ids[i] = i;
        for (int j = 0; j < DIM; j++) rows[i][j] = number((uint64_t)((i - (i % 9 == 8)) * DIM + j));
    }
    for (int i = 0; i < NEW; i++)
        for (int j = 0; j < DIM; j++) far[i][j] = rows[i][j] + 20;
    for (int i = 0; i < 2 * NEW; i++)
        for (int j = 0; j < DIM; j++) farther[i][j] = rows[i % NEW][j] + 1e6f;
}

/* ---- who is asked ---------------------------------------------------------------------------- */

static int64_t left; /* times that it says yes */

static int asked(void *user) {
    (void)user;
    return left-- > 0;
}

static int told(void *user, int64_t done, int64_t total) {
    (void)user;
    CHECK(0 <= done && done <= total);
    return left-- > 0;
}

/* ---- what is stopped ------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int (*call)(ev_index *ix, ev_progress progress);
    int64_t until, stride; /* up to so many questions, how many lie between two that stop it; then a third of all */
    void (*prepare)(ev_index *ix);
} scene;

static int add(ev_index *ix, ev_progress progress) {
    return ev_add(ix, NEW, &rows[HELD][0], ids + HELD / 2, NULL, 2, progress, NULL);
}
static int add_far(ev_index *ix, ev_progress progress) {
    return ev_add(ix, NEW, &far[0][0], NULL, NULL, 1, progress, NULL);
}
/* So far and so many that no code tells the others apart: the graph is linked anew. */
static int add_farther(ev_index *ix, ev_progress progress) {
    return ev_add(ix, 2 * NEW, &farther[0][0], NULL, NULL, 2, progress, NULL);
}
/* The center lies elsewhere then, and a compaction learns another. */
static void visit_far(ev_index *ix) {
    static int64_t many[2 * NEW];
    for (int i = 0; i < 2 * NEW; i++) many[i] = HELD + i;
    CHECK(add_far(ix, NULL) == EV_OK && add_far(ix, NULL) == EV_OK);
    CHECK(ev_remove(ix, 2 * NEW, many, NULL) == EV_OK);
}
static int drop(ev_index *ix, ev_progress progress) {
    (void)progress;
    return ev_remove(ix, HELD - 100, ids, NULL);
}
static int compact(ev_index *ix, ev_progress progress) { return ev_compact(ix, progress, NULL); }
static int save(ev_index *ix, ev_progress progress) {
    (void)progress;
    return ev_save(ix, PATH);
}
static int load(ev_index *ix, ev_progress progress) {
    (void)progress;
    left += 1 << 30;
    int rc = ev_save(ix, PATH);
    left -= 1 << 30;
    ev_index *other = NULL;
    if (rc == EV_OK) rc = ev_load(PATH, 0, &other);
    ev_free(other);
    return rc;
}
static int check_all(ev_index *ix, ev_progress progress) {
    (void)progress;
    ev_report report;
    return ev_check(ix, &report);
}
static int get(ev_index *ix, ev_progress progress) {
    (void)progress;
    static float out[HELD][DIM];
    return ev_get(ix, HELD - 60, ids, &out[0][0]);
}
static int search_with(ev_index *ix, int exact, int ef, int k, ev_filter *filter) {
    static int64_t found[ASKED * HELD];
    static float distances[ASKED * HELD];
    ev_search_params params = {.k = k, .ef = ef, .exact = exact, .threads = 2, .filter = filter};
    return ev_search(ix, ASKED, &rows[0][0], &params, found, distances);
}
static int search_exact(ev_index *ix, ev_progress progress) {
    (void)progress;
    return search_with(ix, 1, 0, K, NULL);
}
static int search_one(ev_index *ix, ev_progress progress) {
    (void)progress;
    int64_t found[K];
    float distances[K];
    ev_search_params params = {.k = K, .exact = 1, .threads = 1};
    return ev_search(ix, 1, &rows[0][0], &params, found, distances);
}
static int search_wide(ev_index *ix, ev_progress progress) {
    (void)progress;
    return search_with(ix, 0, HELD, HELD, NULL);
}
static int search_filtered(ev_index *ix, ev_progress progress) {
    (void)progress;
    ev_filter *filter;
    CHECK(ev_filter_new(HELD - 200, ids, &filter) == EV_OK);
    int rc = search_with(ix, 0, 300, K, filter);
    ev_filter_free(filter);
    return rc;
}

static const scene scenes[] = {{"add", add},
                               {"add far", add_far, 600, 4},
                               {"add farther", add_farther, 4000, 200},
                               {"remove", drop},
                               {"compact", compact},
                               {"compact what was far", compact, 400, 4, visit_far},
                               {"save", save},
                               {"load", load},
                               {"check", check_all},
                               {"get", get},
                               {"search exact", search_exact},
                               {"search one", search_one},
                               {"search wide", search_wide},
                               {"search filtered", search_filtered}};

/* ---- what it held ---------------------------------------------------------------------------- */

typedef struct {
    float vectors[HELD][DIM];
    int64_t found[ASKED * K];
} state;

static void look(ev_index *ix, state *s) {
    float distances[ASKED * K];
    ev_search_params params = {.k = K, .exact = 1, .threads = 1};
    CHECK(ev_get(ix, HELD - 60, ids, &s->vectors[0][0]) == EV_OK);
    CHECK(ev_search(ix, ASKED, &rows[100][0], &params, s->found, distances) == EV_OK);
}

/* step: how far numbers may be off that were encoded anew */
static void check_same(ev_index *ix, const state *before, float step) {
    static state now;
    ev_report report;
    look(ix, &now);
    CHECK(ev_count(ix) == HELD - 50);
    int off = 0;
    for (int i = 0; i < HELD - 60; i++)
        for (int j = 0; j < DIM; j++) off += fabsf(now.vectors[i][j] - before->vectors[i][j]) > step;
    CHECK(off == 0);
    if (step < 0.001f) CHECK(memcmp(now.found, before->found, sizeof now.found) == 0);
    CHECK(ev_check(ix, &report) == EV_OK);
    CHECK(report.live == HELD - 50 && !report.bad_links && !report.bad_codes && !report.bad_ids);
}

/* ---- the run --------------------------------------------------------------------------------- */

static ev_index *make(int32_t kind, int32_t keep) {
    ev_params p = {.dim = DIM,
                   .metric = EV_METRIC_L2,
                   .quantization = kind,
                   .M = 4,
                   .ef_construction = 12,
                   .ef = 20,
                   .keep_vectors = keep};
    ev_index *ix;
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, HELD, &rows[0][0], NULL, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_remove(ix, 50, ids + HELD - 50, NULL) == EV_OK);
    return ix;
}

/* by_progress: not by the function for interrupts */
static void stop_each(const scene *s, int32_t kind, int32_t keep, bool by_progress) {
    static state before;
    float step = keep == EV_VECTORS_SQ24 ? 1e-4f : 0;
    /* 24 bits around a center that was learned of what was not added in the end */
    if (keep == EV_VECTORS_SQ24 && s->call == add_farther) step = 1e6f / 8323072 * 2;
    ev_index *ix = make(kind, keep);
    if (s->prepare) s->prepare(ix);
    look(ix, &before);
    int stops = 0, rc = EV_E_STOPPED;
    for (int64_t n = 0; rc == EV_E_STOPPED; n += n < s->until ? s->stride : 1 + n / 2) {
        left = n;
        ev_ask_every(0);
        if (!by_progress) ev_set_interrupt(asked, NULL);
        rc = s->call(ix, by_progress ? told : NULL);
        ev_set_interrupt(NULL, NULL);
        ev_ask_every(-1);
        CHECK(rc == EV_OK || rc == EV_E_STOPPED);
        if (rc == EV_OK) break;
        stops++;
        check_same(ix, &before, step);
    }
    if (stops == 0) printf("%s: never stopped (kind %d, keep %d)\n", s->name, kind, keep);
    CHECK(stops > 0);
    CHECK(ev_add(ix, 1, &rows[0][0], NULL, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_compact(ix, NULL, NULL) == EV_OK);
    ev_report report;
    CHECK(ev_check(ix, &report) == EV_OK && !report.unreachable && !report.bad_codes && !report.bad_links);
    ev_free(ix);
}

int main(void) {
    static const int32_t kinds[] = {EV_QUANT_NONE, EV_QUANT_SQ8, EV_QUANT_BINARY, EV_QUANT_SQ8, EV_QUANT_SQ8};
    static const int32_t keeps[] = {EV_VECTORS_FLOAT32, EV_VECTORS_SQ24, EV_VECTORS_FLOAT32, EV_VECTORS_NONE,
                                    EV_VECTORS_FLOAT32};
    make_rows();
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
        for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
            stop_each(&scenes[i], kinds[kind], keeps[kind], false);
            if (i < 3 || scenes[i].call == compact) stop_each(&scenes[i], kinds[kind], keeps[kind], true);
        }
    remove(PATH);
    return check_summary();
}
