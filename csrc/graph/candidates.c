/* Candidates: a list sorted by distance, a heap, and arrays of them. */
#include "graph/graph.h"

#include <string.h>

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

/* ---- arrays ---------------------------------------------------------------------------------- */

enum {
    RUN = 16
}; /* keys that are sorted by insertion before runs are merged: links, which are often nearly sorted, are few */

/* What orders candidates as an integer: by distance, of the same ones by slot. */
static uint64_t key_of(ev__candidate candidate) {
    float distance = candidate.distance + 0.0f; /* -0 is 0 */
    uint32_t bits;
    memcpy(&bits, &distance, sizeof bits);
    bits ^= bits >> 31 ? UINT32_MAX : (uint32_t)1 << 31;
    return (uint64_t)bits << 32 | candidate.slot;
}

static ev__candidate of_key(uint64_t key) {
    uint32_t bits = (uint32_t)(key >> 32);
    bits ^= bits >> 31 ? (uint32_t)1 << 31 : UINT32_MAX;
    ev__candidate candidate = {.slot = (uint32_t)key};
    memcpy(&candidate.distance, &bits, sizeof bits);
    return candidate;
}

static void sort_run(uint64_t *keys, size_t count) {
    for (size_t i = 1; i < count; i++) {
        uint64_t key = keys[i];
        size_t j = i;
        for (; j && key < keys[j - 1]; j--) keys[j] = keys[j - 1];
        keys[j] = key;
    }
}

/* Which of the two heads is taken is no branch: nobody could predict it. */
static void merge(const uint64_t *left, size_t lefts, const uint64_t *right, size_t rights, uint64_t *out) {
    size_t i = 0, j = 0;
    while (i < lefts && j < rights) {
        bool takes_right = right[j] < left[i];
        *out++ = takes_right ? right[j] : left[i];
        j += takes_right;
        i += !takes_right;
    }
    memcpy(out, left + i, (lefts - i) * sizeof *out);
    memcpy(out + (lefts - i), right + j, (rights - j) * sizeof *out);
}

void ev__candidates_sort(ev__candidate *all, size_t count) {
    uint64_t room[2][EV_BATCH], *keys = room[0], *merged = room[1];
    for (size_t i = 0; i < count; i++) keys[i] = key_of(all[i]);
    for (size_t at = 0; at < count; at += RUN) sort_run(keys + at, count - at < RUN ? count - at : RUN);
    for (size_t run = RUN; run < count; run *= 2) {
        for (size_t at = 0; at < count; at += 2 * run) {
            size_t left = count - at < run ? count - at : run, rest = count - at - left;
            merge(keys + at, left, keys + at + left, rest < run ? rest : run, merged + at);
        }
        uint64_t *other = keys;
        keys = merged;
        merged = other;
    }
    for (size_t i = 0; i < count; i++) all[i] = of_key(keys[i]);
}

/* Quickselect. */
void ev__candidates_select(ev__candidate *all, size_t count, size_t least) {
    uint64_t keys[EV_BATCH];
    for (size_t i = 0; i < count; i++) keys[i] = key_of(all[i]);
    for (size_t from = 0, to = count; from < least && least < to;) {
        size_t middle = from + (to - from) / 2, at = from;
        uint64_t pivot = keys[middle];
        keys[middle] = keys[to - 1];
        for (size_t i = from; i < to - 1; i++) {
            uint64_t next = keys[i];
            keys[i] = keys[at];
            keys[at] = next;
            at += next < pivot;
        }
        keys[to - 1] = keys[at];
        keys[at] = pivot;
        if (at < least)
            from = at + 1;
        else
            to = at;
    }
    for (size_t i = 0; i < least; i++) all[i] = of_key(keys[i]);
}

/* ---- a heap ---------------------------------------------------------------------------------- */

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
