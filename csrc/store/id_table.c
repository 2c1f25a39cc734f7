/* id -> slot. */
#include "store/store.h"

static uint64_t hash_of(const void *ids, uint32_t slot) { return (uint64_t)((const int64_t *)ids)[slot]; }
static bool has_id(const void *ids, uint32_t slot, const void *id) {
    return ((const int64_t *)ids)[slot] == *(const int64_t *)id;
}

static size_t find(const ev__table *map, const int64_t *ids, int64_t id) {
    return ev__table_find(map, (uint64_t)id, ids, has_id, &id);
}

int ev__id_table_reserve(ev__table *map, const int64_t *ids, size_t count) {
    return ev__table_reserve(map, count, ids, hash_of);
}

uint32_t ev__id_table_get(const ev__table *map, const int64_t *ids, int64_t id) {
    size_t i = find(map, ids, id);
    return i == SIZE_MAX ? EV_NONE : map->cells[i];
}

void ev__id_table_prefetch(const ev__table *map, int64_t id) {
    if (map->room) EV_PREFETCH(map->cells + ev__table_home(map, (uint64_t)id));
}

void ev__id_table_prefetch_id(const ev__table *map, const int64_t *ids, int64_t id) {
    uint32_t slot = map->room ? map->cells[ev__table_home(map, (uint64_t)id)] : EV_NONE;
    if (slot != EV_NONE) EV_PREFETCH(ids + slot);
}

void ev__id_table_put(ev__table *map, const int64_t *ids, int64_t id, uint32_t slot) {
    size_t i = find(map, ids, id);
    if (i != SIZE_MAX) {
        ev__table_replace(map, i, (uint64_t)id, slot);
        return;
    }
    ev__table_place(map, (uint64_t)id, slot);
    map->used++;
}

void ev__id_table_remove(ev__table *map, const int64_t *ids, int64_t id) {
    size_t i = find(map, ids, id);
    if (i != SIZE_MAX) ev__table_remove(map, i, ids, hash_of);
}

void ev__id_table_free(ev__table *map) { ev__table_free(map); }
