/* Growing the graph: finding a new node's neighbours, choosing among them, linking both ways. */
#include "internal.h"

#include <math.h>

static void set_links(uint32_t *links, uint32_t most, const ev__hit *chosen, size_t count) {
    for (uint32_t i = 0; i < most; i++) ev__store32(links + i, i < count ? chosen[i].slot : EV_NONE);
}

static void sort(ev__hit *hits, size_t count) {
    for (size_t i = 1; i < count; i++) {
        ev__hit hit = hits[i];
        size_t j = i;
        for (; j && (hit.key < hits[j - 1].key || (hit.key == hits[j - 1].key && hit.slot < hits[j - 1].slot)); j--)
            hits[j] = hits[j - 1];
        hits[j] = hit;
    }
}

/* Is any of the chosen nearer to the candidate than the candidate is to the centre? Nearer by an eighth of the squared
 * distance, as Vamana's alpha has it: a few more links are kept, and a walk needs fewer steps. Inner products are no
 * distances; there it is by more than rounding, else a tight cluster, seen from whose members all the rest is equally
 * far, would by chance drop the few links that lead out of it. */
static bool occluded(const ev_index *ix, const ev__space *space, ev__hit candidate, const ev__hit *chosen, size_t count,
                     ev__scratch *s) {
    const float CLEARLY = ix->p.metric == EV_METRIC_IP ? 0.001f : 0.125f;
    enum { RUN = 8 }; /* most candidates are occluded by one of the first few */
    ev__probe probe;
    ev__probe_slot(ix, space, candidate.slot, &probe, s->probe_b);
    for (size_t from = 0; from < count; from += RUN) {
        uint32_t slots[RUN];
        float keys[RUN];
        size_t n = count - from < RUN ? count - from : RUN;
        for (size_t i = 0; i < n; i++) slots[i] = chosen[from + i].slot;
        ev__keys(ix, space, &probe, slots, n, keys, s);
        s->stats.distances += (int64_t)n;
        for (size_t i = 0; i < n; i++)
            if (probe.offset + keys[i] < candidate.key - CLEARLY * fabsf(candidate.key)) return true;
    }
    return false;
}

size_t ev__select(const ev_index *ix, const ev__space *space, ev__hit *candidates, size_t kept, size_t count,
                  size_t most, ev__scratch *s) {
    size_t chosen = kept;
    for (size_t i = kept; i < count && chosen < most; i++)
        if (!occluded(ix, space, candidates[i], candidates, chosen, s)) candidates[chosen++] = candidates[i];
    return chosen;
}

size_t ev__reselect(const ev_index *ix, const ev__space *space, uint32_t slot, const uint32_t *candidates, size_t kept,
                    size_t count, size_t most, ev__scratch *s) {
    ev__probe probe;
    ev__probe_slot(ix, space, slot, &probe, s->probe_a);
    ev__keys(ix, space, &probe, candidates, count, s->keys, s);
    s->stats.distances += (int64_t)count;
    for (size_t i = 0; i < count; i++) s->candidates[i] = (ev__hit){probe.offset + s->keys[i], candidates[i]};
    sort(s->candidates, kept);
    sort(s->candidates + kept, count - kept);
    return ev__select(ix, space, s->candidates, kept, count, most, s);
}

void ev__relink(const ev_index *ix, const ev__space *space, uint32_t slot, int level, const uint32_t *candidates,
                size_t kept, size_t count, ev__scratch *s) {
    uint32_t most = ev__max_links(ix, level);
    size_t chosen = ev__reselect(ix, space, slot, candidates, kept, count, most, s);
    sort(s->candidates, chosen);
    set_links(ev__links(ix, slot, level), most, s->candidates, chosen);
}

bool ev__link_back(const ev__builder *b, uint32_t to, uint32_t slot, int level, bool must, ev__scratch *s) {
    uint32_t *links = ev__links(b->ix, to, level), most = ev__max_links(b->ix, level), n = 0;
    ev__spin *lock = b->locks ? b->locks + to % EV_STRIPES : NULL;
    if (lock) ev__spin_lock(lock);
    for (; n < most && ev__load32(links + n) != EV_NONE; n++) s->slots[n] = ev__load32(links + n);
    if (n < most) {
        ev__store32(links + n, slot);
    } else {
        s->slots[n] = slot;
        ev__relink(b->ix, &b->space, to, level, s->slots, 0, (size_t)n + 1, s);
    }
    bool linked = false;
    for (n = 0; n < most && ev__load32(links + n) != EV_NONE; n++) linked |= ev__load32(links + n) == slot;
    if (!linked && must) ev__store32(links + (n < most ? n : most - 1), slot);
    if (lock) ev__spin_unlock(lock);
    return linked || must;
}

/* The first node, or one higher than all before it, becomes the entry. */
static bool raise_entry(ev__builder *b, uint32_t slot, bool only_if_none) {
    ev_index *ix = b->ix;
    if (b->entry_lock) ev__lock(b->entry_lock);
    uint32_t entry = ev__load32_acquire(&ix->entry);
    bool raise = entry == EV_NONE || (!only_if_none && ev__levels(ix)[slot] > ev__levels(ix)[entry]);
    if (raise) ev__store32_release(&ix->entry, slot);
    if (b->entry_lock) ev__unlock(b->entry_lock);
    return raise;
}

static void link_chosen(ev__builder *b, uint32_t slot, int top, ev__scratch *s) {
    for (int level = top; level >= 0; level--) {
        uint32_t *chosen = s->chosen + (size_t)level * b->ix->m0, *links = ev__links(b->ix, slot, level);
        for (uint32_t i = 0; i < s->chosen_count[level]; i++) ev__store32(links + i, chosen[i]);
    }
    for (int level = top; level >= 0; level--) {
        /* nearest last: it keeps a new node findable that all others passed over, as they do short vectors under ip */
        bool linked = false;
        for (uint32_t i = s->chosen_count[level]; i-- > 0;)
            linked |= ev__link_back(b, s->chosen[(size_t)level * b->ix->m0 + i], slot, level, !linked && i == 0, s);
    }
}

void ev__insert(ev__builder *b, uint32_t slot, ev__scratch *s) {
    ev_index *ix = b->ix;
    static const ev__mask everything = {false, NULL};
    if (ev__load32_acquire(&ix->entry) == EV_NONE && raise_entry(b, slot, true)) {
        ev__states(ix)[slot] = EV_NODE;
        return;
    }
    ev__probe probe;
    float key;
    ev__probe_slot(ix, &b->space, slot, &probe, s->probe_a);
    ev__sift_slot(ix, slot, &probe, s);
    int level = ev__levels(ix)[slot], top = ev__levels(ix)[ev__load32_acquire(&ix->entry)];
    if (top > level) top = level;
    uint32_t start = ev__descend(ix, &b->space, &probe, top, &key, s);
    for (int at = top; at >= 0; at--) {
        ev__walk(ix, &b->space, &probe, at, start, key, (size_t)ix->p.ef_construction, &everything, 0, s);
        if (at == 0) ev__look_around(ix, &b->space, &probe, 1, (size_t)ix->p.ef_construction, &everything, s);
        start = s->pool.at[0].slot;
        key = s->pool.at[0].key;
        for (size_t i = 0; i < s->pool.count; i++) s->pool.at[i].key += probe.offset;
        size_t n = ev__select(ix, &b->space, s->pool.at, 0, s->pool.count, (size_t)ix->p.M, s);
        s->chosen_count[at] = (uint32_t)n;
        for (size_t i = 0; i < n; i++) s->chosen[(size_t)at * ix->m0 + i] = s->pool.at[i].slot;
    }
    ev__states(ix)[slot] = EV_NODE;
    link_chosen(b, slot, top, s);
    if (level > top) raise_entry(b, slot, false);
}
