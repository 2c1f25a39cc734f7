/* An index's life, and the small questions it answers. */
#include "base/file_system.h"
#include "index/index.h"

int ev__params_check(const ev_params *p) {
    if (p->dim < 1 || p->dim > EV_MAX_DIM) return ev__fail(EV_E_PARAM, "dim %d is not in 1..%d", p->dim, EV_MAX_DIM);
    if (!ev__metric_of(p->metric)) return ev__fail(EV_E_PARAM, "metric %d", p->metric);
    if (!ev__is_quantization(p->quantization)) return ev__fail(EV_E_PARAM, "quantization %d", p->quantization);
    if (p->M < 2 || p->M > EV_MAX_M) return ev__fail(EV_E_PARAM, "M %d is not in 2..%d", p->M, EV_MAX_M);
    if (p->ef_construction < 1 || p->ef_construction > 65535)
        return ev__fail(EV_E_PARAM, "ef_construction %d is not in 1..65535", p->ef_construction);
    if (p->ef < 1 || p->ef > 1000000) return ev__fail(EV_E_PARAM, "ef %d is not in 1..1000000", p->ef);
    if (p->keep_vectors < EV_VECTORS_NONE || p->keep_vectors > EV_VECTORS_SQ24)
        return ev__fail(EV_E_PARAM, "keep_vectors %d", p->keep_vectors);
    if (p->storage != EV_STORAGE_MEMORY && p->storage != EV_STORAGE_DISK)
        return ev__fail(EV_E_PARAM, "storage %d", p->storage);
    if (p->storage == EV_STORAGE_DISK && p->quantization == EV_QUANT_NONE)
        return ev__fail(EV_E_PARAM, "storage \"disk\" needs codes to search by, and quantization \"none\" has none");
    if (p->storage == EV_STORAGE_DISK && p->keep_vectors == EV_VECTORS_NONE)
        return ev__fail(EV_E_PARAM, "storage \"disk\" is for vectors beside codes, and none are kept");
    return EV_OK;
}

uint64_t ev__new_serial(void) {
    static uint64_t serials;
    return (uint64_t)ev__add64((int64_t *)&serials, 1) + 1;
}

int ev__index_make(const ev_params *params, ev_index **out) {
    const ev__kernels *kernels = ev__simd();
    if (!kernels)
        return ev__fail(EV_E_SIMD, "EDGEVEC_SIMD=%s, but this machine and build offer: %s", ev_simd_forced(),
                        ev_simd_available());
    ev__account *account = ev__account_new(), *was = ev__charge_to(account);
    ev_index *ix = account ? ev__alloc_zero(sizeof *ix, EV_LINE) : NULL;
    if (!ix) {
        ev__charge_to(was);
        ev__account_drop(account);
        return ev__fail(EV_E_NOMEM, "a new index");
    }
    ix->account = account;
    ev__quantizer *q = &ix->graph.store.quantizer;
    *q = (ev__quantizer){.metric = ev__metric_of(params->metric),
                         .quantization = params->quantization,
                         .keep_vectors = params->keep_vectors,
                         .kernels = ev__kernels_complete(kernels),
                         .dim = (size_t)params->dim};
    ev__quantizer_lay_out(q);
    ev__store_lay_out(&ix->graph.store, (uint32_t)params->M, params->seed);
    int rc = params->storage == EV_STORAGE_DISK ? ev__paged_begin(&ix->graph.store) : EV_OK;
    ix->params = *params;
    ix->params.keep_vectors = q->keep_vectors;
    ix->serial = ev__new_serial();
    ev__rwlock_init(&ix->changing);
    ev__rwlock_init(&ix->lock);
    ev__graph_init(&ix->graph, params->ef_construction);
    if (rc == EV_OK) rc = ev__quantizer_init(q, params->seed);
    ev__charge_to(was);
    if (rc != EV_OK) {
        ev_free(ix);
        return ev__fail(rc, "a new index");
    }
    *out = ix;
    return EV_OK;
}

/* All but the structure itself. */
static void give_back_all(ev_index *ix) {
    if (ix->closed) return;
    ev__stage_free(ix);
    ev__mending_drop(&ix->graph);
    ev__consolidation_drop(&ix->graph);
    ev__graph_free(&ix->graph);
    if (ix->map) ev__unmap(ix->map, ix->map_bytes);
    ix->closed = true;
}

int ev_close(ev_index *ix) {
    ev__call call;
    int rc = ev__enter_to_close(ix, &call);
    if (rc != EV_OK) return rc;
    give_back_all(ix);
    ev__leave(&call);
    return ev__ok();
}

void ev_free(ev_index *ix) {
    if (!ix) return;
    ev__account *account = ix->account, *was = ev__charge_to(account);
    give_back_all(ix);
    ev__rwlock_free(&ix->lock);
    ev__rwlock_free(&ix->changing);
    ev__release(ix, sizeof *ix, EV_LINE);
    ev__charge_to(was);
    ev__account_drop(account);
}

int ev_new(const ev_params *params, ev_index **out) {
    int rc = ev__params_check(params);
    if (rc == EV_OK) rc = ev__index_make(params, out);
    return rc == EV_OK ? ev__ok() : rc;
}

/* ---- questions ------------------------------------------------------------------------------- */

void ev_get_params(ev_index *ix, ev_params *out) {
    ev__call call;
    *out = (ev_params){0};
    if (!ev__enter_to_look(ix, &call)) return;
    *out = ix->params;
    ev__leave(&call);
}

int ev_set_ef(ev_index *ix, int32_t ef) {
    ev__call call;
    int rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    ev_params p = ix->params;
    p.ef = ef;
    rc = ev__params_check(&p);
    if (rc == EV_OK) ix->params.ef = ef;
    ev__leave(&call);
    return rc == EV_OK ? ev__ok() : rc;
}

int ev__limit_check(int64_t memory_limit) {
    return memory_limit < 0 ? ev__fail(EV_E_PARAM, "a memory limit of %lld bytes", (long long)memory_limit) : EV_OK;
}

size_t ev__search_bytes(const ev_index *ix, size_t slots) {
    const ev__graph *g = &ix->graph;
    int32_t ef = ix->params.ef > g->ef_construction ? ix->params.ef : g->ef_construction;
    return ev__scratch_need(g, slots, slots + slots / EV_GROWTH, (size_t)ef);
}

int ev_set_memory_limit(ev_index *ix, int64_t bytes) {
    ev__call call;
    int rc = ev__limit_check(bytes);
    if (rc != EV_OK) return rc;
    if (!ev__enter_to_look(ix, &call)) return ev__refuse_call(ix);
    ev_memory now;
    ev__account_read(ix->account, &now);
    ev__account_set_limit(ix->account, bytes, now.held + (int64_t)ev__search_bytes(ix, ev__slots(&ix->graph.store)));
    ev__leave(&call);
    return ev__ok();
}

int ev_set_disk_path(ev_index *ix, const char *path) {
    ev__call call;
    int rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    rc = ix->graph.store.paged ? ev__paged_known_as(&ix->graph.store, path)
                               : ev__fail(EV_E_PARAM, "a path for vectors on disk, of an index that has none there");
    ev__leave(&call);
    return rc == EV_OK ? ev__ok() : rc;
}

/* The first of these at once. */
static void fetch(const ev__store *store, int64_t n, const int64_t *ids, ev__workspace *w) {
    uint32_t slots[64];
    size_t room = ev__paged_room(store), m = 0;
    for (; m < room && (int64_t)m < n; m++) slots[m] = ev__id_table_get(&store->id_table, ev__ids_of(store), ids[m]);
    ev__paged_fetch(store, slots, m, w);
}

static int get(ev_index *ix, int64_t n, const int64_t *ids, float *out) {
    ev__store *store = &ix->graph.store;
    ev__quantizer *q = &store->quantizer;
    ev__scratch *s = NULL;
    int rc = EV_OK;
    for (int64_t i = 0; i < n && rc == EV_OK; i++)
        if (ev__is_to_stop_at((size_t)i))
            rc = ev__stopped();
        else if (ev__id_table_get(&store->id_table, ev__ids_of(store), ids[i]) == EV_NONE)
            rc = ev__fail_row(EV_E_NO_ID, i, "id %lld", (long long)ids[i]);
    if (rc == EV_OK && (q->rotation.bits || store->paged))
        rc = ev__scratch_borrow(&ix->graph, &s); /* turning codes back needs room, and reading does */
    for (int64_t i = 0; i < n && rc == EV_OK; i++) {
        if (ev__is_to_stop_at((size_t)i)) rc = ev__stopped();
        if (store->paged && i % (int64_t)ev__paged_room(store) == 0) fetch(store, n - i, ids + i, &s->work);
        uint32_t slot = ev__id_table_get(&store->id_table, ev__ids_of(store), ids[i]);
        float *row = out + (size_t)i * q->dim;
        const float *vector = ev__vector_read(store, slot, row, s ? &s->work : NULL);
        if (vector != row) memcpy(row, vector, q->dim * sizeof *row);
    }
    if (s) ev__scratch_return(&ix->graph, s);
    return rc;
}

int ev_get(ev_index *ix, int64_t n, const int64_t *ids, float *out) {
    ev__call call;
    int rc = ev__complete(ix, EV_LACKS_LITTLE);
    if (rc == EV_OK) rc = ev__enter(ix, EV_READ, &call);
    if (rc != EV_OK) return rc;
    ev__watch watch;
    ev__watch_begin(&watch, NULL, NULL, n);
    rc = get(ix, n, ids, out);
    if (rc == EV_OK) rc = ev__call_trouble(&call);
    ev__watch_end(&watch);
    ev__leave(&call);
    return rc == EV_OK ? ev__ok() : rc;
}

int64_t ev_count(ev_index *ix) {
    ev__call call;
    if (!ev__enter_to_look(ix, &call)) return 0;
    int64_t live = ix->graph.store.live;
    ev__leave(&call);
    return live;
}

int ev_contains(ev_index *ix, int64_t id) {
    ev__call call;
    if (ev__complete(ix, EV_LACKS_LITTLE) != EV_OK || !ev__enter_to_look(ix, &call)) return 0;
    bool held = ev__id_table_get(&ix->graph.store.id_table, ev__ids_of(&ix->graph.store), id) != EV_NONE;
    ev__leave(&call);
    return held;
}

int ev_ids(ev_index *ix, int64_t *cursor, int64_t n, int64_t *ids, int64_t *written) {
    ev__store *store = &ix->graph.store;
    if (*cursor < 0) return ev__fail(EV_E_PARAM, "cursor %lld", (long long)*cursor);
    *written = 0;
    ev__call call;
    int rc = ev__enter(ix, EV_READ, &call);
    if (rc != EV_OK) return rc;
    int64_t at = *cursor, slots = (int64_t)ev__slots(store);
    for (; at < slots && *written < n; at++)
        if (ev__alive(store, (uint32_t)at)) ids[(*written)++] = ev__ids_of(store)[at];
    ev__leave(&call);
    *cursor = at;
    return ev__ok();
}

void ev_memory_usage(ev_index *ix, ev_memory *out) {
    *out = (ev_memory){0};
    ev__call call;
    if (!ev__enter_to_look(ix, &call)) return;
    ev__account_read(ix->account, out);
    ev__store *store = &ix->graph.store;
    ev__columns *columns = &store->columns;
    int64_t blocks = (int64_t)ev__array_bytes(&columns->blocks);
    int64_t links = (int64_t)(columns->blocks.room * (store->block_bytes - store->quantizer.code_bytes));
    out->links = links;
    out->codes = (int64_t)(ev__array_bytes(&columns->factors) + ev__array_bytes(&columns->prefilter) +
                           ev__nibbles_bytes(&store->nibbles));
    *(store->quantizer.quantization == EV_QUANT_NONE ? &out->vectors : &out->codes) += blocks - links;
    out->vectors += (int64_t)ev__array_bytes(&columns->vectors);
    out->upper_links = (int64_t)(ev__array_bytes(&columns->upper) + ev__array_bytes(&columns->upper_at) +
                                 ev__array_bytes(&columns->level));
    out->ids = (int64_t)(ev__array_bytes(&columns->ids) + ev__table_bytes(&store->id_table) +
                         ev__table_bytes(&store->duplicates));
    out->other = (int64_t)(sizeof *ix + ev__array_bytes(&columns->state) + ev__array_bytes(&columns->next_duplicate) +
                           ev__quantizer_bytes(&store->quantizer) + store->free_room * sizeof(uint32_t) +
                           ev__scratch_spare_bytes(&ix->graph) + ev__mending_bytes(&ix->graph) +
                           ev__consolidation_bytes(&ix->graph) + ev__shadow_bytes(store) + ev__stage_bytes(ix) +
                           ev__paged_held(store));
    out->on_disk = ev__paged_bytes(store);
    out->total = out->vectors + out->codes + out->links + out->upper_links + out->ids + out->other;
    ev__column list[EV_COLUMNS];
    ev__list_columns(columns, list);
    for (size_t i = 0; i < EV_COLUMNS; i++)
        if (list[i].array->mapped) out->mapped += (int64_t)ev__array_bytes(list[i].array);
    ev__leave(&call);
}

void ev_get_stats(ev_index *ix, ev_stats *out) {
    ev__store *store = &ix->graph.store;
    ev__quantizer *q = &store->quantizer;
    *out = (ev_stats){0};
    ev__call call;
    if (!ev__enter_to_look(ix, &call)) return;
    uint32_t entry = ev__load32_acquire(&ix->graph.entry); /* a worker may be raising it, where a callback asks */
    *out = (ev_stats){.slots = (int64_t)ev__slots(store),
                      .live = store->live,
                      .dead = store->dead,
                      .bits = (int64_t)q->rotation.bits,
                      .max_level = entry == EV_NONE ? -1 : ev__levels(store)[entry],
                      .trainings = ix->trainings,
                      .built_distances = ix->graph.built_distances,
                      .changes = ix->changes,
                      .walk = q->walk,
                      .looked = ix->looked,
                      .reads = ev__paged_reads(store)};
    ev__leave(&call);
}
