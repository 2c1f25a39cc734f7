/* Growing the graph: finding a new node's neighbors, choosing among them, linking both ways. */
#include "graph/graph.h"

#include <math.h>

bool ev__add_reverse_link(const ev__builder *b, uint32_t to, uint32_t slot, int level, bool must, ev__scratch *s) {
    uint32_t *links = ev__links(&b->g->store, to, level), most = ev__max_links(&b->g->store, level), n = 0;
    ev__spin *lock = b->locks ? b->locks + to % EV_STRIPES : NULL;
    if (lock) ev__spin_lock(lock);
    bool linked = false; /* whoever asks without the lock may miss it in a list that is being written */
    for (; n < most && ev__load32(links + n) != EV_NONE; n++) linked |= (s->slots[n] = ev__load32(links + n)) == slot;
    if (linked) {
        if (lock) ev__spin_unlock(lock);
        return true;
    }
    if (n < most) {
        ev__store32(links + n, slot);
    } else {
        s->slots[n] = slot;
        ev__shrink_links(b->g, &b->space, to, level, s->slots, (size_t)n + 1, s);
    }
    for (n = 0; n < most && ev__load32(links + n) != EV_NONE; n++) linked |= ev__load32(links + n) == slot;
    if (!linked && must) ev__store32(links + (n < most ? n : most - 1), slot);
    if (level == 0) ev__links0_changed(&b->g->store, to);
    if (lock) ev__spin_unlock(lock);
    return linked || must;
}

/* The first node, or one higher than all before it, becomes the entry. */
static bool update_entry_point(ev__builder *b, uint32_t slot, bool only_if_none) {
    ev__graph *g = b->g;
    if (b->entry_lock) ev__lock(b->entry_lock);
    uint32_t entry = ev__load32_acquire(&g->entry);
    bool raise = entry == EV_NONE || (!only_if_none && ev__levels(&g->store)[slot] > ev__levels(&g->store)[entry]);
    if (raise) ev__store32_release(&g->entry, slot);
    if (b->entry_lock) ev__unlock(b->entry_lock);
    return raise;
}

static void link_chosen(ev__builder *b, uint32_t slot, int top, ev__scratch *s) {
    for (int level = top; level >= 0; level--) {
        uint32_t *chosen = s->chosen + (size_t)level * b->g->store.m0, *links = ev__links(&b->g->store, slot, level);
        for (uint32_t i = 0; i < s->chosen_count[level]; i++) ev__store32(links + i, chosen[i]);
    }
    ev__links0_changed(&b->g->store, slot);
    for (int level = top; level >= 0; level--) {
        /* nearest last: it keeps a new node findable that all others passed over, as they do short vectors under ip */
        bool linked = false;
        for (uint32_t i = s->chosen_count[level]; i-- > 0;)
            linked |= ev__add_reverse_link(b, s->chosen[(size_t)level * b->g->store.m0 + i], slot, level,
                                           !linked && i == 0, s);
    }
}

/* A node's new neighbors do not know of it yet: let at least the nearest link back, or what lies apart is hard to
 * find. */
void ev__link_nearest_back(const ev__builder *b, uint32_t slot, ev__scratch *s) {
    const ev__store *store = &b->g->store;
    uint32_t nearest = ev__load32(ev__links0(store, slot));
    if (nearest == EV_NONE) return;
    const uint32_t *links = ev__links0(store, nearest);
    uint32_t i = 0, to = EV_NONE;
    while (i < store->m0 && (to = ev__load32(links + i)) != EV_NONE && to != slot) i++;
    if (i == store->m0 || to != slot) ev__add_reverse_link(b, nearest, slot, 0, false, s);
}

/* Where there was nothing else to lead to. */
static void keep_off_marked(ev__builder *b, uint32_t slot, ev__scratch *s) {
    ev__spin *lock = b->locks ? b->locks + slot % EV_STRIPES : NULL;
    if (lock) ev__spin_lock(lock);
    bool changed = false;
    for (int level = 0; level <= ev__levels(&b->g->store)[slot]; level++)
        changed |= ev__relink_around_marked(b->g, &b->space, slot, level, s);
    if (lock) ev__spin_unlock(lock);
    if (changed) ev__link_nearest_back(b, slot, s);
}

void ev__insert(ev__builder *b, uint32_t slot, ev__scratch *s) {
    ev__graph *g = b->g;
    static const ev__mask everything = {false, NULL};
    if (ev__load32_acquire(&g->entry) == EV_NONE && update_entry_point(b, slot, true)) {
        ev__states(&g->store)[slot] = b->state;
        return;
    }
    ev__query query;
    float distance;
    ev__query_from_slot(&g->store.quantizer, &b->space, slot, &query, s->query_a);
    ev__query_init_bits(&g->store.quantizer, (const void *)ev__block(&g->store, slot), &query, &s->work);
    int level = ev__levels(&g->store)[slot], top = ev__levels(&g->store)[ev__load32_acquire(&g->entry)];
    if (top > level) top = level;
    uint32_t start = ev__search_upper_layers(g, &b->space, &query, top, &distance, s);
    for (int at = top; at >= 0; at--) {
        ev__search_layer(g, &b->space, &query, at, start, distance, (size_t)g->ef_construction, &everything, 0, s);
        if (at == 0) ev__search_other_clusters(g, &b->space, &query, 1, (size_t)g->ef_construction, &everything, s);
        start = s->candidates.at[0].slot;
        distance = s->candidates.at[0].distance;
        if (g->consolidation) ev__leave_out_marked(g, &s->candidates);
        for (size_t i = 0; i < s->candidates.count; i++) s->candidates.at[i].distance += query.offset;
        size_t n = ev__select_neighbors(g, &b->space, s->candidates.at, 0, s->candidates.count, (size_t)g->store.M, s);
        s->chosen_count[at] = (uint32_t)n;
        for (size_t i = 0; i < n; i++) s->chosen[(size_t)at * g->store.m0 + i] = s->candidates.at[i].slot;
    }
    ev__states(&g->store)[slot] = b->state;
    link_chosen(b, slot, top, s);
    if (g->consolidation) keep_off_marked(b, slot, s);
    if (level > top) update_entry_point(b, slot, false);
}
