/* The columns of the slots: making them, taking and freeing slots. */
#include "store/paged.h"

void ev__list_columns(ev__columns *c, ev__column out[EV_COLUMNS]) {
    const ev__column columns[EV_COLUMNS] = {
        {"blocks", &c->blocks},        {"factors", &c->factors},     {"vectors", &c->vectors},   {"ids", &c->ids},
        {"state", &c->state},          {"level", &c->level},         {"upper_at", &c->upper_at}, {"upper", &c->upper},
        {"chain", &c->next_duplicate}, {"prefilter", &c->prefilter},
    };
    memcpy(out, columns, sizeof columns);
}

void ev__store_lay_out(ev__store *store, uint32_t M, uint64_t seed) {
    static const size_t item_sizes[] = {
        0, sizeof(ev__factor), 0, sizeof(int64_t), 1, 1, sizeof(uint32_t), sizeof(uint32_t), sizeof(uint32_t), 0};
    const ev__quantizer *q = &store->quantizer;
    store->M = M;
    store->m0 = 2 * M;
    store->seed = seed;
    store->links_at = ev__round_up(q->code_bytes, sizeof(uint32_t));
    store->block_bytes = ev__round_up(store->links_at + store->m0 * sizeof(uint32_t), EV_LINE);
    ev__column columns[EV_COLUMNS];
    ev__list_columns(&store->columns, columns);
    for (size_t i = 0; i < EV_COLUMNS; i++) columns[i].array->item = item_sizes[i];
    store->columns.blocks.item = store->block_bytes;
    store->columns.vectors.item = q->dim * (q->codec->refined ? sizeof(int16_t) : sizeof(float));
    store->columns.prefilter.item = q->prefilter_bytes;
}

void ev__columns_free(ev__columns *list) {
    ev__column columns[EV_COLUMNS];
    ev__list_columns(list, columns);
    for (size_t i = 0; i < EV_COLUMNS; i++) ev__array_free(columns[i].array);
}

void ev__store_free(ev__store *store) {
    ev__columns_free(&store->columns);
    ev__paged_free(store);
    ev__nibbles_free(&store->nibbles);
    ev__id_table_free(&store->id_table);
    ev__duplicates_free(store);
    ev__quantizer_free(&store->quantizer);
    ev__release(store->free_slots, store->free_room * sizeof *store->free_slots, EV_LINE);
}

/* Which of the columns this kind of index fills, one item a slot. */
static size_t slot_columns(ev__store *store, ev__array *out[EV_COLUMNS]) {
    ev__quantizer *q = &store->quantizer;
    size_t n = 0;
    out[n++] = &store->columns.blocks;
    out[n++] = &store->columns.ids;
    out[n++] = &store->columns.state;
    out[n++] = &store->columns.level;
    out[n++] = &store->columns.upper_at;
    if (q->quantization != EV_QUANT_NONE) out[n++] = &store->columns.factors;
    if (q->quantization != EV_QUANT_NONE && q->keep_vectors) out[n++] = &store->columns.vectors;
    if (ev__prefilters(q)) out[n++] = &store->columns.prefilter;
    if (store->columns.next_duplicate.count) out[n++] = &store->columns.next_duplicate;
    return n;
}

/* Geometric with ratio 1 / M, from the slot's number: no logarithm, so the same on every machine. */
static uint8_t level_of(const ev__store *store, uint32_t slot) {
    uint64_t random = ev__mix(store->seed * 0x9E3779B97F4A7C15u + slot);
    uint8_t level = 0;
    while (level < EV_MAX_LEVEL && random % (uint64_t)store->M == 0) {
        level++;
        random = ev__mix(random);
    }
    return level;
}

void ev__store_plan(ev__store *store, size_t extra, size_t growth, int64_t *held, int64_t *peak) {
    ev__array *columns[EV_COLUMNS];
    size_t n = slot_columns(store, columns), slots = ev__slots(store);
    size_t room = slots + (extra > store->free_count ? extra - store->free_count : 0);
    ev__table_plan(&store->id_table, store->id_table.used + extra, held, peak);
    for (size_t i = 0; i < n; i++) ev__array_plan(columns[i], room, growth, held, peak);
    /* one level in M - 1 of a slot; these are few, and so are the numbers of free slots */
    ev__array upper = store->columns.upper, list = {.item = sizeof *store->free_slots, .room = store->free_room};
    ev__array_plan(&upper, upper.count + (room - slots) * store->M / (store->M - 1), growth, held, peak);
    if (store->free_room < room) ev__array_plan(&list, room, growth, held, peak);
}

int ev__store_reserve(ev__store *store, size_t extra) {
    size_t fresh = extra > store->free_count ? extra - store->free_count : 0, slots = ev__slots(store);
    if (fresh > (size_t)EV_NONE - 1 - slots) return ev__fail(EV_E_FULL, "%zu slots and %zu more", slots, fresh);
    size_t upper = 0;
    for (size_t i = 0; i < fresh; i++) upper += level_of(store, (uint32_t)(slots + i)) * (size_t)store->M;
    if (upper > UINT32_MAX - store->columns.upper.count) return ev__fail(EV_E_FULL, "the upper levels");

    ev__array *columns[EV_COLUMNS];
    size_t n = slot_columns(store, columns);
    int rc = ev__id_table_reserve(&store->id_table, ev__ids_of(store), store->id_table.used + extra);
    for (size_t i = 0; rc == EV_OK && i < n; i++) rc = ev__array_reserve(columns[i], slots + fresh);
    if (rc == EV_OK) rc = ev__array_reserve(&store->columns.upper, store->columns.upper.count + upper);
    if (rc == EV_OK && store->free_room < slots + fresh) {
        size_t room = store->columns.state.room;
        uint32_t *grown = ev__alloc(room * sizeof *grown, EV_LINE);
        if (!grown) return ev__fail(EV_E_NOMEM, "%zu slots", slots + fresh);
        if (store->free_count) memcpy(grown, store->free_slots, store->free_count * sizeof *grown);
        ev__release(store->free_slots, store->free_room * sizeof *grown, EV_LINE);
        store->free_slots = grown;
        store->free_room = room;
    }
    return rc == EV_OK ? EV_OK : ev__fail(rc, "%zu slots of %zu bytes and more", slots + fresh, store->block_bytes);
}

void ev__links_clear(ev__store *store, uint32_t slot) {
    memset(ev__links0(store, slot), 0xFF, store->m0 * sizeof(uint32_t));
    ev__links0_changed(store, slot);
    int level = ev__levels(store)[slot];
    if (level) memset(ev__links(store, slot, 1), 0xFF, (size_t)level * (size_t)store->M * sizeof(uint32_t));
}

uint32_t ev__slot_take(ev__store *store) {
    uint32_t slot;
    if (store->free_count) {
        slot = store->free_slots[--store->free_count]; /* keeps its level: levels do not depend on the vector */
    } else {
        ev__array *columns[EV_COLUMNS];
        size_t n = slot_columns(store, columns);
        slot = (uint32_t)ev__slots(store);
        for (size_t i = 0; i < n; i++) ev__array_resize(columns[i], (size_t)slot + 1); /* within the reserve */
        ev__levels(store)[slot] = level_of(store, slot);
        ((uint32_t *)(void *)store->columns.upper_at.at)[slot] = (uint32_t)store->columns.upper.count;
        ev__array_resize(&store->columns.upper,
                         store->columns.upper.count + ev__levels(store)[slot] * (size_t)store->M);
    }
    ev__links_clear(store, slot);
    if (store->columns.next_duplicate.count) ev__next_duplicates(store)[slot] = EV_NONE;
    return slot;
}

void ev__slot_blank(ev__store *store, uint32_t slot) {
    ev__array *columns[] = {&store->columns.blocks, &store->columns.factors, &store->columns.vectors,
                            &store->columns.ids, &store->columns.prefilter};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (columns[i]->count) memset(columns[i]->at + (size_t)slot * columns[i]->item, 0, columns[i]->item);
    ev__shadow_blank(store, slot);
    ev__states(store)[slot] = EV_FREE;
    ev__links_clear(store, slot);
    if (store->columns.next_duplicate.count) ev__next_duplicates(store)[slot] = EV_NONE;
}

void ev__slot_give_back(ev__store *store, uint32_t slot) { store->free_slots[store->free_count++] = slot; }

void ev__slot_free(ev__store *store, uint32_t slot) {
    ev__duplicates_remove(store, slot);
    ev__slot_blank(store, slot);
    ev__slot_give_back(store, slot);
}

int ev__duplicates_open(ev__store *store) {
    if (store->columns.next_duplicate.count) return EV_OK;
    int rc = ev__array_reserve(&store->columns.next_duplicate, store->columns.state.room);
    if (rc != EV_OK) return ev__fail(rc, "the chains of duplicates");
    ev__array_resize(&store->columns.next_duplicate, ev__slots(store));
    memset(store->columns.next_duplicate.at, 0xFF, ev__slots(store) * sizeof(uint32_t));
    return EV_OK;
}

void ev__slot_copy(ev__store *store, uint32_t from, uint32_t to) {
    memcpy(ev__block(store, to), ev__block(store, from), store->quantizer.code_bytes);
    ev__array *columns[] = {&store->columns.factors, &store->columns.vectors, &store->columns.ids,
                            &store->columns.prefilter};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        ev__array *c = columns[i];
        if (c->count) memcpy(c->at + (size_t)to * c->item, c->at + (size_t)from * c->item, c->item);
    }
}

int ev__store_index(ev__store *store) {
    size_t slots = ev__slots(store);
    ev__id_table_free(&store->id_table);
    int rc = ev__id_table_reserve(&store->id_table, ev__ids_of(store), (size_t)store->live);
    uint32_t *free_slots = rc == EV_OK ? ev__alloc((slots + 1) * sizeof *free_slots, EV_LINE) : NULL;
    if (!free_slots) return ev__fail(rc == EV_OK ? EV_E_NOMEM : rc, "the table of %lld ids", (long long)store->live);
    ev__release(store->free_slots, store->free_room * sizeof *free_slots, EV_LINE);
    store->free_slots = free_slots;
    store->free_room = slots + 1;
    store->free_count = 0;
    for (size_t slot = slots; slot-- > 0;) { /* the lowest is taken first */
        if (ev__state(store, (uint32_t)slot) == EV_FREE) store->free_slots[store->free_count++] = (uint32_t)slot;
        if (ev__alive(store, (uint32_t)slot))
            ev__id_table_put(&store->id_table, ev__ids_of(store), ev__ids_of(store)[slot], (uint32_t)slot);
    }
    return EV_OK;
}

void ev__slot_drop(ev__store *store, uint32_t slot) {
    ev__id_table_remove(&store->id_table, ev__ids_of(store), ev__ids_of(store)[slot]);
    ev__duplicates_remove(store, slot);
    ev__states(store)[slot] = ev__state(store, slot) == EV_DUPLICATE ? EV_DEAD_DUPLICATE : EV_DEAD_NODE;
    store->live--;
    store->dead++;
}
