/* Which living node has this code? Vectors that what is walked on cannot tell apart share one node, so that no number
 * of copies can crowd a graph's links. The table is made by the first ev_add that needs it and never saved. */
#include "store/store.h"

uint32_t ev__duplicates_find(const ev__store *store, uint32_t slot) { return ev__code_table_find(store, slot); }

void ev__duplicates_put(ev__store *store, uint32_t node) {
    ev__code_table_put(store, node);
    ev__twin_put(store, node);
}

void ev__duplicates_remove(ev__store *store, uint32_t slot) {
    ev__code_table_remove(store, slot);
    ev__twin_remove(store, slot);
}

int ev__duplicates_reserve(ev__store *store, size_t extra) {
    bool fresh = store->duplicates.room == 0;
    int rc = ev__code_table_reserve(store, (fresh ? (size_t)store->live : store->duplicates.used) + extra);
    if (rc == EV_OK) rc = ev__twin_reserve(store, extra);
    if (rc != EV_OK) return rc;
    if (fresh)
        for (size_t slot = 0; slot < ev__slots(store); slot++) {
            if (ev__state(store, (uint32_t)slot) == EV_NODE && ev__duplicates_find(store, (uint32_t)slot) == EV_NONE)
                ev__duplicates_put(store, (uint32_t)slot);
            if (!ev__is_to_stop_at(slot)) continue;
            ev__duplicates_free(store);
            return ev__stopped();
        }
    return EV_OK;
}

void ev__duplicates_free(ev__store *store) {
    ev__table_free(&store->duplicates);
    ev__twin_drop(store);
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
