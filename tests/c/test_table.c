/* The hash table grows a few entries at a time, and answers as ever meanwhile. */
#include "check.h"
#include "base/hash_table.h"

#include <stdlib.h>

enum { SLOTS = 70000, STEPS = 400000, MOST_HASHED = EV_TABLE_TAKEN_OVER + 1 };

static uint64_t keys[SLOTS];
static bool held[SLOTS];
static int64_t hashed; /* slots whose hash was asked for */

static uint64_t hash_of(const void *of, uint32_t slot) {
    hashed++;
    return ((const uint64_t *)of)[slot];
}
static bool has_key(const void *of, uint32_t slot, const void *key) {
    return ((const uint64_t *)of)[slot] == *(const uint64_t *)key;
}
static uint32_t get(const ev__table *t, uint64_t key) {
    size_t i = ev__table_find(t, key, keys, has_key, &key);
    return i == SIZE_MAX ? EV_NONE : t->cells[i];
}

static uint64_t turn;
static uint64_t chance(uint64_t n) { return ev__mix(turn++) % n; }

static void put(ev__table *t, uint32_t slot) {
    hashed = 0;
    CHECK(ev__table_reserve(t, t->used + 1, keys, hash_of) == EV_OK);
    if (t->room > EV_TABLE_SMALL) CHECK(hashed <= MOST_HASHED);
    CHECK(t->used + 1 <= t->room - t->room / 8);
    ev__table_place(t, keys[slot], slot);
    t->used++;
    held[slot] = true;
}

static void take_out(ev__table *t, uint32_t slot) {
    size_t i = ev__table_find(t, keys[slot], keys, has_key, &keys[slot]);
    CHECK(i != SIZE_MAX && t->cells[i] == slot);
    ev__table_remove(t, i, keys, hash_of);
    held[slot] = false;
}

/* Another slot takes over the key. */
static void hand_on(ev__table *t, uint32_t from, uint32_t to) {
    uint64_t key = keys[from];
    ev__table_replace(t, ev__table_find(t, key, keys, has_key, &key), key, to);
    keys[from] = keys[to];
    keys[to] = key;
    held[from] = false;
    held[to] = true;
}

static void check_all(const ev__table *t) {
    size_t used = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        CHECK(get(t, keys[slot]) == (held[slot] ? slot : EV_NONE));
        used += held[slot];
    }
    CHECK(used == t->used);
    size_t cells = 0;
    for (size_t i = 0; i < t->room; i++) cells += t->cells[i] != EV_NONE;
    CHECK(cells == used);
}

/* Of ten steps, so many undo something. */
static void test_random_steps(uint64_t undone) {
    ev__table t = {0};
    size_t room = 0, growths = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        keys[slot] = slot % 64 ? ev__mix(slot) : (uint64_t)slot << 40;
        held[slot] = false;
    }
    for (int step = 0; step < STEPS; step++) {
        uint32_t slot = (uint32_t)chance(SLOTS), other = (uint32_t)chance(SLOTS);
        if (!held[slot])
            put(&t, slot);
        else if (chance(10) < undone)
            take_out(&t, slot);
        else if (!held[other] && chance(2))
            hand_on(&t, slot, other);
        bool grown = t.room != room && room >= EV_TABLE_SMALL;
        growths += grown;
        if (grown || step % 50000 == 0) check_all(&t);
        room = t.room;
    }
    CHECK(growths >= 3);
    check_all(&t);
    ev__table_free(&t);
}

/* What is taken over next may move into a hole before it, and is taken over all the same. */
static void test_holes_beside_what_is_next(void) {
    ev__table t = {0};
    int holes = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        keys[slot] = ev__mix(slot);
        held[slot] = false;
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        put(&t, slot);
        if (!ev__table_fills_next(&t) || t.done == 2 * t.room) continue;
        uint32_t before = t.cells[t.done - 2 * t.room - 1];
        if (before == EV_NONE) continue;
        take_out(&t, before);
        holes++;
    }
    CHECK(holes > 500);
    check_all(&t);
    ev__table_free(&t);
}

/* Many at once: no step in between. */
static void test_many_at_once(void) {
    ev__table t = {0};
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        keys[slot] = slot;
        held[slot] = false;
    }
    uint32_t slot = 0;
    while (!t.next && slot < SLOTS) put(&t, slot++);
    CHECK(slot < SLOTS);
    CHECK(ev__table_bytes(&t) == 3 * t.room * sizeof *t.cells);
    CHECK(ev__table_reserve(&t, SLOTS, keys, hash_of) == EV_OK && !t.next);
    while (slot < SLOTS) put(&t, slot++);
    check_all(&t);
    ev__table_free(&t);
}

int main(void) {
    test_random_steps(1);
    test_random_steps(5);
    test_holes_beside_what_is_next();
    test_many_at_once();
    return check_summary();
}
