/* Candidates: a list sorted by key, and a heap. */
#include "graph/graph.h"

/* How many of a sorted pool are as near as the key or nearer. A few steps of bisection, then counting: a chain of
 * dependent loads costs more than comparing all that is left at once. */
static size_t place_of(const ev__pool *pool, float key) {
    enum { COUNTED = 32 };
    const ev__hit *from = pool->at;
    size_t left = pool->count, nearer = 0;
    for (; left > COUNTED; left -= (left + 1) / 2) {
        size_t half = (left + 1) / 2;
        from = key < from[half - 1].key ? from : from + half; /* no branches, which nobody could predict */
    }
    for (size_t i = 0; i < left; i++) nearer += !(key < from[i].key);
    return (size_t)(from - pool->at) + nearer;
}

size_t ev__pool_insert(ev__pool *pool, size_t limit, float key, uint32_t slot) {
    if (pool->count == limit && !(key < pool->at[limit - 1].key)) return SIZE_MAX;
    size_t place = place_of(pool, key);
    size_t tail = (pool->count < limit ? pool->count++ : limit - 1) - place;
    ev__move_up(pool->at + place, tail * sizeof *pool->at, sizeof *pool->at);
    pool->at[place] = (ev__hit){key, slot};
    return place;
}

void ev__heap_push(ev__hit *heap, size_t *count, ev__hit hit) {
    size_t i = (*count)++;
    for (; i && hit.key < heap[(i - 1) / 2].key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = hit;
}

ev__hit ev__heap_pop(ev__hit *heap, size_t *count) {
    ev__hit top = heap[0], last = heap[--*count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *count; i = child) {
        if (child + 1 < *count && heap[child + 1].key < heap[child].key) child++;
        if (!(heap[child].key < last.key)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}
