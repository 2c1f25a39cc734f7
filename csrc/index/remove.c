/* ev_remove: a removed vector is only marked. Its node goes on routing until links are led around it, which ev_add
 * begins when an eighth of the nodes are dead, ev_remove when a third are, and ev_compact always does. */
#include "index/index.h"

enum { SOON = 1024 }; /* so many are removed before anybody could stop it */

typedef struct {
    uint32_t slot;
    uint8_t state;
} removal;

/* As if the last `count` had not been removed. */
static void put_back(ev__store *store, const removal *removed, int64_t count) {
    while (count-- > 0) {
        uint32_t slot = removed[count].slot;
        ev__states(store)[slot] = removed[count].state;
        ev__id_table_put(&store->id_table, ev__ids_of(store), ev__ids_of(store)[slot], slot);
        store->live++;
        store->dead--;
    }
    ev__duplicates_free(store); /* sooner made again than filled */
}

/* made: NULL, or room for n; without, it cannot be stopped. */
static int remove_all(ev_index *ix, int64_t n, const int64_t *ids, removal *made, int64_t *count) {
    ev__store *store = &ix->graph.store;
    for (int64_t i = 0; i < n; i++) {
        if (made && ev__is_to_stop_at((size_t)i)) {
            put_back(store, made, *count);
            return ev__stopped();
        }
        uint32_t slot = ev__id_table_get(&store->id_table, ev__ids_of(store), ids[i]);
        if (slot == EV_NONE) continue;
        if (made) made[*count] = (removal){slot, ev__states(store)[slot]};
        ev__slot_drop(store, slot);
        ++*count;
    }
    ix->changes += *count;
    if (*count) store->version++;
    return EV_OK;
}

int64_t ev__remove_ids(ev_index *ix, int64_t n, const int64_t *ids) {
    int64_t count = 0;
    remove_all(ix, n, ids, NULL, &count);
    return count;
}

int ev_remove(ev_index *ix, int64_t n, const int64_t *ids, int64_t *removed) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld ids", (long long)n);
    int64_t count = 0;
    ev__call call;
    int rc = ev__complete(ix, EV_LACKS_NOTHING);
    if (rc == EV_OK) rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    removal *made = n > SOON ? ev__alloc((size_t)n * sizeof *made, EV_LINE) : NULL;
    ev__watch watch;
    ev__watch_begin(&watch, NULL, NULL, n);
    rc = remove_all(ix, n, ids, made, &count);
    ev__release(made, (size_t)n * sizeof *made, EV_LINE);
    if (rc == EV_OK && count) ev__repair_after_removing(ix, count, &call);
    ev__watch_end(&watch);
    ev__leave(&call);
    if (rc != EV_OK) return rc;
    if (removed) *removed = count;
    return ev__ok();
}
