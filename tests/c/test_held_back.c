/* What a walk holds back, against a plain list. */
#include "check.h"
#include "graph/graph.h"

#include <math.h>
#include <stdlib.h>

enum { ROOM = 200, MOST = 40, ROUNDS = 20000 };

static float some_distance(void) { return (float)(rand() % 1000) / 8 - 20; }

/* Of some slots, those that are near stay, in order; those that are nearer than `far` are held back. */
static size_t partition(ev__held *held, float *plain, uint32_t *next, size_t count) {
    float least[MOST], near = some_distance(), far = rand() % 4 ? near + 30 : INFINITY;
    uint32_t slots[MOST], kept[MOST];
    size_t n = (size_t)rand() % MOST, expected = 0, held_back = 0;
    for (size_t i = 0; i < n; i++) {
        slots[i] = (*next)++;
        least[i] = some_distance();
        plain[slots[i]] = least[i] < near || !(least[i] < far) ? INFINITY : least[i];
        if (least[i] < near) kept[expected++] = slots[i];
        held_back += plain[slots[i]] < INFINITY;
    }
    CHECK(ev__held_partition(held, least, near, far, slots, n) == expected);
    for (size_t i = 0; i < expected; i++) CHECK(slots[i] == kept[i]);
    CHECK(count + n > held->room ? held->count <= held->room : held->count == count + held_back);
    return held->count;
}

/* All that is as near as the bound comes out once, at most so many at a time, and nothing else. */
static void release(ev__held *held, float *plain, size_t made) {
    float bound = some_distance();
    uint32_t slots[8];
    size_t n, waiting = 0, released = 0;
    for (size_t i = 0; i < held->count; i++) waiting += held->least[i] <= bound;
    do {
        n = ev__held_release(held, bound, 8, slots);
        for (size_t i = 0; i < n; i++) {
            CHECK(slots[i] < made && plain[slots[i]] <= bound);
            plain[slots[i]] = INFINITY;
        }
        released += n;
    } while (n == 8);
    CHECK(released == waiting);
}

static void nearest(const ev__held *held) {
    ev__candidate room[6];
    size_t below = 0, there = 0;
    float bound = ev__held_nearest(held, 5, room);
    for (size_t i = 0; i < held->count; i++) {
        there += held->least[i] < INFINITY;
        below += held->least[i] < bound;
    }
    CHECK(there ? below < 5 && bound < INFINITY : bound == -INFINITY);
}

int main(void) {
    static float plain[ROUNDS * MOST];
    ev__held held = {0};
    CHECK(ev__held_fit(&held, ROOM) == EV_OK && held.room == ROOM);
    uint32_t made = 0;
    size_t count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        count = partition(&held, plain, &made, count);
        if (rand() % 3 == 0) release(&held, plain, made);
        nearest(&held);
        for (size_t i = 0; i < held.count; i++)
            CHECK(held.least[i] == INFINITY || plain[held.slots[i]] == held.least[i]);
        if (rand() % 50 == 0) held.count = held.from = count = 0;
    }
    CHECK(ev__held_bytes(&held) == ROOM * 8);
    ev__held_free(&held);
    CHECK(held.room == 0);
    return check_summary();
}
