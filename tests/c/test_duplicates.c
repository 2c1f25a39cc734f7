/* After a load the table of codes is made by the additions that come: none makes much of it, and what it says is right
 * at every step. */
#include "check.h"
#include "edgevec_test.h"
#include "index/index.h"
#include "number.h"

#include <string.h>

/* PER_ROW: slots that one added row may look at. COPIES: among the first, of their first rows. */
enum { DIM = 6, FIRST = 20000, COPIES = 100, ALL = 23000, PER_ROW = 1024 };
static const char FILE_NAME[] = "test_duplicates.edgevec";

static float rows[ALL][DIM];
static ev_index *ix;

static void make_rows(void) {
    for (int i = 0; i < ALL; i++)
        for (int j = 0; j < DIM; j++) rows[i][j] = number((uint64_t)(i * DIM + j));
    for (int i = FIRST - COPIES; i < FIRST; i++) memcpy(rows[i], rows[i - FIRST + COPIES], sizeof rows[i]);
}

static void add(int64_t id, const float *row) { CHECK(ev_add(ix, 1, row, &id, NULL, 1, NULL, NULL) == EV_OK); }

static void take_out(int64_t id) {
    int64_t removed;
    CHECK(ev_remove(ix, 1, &id, &removed) == EV_OK && removed == 1);
}

static int64_t duplicates(void) {
    ev_report r;
    CHECK(ev_check(ix, &r) == EV_OK && !r.bad_links && !r.bad_codes && !r.bad_ids);
    return r.duplicates;
}

static void load(void) {
    CHECK(ev_load(FILE_NAME, 0, &ix) == EV_OK);
    CHECK(ix->graph.store.duplicates.room == 0 && ix->graph.store.tabled == 0);
}

static size_t made(void) { return ix->graph.store.tabled; }
static bool is_whole(void) { return made() == ev__slots(&ix->graph.store); }

/* Living nodes, no two with one code; and of the slots that were looked at each living node's code. */
static void check_table(void) {
    const ev__store *store = &ix->graph.store;
    size_t used = 0;
    for (size_t i = 0; i < store->duplicates.room; i++) {
        uint32_t slot = store->duplicates.cells[i];
        if (slot == EV_NONE) continue;
        used++;
        CHECK(ev__state(store, slot) == EV_NODE && ev__duplicates_find(store, slot) == slot);
    }
    CHECK(used == store->duplicates.used && used <= store->duplicates.room - store->duplicates.room / 8);
    for (uint32_t slot = 0; slot < made(); slot++)
        if (ev__state(store, slot) == EV_NODE) CHECK(ev__duplicates_find(store, slot) != EV_NONE);
}

/* Rows that are new, one by one; returns the next. */
static int go_on(int from, int count) {
    for (int i = from; i < from + count; i++) {
        size_t before = made();
        add(i, rows[i]);
        CHECK(made() - before <= PER_ROW + 1 && (made() > before || is_whole()));
    }
    check_table();
    return from + count;
}

static void test_shared_out(void) {
    load();
    int next = go_on(FIRST, 3);
    size_t early = made() / 2, late = FIRST - COPIES - 10;
    CHECK(!is_whole());
    int64_t count = duplicates();
    add(30001, rows[early]); /* its node is in the table */
    CHECK(duplicates() == count + 1);
    add(30002, rows[late]); /* its node is not: it becomes one itself, and a second copy finds it */
    CHECK(duplicates() == count + 1);
    add(30003, rows[late]);
    CHECK(duplicates() == count + 2);
    check_table();
    add(30004, rows[late - 1]); /* in the table, and out of it before it is whole */
    take_out(30004);
    take_out(30001);
    take_out((int64_t)early); /* the code is nobody's again */
    take_out((int64_t)late - 2);
    check_table();
    next = go_on(next, FIRST / PER_ROW);
    CHECK(is_whole());
    count = duplicates();
    add(30005, rows[late - 1]); /* by the node that was there before all of it */
    add(30006, rows[late]);
    CHECK(duplicates() == count + 2);
    add((int64_t)early, rows[early]);
    add((int64_t)late - 2, rows[late - 2]);
    CHECK(duplicates() == count + 2);
    go_on(next, 50);
    ev_free(ix);
}

/* Many rows find all, at once; and what nobody waits for is made by no one. */
static void test_many_at_once(void) {
    enum { MANY = 100 };
    load();
    int64_t count = duplicates();
    CHECK(ev_add(ix, MANY, rows[500], NULL, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(is_whole() && duplicates() == count + MANY);
    check_table();
    ev_free(ix);
}

static int stop(void *user, int64_t done, int64_t total) {
    (void)user, (void)done, (void)total;
    return 0;
}

/* What is stopped or refused on the way leaves a table that is right, and the next go on. */
static void test_stopped(void) {
    load();
    int64_t live = ev_count(ix);
    CHECK(ev_add(ix, 5, rows[FIRST], NULL, NULL, 1, stop, NULL) == EV_E_STOPPED && ev_count(ix) == live);
    check_table();
    int refused = 0, next = FIRST;
    for (int n = 1; n < 12; n++) {
        int64_t id = next;
        ev_fault_alloc(n);
        int rc = ev_add(ix, 1, rows[next], &id, NULL, 1, NULL, NULL);
        ev_fault_alloc(0);
        CHECK(rc == EV_OK || rc == EV_E_NOMEM);
        refused += rc != EV_OK;
        next += rc == EV_OK;
        check_table();
    }
    CHECK(refused > 0);
    go_on(next, FIRST / PER_ROW + 1);
    CHECK(is_whole());
    ev_free(ix);
}

int main(void) {
    static const int32_t kinds[] = {EV_QUANT_NONE, EV_QUANT_SQ8};
    make_rows();
    ev_ask_every(0);
    for (int kind = 0; kind < 2; kind++) {
        ev_params p = {.dim = DIM,
                       .metric = EV_METRIC_L2,
                       .quantization = kinds[kind],
                       .M = 6,
                       .ef_construction = 20,
                       .ef = 20,
                       .keep_vectors = EV_VECTORS_FLOAT32};
        CHECK(ev_new(&p, &ix) == EV_OK);
        CHECK(ev_add(ix, FIRST, rows[0], NULL, NULL, 0, NULL, NULL) == EV_OK);
        CHECK(duplicates() >= COPIES && is_whole());
        CHECK(ev_save(ix, FILE_NAME) == EV_OK);
        ev_free(ix);
        test_shared_out();
        test_many_at_once();
        test_stopped();
        remove(FILE_NAME);
    }
    return check_summary();
}
