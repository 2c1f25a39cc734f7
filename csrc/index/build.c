/* Linking many vectors into the graph at once: room, duplicates, an order, workers. */
#include "index/build.h"
#include "index/stage.h"

enum {
    WARM_UP = 64,         /* nodes that are linked one by one */
    TABLED_PER_ROW = 1024 /* slots: 0.3 ms */
};
static const double STEP = 0.002; /* seconds for which searches may have to wait at least, so that linking gets on */

static bool wants_codes(const ev__build *a) {
    return a->ix->graph.store.quantizer.codec->coarse && a->ix->graph.store.quantizer.keep_vectors &&
           (size_t)a->n >= ev__slots(&a->ix->graph.store) / 16;
}

/* Slots to be coded, once the rows have theirs. */
static size_t slots_coded(const ev__build *a) {
    return ev__slots(&a->ix->graph.store) + (a->vectors ? (size_t)a->n : 0);
}

size_t ev__build_bytes(const ev__build *a) {
    size_t rows = (size_t)a->n * sizeof *a->slots, coded = wants_codes(a) ? slots_coded(a) : 0;
    return 3 * ev__block_bytes(rows) + ev__block_bytes(coded * a->ix->graph.store.quantizer.dim) +
           ev__block_bytes(coded * sizeof *a->factors) + EV_STRIPES * sizeof *a->builder.locks;
}

int ev__build_room(ev__build *a, int threads) {
    ev_index *ix = a->ix;
    a->slots = ev__alloc((size_t)a->n * sizeof *a->slots, EV_LINE);
    a->node_of = ev__alloc((size_t)a->n * sizeof *a->node_of, EV_LINE);
    a->order = ev__alloc((size_t)a->n * sizeof *a->order, EV_LINE);
    if (!a->slots || !a->node_of || !a->order) return ev__fail(EV_E_NOMEM, "%lld rows", (long long)a->n);
    if (wants_codes(a)) {
        a->coded = slots_coded(a);
        a->codes = ev__alloc(a->coded * ix->graph.store.quantizer.dim, EV_LINE);
        a->factors = ev__alloc(a->coded * sizeof *a->factors, EV_LINE);
        if (!a->codes || !a->factors) return ev__fail(EV_E_NOMEM, "codes of %zu vectors to build on", a->coded);
    }
    if (threads > 1) {
        a->builder.locks = ev__alloc_zero(EV_STRIPES * sizeof *a->builder.locks, EV_LINE);
        if (!a->builder.locks) return ev__fail(EV_E_NOMEM, "locks");
    }
    while (a->workers < threads) {
        int rc = ev__scratch_borrow(&ix->graph, &a->scratches[a->workers]);
        if (rc == EV_E_MEMORY_LIMIT && a->workers) break; /* there is room for fewer */
        if (rc != EV_OK) return rc;
        a->workers++;
    }
    return EV_OK;
}

/* After the slots are taken: walks need a mark per slot. */
int ev__build_fit(ev__build *a) {
    for (int i = 0; i < a->workers; i++) {
        int rc = ev__scratch_fit(&a->ix->graph, a->scratches[i], (size_t)a->ix->graph.ef_construction, 1, false);
        if (rc == EV_E_MEMORY_LIMIT && i) { /* likewise */
            while (a->workers > i) ev__scratch_return(&a->ix->graph, a->scratches[--a->workers]);
            break;
        }
        if (rc != EV_OK) return rc;
        a->scratches[i]->stats.distances = 0;
    }
    return EV_OK;
}

void ev__build_free(ev__build *a) {
    ev_index *ix = a->ix;
    for (int i = 0; i < a->workers; i++) {
        ix->graph.built_distances += a->scratches[i]->stats.distances;
        ev__scratch_return(&ix->graph, a->scratches[i]);
    }
    ev__release(a->slots, (size_t)a->n * sizeof *a->slots, EV_LINE);
    ev__release(a->node_of, (size_t)a->n * sizeof *a->node_of, EV_LINE);
    ev__release(a->order, (size_t)a->n * sizeof *a->order, EV_LINE);
    ev__release(a->codes, a->coded * ix->graph.store.quantizer.dim, EV_LINE);
    ev__release(a->factors, a->coded * sizeof *a->factors, EV_LINE);
    ev__old_codes_free(&a->old);
    ev__release(a->builder.locks, EV_STRIPES * sizeof *a->builder.locks, EV_LINE);
}

static void encode_for_build(void *arg, int worker) {
    ev__build *a = arg;
    ev__workspace *w = &a->scratches[worker]->work;
    for (int64_t from, to; ev__work_next(&a->work, worker, &from, &to);)
        for (int64_t slot = from; slot < to; slot++)
            ev__encode_i8(&a->ix->graph.store.quantizer,
                          ev__vector_read(&a->ix->graph.store, (uint32_t)slot, w->unit, w),
                          a->codes + (size_t)slot * a->ix->graph.store.quantizer.dim, a->factors + slot);
}

int ev__build_encode(ev__build *a) {
    if (!a->codes) return EV_OK;
    a->work = (ev__work){.total = (int64_t)ev__slots(&a->ix->graph.store), .run = 256};
    ev__parallel(a->workers, encode_for_build, a);
    return a->work.stopped ? ev__stopped() : EV_OK;
}

int ev__build_find_duplicates(ev__build *a, int64_t *found) {
    ev_index *ix = a->ix;
    if (!ev__duplicates_fill(&ix->graph.store, (size_t)a->n * TABLED_PER_ROW)) return ev__stopped();
    for (int64_t i = 0; i < a->n; i++) {
        if (ev__is_to_stop_at((size_t)i)) return ev__stopped();
        a->node_of[i] = ev__duplicates_find(&ix->graph.store, a->slots[i]);
        if (a->node_of[i] == EV_NONE)
            ev__duplicates_put(&ix->graph.store, a->slots[i]);
        else
            ++*found;
    }
    return EV_OK;
}

/* Attach them to their nodes' chains. */
void ev__build_attach_duplicates(ev__build *a) {
    ev_index *ix = a->ix;
    for (int64_t i = 0; i < a->n; i++)
        if (a->node_of[i] != EV_NONE) ev__attach_duplicate(&ix->graph.store, a->node_of[i], a->slots[i]);
}

/* Files are often sorted by topic. Linked in that order, each cluster would be closed before the next one begins, with
 * few links between them; in a random one the first nodes lie everywhere and are linked across. */
static void shuffle(ev__build *a) {
    uint64_t random = ev__mix(a->ix->graph.store.seed ^ (0x0BDE500000000u + ev__slots(&a->ix->graph.store)));
    for (int64_t i = 0; i < a->n; i++) a->order[i] = (uint32_t)i;
    for (uint64_t left = (uint64_t)a->n; left > 1; left--) {
        random = ev__mix(random);
        uint64_t chosen = random % left;
        uint32_t row = a->order[chosen];
        a->order[chosen] = a->order[left - 1];
        a->order[left - 1] = row;
    }
}

/* Do searches wait, and has linking got on since they were let in? */
static bool is_to_pause(const ev__build *a) {
    return a->in_steps && ev__readers_wait(&a->ix->lock) && ev__now() - a->step_began > STEP;
}

static void link_rows(void *arg, int worker) {
    ev__build *a = arg;
    for (int64_t from, to; !is_to_pause(a) && ev__work_next(&a->work, worker, &from, &to);)
        for (int64_t i = from; i < to; i++) {
            uint32_t row = a->order[a->offset + i];
            if (a->node_of[row] == EV_NONE) ev__insert(&a->builder, a->slots[row], a->scratches[worker]);
            ev__add64(&a->work.done, 1);
        }
}

static void let_searches_in(ev__build *a) {
    ev__pause(a->call);
    ev__resume(a->call);
    a->step_began = ev__now();
}

void ev__build_yield(ev__build *a) {
    if (is_to_pause(a)) let_searches_in(a);
}

/* Of the order [from, to); false when stopped. */
static bool link_range(ev__build *a, int64_t from, int64_t to, int threads) {
    a->offset = from;
    a->work = (ev__work){.total = to - from, .run = 1, .base = from, .base_total = a->call ? a->n : 0};
    a->builder.entry_lock = threads > 1 ? &a->entry_lock : NULL;
    for (;;) {
        ev__parallel(threads, link_rows, a);
        a->ix->graph.store.linked_ahead = a->call ? from + a->work.done : 0;
        if (a->work.stopped || a->work.done == to - from) return !a->work.stopped;
        let_searches_in(a);
    }
}

int ev__build_link(ev__build *a) {
    shuffle(a);
    a->builder.g = &a->ix->graph;
    a->builder.state = a->call ? EV_DEAD_NODE : EV_NODE;
    a->step_began = ev__now();
    a->builder.space = ev__build_space(&a->ix->graph.store, a->codes, a->factors);
    /* the first few one by one, so that threads do not all start from an empty graph */
    bool empty = a->ix->graph.store.live < WARM_UP || !a->vectors;
    int64_t warm = a->workers > 1 && empty ? (a->n < WARM_UP ? a->n : WARM_UP) : 0;
    ev__mutex_init(&a->entry_lock);
    bool finished = (!a->call || ev__report_progress(0, a->n)) && link_range(a, 0, warm, 1) &&
                    link_range(a, warm, a->n, a->workers) && (!a->call || ev__report_progress(a->n, a->n));
    ev__mutex_free(&a->entry_lock);
    return finished ? EV_OK : ev__stopped();
}

int ev__build_workers(const ev_index *ix, int32_t threads, int64_t n) {
    if (ix->graph.store.live < WARM_UP && n <= WARM_UP) return 1; /* all of it is linked one by one */
    int64_t workers = threads ? threads : ev__cores();
    if (workers > n / 4 + 1) workers = n / 4 + 1; /* a thread for a row or two costs more than it saves */
    return workers > EV_MAX_WORKERS ? EV_MAX_WORKERS : (int)workers;
}

/* ---- linking anew ---------------------------------------------------------------------------- */

/* The graph as it was, in case that the call is stopped. */
typedef struct {
    ev__array links0, upper, state, next_duplicate;
    uint32_t entry;
} old_graph;

static void free_old(old_graph *old) {
    ev__array_free(&old->links0);
    ev__array_free(&old->upper);
    ev__array_free(&old->state);
    ev__array_free(&old->next_duplicate);
}

static int copy_array(const ev__array *from, ev__array *to) {
    to->item = from->item;
    int rc = ev__array_resize(to, from->count);
    if (rc == EV_OK && from->count) memcpy(to->at, from->at, from->count * from->item);
    return rc;
}

static int keep_old(const ev__graph *g, old_graph *old) {
    const ev__store *store = &g->store;
    size_t bytes = store->m0 * sizeof(uint32_t);
    old->entry = g->entry;
    old->links0.item = bytes;
    int rc = ev__array_reserve(&old->links0, ev__slots(store));
    if (rc == EV_OK) rc = copy_array(&store->columns.upper, &old->upper);
    if (rc == EV_OK) rc = copy_array(&store->columns.state, &old->state);
    if (rc == EV_OK) rc = copy_array(&store->columns.next_duplicate, &old->next_duplicate);
    for (size_t slot = 0; rc == EV_OK && slot < ev__slots(store); slot++) {
        if (ev__is_to_stop_at(slot)) return ev__stopped();
        memcpy(old->links0.at + slot * bytes, ev__links0(store, (uint32_t)slot), bytes);
    }
    return rc == EV_OK ? EV_OK : ev__fail(rc, "the links of %zu slots", ev__slots(store));
}

static void restore(ev__graph *g, const old_graph *old) {
    ev__store *store = &g->store;
    g->entry = old->entry;
    /* as many as there are: this cannot fail */
    copy_array(&old->upper, &store->columns.upper);
    copy_array(&old->state, &store->columns.state);
    copy_array(&old->next_duplicate, &store->columns.next_duplicate);
    for (size_t slot = 0; slot < ev__slots(store); slot++)
        memcpy(ev__links0(store, (uint32_t)slot), old->links0.at + slot * old->links0.item, old->links0.item);
}

/* As if nothing had been linked yet. */
static int unlink_all(ev__build *a) {
    ev_index *ix = a->ix;
    int64_t n = 0;
    for (size_t i = 0; i < ev__slots(&ix->graph.store); i++) {
        uint32_t slot = (uint32_t)i;
        if (ev__is_to_stop_at(i)) return ev__stopped();
        if (ev__state(&ix->graph.store, slot) == EV_FREE) continue;
        bool alive = ev__alive(&ix->graph.store, slot); /* the dead have no part in it, and wait to be freed */
        ev__states(&ix->graph.store)[slot] = alive ? EV_FREE : EV_DEAD_NODE;
        ev__links_clear(&ix->graph.store, slot);
        ev__next_duplicates(&ix->graph.store)[slot] = EV_NONE;
        if (alive) a->slots[n++] = slot;
    }
    ix->graph.entry = EV_NONE;
    return EV_OK;
}

static int link_held(ev__build *a, int threads) {
    ev_index *ix = a->ix;
    int rc = ev__build_room(a, threads);
    if (rc == EV_OK) rc = ev__build_fit(a);
    if (rc == EV_OK) rc = ev__duplicates_open(&ix->graph.store);
    if (rc == EV_OK) rc = ev__duplicates_reserve(&ix->graph.store, 0);
    old_graph old = {0};
    int64_t duplicates = 0, faults = ev__paged_faults(&ix->graph.store);
    if (rc == EV_OK) rc = keep_old(&ix->graph, &old);
    if (rc == EV_OK) {
        rc = unlink_all(a);
        if (rc == EV_OK) rc = ev__build_encode(a);
        if (rc == EV_OK) rc = ev__build_find_duplicates(a, &duplicates);
        if (rc == EV_OK) rc = ev__build_link(a);
        if (rc == EV_OK) rc = ev__paged_trouble(&ix->graph.store, faults);
        if (rc != EV_OK) restore(&ix->graph, &old);
    }
    free_old(&old);
    if (rc != EV_OK) return rc;
    ev__build_attach_duplicates(a);
    ix->graph.unrepaired += ix->graph.store.live;
    ix->graph.store.version++;
    return EV_OK;
}

static int link_anew(ev_index *ix, int32_t walk, int threads) {
    ev__store *store = &ix->graph.store;
    ev__quantizer *q = &store->quantizer;
    int32_t before = q->walk;
    ev__mending_drop(&ix->graph);
    ev__consolidation_drop(&ix->graph);
    ev__build a = {.ix = ix, .n = store->live};
    ev__duplicates_free(store); /* it goes by what is walked on */
    q->walk = walk;
    int rc = link_held(&a, ev__build_workers(ix, threads, a.n));
    ev__build_free(&a);
    if (rc == EV_OK) return ev__mend(&ix->graph, NULL);
    ev__duplicates_free(store);
    q->walk = before;
    return rc;
}

int ev__link_anew(ev_index *ix, int32_t walk, int threads) {
    int rc = ev__staged(ix) ? EV_OK : ev__consolidate_deletes(&ix->graph, threads, NULL);
    if (rc != EV_OK) return rc;
    ev__stage_set_visible(ix, true);
    rc = link_anew(ix, walk, threads);
    ev__stage_set_visible(ix, false);
    return rc;
}
