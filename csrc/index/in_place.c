/* Compacting without a second copy. The new order is a permutation of the slots, free ones last, and is followed cycle
 * by cycle: all that a slot has moves at once, by way of one slot's worth of memory. Then the arrays give back their
 * ends. */
#include "index/layout.h"

/* The columns that have an item for each slot. */
static size_t list_slot_columns(ev__columns *columns, ev__array *out[EV_COLUMNS]) {
    ev__column all[EV_COLUMNS];
    size_t n = 0;
    ev__list_columns(columns, all);
    for (size_t i = 0; i < EV_COLUMNS; i++)
        if (all[i].array != &columns->upper && all[i].array->count) out[n++] = all[i].array;
    return n;
}

static bool is_mapped(ev__columns *columns) {
    ev__array *list[EV_COLUMNS];
    bool mapped = columns->upper.mapped;
    for (size_t i = 0, n = list_slot_columns(columns, list); i < n; i++) mapped |= list[i]->mapped;
    return mapped;
}

/* Free slots come last. */
static void complete_order(ev__layout *l) {
    size_t next = l->kept;
    for (size_t slot = 0; slot < l->slots; slot++) {
        if (l->place[slot] != EV_NONE) continue;
        l->place[slot] = (uint32_t)next;
        l->order[next++] = (uint32_t)slot;
    }
}

typedef struct {
    ev__array *columns[EV_COLUMNS];
    size_t count, bytes; /* bytes of all columns in a slot */
    char *spare;         /* so many */
} slot_mover;

static void move_slot(const slot_mover *m, size_t from, size_t to) {
    for (size_t i = 0; i < m->count; i++) {
        ev__array *column = m->columns[i];
        memcpy(column->at + to * column->item, column->at + from * column->item, column->item);
    }
}

/* To the spare slot, or back from it. */
static void exchange_spare(const slot_mover *m, size_t slot, bool back) {
    char *spare = m->spare;
    for (size_t i = 0; i < m->count; i++) {
        size_t item = m->columns[i]->item;
        char *at = m->columns[i]->at + slot * item;
        memcpy(back ? at : spare, back ? spare : at, item);
        spare += item;
    }
}

/* It uses up the order: what is where it belongs stands at its own number. */
static void permute(ev__layout *l, const slot_mover *m) {
    for (size_t first = 0; first < l->slots; first++) {
        size_t to = first, from = l->order[first];
        if (from == first) continue;
        exchange_spare(m, first, false);
        for (; from != first; to = from, from = l->order[to]) {
            move_slot(m, from, to);
            l->order[to] = (uint32_t)to;
        }
        exchange_spare(m, to, true);
        l->order[to] = (uint32_t)to;
    }
}

/* What is smaller first, and those that need a copy for it once more, when others have given back theirs. */
static void shrink_all(slot_mover *m) {
    ev__array **list = m->columns;
    size_t n = m->count, left = n;
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && list[j]->item < list[j - 1]->item; j--) {
            ev__array *column = list[j];
            list[j] = list[j - 1];
            list[j - 1] = column;
        }
    for (size_t before = n + 1; left && left < before;) {
        before = left;
        left = 0;
        for (size_t i = 0; i < n; i++) left += !ev__array_shrink(list[i]);
    }
}

/* A table of the size that is called for, or where there is no room for that, the old one. */
static void index_ids(const ev__layout *l) {
    ev__store *store = &l->ix->graph.store;
    const int64_t *ids = ev__ids_of(store);
    ev__table fresh = {0};
    if (ev__id_table_reserve(&fresh, NULL, l->kept) == EV_OK) {
        ev__id_table_free(&store->id_table);
        store->id_table = fresh;
    } else {
        ev__table_empty_all(&store->id_table);
    }
    for (size_t slot = 0; slot < l->kept; slot++) ev__id_table_put(&store->id_table, ids, ids[slot], (uint32_t)slot);
}

static void shrink_free_list(const ev__layout *l) {
    ev__store *store = &l->ix->graph.store;
    size_t room = l->kept + 1;
    uint32_t *fresh = room < store->free_room ? ev__alloc(room * sizeof *fresh, EV_LINE) : NULL;
    if (!fresh) return;
    ev__release(store->free_slots, store->free_room * sizeof *fresh, EV_LINE);
    store->free_slots = fresh;
    store->free_room = room;
}

/* Nothing here needs memory that there may not be, and nothing stops. */
static void carry_out(ev__layout *l, slot_mover *m, ev__array *upper) {
    ev_index *ix = l->ix;
    ev__store *store = &ix->graph.store;
    permute(l, m);
    for (size_t i = 0; i < m->count; i++) m->columns[i]->count = l->kept;
    ev__layout_numbers(l, &store->columns, false);
    ev__array_free(&store->columns.upper);
    store->columns.upper = *upper;
    if (ix->graph.entry != EV_NONE) ix->graph.entry = l->place[ix->graph.entry];
    store->free_count = 0;
    shrink_all(m);
    index_ids(l);
    shrink_free_list(l);
    store->version++;
}

int ev__layout_in_place(ev__layout *l) {
    ev__store *store = &l->ix->graph.store;
    if (is_mapped(&store->columns)) return ev__fail(EV_E_MEMORY_LIMIT, "a copy of what is mapped");
    slot_mover m = {.count = list_slot_columns(&store->columns, m.columns)};
    for (size_t i = 0; i < m.count; i++) m.bytes += m.columns[i]->item;
    ev__array upper = {.item = sizeof(uint32_t)};
    size_t links = ev__layout_upper_count(l);
    ev__layout_spare(l->ix);
    int rc = links ? ev__array_reserve(&upper, links) : EV_OK;
    if (rc == EV_OK && !(m.spare = ev__alloc(m.bytes, EV_LINE))) rc = EV_E_NOMEM;
    if (rc == EV_OK && (!ev__layout_upper(l, &upper) || !ev__report_progress(store->live, store->live)))
        rc = EV_E_STOPPED;
    if (rc == EV_OK) {
        ev__watch_finish();
        complete_order(l);
        carry_out(l, &m, &upper);
    } else {
        ev__array_free(&upper);
    }
    ev__release(m.spare, m.bytes, EV_LINE);
    if (rc == EV_E_STOPPED) return ev__stopped();
    return rc == EV_OK ? EV_OK : ev__fail(rc, "the links of %zu slots", l->kept);
}
