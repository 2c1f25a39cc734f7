/* ev_add: check, make room, learn, write, encode, link, and only then change which id is where. Up to that last step
 * the index answers as before, so an error or a stop just forgets the new slots; and searches go on beside it. New rows
 * are written and encoded where nobody looks, and linked as nodes that lead on and are no results, in steps of about
 * two milliseconds when searches wait. */
#include "index/build.h"
#include "index/stage.h"

enum {
    AT_ONCE = 8,   /* rows that are added without a pause */
    MANY = 1 << 15 /* slots */
};

/* ---- checks: before anything changes --------------------------------------------------------- */

static int check_ids(const ev_index *ix, int64_t n, const int64_t *ids) {
    if (!ids)
        return ix->next_id > INT64_MAX - n ? ev__fail(EV_E_FULL, "no ids are left after %lld", (long long)ix->next_id)
                                           : EV_OK;
    if ((uint64_t)n >= EV_NONE) return ev__fail(EV_E_FULL, "%lld rows in one call", (long long)n);
    ev__table seen = {0};
    int rc = ev__id_table_reserve(&seen, ids, (size_t)n);
    if (rc != EV_OK) rc = ev__fail(rc, "checking %lld ids", (long long)n);
    for (int64_t i = 0; rc == EV_OK && i < n; i++) {
        if (ev__is_to_stop_at((size_t)i))
            rc = ev__stopped();
        else if (ev__id_table_get(&seen, ids, ids[i]) != EV_NONE)
            rc = ev__fail_row(EV_E_DUPLICATE, i, "id %lld at row %lld", (long long)ids[i], (long long)i);
        else
            ev__id_table_put(&seen, ids, ids[i], (uint32_t)i);
    }
    ev__id_table_free(&seen);
    return rc;
}

/* ---- writing and encoding -------------------------------------------------------------------- */

static void write_vector(ev__build *a, int64_t i, ev__scratch *s) {
    ev__store *store = &a->ix->graph.store;
    const float *row = a->vectors + (size_t)i * store->quantizer.dim;
    const float *unit = ev__unit(&store->quantizer, row, s->work.unit);
    ev__vector_write(store, a->slots[i], unit, &s->work);
    ev__shadow_write(store, a->slots[i], unit, &s->work);
}

static void write_row(ev__build *a, int64_t i, ev__scratch *s) {
    write_vector(a, i, s);
    ev__ids_of(&a->ix->graph.store)[a->slots[i]] = a->ids ? a->ids[i] : a->ix->next_id + i;
}

static void write_rows(void *arg, int worker) {
    ev__build *a = arg;
    for (int64_t from, to; ev__work_next(&a->work, worker, &from, &to);)
        for (int64_t i = from; i < to; i++) write_row(a, i, a->scratches[worker]);
}

static int take_slots(ev__build *a) {
    a->step_began = ev__now();
    a->ix->graph.store.version++; /* filters have bits for the slots that there was room for */
    while (a->taken < a->n) {
        a->slots[a->taken++] = ev__slot_take(&a->ix->graph.store);
        if (a->taken % 256 == 0) ev__build_yield(a);
        if (ev__is_to_stop_at((size_t)a->taken)) return ev__stopped();
    }
    return EV_OK;
}

static int write(ev__build *a) {
    a->work = (ev__work){.total = a->n, .run = 256};
    ev__parallel(a->workers, write_rows, a);
    return a->work.stopped ? ev__stopped() : EV_OK;
}

/* What nobody looks at yet. */
static int prepare(ev__build *a) {
    int64_t duplicates = 0;
    int rc = write(a);
    if (rc == EV_OK) rc = ev__build_encode(a);
    if (rc == EV_OK) rc = ev__build_find_duplicates(a, &duplicates);
    if (rc == EV_OK) rc = ev__build_fit(a);
    if (a->in_steps) ev__resume(a->call);
    return rc == EV_OK && duplicates ? ev__duplicates_open(&a->ix->graph.store) : rc;
}

/* ---- the end, either way --------------------------------------------------------------------- */

/* What was linked is there, and hidden. */
static void attach_hidden(ev__build *a) {
    ev__build_attach_duplicates(a);
    ev__rows_hide(a->ix, a->slots, a->n);
    a->ix->graph.store.linked_ahead = 0;
    a->ix->graph.store.version++;
}

static void commit(ev__build *a, int64_t *out_ids) {
    ev__rows_show(a->ix, a->slots, a->n);
    const int64_t *held = ev__ids_of(&a->ix->graph.store);
    for (int64_t i = 0; out_ids && i < a->n; i++) out_ids[i] = held[a->slots[i]];
}

static void stage(ev__build *a) {
    struct ev__stage *stage = a->ix->stage;
    memcpy(stage->slots + stage->count, a->slots, (size_t)a->n * sizeof *a->slots);
    stage->count += a->n;
}

static void blank_unlinked(void *arg, int worker) {
    ev__build *a = arg;
    for (int64_t from, to; ev__work_next(&a->work, worker, &from, &to);)
        for (int64_t i = from; i < to; i++)
            if (ev__state(&a->ix->graph.store, a->slots[i]) != EV_DEAD_NODE)
                ev__slot_blank(&a->ix->graph.store, a->slots[i]);
}

void ev__rows_forget(ev_index *ix, const uint32_t *slots, int64_t n) {
    ev__store *store = &ix->graph.store;
    if (n > MANY)
        ev__duplicates_free(store); /* sooner made again than rid of these */
    else
        while (n-- > 0) ev__duplicates_remove(store, slots[n]);
}

/* The slots that were taken, as if they never had been; but linked nodes go on routing as dead ones. */
static void give_slots_back(ev__build *a) {
    ev__store *store = &a->ix->graph.store;
    ev__rows_forget(a->ix, a->slots, a->taken);
    a->work = (ev__work){.total = a->taken, .run = 256, .uninterruptible = true};
    ev__parallel(a->workers, blank_unlinked, a);
    for (int64_t i = a->taken; i-- > 0;)
        if (ev__state(store, a->slots[i]) == EV_DEAD_NODE)
            store->dead++;
        else
            ev__slot_give_back(store, a->slots[i]);
}

static void roll_back(ev__build *a) {
    ev_index *ix = a->ix;
    int64_t dead = ix->graph.store.dead;
    give_slots_back(a);
    ix->graph.store.linked_ahead = 0;
    ix->graph.store.version++;
    if (ix->graph.store.dead > dead) ev__links_lost(ix, a->call);
}

/* What was linked goes by the center that there was, like all else. */
static void put_codes_back(ev__build *a) {
    if (!a->old.slots) return;
    ev__old_codes_put_back(&a->old, a->ix);
    for (int64_t i = 0; i < a->taken; i++)
        if (ev__state(&a->ix->graph.store, a->slots[i]) == EV_DEAD_NODE) write_vector(a, i, a->scratches[0]);
}

static int add_rows(ev__build *a, int32_t threads, bool staged, int64_t *out_ids) {
    ev_index *ix = a->ix;
    const ev__gate gate = ev__gate_of(a->call);
    int rc = EV_OK;
    if (ev__consolidates_before(ix, a->n)) rc = ev__consolidate_deletes(&ix->graph, threads, &gate);
    if (rc == EV_OK) rc = ev__room_for(ix, a);
    if (rc == EV_OK) rc = ev__store_reserve(&ix->graph.store, (size_t)a->n);
    if (rc == EV_OK) rc = ev__stage_reserve(ix, a->n, staged);
    if (rc == EV_OK) rc = ev__build_room(a, threads);
    if (rc == EV_OK) rc = ev__paged_ready(&ix->graph.store);
    if (rc == EV_OK) rc = ev__train(ix, a->n, a->vectors, threads, a->scratches[0], &a->old, a->call);
    if (rc == EV_OK) rc = ev__duplicates_reserve(&ix->graph.store, (size_t)a->n);
    if (rc == EV_OK) rc = take_slots(a);
    if (rc == EV_OK) {
        if (a->in_steps) ev__pause(a->call);
        rc = prepare(a);
    }
    if (rc == EV_OK) rc = ev__call_trouble(a->call);
    if (rc == EV_OK) rc = ev__build_link(a);
    if (rc == EV_OK) rc = ev__call_trouble(a->call);
    if (rc != EV_OK) {
        if (a->taken) roll_back(a);
        put_codes_back(a);
        return rc;
    }
    ev__watch_commit();
    attach_hidden(a);
    if (staged)
        stage(a);
    else
        commit(a, out_ids);
    ev__encode_step(ix, a->n, a->scratches[0]);
    if (!staged) ev__repair_after_adding(ix, a->n, threads, a->call);
    return ev__ok();
}

static int add(ev_index *ix, int64_t n, const float *vectors, const int64_t *ids, int64_t *out_ids, int32_t threads,
               bool staged) {
    int rc = ev__check_rows(&ix->graph.store.quantizer, n, vectors);
    if (rc != EV_OK) return rc;
    ev__call call;
    rc = ev__complete(ix, EV_LACKS_NOTHING);
    if (rc == EV_OK) rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    rc = check_ids(ix, n, ids);
    if (rc == EV_OK) {
        ev__build a = {.ix = ix, .n = n, .vectors = vectors, .ids = ids, .call = &call, .in_steps = n > AT_ONCE};
        rc = add_rows(&a, ev__build_workers(ix, threads, n), staged, out_ids);
        ev__build_free(&a);
    }
    ev__leave(&call);
    return rc;
}

int ev__add(ev_index *ix, int64_t n, const float *vectors, const int64_t *ids, int64_t *out_ids, int32_t threads,
            ev_progress progress, void *user, bool staged) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld rows", (long long)n);
    if (threads < 0) return ev__fail(EV_E_PARAM, "threads %d", threads);
    if (n == 0) return ev__ok();
    ev__watch watch;
    ev__watch_begin(&watch, progress, user, n);
    int rc = add(ix, n, vectors, ids, out_ids, threads, staged);
    ev__watch_end(&watch);
    return rc;
}

int ev_add(ev_index *ix, int64_t n, const float *vectors, const int64_t *ids, int64_t *out_ids, int32_t threads,
           ev_progress progress, void *user) {
    return ev__add(ix, n, vectors, ids, out_ids, threads, progress, user, false);
}
