/* The list of staged rows, and their states: hidden, shown, or lent to a pass that links all anew. */
#include "index/stage.h"

int64_t ev__staged(const ev_index *ix) { return ix->stage ? ix->stage->count : 0; }
uint32_t ev__staged_slot(const ev_index *ix, int64_t i) { return ix->stage->slots[i]; }

/* ---- rows that are hidden, or shown ---------------------------------------------------------- */

static void set_state(ev__store *store, uint32_t slot, unsigned state) {
    ev__states(store)[slot] = (uint8_t)((ev__states(store)[slot] & ~EV_STATE) | state);
}

static void hide(ev__store *store, uint32_t slot) {
    unsigned state = ev__state(store, slot);
    set_state(store, slot, state == EV_DUPLICATE || state == EV_DEAD_DUPLICATE ? EV_DEAD_DUPLICATE : EV_DEAD_NODE);
}

static void show(ev__store *store, uint32_t slot) {
    set_state(store, slot, ev__state(store, slot) == EV_DEAD_DUPLICATE ? EV_DUPLICATE : EV_NODE);
}

void ev__rows_hide(ev_index *ix, const uint32_t *slots, int64_t n) {
    for (int64_t i = 0; i < n; i++) hide(&ix->graph.store, slots[i]);
    ix->graph.store.dead += n;
}

void ev__rows_show(ev_index *ix, const uint32_t *slots, int64_t n) {
    ev__store *store = &ix->graph.store;
    const int64_t *ids = ev__ids_of(store);
    for (int64_t i = 0; i < n; i++) show(store, slots[i]);
    for (int64_t i = 0; i < n; i++) {
        int64_t id = ids[slots[i]];
        uint32_t old = ev__id_table_get(&store->id_table, ids, id);
        if (old != EV_NONE) ev__slot_drop(store, old);
        ev__id_table_put(&store->id_table, ids, id, slots[i]);
        if (id >= ix->next_id) ix->next_id = id < INT64_MAX ? id + 1 : id;
    }
    store->live += n;
    store->dead -= n;
    store->version++;
    ix->graph.unrepaired += n;
    ix->changes += n;
}

void ev__stage_set_visible(ev_index *ix, bool alive) {
    ev__store *store = &ix->graph.store;
    for (int64_t i = 0; i < ev__staged(ix); i++) (alive ? show : hide)(store, ix->stage->slots[i]);
    store->live += alive ? ev__staged(ix) : -ev__staged(ix);
    store->dead -= alive ? ev__staged(ix) : -ev__staged(ix);
}

/* ---- the list -------------------------------------------------------------------------------- */

size_t ev__stage_bytes(const ev_index *ix) {
    return ix->stage ? sizeof *ix->stage + (size_t)ix->stage->room * sizeof *ix->stage->slots : 0;
}

void ev__stage_clear(struct ev__stage *stage) {
    ev__release(stage->slots, (size_t)stage->room * sizeof *stage->slots, EV_LINE);
    stage->slots = NULL;
    stage->count = stage->room = 0;
}

void ev__stage_free(ev_index *ix) {
    if (!ix->stage) return;
    ev__stage_clear(ix->stage);
    ev__release(ix->stage, sizeof *ix->stage, EV_LINE);
    ix->stage = NULL;
}

static int reserve_list(struct ev__stage *stage, int64_t n) {
    if (stage->count + n <= stage->room) return EV_OK;
    int64_t room = stage->count + n > 2 * stage->room ? stage->count + n : 2 * stage->room;
    uint32_t *slots = ev__alloc((size_t)room * sizeof *slots, EV_LINE);
    if (!slots) return EV_E_NOMEM;
    if (stage->count) memcpy(slots, stage->slots, (size_t)stage->count * sizeof *slots);
    ev__release(stage->slots, (size_t)stage->room * sizeof *slots, EV_LINE);
    stage->slots = slots;
    stage->room = room;
    return EV_OK;
}

int ev__stage_reserve(ev_index *ix, int64_t n, bool listed) {
    ev__store *store = &ix->graph.store;
    int rc = EV_OK;
    if (listed && !ix->stage && !(ix->stage = ev__alloc_zero(sizeof *ix->stage, EV_LINE))) rc = EV_E_NOMEM;
    if (rc == EV_OK && listed) rc = reserve_list(ix->stage, n);
    if (rc == EV_OK && ev__staged(ix))
        rc = ev__id_table_reserve(&store->id_table, ev__ids_of(store),
                                  store->id_table.used + (size_t)(ev__staged(ix) + n));
    return rc == EV_OK ? EV_OK
                       : ev__fail(rc, "%lld rows beside %lld staged ones", (long long)n, (long long)ev__staged(ix));
}
