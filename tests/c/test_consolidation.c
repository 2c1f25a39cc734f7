/* Leading links around removed nodes is shared out among additions of single rows: none does much of it, and what is
 * added, removed, stopped, saved or refused meanwhile is right at every step. */
#include "check.h"
#include "edgevec_test.h"
#include "index/index.h"
#include "number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* GONE: rows of clusters that are removed whole, a quarter of all. PER_ROW: slots that one added row may look at. */
enum { DIM = 8, CLUSTERS = 40, FIRST = 9000, ALL = 30000, K = 10, PER_ROW = 32 };
static const char FILE_NAME[] = "test_consolidation.edgevec";

static float rows[ALL][DIM];
static bool held[ALL];
static ev_index *ix;
static int next; /* row, which is also its id */
static int added;

static int cluster_of(int i) { return i % CLUSTERS; }

static void make_rows(void) {
    for (int i = 0; i < ALL; i++)
        for (int j = 0; j < DIM; j++)
            rows[i][j] = 4 * number((uint64_t)(1000000 + cluster_of(i) * DIM + j)) + number((uint64_t)(i * DIM + j));
    for (int i = 0; i < ALL; i++) /* some copies, of the row before in the same cluster */
        if (i % 1000 >= 900 && i % 1000 < 940) memcpy(rows[i], rows[i - CLUSTERS], sizeof rows[i]);
}

static ev_report report(void) {
    ev_report out;
    CHECK(ev_check(ix, &out) == EV_OK);
    return out;
}

static ev_stats stats(void) {
    ev_stats out;
    ev_get_stats(ix, &out);
    return out;
}

static bool under_way(void) { return ix->graph.consolidation != NULL; }

static void add(int id) {
    int64_t id64 = id;
    ev_relinked_around();
    CHECK(ev_add(ix, 1, rows[id], &id64, NULL, 1, NULL, NULL) == EV_OK);
    CHECK(ev_relinked_around() <= PER_ROW);
    held[id] = true;
    added++;
}

static void take_out(int id) {
    int64_t id64 = id, removed;
    CHECK(ev_remove(ix, 1, &id64, &removed) == EV_OK && removed == held[id]);
    held[id] = false;
}

static void begin(int32_t metric, int32_t quantization) {
    ev_params p = {.dim = DIM,
                   .metric = metric,
                   .quantization = quantization,
                   .M = 6,
                   .ef_construction = 24,
                   .ef = 60,
                   .keep_vectors = EV_VECTORS_FLOAT32};
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, FIRST, rows[0], NULL, NULL, 0, NULL, NULL) == EV_OK);
    memset(held, 0, sizeof held);
    memset(held, 1, FIRST);
    next = FIRST;
}

/* Of each cluster some, and two clusters whole. */
static void remove_a_fifth(void) {
    for (int i = 0; i < FIRST; i++)
        if (cluster_of(i) < 2 || ev__mix((uint64_t)i) % 6 == 0) take_out(i);
}

/* ---- what is so at every step ---------------------------------------------------------------- */

static double distance_of(const float *a, const float *b) {
    double sum = 0;
    for (int j = 0; j < DIM; j++) {
        double off = (double)a[j] - (double)b[j];
        sum += off * off;
    }
    return sum;
}

/* Of some held rows, those that a search by their own vector finds; under ip others may be nearer. */
static double found(void) {
    int asked = 0, hits = 0;
    if (ix->params.metric != EV_METRIC_L2) return 1;
    for (int i = (int)(ev__mix((uint64_t)next) % 41); i < ALL; i += 41) {
        if (!held[i]) continue;
        int64_t ids[K];
        float distances[K];
        ev_search_params p = {.k = K, .threads = 1};
        CHECK(ev_search(ix, 1, rows[i], &p, ids, distances) == EV_OK);
        bool hit = false;
        for (int k = 0; k < K && ids[k] >= 0; k++) {
            CHECK(ids[k] < ALL && held[ids[k]]);
            CHECK(fabs((double)distances[k] - distance_of(rows[i], rows[ids[k]])) < 1e-3);
            hit |= distances[k] < 1e-6f;
        }
        asked++;
        hits += hit;
    }
    return asked ? (double)hits / asked : 1;
}

static void check_all(double least_found) {
    ev_report r = report();
    int64_t count = 0;
    for (int i = 0; i < ALL; i++) count += held[i];
    CHECK(r.live == count && stats().live == count && stats().dead == r.dead);
    if (r.bad_links + r.bad_codes + r.bad_ids)
        printf("bad links %lld, codes %lld, ids %lld of %lld, after row %d, %s\n", (long long)r.bad_links,
               (long long)r.bad_codes, (long long)r.bad_ids, (long long)r.live, next, under_way() ? "in a pass" : "");
    CHECK(r.bad_links == 0 && r.bad_codes == 0 && r.bad_ids == 0);
    double here = found();
    if (here < least_found) printf("found %.3f\n", here);
    CHECK(here >= least_found);
}

static double slots_per_living(void) { return (double)ev__slots(&ix->graph.store) / (double)stats().live; }

/* ---- a pass ---------------------------------------------------------------------------------- */

/* New rows until a pass is over, with what programs do meanwhile. Returns how many rows it took. */
static int add_until_over(bool disturbed) {
    int from = added;
    CHECK(!under_way());
    do {
        add(next++);
        CHECK(under_way() || added > from + 1);
        if (next % 40 == 0) check_all(0.97);
        if (!disturbed) continue;
        if (next % 3 == 0) take_out(next - 2); /* new ones, that are dead and not of this pass */
        if (next % 5 == 0) take_out(FIRST / 2 + next % 1000);
        if (next % 7 == 0 && held[next - 1]) add(next - 1); /* an id that there is */
        if (next % 11 == 0) add((next * 7 + 1) % 4000);     /* one that was removed, maybe of a removed cluster */
    } while (under_way());
    return added - from;
}

static void test_shared_out(int32_t metric, int32_t quantization, bool disturbed) {
    begin(metric, quantization);
    remove_a_fifth();
    int64_t dead = stats().dead;
    CHECK(dead > FIRST / 5 && report().duplicates > 0);
    int took = add_until_over(disturbed);
    printf("metric %d, quantization %d: %d rows\n", metric, quantization, took);
    CHECK(took >= FIRST / PER_ROW && took <= FIRST / 20);
    CHECK(stats().dead <= (disturbed ? took : 0));
    for (int to = next + 1000; next < to;) add(next++); /* mending is done */
    check_all(0.98);
    printf("%lld unreachable\n", (long long)report().unreachable);
    CHECK(report().unreachable <= (metric == EV_METRIC_IP ? 20 : 2));
    ev_free(ix);
}

/* What is added again lies where all that is near is about to be freed. */
static void test_among_the_removed(void) {
    begin(EV_METRIC_L2, EV_QUANT_SQ8);
    for (int i = 0; i < FIRST; i++)
        if (cluster_of(i) < 8) take_out(i);
    add(next++);
    while (under_way()) {
        add(next);
        next += cluster_of(next) < 7 ? 1 : CLUSTERS - 7;
        if (next % 10 == 0) check_all(0.97);
    }
    for (int to = next + 600; next < to;) add(next++);
    check_all(0.98);
    CHECK(report().unreachable <= 2);
    ev_free(ix);
}

/* All is removed, and comes again. */
static void test_from_nothing(void) {
    begin(EV_METRIC_L2, EV_QUANT_SQ8);
    for (int i = 0; i < FIRST; i++) take_out(i);
    for (int to = next + 1200; next < to;) {
        add(next++);
        if (next % 60 == 0) check_all(0.9);
    }
    check_all(0.98);
    CHECK(stats().dead < stats().live / 8 && report().unreachable <= 2);
    ev_free(ix);
}

static int stop(void *user, int64_t done, int64_t total) {
    (void)user, (void)total;
    return done < 20;
}

/* ---- removing alone -------------------------------------------------------------------------- */

enum { MANY = FIRST * 2 / 3 };

static void take_out_many(int from, int n) {
    static int64_t ids[FIRST];
    int64_t removed = 0;
    for (int i = 0; i < n; i++) held[ids[i] = from + i] = false;
    CHECK(ev_remove(ix, n, ids, &removed) == EV_OK && removed == n);
}

/* Removals alone share a pass out too, which begins when a third is dead, and is over before it is half of that more.
 */
static void test_removed_one_by_one(int32_t metric, int32_t quantization) {
    int removed = 0;
    begin(metric, quantization);
    for (int i = 0; !under_way(); i++, removed++) take_out(i);
    CHECK(removed > FIRST / 3 && removed < FIRST / 3 + 40);
    for (; under_way() && removed < FIRST; removed++) {
        ev_relinked_around();
        take_out(removed);
        CHECK(ev_relinked_around() <= PER_ROW);
        if (removed % 60 == 0) check_all(0.97);
    }
    CHECK(removed < FIRST / 2 && stats().dead < FIRST / 6);
    check_all(0.98);
    while (removed < FIRST) take_out(removed++);
    CHECK(stats().live == 0 && stats().dead < 200);
    ev_free(ix);
}

static int64_t left;
static int asked(void *user) {
    (void)user;
    return left-- > 0;
}

/* The n-th question stops it: where it has removed, it has, and leading around is left to the next call. */
static void test_removal_stopped(void) {
    int before = 0, halfway = 0, whole = 0;
    for (int n = 0; !whole && n < 4000; n += 1 + n / 4) {
        static int64_t ids[MANY];
        begin(EV_METRIC_L2, EV_QUANT_SQ8);
        for (int i = 0; i < MANY; i++) ids[i] = i;
        left = n;
        ev_set_interrupt(asked, NULL);
        int rc = ev_remove(ix, MANY, ids, NULL);
        ev_set_interrupt(NULL, NULL);
        CHECK(rc == EV_OK || (rc == EV_E_STOPPED && stats().live == FIRST));
        if (rc == EV_OK) memset(held, 0, MANY);
        before += rc != EV_OK;
        halfway += rc == EV_OK && stats().dead > 0;
        whole += rc == EV_OK && stats().dead == 0;
        check_all(0.97);
        take_out_many(MANY, FIRST / 100);
        CHECK(rc != EV_OK || (stats().dead == 0) == (halfway > 0 && !whole));
        check_all(0.97);
        ev_free(ix);
    }
    CHECK(before > 0 && halfway > 2 && whole == 1);
}

/* Want of memory is no reason for a removal to fail; the next one has it. */
static void test_removal_without_memory(void) {
    int undone = 0, done = 0;
    for (int n = 1; n < 12; n++) {
        begin(EV_METRIC_L2, EV_QUANT_SQ8);
        ev_fault_alloc(n);
        take_out_many(0, MANY);
        ev_fault_alloc(0);
        undone += stats().dead == MANY;
        done += stats().dead == 0;
        check_all(0.97);
        if (stats().dead) take_out_many(MANY, FIRST / 100);
        CHECK(stats().dead == 0);
        check_all(0.97);
        ev_free(ix);
    }
    CHECK(undone > 0 && done > 0);
}

/* What ev_stage_commit removes waits for ev_stage_settle; beside staged rows it waits for these. */
static void test_removal_settled(void) {
    static int64_t ids[MANY];
    int64_t one = FIRST;
    begin(EV_METRIC_L2, EV_QUANT_SQ8);
    for (int i = 0; i < MANY; i++) ids[i] = i;
    memset(held, 0, MANY);
    CHECK(ev_stage_commit(ix, MANY, ids) == EV_OK && stats().dead == MANY);
    check_all(0.97);
    CHECK(ev_stage(ix, 1, rows[FIRST], &one, 1, NULL, NULL) == EV_OK);
    CHECK(ev_stage_settle(ix) == EV_OK && stats().dead == MANY + 1);
    CHECK(ev_stage_drop(ix) == EV_OK);
    take_out_many(MANY, FIRST / 100);
    CHECK(stats().dead == 0);
    for (int i = 0; i < FIRST / 6; i++) ids[i] = MANY + FIRST / 100 + i;
    for (int i = 0; i < FIRST / 6; i++) held[ids[i]] = false;
    CHECK(ev_stage_commit(ix, FIRST / 6, ids) == EV_OK && stats().dead == FIRST / 6);
    CHECK(ev_stage_settle(ix) == EV_OK && stats().dead == 0);
    check_all(0.97);
    ev_free(ix);
}

enum { SAVE, COMPACT, ADD_MANY, ADD_SOME, STAGE, STAGE_AND_DROP, STOP, REMOVE_ALL, ENDS };

/* Rows that are as dead as the others until they are shown: a pass waits for them. */
static void stage(bool shown) {
    enum { STAGED = 50 };
    static int64_t ids[STAGED];
    bool before = under_way();
    int from = next;
    for (int i = 0; i < STAGED; i++) ids[i] = next++;
    CHECK(ev_stage(ix, STAGED, rows[from], ids, 2, NULL, NULL) == EV_OK && under_way() == before);
    for (int i = 0; i < 20; i++) {
        add(next++);
        if (held[next - 1 - i / 2]) take_out(next - 1 - i / 2);
    }
    CHECK(ev_relinked_around() == 0 && under_way() == before);
    check_all(0.97);
    CHECK((shown ? ev_stage_commit(ix, 0, NULL) : ev_stage_drop(ix)) == EV_OK);
    for (int i = 0; i < STAGED; i++) held[ids[i]] = shown;
    check_all(0.97);
}

/* What ends a pass early, or goes on with it. */
static void end(int how) {
    int64_t live = stats().live;
    switch (how) {
    case SAVE:
        CHECK(ev_save(ix, FILE_NAME) == EV_OK);
        ev_free(ix);
        CHECK(ev_load(FILE_NAME, 0, &ix) == EV_OK && !under_way());
        remove(FILE_NAME);
        break;
    case COMPACT: CHECK(ev_compact(ix, NULL, NULL) == EV_OK && !under_way() && stats().dead == 0); break;
    case ADD_MANY:
    case ADD_SOME: {
        static int64_t ids[2000];
        int n = how == ADD_MANY ? 2000 : 100;
        for (int i = 0; i < n; i++) held[ids[i] = next + i] = true;
        CHECK(ev_add(ix, n, rows[next], ids, NULL, 2, NULL, NULL) == EV_OK);
        CHECK(how != ADD_MANY || (!under_way() && stats().dead == 0));
        next += n;
        break;
    }
    case STAGE:
    case STAGE_AND_DROP: stage(how == STAGE); break;
    case STOP:
        CHECK(ev_add(ix, 200, rows[next], NULL, NULL, 1, stop, NULL) == EV_E_STOPPED && stats().live == live);
        break;
    default:
        for (int i = 0; i < next; i++)
            if (held[i]) take_out(i);
    }
}

/* At any point of a pass, such a call. */
static void test_ends(int how) {
    int rows_of_pass = FIRST / 25;
    for (int at = 1; at < rows_of_pass; at += rows_of_pass / 7) {
        begin(EV_METRIC_L2, EV_QUANT_NONE);
        remove_a_fifth();
        for (int to = next + at; next < to;) add(next++);
        end(how);
        check_all(0.97);
        for (int to = next + 1000; next < to;) add(next++);
        CHECK(!under_way() && slots_per_living() < (how == REMOVE_ALL ? 100 : 1.3));
        check_all(0.98);
        ev_free(ix);
    }
}

/* ---- many threads ---------------------------------------------------------------------------- */

static size_t column_bytes(const ev__array *column) { return column->count * column->item; }

/* What a pass leaves does not depend on how many threads made it. */
static void test_any_threads(int32_t metric, int32_t quantization) {
    ev_index *by_one = NULL;
    for (int32_t threads = 1; threads <= 7; threads += 3) {
        ev_params p = {DIM, metric, quantization, 6, 24, 60, EV_VECTORS_FLOAT32, 1};
        CHECK(ev_new(&p, &ix) == EV_OK);
        CHECK(ev_add(ix, FIRST, rows[0], NULL, NULL, 1, NULL, NULL) == EV_OK);
        memset(held, 1, FIRST);
        remove_a_fifth();
        CHECK(ev__consolidate_deletes(&ix->graph, threads, NULL) == EV_OK && stats().dead == 0);
        if (threads == 1) {
            by_one = ix;
            continue;
        }
        const ev__columns *a = &by_one->graph.store.columns, *b = &ix->graph.store.columns;
        CHECK(column_bytes(&a->blocks) == column_bytes(&b->blocks) && by_one->graph.entry == ix->graph.entry);
        CHECK(memcmp(a->blocks.at, b->blocks.at, column_bytes(&a->blocks)) == 0);
        CHECK(memcmp(a->upper.at, b->upper.at, column_bytes(&a->upper)) == 0);
        ev_free(ix);
    }
    ev_free(by_one);
}

/* Links are chosen by the lists as they were before a step: else it would matter which thread comes first. */
static void test_steps(void) {
    enum { LEADING_AROUND = 1, STEP = PER_ROW };
    static uint32_t expected[STEP][2 * EV_MAX_M];
    static float sorted[FIRST][DIM];
    int64_t compared = 0, as_before = 0;
    ev__scratch *s;
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 6, 24, 60, EV_VECTORS_FLOAT32, 1};
    CHECK(ev_new(&p, &ix) == EV_OK);
    memset(held, 0, sizeof held);
    for (int i = 0; i < FIRST; i++) /* neighbors lie in one step */
        memcpy(sorted[i], rows[i % (FIRST / CLUSTERS) * CLUSTERS + i / (FIRST / CLUSTERS)], sizeof sorted[i]);
    CHECK(ev_add(ix, FIRST, sorted[0], NULL, NULL, 1, NULL, NULL) == EV_OK);
    memset(held, 1, FIRST);
    remove_a_fifth();
    ev__graph *g = &ix->graph;
    CHECK(ev__consolidate_step(g, 1, NULL) == EV_OK && ev__scratch_borrow(g, &s) == EV_OK);
    CHECK(ev__scratch_fit(g, s, g->store.m0, 1, false) == EV_OK);
    while (g->consolidation) {
        ev__space space = ev__build_space(&g->store, NULL, NULL);
        size_t from = g->consolidation->at, bytes = g->store.m0 * sizeof(uint32_t);
        bool leading = g->consolidation->phase == LEADING_AROUND;
        for (uint32_t i = 0; leading && i < STEP && from + i < g->consolidation->end; i++) {
            uint32_t slot = (uint32_t)from + i, n = EV_NONE;
            if (ev__is_node(&g->store, slot) && !ev__is_marked(g, slot)) n = ev__choose_around(g, &space, slot, s);
            memcpy(expected[i], ev__links0(&g->store, slot), bytes);
            if (n == EV_NONE) continue;
            for (uint32_t j = 0; j < g->store.m0; j++) expected[i][j] = j < n ? s->selection[j].slot : EV_NONE;
        }
        CHECK(ev__consolidate_step(g, 1, NULL) == EV_OK);
        if (!leading || g->consolidation->phase != LEADING_AROUND) continue;
        for (size_t i = 0; from + i < g->consolidation->at; i++, compared++)
            as_before += memcmp(expected[i], ev__links0(&g->store, (uint32_t)(from + i)), bytes) == 0;
    }
    ev__scratch_return(g, s);
    CHECK(compared > FIRST / 2 && as_before == compared);
    ev_free(ix);
}

/* Whoever asks without the lock whether a list holds a node may miss it while the list is written, and add it again. */
static void test_linked_once(void) {
    begin(EV_METRIC_L2, EV_QUANT_NONE);
    ev__graph *g = &ix->graph;
    ev__builder b = {.g = g, .space = ev__build_space(&g->store, NULL, NULL)};
    ev__scratch *s;
    CHECK(ev__scratch_borrow(g, &s) == EV_OK && ev__scratch_fit(g, s, g->store.m0, 1, false) == EV_OK);
    for (uint32_t slot = 0; slot < FIRST; slot++) {
        if (!ev__is_node(&g->store, slot)) continue;
        uint32_t to = ev__links0(&g->store, slot)[0];
        CHECK(to == EV_NONE || ev__add_reverse_link(&b, slot, to, 0, false, s));
    }
    ev__scratch_return(g, s);
    check_all(0.97);
    ev_free(ix);
}

/* A call that replaces a quarter has led around what it replaced when it returns, also where a few rows of it have
 * duplicates; and what it leaves is found as in an index that never held anything else. */
static void test_replaced(int32_t metric, int32_t quantization) {
    enum { MANY = FIRST / 4 };
    static int64_t ids[MANY];
    static float fresh[MANY][DIM];
    begin(metric, quantization);
    for (int i = 0; i < MANY; i++) {
        ids[i] = 4 * i;
        memcpy(fresh[i], rows[FIRST + i], sizeof fresh[i]);
        memcpy(rows[ids[i]], fresh[i], sizeof fresh[i]);
    }
    CHECK(ev_add(ix, MANY, fresh[0], ids, NULL, 2, NULL, NULL) == EV_OK);
    CHECK(stats().dead == 0 && !under_way());
    check_all(0.98);
    CHECK(report().unreachable <= (metric == EV_METRIC_IP ? 20 : 2));
    ev_free(ix);
    make_rows();
}

/* ---- a queue --------------------------------------------------------------------------------- */

/* One comes, the oldest goes. */
static void test_queue(void) {
    enum { LIVING = 3000 };
    double most = 0;
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, 6, 24, 60, EV_VECTORS_SQ24, 1};
    CHECK(ev_new(&p, &ix) == EV_OK);
    memset(held, 0, sizeof held);
    for (next = 0; next < ALL;) {
        add(next++);
        if (next <= LIVING) continue;
        take_out(next - LIVING - 1);
        if (slots_per_living() > most) most = slots_per_living();
        if (next % 1000 == 0) check_all(0.98);
    }
    printf("a queue: %.3f slots a vector\n", most);
    CHECK(most < 1.25);
    ev_free(ix);
}

/* Each allocation on the way fails once. */
static void test_no_memory(void) {
    begin(EV_METRIC_L2, EV_QUANT_SQ8);
    remove_a_fifth();
    int refused = 0;
    for (int n = 1, to = next + 600; next < to; n = n % 12 + 1) {
        int64_t id = next;
        ev_fault_alloc(n);
        int rc = ev_add(ix, 1, rows[next], &id, NULL, 1, NULL, NULL);
        ev_fault_alloc(0);
        CHECK(rc == EV_OK || rc == EV_E_NOMEM);
        refused += rc != EV_OK;
        if (rc == EV_OK) held[next++] = true;
        if (next % 50 == 0) check_all(0.97);
    }
    CHECK(refused > 0 && stats().dead == 0);
    ev_free(ix);
}

int main(void) {
    make_rows();
    ev_ask_every(0);
    test_shared_out(EV_METRIC_L2, EV_QUANT_NONE, false);
    test_shared_out(EV_METRIC_L2, EV_QUANT_SQ8, true);
    test_shared_out(EV_METRIC_L2, EV_QUANT_NONE, true);
    test_shared_out(EV_METRIC_IP, EV_QUANT_SQ8, true);
    test_among_the_removed();
    test_from_nothing();
    for (int how = 0; how < ENDS; how++) test_ends(how);
    test_any_threads(EV_METRIC_L2, EV_QUANT_SQ8);
    test_any_threads(EV_METRIC_L2, EV_QUANT_NONE);
    test_any_threads(EV_METRIC_IP, EV_QUANT_SQ8);
    test_any_threads(EV_METRIC_COSINE, EV_QUANT_BINARY);
    test_steps();
    test_linked_once();
    test_replaced(EV_METRIC_L2, EV_QUANT_SQ8);
    test_replaced(EV_METRIC_L2, EV_QUANT_NONE);
    test_replaced(EV_METRIC_IP, EV_QUANT_SQ8);
    test_queue();
    test_no_memory();
    test_removed_one_by_one(EV_METRIC_L2, EV_QUANT_SQ8);
    test_removed_one_by_one(EV_METRIC_L2, EV_QUANT_NONE);
    test_removed_one_by_one(EV_METRIC_IP, EV_QUANT_SQ8);
    test_removal_stopped();
    test_removal_without_memory();
    test_removal_settled();
    return check_summary();
}
