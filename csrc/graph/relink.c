/* Links that lead around the nodes that are marked, as they are about to be freed (repair.c). */
#include "graph/graph.h"

/* Candidates, over the length of a list; never more than EV_BATCH. */
enum {
    AT_ONCE = 2,   /* behind marked nodes, for a list that is led around them then and there */
    BEHIND = 8,    /* behind marked nodes: they go before neighbors of neighbors */
    ALL = 12,      /* with these */
    FEW_LINES = 2, /* where each costs no more lines of memory, or there are bounds: */
    ALL_CHEAP = 20,
    COMPARED = 4,     /* the nearest of all these, among which links are chosen; */
    COMPARED_FAR = 8, /* where half of a list is not left: what it then leads to may lie in other clusters */
    SPARE = 10        /* one in so many links is left for new nodes, which lead back without a list chosen anew */
};

bool ev__is_marked(const ev__graph *g, uint32_t slot) {
    const struct ev__consolidation *c = g->consolidation;
    return slot < c->slots && ev__bit(c->marked, slot);
}

/* The nodes that the links of `slot` lead to, into s->slots: first the *direct ones, then, at most `most` in all, those
 * reached through one marked node, through two, and so on. */
static size_t kept_neighbors(const ev__graph *g, uint32_t slot, int level, size_t most, size_t *direct,
                             bool *met_marked, ev__scratch *s) {
    const ev__store *store = &g->store;
    uint32_t marked[EV_BATCH];
    size_t kept = 0, met = 0, followed = 0;
    ev__forget_visited(s);
    ev__visit(&s->visited, slot);
    *met_marked = false;
    for (uint32_t from = slot;; from = marked[followed++]) {
        const uint32_t *links = ev__links(store, from, level);
        for (uint32_t i = 0; i < ev__max_links(store, level); i++) {
            uint32_t to = ev__load32(links + i);
            if (to == EV_NONE) break;
            if (!ev__visit(&s->visited, to)) continue;
            if (!ev__is_marked(g, to)) {
                if (kept < most) s->slots[kept++] = to;
            } else {
                *met_marked = true;
                if (met == EV_BATCH) continue;
                marked[met++] = to;
                EV_PREFETCH(ev__links(store, to, level));
            }
        }
        if (from == slot) *direct = kept;
        if (followed == met || kept == most) return kept;
    }
}

bool ev__relink_around_marked(const ev__graph *g, const ev__space *space, uint32_t slot, int level, ev__scratch *s) {
    bool met_marked;
    size_t direct, most = AT_ONCE * ev__max_links(&g->store, level);
    size_t n = kept_neighbors(g, slot, level, most, &direct, &met_marked, s);
    if (met_marked) ev__relink(g, space, slot, level, s->slots, direct, n, s);
    return met_marked;
}

/* Behind the first n of s->slots what the first `direct` of them lead to on level 0, and nothing before did: of each
 * list the first, which is mostly the nearest, then of each the second, and so on, up to `most` in all. */
static size_t add_further(const ev__graph *g, size_t direct, size_t n, size_t most, ev__scratch *s) {
    for (size_t i = 0; i < direct; i++) EV_PREFETCH(ev__links0(&g->store, s->slots[i]));
    for (size_t at = 0; at < g->store.m0 && n < most; at++)
        for (size_t i = 0; i < direct && n < most; i++) {
            uint32_t to = ev__load32(ev__links0(&g->store, s->slots[i]) + at);
            if (to != EV_NONE && !ev__is_marked(g, to) && ev__visit(&s->visited, to)) s->slots[n++] = to;
        }
    return n;
}

/* Of s->slots the first `direct`, and of the others the `few` that are nearest, by the bounds of their distances where
 * there are any. */
static size_t keep_nearest(const ev__graph *g, const ev__space *space, const ev__query *query, size_t direct, size_t n,
                           size_t few, ev__scratch *s) {
    const ev__quantizer *q = &g->store.quantizer;
    uint32_t *others = s->slots + direct;
    if (n - direct <= few) return n;
    if (query->bits.planes) {
        ev__prefilter_bounds(q, space, query, others, n - direct, s->distances, &s->work);
    } else {
        ev__approx_distances(q, space, query, others, n - direct, s->distances, &s->work);
        s->stats.distances += (int64_t)(n - direct);
    }
    for (size_t i = 0; i < n - direct; i++) s->selection[i] = (ev__candidate){s->distances[i], others[i]};
    ev__candidates_select(s->selection, n - direct, few);
    for (size_t i = 0; i < few; i++) others[i] = s->selection[i].slot;
    return direct + few;
}

static size_t batch_of(size_t n) { return n < EV_BATCH ? n : EV_BATCH; }

uint32_t ev__choose_around(const ev__graph *g, const ev__space *space, uint32_t slot, ev__scratch *s) {
    const ev__quantizer *q = &g->store.quantizer;
    size_t m0 = g->store.m0, direct, most = m0 - m0 / SPARE;
    bool met_marked, cheap = ev__prefilters(q) || space->bytes <= FEW_LINES * EV_LINE;
    size_t n = kept_neighbors(g, slot, 0, batch_of(BEHIND * m0), &direct, &met_marked, s);
    if (!met_marked) return EV_NONE;
    ev__query query;
    ev__query_from_slot(q, space, slot, &query, s->query_a);
    ev__query_init_bits(q, (const void *)ev__block(&g->store, slot), &query, &s->work);
    n = add_further(g, direct, n, batch_of((cheap ? ALL_CHEAP : ALL) * m0), s);
    size_t compared = direct < m0 / 2 ? COMPARED_FAR : COMPARED;
    n = keep_nearest(g, space, &query, direct, n, batch_of(compared * m0 + direct) - direct, s);
    return (uint32_t)ev__choose_links(g, space, slot, s->slots, direct, n, direct < most ? most : direct, s);
}

void ev__leave_out_marked(const ev__graph *g, ev__candidates *candidates) {
    size_t kept = 0;
    for (size_t i = 0; i < candidates->count; i++)
        if (!ev__is_marked(g, candidates->at[i].slot)) candidates->at[kept++] = candidates->at[i];
    if (kept) candidates->count = kept;
}
