/* ev_search: choose a strategy, find candidates by their codes, rank them by exact distance. */
#include "index/index.h"

#include <math.h>

struct ev_context {
    uint64_t serial; /* of its index */
    ev__scratch *scratch;
    uint32_t busy; /* atomic */
    ev__spin lock; /* of stats */
    ev_search_stats stats;
};

int ev_context_new(ev_index *ix, ev_context **out) {
    ev_context *c = ev__alloc_zero(sizeof *c, EV_LINE);
    if (!c) return ev__fail(EV_E_NOMEM, "a search context");
    c->serial = ix->serial;
    int rc = ev__scratch_new(&ix->graph, &c->scratch);
    if (rc != EV_OK) {
        ev__release(c, sizeof *c, EV_LINE);
        return rc;
    }
    *out = c;
    return ev__ok();
}

void ev_context_free(ev_context *c) {
    if (!c) return;
    ev__scratch_free(c->scratch);
    ev__release(c, sizeof *c, EV_LINE);
}

void ev_context_stats(ev_context *c, ev_search_stats *out) {
    ev__spin_lock(&c->lock);
    *out = c->stats;
    ev__spin_unlock(&c->lock);
}

static void tell_stats(ev_context *c) {
    ev__spin_lock(&c->lock);
    c->stats = c->scratch->stats;
    ev__spin_unlock(&c->lock);
}

enum {
    RUN = 64,          /* rows scanned at a time */
    FEW = 1024,        /* this many are compared by their float vectors at once: cheaper than finding and re-ranking */
    SCATTER = 2,       /* a row met on a walk costs this many rows met in a scan */
    PATIENCE = 2,      /* a filtered walk may cost this many scans before a scan takes over */
    RERANK_FACTOR = 2, /* of an sq8 walk, the best 2 k + 16 hold the k nearest: codes err by about 1% of a distance */
    RERANK_MARGIN = 16,
    TOGETHER = 4,    /* of those, so many at a time */
    SURE = 4,        /* standard deviations */
    SIGNS_KEPT = 128 /* at least, by a scan */
};

/* One call's queries and how each is to be answered. */
typedef struct {
    ev_index *ix;
    const float *queries;
    size_t k, ef, scan_ef; /* candidates kept by a walk; by a scan */
    bool exact, scan;      /* scan: by codes, or by float vectors when exact or few */
    ev__mask mask;
    int64_t matches; /* vectors that may be results */
    const int64_t *blind;
    int64_t *ids;
    float *distances;
    ev__scratch *scratches[64];
    ev__work work;
} batch;

/* ---- results --------------------------------------------------------------------------------- */

typedef struct {
    const batch *b;
    const float *query;
    const ev__probe *probe;
    ev__scratch *s;
    uint32_t blind; /* the slot that is no result, or EV_NONE */
    uint32_t slots[RUN];
    size_t count;
} ranking;

static bool before(const ev__store *store, const ev__result *a, const ev__result *b) {
    if (a->distance != b->distance) return a->distance < b->distance;
    return ev__ids_of(store)[a->slot] < ev__ids_of(store)[b->slot];
}

/* Does the order of two hang on what float32 sums have rounded off? */
static bool unclear(const ev__result *a, const ev__result *b) {
    double error = a->error + b->error;
    return error > 0 && fabs(a->distance - b->distance) <= error;
}

/* Where it belongs. What cannot be told apart from its neighbours there is summed in double first, and they are too:
 * all that is in the list is in its true order. */
static size_t place_of(ranking *r, ev__result *new) {
    const ev_index *ix = r->b->ix;
    ev__ranking *list = &r->s->results;
    for (;;) {
        size_t from = 0, to = list->count;
        while (from < to) {
            size_t middle = (from + to) / 2;
            if (before(&ix->graph.store, &list->at[middle], new))
                from = middle + 1;
            else
                to = middle;
        }
        ev__result *left = from ? &list->at[from - 1] : NULL, *right = from < list->count ? &list->at[from] : NULL;
        ev__result *other = left && unclear(left, new) ? left : right && unclear(right, new) ? right : NULL;
        if (!other) return from;
        ev__measure_exactly(&ix->graph.store, new->error > 0 ? new : other, &r->s->work);
    }
}

static double bound_of(const ranking *r) {
    const ev__ranking *list = &r->s->results;
    const ev__result *last = &list->at[r->b->k - 1];
    return list->count == r->b->k ? last->distance + last->error : INFINITY;
}

static void insert(ranking *r, ev__result new) {
    ev__ranking *list = &r->s->results;
    size_t k = r->b->k, place = place_of(r, &new);
    if (place == k) return;
    size_t tail = (list->count < k ? list->count++ : k - 1) - place;
    ev__move_up(list->at + place, tail * sizeof *list->at, sizeof *list->at);
    list->at[place] = new;
}

static void rank_flush(ranking *r) {
    ev__result results[RUN];
    size_t n = ev__measure(&r->b->ix->graph.store, r->probe, r->slots, r->count, bound_of(r), results, &r->s->work);
    for (size_t i = 0; i < n; i++)
        if (results[i].distance - results[i].error <= bound_of(r)) insert(r, results[i]);
    r->s->stats.reranked += (int64_t)r->count;
    r->count = 0;
}

static void rank(ranking *r, uint32_t slot) {
    if (slot == r->blind) return;
    r->slots[r->count++] = slot;
    if (r->count == RUN) rank_flush(r);
}

/* A node and what hangs on its chain. Of duplicates equal to the last bit k are enough. */
static void rank_node(ranking *r, uint32_t node) {
    const ev_index *ix = r->b->ix;
    size_t twins = 0;
    for (uint32_t slot = node; slot != EV_NONE; slot = ev__next(&ix->graph.store, slot)) {
        if (!ev__slot_ok(&ix->graph.store, &r->b->mask, slot)) continue;
        if ((ev__states(&ix->graph.store)[slot] & EV_TWIN) && twins++ >= r->b->k) continue;
        rank(r, slot);
    }
}

/* Can a candidate of a walk on floats or 8-bit codes still be among the k nearest? Its distance is known to within the
 * rounding of sums, or of both codes; where it is further than the k-th by more than that, so are all behind it. */
static bool may_enter(const ranking *r, ev__hit candidate) {
    const ev_index *ix = r->b->ix;
    const ev__probe *p = r->probe;
    const ev__ranking *results = &r->s->results;
    if (results->count < r->b->k) return true;
    const ev__result *last = &results->at[r->b->k - 1];
    bool ip = ix->graph.store.quantizer.metric == EV_METRIC_IP;
    if (!ev__walks_codes(&ix->graph.store.quantizer)) {
        double distance = (double)p->gain * (double)candidate.key -
                          (ip && ev__fine(&ix->graph.store.quantizer) ? r->s->work.against : 0);
        return distance - ev__error(&ix->graph.store, candidate.slot, distance, &r->s->work) <=
               last->distance + last->error;
    }
    if (ip) return true; /* codes do not tell lengths */
    ev__factor factor = ((const ev__factor *)(const void *)ix->graph.store.columns.factors.at)[candidate.slot];
    float query2 = p->offset / p->gain, scale = p->scale / 2; /* the query's squared length and the scale of its code */
    float variance = (query2 * factor.scale * factor.scale + factor.bias * scale * scale) / 12; /* of rounding */
    float nearest = p->offset + p->gain * (candidate.key - SURE * 2 * sqrtf(variance));
    return nearest < last->distance + last->error;
}

/* The pool of a walk or scan -> s->results. */
static void rank_pool(ranking *r, bool nodes) {
    const ev_index *ix = r->b->ix;
    ev__pool *pool = &r->s->pool;
    size_t most = pool->count;
    bool by_floats = !ev__walks_codes(&ix->graph.store.quantizer),
         by_bytes = !by_floats && ev__by_bytes(&ix->graph.store.quantizer);
    for (size_t i = 0; i < most && i < r->b->k; i++) EV_PREFETCH(ev__ids_of(&ix->graph.store) + pool->at[i].slot);
    if (by_bytes && most > RERANK_FACTOR * r->b->k + RERANK_MARGIN) most = RERANK_FACTOR * r->b->k + RERANK_MARGIN;
    for (size_t i = 0, asked = 0; i < most; i++) {
        for (size_t ahead = (i < r->b->k ? r->b->k : i) + TOGETHER; asked < most && asked < ahead; asked++)
            ev__distances_prefetch(&ix->graph.store, pool->at[asked].slot);
        if ((by_bytes || by_floats) && i >= r->b->k && (i - r->b->k) % TOGETHER == 0) {
            rank_flush(r);
            if (!may_enter(r, pool->at[i])) break;
        }
        if (nodes)
            rank_node(r, pool->at[i].slot);
        else
            rank(r, pool->at[i].slot);
    }
    rank_flush(r);
}

/* What is clear is shown as float32 has summed it, unless it is so small a distance that it has few digits so. Under ip
 * rounding goes by the vectors' lengths, of which a product may always be a small part. */
static bool shows_its_error(const ev__quantizer *q, const ev__result *result) {
    if (q->metric == EV_METRIC_IP) return false;
    return result->error > (5e-6 + 1e-8 * (double)q->dim) * fabs(result->distance);
}

static void write_results(const batch *b, ev__scratch *s, int64_t row) {
    ev__ranking *results = &s->results;
    int64_t *ids = b->ids + (size_t)row * b->k;
    float *distances = b->distances + (size_t)row * b->k;
    for (size_t i = 0; i < b->k; i++) {
        bool found = i < results->count;
        if (found && shows_its_error(&b->ix->graph.store.quantizer, &results->at[i]))
            ev__measure_exactly(&b->ix->graph.store, &results->at[i], &s->work);
        ids[i] = found ? ev__ids_of(&b->ix->graph.store)[results->at[i].slot] : -1;
        distances[i] = found ? ev__shown(&b->ix->graph.store, &results->at[i]) : INFINITY;
    }
}

/* ---- scanning -------------------------------------------------------------------------------- */

/* The next run of slots that may be results, from *at on. */
static size_t next_run(const ranking *r, size_t *at, uint32_t *slots) {
    const batch *b = r->b;
    size_t n = 0, end = ev__slots(&b->ix->graph.store);
    while (n < RUN && *at < end) {
        if (b->mask.allowed && *at % 64 == 0 && b->mask.allowed[*at / 64] == 0) {
            *at += 64;
            continue;
        }
        if (ev__slot_ok(&b->ix->graph.store, &b->mask, (uint32_t)*at) && *at != r->blind) slots[n++] = (uint32_t)*at;
        ++*at;
    }
    return n;
}

static void scan_vectors(ranking *r) {
    for (size_t at = 0; (r->count = next_run(r, &at, r->slots));) {
        r->s->stats.distances += (int64_t)r->count;
        rank_flush(r);
    }
    r->s->stats.reranked = 0; /* it is what the vectors were compared by */
}

static void scan_codes(ranking *r) {
    const ev_index *ix = r->b->ix;
    ev__space space = ev__walk_space(&ix->graph.store);
    ev__pool *pool = &r->s->pool;
    size_t ef = r->b->scan_ef < pool->room ? r->b->scan_ef : pool->room - 1, n;
    uint32_t slots[RUN];
    float keys[RUN];
    pool->count = 0;
    for (size_t at = 0; (n = next_run(r, &at, slots));) {
        ev__keys(&ix->graph.store.quantizer, &space, r->probe, slots, n, keys, &r->s->work);
        for (size_t i = 0; i < n; i++) ev__pool_insert(pool, ef, keys[i], slots[i]);
        r->s->stats.distances += (int64_t)n;
    }
    rank_pool(r, false);
}

static void scan(ranking *r) {
    r->s->results.count = 0;
    r->count = 0;
    r->s->stats.strategy = EV_STRATEGY_EXACT;
    if (r->b->exact || (r->b->matches <= FEW && r->b->ix->graph.store.quantizer.keep_vectors) ||
        !ev__walks_codes(&r->b->ix->graph.store.quantizer))
        scan_vectors(r);
    else
        scan_codes(r);
}

/* ---- one query ------------------------------------------------------------------------------- */

/* False when the walk cost more than a scan would, or came back short. */
static bool walk(ranking *r) {
    const batch *b = r->b;
    ev_index *ix = b->ix;
    ev__space space = ev__walk_space(&ix->graph.store);
    float key;
    r->s->stats.strategy = b->mask.on ? EV_STRATEGY_GRAPH_FILTERED : EV_STRATEGY_GRAPH;
    if (ix->graph.entry == EV_NONE) return false;
    uint32_t start = ev__descend(&ix->graph, &space, r->probe, 0, &key, r->s);
    int64_t budget = PATIENCE * b->matches + (int64_t)ix->graph.store.m0;
    if (!ev__walk(&ix->graph, &space, r->probe, 0, start, key, b->ef, &b->mask, budget, r->s)) return false;
    float square = ix->graph.store.quantizer.metric == EV_METRIC_COSINE ? 2.0f : 1.0f;
    ev__look_around(&ix->graph, &space, r->probe, square, b->ef, &b->mask, r->s);
    rank_pool(r, true);
    return (int64_t)r->s->results.count >= ((int64_t)b->k < b->matches ? (int64_t)b->k : b->matches);
}

/* Until s->blind is set back to EV_NONE walks do not see the vector's node, where it is there for that vector alone.
 * Returns the vector's slot, which must be no result, or EV_NONE where it is not held. */
static uint32_t blind_to(const ev_index *ix, int64_t id, ev__scratch *s) {
    uint32_t hidden = ev__idmap_get(&ix->graph.store.idmap, ev__ids_of(&ix->graph.store), id);
    bool alone = hidden != EV_NONE && ev__state(&ix->graph.store, hidden) == EV_NODE;
    for (uint32_t slot = hidden; alone && (slot = ev__next(&ix->graph.store, slot)) != EV_NONE;)
        alone = !ev__alive(&ix->graph.store, slot);
    s->blind = alone ? hidden : EV_NONE;
    return hidden;
}

static void answer(const batch *b, int64_t row, ev__scratch *s) {
    const ev_index *ix = b->ix;
    double start = ev__now();
    s->stats = (ev_search_stats){.queries = s->stats.queries + 1, .ef = b->exact ? 0 : (int32_t)b->ef};
    s->results.count = 0;
    if (b->matches) {
        ev__probe probe;
        ranking r = {.b = b, .probe = &probe, .s = s, .blind = EV_NONE};
        if (b->blind) r.blind = blind_to(ix, b->blind[row], s);
        r.query = ev__unit(&ix->graph.store.quantizer, b->queries + (size_t)row * ix->graph.store.quantizer.dim,
                           s->work.unit);
        ev__probe_query(&ix->graph.store.quantizer, r.query, &probe, &s->work);
        ev__measure_from(&ix->graph.store, b->queries + (size_t)row * ix->graph.store.quantizer.dim, r.query, &s->work);
        if (b->exact || b->scan || !walk(&r)) scan(&r);
    }
    s->blind = EV_NONE; /* others use the scratch too */
    write_results(b, s, row);
    s->stats.seconds = ev__now() - start;
}

static void answer_all(void *arg, int worker) {
    batch *b = arg;
    for (int64_t from, to; ev__work_next(&b->work, worker, &from, &to);)
        for (int64_t i = from; i < to; i++) answer(b, i, b->scratches[worker]);
}

/* ---- the call -------------------------------------------------------------------------------- */

static int check(const ev_index *ix, int64_t n, const float *queries, const ev_search_params *p) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld queries", (long long)n);
    if (p->k < 1) return ev__fail(EV_E_PARAM, "k %d is not at least 1", p->k);
    if (p->ef < 0) return ev__fail(EV_E_PARAM, "ef %d is not at least 1", p->ef);
    if (p->threads < 0) return ev__fail(EV_E_PARAM, "threads %d", p->threads);
    if (p->context && p->context->serial != ix->serial)
        return ev__fail(EV_E_PARAM, "the context belongs to another index");
    return ev__check_rows(&ix->graph.store.quantizer, n, queries);
}

/* A walk that must collect ef matches meets about ef / share nodes, M new rows each; a scan meets every match. */
static bool scan_is_cheaper(const batch *b) {
    double slots = (double)ev__slots(&b->ix->graph.store), matches = (double)b->matches;
    return matches * matches <= (double)SCATTER * (double)b->ef * (double)b->ix->graph.store.M * slots;
}

static int run(batch *b, int64_t n, const ev_search_params *p) {
    enum { MOST = sizeof b->scratches / sizeof *b->scratches };
    int64_t workers = p->threads ? p->threads : ev__cores();
    if (workers > n / 8 + 1) workers = n / 8 + 1;
    if (workers > MOST) workers = MOST;
    bool own = workers == 1 && p->context;
    int rc = EV_OK, ready = 0;
    if (own) b->scratches[0] = p->context->scratch;
    while (ready < workers && rc == EV_OK) {
        if (!own) rc = ev__scratch_borrow(&b->ix->graph, &b->scratches[ready]);
        if (rc == EV_OK) b->scratches[ready]->kept = true;
        if (rc == EV_OK) rc = ev__scratch_fit(&b->ix->graph, b->scratches[ready++], b->scan_ef, b->k, b->mask.on);
    }
    if (rc == EV_OK) {
        b->work = (ev__work){.total = n, .run = workers > 1 ? 8 : n};
        ev__parallel((int)workers, answer_all, b);
        if (own) tell_stats(p->context);
    }
    for (int i = 0; i < ready && !own; i++) ev__scratch_return(&b->ix->graph, b->scratches[i]);
    return rc;
}

static int search(ev_index *ix, int64_t n, const float *queries, const ev_search_params *p, int64_t *out_ids,
                  float *out_distances) {
    ev__call call;
    int rc = ev__enter(ix, EV_READ, &call);
    if (rc != EV_OK) return rc;
    batch b = {.ix = ix,
               .queries = queries,
               .k = (size_t)p->k,
               .exact = p->exact != 0,
               .blind = p->blind,
               .ids = out_ids,
               .distances = out_distances};
    void *hold = NULL;
    int32_t ef = p->ef ? p->ef : ix->params.ef;
    b.ef = ef > p->k ? (size_t)ef : (size_t)p->k;
    /* re-ranking what a scan by sign codes finds costs little beside the scan, and the codes are coarse */
    b.scan_ef = ev__by_bits(&ix->graph.store.quantizer) && b.ef < SIGNS_KEPT ? SIGNS_KEPT : b.ef;
    b.matches = ix->graph.store.live;
    b.mask.on = ix->graph.store.dead > 0 || p->filter;
    if (p->filter) rc = ev__filter_slots(p->filter, ix, &b.mask.allowed, &b.matches, &hold);
    if (rc == EV_OK) {
        b.exact |= ix->graph.store.quantizer.walk == EV_WALK_SCAN;
        b.scan = scan_is_cheaper(&b);
        rc = run(&b, n, p);
    }
    if (hold) ev__filter_release(p->filter, hold);
    ev__leave(&call);
    return rc;
}

int ev_search(ev_index *ix, int64_t n, const float *queries, const ev_search_params *p, int64_t *out_ids,
              float *out_distances) {
    int rc = check(ix, n, queries, p);
    if (rc != EV_OK || n == 0) return rc;
    ev_context *own = p->context;
    if (own && !ev__try_take(&own->busy))
        return ev__fail(EV_E_BUSY, "another search is using it; threads that search at once need one each, or none");
    rc = search(ix, n, queries, p, out_ids, out_distances);
    if (own) ev__store32_release(&own->busy, 0);
    return rc == EV_OK ? ev__ok() : rc;
}
