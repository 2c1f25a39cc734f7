/* ev_add: check, make room, learn, write, encode, link, and only then change which id is where. Up to that last step
 * the index answers as before, so an error or a stop just forgets the new slots. */
#include "index/index.h"

enum {
    WARM_UP = 64,
    MOST_WORKERS = 256,
    /* the graph is mended when one in so many of its nodes is new; under ip, where short vectors lose their links to
       longer ones, more often */
    MEND_LATE = 32,
    MEND_SOON = 256
};

typedef struct {
    ev_index *ix;
    int64_t n;
    const float *vectors; /* NULL: what is held is linked anew */
    const int64_t *ids;   /* NULL: numbered on */
    uint32_t *slots;      /* of the rows */
    uint32_t *order;      /* the same slots in the order they are linked in */
    ev__scratch *scratches[MOST_WORKERS];
    int workers;
    /* 8-bit codes of all slots, when a binary index grows by enough to make them worth their room */
    int8_t *codes;
    ev__factor *factors;
    size_t coded;
    ev__builder builder;
    ev__mutex entry_lock;
    ev__work work;
    int64_t offset; /* of the slots in work within the order */
} addition;

/* ---- checks: before anything changes --------------------------------------------------------- */

static int check_ids(const ev_index *ix, int64_t n, const int64_t *ids) {
    if (!ids)
        return ix->next_id > INT64_MAX - n ? ev__fail(EV_E_FULL, "no ids are left after %lld", (long long)ix->next_id)
                                           : EV_OK;
    if ((uint64_t)n >= EV_NONE) return ev__fail(EV_E_FULL, "%lld rows in one call", (long long)n);
    ev__table seen = {0};
    int rc = ev__idmap_reserve(&seen, ids, (size_t)n);
    if (rc != EV_OK) rc = ev__fail(rc, "checking %lld ids", (long long)n);
    for (int64_t i = 0; rc == EV_OK && i < n; i++) {
        if (ev__idmap_get(&seen, ids, ids[i]) != EV_NONE)
            rc = ev__fail_row(EV_E_DUPLICATE, i, "id %lld at row %lld", (long long)ids[i], (long long)i);
        else
            ev__idmap_put(&seen, ids, ids[i], (uint32_t)i);
    }
    ev__idmap_free(&seen);
    return rc;
}

/* ---- room ------------------------------------------------------------------------------------ */

static bool wants_codes(const addition *a) {
    return ev__by_bits(&a->ix->graph.store.quantizer) && a->ix->graph.store.quantizer.keep_vectors &&
           (size_t)a->n >= ev__slots(&a->ix->graph.store) / 16;
}

static int make_room(addition *a, int threads) {
    ev_index *ix = a->ix;
    a->slots = ev__alloc((size_t)a->n * sizeof *a->slots, EV_LINE);
    a->order = ev__alloc((size_t)a->n * sizeof *a->order, EV_LINE);
    if (!a->slots || !a->order) return ev__fail(EV_E_NOMEM, "%lld rows", (long long)a->n);
    if (wants_codes(a)) {
        a->coded = ev__slots(&ix->graph.store) + (a->vectors ? (size_t)a->n : 0);
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
        if (rc != EV_OK) return rc;
        a->workers++;
    }
    return EV_OK;
}

/* After the slots are taken: walks need a mark per slot. */
static int fit_scratches(addition *a) {
    for (int i = 0; i < a->workers; i++) {
        int rc = ev__scratch_fit(&a->ix->graph, a->scratches[i], (size_t)a->ix->graph.ef_construction, 1, false);
        if (rc != EV_OK) return rc;
        a->scratches[i]->stats.distances = 0;
    }
    return EV_OK;
}

static void give_back(addition *a) {
    ev_index *ix = a->ix;
    for (int i = 0; i < a->workers; i++) {
        ix->graph.built_distances += a->scratches[i]->stats.distances;
        ev__scratch_return(&ix->graph, a->scratches[i]);
    }
    ev__release(a->slots, (size_t)a->n * sizeof *a->slots, EV_LINE);
    ev__release(a->order, (size_t)a->n * sizeof *a->order, EV_LINE);
    ev__release(a->codes, a->coded * ix->graph.store.quantizer.dim, EV_LINE);
    ev__release(a->factors, a->coded * sizeof *a->factors, EV_LINE);
    ev__release(a->builder.locks, EV_STRIPES * sizeof *a->builder.locks, EV_LINE);
}

/* ---- writing and encoding -------------------------------------------------------------------- */

static void write_row(addition *a, int64_t i, ev__scratch *s) {
    ev_index *ix = a->ix;
    uint32_t slot = a->slots[i];
    const float *row =
        ev__unit(&ix->graph.store.quantizer, a->vectors + (size_t)i * ix->graph.store.quantizer.dim, s->work.unit);
    ev__vector_write(&ix->graph.store, slot, row, &s->work);
    ev__ids_of(&ix->graph.store)[slot] = a->ids ? a->ids[i] : ix->next_id + i;
}

static void write_rows(void *arg, int worker) {
    addition *a = arg;
    for (int64_t from, to; ev__work_next(&a->work, worker, &from, &to);)
        for (int64_t i = from; i < to; i++) write_row(a, i, a->scratches[worker]);
}

static void encode_for_build(void *arg, int worker) {
    addition *a = arg;
    for (int64_t from, to; ev__work_next(&a->work, worker, &from, &to);)
        for (int64_t slot = from; slot < to; slot++)
            ev__encode_i8(&a->ix->graph.store.quantizer, ev__vector(&a->ix->graph.store, (uint32_t)slot),
                          a->codes + (size_t)slot * a->ix->graph.store.quantizer.dim, a->factors + slot);
}

static void write(addition *a) {
    ev_index *ix = a->ix;
    for (int64_t i = 0; i < a->n; i++) a->slots[i] = ev__slot_take(&ix->graph.store);
    a->work = (ev__work){.total = a->n, .run = 256};
    ev__parallel(a->workers, write_rows, a);
}

static void encode_all_for_build(addition *a) {
    if (!a->codes) return;
    a->work = (ev__work){.total = (int64_t)ev__slots(&a->ix->graph.store), .run = 256};
    ev__parallel(a->workers, encode_for_build, a);
}

/* ---- duplicates ------------------------------------------------------------------------------ */

/* Rows whose code a node has already, or an earlier row of this call. Returns how many; their nodes are in their first
 * links. */
static int64_t find_duplicates(addition *a) {
    ev_index *ix = a->ix;
    int64_t found = 0;
    for (int64_t i = 0; i < a->n; i++) {
        uint32_t slot = a->slots[i], node = ev__twins_get(&ix->graph.store, slot);
        if (node == EV_NONE) {
            ev__twins_put(&ix->graph.store, slot);
            continue;
        }
        ev__states(&ix->graph.store)[slot] = EV_DUPLICATE;
        ev__links0(&ix->graph.store, slot)[0] = node;
        found++;
    }
    return found;
}

/* Hang them on their nodes' chains. */
static void hang_duplicates(addition *a) {
    ev_index *ix = a->ix;
    for (int64_t i = 0; i < a->n; i++) {
        uint32_t slot = a->slots[i];
        if (ev__state(&ix->graph.store, slot) != EV_DUPLICATE) continue;
        uint32_t node = ev__links0(&ix->graph.store, slot)[0];
        ev__links0(&ix->graph.store, slot)[0] = EV_NONE;
        ev__hang(&ix->graph.store, node, slot);
    }
}

/* ---- linking --------------------------------------------------------------------------------- */

/* Files are often sorted by topic. Linked in that order, each cluster would be closed before the next one begins, with
 * few links between them; in a random one the first nodes lie everywhere and are linked across. */
static void shuffle(addition *a) {
    uint64_t random = ev__mix(a->ix->graph.store.seed ^ (0x0BDE500000000u + ev__slots(&a->ix->graph.store)));
    memcpy(a->order, a->slots, (size_t)a->n * sizeof *a->order);
    for (uint64_t left = (uint64_t)a->n; left > 1; left--) {
        random = ev__mix(random);
        uint64_t chosen = random % left;
        uint32_t slot = a->order[chosen];
        a->order[chosen] = a->order[left - 1];
        a->order[left - 1] = slot;
    }
}

static void link_slots(void *arg, int worker) {
    addition *a = arg;
    for (int64_t from, to; ev__work_next(&a->work, worker, &from, &to);)
        for (int64_t i = from; i < to; i++) {
            uint32_t slot = a->order[a->offset + i];
            if (ev__state(&a->ix->graph.store, slot) != EV_DUPLICATE)
                ev__insert(&a->builder, slot, a->scratches[worker]);
            ev__add64(&a->work.done, 1);
        }
}

/* Of the order [from, to); false when stopped. */
static bool link_range(addition *a, int64_t from, int64_t to, int threads, ev_progress progress, void *user) {
    a->offset = from;
    a->work = (ev__work){.total = to - from,
                         .run = 1,
                         .progress = progress,
                         .user = user,
                         .told = ev__now(),
                         .base = from,
                         .base_total = a->n};
    a->builder.entry_lock = threads > 1 ? &a->entry_lock : NULL;
    ev__parallel(threads, link_slots, a);
    return !a->work.stopped;
}

static bool link_all(addition *a, ev_progress progress, void *user) {
    shuffle(a);
    a->builder.g = &a->ix->graph;
    a->builder.space = ev__build_space(&a->ix->graph.store, a->codes, a->factors);
    /* the first few one by one, so that threads do not all start from an empty graph */
    bool empty = a->ix->graph.store.live < WARM_UP || !a->vectors;
    int64_t warm = a->workers > 1 && empty ? (a->n < WARM_UP ? a->n : WARM_UP) : 0;
    ev__mutex_init(&a->entry_lock);
    bool finished = (!progress || progress(user, 0, a->n)) && link_range(a, 0, warm, 1, progress, user) &&
                    link_range(a, warm, a->n, a->workers, progress, user);
    ev__mutex_free(&a->entry_lock);
    return finished && (!progress || progress(user, a->n, a->n));
}

/* ---- the end, either way --------------------------------------------------------------------- */

static void commit(addition *a, int64_t *out_ids) {
    ev_index *ix = a->ix;
    const int64_t *held = ev__ids_of(&ix->graph.store);
    for (int64_t i = 0; i < a->n; i++) {
        int64_t id = held[a->slots[i]];
        uint32_t old = ev__idmap_get(&ix->graph.store.idmap, held, id);
        if (old != EV_NONE) ev__slot_drop(&ix->graph.store, old);
        ev__idmap_put(&ix->graph.store.idmap, held, id, a->slots[i]);
        ix->graph.store.live++;
        if (id >= ix->next_id) ix->next_id = id < INT64_MAX ? id + 1 : id;
        if (out_ids) out_ids[i] = id;
    }
    ix->graph.unrepaired += a->n;
    ix->changes += a->n;
    ix->graph.store.version++;
}

/* Linked nodes go on routing as dead ones; the rest is as if never taken. */
static void roll_back(addition *a) {
    ev_index *ix = a->ix;
    for (int64_t i = a->n; i-- > 0;) {
        if (ev__state(&ix->graph.store, a->slots[i]) == EV_NODE) {
            ev__twins_remove(&ix->graph.store, a->slots[i]);
            ev__states(&ix->graph.store)[a->slots[i]] = EV_DEAD_NODE;
            ix->graph.store.dead++;
        } else {
            ev__slot_free(&ix->graph.store, a->slots[i]);
        }
    }
    ix->graph.store.version++;
}

static int add_rows(addition *a, int32_t threads, int64_t *out_ids, ev_progress progress, void *user) {
    ev_index *ix = a->ix;
    int rc = EV_OK;
    if (ix->graph.store.dead > 32 && ix->graph.store.dead > (int64_t)ev__slots(&ix->graph.store) / 8)
        rc = ev__bury(&ix->graph, threads);
    if (rc == EV_OK) rc = ev__store_reserve(&ix->graph.store, (size_t)a->n);
    if (rc == EV_OK) rc = make_room(a, threads);
    if (rc == EV_OK) rc = ev__train(ix, a->n, a->vectors, threads, a->scratches[0]);
    if (rc == EV_OK) rc = ev__twins_reserve(&ix->graph.store, (size_t)a->n);
    if (rc != EV_OK) return rc;
    write(a);
    encode_all_for_build(a);
    int64_t duplicates = find_duplicates(a);
    rc = fit_scratches(a);
    if (rc == EV_OK && duplicates) rc = ev__chain_open(&ix->graph.store);
    if (rc == EV_OK && !link_all(a, progress, user))
        rc = ev__fail(EV_E_STOPPED, "after %lld rows", (long long)a->work.done);
    if (rc != EV_OK) {
        roll_back(a);
        return rc;
    }
    if (duplicates) hang_duplicates(a);
    commit(a, out_ids);
    /* mending is a service, not a promise: for want of memory it is left to the next call */
    if (ix->graph.unrepaired >
        ix->graph.store.live / (ix->graph.store.quantizer.metric == EV_METRIC_IP ? MEND_SOON : MEND_LATE))
        ev__reconnect(&ix->graph);
    return ev__ok();
}

static int workers_for(const ev_index *ix, int32_t threads, int64_t n) {
    if (ix->graph.store.live < WARM_UP && n <= WARM_UP) return 1; /* all of it is linked one by one */
    int64_t workers = threads ? threads : ev__cores();
    if (workers > n / 4 + 1) workers = n / 4 + 1; /* a thread for a row or two costs more than it saves */
    return workers > MOST_WORKERS ? MOST_WORKERS : (int)workers;
}

int ev_add(ev_index *ix, int64_t n, const float *vectors, const int64_t *ids, int64_t *out_ids, int32_t threads,
           ev_progress progress, void *user) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld rows", (long long)n);
    if (threads < 0) return ev__fail(EV_E_PARAM, "threads %d", threads);
    if (n == 0) return ev__ok();
    int rc = ev__check_rows(&ix->graph.store.quantizer, n, vectors);
    if (rc != EV_OK) return rc;
    ev__call call;
    rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    rc = check_ids(ix, n, ids);
    if (rc == EV_OK) {
        addition a = {.ix = ix, .n = n, .vectors = vectors, .ids = ids};
        rc = add_rows(&a, workers_for(ix, threads, n), out_ids, progress, user);
        give_back(&a);
    }
    ev__leave(&call);
    return rc;
}

/* ---- linking anew ---------------------------------------------------------------------------- */

/* As if nothing had been linked yet. */
static void unlink_all(addition *a) {
    ev_index *ix = a->ix;
    int64_t n = 0;
    for (size_t i = 0; i < ev__slots(&ix->graph.store); i++) {
        uint32_t slot = (uint32_t)i;
        if (ev__state(&ix->graph.store, slot) == EV_NODE) ev__twins_remove(&ix->graph.store, slot);
        if (!ev__alive(&ix->graph.store, slot)) continue;
        ev__states(&ix->graph.store)[slot] = EV_FREE;
        ev__links_clear(&ix->graph.store, slot);
        ev__chain(&ix->graph.store)[slot] = EV_NONE;
        a->slots[n++] = slot;
    }
    ix->graph.entry = EV_NONE;
}

static int link_held(addition *a, int threads) {
    ev_index *ix = a->ix;
    int rc = make_room(a, threads);
    if (rc == EV_OK) rc = fit_scratches(a);
    if (rc == EV_OK) rc = ev__chain_open(&ix->graph.store);
    if (rc == EV_OK) rc = ev__twins_reserve(&ix->graph.store, 0);
    if (rc != EV_OK) return rc;
    unlink_all(a);
    encode_all_for_build(a);
    find_duplicates(a);
    link_all(a, NULL, NULL);
    hang_duplicates(a);
    ix->graph.store.version++;
    return EV_OK;
}

int ev__link_anew(ev_index *ix, int32_t walk, int threads) {
    int32_t before = ix->graph.store.quantizer.walk;
    int rc = ev__bury(&ix->graph, threads);
    if (rc != EV_OK) return rc;
    addition a = {.ix = ix, .n = ix->graph.store.live};
    ev__twins_free(&ix->graph.store); /* it goes by what is walked on */
    ix->graph.store.quantizer.walk = walk;
    rc = link_held(&a, workers_for(ix, threads, a.n));
    give_back(&a);
    if (rc == EV_OK) return ev__reconnect(&ix->graph);
    ev__twins_free(&ix->graph.store);
    ix->graph.store.quantizer.walk = before;
    return rc;
}
