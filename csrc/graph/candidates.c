/* Candidates: a list sorted by distance, and a heap. */
#include "graph/graph.h"

/* How many of a sorted list are as near as the distance or nearer. A few steps of bisection, then counting: a chain of
 * dependent loads costs more than comparing all that is left at once. */
static size_t place_of(const ev__candidates *candidates, float distance) {
    enum { COUNTED = 32 };
    const ev__candidate *from = candidates->at;
    size_t left = candidates->count, nearer = 0;
    for (; left > COUNTED; left -= (left + 1) / 2) {
        size_t half = (left + 1) / 2;
        from = distance < from[half - 1].distance ? from : from + half; /* no branches, which nobody could predict */
    }
    for (size_t i = 0; i < left; i++) nearer += !(distance < from[i].distance);
    return (size_t)(from - candidates->at) + nearer;
}

size_t ev__candidates_insert(ev__candidates *candidates, size_t limit, float distance, uint32_t slot) {
    if (candidates->count == limit && !(distance < candidates->at[limit - 1].distance)) return SIZE_MAX;
    size_t place = place_of(candidates, distance);
    size_t tail = (candidates->count < limit ? candidates->count++ : limit - 1) - place;
    ev__move_up(candidates->at + place, tail * sizeof *candidates->at, sizeof *candidates->at);
    candidates->at[place] = (ev__candidate){distance, slot};
    return place;
}

void ev__heap_push(ev__candidate *heap, size_t *count, ev__candidate hit) {
    size_t i = (*count)++;
    for (; i && hit.distance < heap[(i - 1) / 2].distance; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = hit;
}

ev__candidate ev__heap_pop(ev__candidate *heap, size_t *count) {
    ev__candidate top = heap[0], last = heap[--*count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *count; i = child) {
        if (child + 1 < *count && heap[child + 1].distance < heap[child].distance) child++;
        if (!(heap[child].distance < last.distance)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}
