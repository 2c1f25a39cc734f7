/* Random programs of calls, beside a model that knows which ids are held, and as what: each byte of the input is a call
 * or one of its arguments. */
#include "fuzz.h"

enum { DIM = 6, IDS = 64, MOST_ADDED = 24, MOST_CALLS = 60 };

typedef struct {
    ev_index *ix;
    ev_params params;
    int64_t live;
    bool held[IDS];
    uint8_t as[IDS]; /* the number of its row */
    bool staged[IDS];
    uint8_t staged_as[IDS];
} subject;

/* Few different ones, so that many are duplicates. */
static void make_row(unsigned number, float *row) {
    for (unsigned i = 0; i < DIM; i++) row[i] = (float)(ev__mix(number % 32 * DIM + i) % 100) / 10 - 5;
}

static void put(subject *s, int64_t id, uint8_t as) {
    s->live += !s->held[id];
    s->held[id] = true;
    s->as[id] = as;
}

static bool is_staged(const subject *s) {
    bool any = false;
    for (int64_t id = 0; id < IDS; id++) any |= s->staged[id];
    return any;
}

static void add(subject *s, input *in, bool stage) {
    int64_t n = 1 + next_byte(in) % MOST_ADDED, ids[MOST_ADDED];
    uint8_t as[MOST_ADDED];
    float rows[MOST_ADDED * DIM];
    bool twice = false;
    for (int64_t i = 0; i < n; i++) {
        ids[i] = next_byte(in) % IDS;
        as[i] = (uint8_t)next_byte(in);
        make_row(as[i], rows + i * DIM);
        for (int64_t j = 0; j < i; j++) twice |= ids[j] == ids[i];
    }
    int32_t threads = 1 + (int32_t)(n % 2);
    int rc = stage ? ev_stage(s->ix, n, rows, ids, threads, NULL, NULL)
                   : ev_add(s->ix, n, rows, ids, NULL, threads, NULL, NULL);
    REQUIRE(rc == (twice ? EV_E_DUPLICATE : EV_OK));
    for (int64_t i = 0; i < n && rc == EV_OK; i++) {
        if (!stage) put(s, ids[i], as[i]);
        if (!stage) continue;
        s->staged[ids[i]] = true;
        s->staged_as[ids[i]] = as[i];
    }
}

static void commit(subject *s, input *in) {
    int64_t id = next_byte(in) % IDS;
    REQUIRE(ev_stage_commit(s->ix, 1, &id) == EV_OK);
    s->live -= s->held[id];
    s->held[id] = false;
    for (id = 0; id < IDS; id++)
        if (s->staged[id]) put(s, id, s->staged_as[id]);
    memset(s->staged, 0, sizeof s->staged);
    if (next_byte(in) % 2) REQUIRE(ev_stage_settle(s->ix) == EV_OK);
}

static void drop(subject *s) {
    REQUIRE(ev_stage_drop(s->ix) == EV_OK);
    memset(s->staged, 0, sizeof s->staged);
}

static void remove_some(subject *s, input *in) {
    int64_t n = 1 + next_byte(in) % MOST_ADDED, ids[MOST_ADDED], removed = 0, expected = 0;
    for (int64_t i = 0; i < n; i++) ids[i] = next_byte(in) % IDS;
    for (int64_t i = 0; i < n; i++) {
        expected += s->held[ids[i]];
        s->held[ids[i]] = false;
    }
    s->live -= expected;
    REQUIRE(ev_remove(s->ix, n, ids, &removed) == EV_OK && removed == expected);
}

static void get(subject *s, input *in) {
    int64_t id = next_byte(in) % IDS;
    float row[DIM], given[DIM];
    REQUIRE(ev_get(s->ix, 1, &id, row) == (s->held[id] ? EV_OK : EV_E_NO_ID));
    if (!s->held[id] || !s->params.keep_vectors || s->params.metric == EV_METRIC_COSINE) return;
    make_row(s->as[id], given);
    for (int i = 0; i < DIM; i++) REQUIRE(row[i] - given[i] < 1e-3f && given[i] - row[i] < 1e-3f);
}

/* Of an exact search all that is allowed comes back; of a graph search as much as there is. */
static void search(subject *s, input *in) {
    unsigned how = next_byte(in);
    int64_t allowed[IDS], n = 0, expected = 0, found[IDS];
    float query[DIM], distances[IDS];
    bool within[IDS] = {false};
    ev_filter *filter = NULL;
    if (how & 1) {
        for (int64_t id = 0; id < IDS; id++)
            if (ev__mix(how * IDS + (uint64_t)id) % 3 == 0) allowed[n++] = id;
        REQUIRE(ev_filter_new(n, allowed, &filter) == EV_OK);
    }
    for (int64_t i = 0; i < (filter ? n : IDS); i++) within[filter ? allowed[i] : i] = true;
    for (int64_t id = 0; id < IDS; id++) expected += within[id] && s->held[id];
    int32_t k = 1 + (int32_t)(how / 4 % IDS);
    make_row(next_byte(in), query);
    ev_search_params p = {.k = k, .exact = how >> 1 & 1, .threads = 1, .filter = filter};
    REQUIRE(ev_search(s->ix, 1, query, &p, found, distances) == EV_OK);
    for (int32_t i = 0; i < k; i++) {
        REQUIRE((found[i] != -1) == (i < expected));
        if (found[i] == -1) break;
        REQUIRE(found[i] >= 0 && found[i] < IDS && s->held[found[i]] && within[found[i]]);
        within[found[i]] = false; /* each once */
        REQUIRE(i == 0 || distances[i - 1] <= distances[i]);
    }
    ev_filter_free(filter);
}

static void check(subject *s) {
    ev_report r;
    REQUIRE(ev_check(s->ix, &r) == EV_OK);
    REQUIRE(r.live == s->live && !r.bad_links && !r.bad_codes && !r.bad_ids);
    REQUIRE(ev_count(s->ix) == s->live);
    for (int64_t id = 0; id < IDS; id++) REQUIRE(ev_contains(s->ix, id) == s->held[id]);
}

/* There and back; what is done afterwards is done to the copy. */
static void copy(subject *s) {
    int64_t n = 0, again = 0;
    REQUIRE(ev_save_bytes(s->ix, 0, NULL, &n) == EV_OK);
    char *bytes = malloc((size_t)n);
    ev_index *other = NULL;
    REQUIRE(ev_save_bytes(s->ix, n, bytes, &again) == EV_OK && again == n);
    REQUIRE(ev_load_bytes(n, bytes, &other) == EV_OK);
    free(bytes);
    REQUIRE(ev_close(s->ix) == EV_OK && ev_close(s->ix) == EV_E_CLOSED && ev_count(s->ix) == 0);
    ev_free(s->ix);
    s->ix = other;
    memset(s->staged, 0, sizeof s->staged); /* they are removed ones there */
}

static void call(subject *s, input *in) {
    switch (next_byte(in) % 12) {
    case 0:
    case 1: add(s, in, false); break;
    case 2: remove_some(s, in); break;
    case 3: get(s, in); break;
    case 4: search(s, in); break;
    case 5: REQUIRE(ev_compact(s->ix, NULL, NULL) == (is_staged(s) ? EV_E_BUSY : EV_OK)); break;
    case 6: copy(s); break;
    case 7:
    case 8: add(s, in, true); break;
    case 9: commit(s, in); break;
    case 10: drop(s); break;
    default: check(s); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    unsigned kind = next_byte(&in);
    subject s = {.params = {DIM, (int32_t)(kind % 3), (int32_t)(kind / 3 % 3), 2 + (int32_t)(kind / 9 % 3), 10, 20,
                            (int32_t)(kind / 27 % 3), kind}};
    REQUIRE(ev_new(&s.params, &s.ix) == EV_OK);
    ev_get_params(s.ix, &s.params);
    for (int i = 0; i < MOST_CALLS && in.left; i++) call(&s, &in);
    check(&s);
    ev_free(s.ix);
    return 0;
}
