/* Rows that are staged are no results and change none, however many calls bring them and whatever happens meanwhile;
 * shown, they are what ev_add would have made of them; forgotten, they leave what was there. */
#include "check.h"
#include "edgevec_test.h"
#include "counting.h"
#include "number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* BASE: held before; NEW: staged, the first OVER of them in place of held ones; every ninth a copy of the one before */
enum { DIM = 24, BASE = 900, NEW = 640, OVER = 120, ALL = BASE + NEW - OVER, K = 10, QUERIES = 40, RUNS = 4 };

static float base[BASE][DIM], rows[NEW][DIM], queries[QUERIES][DIM];
static int64_t base_ids[BASE], ids[NEW];

static void make_rows(float shift) {
    for (int i = 0; i < BASE; i++) {
        base_ids[i] = i;
        for (int j = 0; j < DIM; j++) base[i][j] = number((uint64_t)((i - (i % 9 == 8)) * DIM + j));
    }
    for (int i = 0; i < NEW; i++) {
        ids[i] = BASE - OVER + i;
        for (int j = 0; j < DIM; j++) rows[i][j] = number((uint64_t)((5000 + i - (i % 9 == 8)) * DIM + j)) + shift;
        if (i % 50 == 7) memcpy(rows[i], base[i], sizeof rows[i]); /* of a held one */
    }
    for (int i = 0; i < QUERIES; i++)
        for (int j = 0; j < DIM; j++)
            queries[i][j] = (i % 2 ? rows[i * 16][j] : base[i * 20][j]) + number((uint64_t)j) / 8;
}

static ev_index *made(int32_t quantization, int32_t keep, int64_t held) {
    ev_params p = {DIM, EV_METRIC_L2, quantization, 8, 32, 200, keep, 5};
    ev_index *ix = NULL;
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, held, base[0], base_ids, NULL, 1, NULL, NULL) == EV_OK);
    return ix;
}

typedef struct {
    int64_t count, ids[2][QUERIES * K];
    float distances[2][QUERIES * K];
} answers;

/* Of walks, and of comparing with all. */
static answers answers_of(ev_index *ix) {
    answers all = {.count = ev_count(ix)};
    for (int32_t exact = 0; exact < 2; exact++) {
        ev_search_params p = {.k = K, .exact = exact, .threads = 1};
        CHECK(ev_search(ix, QUERIES, queries[0], &p, all.ids[exact], all.distances[exact]) == EV_OK);
    }
    return all;
}

/* Of exact searches. Where codes are all that is kept, or a part of it, to learn them anew moves what is held. */
static void check_same(const answers *a, const answers *b, int32_t keep) {
    float least = keep == EV_VECTORS_FLOAT32 ? 0 : 1e-4f;
    CHECK(a->count == b->count);
    for (int i = 0; i < QUERIES * K && keep != EV_VECTORS_NONE; i++) {
        float apart = fabsf(a->distances[1][i] - b->distances[1][i]);
        CHECK(apart <= least && (least > 0 || a->ids[1][i] == b->ids[1][i]));
    }
}

static void check_sound(ev_index *ix, int64_t live, int64_t most_lost) {
    ev_report r;
    CHECK(ev_check(ix, &r) == EV_OK);
    CHECK(r.live == live && !r.bad_links && !r.bad_codes && !r.bad_ids && r.unreachable <= most_lost);
}

static char *bytes_of(ev_index *ix, int64_t *n) {
    CHECK(ev_save_bytes(ix, 0, NULL, n) == EV_OK);
    char *bytes = malloc((size_t)*n);
    CHECK(ev_save_bytes(ix, *n, bytes, n) == EV_OK);
    return bytes;
}

static void check_same_files(ev_index *a, ev_index *b) {
    int64_t n, m;
    char *of_a = bytes_of(a, &n), *of_b = bytes_of(b, &m);
    CHECK(n == m && memcmp(of_a, of_b, (size_t)n) == 0);
    free(of_a);
    free(of_b);
}

static void stage_in_runs(ev_index *ix, int runs) {
    for (int64_t run = 0, n = NEW / runs; run < runs; run++)
        CHECK(ev_stage(ix, n, rows[run * n], ids + run * n, 1, NULL, NULL) == EV_OK);
}

/* ---- what comes of it ------------------------------------------------------------------------ */

static void as_an_add(int32_t quantization, int32_t keep) {
    ev_index *added = made(quantization, keep, BASE), *staged = made(quantization, keep, BASE);
    CHECK(ev_add(added, NEW, rows[0], ids, NULL, 1, NULL, NULL) == EV_OK);
    stage_in_runs(staged, 1);
    CHECK(ev_stage_commit(staged, 0, NULL) == EV_OK);
    CHECK(ev_stage_settle(staged) == EV_OK);
    check_same_files(added, staged);
    check_sound(staged, ALL, 0);
    ev_free(added);
    ev_free(staged);
}

/* held: rows that are there before. */
static void in_runs(int32_t quantization, int32_t keep, int64_t held) {
    ev_index *added = made(quantization, keep, held), *staged = made(quantization, keep, held);
    answers before = answers_of(staged);
    stage_in_runs(staged, RUNS);
    answers meanwhile = answers_of(staged);
    check_same(&before, &meanwhile, keep);
    for (int64_t i = OVER; i < NEW; i++) CHECK(!ev_contains(staged, ids[i]));
    check_sound(staged, held, held / 10);
    CHECK(ev_compact(staged, NULL, NULL) == EV_E_BUSY);
    CHECK(ev_stage(staged, 1, rows[3], ids + 5, 1, NULL, NULL) == EV_OK); /* the last one counts */

    CHECK(ev_add(added, NEW, rows[0], ids, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_add(added, 1, rows[3], ids + 5, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_remove(added, OVER / 2, base_ids, NULL) == EV_OK);
    CHECK(ev_stage_commit(staged, OVER / 2, base_ids) == EV_OK);
    answers after = answers_of(staged);
    answers right = answers_of(added);
    check_same(&right, &after, keep);
    CHECK(ev_stage_settle(staged) == EV_OK);
    check_sound(staged, ev_count(added), 0);
    CHECK(ev_compact(staged, NULL, NULL) == EV_OK);
    check_sound(staged, ev_count(added), 0);
    ev_free(added);
    ev_free(staged);
}

static void dropped(int32_t quantization, int32_t keep) {
    ev_index *ix = made(quantization, keep, BASE);
    answers before = answers_of(ix);
    stage_in_runs(ix, RUNS);
    CHECK(ev_stage_drop(ix) == EV_OK);
    answers after = answers_of(ix);
    check_same(&before, &after, keep);
    check_sound(ix, BASE, 0);
    CHECK(ev_stage_drop(ix) == EV_OK && ev_stage_commit(ix, 0, NULL) == EV_OK && ev_stage_settle(ix) == EV_OK);
    CHECK(ev_count(ix) == BASE);
    CHECK(ev_add(ix, NEW, rows[0], ids, NULL, 1, NULL, NULL) == EV_OK); /* buries the dead, and takes their slots */
    check_sound(ix, ALL, 0);
    ev_stats s;
    ev_get_stats(ix, &s);
    CHECK(s.slots <= BASE + NEW);
    ev_free(ix);
}

/* Rows that come after a drop do not become duplicates of those that went. */
static void dropped_and_added(void) {
    enum { FEW = 40 };
    int64_t duplicates[2];
    for (int staged = 0; staged < 2; staged++) {
        ev_index *ix = made(EV_QUANT_SQ8, EV_VECTORS_SQ24, BASE);
        if (staged) CHECK(ev_stage(ix, FEW, rows[0], ids, 1, NULL, NULL) == EV_OK && ev_stage_drop(ix) == EV_OK);
        CHECK(ev_add(ix, FEW, rows[0], ids, NULL, 1, NULL, NULL) == EV_OK);
        ev_report r;
        CHECK(ev_check(ix, &r) == EV_OK);
        duplicates[staged] = r.duplicates;
        ev_free(ix);
    }
    CHECK(duplicates[0] == duplicates[1]);
}

/* What is changed meanwhile stays so, and files hold what searches see. */
static void beside_others(int32_t quantization, int32_t keep) {
    ev_index *ix = made(quantization, keep, BASE - OVER), *copy = NULL;
    stage_in_runs(ix, 2);
    CHECK(ev_add(ix, OVER, base[BASE - OVER], base_ids + BASE - OVER, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_remove(ix, 70, base_ids, NULL) == EV_OK);
    answers seen = answers_of(ix);
    int64_t n;
    char *bytes = bytes_of(ix, &n);
    CHECK(ev_load_bytes(n, bytes, &copy) == EV_OK);
    free(bytes);
    answers loaded = answers_of(copy);
    CHECK(memcmp(&seen, &loaded, sizeof seen) == 0);
    CHECK(ev_stage_commit(copy, 0, NULL) == EV_OK && ev_count(copy) == BASE - 70);
    CHECK(ev_stage_commit(ix, 0, NULL) == EV_OK && ev_count(ix) == ALL - 70);
    CHECK(ev_stage_settle(ix) == EV_OK);
    check_sound(ix, ALL - 70, 0);
    ev_free(ix);
    ev_free(copy);
}

/* A pass that frees removed rows, and is shared out among single additions, waits while rows are staged, which take the
 * slots that it has freed. */
static void beside_a_pass(int32_t quantization, int32_t keep, int before) {
    /* so few a call that none makes the pass at once */
    enum { GONE = 400, STAGED = 8, RUNS_OF_THEM = 6, EACH = 3, LATER = 300 };
    ev_index *ix = made(quantization, keep, BASE);
    CHECK(ev_remove(ix, GONE, base_ids, NULL) == EV_OK);
    int64_t next = 0, live = BASE - GONE;
    for (; next < before; next++)
        CHECK(ev_add(ix, 1, rows[OVER + next], ids + OVER + next, NULL, 1, NULL, NULL) == EV_OK);
    for (int run = 0; run < RUNS_OF_THEM; run++) {
        const float *some = rows[NEW - STAGED * (1 + run)];
        CHECK(ev_stage(ix, STAGED, some, ids + NEW - STAGED * (1 + run), 1, NULL, NULL) == EV_OK);
        for (int i = 0; i < EACH; i++, next++)
            CHECK(ev_add(ix, 1, rows[OVER + next], ids + OVER + next, NULL, 1, NULL, NULL) == EV_OK);
    }
    check_sound(ix, live + next, (live + next) / 10);
    CHECK(ev_stage_commit(ix, 0, NULL) == EV_OK && ev_stage_settle(ix) == EV_OK);
    live += RUNS_OF_THEM * STAGED;
    check_sound(ix, live + next, (live + next) / 10);
    for (int i = 0; i < LATER; i++, next++)
        CHECK(ev_add(ix, 1, rows[OVER + next], ids + OVER + next, NULL, 1, NULL, NULL) == EV_OK);
    check_sound(ix, live + next, 0);
    ev_stats s;
    ev_get_stats(ix, &s);
    CHECK(s.dead < GONE / 4); /* the pass has come to its end */
    for (int64_t i = NEW - RUNS_OF_THEM * STAGED; i < NEW; i++) CHECK(ev_contains(ix, ids[i]));
    ev_free(ix);
}

static int stop(void *user, int64_t done, int64_t total) {
    (void)user, (void)done, (void)total;
    return 0;
}

static void refused(void) {
    static const float nothing[DIM];
    ev_params p = {DIM, EV_METRIC_COSINE, EV_QUANT_SQ8, 8, 32, 50, EV_VECTORS_SQ24, 5};
    ev_index *ix = NULL;
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_stage(ix, 1, rows[0], NULL, 1, NULL, NULL) == EV_E_PARAM);
    CHECK(ev_stage(ix, -1, rows[0], ids, 1, NULL, NULL) == EV_E_PARAM);
    CHECK(ev_stage_commit(ix, -1, NULL) == EV_E_PARAM);
    CHECK(ev_stage(ix, 50, rows[0], ids, 1, NULL, NULL) == EV_OK);
    CHECK(ev_stage(ix, 1, nothing, ids, 1, NULL, NULL) == EV_E_ZERO);
    CHECK(ev_stage_commit(ix, 0, NULL) == EV_OK && ev_count(ix) == 50);
    CHECK(ev_stage(ix, 50, rows[50], ids + 50, 1, NULL, NULL) == EV_OK);
    CHECK(ev_close(ix) == EV_OK && ev_stage_drop(ix) == EV_E_CLOSED);
    ev_free(ix);
}

/* A call that is stopped takes with it what it brought, and no more. */
static void stopped(void) {
    ev_index *ix = made(EV_QUANT_SQ8, EV_VECTORS_SQ24, BASE);
    CHECK(ev_stage(ix, NEW / 2, rows[0], ids, 1, NULL, NULL) == EV_OK);
    int64_t tries = 0;
    while (ev_stage(ix, NEW / 2, rows[NEW / 2], ids + NEW / 2, 1, stop, NULL) != EV_E_STOPPED && tries++ < 20) continue;
    check_sound(ix, BASE, BASE / 10);
    CHECK(ev_stage_commit(ix, 0, NULL) == EV_OK);
    CHECK(ev_contains(ix, ids[NEW / 2 - 1]));
    ev_free(ix);
}

/* Codes that no longer serve are given up while rows are staged: all is linked anew, with these, and those that are
 * dead for good wait on. */
static void linked_anew(int64_t held) {
    enum { FAR = 600, FEW = 8 };
    static float near[FAR][FEW], far[FAR][FEW];
    static int64_t near_ids[FAR], far_ids[FAR];
    ev_params p = {FEW, EV_METRIC_L2, EV_QUANT_SQ8, 4, 24, 64, EV_VECTORS_SQ24, 11};
    ev_index *ix = NULL;
    for (int i = 0; i < FAR; i++) {
        near_ids[i] = i;
        far_ids[i] = FAR + i;
        for (int j = 0; j < FEW; j++) {
            near[i][j] = number((uint64_t)((i - (i % 9 == 8)) * FEW + j));
            far[i][j] = number((uint64_t)(i * FEW + j + 77777)) + 1e6f;
        }
    }
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(held == 0 || ev_add(ix, held, near[0], near_ids, NULL, 1, NULL, NULL) == EV_OK);
    if (held) CHECK(ev_remove(ix, 20, near_ids, NULL) == EV_OK);
    int64_t live = held ? held - 20 : 0;
    CHECK(ev_stage(ix, FAR / 2 - held, near[held], near_ids + held, 1, NULL, NULL) == EV_OK);
    CHECK(ev_stage(ix, FAR, far[0], far_ids, 2, NULL, NULL) == EV_OK);
    ev_stats s;
    ev_get_stats(ix, &s);
    CHECK(s.walk == EV_WALK_FLOATS);
    check_sound(ix, live, live / 10);
    CHECK(ev_stage_commit(ix, 0, NULL) == EV_OK);
    CHECK(ev_stage_settle(ix) == EV_OK);
    live = FAR + FAR / 2 - (held ? 20 : 0);
    check_sound(ix, live, 0);
    for (int64_t i = held ? 20 : 0; i < FAR / 2; i++) {
        int64_t found;
        float distance;
        ev_search_params one = {.k = 1, .threads = 1};
        CHECK(ev_search(ix, 1, near[i], &one, &found, &distance) == EV_OK && distance == 0);
    }
    CHECK(ev_compact(ix, NULL, NULL) == EV_OK);
    check_sound(ix, live, 0);
    ev_get_stats(ix, &s);
    CHECK(s.dead == 0 && s.slots == live);
    ev_free(ix);
}

int main(void) {
    static const int32_t kinds[] = {EV_QUANT_NONE, EV_QUANT_SQ8,    EV_QUANT_SQ8,
                                    EV_QUANT_SQ8,  EV_QUANT_BINARY, EV_QUANT_BINARY};
    static const int32_t keeps[] = {EV_VECTORS_FLOAT32, EV_VECTORS_SQ24,    EV_VECTORS_FLOAT32,
                                    EV_VECTORS_NONE,    EV_VECTORS_FLOAT32, EV_VECTORS_NONE};
    count_allocations();
    for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
        make_rows(elsewhere ? 3.0f : 0.0f); /* the center of the codes moves with the later runs */
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            as_an_add(kinds[i], keeps[i]);
            in_runs(kinds[i], keeps[i], BASE);
            in_runs(kinds[i], keeps[i], OVER);
            dropped(kinds[i], keeps[i]);
            beside_others(kinds[i], keeps[i]);
            for (int before = 1; before < 100 && !elsewhere; before += 12) beside_a_pass(kinds[i], keeps[i], before);
        }
    }
    dropped_and_added();
    refused();
    stopped();
    linked_anew(0);
    linked_anew(100);
    CHECK(held_bytes == 0);
    return check_summary();
}
