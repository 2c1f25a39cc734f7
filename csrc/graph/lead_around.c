/* Links that lead around the nodes that are marked, as they are about to be freed (repair.c). */
#include "graph/graph.h"

enum { CANDIDATES_PER_LINK = 2 }; /* candidates for a list of links, over its length; EV_BATCH holds as many */

bool ev__is_marked(const ev__graph *g, uint32_t slot) {
    const struct ev__consolidation *c = g->consolidation;
    return slot < c->slots && ev__bit(c->marked, slot);
}

/* The nodes that the links of `slot` lead to, into s->slots: first the *direct ones, then, at most `most` in all, those
 * reached through any number of marked ones. */
static size_t kept_neighbors(const ev__graph *g, uint32_t slot, int level, size_t most, size_t *direct,
                             bool *met_marked, ev__scratch *s) {
    const ev__store *store = &g->store;
    uint32_t marked[EV_BATCH];
    size_t kept = 0, waiting = 0;
    ev__forget_visited(s);
    ev__visit(&s->visited, slot);
    *met_marked = false;
    for (uint32_t from = slot;; from = marked[--waiting]) {
        const uint32_t *links = ev__links(store, from, level);
        for (uint32_t i = 0; i < ev__max_links(store, level); i++) {
            uint32_t to = ev__load32(links + i);
            if (to == EV_NONE) break;
            if (!ev__visit(&s->visited, to)) continue;
            if (!ev__is_marked(g, to)) {
                if (kept < most) s->slots[kept++] = to;
            } else {
                *met_marked = true;
                if (waiting < EV_BATCH) marked[waiting++] = to;
            }
        }
        if (from == slot) *direct = kept;
        if (!waiting || kept == most) return kept;
    }
}

bool ev__lead_around(const ev__graph *g, const ev__space *space, uint32_t slot, ev__scratch *s) {
    bool changed = false;
    for (int level = 0; level <= ev__levels(&g->store)[slot]; level++) {
        bool met_marked;
        size_t direct, most = CANDIDATES_PER_LINK * ev__max_links(&g->store, level);
        size_t n = kept_neighbors(g, slot, level, most, &direct, &met_marked, s);
        if (met_marked) ev__relink(g, space, slot, level, s->slots, direct, n, s);
        changed |= met_marked;
    }
    return changed;
}

void ev__leave_out_marked(const ev__graph *g, ev__candidates *candidates) {
    size_t kept = 0;
    for (size_t i = 0; i < candidates->count; i++)
        if (!ev__is_marked(g, candidates->at[i].slot)) candidates->at[kept++] = candidates->at[i];
    if (kept) candidates->count = kept;
}
