/* ev_remove: a removed vector is only marked. Its node goes on routing until it is cleaned up, which ev_add does when
 * an eighth of the slots are dead, and ev_compact always. */
#include "index/index.h"

int ev_remove(ev_index *ix, int64_t n, const int64_t *ids, int64_t *removed) {
    ev__store *store = &ix->graph.store;
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld ids", (long long)n);
    int64_t count = 0;
    ev__call call;
    int rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    for (int64_t i = 0; i < n; i++) {
        uint32_t slot = ev__id_table_get(&store->id_table, ev__ids_of(store), ids[i]);
        if (slot == EV_NONE) continue;
        ev__slot_drop(store, slot);
        count++;
    }
    ix->changes += count;
    if (count) store->version++;
    ev__leave(&call);
    if (removed) *removed = count;
    return ev__ok();
}
