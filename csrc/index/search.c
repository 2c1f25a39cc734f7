/* ev_search: choose a strategy, find candidates by their codes, rank them by exact distance. */
#include "index/search.h"

#include <math.h>

enum {
    RANDOM_READ_COST = 2, /* a row met on a walk costs this many rows met in a scan */
    BUDGET_FACTOR = 2,    /* a filtered walk may cost this many scans before a scan takes over */
    BITS_SCAN_MIN = 128,  /* at least, by a scan */
    MANY_DEAD_OF_5 = 2,   /* nodes in five may be removed for a walk to leave them out at its end */
    BOUND_EF = 16,        /* at least, of a walk that only bounds how far the k-th is */
    BOUND_PAYS = 512      /* and costs as much as what it spares a scan of so many vectors for each place in its list */
};

/* ---- one query ------------------------------------------------------------------------------- */

/* Level 0, from one entry: ef candidates, with the removed ones where there is no mask. False when the walk cost more
 * than a scan would. */
static bool walk_level_0(ev__reranker *r, const ev__space *space, uint32_t start, float distance, size_t ef,
                         const ev__mask *mask) {
    ev__graph *g = &r->b->ix->graph;
    int64_t budget = BUDGET_FACTOR * r->b->matches + (int64_t)g->store.m0;
    r->s->stats.strategy = mask->on ? EV_STRATEGY_GRAPH_FILTERED : EV_STRATEGY_GRAPH;
    if (!ev__search_layer(g, space, r->query, 0, start, distance, ef, mask, budget, r->s)) return false;
    float square = 1 / g->store.quantizer.metric->gain;
    ev__search_other_clusters(g, space, r->query, square, ef, mask, r->s);
    return true;
}

/* Has a walk without a mask found nearly as many candidates as one with a mask would have, and k at least? */
static bool has_enough_alive(const ev__reranker *r, size_t ef) {
    const ev__search_call *b = r->b;
    const ev__candidates *found = &r->s->candidates;
    size_t dead = 0;
    if (!b->spare || found->count < ef + b->spare) return true; /* none is dead, or all that there is was found */
    for (size_t i = 0; i < found->count; i++) dead += !ev__node_ok(&b->ix->graph.store, &b->mask, found->at[i].slot);
    return dead <= 2 * b->spare && found->count - dead >= b->k;
}

/* False when the walk cost more than a scan would, or came back short. */
static bool walk(ev__reranker *r, size_t ef) {
    const ev__search_call *b = r->b;
    ev__graph *g = &b->ix->graph;
    ev__space space = ev__search_space(&g->store);
    float distance;
    if (g->entry == EV_NONE) return false;
    uint32_t start = ev__search_upper_layers(g, &space, r->query, 0, &distance, r->s);
    if (!walk_level_0(r, &space, start, distance, ef + b->spare, &b->mask)) return false;
    if (!has_enough_alive(r, ef)) {
        const ev__mask living = {.on = true};
        if (ev__scratch_fit(g, r->s, ef, b->k, true) != EV_OK) return false;
        if (!walk_level_0(r, &space, start, distance, ef, &living)) return false;
    }
    ev__rerank_candidates(r, true);
    return (int64_t)r->s->results.count >= ((int64_t)b->k < b->matches ? (int64_t)b->k : b->matches);
}

/* Before all vectors are compared: k that a short walk finds. None further than the last of them is a result, which
 * spares comparing what seems near as long as nothing nearer has been met. */
static void find_a_bound(ev__reranker *r) {
    const ev__search_call *b = r->b;
    size_t ef = b->k > BOUND_EF ? b->k : BOUND_EF;
    bool walks = b->ix->graph.store.quantizer.walk != EV_WALK_SCAN && !b->mask.allowed && ef <= b->ef;
    if (!walks || b->matches < BOUND_PAYS * (int64_t)ef) return;
    ev_search_stats scans = r->s->stats;
    walk(r, ef);
    r->s->stats = scans;
}

/* Until s->excluded is set back to EV_NONE walks do not see the vector's node, where it is there for that vector alone.
 * Returns the vector's slot, which must be no result, or EV_NONE where it is not held. */
static uint32_t exclude_id(const ev_index *ix, int64_t id, ev__scratch *s) {
    const ev__store *store = &ix->graph.store;
    uint32_t hidden = ev__id_table_get(&store->id_table, ev__ids_of(store), id);
    bool alone = hidden != EV_NONE && ev__state(store, hidden) == EV_NODE;
    for (uint32_t slot = hidden; alone && (slot = ev__next_duplicate(store, slot)) != EV_NONE;)
        alone = !ev__alive(store, slot);
    s->excluded = alone ? hidden : EV_NONE;
    return hidden;
}

static void answer(ev__search_call *b, int64_t row, ev__scratch *s) {
    const ev_index *ix = b->ix;
    double start = ev__now();
    s->stopped = false;
    s->stats = (ev_search_stats){.queries = s->stats.queries + 1, .ef = b->exact ? 0 : (int32_t)b->ef};
    s->results.count = 0;
    if (b->matches) {
        ev__query query;
        ev__reranker r = {.b = b, .query = &query, .s = s, .limit = INFINITY, .excluded = EV_NONE};
        if (b->exclude_ids) r.excluded = exclude_id(ix, b->exclude_ids[row], s);
        const ev__quantizer *q = &ix->graph.store.quantizer;
        const float *given = b->queries + (size_t)row * q->dim, *vector = ev__unit(q, given, s->work.unit);
        ev__query_init(q, vector, &query, &s->work);
        ev__exact_init(&ix->graph.store, given, vector, &s->work);
        if (b->exact) find_a_bound(&r);
        if (b->exact || b->scan || (!walk(&r, b->ef) && !s->stopped)) ev__scan_call(&r);
    }
    if (s->stopped) ev__store32(&b->work.stopped, 1);
    s->excluded = EV_NONE; /* others use the scratch too */
    ev__rerank_write(b, s, row);
    s->stats.seconds = ev__now() - start;
}

static void answer_all(void *arg, int worker) {
    ev__search_call *b = arg;
    for (int64_t from, to; ev__work_next(&b->work, worker, &from, &to);)
        if (!b->block || !ev__scan_block(b, from, to, b->scratches[worker]))
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
static bool scan_is_cheaper(const ev__search_call *b) {
    const ev__store *store = &b->ix->graph.store;
    double nodes = (double)(store->live + store->dead), matches = (double)b->matches;
    return matches * matches <= (double)RANDOM_READ_COST * (double)b->ef * (double)store->M * nodes;
}

/* Where few are dead, a walk does as if none were, with places to spare for as many as it is to meet by chance. */
static void plan_for_dead(ev__search_call *b, bool filtered) {
    const ev__store *store = &b->ix->graph.store;
    int64_t dead = store->dead + store->linked_ahead, held = store->live + dead;
    b->mask.on = filtered || 5 * dead > MANY_DEAD_OF_5 * held;
    if (dead && !b->mask.on) b->spare = 1 + (size_t)((int64_t)b->ef * dead / held);
}

static int run(ev__search_call *b, int64_t n, const ev_search_params *p) {
    enum { MOST = sizeof b->scratches / sizeof *b->scratches };
    int64_t workers = p->threads ? p->threads : ev__cores();
    if (workers > n / 8 + 1) workers = n / 8 + 1;
    if (workers > MOST) workers = MOST;
    bool own = workers == 1 && p->context;
    size_t room = b->ef + b->spare > b->scan_ef ? b->ef + b->spare : b->scan_ef;
    int rc = EV_OK, ready = 0;
    if (own) b->scratches[0] = p->context->scratch;
    while (ready < workers && rc == EV_OK) {
        if (!own) rc = ev__scratch_borrow(&b->ix->graph, &b->scratches[ready]);
        if (rc == EV_OK) b->scratches[ready]->kept = true;
        if (rc == EV_OK) rc = ev__scratch_fit(&b->ix->graph, b->scratches[ready++], room, b->k, b->mask.on);
    }
    if (rc == EV_E_MEMORY_LIMIT && ready > 1) { /* there is room for fewer; the last may not be fit */
        ev__scratch_return(&b->ix->graph, b->scratches[--ready]);
        workers = ready;
        rc = EV_OK;
    }
    if (rc == EV_OK) {
        b->by_nibbles = ev__scan_by_nibbles(b, n);
        size_t share = (size_t)((n + workers - 1) / workers), block = ev__scan_block_most(b, n);
        b->block = block < share ? block : share;
        b->work = (ev__work){.total = n, .run = b->block ? (int64_t)b->block : 8};
        if (n == 1 && !b->block)
            answer(b, 0, b->scratches[0]); /* too soon done to be asked about */
        else
            ev__parallel((int)workers, answer_all, b);
        if (b->work.stopped) rc = ev__stopped();
        if (own) ev__context_note(p->context);
        if (p->stats && workers == 1) *p->stats = b->scratches[0]->stats;
    }
    for (int i = 0; i < ready && !own; i++) ev__scratch_return(&b->ix->graph, b->scratches[i]);
    return rc;
}

static int search(ev_index *ix, int64_t n, const float *queries, const ev_search_params *p, int64_t *out_ids,
                  float *out_distances) {
    ev__quantizer *q = &ix->graph.store.quantizer;
    ev__call call;
    int rc = p->exclude_ids ? ev__complete(ix, EV_LACKS_NOTHING)
             : p->filter    ? ev__complete(ix, EV_LACKS_LITTLE)
                            : EV_OK;
    if (rc == EV_OK) rc = ev__enter(ix, EV_READ, &call);
    if (rc != EV_OK) return rc;
    ev__search_call b = {.ix = ix,
                         .queries = queries,
                         .k = (size_t)p->k,
                         .exact = p->exact != 0,
                         .exclude_ids = p->exclude_ids,
                         .ids = out_ids,
                         .distances = out_distances};
    void *hold = NULL;
    int32_t ef = p->ef ? p->ef : ix->params.ef;
    b.ef = ef > p->k ? (size_t)ef : (size_t)p->k;
    /* re-ranking what a scan by sign codes finds costs little beside the scan, and the codes are coarse */
    b.scan_ef = q->codec->coarse && b.ef < BITS_SCAN_MIN ? BITS_SCAN_MIN : b.ef;
    b.matches = ix->graph.store.live;
    plan_for_dead(&b, p->filter != NULL);
    if (p->filter) rc = ev__filter_slots(p->filter, ix, &b.mask.allowed, &b.matches, &hold);
    if (rc == EV_OK) {
        b.exact |= q->walk == EV_WALK_SCAN;
        b.scan = scan_is_cheaper(&b);
        rc = run(&b, n, p);
    }
    if (rc == EV_OK) rc = ev__call_trouble(&call);
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
        return ev__fail(EV_E_BUSY,
                        "another search is using the context; threads that search at once need one each, or none");
    rc = search(ix, n, queries, p, out_ids, out_distances);
    if (own) ev__give_back(&own->busy);
    return rc == EV_OK ? ev__ok() : rc;
}
