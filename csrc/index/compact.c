/* ev_compact: the center of the codes learned anew where it no longer fits; then everything laid out anew, without
 * holes, in the order a breadth-first walk from the entry meets the nodes, so that what is searched together lies
 * together. Built beside the old columns and swapped in at the end; where a limit leaves no room for that, in place. */
#include "index/layout.h"

static void put(ev__layout *l, uint32_t old) {
    l->place[old] = (uint32_t)l->kept;
    l->order[l->kept++] = old;
}

/* Breadth first; `order` is its own queue. What the entry does not reach starts walks of its own. Duplicates follow
 * their nodes. */
static bool choose_order(ev__layout *l) {
    ev_index *ix = l->ix;
    memset(l->place, 0xFF, l->slots * sizeof *l->place);
    size_t head = 0;
    if (ix->graph.entry != EV_NONE) put(l, ix->graph.entry);
    for (size_t start = 0;; start++) {
        for (; head < l->kept; head++) {
            if (ev__is_to_stop_at(head)) return false;
            const uint32_t *links = ev__links0(&ix->graph.store, l->order[head]);
            for (uint32_t i = 0; i < ix->graph.store.m0 && links[i] != EV_NONE; i++)
                if (l->place[links[i]] == EV_NONE) put(l, links[i]);
        }
        while (start < l->slots &&
               (ev__state(&ix->graph.store, (uint32_t)start) != EV_NODE || l->place[start] != EV_NONE))
            start++;
        if (start == l->slots) break;
        put(l, (uint32_t)start);
    }
    for (size_t i = 0, nodes = l->kept; i < nodes; i++)
        for (uint32_t at = ev__next_duplicate(&ix->graph.store, l->order[i]); at != EV_NONE;
             at = ev__next_duplicate(&ix->graph.store, at))
            put(l, at);
    return true;
}

/* Fill the columns of `to`, whose room was reserved, in the new order. False: stopped. */
static bool move(const ev__layout *l, ev__columns *to) {
    ev_index *ix = l->ix;
    ev__column from_columns[EV_COLUMNS], to_columns[EV_COLUMNS];
    ev__list_columns(&ix->graph.store.columns, from_columns);
    ev__list_columns(to, to_columns);
    for (size_t c = 0; c < EV_COLUMNS; c++) {
        const ev__array *from = from_columns[c].array;
        ev__array *into = to_columns[c].array;
        if (from == &ix->graph.store.columns.upper || !from->count) continue;
        ev__array_resize(into, l->kept);
        for (size_t i = 0; i < l->kept; i++) {
            if (ev__is_to_stop_at(i)) return false;
            memcpy(into->at + i * from->item, from->at + l->order[i] * from->item, from->item);
        }
    }
    return ev__layout_upper(l, &to->upper) && ev__layout_numbers(l, to, true);
}

static bool fill_id_table(const ev__layout *l, const ev__columns *to, ev__table *id_table) {
    const int64_t *ids = (const int64_t *)(const void *)to->ids.at;
    for (size_t slot = 0; slot < l->kept; slot++) {
        if (ev__is_to_stop_at(slot)) return false;
        ev__id_table_put(id_table, ids, ids[slot], (uint32_t)slot);
    }
    return true;
}

static int reserve(const ev__layout *l, ev__columns *to) {
    ev_index *ix = l->ix;
    ev__column from[EV_COLUMNS], into[EV_COLUMNS];
    ev__list_columns(&ix->graph.store.columns, from);
    ev__list_columns(to, into);
    size_t upper = ev__layout_upper_count(l);
    int rc = EV_OK;
    for (size_t c = 0; c < EV_COLUMNS && rc == EV_OK; c++) {
        into[c].array->item = from[c].array->item;
        size_t room = from[c].array == &ix->graph.store.columns.upper ? upper : l->kept;
        if (from[c].array->count && room) rc = ev__array_reserve(into[c].array, room);
    }
    return rc;
}

/* What nobody looks at yet. */
static int build(ev__layout *l, ev__columns *fresh, ev__table *id_table, uint32_t **free_slots) {
    const ev_index *ix = l->ix;
    int rc = choose_order(l) ? reserve(l, fresh) : EV_E_STOPPED;
    if (rc == EV_OK) rc = ev__id_table_reserve(id_table, NULL, (size_t)ix->graph.store.live);
    if (rc == EV_OK && !(*free_slots = ev__alloc((l->kept + 1) * sizeof **free_slots, EV_LINE))) rc = EV_E_NOMEM;
    if (rc == EV_OK && (!move(l, fresh) || !fill_id_table(l, fresh, id_table) ||
                        !ev__report_progress(ix->graph.store.live, ix->graph.store.live)))
        rc = EV_E_STOPPED;
    return rc;
}

static int relocate(ev__layout *l, ev__call *call) {
    ev_index *ix = l->ix;
    ev__columns fresh;
    memset(&fresh, 0, sizeof fresh);
    ev__table id_table = {0};
    uint32_t *free_slots = NULL;
    ev__pause(call);
    int rc = build(l, &fresh, &id_table, &free_slots);
    ev__resume(call);
    if (rc != EV_OK) {
        ev__columns_free(&fresh);
        ev__id_table_free(&id_table);
        ev__release(free_slots, (l->kept + 1) * sizeof *free_slots, EV_LINE);
        if (rc == EV_E_NOMEM && ev__last_refusal()->asked) return ev__layout_in_place(l);
        return rc == EV_E_STOPPED ? ev__stopped() : ev__fail(rc, "a second copy of %zu slots", l->kept);
    }
    if (ix->graph.entry != EV_NONE) ix->graph.entry = l->place[ix->graph.entry];
    ev__columns_free(&ix->graph.store.columns);
    ix->graph.store.columns = fresh;
    ev__id_table_free(&ix->graph.store.id_table);
    ix->graph.store.id_table = id_table;
    ev__release(ix->graph.store.free_slots, ix->graph.store.free_room * sizeof *free_slots, EV_LINE);
    ix->graph.store.free_slots = free_slots;
    ix->graph.store.free_room = l->kept + 1;
    ix->graph.store.free_count = 0;
    ev__duplicates_free(&ix->graph.store);
    ev__nibbles_free(&ix->graph.store.nibbles);
    ix->graph.store.version++;
    return EV_OK;
}

static int learn_anew(ev_index *ix, ev__old_codes *old, ev__call *call) {
    ev__scratch *s;
    int rc = ev__scratch_borrow(&ix->graph, &s);
    if (rc != EV_OK) return rc;
    rc = ev__train_again(ix, s, old, call);
    ev__scratch_return(&ix->graph, s);
    return rc == EV_E_MEMORY_LIMIT ? EV_OK : rc; /* it is a service, like mending; all is as it was */
}

static int compact(ev_index *ix, ev__call *call) {
    ev__store *store = &ix->graph.store;
    const ev__gate gate = ev__gate_of(call);
    ev__old_codes old = {0};
    int rc = ev__consolidate_deletes(&ix->graph, 0, &gate);
    if (rc != EV_OK) return rc; /* what follows knows no dead nodes */
    rc = learn_anew(ix, &old, call);
    if (rc == EV_OK) rc = ev__mend(&ix->graph, &gate);
    if (rc == EV_E_MEMORY_LIMIT) rc = EV_OK;
    if (rc == EV_OK) rc = ev__call_trouble(call);
    if (rc == EV_OK && !ev__report_progress(store->live / 2, store->live)) rc = ev__stopped();
    if (rc == EV_OK) {
        ev__layout l = {.ix = ix, .slots = ev__slots(store)};
        size_t bytes = (l.slots + 1) * sizeof *l.order;
        if (!ev__may_charge(2 * ev__block_bytes(bytes))) ev__layout_spare(ix);
        l.order = ev__alloc(bytes, EV_LINE);
        l.place = ev__alloc(bytes, EV_LINE);
        rc = l.order && l.place ? relocate(&l, call) : ev__fail(EV_E_NOMEM, "an order of %zu slots", l.slots);
        ev__release(l.order, bytes, EV_LINE);
        ev__release(l.place, bytes, EV_LINE);
    }
    if (rc != EV_OK) ev__old_codes_put_back(&old, ix);
    ev__old_codes_free(&old);
    ev__scratch_drop_all(&ix->graph); /* they hold a mark per old slot */
    return rc;
}

int ev_compact(ev_index *ix, ev_progress progress, void *user) {
    ev__call call;
    int rc = ev__complete(ix, EV_LACKS_NOTHING);
    if (rc == EV_OK) rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    ev__watch watch;
    ev__watch_begin(&watch, progress, user, ix->graph.store.live);
    rc = ev__staged(ix) ? ev__fail(EV_E_BUSY, "%lld rows are staged", (long long)ev__staged(ix)) : compact(ix, &call);
    ev__watch_end(&watch);
    ev__leave(&call);
    return rc == EV_OK ? ev__ok() : rc;
}
