/* A hash table of slots, 4 bytes an entry: open addressing with linear probing. Keys stay where they are, in the slot's
 * columns, so every call is given how to hash a slot, and finds are given what to compare. Removal shifts the entries
 * behind back: no tombstones. Inline, so that the callbacks are too. */
#ifndef EV_HASH_TABLE_H
#define EV_HASH_TABLE_H

#include "base/base.h"
#include "base/thread.h"

typedef struct {
    uint32_t *cells;
    size_t room, used; /* room: 0 or a power of two */
    uint64_t salt;     /* so that nobody can choose ids that collide */
} ev__table;
typedef uint64_t (*ev__slot_hash)(const void *keys, uint32_t slot);
typedef bool (*ev__slot_is)(const void *keys, uint32_t slot, const void *key);

static inline void ev__table_free(ev__table *t) {
    ev__release(t->cells, t->room * sizeof *t->cells, EV_LINE);
    *t = (ev__table){0};
}

static inline size_t ev__table_home(const ev__table *t, uint64_t hash) {
    return (size_t)ev__mix(hash ^ t->salt) & (t->room - 1);
}

static inline void ev__table_place(ev__table *t, uint64_t hash, uint32_t slot) {
    size_t i = ev__table_home(t, hash);
    while (t->cells[i] != EV_NONE) i = (i + 1) & (t->room - 1);
    t->cells[i] = slot;
}

static inline int ev__table_reserve(ev__table *t, size_t count, const void *keys, ev__slot_hash hash) {
    size_t room = t->room ? t->room : 16;
    while (room - room / 4 < count + 1) { /* at most three quarters full */
        if (room > SIZE_MAX / 16) return EV_E_FULL;
        room *= 2;
    }
    if (room == t->room) return EV_OK;
    uint64_t salt = t->room ? t->salt : ev__mix((uint64_t)(ev__now() * 1e9) ^ (uintptr_t)t);
    ev__table grown = {ev__alloc(room * sizeof *grown.cells, EV_LINE), room, t->used, salt};
    if (!grown.cells) return EV_E_NOMEM;
    memset(grown.cells, 0xFF, room * sizeof *grown.cells);
    for (size_t i = 0; i < t->room; i++) {
        if (t->cells[i] != EV_NONE) ev__table_place(&grown, hash(keys, t->cells[i]), t->cells[i]);
        if (!ev__is_to_stop_at(i)) continue;
        ev__table_free(&grown);
        return ev__stopped();
    }
    ev__table_free(t);
    *t = grown;
    return EV_OK;
}

/* The cell, or SIZE_MAX. */
static inline size_t ev__table_find(const ev__table *t, uint64_t hash, const void *keys, ev__slot_is is,
                                    const void *key) {
    if (!t->room) return SIZE_MAX;
    for (size_t i = ev__table_home(t, hash);; i = (i + 1) & (t->room - 1)) {
        if (t->cells[i] == EV_NONE) return SIZE_MAX;
        if (is(keys, t->cells[i], key)) return i;
    }
}

static inline void ev__table_remove(ev__table *t, size_t hole, const void *keys, ev__slot_hash hash) {
    size_t mask = t->room - 1;
    for (size_t i = (hole + 1) & mask; t->cells[i] != EV_NONE; i = (i + 1) & mask) {
        /* an entry may move into the hole unless its home lies behind the hole */
        size_t from_home = (i - ev__table_home(t, hash(keys, t->cells[i]))) & mask;
        if (from_home >= ((i - hole) & mask)) {
            t->cells[hole] = t->cells[i];
            hole = i;
        }
    }
    t->cells[hole] = EV_NONE;
    t->used--;
}

#endif
