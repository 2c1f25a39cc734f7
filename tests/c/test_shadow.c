/* Where the data have moved away from the center of the codes, single additions share the encoding among them: none
 * does much of it, and what is added, removed, stopped, saved or refused meanwhile is as if it had been done at once.
 */
#include "check.h"
#include "edgevec_test.h"
#include "index/index.h"
#include "number.h"

#include <stdlib.h>
#include <string.h>

/* GONE: of the first, removed before the others come, so that these take slots that are encoded early */
enum { DIM = 16, FIRST = 18000, GONE = 5000, ALL = 25000, K = 10, QUERIES = 50 };
enum { SAMPLE = 512, IN_TURN = 256 }; /* rows that one added row may look at */
static const char FILE_NAME[] = "test_shadow.edgevec";

static float rows[ALL][DIM], queries[QUERIES][DIM];
static bool held[ALL];
static ev_index *ix;

/* Those after the first lie elsewhere. */
static void make_rows(void) {
    for (int i = 0; i < ALL; i++)
        for (int j = 0; j < DIM; j++) rows[i][j] = number((uint64_t)(i * DIM + j)) + (i < FIRST ? 0 : 3.0f);
    for (int i = 0; i < QUERIES; i++)
        for (int j = 0; j < DIM; j++) queries[i][j] = rows[i * (ALL / QUERIES)][j] + number((uint64_t)j) / 8;
}

static ev_stats stats(void) {
    ev_stats out;
    ev_get_stats(ix, &out);
    return out;
}

static ev_report report(void) {
    ev_report out;
    CHECK(ev_check(ix, &out) == EV_OK);
    return out;
}

static int64_t bytes(void) {
    ev_memory out;
    ev_memory_usage(ix, &out);
    return out.total;
}

static void add(int64_t id, const float *row) {
    int64_t looked = stats().looked;
    CHECK(ev_add(ix, 1, row, &id, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(stats().looked - looked <= SAMPLE + IN_TURN);
    held[id] = true;
}

static void begin(int32_t quantization, int32_t keep_vectors) {
    ev_params p = {.dim = DIM,
                   .metric = EV_METRIC_L2,
                   .quantization = quantization,
                   .M = 8,
                   .ef_construction = 24,
                   .ef = 100,
                   .keep_vectors = keep_vectors};
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, FIRST, rows[0], NULL, NULL, 0, NULL, NULL) == EV_OK);
    static int64_t gone[GONE];
    int64_t removed;
    for (int i = 0; i < GONE; i++) gone[i] = i;
    CHECK(ev_remove(ix, GONE, gone, &removed) == EV_OK && removed == GONE);
    memset(held, 0, sizeof held);
    memset(held + GONE, 1, FIRST - GONE);
}

/* Until a shadow copy has been begun: then more is looked at than the sample. Returns the next row. */
static int add_until_begun(void) {
    int i = FIRST;
    for (int64_t looked = stats().looked; i < ALL && stats().looked - looked <= SAMPLE; i++) {
        looked = stats().looked;
        add(i, rows[i]);
    }
    CHECK(i > FIRST + 1000 && i < ALL - 1000);
    return i;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The share of what is found by walks that is no further than the K-th of all. */
static double recall(void) {
    static double distances[ALL];
    int64_t ids[K];
    float found[K];
    int near = 0;
    for (int q = 0; q < QUERIES; q++) {
        int n = 0;
        for (int i = 0; i < ALL; i++) {
            if (!held[i]) continue;
            distances[n] = 0;
            for (int j = 0; j < DIM; j++) {
                double off = (double)rows[i][j] - (double)queries[q][j];
                distances[n] += off * off;
            }
            n++;
        }
        qsort(distances, (size_t)n, sizeof *distances, compare);
        ev_search_params params = {.k = K, .threads = 1};
        CHECK(ev_search(ix, 1, queries[q], &params, ids, found) == EV_OK);
        for (int i = 0; i < K; i++) {
            CHECK(ids[i] >= 0 && held[ids[i]]);
            near += (double)found[i] <= distances[K - 1] * 1.001;
        }
    }
    return (double)near / (QUERIES * K);
}

static void check_whole(void) {
    ev_report r = report();
    int64_t count = 0;
    for (int i = 0; i < ALL; i++) count += held[i];
    CHECK(r.live == count);
    CHECK(r.bad_links == 0 && r.bad_codes == 0 && r.bad_ids == 0);
    CHECK(r.unreachable <= 3);
}

/* Of slots that nothing is in: as if they had never been used. */
static void check_blank(void) {
    const ev__store *store = &ix->graph.store;
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        if (ev__state(store, (uint32_t)slot) != EV_FREE) continue;
        const char *code = ev__block(store, (uint32_t)slot);
        size_t zeros = 0, nones = 0;
        while (zeros < store->quantizer.code_bytes && !code[zeros]) zeros++;
        while (nones < store->m0 && ev__links0(store, (uint32_t)slot)[nones] == EV_NONE) nones++;
        CHECK(zeros == store->quantizer.code_bytes && nones == store->m0);
        CHECK(ev__factor_of(store, (uint32_t)slot)->scale == 0);
    }
}

static int stop(void *user, int64_t done, int64_t total) {
    (void)user, (void)total;
    return done < 20;
}

/* Rows that were removed meanwhile, and are to be added again. */
static int lost[ALL], lost_count;

static void lose(int64_t id) {
    int64_t removed;
    CHECK(ev_remove(ix, 1, &id, &removed) == EV_OK && removed == 1);
    held[id] = false;
    lost[lost_count++] = (int)id;
}

/* What programs do meanwhile. */
static void disturb(int i) {
    if (i % 8 == 0) {
        lose(i - 1);
        lose(GONE + i - FIRST);
    }
    if (i % 8 == 1) add(GONE + 4000 + i % 64, rows[GONE + 4000 + i % 64]); /* an id that there is */
    if (i % 40 == 2) { /* leaves dead nodes, and free slots that the next rows take */
        int64_t live = stats().live;
        int rc = ev_add(ix, 200, rows[ALL - 1000], NULL, NULL, 1, stop, NULL);
        CHECK(rc == EV_E_STOPPED && stats().live == live);
    }
}

/* Until it is all encoded. Its links are the same then. */
static int share_out(int i, int32_t trained, bool disturbed) {
    int from = i;
    int64_t edges = 0;
    for (; stats().trainings == trained && i < ALL - 1000; i++) {
        if (i % 16 == 0) edges = report().edges;
        add(i, rows[i]);
        if (disturbed && stats().trainings == trained) disturb(i);
    }
    CHECK(stats().trainings == trained + 1);
    CHECK(i - from >= (FIRST - GONE) / IN_TURN / 2);
    edges -= report().edges;
    CHECK(edges > -400 && edges < 400);
    return i;
}

/* They are nodes again, as what they would be duplicates of is gone. */
static void add_lost_again(void) {
    int64_t duplicates = report().duplicates;
    while (lost_count) {
        int id = lost[--lost_count];
        add(id, rows[id]);
    }
    CHECK(report().duplicates == duplicates);
}

/* As duplicates, whether their nodes were there before it was encoded anew, meanwhile or after; but codes that were
 * made of codes are not those of the vectors. */
static void check_copies(int i, int32_t keep_vectors) {
    int64_t duplicates = report().duplicates;
    int from[] = {GONE + 10, 15003, FIRST + 100, i - 40 - i % 8 + 3, i};
    add(i, rows[i]);
    for (int c = 0; c < 5; c++) {
        CHECK(held[from[c]]);
        memcpy(rows[ALL - 1 - c], rows[from[c]], sizeof rows[0]);
        add(ALL - 1 - c, rows[from[c]]);
    }
    duplicates = report().duplicates - duplicates;
    CHECK(duplicates >= (keep_vectors == EV_VECTORS_FLOAT32 ? 5 : keep_vectors ? 4 : 1));
    for (int c = 0; c < 5; c++) {
        int64_t id = ALL - 1 - c, removed;
        CHECK(ev_remove(ix, 1, &id, &removed) == EV_OK);
        held[id] = false;
    }
}

static void test_shared_out(int32_t quantization, int32_t keep_vectors, bool disturbed) {
    begin(quantization, keep_vectors);
    int32_t trained = stats().trainings;
    int i = add_until_begun();
    CHECK(stats().trainings == trained);
    int64_t with_shadow = bytes();
    i = share_out(i, trained, disturbed);
    CHECK(bytes() < with_shadow);
    check_whole();
    check_blank();
    add_lost_again();
    double found = recall();
    printf("quantization %d, vectors %d: recall %.3f\n", quantization, keep_vectors, found);
    CHECK(found > (keep_vectors ? 0.95 : 0.85));
    check_copies(i, keep_vectors);
    CHECK(stats().trainings == trained + 1); /* it fits now */
    check_whole();
    ev_free(ix);
}

/* By single rows alone, too, for as long as the center is learned again because there are few. */
static void test_from_nothing(int32_t quantization, int32_t keep_vectors) {
    enum { SOON = 2048, SURE = 17000, LEAST_TRAININGS = 8 }; /* with 1, 4, 16, ..., 16,384 */
    ev_params p = {DIM, EV_METRIC_L2, quantization, 8, 24, 100, keep_vectors, 0};
    CHECK(ev_new(&p, &ix) == EV_OK);
    memset(held, 0, sizeof held);
    for (int64_t id = 0; id < SURE; id++) {
        if (id > SOON) {
            add(id, rows[id]);
            continue;
        }
        CHECK(ev_add(ix, 1, rows[id], &id, NULL, 1, NULL, NULL) == EV_OK);
        held[id] = true;
    }
    CHECK(stats().trainings == LEAST_TRAININGS);
    check_whole();
    double found = recall();
    printf("from nothing: quantization %d, vectors %d: recall %.3f\n", quantization, keep_vectors, found);
    CHECK(found > (keep_vectors ? 0.95 : 0.85));
    ev_free(ix);
}

static int note_shadow(void *noted) {
    *(bool *)noted |= ix->graph.store.shadow != NULL;
    return 1;
}

/* Many rows do it at once, beside what searches look at. */
static void test_many_at_once(int32_t keep_vectors) {
    begin(EV_QUANT_SQ8, keep_vectors);
    bool noted = false;
    int32_t trained = stats().trainings;
    ev_set_interrupt(note_shadow, &noted);
    CHECK(ev_add(ix, ALL - FIRST, rows[FIRST], NULL, NULL, 2, NULL, NULL) == EV_OK);
    ev_set_interrupt(NULL, NULL);
    memset(held + FIRST, 1, ALL - FIRST);
    CHECK(noted && stats().trainings == trained + 1);
    check_whole();
    double found = recall();
    printf("many at once: vectors %d: recall %.3f\n", keep_vectors, found);
    CHECK(found > (keep_vectors ? 0.95 : 0.85));
    ev_free(ix);
}

/* A file that is saved, and what is laid out or linked anew, meanwhile. */
static void test_ends_early(bool compacted) {
    begin(EV_QUANT_SQ8, EV_VECTORS_SQ24);
    int i = add_until_begun();
    for (int to = i + 20; i < to; i++) add(i, rows[i]);
    int64_t with_shadow = bytes();
    if (compacted) {
        int32_t trained = stats().trainings;
        CHECK(ev_compact(ix, NULL, NULL) == EV_OK);
        CHECK(stats().trainings == trained + 1);
    } else {
        CHECK(ev_save(ix, FILE_NAME) == EV_OK);
        ev_free(ix);
        CHECK(ev_load(FILE_NAME, 0, &ix) == EV_OK);
        share_out(i, stats().trainings, false);
    }
    CHECK(bytes() < with_shadow);
    check_whole();
    CHECK(recall() > 0.95);
    ev_free(ix);
    remove(FILE_NAME);
}

/* Each allocation on the way fails once: the row is refused or it is in, and all is encoded anew in the end. */
static void test_no_memory(void) {
    begin(EV_QUANT_SQ8, EV_VECTORS_SQ24);
    int32_t trained = stats().trainings;
    int i = FIRST, refused = 0;
    for (int n = 1; i < ALL - 1000 && stats().trainings == trained; n = n % 12 + 1) {
        int64_t id = i;
        ev_fault_alloc(i > FIRST + 4000 ? n : 0);
        int rc = ev_add(ix, 1, rows[i], &id, NULL, 1, NULL, NULL);
        ev_fault_alloc(0);
        CHECK(rc == EV_OK || rc == EV_E_NOMEM);
        refused += rc != EV_OK;
        if (rc == EV_OK) held[i++] = true;
    }
    CHECK(refused > 0 && stats().trainings > trained);
    check_whole();
    CHECK(recall() > 0.95);
    ev_free(ix);
}

int main(void) {
    make_rows();
    ev_ask_every(0);
    test_shared_out(EV_QUANT_SQ8, EV_VECTORS_SQ24, false);
    test_shared_out(EV_QUANT_SQ8, EV_VECTORS_SQ24, true);
    test_shared_out(EV_QUANT_SQ8, EV_VECTORS_FLOAT32, true);
    test_shared_out(EV_QUANT_SQ8, EV_VECTORS_NONE, true);
    test_shared_out(EV_QUANT_BINARY, EV_VECTORS_FLOAT32, true);
    test_from_nothing(EV_QUANT_SQ8, EV_VECTORS_SQ24);
    test_from_nothing(EV_QUANT_SQ8, EV_VECTORS_NONE);
    test_from_nothing(EV_QUANT_BINARY, EV_VECTORS_FLOAT32);
    test_many_at_once(EV_VECTORS_SQ24);
    test_many_at_once(EV_VECTORS_NONE);
    test_ends_early(false);
    test_ends_early(true);
    test_no_memory();
    return check_summary();
}
