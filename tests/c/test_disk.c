/* Vectors on disk: the n-th read, write or scratch file of a call fails, is cut short or interrupted, for every n and
 * every call. Then the call says which file and why, nothing is lost, and the index answers as one in memory does. */
#include "check.h"
#include "edgevec_test.h"
#include "counting.h"
#include "files.h"
#include "unflushed.h"

#include <errno.h>

#define PATH "test_disk.edgevec"
#define OTHER "test_disk_other.edgevec"

/* SHORT: one byte; ENDED: none, as behind the end; UNCACHED: everything has to be waited for. */
typedef enum { FAIL, SHORT, ENDED, INTERRUPTED, UNCACHED, WAYS } way;

static ev_file_ops real;
static struct {
    long calls, fail_at;
    way how;
    int error;
    char kind;
    long advised, rounds; /* rounds: of advice, after which something was waited for */
    bool waited;
} now;

static bool hits(char kind) {
    if (++now.calls != now.fail_at) return false;
    now.kind = kind;
    return true;
}

static int t_read_at(void *user, void *file, uint64_t at, void *out, size_t n, int wait, size_t *got) {
    *got = 0;
    if (now.how == UNCACHED && !wait) return EAGAIN;
    now.waited = true;
    if (!wait && now.fail_at) return EAGAIN; /* what fails is what is waited for */
    bool hit = hits('r');
    if (hit && now.how == FAIL) return now.error;
    if (hit && now.how == INTERRUPTED) return EINTR;
    if (hit && now.how == ENDED) return 0;
    return real.read_at(user, file, at, out, hit && now.how == SHORT ? 1 : n, wait, got);
}
static int t_write_at(void *user, void *file, uint64_t at, const void *bytes, size_t n, size_t *written) {
    bool hit = hits('w');
    *written = 0;
    if (hit && (now.how == FAIL || now.how == ENDED)) return now.error;
    if (hit && now.how == INTERRUPTED) return EINTR;
    return real.write_at(user, file, at, bytes, hit && now.how == SHORT ? 1 : n, written);
}
static char asked[64]; /* for a scratch file: the last folder that has a name */
static int t_open_scratch(void *user, const char *folder, void **file) {
    if (*folder) snprintf(asked, sizeof asked, "%s", folder);
    bool hit = hits('o') && (now.how == FAIL || now.how == ENDED);
    return hit ? now.error : real.open_scratch(user, folder, file);
}
static void t_advise(void *user, void *file, uint64_t at, size_t n) {
    now.advised += n != 0;
    now.rounds += now.advised == 1 || now.waited;
    now.waited = false;
    real.advise(user, file, at, n);
}

static void begin(long n, way how, int error) {
    static ev_file_ops faulty;
    faulty = real;
    faulty.read_at = t_read_at;
    faulty.write_at = t_write_at;
    faulty.open_scratch = t_open_scratch;
    faulty.advise = t_advise;
    memset(&now, 0, sizeof now);
    now.fail_at = n;
    now.how = how;
    now.error = error;
    ev_set_file_ops(&faulty);
}
static void end(void) { ev_set_file_ops(&real); }

/* ---- answers --------------------------------------------------------------------------------- */

enum { QUERIES = 5, K = 12 };
typedef struct {
    int64_t ids[QUERIES * K];
    float distances[QUERIES * K];
    int rc;
} answers;

static answers ask(ev_index *ix, bool exact) {
    answers a;
    float queries[QUERIES * DIM];
    memset(&a, 0, sizeof a);
    for (int i = 0; i < QUERIES * DIM; i++) queries[i] = (float)(ev__mix((uint64_t)i + 99) % 2001) / 1000.0f - 1.0f;
    ev_search_params p = {.k = K, .threads = 1, .exact = exact, .ef = 30};
    a.rc = ev_search(ix, QUERIES, queries, &p, a.ids, a.distances);
    return a;
}

static bool same_answers(const answers *a, const answers *b) {
    return a->rc == EV_OK && b->rc == EV_OK && !memcmp(a->ids, b->ids, sizeof a->ids) &&
           !memcmp(a->distances, b->distances, sizeof a->distances);
}

/* Exact ones do not depend on how it was built. */
static bool answers_as(ev_index *ix, ev_index *twin) {
    answers a = ask(ix, true), b = ask(twin, true);
    return same_answers(&a, &b) && ev_count(ix) == ev_count(twin);
}

/* ---- calls ----------------------------------------------------------------------------------- */

enum { SEARCH, EXACT, GET, CHECK_IT, SAVE, COMPACT, ADD, GROW, CALLS };
static const char *const names[] = {"search", "exact", "get", "check", "save", "compact", "add", "grow"};

static int add_some(ev_index *ix, int64_t first, int64_t n) {
    float rows[ROWS * DIM];
    int64_t ids[ROWS];
    for (int64_t i = 0; i < n; i++) ids[i] = first + i;
    for (int64_t i = 0; i < n * DIM; i++)
        rows[i] = (float)(ev__mix((uint64_t)(first * DIM + i + 7777)) % 2001) / 1000.0f - 1.0f;
    return ev_add(ix, n, rows, ids, NULL, 1, NULL, NULL);
}

static int make_call(ev_index *ix, int call) {
    float rows[40 * DIM];
    int64_t ids[40];
    ev_report report;
    for (int i = 0; i < 40; i++) ids[i] = i < 20 ? i + 10 : ROWS + i;
    switch (call) {
    case SEARCH: return ask(ix, false).rc;
    case EXACT: return ask(ix, true).rc;
    case GET: return ev_get(ix, 40, ids, rows);
    case CHECK_IT: return ev_check(ix, &report);
    case SAVE: return ev_save(ix, OTHER);
    case COMPACT: return ev_compact(ix, NULL, NULL);
    case ADD: return add_some(ix, 5, 12);
    default: return add_some(ix, 1000, ROWS); /* by so much that the center is learned anew */
    }
}

/* Some rows are in the index file, some in a scratch file, some were removed; the same in memory. */
static ev_index *made(int32_t how) {
    ev_index *ix = load(PATH, how);
    int64_t removed, gone[] = {0, 1, 2, 3};
    add_rows(ix, ROWS, ROWS / 2);
    CHECK(ev_remove(ix, 4, gone, &removed) == EV_OK && removed == 4);
    return ix;
}

static bool is_harmless(void) { return !now.kind || now.how == SHORT || now.how == INTERRUPTED || now.how == UNCACHED; }

/* Returns how many calls to the system were made. */
static long call_with(int32_t keep, int call, long n, way how, int error) {
    int64_t held = held_bytes;
    ev_index *ix = made(EV_MAP_DISK), *twin = made(EV_MAP_NONE);
    begin(n, how, error);
    int rc = make_call(ix, call);
    long calls = now.calls;
    bool told = rc == EV_OK || (rc == EV_E_IO && (strstr(ev_error_detail(), PATH) || strstr(ev_error_detail(), "./")) &&
                                ev_error_errno() == (now.how == ENDED && now.kind == 'r' ? EIO : error));
    end();
    if (!told)
        printf("%s, call %ld, way %d: %d '%s' %d\n", names[call], n, how, rc, ev_error_detail(), ev_error_errno());
    CHECK(told);
    /* past the moment from which an addition counts, a read that fails costs it nothing */
    CHECK(is_harmless() ? rc == EV_OK : rc == EV_E_IO || call == ADD || call == GROW || now.kind == 'o');
    if (rc == EV_OK) CHECK(make_call(twin, call) == EV_OK);
    CHECK(answers_as(ix, twin) || keep == EV_VECTORS_SQ24); /* there the center may have been learned */
    CHECK(is_sound(ix, ev_count(twin)));
    if (rc != EV_OK) { /* made again, it succeeds */
        CHECK(make_call(ix, call) == EV_OK && make_call(twin, call) == EV_OK);
        CHECK(ev_count(ix) == ev_count(twin) && is_sound(ix, ev_count(twin)));
        if (call != GROW) CHECK(answers_as(ix, twin) || keep == EV_VECTORS_SQ24);
    }
    ev_free(ix);
    ev_free(twin);
    CHECK(held_bytes == held);
    return calls;
}

static void check_kind(int32_t metric, int32_t quantization, int32_t keep) {
    ev_index *ix = make_in(EV_STORAGE_DISK, metric, quantization, keep), *twin = make(metric, quantization, keep);
    add_rows(ix, 0, ROWS);
    add_rows(twin, 0, ROWS);
    CHECK(ev_save(ix, PATH) == EV_OK && ev_save(twin, OTHER) == EV_OK);
    bytes a = read_all(PATH), b = read_all(OTHER);
    CHECK(equal(a, b));
    free(a.at);
    free(b.at);
    answers one = ask(ix, false), other = ask(twin, false);
    CHECK(same_answers(&one, &other));
    ev_free(ix);
    ev_free(twin);
    for (int call = 0; call < CALLS; call++) {
        long most = call_with(keep, call, 0, UNCACHED, 0), tried = 0;
        for (way how = FAIL; how < UNCACHED; how++)
            for (long n = 1, calls = most; n <= calls; n += 1 + n / 8, tried++) {
                long made_now = call_with(keep, call, n, how, how == ENDED ? ENOSPC : EIO);
                if (how == FAIL && made_now < n) break;
            }
        printf("quantization %d, vectors %d, %s: %ld calls, %ld faults\n", quantization, keep, names[call], most,
               tried);
        CHECK((most > 0 && tried > 0) || (call == CHECK_IT && keep == EV_VECTORS_SQ24)); /* it looks at codes alone */
    }
}

/* A search asks for all that it ranks before it waits for any of it. */
static void check_advice(void) {
    ev_index *ix = load(PATH, EV_MAP_DISK);
    for (int i = 0; i < QUERIES; i++) {
        float query[DIM], distances[K];
        int64_t ids[K];
        for (int j = 0; j < DIM; j++) query[j] = (float)(ev__mix((uint64_t)(i * DIM + j)) % 2001) / 1000.0f - 1.0f;
        ev_search_stats stats = {0};
        /* more candidates than results, and few enough for a walk to be cheaper than a scan */
        ev_search_params p = {.k = 4, .threads = 1, .ef = 14, .stats = &stats};
        begin(0, UNCACHED, 0);
        CHECK(ev_search(ix, 1, query, &p, ids, distances) == EV_OK);
        end();
        CHECK(stats.strategy == EV_STRATEGY_GRAPH && now.rounds == 1 && now.advised > 4);
    }
    ev_free(ix);
}

/* As many as there are, so far off that codes have to be made anew. */
static void add_far(ev_index *ix) {
    float rows[ROWS * DIM];
    int64_t ids[ROWS];
    for (int64_t i = 0; i < ROWS; i++) ids[i] = 5000 + i;
    for (int64_t i = 0; i < ROWS * DIM; i++) rows[i] = (float)(ev__mix((uint64_t)i + 5) % 2001) / 1000.0f + 9.0f;
    CHECK(ev_add(ix, ROWS, rows, ids, NULL, 1, NULL, NULL) == EV_OK);
}

/* Where there is no memory for a second copy, codes are made anew in place; what fails then cannot be taken back. */
static void check_broken(void) {
    int broken = 0, whole = 0;
    for (int64_t allocation = 1; allocation < 30; allocation++)
        for (long n = 1; n < 600; n += 23) {
            ev_index *ix = load(PATH, EV_MAP_DISK), *twin = load(PATH, EV_MAP_NONE);
            int64_t removed, gone[ROWS];
            for (int64_t i = 0; i < ROWS; i++) gone[i] = i < ROWS - 10 ? i : -1;
            add_far(ix);
            add_far(twin);
            CHECK(ev_remove(ix, ROWS, gone, &removed) == EV_OK && ev_remove(twin, ROWS, gone, &removed) == EV_OK);
            begin(n, FAIL, EIO);
            ev_fault_alloc(allocation);
            int rc = ev_compact(ix, NULL, NULL);
            ev_fault_alloc(0);
            end();
            if (ask(ix, true).rc == EV_E_IO) {
                broken++;
                CHECK(rc == EV_E_IO && strstr(ev_error_detail(), "load it again"));
                CHECK(ev_save(ix, OTHER) == EV_E_IO && ev_close(ix) == EV_OK && ev_close(ix) == EV_E_CLOSED);
            } else {
                whole += rc == EV_OK;
                CHECK(answers_as(ix, twin) && is_sound(ix, ev_count(twin)));
            }
            ev_free(ix);
            ev_free(twin);
        }
    printf("%d broken, %d whole\n", broken, whole);
    CHECK(broken > 0 && whole > 0);
}

/* What was cut off is an error, and not a signal; and no longer one when it is there again. */
static void check_cut_off(void) {
    bytes whole = read_all(PATH), cut = {whole.at, whole.count / 4};
    ev_index *ix = load(PATH, EV_MAP_DISK), *twin = load(PATH, EV_MAP_NONE);
    write_all(PATH, cut); /* fopen truncates the file that is open */
    CHECK(ask(ix, true).rc == EV_E_IO && strstr(ev_error_detail(), PATH) && strstr(ev_error_detail(), "cut off"));
    CHECK(ev_save(ix, OTHER) == EV_E_IO);
    CHECK(ev_compact(ix, NULL, NULL) == EV_OK || ev_error_errno() == EIO);
    write_all(PATH, whole);
    CHECK(answers_as(ix, twin));
    ev_free(ix);
    ev_free(twin);
    free(whole.at);
}

/* Errors and scratch files go by the file that the index is known as, whichever it is loaded from or saved to. */
static void check_known_as(void) {
    bytes whole = read_all(PATH), cut = {whole.at, whole.count / 4};
    ev_index *ix = load(PATH, EV_MAP_DISK), *fresh = make_in(EV_STORAGE_DISK, EV_METRIC_L2, EV_QUANT_SQ8, 1);
    ev_index *memory = load(PATH, EV_MAP_NONE);
    CHECK(ev_set_disk_path(memory, "known/as") == EV_E_PARAM && strstr(ev_error_detail(), "none there"));
    ev_free(memory);
    CHECK(ev_set_disk_path(ix, "other") == EV_OK && ev_set_disk_path(ix, "known/as") == EV_OK);
    CHECK(ev_set_disk_path(fresh, "new/one") == EV_OK);
    write_all(PATH, cut);
    CHECK(ask(ix, true).rc == EV_E_IO && strstr(ev_error_detail(), "'known/as'"));
    write_all(PATH, whole);
    begin(0, FAIL, 0);
    add_rows(fresh, 0, 3); /* there is no such folder */
    CHECK(!strcmp(asked, "new/"));
    add_rows(ix, ROWS, 3);
    CHECK(!strcmp(asked, "known/"));
    end();
    CHECK(ev_save(ix, OTHER) == EV_OK);
    bytes other = read_all(OTHER);
    write_all(OTHER, cut);
    CHECK(ask(ix, true).rc == EV_E_IO && strstr(ev_error_detail(), "'known/as'"));
    write_all(OTHER, other);
    CHECK(ask(ix, true).rc == EV_OK);
    for (int64_t n = 1; n < 4; n++) {
        ev_fault_alloc(n);
        int rc = ev_set_disk_path(ix, "a/third");
        CHECK(rc == (ev_fault_alloc(0) >= n ? EV_E_NOMEM : EV_OK));
    }
    CHECK(ask(ix, true).rc == EV_OK);
    ev_free(ix);
    ev_free(fresh);
    free(whole.at);
    free(other.at);
}

/* Whichever allocation fails, all is as before, and the call succeeds when it is made again. */
static void check_memory(void) {
    int64_t held = held_bytes;
    for (int call = -1; call < CALLS; call++)
        for (int64_t n = 1, failed = 1; failed && n < 400; n += 1 + n / 16) {
            ev_index *ix = call < 0 ? NULL : made(EV_MAP_DISK), *twin = made(EV_MAP_NONE);
            ev_fault_alloc(n);
            int rc = call < 0 ? ev_load(PATH, EV_MAP_DISK, &ix) : make_call(ix, call);
            failed = ev_fault_alloc(0) >= n;
            CHECK(rc == EV_OK || rc == EV_E_NOMEM);
            if (call < 0) {
                CHECK((rc == EV_OK) == (ix != NULL));
            } else {
                if (rc == EV_OK) CHECK(make_call(twin, call) == EV_OK);
                CHECK(answers_as(ix, twin) && is_sound(ix, ev_count(twin)));
            }
            ev_free(ix);
            ev_free(twin);
            CHECK(held_bytes == held);
        }
}

static void check_refused(void) {
    ev_index *ix = NULL;
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_NONE, 4, 40, 40, EV_VECTORS_FLOAT32, 7, EV_STORAGE_DISK};
    CHECK(ev_new(&p, &ix) == EV_E_PARAM && strstr(ev_error_detail(), "none"));
    p.quantization = EV_QUANT_SQ8;
    p.keep_vectors = EV_VECTORS_NONE;
    CHECK(ev_new(&p, &ix) == EV_E_PARAM && strstr(ev_error_detail(), "none are kept"));
    p.storage = 2;
    CHECK(ev_new(&p, &ix) == EV_E_PARAM && !ix);
}

int main(void) {
    count_allocations();
    real = without_flushes();
    ev_set_file_ops(&real);
    check_refused();
    check_kind(EV_METRIC_L2, EV_QUANT_SQ8, EV_VECTORS_FLOAT32);
    check_advice();
    check_broken();
    check_memory();
    check_cut_off();
    check_known_as();
    check_kind(EV_METRIC_IP, EV_QUANT_SQ8, EV_VECTORS_SQ24);
    CHECK(held_bytes == 0);
    ev_set_file_ops(NULL);
    remove(PATH);
    remove(OTHER);
    return check_summary();
}
