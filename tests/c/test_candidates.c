/* Arrays of candidates, sorted and selected from, against the C library's qsort. */
#include "check.h"
#include "graph/graph.h"

#include <math.h>
#include <stdlib.h>

enum { ROUNDS = 3000 };

static int by_distance(const void *left, const void *right) {
    const ev__candidate *a = left, *b = right;
    if (a->distance != b->distance) return a->distance < b->distance ? -1 : 1;
    return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static float some_distance(int kind) {
    static const float EDGES[] = {0, -0.0f, 1, -1, INFINITY, -INFINITY, 1e-40f, -1e-40f};
    if (kind == 0) return EDGES[rand() % 8];
    return (float)(rand() % (kind == 1 ? 20 : 100000) - 10) / 8;
}

/* Few different distances or many, in any order, ascending, or descending. */
static void fill(ev__candidate *all, size_t n) {
    int kind = rand() % 3, order = rand() % 3;
    for (size_t i = 0; i < n; i++) all[i] = (ev__candidate){some_distance(kind), (uint32_t)rand()};
    if (order) qsort(all, n, sizeof *all, by_distance);
    for (size_t i = 0; order == 2 && i < n / 2; i++) {
        ev__candidate front = all[i];
        all[i] = all[n - 1 - i];
        all[n - 1 - i] = front;
    }
}

static void check_same(const ev__candidate *found, const ev__candidate *expected, size_t n) {
    for (size_t i = 0; i < n; i++)
        CHECK(found[i].distance == expected[i].distance && found[i].slot == expected[i].slot);
}

int main(void) {
    static ev__candidate all[EV_BATCH], sorted[EV_BATCH], selected[EV_BATCH];
    for (int round = 0; round < ROUNDS; round++) {
        size_t n = (size_t)(rand() % (round % 4 ? 40 : EV_BATCH + 1)), least = n ? (size_t)rand() % (n + 1) : 0;
        fill(all, n);
        memcpy(sorted, all, sizeof all);
        memcpy(selected, all, sizeof all);
        qsort(all, n, sizeof *all, by_distance);
        ev__candidates_sort(sorted, n);
        check_same(sorted, all, n);
        ev__candidates_select(selected, n, least);
        qsort(selected, least, sizeof *all, by_distance);
        check_same(selected, all, least);
    }
    return check_summary();
}
