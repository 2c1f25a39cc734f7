/* Which living node has this code? Vectors that what is walked on cannot tell apart share one node, so that no number
 * of copies can crowd a graph's links.
 *
 * The table is never saved. Additions make it, some slots each, so that none of them has to wait for all. Until it is
 * whole, a code that only slots to come have is not found: what is added with it is a node of its own, in the table,
 * and keeps the code; so a code has at most one node more. */
#include "store/store.h"

uint32_t ev__duplicates_find(const ev__store *store, uint32_t slot) { return ev__code_table_find(store, slot); }

void ev__duplicates_put(ev__store *store, uint32_t node) {
    ev__code_table_put(store, node);
    ev__shadow_put(store, node);
}

void ev__duplicates_remove(ev__store *store, uint32_t slot) {
    ev__code_table_remove(store, slot);
    ev__shadow_remove(store, slot);
}

/* While it is made there is room for what is yet to be filled in, and for what may come until then: it does not grow.
 */
static size_t nodes_with(const ev__store *store, size_t extra) {
    size_t slots = ev__slots(store), nodes = store->duplicates.used + slots - store->tabled;
    return nodes + extra + (store->duplicates.room ? 0 : slots / 8);
}

void ev__duplicates_plan(const ev__store *store, size_t extra, int64_t *held, int64_t *peak) {
    ev__table_plan(&store->duplicates, nodes_with(store, extra), held, peak);
}

int ev__duplicates_reserve(ev__store *store, size_t extra) {
    int rc = ev__code_table_reserve(store, nodes_with(store, extra));
    return rc == EV_OK ? ev__shadow_reserve(store, extra) : rc;
}

bool ev__duplicates_fill(ev__store *store, size_t most) {
    size_t slots = ev__slots(store), to = slots - store->tabled < most ? slots : store->tabled + most;
    for (; store->tabled < to; store->tabled++) {
        uint32_t slot = (uint32_t)store->tabled;
        if (ev__is_to_stop_at(slot)) return false;
        if (ev__state(store, slot) == EV_NODE && ev__duplicates_find(store, slot) == EV_NONE)
            ev__duplicates_put(store, slot);
    }
    return true;
}

void ev__duplicates_free(ev__store *store) {
    ev__table_free(&store->duplicates);
    store->tabled = 0;
    ev__shadow_drop(store);
}

/* Does the duplicate's vector equal the node's too? */
static void mark_same_vector(ev__store *store, uint32_t node, uint32_t duplicate) {
    bool same = ev__vector_same(store, node, duplicate);
    ev__states(store)[duplicate] = (uint8_t)(EV_DUPLICATE | (same ? EV_SAME_VECTOR : 0));
}

void ev__attach_duplicate(ev__store *store, uint32_t node, uint32_t duplicate) {
    mark_same_vector(store, node, duplicate);
    ev__next_duplicates(store)[duplicate] = ev__next_duplicates(store)[node];
    ev__next_duplicates(store)[node] = duplicate;
}

bool ev__node_ok(const ev__store *store, const ev__mask *mask, uint32_t slot) {
    for (ev__chain at = ev__chain_from(slot); at.slot != EV_NONE; ev__chain_step(store, &at))
        if (ev__slot_ok(store, mask, at.slot)) return true;
    return false;
}
