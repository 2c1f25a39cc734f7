/* ev_remove: a removed vector is only marked. Its node goes on routing until it is buried, which ev_add does when an
 * eighth of the slots are dead, and ev_compact always. */
#include "internal.h"

void ev__slot_drop(ev_index *ix, uint32_t slot) {
    ev__idmap_remove(&ix->idmap, ev__ids_of(ix), ev__ids_of(ix)[slot]);
    ev__twins_remove(ix, slot);
    ev__states(ix)[slot] = ev__state(ix, slot) == EV_DUPLICATE ? EV_DEAD_DUPLICATE : EV_DEAD_NODE;
    ix->live--;
    ix->dead++;
}

int ev_remove(ev_index *ix, int64_t n, const int64_t *ids, int64_t *removed) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld ids", (long long)n);
    int64_t count = 0;
    ev__call call;
    int rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    for (int64_t i = 0; i < n; i++) {
        uint32_t slot = ev__idmap_get(&ix->idmap, ev__ids_of(ix), ids[i]);
        if (slot == EV_NONE) continue;
        ev__slot_drop(ix, slot);
        count++;
    }
    ix->changes += count;
    if (count) ix->version++;
    ev__leave(&call);
    if (removed) *removed = count;
    return ev__ok();
}
