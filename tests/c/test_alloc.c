/* The n-th allocation fails, for n = 1, 2, 3, ..., through a whole workload. Each call either succeeds or says that it
 * is out of memory; then the index still answers as before (the oracle is a plain table of vectors), and the call
 * succeeds when made again. In the end nothing is left allocated. */
#include "check.h"
#include "edgevec_test.h"
#include "counting.h"
#include "unflushed.h"
#include "number.h"

#include <math.h>

#define PATH "test_alloc.edgevec"
enum { DIM = 196, IDS = 120, K = 5 };

static const int32_t metrics[] = {EV_METRIC_L2, EV_METRIC_IP, EV_METRIC_COSINE, EV_METRIC_L2, EV_METRIC_IP};
static const int32_t kinds[] = {EV_QUANT_NONE, EV_QUANT_SQ8, EV_QUANT_BINARY, EV_QUANT_SQ8, EV_QUANT_SQ8};
static const int32_t keeps[] = {EV_VECTORS_FLOAT32, EV_VECTORS_SQ24, EV_VECTORS_FLOAT32, EV_VECTORS_NONE,
                                EV_VECTORS_FLOAT32};

/* ---- the model ------------------------------------------------------------------------------- */

typedef struct {
    int32_t metric;
    int held[IDS]; /* by id */
    float vectors[IDS][DIM];
    int64_t live;
} model;

/* Row `id` of a generation; every seventh is a copy of the one before. */
static void make_row(int64_t id, int generation, float *row) {
    for (int j = 0; j < DIM; j++)
        row[j] = number((uint64_t)((id - (id % 7 == 6)) * DIM + j) * 3 + (uint64_t)generation);
}

static void model_put(model *m, int64_t id, const float *row) {
    m->live += !m->held[id];
    m->held[id] = 1;
    memcpy(m->vectors[id], row, sizeof m->vectors[id]);
}

static void model_remove(model *m, int64_t id) {
    m->live -= m->held[id];
    m->held[id] = 0;
}

static double dot(const float *a, const float *b) {
    double sum = 0;
    for (int j = 0; j < DIM; j++) sum += (double)a[j] * (double)b[j];
    return sum;
}

static double distance(const model *m, const float *query, int64_t id) {
    const float *row = m->vectors[id];
    if (m->metric == EV_METRIC_L2) return dot(query, query) + dot(row, row) - 2 * dot(query, row);
    if (m->metric == EV_METRIC_IP) return 1 - dot(query, row);
    return 1 - dot(query, row) / sqrt(dot(query, query) * dot(row, row));
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The K nearest are what the model says: the right distances, of ids that are at these distances. */
static void check_answer(const model *m, const float *query, const int64_t *ids, const float *found) {
    double all[IDS];
    int64_t n = 0;
    for (int64_t id = 0; id < IDS; id++)
        if (m->held[id]) all[n++] = distance(m, query, id);
    qsort(all, (size_t)n, sizeof *all, ascending);
    for (int64_t i = 0; i < K; i++) {
        if (i >= n) {
            CHECK(ids[i] == -1 && isinf(found[i]));
            continue;
        }
        bool known = ids[i] >= 0 && ids[i] < IDS && m->held[ids[i]];
        CHECK(known);
        CHECK(fabs((double)found[i] - all[i]) < 1e-4);
        if (known) CHECK(fabs(distance(m, query, ids[i]) - all[i]) < 1e-4);
    }
}

/* ---- the index beside it --------------------------------------------------------------------- */

typedef struct {
    ev_index *ix;
    model m;
    int32_t keep;
    long refused; /* calls that said they were out of memory */
} subject;

/* With no fault to come: what the index answers, and what it says of itself. Mending the graph is put off for want of
 * memory, so a node or two may be out of its reach; where none is, the graph's answers too are the model's. */
static void check_subject(subject *s) {
    ev_report r;
    CHECK(ev_count(s->ix) == s->m.live);
    CHECK(ev_check(s->ix, &r) == EV_OK);
    CHECK(r.live == s->m.live && !r.bad_links && !r.bad_codes && !r.bad_ids);
    CHECK(r.unreachable * 10 <= r.nodes);
    for (int64_t id = 0; id < IDS; id++) CHECK(ev_contains(s->ix, id) == s->m.held[id]);
    for (int32_t exact = r.unreachable > 0; exact <= 1; exact++)
        for (int q = 0; q < 3; q++) {
            float query[DIM], distances[K];
            int64_t ids[K];
            ev_search_params p = {.k = K, .ef = 2 * IDS, .exact = exact, .threads = 1};
            make_row(IDS + q * 2, 2, query);
            CHECK(ev_search(s->ix, 1, query, &p, ids, distances) == EV_OK);
            if (s->keep) check_answer(&s->m, query, ids, distances);
        }
}

/* Make a call; when it is out of memory look at the index, then make it once more: it must succeed. */
#define TRY(subject, call)                             \
    do {                                               \
        int rc_ = (call);                              \
        if (rc_ == EV_E_NOMEM) {                       \
            (subject)->refused++;                      \
            if ((subject)->ix) check_subject(subject); \
            rc_ = (call);                              \
        }                                              \
        CHECK(rc_ == EV_OK);                           \
    } while (0)

static void add(subject *s, int64_t first, int64_t n, int generation, int32_t threads) {
    float rows[IDS][DIM];
    int64_t ids[IDS];
    for (int64_t i = 0; i < n; i++) {
        ids[i] = first + i;
        make_row(first + i, generation, rows[i]);
    }
    TRY(s, ev_add(s->ix, n, rows[0], ids, NULL, threads, NULL, NULL));
    for (int64_t i = 0; i < n; i++) model_put(&s->m, ids[i], rows[i]);
}

/* In two runs, beside which the index is as it was; one in ten of what is held goes with them. */
static void stage(subject *s, int64_t first, int64_t n, int generation, bool dropped) {
    float rows[IDS][DIM];
    int64_t ids[IDS], gone[IDS], count = 0;
    for (int64_t i = 0; i < n; i++) {
        ids[i] = first + i;
        make_row(first + i, generation, rows[i]);
    }
    TRY(s, ev_stage(s->ix, n / 2, rows[0], ids, 1, NULL, NULL));
    TRY(s, ev_stage(s->ix, n - n / 2, rows[n / 2], ids + n / 2, 2, NULL, NULL));
    if (dropped) {
        TRY(s, ev_stage_drop(s->ix));
        return;
    }
    for (int64_t id = 0; id < first; id += 10) gone[count++] = id;
    CHECK(ev_stage_commit(s->ix, count, gone) == EV_OK); /* needs no memory */
    for (int64_t i = 0; i < count; i++) model_remove(&s->m, gone[i]);
    for (int64_t i = 0; i < n; i++) model_put(&s->m, ids[i], rows[i]);
    TRY(s, ev_stage_settle(s->ix));
}

static void remove_every(subject *s, int64_t step) {
    int64_t ids[IDS], n = 0, removed = 0;
    for (int64_t id = 0; id < IDS; id += step) ids[n++] = id;
    TRY(s, ev_remove(s->ix, n, ids, &removed));
    for (int64_t i = 0; i < n; i++) {
        removed -= s->m.held[ids[i]];
        model_remove(&s->m, ids[i]);
    }
    CHECK(removed == 0);
}

/* One query, a batch over threads, one with a context of its own, one within a filter. */
static void search(subject *s) {
    float queries[4][DIM], distances[4 * K];
    int64_t ids[4 * K], odd[IDS / 2];
    ev_context *context = NULL;
    ev_filter *filter = NULL;
    for (int q = 0; q < 4; q++) make_row(IDS + q * 2, 3, queries[q]);
    for (int64_t i = 0; i < IDS / 2; i++) odd[i] = 2 * i + 1;
    TRY(s, ev_search(s->ix, 1, queries[0], &(ev_search_params){.k = K, .ef = 2 * IDS, .threads = 1}, ids, distances));
    if (s->keep) check_answer(&s->m, queries[0], ids, distances);
    TRY(s, ev_search(s->ix, 4, queries[0], &(ev_search_params){.k = K, .ef = 2 * IDS, .threads = 2}, ids, distances));
    for (int q = 0; s->keep && q < 4; q++) check_answer(&s->m, queries[q], ids + q * K, distances + q * K);
    TRY(s, ev_context_new(s->ix, &context));
    ev_search_params exact = {.k = K, .exact = 1, .threads = 1, .context = context};
    TRY(s, ev_search(s->ix, 1, queries[0], &exact, ids, distances));
    if (s->keep) check_answer(&s->m, queries[0], ids, distances);
    TRY(s, ev_filter_new(IDS / 2, odd, &filter));
    for (int32_t k = 1; k <= K; k += K - 1) { /* the second search finds the filter's slots cached */
        ev_search_params filtered = {.k = k, .ef = 2 * IDS, .threads = 1, .filter = filter, .context = context};
        TRY(s, ev_search(s->ix, 1, queries[1], &filtered, ids, distances));
        for (int32_t i = 0; i < k; i++) CHECK(ids[i] < 0 || (ids[i] % 2 == 1 && s->m.held[ids[i]]));
    }
    ev_filter_free(filter);
    ev_context_free(context);
}

/* Where `bytes` is NULL, from PATH. */
static void load_and_change(subject *s, int32_t map, int64_t n, const void *bytes) {
    subject loaded = *s;
    loaded.ix = NULL;
    TRY(&loaded, bytes ? ev_load_bytes(n, bytes, &loaded.ix) : ev_load(PATH, map, &loaded.ix));
    if (!loaded.ix) return;
    if (map == EV_MAP_UNVERIFIED) search(&loaded); /* before anything that completes it */
    add(&loaded, 0, 10, 4, 1);                     /* the columns of a mapped file move into memory */
    remove_every(&loaded, 9);
    s->refused = loaded.refused;
    ev_free(loaded.ix);
}

static void save_and_load(subject *s) {
    TRY(s, ev_save(s->ix, PATH));
    for (int32_t map = EV_MAP_NONE; map <= EV_MAP_UNVERIFIED; map++) load_and_change(s, map, 0, NULL);
    int64_t n = 0;
    TRY(s, ev_save_bytes(s->ix, 0, NULL, &n));
    char *bytes = malloc((size_t)n); /* not of the index: it never fails */
    TRY(s, ev_save_bytes(s->ix, n, bytes, &n));
    load_and_change(s, EV_MAP_NONE, n, bytes);
    free(bytes);
}

static void inquire(subject *s) {
    ev_report report;
    int64_t id = 1;
    float row[DIM];
    TRY(s, ev_check(s->ix, &report));
    TRY(s, ev_get(s->ix, 1, &id, row));
}

/* Every call, with enough removals for dead nodes to be freed, and duplicates, and ids replaced; returns how many
 * allocations it took. */
static int64_t workload(int kind, subject *s) {
    ev_params p = {DIM, metrics[kind], kinds[kind], 4, 24, 24, keeps[kind], 11};
    memset(s, 0, sizeof *s);
    s->m.metric = p.metric;
    s->keep = p.keep_vectors;
    TRY(s, ev_new(&p, &s->ix));
    if (!s->ix) return 0;
    add(s, 0, 5, 0, 1);
    add(s, 5, 105, 0, 2);
    search(s);
    remove_every(s, 3);
    inquire(s);
    add(s, 60, 60, 1, 1);
    search(s);
    save_and_load(s);
    stage(s, 40, 60, 3, true);
    stage(s, 70, 50, 4, false);
    remove_every(s, 2);
    TRY(s, ev_compact(s->ix, NULL, NULL));
    add(s, 0, 3, 1, 1);
    int64_t made = ev_fault_alloc(0);
    check_subject(s);
    ev_report r;
    CHECK(ev_compact(s->ix, NULL, NULL) == EV_OK); /* puts off nothing */
    CHECK(ev_check(s->ix, &r) == EV_OK && !r.unreachable && !r.dead && !r.free_slots);
    check_subject(s);
    ev_free(s->ix);
    return made;
}

/* ---- linking anew ---------------------------------------------------------------------------- */

enum { NEAR = 300, ALL = 900, FEW = 8 };

/* From NEAR on so far off, and so many, that no code tells the nearer ones apart. */
static void make_far(int64_t id, float *row) {
    for (int j = 0; j < FEW; j++) row[j] = number((uint64_t)(id * FEW + j)) + (id < NEAR ? 0.0f : 1e6f);
}

/* The first n rows are there, sound and found. */
static void check_near(ev_index *ix, int64_t n) {
    ev_report r;
    CHECK(ev_count(ix) == n && ev_check(ix, &r) == EV_OK);
    CHECK(r.live == n && !r.bad_links && !r.bad_codes && !r.bad_ids && r.unreachable * 10 <= r.nodes);
    for (int64_t id = 0; id < n && id < NEAR; id += 7) {
        float row[FEW], distance;
        int64_t found;
        make_far(id, row);
        ev_search_params p = {.k = 1, .ef = ALL, .exact = r.unreachable > 0, .threads = 1};
        CHECK(ev_search(ix, 1, row, &p, &found, &distance) == EV_OK && found == id);
    }
}

/* As TRY does, where `held` rows are there before the call. */
#define TRY_NEAR(ix, held, call)          \
    do {                                  \
        int rc_ = (call);                 \
        if (rc_ == EV_E_NOMEM) {          \
            refused++;                    \
            if (ix) check_near(ix, held); \
            rc_ = (call);                 \
        }                                 \
        CHECK(rc_ == EV_OK);              \
    } while (0)

/* Codes that no longer serve are given up, by linking all anew, and taken up again. Returns how many allocations. */
static int64_t relink(bool staged, long *all_refused) {
    static float rows[ALL][FEW];
    static int64_t ids[ALL];
    ev_params p = {FEW, EV_METRIC_L2, EV_QUANT_SQ8, 4, 24, 24, EV_VECTORS_SQ24, 11};
    ev_index *ix = NULL;
    ev_report r;
    int64_t removed = 0;
    long refused = 0;
    for (int64_t id = 0; id < ALL; id++) make_far(ids[id] = id, rows[id]);
    TRY_NEAR(ix, 0, ev_new(&p, &ix));
    if (!ix) return 0;
    if (staged) {
        TRY_NEAR(ix, 0, ev_stage(ix, NEAR, rows[0], ids, 1, NULL, NULL));
        TRY_NEAR(ix, 0, ev_stage(ix, ALL - NEAR, rows[NEAR], ids + NEAR, 2, NULL, NULL));
        CHECK(ev_stage_commit(ix, 0, NULL) == EV_OK);
    } else {
        TRY_NEAR(ix, 0, ev_add(ix, NEAR, rows[0], ids, NULL, 1, NULL, NULL));
        TRY_NEAR(ix, NEAR, ev_add(ix, ALL - NEAR, rows[NEAR], ids + NEAR, NULL, 2, NULL, NULL));
    }
    TRY_NEAR(ix, ALL, ev_check(ix, &r));
    CHECK(r.walk == EV_WALK_FLOATS);
    TRY_NEAR(ix, ALL, ev_remove(ix, ALL - NEAR, ids + NEAR, &removed));
    TRY_NEAR(ix, NEAR, ev_compact(ix, NULL, NULL));
    int64_t made = ev_fault_alloc(0);
    check_near(ix, NEAR);
    CHECK(ev_check(ix, &r) == EV_OK && r.walk == EV_WALK_CODES);
    ev_free(ix);
    *all_refused += refused;
    return made;
}

int main(void) {
    count_allocations();
    ev_file_ops ops = without_flushes();
    ev_set_file_ops(&ops);
    for (int kind = 0; kind < 5; kind++) {
        int64_t n = 0, made;
        long refused = 0;
        do {
            subject s;
            ev_fault_alloc(++n);
            made = workload(kind, &s);
            CHECK(held_bytes == 0);
            refused += s.refused;
        } while (made >= n);
        CHECK(n > 50 && refused > n / 2); /* the faults were real, and nearly all of them were told */
        printf("kind %d: %lld allocations, %ld calls refused\n", kind, (long long)n - 1, refused);
    }
    for (int staged = 0; staged < 2; staged++) {
        int64_t n = 0, made;
        long refused = 0;
        do {
            ev_fault_alloc(++n);
            made = relink(staged, &refused);
            CHECK(held_bytes == 0);
        } while (made >= n);
        CHECK(n > 30 && refused > n / 2);
        printf("linking anew: %lld allocations, %ld calls refused\n", (long long)n - 1, refused);
    }
    remove(PATH);
    return check_summary();
}
