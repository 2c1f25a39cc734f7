/* Room for rows to come, where memory is limited: what would pass the limit is refused at once, before anything
 * changes. The limit itself holds anyway: each allocation is counted. */
#include "index/build.h"

/* Scratches of searches at once: as many as there are cores, if that is little of the limit. Two at least: one builds,
 * and mends the graph with another. */
static size_t search_bytes(ev_index *ix, size_t slots) {
    enum { SHARE = 16, LEAST = 2 };
    size_t one = ev__search_bytes(ix, slots), most = (size_t)ev__limit() / SHARE / one, cores = (size_t)ev__cores();
    if (most > cores) most = cores;
    size_t all = one * (most < LEAST ? LEAST : most);
    size_t spare = ev__scratch_spare_bytes(&ix->graph);
    return all > spare ? all - spare : 0;
}

/* Bytes beyond what is held: for the rows, for adding them, and for the searches and the upkeep that come then. */
static int64_t needed(ev_index *ix, const ev__build *a, size_t growth) {
    ev__graph *g = &ix->graph;
    size_t n = (size_t)a->n, slots = ev__slots(&g->store) + n;
    size_t upkeep = ev__mending_need(slots), begun = ev__mending_bytes(g) + ev__consolidation_bytes(g);
    int64_t held = 0, peak = 0;
    ev__store_plan(&g->store, n, growth, &held, &peak);
    ev__duplicates_plan(&g->store, n, &held, &peak);
    held += (int64_t)(ev__build_bytes(a) + ev__train_bytes(ix, a->n) + search_bytes(ix, slots));
    held += upkeep > begun ? (int64_t)(upkeep - begun) : 0;
    return held > peak ? held : peak;
}

/* By which part arrays may grow; false: by none. */
static bool choose_growth(ev_index *ix, const ev__build *a, int64_t *least) {
    static const size_t growths[] = {EV_GROWTH, 8 * EV_GROWTH, 0};
    for (size_t i = 0; i < sizeof growths / sizeof *growths; i++) {
        *least = needed(ix, a, growths[i]);
        if (*least > 0 && !ev__may_charge((size_t)*least)) continue;
        ev__set_growth(growths[i]);
        return true;
    }
    return false;
}

/* What only saves time, and can be made again. */
static void give_up_spares(ev_index *ix) {
    ev__shadow_drop(&ix->graph.store);
    ev__nibbles_free(&ix->graph.store.nibbles);
    ev__scratch_drop_all(&ix->graph);
}

int ev__room_for(ev_index *ix, const ev__build *a) {
    int64_t least;
    ev__set_growth(EV_GROWTH);
    if (!ev__limit() || choose_growth(ix, a, &least)) return EV_OK;
    give_up_spares(ix);
    if (choose_growth(ix, a, &least)) return EV_OK;
    return ev__fail(EV_E_MEMORY_LIMIT, "%lld rows beside %lld", (long long)a->n, (long long)ix->graph.store.live);
}
