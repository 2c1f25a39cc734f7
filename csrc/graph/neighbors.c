/* Which neighbors a node is linked to: the heuristic of the HNSW paper (Algorithm 4). */
#include "graph/graph.h"

#include <math.h>

static void set_links(uint32_t *links, uint32_t most, const ev__candidate *chosen, size_t count) {
    for (uint32_t i = 0; i < most; i++) ev__store32(links + i, i < count ? chosen[i].slot : EV_NONE);
}

/* Is any of the chosen nearer to the candidate than the candidate is to the center? Nearer by an eighth of the squared
 * distance, as Vamana's alpha has it: a few more links are kept, and a walk needs fewer steps. Inner products are no
 * distances; there it is by more than rounding, else a tight cluster, seen from whose members all the rest is equally
 * far, would by chance drop the few links that lead out of it. */
static bool is_dominated(const ev__graph *g, const ev__space *space, ev__candidate candidate,
                         const ev__candidate *chosen, size_t count, ev__scratch *s) {
    const ev__quantizer *q = &g->store.quantizer;
    const float ALPHA_MARGIN = q->metric->product ? 0.001f : 0.125f;
    enum { RUN = 8 }; /* most candidates are dominated by one of the first few */
    ev__query query;
    ev__query_from_slot(q, space, candidate.slot, &query, s->query_b);
    for (size_t from = 0; from < count; from += RUN) {
        uint32_t slots[RUN];
        float distances[RUN];
        size_t n = count - from < RUN ? count - from : RUN;
        for (size_t i = 0; i < n; i++) slots[i] = chosen[from + i].slot;
        ev__approx_distances(q, space, &query, slots, n, distances, &s->work);
        s->stats.distances += (int64_t)n;
        for (size_t i = 0; i < n; i++)
            if (query.offset + distances[i] < candidate.distance - ALPHA_MARGIN * fabsf(candidate.distance))
                return true;
    }
    return false;
}

size_t ev__select_neighbors(const ev__graph *g, const ev__space *space, ev__candidate *candidates, size_t kept,
                            size_t count, size_t most, ev__scratch *s) {
    size_t chosen = kept;
    for (size_t i = kept; i < count && chosen < most; i++)
        if (!is_dominated(g, space, candidates[i], candidates, chosen, s)) candidates[chosen++] = candidates[i];
    return chosen;
}

/* Slots with their distances from `slot`, comparable with those of other slots. Nothing has asked for their rows. */
static void distances_from(const ev__graph *g, const ev__space *space, uint32_t slot, const uint32_t *slots,
                           size_t count, ev__candidate *out, ev__scratch *s) {
    const ev__quantizer *q = &g->store.quantizer;
    for (size_t i = 0; EV_PREFETCHES && space->kind->pipelined && i < count; i++)
        for (size_t at = 0; at < space->bytes; at += EV_LINE)
            EV_PREFETCH_SOON((const char *)ev__row_of(space, slots[i]) + at);
    ev__query query;
    ev__query_from_slot(q, space, slot, &query, s->query_a);
    ev__approx_distances(q, space, &query, slots, count, s->distances, &s->work);
    s->stats.distances += (int64_t)count;
    for (size_t i = 0; i < count; i++) out[i] = (ev__candidate){query.offset + s->distances[i], slots[i]};
}

size_t ev__reselect_neighbors(const ev__graph *g, const ev__space *space, uint32_t slot, const uint32_t *candidates,
                              size_t kept, size_t count, size_t most, ev__scratch *s) {
    distances_from(g, space, slot, candidates, count, s->selection, s);
    ev__candidates_sort(s->selection, kept);
    ev__candidates_sort(s->selection + kept, count - kept);
    return ev__select_neighbors(g, space, s->selection, kept, count, most, s);
}

size_t ev__choose_links(const ev__graph *g, const ev__space *space, uint32_t slot, const uint32_t *candidates,
                        size_t kept, size_t count, size_t most, ev__scratch *s) {
    size_t chosen = ev__reselect_neighbors(g, space, slot, candidates, kept, count, most, s);
    ev__candidates_sort(s->selection, chosen);
    return chosen;
}

void ev__relink(const ev__graph *g, const ev__space *space, uint32_t slot, int level, const uint32_t *candidates,
                size_t kept, size_t count, ev__scratch *s) {
    uint32_t most = ev__max_links(&g->store, level);
    size_t chosen = ev__choose_links(g, space, slot, candidates, kept, count, most, s);
    set_links(ev__links(&g->store, slot, level), most, s->selection, chosen);
    if (level == 0) ev__links0_changed(&g->store, slot);
}

/* Links that were chosen are sorted, and those appended later mostly lie nearer than the last of them. That one is not
 * counted: it may be an appended one. */
static size_t count_settled(const ev__candidate *links, size_t count) {
    size_t sorted = 1;
    while (sorted < count && !(links[sorted].distance < links[sorted - 1].distance)) sorted++;
    return sorted - 1;
}

void ev__shrink_links(const ev__graph *g, const ev__space *space, uint32_t slot, int level, const uint32_t *links,
                      size_t count, ev__scratch *s) {
    ev__candidate all[2 * EV_MAX_M + 1], newer[2 * EV_MAX_M + 1], *chosen = s->selection;
    distances_from(g, space, slot, links, count, all, s);
    size_t settled = count_settled(all, count), old = 0, new = settled, n = 0, n_newer = 0;
    uint32_t most = ev__max_links(&g->store, level);
    ev__candidates_sort(all + settled, count - settled);
    while ((old < settled || new < count) && n < most) {
        bool is_old = new == count || (old < settled && !(all[new].distance < all[old].distance));
        ev__candidate next = is_old ? all[old++] : all[new++];
        if (is_dominated(g, space, next, is_old ? newer : chosen, is_old ? n_newer : n, s)) continue;
        chosen[n++] = next;
        if (!is_old) newer[n_newer++] = next;
    }
    set_links(ev__links(&g->store, slot, level), most, chosen, n);
    if (level == 0) ev__links0_changed(&g->store, slot);
}
