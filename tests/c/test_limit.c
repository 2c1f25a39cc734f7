/* A limit that holds: what an index counts is what the allocator has given out for it, never more than its limit, and
 * a call that would pass it changes nothing. */
#include "check.h"
#include "counting.h"
#include "edgevec_test.h"
#include "number.h"

enum { DIM = 48, ROWS = 3000, STEP = 100, K = 5 };

static float rows[ROWS][DIM];

static const int32_t kinds[] = {EV_QUANT_NONE, EV_QUANT_SQ8, EV_QUANT_BINARY, EV_QUANT_SQ8};
static const int32_t keeps[] = {EV_VECTORS_FLOAT32, EV_VECTORS_SQ24, EV_VECTORS_FLOAT32, EV_VECTORS_NONE};

static void make_rows(void) {
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < DIM; j++) rows[i][j] = number((uint64_t)(i * DIM + j)) + (float)(i / 1000);
}

static ev_index *make_index(size_t kind) {
    ev_params p = {.dim = DIM,
                   .metric = EV_METRIC_L2,
                   .quantization = kinds[kind],
                   .keep_vectors = keeps[kind],
                   .M = 8,
                   .ef_construction = 40,
                   .ef = 40};
    ev_index *ix = NULL;
    CHECK(ev_new(&p, &ix) == EV_OK);
    return ix;
}

static ev_memory memory_of(ev_index *ix) {
    ev_memory m;
    ev_memory_usage(ix, &m);
    return m;
}

/* others: bytes that are of no index. */
static void check_count(ev_index *ix, int64_t others) {
    CHECK(memory_of(ix).held == held_bytes - ev_shared_bytes() - others);
}

static int search(ev_index *ix, int32_t exact, ev_filter *filter, ev_context *context) {
    int64_t ids[K];
    float distances[K];
    ev_search_params p = {.k = K, .exact = exact, .filter = filter, .context = context, .threads = 1};
    return ev_search(ix, 1, rows[7], &p, ids, distances);
}

static int search_many(ev_index *ix, int32_t threads) {
    static int64_t ids[500 * K];
    static float distances[500 * K];
    ev_search_params p = {.k = K, .threads = threads};
    return ev_search(ix, 500, *rows, &p, ids, distances);
}

static int add(ev_index *ix, int64_t from, int64_t n, int32_t threads) {
    int64_t ids[ROWS];
    for (int64_t i = 0; i < n; i++) ids[i] = from + i;
    return ev_add(ix, n, rows[from], ids, NULL, threads, NULL, NULL);
}

static int stage(ev_index *ix, int64_t from, int64_t n) {
    int64_t ids[ROWS];
    for (int64_t i = 0; i < n; i++) ids[i] = from + i;
    return ev_stage(ix, n, rows[from], ids, 2, NULL, NULL);
}

/* ---- what is counted ------------------------------------------------------------------------- */

/* Through everything that allocates: the bytes counted are those that the allocator holds. */
static void test_count(size_t kind, int32_t threads) {
    int64_t before = held_bytes - ev_shared_bytes(), removed;
    ev_index *ix = make_index(kind), *other;
    ev_context *context;
    ev_filter *filter;
    ev_report report;
    check_count(ix, before);
    for (int64_t at = 0; at < 10; at++) CHECK(add(ix, at, 1, threads) == EV_OK); /* small: scratches are shared */
    CHECK(search(ix, 0, NULL, NULL) == EV_OK);
    check_count(ix, before);
    for (int64_t at = 0; at < ROWS; at += STEP) {
        CHECK(add(ix, at, STEP, threads) == EV_OK);
        check_count(ix, before);
    }
    CHECK(ev_context_new(ix, &context) == EV_OK);
    check_count(ix, before);
    CHECK(search(ix, 0, NULL, context) == EV_OK && search_many(ix, threads) == EV_OK);
    check_count(ix, before);
    ev_context *short_lived;
    CHECK(ev_context_new(ix, &short_lived) == EV_OK && search(ix, 0, NULL, short_lived) == EV_OK);
    ev_context_free(short_lived);
    check_count(ix, before);
    int64_t some[] = {1, 5, 1900}, held = held_bytes;
    CHECK(ev_filter_new(3, some, &filter) == EV_OK);
    int64_t of_filter = held_bytes - held;
    CHECK(search(ix, 0, filter, context) == EV_OK && search(ix, 1, filter, NULL) == EV_OK);
    check_count(ix, before + of_filter);
    for (int i = 0; i < 12; i++) CHECK(search(ix, 1, NULL, NULL) == EV_OK); /* makes codes of 4 bits */
    check_count(ix, before + of_filter);
    for (int64_t at = 0; at < ROWS; at += 3) CHECK(ev_remove(ix, 1, &at, &removed) == EV_OK);
    CHECK(add(ix, 0, STEP, threads) == EV_OK);
    CHECK(stage(ix, 500, STEP) == EV_OK);
    check_count(ix, before + of_filter);
    CHECK(ev_stage_commit(ix, 3, some) == EV_OK && ev_stage_settle(ix) == EV_OK);
    CHECK(stage(ix, 700, STEP) == EV_OK && ev_stage_drop(ix) == EV_OK && ev_stage_settle(ix) == EV_OK);
    check_count(ix, before + of_filter);
    CHECK(ev_check(ix, &report) == EV_OK && report.bad_links + report.bad_codes + report.bad_ids == 0);
    CHECK(ev_compact(ix, NULL, NULL) == EV_OK);
    check_count(ix, before + of_filter);
    CHECK(memory_of(ix).peak <= most_held_bytes && memory_of(ix).peak > memory_of(ix).held);

    int64_t bytes, of_first = memory_of(ix).held;
    CHECK(ev_save_bytes(ix, 0, NULL, &bytes) == EV_OK);
    char *file = malloc((size_t)bytes);
    CHECK(file && ev_save_bytes(ix, bytes, file, &bytes) == EV_OK);
    CHECK(ev_load_bytes(bytes, file, &other) == EV_OK);
    CHECK(memory_of(ix).held == of_first);
    check_count(other, before + of_filter + of_first);
    CHECK(search(other, 0, filter, NULL) == EV_OK); /* the filter forgets its set of the first index's slots */
    check_count(other, before + of_filter + memory_of(ix).held);
    ev_free(other);
    free(file);

    CHECK(ev_close(ix) == EV_OK);
    ev_free(ix);
    ev_context_free(context); /* after its index */
    ev_filter_free(filter);
    CHECK(held_bytes - ev_shared_bytes() == before);
}

/* ---- what it refuses ------------------------------------------------------------------------- */

/* Fill it up to its limit, in steps of every size: what is refused changes nothing, not even what is held. */
static void test_full(size_t kind, int32_t threads, int64_t limit, int64_t step) {
    int64_t before = held_bytes - ev_shared_bytes(), held = 0, refused = 0, removed;
    ev_index *ix = make_index(kind);
    ev_report report;
    CHECK(ev_set_memory_limit(ix, limit) == EV_OK && memory_of(ix).limit == limit);
    for (int64_t at = 0; at + step <= ROWS; at += step) {
        int64_t bytes = memory_of(ix).held;
        int rc = add(ix, at, step, threads);
        CHECK(rc == EV_OK || rc == EV_E_MEMORY_LIMIT);
        if (rc == EV_OK) {
            held += step;
            continue;
        }
        refused++;
        CHECK(strstr(ev_error_detail(), "are held, and") != NULL);
        CHECK(memory_of(ix).held <= bytes || !keeps[kind]); /* the only copy of codes may have been in the way */
        if (refused > 3) break;
    }
    CHECK(refused > 0 && ev_count(ix) == held);
    CHECK(memory_of(ix).peak <= limit && memory_of(ix).held <= limit);
    CHECK(memory_of(ix).held == held_bytes - ev_shared_bytes() - before);
    CHECK(search(ix, 0, NULL, NULL) == EV_OK && search_many(ix, threads) == EV_OK); /* room was left for that */
    int rc = ev_check(ix, &report);
    CHECK(rc == EV_OK || rc == EV_E_MEMORY_LIMIT);
    if (rc == EV_OK) CHECK(report.live == held && report.bad_links + report.bad_codes + report.bad_ids == 0);
    rc = ev_compact(ix, NULL, NULL);
    CHECK(rc == EV_OK || rc == EV_E_MEMORY_LIMIT);
    CHECK(ev_count(ix) == held && memory_of(ix).peak <= limit);
    CHECK(ev_set_memory_limit(ix, 1) == EV_OK); /* less than it holds */
    CHECK(add(ix, ROWS - 1, 1, 1) == EV_E_MEMORY_LIMIT && ev_count(ix) == held);
    int64_t first = 0;
    CHECK(ev_remove(ix, 1, &first, &removed) == EV_OK && removed == (held > 0));
    CHECK(ev_set_memory_limit(ix, 0) == EV_OK);
    CHECK(add(ix, 0, ROWS, threads) == EV_OK && ev_count(ix) == ROWS);
    CHECK(ev_check(ix, &report) == EV_OK && report.bad_links + report.bad_codes + report.bad_ids == 0);
    ev_free(ix);
    CHECK(held_bytes - ev_shared_bytes() == before);
}

/* ---- compacting ------------------------------------------------------------------------------ */

static ev_index *make_sparse(size_t kind, int64_t gone) {
    ev_index *ix = make_index(kind);
    int64_t removed;
    CHECK(add(ix, 0, ROWS, 1) == EV_OK);
    int64_t copies[] = {ROWS + 1, ROWS + 2, ROWS + 3}; /* of one row: they share its node */
    for (int i = 0; i < 3; i++) CHECK(ev_add(ix, 1, rows[5], copies + i, NULL, 1, NULL, NULL) == EV_OK);
    for (int64_t id = 0; id < ROWS; id++)
        if (id % gone == 1) CHECK(ev_remove(ix, 1, &id, &removed) == EV_OK);
    return ix;
}

static char *bytes_of(ev_index *ix, int64_t *n) {
    CHECK(ev_save_bytes(ix, 0, NULL, n) == EV_OK);
    char *bytes = malloc((size_t)*n);
    CHECK(bytes && ev_save_bytes(ix, *n, bytes, n) == EV_OK);
    return bytes;
}

static int stop_at_end(void *user, int64_t done, int64_t total) {
    (void)user;
    return done < total;
}

/* Where the limit leaves no room for a second copy the slots are moved in place: to the same file. */
static void test_in_place(size_t kind, int64_t gone) {
    int64_t before = held_bytes - ev_shared_bytes(), of_copied, of_moved, removed;
    ev_index *copied = make_sparse(kind, gone), *moved = make_sparse(kind, gone);
    int64_t held = memory_of(moved).held, limit = held + held / 4;
    CHECK(ev_compact(copied, NULL, NULL) == EV_OK);
    CHECK(memory_of(copied).peak > limit);
    CHECK(ev_set_memory_limit(moved, limit) == EV_OK);
    CHECK(ev_compact(moved, stop_at_end, NULL) == EV_E_STOPPED);
    CHECK(ev_count(moved) == ev_count(copied) && search(moved, 0, NULL, NULL) == EV_OK);
    CHECK(ev_compact(moved, NULL, NULL) == EV_OK);
    char *one = bytes_of(copied, &of_copied), *other = bytes_of(moved, &of_moved);
    CHECK(of_copied == of_moved && memcmp(one, other, (size_t)of_moved) == 0);
    /* where there is much to give back there is room for the copy of each array that this may take */
    CHECK(memory_of(moved).held <= (gone == 2 ? memory_of(copied).held : held));
    ev_report report;
    CHECK(ev_set_memory_limit(moved, 0) == EV_OK);
    CHECK(ev_check(moved, &report) == EV_OK && report.bad_links + report.bad_codes + report.bad_ids == 0);
    CHECK(add(moved, 0, ROWS, 3) == EV_OK && ev_count(moved) == ROWS + 3);
    CHECK(ev_remove(moved, 1, (int64_t[]){ROWS + 2}, &removed) == EV_OK && removed == 1);
    CHECK(ev_check(moved, &report) == EV_OK && report.bad_links + report.bad_codes + report.bad_ids == 0);
    free(one), free(other);
    ev_free(copied), ev_free(moved);
    CHECK(held_bytes - ev_shared_bytes() == before);
}

/* A file loads within what it was found to need, and is refused at once within less. */
static void test_load(size_t kind) {
    ev_index *ix = make_index(kind), *loaded = NULL;
    int64_t bytes;
    CHECK(add(ix, 0, ROWS, 1) == EV_OK && ev_save_bytes(ix, 0, NULL, &bytes) == EV_OK);
    char *file = malloc((size_t)bytes);
    CHECK(file && ev_save_bytes(ix, bytes, file, &bytes) == EV_OK);
    int64_t before = held_bytes - ev_shared_bytes();
    CHECK(ev_load_bytes_within(bytes, file, bytes / 2, &loaded) == EV_E_MEMORY_LIMIT && !loaded);
    most_held_bytes = held_bytes;
    CHECK(ev_load_bytes_within(bytes, file, bytes / 2, &loaded) == EV_E_MEMORY_LIMIT && !loaded);
    CHECK(most_held_bytes - before < bytes / 8); /* nothing was read */
    CHECK(ev_load_bytes_within(bytes, file, -1, &loaded) == EV_E_PARAM);
    CHECK(ev_load_bytes_within(bytes, file, 2 * bytes, &loaded) == EV_OK && memory_of(loaded).peak <= 2 * bytes);
    int64_t needed = memory_of(loaded).peak;
    ev_free(loaded);
    int rc = ev_load_bytes_within(bytes, file, needed + needed / 8, &loaded);
    CHECK(rc == EV_OK && memory_of(loaded).limit == needed + needed / 8);
    CHECK(search(loaded, 0, NULL, NULL) == EV_OK);
    ev_free(loaded);
    CHECK(held_bytes - ev_shared_bytes() == before);
    free(file);
    ev_free(ix);
}

static void test_parameters(void) {
    ev_index *ix = make_index(1);
    CHECK(memory_of(ix).limit == 0);
    CHECK(ev_set_memory_limit(ix, -1) == EV_E_PARAM && memory_of(ix).limit == 0);
    CHECK(ev_close(ix) == EV_OK);
    CHECK(ev_set_memory_limit(ix, 1) == EV_E_CLOSED && memory_of(ix).held == 0);
    ev_free(ix);
}

/* A search that has been made before allocates nothing, so that counting costs it nothing. */
static void test_steady_searches(void) {
    ev_index *ix = make_index(1);
    CHECK(add(ix, 0, ROWS, 3) == EV_OK && search(ix, 0, NULL, NULL) == EV_OK);
    ev_fault_alloc(0);
    for (int i = 0; i < 100; i++) CHECK(search(ix, 0, NULL, NULL) == EV_OK);
    CHECK(ev_fault_alloc(0) == 0);
    ev_free(ix);
}

/* ThreadSanitizer makes all a hundred times as slow. */
#if defined(__SANITIZE_THREAD__)
enum { KINDS = 2 };
#else
enum { KINDS = sizeof kinds / sizeof *kinds };
#endif

int main(void) {
    count_allocations();
    make_rows();
    test_parameters();
    test_steady_searches();
    for (size_t kind = KINDS == 2; kind < KINDS; kind++) {
        test_count(kind, 3);
        for (int64_t step = 1; step <= 400; step *= 20) test_full(kind, step == 20 ? 1 : 3, 200000 + step * 37, step);
        for (int64_t gone = 2; gone <= 50; gone += 48) test_in_place(kind, gone);
        test_load(kind);
    }
    CHECK(held_bytes == 0);
    return check_summary();
}
