/* id -> slot: open addressing with linear probing over slots; the ids themselves stay in the store's column, so that an
 * entry costs 4 bytes. Removal shifts the entries behind back, so there are no tombstones. */
#include "internal.h"

static size_t home(const ev__idmap *map, int64_t id) { return (size_t)ev__mix((uint64_t)id) & (map->room - 1); }

static void place(ev__idmap *map, const int64_t *ids, uint32_t slot) {
    size_t i = home(map, ids[slot]);
    while (map->cells[i] != EV_NONE) i = (i + 1) & (map->room - 1);
    map->cells[i] = slot;
}

int ev__idmap_reserve(ev__idmap *map, const int64_t *ids, size_t count) {
    size_t room = map->room ? map->room : 16;
    while (room - room / 4 < count + 1) { /* at most three quarters full */
        if (room > SIZE_MAX / 16) return EV_E_FULL;
        room *= 2;
    }
    if (room == map->room) return EV_OK;
    ev__idmap grown = {ev__alloc(room * sizeof(uint32_t), EV_LINE), room, map->used};
    if (!grown.cells) return EV_E_NOMEM;
    memset(grown.cells, 0xFF, room * sizeof(uint32_t));
    for (size_t i = 0; i < map->room; i++)
        if (map->cells[i] != EV_NONE) place(&grown, ids, map->cells[i]);
    ev__idmap_free(map);
    *map = grown;
    return EV_OK;
}

static size_t find(const ev__idmap *map, const int64_t *ids, int64_t id) {
    if (!map->room) return SIZE_MAX;
    for (size_t i = home(map, id);; i = (i + 1) & (map->room - 1)) {
        if (map->cells[i] == EV_NONE) return SIZE_MAX;
        if (ids[map->cells[i]] == id) return i;
    }
}

uint32_t ev__idmap_get(const ev__idmap *map, const int64_t *ids, int64_t id) {
    size_t i = find(map, ids, id);
    return i == SIZE_MAX ? EV_NONE : map->cells[i];
}

void ev__idmap_put(ev__idmap *map, const int64_t *ids, int64_t id, uint32_t slot) {
    size_t i = find(map, ids, id);
    if (i != SIZE_MAX) {
        map->cells[i] = slot;
        return;
    }
    place(map, ids, slot);
    map->used++;
}

void ev__idmap_remove(ev__idmap *map, const int64_t *ids, int64_t id) {
    size_t hole = find(map, ids, id);
    if (hole == SIZE_MAX) return;
    size_t mask = map->room - 1;
    for (size_t i = (hole + 1) & mask; map->cells[i] != EV_NONE; i = (i + 1) & mask) {
        /* an entry may move into the hole unless its home lies behind the hole */
        size_t from_home = (i - home(map, ids[map->cells[i]])) & mask;
        if (from_home >= ((i - hole) & mask)) {
            map->cells[hole] = map->cells[i];
            hole = i;
        }
    }
    map->cells[hole] = EV_NONE;
    map->used--;
}

void ev__idmap_free(ev__idmap *map) {
    ev__release(map->cells, map->room * sizeof(uint32_t), EV_LINE);
    *map = (ev__idmap){0};
}
