/* An index's life, and the small questions it answers. */
#include "base/file_system.h"
#include "internal.h"

int ev_new(const ev_params *params, ev_index **out) {
    int rc = ev__params_check(params);
    if (rc == EV_OK) rc = ev__index_make(params, out);
    return rc == EV_OK ? ev__ok() : rc;
}

void ev_free(ev_index *ix) {
    if (!ix) return;
    ev__store_free(&ix->store);
    ev__scratch_close(ix);
    ev__idmap_free(&ix->idmap);
    ev__twins_free(ix);
    ev__rotation_free(&ix->rotation);
    ev__release(ix->centre, ix->dim * sizeof(float), EV_LINE);
    ev__release(ix->flips, 2 * ix->bits * sizeof *ix->flips, EV_LINE);
    ev__release(ix->free_slots, ix->free_room * sizeof(uint32_t), EV_LINE);
    if (ix->map) ev__unmap(ix->map, ix->map_bytes);
    ev__rwlock_free(&ix->lock);
    ev__mutex_free(&ix->scratch_lock);
    ev__release(ix, sizeof *ix, EV_LINE);
}

/* ---- calls under way ------------------------------------------------------------------------- */

static EV_THREAD_LOCAL ev__call *innermost;

static bool is_under_way(const ev_index *ix) {
    const ev__call *call = innermost;
    while (call && call->ix != ix) call = call->outer;
    return call != NULL;
}

static void begin(ev_index *ix, ev__lock_kind kind, ev__call *call) {
    if (kind == EV_WRITE) ev__write_lock(&ix->lock);
    if (kind == EV_READ) ev__read_lock(&ix->lock);
    *call = (ev__call){ix, kind, innermost};
    innermost = call;
}

int ev__enter(ev_index *ix, ev__lock_kind kind, ev__call *call) {
    if (EV_UNLIKELY(is_under_way(ix))) {
        ev__fail(EV_E_REENTRANT, "a callback can only ask for the index's size, parameters and statistics");
        return EV_E_REENTRANT;
    }
    begin(ix, kind, call);
    return EV_OK;
}

void ev__enter_to_look(ev_index *ix, ev__call *call) { begin(ix, is_under_way(ix) ? EV_NO_LOCK : EV_READ, call); }

void ev__leave(ev__call *call) {
    innermost = call->outer;
    if (call->held == EV_WRITE) ev__write_unlock(&call->ix->lock);
    if (call->held == EV_READ) ev__read_unlock(&call->ix->lock);
}

/* ---- questions ------------------------------------------------------------------------------- */

void ev_get_params(ev_index *ix, ev_params *out) {
    ev__call call;
    ev__enter_to_look(ix, &call);
    *out = ix->p;
    ev__leave(&call);
}

int ev_set_ef(ev_index *ix, int32_t ef) {
    ev__call call;
    int rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    ev_params p = ix->p;
    p.ef = ef;
    rc = ev__params_check(&p);
    if (rc == EV_OK) ix->p.ef = ef;
    ev__leave(&call);
    return rc == EV_OK ? ev__ok() : rc;
}

static int get(ev_index *ix, int64_t n, const int64_t *ids, float *out) {
    ev__scratch *s = NULL;
    int rc = EV_OK;
    for (int64_t i = 0; i < n && rc == EV_OK; i++)
        if (ev__idmap_get(&ix->idmap, ev__ids_of(ix), ids[i]) == EV_NONE)
            rc = ev__fail_row(EV_E_NO_ID, i, "id %lld", (long long)ids[i]);
    if (rc == EV_OK && ev__by_bits(ix)) rc = ev__scratch_borrow(ix, &s); /* turning codes back needs room */
    for (int64_t i = 0; i < n && rc == EV_OK; i++) {
        uint32_t slot = ev__idmap_get(&ix->idmap, ev__ids_of(ix), ids[i]);
        float *row = out + (size_t)i * ix->dim;
        const float *vector = ev__vector_read(ix, slot, row, s);
        if (vector != row) memcpy(row, vector, ix->dim * sizeof *row);
    }
    if (s) ev__scratch_return(ix, s);
    return rc;
}

int ev_get(ev_index *ix, int64_t n, const int64_t *ids, float *out) {
    ev__call call;
    int rc = ev__enter(ix, EV_READ, &call);
    if (rc != EV_OK) return rc;
    rc = get(ix, n, ids, out);
    ev__leave(&call);
    return rc == EV_OK ? ev__ok() : rc;
}

int64_t ev_count(ev_index *ix) {
    ev__call call;
    ev__enter_to_look(ix, &call);
    int64_t live = ix->live;
    ev__leave(&call);
    return live;
}

int ev_contains(ev_index *ix, int64_t id) {
    ev__call call;
    ev__enter_to_look(ix, &call);
    bool held = ev__idmap_get(&ix->idmap, ev__ids_of(ix), id) != EV_NONE;
    ev__leave(&call);
    return held;
}

int ev_ids(ev_index *ix, int64_t *cursor, int64_t n, int64_t *ids, int64_t *written) {
    if (*cursor < 0) return ev__fail(EV_E_PARAM, "cursor %lld", (long long)*cursor);
    *written = 0;
    ev__call call;
    int rc = ev__enter(ix, EV_READ, &call);
    if (rc != EV_OK) return rc;
    int64_t at = *cursor, slots = (int64_t)ev__slots(ix);
    for (; at < slots && *written < n; at++)
        if (ev__alive(ix, (uint32_t)at)) ids[(*written)++] = ev__ids_of(ix)[at];
    ev__leave(&call);
    *cursor = at;
    return ev__ok();
}

void ev_memory_usage(ev_index *ix, ev_memory *out) {
    *out = (ev_memory){0};
    ev__call call;
    ev__enter_to_look(ix, &call);
    const ev__store *store = &ix->store;
    int64_t blocks = (int64_t)ev__array_bytes(&store->blocks);
    int64_t links = (int64_t)(store->blocks.room * (ix->block_bytes - ix->code_bytes));
    out->links = links;
    out->codes = (int64_t)(ev__array_bytes(&store->factors) + ev__array_bytes(&store->sift));
    *(ix->p.quantization == EV_QUANT_NONE ? &out->vectors : &out->codes) += blocks - links;
    out->vectors += (int64_t)ev__array_bytes(&store->vectors);
    out->upper_links =
        (int64_t)(ev__array_bytes(&store->upper) + ev__array_bytes(&store->upper_at) + ev__array_bytes(&store->level));
    out->ids = (int64_t)(ev__array_bytes(&store->ids) + (ix->idmap.room + ix->twins.room) * sizeof(uint32_t));
    out->other = (int64_t)(sizeof *ix + ev__array_bytes(&store->state) + ev__array_bytes(&store->chain) +
                           ev__rotation_bytes(&ix->rotation) + (ix->flips ? 2 * ix->bits * sizeof *ix->flips : 0) +
                           ix->free_room * sizeof(uint32_t) + (ix->centre ? ix->dim * sizeof(float) : 0));
    ev__lock(&ix->scratch_lock);
    for (const ev__scratch *s = ix->scratches; s; s = s->next) out->other += (int64_t)ev__scratch_bytes(s);
    ev__unlock(&ix->scratch_lock);
    out->total = out->vectors + out->codes + out->links + out->upper_links + out->ids + out->other;
    ev__column columns[EV_COLUMNS];
    ev__columns(&ix->store, columns);
    for (size_t i = 0; i < EV_COLUMNS; i++)
        if (columns[i].array->mapped) out->mapped += (int64_t)ev__array_bytes(columns[i].array);
    ev__leave(&call);
}

void ev_get_stats(ev_index *ix, ev_stats *out) {
    ev__call call;
    ev__enter_to_look(ix, &call);
    uint32_t entry = ev__load32_acquire(&ix->entry); /* a worker may be raising it, where a callback asks */
    *out = (ev_stats){.slots = (int64_t)ev__slots(ix),
                      .live = ix->live,
                      .dead = ix->dead,
                      .bits = ev__by_bits(ix) ? (int64_t)ix->bits : 0,
                      .max_level = entry == EV_NONE ? -1 : ev__levels(ix)[entry],
                      .codes_trained = ix->trainings,
                      .built_distances = ix->built_distances,
                      .changes = ix->changes,
                      .walk = ix->walk,
                      .looked = ix->looked};
    ev__leave(&call);
}
