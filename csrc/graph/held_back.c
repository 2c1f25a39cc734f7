/* Neighbors held back: met by a walk, but by their signs not near enough yet for their codes to be fetched. */
#include "graph/graph.h"

#include <math.h>

enum { AT_ONCE = 64 }; /* bounds compared before it is asked whether one was below */

int ev__held_fit(ev__held *held, size_t room) {
    if (held->room >= room) return EV_OK;
    ev__held grown = {.least = ev__alloc(room * sizeof *grown.least, EV_LINE),
                      .slots = ev__alloc(room * sizeof *grown.slots, EV_LINE),
                      .room = room};
    if (!grown.least || !grown.slots) {
        ev__held_free(&grown);
        return EV_E_NOMEM;
    }
    ev__held_free(held);
    *held = grown;
    return EV_OK;
}

void ev__held_free(ev__held *held) {
    ev__release(held->least, held->room * sizeof *held->least, EV_LINE);
    ev__release(held->slots, held->room * sizeof *held->slots, EV_LINE);
    *held = (ev__held){0};
}

size_t ev__held_bytes(const ev__held *held) { return held->room * (sizeof *held->least + sizeof *held->slots); }

/* About half of them go, those further than the mean: whoever is held back so late would hardly be asked for. */
static void make_room(ev__held *held) {
    float sum = 0, known = 0;
    for (size_t i = 0; i < held->count; i++) {
        if (held->least[i] == INFINITY) continue;
        sum += held->least[i];
        known++;
    }
    float mean = sum / known;
    size_t kept = 0;
    for (size_t i = 0; i < held->count; i++) {
        held->least[kept] = held->least[i];
        held->slots[kept] = held->slots[i];
        kept += held->least[i] < mean;
    }
    held->count = kept < held->room / 4 * 3 ? kept : held->room / 2;
    held->from = 0;
}

size_t ev__held_partition(ev__held *held, const float *least, float near, float far, uint32_t *slots, size_t n) {
    if (held->count + n > held->room) make_room(held);
    if (held->count + n > held->room) held->count = held->room - n;
    size_t kept = 0, count = held->count;
    for (size_t i = 0; i < n; i++) { /* no branches, which nobody could predict */
        uint32_t slot = slots[i];
        bool is_near = least[i] < near;
        slots[kept] = slot;
        kept += is_near;
        held->slots[count] = slot;
        held->least[count] = least[i];
        count += !is_near & (least[i] < far);
    }
    held->count = count;
    return kept;
}

static bool some_up_to(const float *least, size_t n, float bound) {
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++) found += least[i] <= bound;
    return found != 0;
}

size_t ev__held_release(ev__held *held, float bound, size_t most, uint32_t *slots) {
    size_t n = 0;
    for (size_t from = held->from; from < held->count; from += AT_ONCE) {
        size_t end = from + AT_ONCE < held->count ? from + AT_ONCE : held->count;
        if (EV_LIKELY(!some_up_to(held->least + from, end - from, bound))) continue;
        held->from = from;
        for (size_t i = from; i < end; i++) {
            if (!(held->least[i] <= bound)) continue;
            if (n == most) return n;
            slots[n++] = held->slots[i];
            held->least[i] = INFINITY; /* gone */
        }
    }
    held->from = 0;
    return n;
}

float ev__held_nearest(const ev__held *held, size_t count, ev__candidate *room) {
    ev__candidates best = {room, 0, count};
    for (size_t i = 0; i < held->count; i++)
        if (held->least[i] < INFINITY) ev__candidates_insert(&best, count, held->least[i], held->slots[i]);
    return best.count ? best.at[best.count - 1].distance : -INFINITY;
}
