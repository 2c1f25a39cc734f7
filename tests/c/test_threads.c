/* Many threads on one index: searches side by side, beside a writer, and every call beside every other; and calls that
 * would wait for themselves. What makes it a test is ThreadSanitizer; what is checked here is that no answer is torn.
 */
#include "check.h"
#include "edgevec_test.h"
#include "base/file_system.h"
#include "base/thread.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 200, ROWS = 800, FIXED = 200, READERS = 7, ROUNDS = 60, BATCH = 200, K = 10 };

/* How often each call is made beside each other one. EDGEVEC_TEST_REPEATS asks for fewer: an emulator is slow. */
static int repeats = 12;

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
    ev_disk *graph;   /* of all rows, where every pair of calls is made */
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

/* The same with so many removed at once, and put back a few at a time: of fewer than a third while links are led around
 * the others, which else the removal does. */
static void rewrite_slowly(scene *s, int64_t gone) {
    enum { SOME = 20 };
    int64_t bad = 0, removed, n;
    bad += ev_remove(s->ix, gone, ids + FIXED, &removed) != EV_OK || removed != gone;
    for (int64_t at = FIXED; at < FIXED + gone; at += n) {
        n = at % 3 || at + SOME > FIXED + gone ? 1 : SOME;
        bad += ev_add(s->ix, n, rows + at * DIM, ids + at, NULL, 2, NULL, NULL) != EV_OK;
    }
    ev__add64(&s->bad, bad);
}

static void work(void *arg, int worker) {
    scene *s = arg;
    if (worker == 0 && s->writing) {
        rewrite(s);
        rewrite_slowly(s, BATCH);
        rewrite_slowly(s, 2 * BATCH);
    } else {
        search_all_ways(s, worker);
    }
}

static void check_kind(int32_t metric, int32_t quantization) {
    ev_params p = {DIM, metric, quantization, 8, 40, 40, EV_VECTORS_SQ24, 7};
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

/* ---- every call beside every other ------------------------------------------------------------ */

#define PATH "test_threads.edgevec"
#if defined(_WIN32)
#define SAVED PATH ".again" /* a file that is mapped cannot be replaced there */
#else
#define SAVED PATH
#endif
#define GRAPH "test_threads.evd"
#define SHARED "test_threads_shared.evd"

/* Each is made by one thread while another makes any. What is asked for is held by the fixed rows alone. */
static int call_get(scene *s) {
    float *out = malloc(sizeof *out * FIXED * DIM); /* too much for a thread's stack where that has 128 KB */
    int rc = ev_get(s->ix, FIXED, ids, out);
    free(out);
    return rc;
}

static int call_search(scene *s) {
    int64_t found[K];
    float distances[K];
    ev_search_params p = {.k = K, .threads = 1, .filter = s->fixed};
    int rc = ev_search(s->ix, 1, rows, &p, found, distances);
    return rc == EV_OK && !is_answer(found, distances, true) ? EV_E_CORRUPT : rc;
}

static int call_search_batch(scene *s) {
    int64_t found[20 * K];
    float distances[20 * K];
    ev_search_params p = {.k = K, .threads = 2, .exclude_ids = ids};
    return ev_search(s->ix, 20, rows, &p, found, distances);
}

static int go_on(void *user) {
    (void)user;
    return 1;
}

static int call_watched(scene *s) {
    ev_set_interrupt(go_on, NULL);
    int rc = call_search_batch(s);
    ev_set_interrupt(NULL, NULL);
    return rc;
}

static int call_search_context(scene *s) {
    int64_t found[K];
    float distances[K];
    ev_context *context = NULL;
    ev_search_stats stats;
    int rc = ev_context_new(s->ix, &context);
    ev_search_params p = {.k = K, .threads = 1, .exact = 1, .context = context};
    if (rc == EV_OK) rc = ev_search(s->ix, 1, rows, &p, found, distances);
    if (rc == EV_OK) ev_context_stats(context, &stats);
    ev_context_free(context);
    return rc;
}

static int call_ids(scene *s) {
    int64_t cursor = 0, some[100], written = 1;
    int rc = EV_OK;
    while (rc == EV_OK && written) rc = ev_ids(s->ix, &cursor, 100, some, &written);
    return rc;
}

static int call_accessors(scene *s) {
    ev_params p;
    ev_stats stats;
    ev_memory memory;
    ev_get_params(s->ix, &p);
    ev_get_stats(s->ix, &stats);
    ev_memory_usage(s->ix, &memory);
    bool sound = p.dim == DIM && (p.ef == 33 || p.ef == 44) && stats.live >= FIXED && memory.total > 0;
    return sound && ev_count(s->ix) >= FIXED && ev_contains(s->ix, ids[1]) ? EV_OK : EV_E_CORRUPT;
}

static int call_set_ef(scene *s) {
    int rc = ev_set_ef(s->ix, 33);
    return rc == EV_OK ? ev_set_ef(s->ix, 44) : rc;
}

/* One that no call meets, as others have rows to add. */
static int call_set_limit(scene *s) {
    int rc = ev_set_memory_limit(s->ix, (int64_t)1 << 40);
    return rc == EV_OK ? ev_set_memory_limit(s->ix, 0) : rc;
}

/* Of an index in memory it changes nothing. */
static int call_set_path(scene *s) {
    int rc = ev_set_disk_path(s->ix, PATH);
    return rc == EV_E_PARAM ? EV_OK : rc == EV_OK ? EV_E_CORRUPT : rc;
}

static int call_check(scene *s) {
    ev_report r;
    int rc = ev_check(s->ix, &r);
    return rc == EV_OK && (r.bad_links || r.bad_codes || r.bad_ids) ? EV_E_CORRUPT : rc;
}

static int call_save(scene *s) { return ev_save(s->ix, SAVED); }

static int call_bytes(scene *s) {
    enum { ROOM = 8 << 20 };
    int64_t n = 0;
    ev_index *other = NULL;
    char *bytes = malloc(ROOM);
    int rc = ev_save_bytes(s->ix, ROOM, bytes, &n);
    if (rc == EV_OK) rc = n <= ROOM ? ev_load_bytes(n, bytes, &other) : EV_E_FULL;
    ev_free(other);
    other = NULL;
    if (rc == EV_OK) rc = ev_load_bytes_within(n, bytes, 2 * ROOM, &other);
    ev_free(other);
    free(bytes);
    return rc;
}

static int call_load(scene *s) {
    ev_index *other = NULL;
    (void)s;
    int rc = ev_load(PATH, 1, &other);
    ev_free(other);
    if (rc == EV_OK && ev_load_within(PATH, 0, 1, &other) != EV_E_MEMORY_LIMIT) rc = EV_E_CORRUPT;
    return rc;
}

static int call_filter(scene *s) {
    ev_filter *own = NULL;
    int rc = ev_filter_new(FIXED, ids, &own);
    if (rc == EV_OK && ev_filter_count(own) != ev_filter_count(s->fixed)) rc = EV_E_CORRUPT;
    if (rc == EV_OK && !ev_filter_is_of(own, FIXED, ids)) rc = EV_E_CORRUPT;
    ev_filter_free(own);
    return rc;
}

static int call_new(scene *s) {
    ev_index *other = NULL;
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 8, 40, 40, EV_VECTORS_SQ24, 7};
    (void)s;
    int rc = ev_new(&p, &other);
    if (rc == EV_OK) rc = ev_close(other);
    ev_free(other);
    return rc;
}

/* What a thread is told of its failures is of its own, whatever fails on others. */
static int call_failing(scene *s) {
    float row[2] = {1, NAN};
    int64_t id = 1;
    ev_index *own = NULL;
    ev_params p = {1, EV_METRIC_L2, EV_QUANT_NONE, 8, 40, 40, EV_VECTORS_NONE, 7};
    (void)s;
    int rc = ev_new(&p, &own);
    if (rc != EV_OK) return rc;
    bool told = ev_add(own, 2, row, NULL, NULL, 1, NULL, NULL) == EV_E_NOT_FINITE && ev_error_row() == 1;
    told = told && ev_get(own, 1, &id, row) == EV_E_NO_ID && ev_error_row() == 0;
    ev_free(own);
    own = NULL;
    told = told && ev_load("no/such/folder", 0, &own) == EV_E_NOT_FOUND && ev_error_errno() == ENOENT;
    return told && *ev_error_detail() && *ev_strerror(EV_E_NOT_FOUND) ? EV_OK : EV_E_CORRUPT;
}

static int call_machine(scene *s) {
    (void)s;
    const char *active = ev_simd_active();
    bool known = active && strstr(ev_simd_compiled(), active) && strstr(ev_simd_available(), active);
    return known && ev_simd_forced() && *ev_version() ? EV_OK : EV_E_CORRUPT;
}

static int call_set_interrupt(scene *s) {
    (void)s;
    ev_set_interrupt(NULL, NULL); /* of this thread */
    return EV_OK;
}

static int call_selftest(scene *s) {
    static int64_t made; /* atomic; it takes as long as all else together, and reads what never changes */
    (void)s;
    return ev__add64(&made, 1) % repeats || ev_selftest() == 0 ? EV_OK : EV_E_CORRUPT;
}

static int call_numbers(scene *s) {
    float read[2];
    (void)s;
    return ev_read_numbers("[1.5, -2]", 9, 2, read) == 9 && read[0] == 1.5f && read[1] == -2 ? EV_OK : EV_E_CORRUPT;
}

static int call_add(scene *s) { return ev_add(s->ix, 20, rows + FIXED * DIM, ids + FIXED, NULL, 2, NULL, NULL); }
static int call_remove(scene *s) { return ev_remove(s->ix, 20, ids + FIXED, NULL); }

/* Another thread may have rows staged. */
static int call_compact(scene *s) {
    int rc = ev_compact(s->ix, NULL, NULL);
    return rc == EV_E_BUSY ? EV_OK : rc;
}

static int call_stage(scene *s) {
    int rc = ev_stage(s->ix, 20, rows + FIXED * DIM, ids + FIXED, 2, NULL, NULL);
    if (rc == EV_OK) rc = ev_stage_commit(s->ix, 5, ids + FIXED + 10);
    if (rc == EV_OK) rc = ev_stage_settle(s->ix);
    if (rc == EV_OK) rc = ev_stage(s->ix, 20, rows + FIXED * DIM, ids + FIXED, 1, NULL, NULL);
    return rc == EV_OK ? ev_stage_drop(s->ix) : rc;
}

/* All have one file, so one at a time writes it; and it takes long, so each pair does it once or twice. */
static int call_graph_on_disk(scene *s) {
    static int64_t made;
    static uint32_t taken;
    ev_disk *d = NULL;
    ev_disk_stats stats;
    if (s->graph && ev__add64(&made, 1) % repeats) return EV_OK;
    if (!ev__try_take(&taken)) return EV_OK;
    int rc = ev_disk_write(s->ix, GRAPH, 2, NULL, NULL);
    if (rc == EV_OK) rc = ev_disk_open(GRAPH, 0, &d);
    if (rc == EV_OK) ev_disk_get_stats(d, &stats);
    if (rc == EV_OK && stats.dim != DIM) rc = EV_E_CORRUPT;
    ev_disk_free(d);
    ev__give_back(&taken);
    return rc;
}

/* Of the one that every pair shares; the last closes a second one. */
static int call_reads_of_graph(scene *s) {
    ev_disk_report report;
    float vector[DIM], distances[16 * K];
    int64_t found[16 * K], cursor = 0, written = 0;
    int32_t held = 0;
    ev_disk_search_params p = {.k = K, .ef = 20, .threads = 2};
    ev_disk *other = NULL;
    if (!s->graph) return EV_OK; /* no pair, but the call alone */
    int rc = ev_disk_search(s->graph, 16, rows, &p, found, distances);
    if (rc == EV_OK) rc = ev_disk_get(s->graph, 1, ids, vector);
    if (rc == EV_OK) rc = ev_disk_contains(s->graph, ids[0], &held);
    if (rc == EV_OK) rc = ev_disk_ids(s->graph, &cursor, K, found, &written);
    if (rc == EV_OK) rc = ev_disk_check(s->graph, &report);
    if (rc == EV_OK && (held != 1 || written != K || report.live != FIXED)) rc = EV_E_CORRUPT;
    if (rc == EV_OK) rc = ev_disk_open(SHARED, 1, &other);
    if (rc == EV_OK) rc = ev_disk_close(other);
    ev_disk_free(other);
    return rc;
}

/* Every public call: the names, what makes them, and what that gives in a callback of a call on the same index.
 * tests/project/test_c_calls.py compares the names with edgevec.h. */
static const struct {
    const char *names;
    int (*make)(scene *);
    int within;
} calls[] = {
    {"ev_get", call_get, EV_E_REENTRANT},
    {"ev_search", call_search, EV_E_REENTRANT},
    {"ev_search", call_search_batch, EV_E_REENTRANT},
    {"ev_set_interrupt", call_watched, EV_E_REENTRANT},
    {"ev_context_new ev_context_stats ev_context_free", call_search_context, EV_E_REENTRANT},
    {"ev_ids", call_ids, EV_E_REENTRANT},
    {"ev_set_ef", call_set_ef, EV_E_REENTRANT},
    {"ev_set_memory_limit", call_set_limit, EV_OK},
    {"ev_set_disk_path", call_set_path, EV_E_REENTRANT},
    {"ev_check", call_check, EV_E_REENTRANT},
    {"ev_save", call_save, EV_E_REENTRANT},
    {"ev_save_bytes ev_load_bytes ev_load_bytes_within", call_bytes, EV_E_REENTRANT},
    {"ev_disk_write ev_disk_open ev_disk_get_stats ev_disk_free", call_graph_on_disk, EV_E_REENTRANT},
    {"ev_disk_search ev_disk_get ev_disk_contains ev_disk_ids ev_disk_check ev_disk_close", call_reads_of_graph, EV_OK},
    {"ev_add", call_add, EV_E_REENTRANT},
    {"ev_remove", call_remove, EV_E_REENTRANT},
    {"ev_compact", call_compact, EV_E_REENTRANT},
    {"ev_stage ev_stage_commit ev_stage_settle ev_stage_drop", call_stage, EV_E_REENTRANT},
    {"ev_load ev_load_within", call_load, EV_OK},
    {"ev_filter_new ev_filter_count ev_filter_is_of ev_filter_free", call_filter, EV_OK},
    {"ev_new ev_close ev_free", call_new, EV_OK},
    {"ev_get_params ev_get_stats ev_memory_usage ev_count ev_contains", call_accessors, EV_OK},
    {"ev_strerror ev_error_detail ev_error_row ev_error_errno", call_failing, EV_OK},
    {"ev_version ev_simd_active ev_simd_compiled ev_simd_available ev_simd_forced", call_machine, EV_OK},
    {"ev_selftest", call_selftest, EV_OK},
    {"ev_read_numbers", call_numbers, EV_OK},
    {"ev_set_interrupt", call_set_interrupt, EV_OK},
};
enum { CALLS = sizeof calls / sizeof *calls };

typedef struct {
    scene *s;
    int of[2];
} pair;

static void make_calls(void *arg, int worker) {
    pair *p = arg;
    int64_t bad = 0;
    for (int i = 0; i < repeats; i++) bad += calls[p->of[worker]].make(p->s) != EV_OK;
    ev__add64(&p->s->bad, bad);
}

/* Where it is opened without a look at it, each pair begins with an index that lacks what the first of many calls
 * makes.
 */
static void every_pair(int32_t quantization, int32_t keep, bool unverified) {
    ev_params p = {DIM, EV_METRIC_L2, quantization, 8, 40, 44, keep, 7};
    scene s = {0};
    CHECK(ev_new(&p, &s.ix) == EV_OK);
    CHECK(ev_filter_new(FIXED, ids, &s.fixed) == EV_OK);
    CHECK(ev_add(s.ix, FIXED, rows, ids, NULL, 2, NULL, NULL) == EV_OK);
    CHECK(ev_save(s.ix, PATH) == EV_OK);
    CHECK(ev_disk_write(s.ix, SHARED, 2, NULL, NULL) == EV_OK && ev_disk_open(SHARED, 0, &s.graph) == EV_OK);
    for (int a = 0; a < CALLS; a++)
        for (int b = a; b < CALLS; b++) {
            if (unverified) {
                ev_free(s.ix);
                CHECK(ev_load(PATH, EV_MAP_UNVERIFIED, &s.ix) == EV_OK);
            }
            pair both = {&s, {a, b}};
            ev__parallel(2, make_calls, &both);
            if (s.bad) printf("%s beside %s\n", calls[a].names, calls[b].names);
            CHECK(s.bad == 0);
            s.bad = 0;
        }
    ev_filter_free(s.fixed);
    ev_free(s.ix);
    ev_disk_free(s.graph);
    remove(PATH);
    remove(SAVED);
    remove(GRAPH);
    remove(SHARED);
}

/* ---- an index that is closed beside calls ---------------------------------------------------------- */

typedef struct {
    scene *s;
    int of;
    int64_t made; /* atomic */
} closing;

/* One thread makes a call again and again until it is refused; the other closes the index meanwhile. */
static void call_or_close(void *arg, int worker) {
    closing *c = arg;
    int rc = EV_OK;
    if (worker) {
        while (ev__atomic_load64(&c->made) < 2) {
        }
        CHECK(ev_close(c->s->ix) == EV_OK);
        return;
    }
    for (; rc == EV_OK; ev__add64(&c->made, 1)) rc = calls[c->of].make(c->s);
    ev__add64(&c->s->bad, rc != EV_E_CLOSED);
    ev__add64(&c->made, 2);
}

static void closed_beside_each(void) {
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 8, 40, 44, EV_VECTORS_SQ24, 7};
    for (int i = 0; i < CALLS; i++) {
        if (calls[i].within != EV_E_REENTRANT) continue;
        scene s = {0};
        closing c = {&s, i, 0};
        CHECK(ev_new(&p, &s.ix) == EV_OK);
        CHECK(ev_filter_new(FIXED, ids, &s.fixed) == EV_OK);
        CHECK(ev_add(s.ix, FIXED, rows, ids, NULL, 2, NULL, NULL) == EV_OK);
        ev__parallel(2, call_or_close, &c);
        if (s.bad) printf("%s beside ev_close\n", calls[i].names);
        CHECK(s.bad == 0 && ev_close(s.ix) == EV_E_CLOSED && ev_count(s.ix) == 0);
        ev_filter_free(s.fixed);
        ev_free(s.ix);
    }
    remove(PATH);
    remove(SAVED);
}

/* The first calls that a process makes, on many threads at once. */
static void make_first_calls(void *arg, int worker) {
    scene s = {0};
    int64_t *bad = arg;
    (void)worker;
    ev__add64(bad, (call_machine(&s) != EV_OK) + (call_failing(&s) != EV_OK));
}

static void first_calls(void) {
    int64_t bad = 0;
    ev__parallel(READERS, make_first_calls, &bad);
    CHECK(bad == 0);
}

/* ---- small indexes, which share what they search with -------------------------------------------- */

static void make_small_ones(void *arg, int worker) {
    int64_t *bad = arg;
    for (int32_t round = 0; round < ROUNDS; round++) {
        ev_params p = {DIM - round % 3, EV_METRIC_L2, round % 3, 8, 40, 40, EV_VECTORS_SQ24, 7};
        ev_index *ix = NULL;
        int64_t found[K];
        float distances[K];
        ev_search_params how = {.k = K, .threads = 1};
        int rc = ev_new(&p, &ix);
        if (rc == EV_OK) rc = ev_add(ix, K, rows, ids, NULL, 1, NULL, NULL);
        for (int i = 0; rc == EV_OK && i < 3; i++) {
            rc = ev_search(ix, 1, rows + (worker + i) % K * p.dim, &how, found, distances);
            if (rc == EV_OK && found[0] != ids[(worker + i) % K]) rc = EV_E_CORRUPT;
        }
        ev__add64(bad, rc != EV_OK);
        ev_free(ix);
    }
}

static void many_small(void) {
    enum { THREADS = 6 };
    int64_t bad = 0;
    ev__parallel(THREADS, make_small_ones, &bad);
    CHECK(bad == 0);
}

/* ---- a context is for one search at a time ----------------------------------------------------- */

typedef struct {
    scene *s;
    ev_context *context;
    int64_t answered, busy;
} shared_context;

static void search_with_it(void *arg, int worker) {
    shared_context *c = arg;
    int64_t found[8 * K];
    float distances[8 * K];
    for (int round = 0; round < ROUNDS; round++) {
        ev_search_params p = {.k = K, .exact = 1, .threads = 1, .context = c->context};
        ev_search_stats stats;
        int rc = ev_search(c->s->ix, 1 + worker % 2 * 7, rows, &p, found, distances);
        if (rc == EV_OK && !is_answer(found, distances, false)) rc = EV_E_CORRUPT;
        ev_context_stats(c->context, &stats);
        ev__add64(&c->answered, rc == EV_OK);
        ev__add64(&c->busy, rc == EV_E_BUSY);
    }
}

static void one_context_for_many(void) {
    enum { THREADS = 4 };
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 8, 40, 40, EV_VECTORS_SQ24, 7};
    scene s = {0};
    CHECK(ev_new(&p, &s.ix) == EV_OK);
    CHECK(ev_add(s.ix, ROWS, rows, ids, NULL, 4, NULL, NULL) == EV_OK);
    shared_context c = {.s = &s};
    CHECK(ev_context_new(s.ix, &c.context) == EV_OK);
    ev__parallel(THREADS, search_with_it, &c);
    CHECK(c.answered + c.busy == THREADS * ROUNDS && c.answered > 0);
    /* given back by a search that fails, too */
    int64_t found[K];
    float distances[K];
    ev_search_params bad = {.k = 0, .context = c.context}, good = {.k = K, .threads = 1, .context = c.context};
    CHECK(ev_search(s.ix, 1, rows, &bad, found, distances) == EV_E_PARAM);
    for (int64_t n = 1; n <= 3; n++) {
        ev_search_params deep = {.k = ROWS, .ef = ROWS, .threads = 1, .context = c.context, .filter = NULL};
        static int64_t many[ROWS];
        static float far[ROWS];
        ev_fault_alloc(n);
        int rc = ev_search(s.ix, 1, rows, &deep, many, far);
        ev_fault_alloc(0);
        CHECK(rc == EV_OK || rc == EV_E_NOMEM);
        CHECK(ev_search(s.ix, 1, rows, &good, found, distances) == EV_OK);
    }
    ev_context_free(c.context);
    ev_free(s.ix);
}

/* ---- callbacks ---------------------------------------------------------------------------------- */

typedef struct {
    ev_index *ix, *other;
    ev_filter *fixed;
    int64_t live, times;
} told;

static int ask_everything(void *user, int64_t done, int64_t total) {
    told *t = user;
    scene s = {.ix = t->ix, .fixed = t->fixed}, elsewhere = {.ix = t->other, .fixed = t->fixed};
    (void)done, (void)total;
    CHECK(ev_count(t->ix) == t->live && ev_contains(t->ix, ids[0]));
    for (int i = 0; i < CALLS; i++) {
        CHECK(calls[i].make(&s) == calls[i].within);
        CHECK(calls[i].make(&elsewhere) == EV_OK);
    }
    t->times++;
    return 1;
}

static void calls_from_callbacks(void) {
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 8, 40, 44, EV_VECTORS_SQ24, 7};
    told t = {.live = FIXED};
    CHECK(ev_filter_new(FIXED, ids, &t.fixed) == EV_OK);
    for (int i = 0; i < 2; i++) {
        ev_index **ix = i ? &t.other : &t.ix;
        CHECK(ev_new(&p, ix) == EV_OK);
        CHECK(ev_add(*ix, FIXED, rows, ids, NULL, 1, NULL, NULL) == EV_OK);
    }
    CHECK(ev_save(t.ix, PATH) == EV_OK);
    for (int threads = 1; threads <= 3; threads += 2)
        CHECK(ev_add(t.ix, FIXED, rows, ids, NULL, threads, ask_everything, &t) == EV_OK);
    CHECK(ev_compact(t.ix, ask_everything, &t) == EV_OK);
    CHECK(t.times >= 6);
    /* afterwards all is as it was: the locks are free, and a writer comes through */
    scene s = {.ix = t.ix, .fixed = t.fixed};
    for (int i = 0; i < CALLS; i++) CHECK(calls[i].make(&s) == EV_OK);
    ev_free(t.ix);
    ev_free(t.other);
    ev_filter_free(t.fixed);
    remove(PATH);
    remove(SAVED);
}

static int no_flush(void *user, void *file) {
    (void)user, (void)file;
    return 0;
}

int main(void) {
    const char *fewer = getenv("EDGEVEC_TEST_REPEATS");
    if (fewer) repeats = atoi(fewer);
    CHECK(repeats > 0);
    ev_file_ops ops = *ev__file_ops();
    ops.sync = no_flush; /* hundreds of saves: do not wait for the disk */
    ev_set_file_ops(&ops);
    first_calls();
    make_rows();
    calls_from_callbacks();
    many_small();
    one_context_for_many();
    closed_beside_each();
    every_pair(EV_QUANT_SQ8, EV_VECTORS_SQ24, false);
    every_pair(EV_QUANT_SQ8, EV_VECTORS_SQ24, true);
    every_pair(EV_QUANT_BINARY, EV_VECTORS_NONE, false);
    check_kind(EV_METRIC_L2, EV_QUANT_NONE);
    check_kind(EV_METRIC_COSINE, EV_QUANT_SQ8);
    check_kind(EV_METRIC_IP, EV_QUANT_BINARY);
    return check_summary();
}
