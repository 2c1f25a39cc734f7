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
    uint32_t *next;    /* NULL, or cells with twice the room, made ready a few at a time to take the place of these */
    size_t done;       /* so many of them are emptied; and then so many of `cells` taken over */
} ev__table;
typedef uint64_t (*ev__slot_hash)(const void *keys, uint32_t slot);
typedef bool (*ev__slot_is)(const void *keys, uint32_t slot, const void *key);

enum {
    EV_TABLE_SMALL = 4096, /* one with less room grows at once, as it does for more than EV_TABLE_FEW entries */
    EV_TABLE_FEW = 64,
    /* of the next cells, for each entry to come; both are over before an eighth of the room is filled */
    EV_TABLE_EMPTIED = 4096,
    EV_TABLE_TAKEN_OVER = 64
};

static inline void ev__table_drop_next(ev__table *t) {
    ev__release(t->next, 2 * t->room * sizeof *t->next, EV_LINE);
    t->next = NULL;
    t->done = 0;
}

static inline void ev__table_free(ev__table *t) {
    ev__table_drop_next(t);
    ev__release(t->cells, t->room * sizeof *t->cells, EV_LINE);
    *t = (ev__table){0};
}

/* As it was before the first entry, with its room. */
static inline void ev__table_empty_all(ev__table *t) {
    ev__table_drop_next(t);
    if (t->room) memset(t->cells, 0xFF, t->room * sizeof *t->cells);
    t->used = 0;
}

static inline size_t ev__table_bytes(const ev__table *t) { return (t->next ? 3 : 1) * t->room * sizeof *t->cells; }

/* Is what is placed and removed to be done in the next cells too? */
static inline bool ev__table_fills_next(const ev__table *t) { return t->next && t->done >= 2 * t->room; }

static inline size_t ev__table_home_in(const ev__table *t, size_t room, uint64_t hash) {
    return (size_t)ev__mix(hash ^ t->salt) & (room - 1);
}
static inline size_t ev__table_home(const ev__table *t, uint64_t hash) { return ev__table_home_in(t, t->room, hash); }

/* Where the slot is, or the empty cell where it would be. */
static inline size_t ev__table_place_of(const ev__table *t, const uint32_t *cells, size_t room, uint64_t hash,
                                        uint32_t slot) {
    size_t i = ev__table_home_in(t, room, hash);
    while (cells[i] != EV_NONE && cells[i] != slot) i = (i + 1) & (room - 1);
    return i;
}

static inline void ev__table_place_next(ev__table *t, uint64_t hash, uint32_t slot) {
    t->next[ev__table_place_of(t, t->next, 2 * t->room, hash, slot)] = slot;
}

/* What is not in it. */
static inline void ev__table_place(ev__table *t, uint64_t hash, uint32_t slot) {
    t->cells[ev__table_place_of(t, t->cells, t->room, hash, slot)] = slot;
    if (ev__table_fills_next(t)) ev__table_place_next(t, hash, slot);
}

/* Another slot with the same key. */
static inline void ev__table_replace(ev__table *t, size_t i, uint64_t hash, uint32_t slot) {
    if (ev__table_fills_next(t)) {
        size_t j = ev__table_place_of(t, t->next, 2 * t->room, hash, t->cells[i]);
        if (t->next[j] != EV_NONE) t->next[j] = slot;
    }
    t->cells[i] = slot;
}

/* The next cells a little further, and in the place of the others when they are ready. */
static inline void ev__table_fill_step(ev__table *t, size_t entries, const void *keys, ev__slot_hash hash) {
    size_t emptied = 2 * t->room, all = 3 * t->room;
    if (t->done < emptied) {
        size_t left = emptied - t->done, n = entries * EV_TABLE_EMPTIED;
        if (n > left) n = left;
        memset(t->next + t->done, 0xFF, n * sizeof *t->next);
        t->done += n;
        return;
    }
    for (size_t n = entries * EV_TABLE_TAKEN_OVER; n > 0 && t->done < all; n--, t->done++) {
        uint32_t slot = t->cells[t->done - emptied];
        if (slot != EV_NONE) ev__table_place_next(t, hash(keys, slot), slot);
    }
    if (t->done < all) return;
    ev__release(t->cells, t->room * sizeof *t->cells, EV_LINE);
    t->cells = t->next;
    t->room = emptied;
    t->next = NULL;
    t->done = 0;
}

/* Can few more entries, `count` in all, go into the cells that there are, while the next ones are made ready? */
static inline bool ev__table_grows_slowly(const ev__table *t, size_t count) {
    return count - t->used <= EV_TABLE_FEW && t->room >= EV_TABLE_SMALL && count < t->room - t->room / 8;
}

static inline int ev__table_grow(ev__table *t, size_t room, const void *keys, ev__slot_hash hash) {
    uint64_t salt = t->room ? t->salt : ev__mix((uint64_t)(ev__now() * 1e9) ^ (uintptr_t)t);
    ev__table grown = {ev__alloc(room * sizeof *grown.cells, EV_LINE), room, t->used, salt, NULL, 0};
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

/* Room for `count` entries in all. */
static inline int ev__table_reserve(ev__table *t, size_t count, const void *keys, ev__slot_hash hash) {
    size_t room = t->room ? t->room : 16;
    while (room - room / 4 < count + 1) { /* at most three quarters full */
        if (room > SIZE_MAX / 16) return EV_E_FULL;
        room *= 2;
    }
    if (room == t->room && (!t->next || count <= t->used)) return EV_OK;
    if (!ev__table_grows_slowly(t, count)) return room == t->room ? EV_OK : ev__table_grow(t, room, keys, hash);
    if (!t->next) t->next = ev__alloc(2 * t->room * sizeof *t->next, EV_LINE);
    if (!t->next) return EV_E_NOMEM;
    ev__table_fill_step(t, count - t->used, keys, hash);
    return EV_OK;
}

/* What that would change in the bytes held, as ev__array_plan has it. */
static inline void ev__table_plan(const ev__table *t, size_t count, int64_t *held, int64_t *peak) {
    size_t room = t->room ? t->room : 16;
    while (room - room / 4 < count + 1 && room <= SIZE_MAX / 16) room *= 2;
    if (room == t->room) return;
    int64_t have = t->room ? (int64_t)ev__block_bytes(t->room * sizeof *t->cells) : 0,
            next = t->next ? (int64_t)ev__block_bytes(2 * t->room * sizeof *t->cells) : 0,
            taken = (int64_t)ev__block_bytes(room * sizeof *t->cells);
    *held += taken - have - next;
    if (*peak < *held + have + next) *peak = *held + have + next;
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

/* Empty a cell; entries that move into the hole are placed in the next cells, which may have passed them by. */
static inline void ev__table_empty(ev__table *t, uint32_t *cells, size_t room, size_t hole, const void *keys,
                                   ev__slot_hash hash) {
    size_t mask = room - 1;
    for (size_t i = (hole + 1) & mask; cells[i] != EV_NONE; i = (i + 1) & mask) {
        /* an entry may move into the hole unless its home lies behind the hole */
        uint64_t of = hash(keys, cells[i]);
        if (((i - ev__table_home_in(t, room, of)) & mask) < ((i - hole) & mask)) continue;
        cells[hole] = cells[i];
        hole = i;
        if (cells == t->cells && ev__table_fills_next(t)) ev__table_place_next(t, of, cells[hole]);
    }
    cells[hole] = EV_NONE;
}

static inline void ev__table_remove(ev__table *t, size_t hole, const void *keys, ev__slot_hash hash) {
    if (ev__table_fills_next(t)) {
        size_t i = ev__table_place_of(t, t->next, 2 * t->room, hash(keys, t->cells[hole]), t->cells[hole]);
        if (t->next[i] != EV_NONE) ev__table_empty(t, t->next, 2 * t->room, i, keys, hash);
    }
    ev__table_empty(t, t->cells, t->room, hole, keys, hash);
    t->used--;
}

#endif
