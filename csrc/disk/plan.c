/* Nodes keep the order of their slots, which a compacted index has laid out so that neighbors are near; vectors that
 * only share a node's code come behind all of these. */
#include "disk/plan.h"
#include "base/thread.h"

#include <stdlib.h>

static void lay_out(ev__disk_plan *p) {
    ev__arena arena = {p->memory, 0};
    size_t slots = ev__slots(p->store), live = (size_t)p->store->live;
    p->number_of = ev__arena_take(&arena, slots * sizeof *p->number_of);
    p->slot_of = ev__arena_take(&arena, slots * sizeof *p->slot_of);
    p->variant = ev__arena_take(&arena, slots * sizeof *p->variant);
    p->ids = ev__arena_take(&arena, live * sizeof *p->ids);
    p->of_node = ev__arena_take(&arena, live * sizeof *p->of_node);
    p->first = ev__arena_take(&arena, (slots + 1) * sizeof *p->first);
    p->bytes = arena.used;
}

static uint32_t new_node(ev__disk_plan *p, uint32_t slot) {
    p->slot_of[p->nodes] = slot;
    p->variant[p->nodes] = EV_NONE;
    p->number_of[slot] = p->nodes;
    return p->nodes++;
}

/* The duplicates of a node: those that have its vector too, and those that have not. */
static void number_duplicates(ev__disk_plan *p, uint32_t node) {
    uint32_t last = p->number_of[node];
    for (ev__chain at = ev__chain_from(node); at.slot != EV_NONE; ev__chain_step(p->store, &at)) {
        if (at.slot == node || !ev__alive(p->store, at.slot)) continue;
        if (ev__states(p->store)[at.slot] & EV_SAME_VECTOR)
            p->number_of[at.slot] = p->number_of[node];
        else
            last = p->variant[last] = new_node(p, at.slot);
    }
}

static int ascending(const void *a, const void *b) {
    int64_t x = ((const ev__disk_id *)a)->id, y = ((const ev__disk_id *)b)->id;
    return (x > y) - (x < y);
}

/* Ranks by node: counted, then put in their places in ascending order. */
static void share_out(ev__disk_plan *p) {
    size_t live = (size_t)p->store->live;
    memset(p->first, 0, ((size_t)p->nodes + 1) * sizeof *p->first);
    for (size_t i = 0; i < live; i++) p->first[p->ids[i].number + 1]++;
    for (uint32_t i = 0; i < p->nodes; i++) {
        p->copies += p->first[i + 1] > 1 ? p->first[i + 1] - 1 : 0;
        p->first[i + 1] += p->first[i];
    }
    for (size_t i = live; i-- > 0;) p->of_node[--p->first[p->ids[i].number + 1]] = (uint32_t)i;
    /* each place but the first is now where its node's begin, one node on */
    memmove(p->first, p->first + 1, p->nodes * sizeof *p->first);
    p->first[p->nodes] = (uint32_t)live;
}

int ev__disk_plan_make(const ev__store *store, ev__disk_plan *p) {
    *p = (ev__disk_plan){.store = store};
    size_t slots = ev__slots(store), n = 0;
    lay_out(p);
    if (!(p->memory = ev__alloc(p->bytes, EV_LINE)))
        return ev__fail(EV_E_NOMEM, "to number %zu vectors", (size_t)store->live);
    lay_out(p);
    memset(p->number_of, 0xFF, slots * sizeof *p->number_of);
    for (uint32_t slot = 0; slot < slots; slot++)
        if (ev__is_node(store, slot)) new_node(p, slot);
    for (uint32_t i = 0, linked = p->nodes; i < linked; i++) number_duplicates(p, p->slot_of[i]);
    for (uint32_t slot = 0; slot < slots && n < (size_t)store->live; slot++)
        if (ev__alive(store, slot)) p->ids[n++] = (ev__disk_id){ev__ids_of(store)[slot], p->number_of[slot]};
    if (ev__is_to_stop()) return ev__stopped();
    qsort(p->ids, n, sizeof *p->ids, ascending);
    share_out(p);
    return EV_OK;
}

void ev__disk_plan_free(ev__disk_plan *p) { ev__release(p->memory, p->bytes, EV_LINE); }
