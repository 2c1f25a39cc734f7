/* Mending the graph: leading links around removed nodes, and linking what the entry cannot reach. */
#include "graph/graph.h"

/* ---- burying the dead ------------------------------------------------------------------------ */

enum { CANDIDATES_PER_LINK = 2 }; /* candidates for a list of links, over its length; EV_BATCH holds as many */

/* The vector and id of a duplicate become those of its dead node, which lives on; the duplicate's slot is free. */
static void take_over(ev__store *store, uint32_t node, uint32_t duplicate) {
    ev__slot_copy(store, duplicate, node);
    ev__id_table_put(&store->id_table, ev__ids_of(store), ev__ids_of(store)[node], node);
    ev__states(store)[node] = EV_NODE;
    ev__slot_free(store, duplicate);
    if (store->duplicates.room && ev__duplicates_find(store, node) == EV_NONE) ev__duplicates_put(store, node);
    store->dead--;
}

/* Free the dead among a node's duplicates; a dead node is taken over by a living duplicate. */
static void clean_duplicates(ev__store *store, uint32_t node) {
    uint32_t at = ev__next_duplicates(store)[node];
    ev__next_duplicates(store)[node] = EV_NONE;
    for (uint32_t next; at != EV_NONE; at = next) {
        next = ev__next_duplicates(store)[at];
        if (ev__state(store, at) == EV_DEAD_DUPLICATE) {
            ev__slot_free(store, at);
            store->dead--;
        } else if (ev__state(store, node) == EV_DEAD_NODE) {
            take_over(store, node, at);
        } else {
            ev__attach_duplicate(store, node, at);
        }
    }
}

/* The living nodes that the links of `slot` lead to, into w->slots: first the *direct ones, then, at most `most` in
 * all, those reached through any number of dead ones. */
static size_t live_neighbors(const ev__graph *g, uint32_t slot, int level, size_t most, size_t *direct, bool *met_dead,
                             ev__scratch *s) {
    const ev__store *store = &g->store;
    uint32_t dead[EV_BATCH];
    size_t living = 0, waiting = 0;
    ev__forget_visited(s);
    ev__visit(&s->visited, slot);
    *met_dead = false;
    for (uint32_t from = slot;; from = dead[--waiting]) {
        const uint32_t *links = ev__links(store, from, level);
        for (uint32_t i = 0; i < ev__max_links(store, level) && links[i] != EV_NONE; i++) {
            uint32_t to = links[i];
            if (!ev__visit(&s->visited, to)) continue;
            if (ev__state(store, to) != EV_DEAD_NODE) {
                if (living < most) s->slots[living++] = to;
            } else {
                *met_dead = true;
                if (waiting < EV_BATCH) dead[waiting++] = to;
            }
        }
        if (from == slot) *direct = living;
        if (!waiting || living == most) return living;
    }
}

typedef struct {
    ev__graph *g;
    ev__space space;
    ev__work work;
    ev__scratch **scratches;
} consolidation;

static void relink_around_dead(void *arg, int worker) {
    consolidation *b = arg;
    ev__graph *g = b->g;
    ev__scratch *s = b->scratches[worker];
    for (int64_t from, to; ev__work_next(&b->work, worker, &from, &to);)
        for (int64_t slot = from; slot < to; slot++) {
            if (ev__state(&g->store, (uint32_t)slot) != EV_NODE) continue;
            for (int level = 0; level <= ev__levels(&g->store)[slot]; level++) {
                bool met_dead;
                size_t direct;
                size_t most = CANDIDATES_PER_LINK * ev__max_links(&g->store, level);
                size_t n = live_neighbors(g, (uint32_t)slot, level, most, &direct, &met_dead, s);
                if (met_dead) ev__relink(g, &b->space, (uint32_t)slot, level, s->slots, direct, n, s);
            }
        }
}

/* A node's new neighbors do not know of it yet: let at least the nearest link back, or what lies apart is hard to
 * find. */
static bool link_nearest_back(ev__graph *g, const ev__space *space, ev__scratch *s) {
    ev__store *store = &g->store;
    ev__builder b = {.g = g, .space = *space};
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        if (ev__is_to_stop_at(slot)) return false;
        if (ev__state(store, (uint32_t)slot) != EV_NODE) continue;
        uint32_t nearest = ev__links0(store, (uint32_t)slot)[0];
        if (nearest == EV_NONE) continue;
        const uint32_t *links = ev__links0(store, nearest);
        uint32_t i = 0;
        while (i < store->m0 && links[i] != EV_NONE && links[i] != slot) i++;
        if (i == store->m0 || links[i] != slot) ev__add_reverse_link(&b, nearest, (uint32_t)slot, 0, false, s);
    }
    return true;
}

static void choose_entry_point(ev__graph *g) {
    ev__store *store = &g->store;
    g->entry = EV_NONE;
    for (size_t slot = 0; slot < ev__slots(store); slot++)
        if (ev__state(store, (uint32_t)slot) == EV_NODE &&
            (g->entry == EV_NONE || ev__levels(store)[slot] > ev__levels(store)[g->entry]))
            g->entry = (uint32_t)slot;
}

static bool clean_all_duplicates(ev__store *store) {
    if (!store->columns.next_duplicate.count) return true;
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        if (ev__is_to_stop_at(slot)) return false;
        if (ev__is_node(store, (uint32_t)slot)) clean_duplicates(store, (uint32_t)slot);
    }
    return true;
}

static void free_dead(ev__store *store) {
    for (size_t slot = ev__slots(store); slot-- > 0;)
        if (ev__state(store, (uint32_t)slot) == EV_DEAD_NODE) {
            ev__slot_free(store, (uint32_t)slot);
            store->dead--;
        }
}

/* When it is stopped, the dead route on, and who leads around them already does so. */
int ev__consolidate_deletes(ev__graph *g, int32_t threads) {
    ev__store *store = &g->store;
    if (!store->dead) return EV_OK;
    enum { MOST = 64 };
    ev__scratch *scratches[MOST];
    int workers = 0, rc = EV_OK;
    if (threads < 1) threads = ev__cores();
    while (workers < threads && workers < MOST && rc == EV_OK) {
        rc = ev__scratch_borrow(g, &scratches[workers]);
        if (rc == EV_OK) rc = ev__scratch_fit(g, scratches[workers++], 1, 1, false);
    }
    if (rc == EV_OK) {
        consolidation b = {
            g, ev__build_space(store, NULL, NULL), {.total = (int64_t)ev__slots(store), .run = 256}, scratches};
        if (!clean_all_duplicates(store)) rc = ev__stopped();
        if (rc == EV_OK) {
            ev__parallel(workers, relink_around_dead, &b);
            if (b.work.stopped || !link_nearest_back(g, &b.space, scratches[0])) rc = ev__stopped();
        }
        if (rc == EV_OK) free_dead(store);
        if (g->entry != EV_NONE && ev__state(store, g->entry) != EV_NODE) choose_entry_point(g);
        store->version++;
        g->unrepaired += store->live; /* so it is repaired next */
    }
    for (int i = 0; i < workers; i++) ev__scratch_return(g, scratches[i]);
    return rc;
}

/* ---- reaching everything --------------------------------------------------------------------- */

bool ev__reach(const ev__graph *g, uint32_t from, uint64_t *reached, uint32_t *stack) {
    size_t waiting = 0;
    if (from == EV_NONE || ev__bit(reached, from)) return true;
    ev__bit_set(reached, from);
    stack[waiting++] = from;
    for (size_t round = 0; waiting; round++) {
        if (ev__is_to_stop_at(round)) return false;
        const uint32_t *links = ev__links0(&g->store, stack[--waiting]);
        for (uint32_t i = 0; i < g->store.m0 && links[i] != EV_NONE; i++)
            if (!ev__bit(reached, links[i])) {
                ev__bit_set(reached, links[i]);
                stack[waiting++] = links[i];
            }
    }
    return true;
}

/* The nearest place, in steps along links from the found nodes, where a list has room; NULL when none of `most` nodes,
 * at most EV_BATCH, has. */
static uint32_t *free_link_near(const ev__graph *g, size_t most, ev__scratch *s) {
    const ev__store *store = &g->store;
    size_t queued = 0;
    ev__forget_visited(s);
    for (size_t i = 0; i < s->candidates.count && queued < most; i++) {
        s->slots[queued++] = s->candidates.at[i].slot;
        ev__visit(&s->visited, s->candidates.at[i].slot);
    }
    for (size_t head = 0; head < queued; head++) {
        uint32_t *links = ev__links0(store, s->slots[head]), i = 0;
        for (; i < store->m0 && links[i] != EV_NONE; i++)
            if (queued < most && ev__visit(&s->visited, links[i])) s->slots[queued++] = links[i];
        if (i < store->m0) return links + i;
    }
    return NULL;
}

/* Put `slot`, to which none of `most` nodes about the found ones links, into a list near it: where there is room, else
 * in place of a link that its target can spare. */
static void attach(ev__graph *g, uint32_t slot, size_t most, const uint32_t *in_degree, const ev__gate *gate,
                   ev__scratch *s) {
    ev__store *store = &g->store;
    uint32_t *room = free_link_near(g, most, s);
    for (size_t i = 0; i < s->candidates.count && !room; i++) {
        uint32_t *links = ev__links0(store, s->candidates.at[i].slot);
        for (uint32_t j = store->m0; j-- > 0 && !room;) /* the furthest first */
            if (in_degree[links[j]] > 2) room = links + j;
    }
    if (!room) room = ev__links0(store, s->candidates.at[0].slot) + store->m0 - 1;
    if (gate) gate->take(gate->arg);
    *room = slot;
    if (gate) gate->give_back(gate->arg);
}

static void count_links(const ev__graph *g, uint32_t *in_degree) {
    const ev__store *store = &g->store;
    memset(in_degree, 0, ev__slots(store) * sizeof *in_degree);
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        if (ev__state(store, (uint32_t)slot) != EV_NODE && ev__state(store, (uint32_t)slot) != EV_DEAD_NODE) continue;
        const uint32_t *links = ev__links0(store, (uint32_t)slot);
        for (uint32_t i = 0; i < store->m0 && links[i] != EV_NONE; i++) in_degree[links[i]]++;
    }
}

/* One pass; returns how many nodes had to be attached. */
static size_t reconnect_once(ev__graph *g, uint64_t *reached, uint32_t *stack, uint32_t *in_degree,
                             const ev__gate *gate, ev__scratch *s) {
    ev__store *store = &g->store;
    ev__quantizer *q = &store->quantizer;
    static const ev__mask everything = {false, NULL}, living = {true, NULL};
    ev__space space = ev__build_space(store, NULL, NULL);
    size_t slots = ev__slots(store), attached = 0;
    memset(reached, 0, (slots + 63) / 64 * sizeof *reached);
    if (!ev__reach(g, g->entry, reached, stack)) return attached;
    for (size_t slot = 0; slot < slots && !ev__is_to_stop_at(slot); slot++) {
        if (ev__state(store, (uint32_t)slot) != EV_NODE && ev__state(store, (uint32_t)slot) != EV_DEAD_NODE) continue;
        /* also a dead node, if living duplicates belong to it */
        if (ev__bit(reached, (uint32_t)slot) || !ev__node_ok(store, &living, (uint32_t)slot)) continue;
        if (attached++ == 0) count_links(g, in_degree);
        ev__query query;
        float distance;
        ev__query_from_slot(q, &space, (uint32_t)slot, &query, s->query_a);
        uint32_t start = ev__search_upper_layers(g, &space, &query, 0, &distance, s);
        if (!ev__bit(reached, start)) { /* upper levels lead into the lost part: start where all is reachable */
            start = g->entry;
            ev__approx_distances(q, &space, &query, &start, 1, &distance, &s->work);
        }
        ev__search_layer(g, &space, &query, 0, start, distance, (size_t)g->ef_construction, &everything, 0, s);
        attach(g, (uint32_t)slot, EV_BATCH, in_degree, gate, s);
        in_degree[slot]++;
        if (!ev__reach(g, (uint32_t)slot, reached, stack) || ev__is_to_stop()) break;
    }
    return attached;
}

/* ---- finding everything ---------------------------------------------------------------------- */

enum {
    LOOK_EF = 10, /* what is found with so few is found with more */
    LOOK_LINKS = 4,
    LOOK_FIRST = 8 /* of those looked for, one in so many tells whether the others are worth it */
};

/* One node in five, and one of each cluster: the least of its neighborhood, by numbers that differ from time to time.
 */
static bool is_sampled(const ev__graph *g, uint32_t slot, uint64_t salt) {
    const uint32_t *links = ev__links0(&g->store, slot);
    uint64_t own = ev__mix(salt ^ slot);
    for (uint32_t i = 0; i < LOOK_LINKS && i < g->store.m0 && links[i] != EV_NONE; i++)
        if (ev__mix(salt ^ links[i]) < own) return false;
    return true;
}

/* Is it in the candidates, or linked to from there? */
static bool is_found(const ev__graph *g, uint32_t slot, const ev__scratch *s) {
    for (size_t i = 0; i < s->candidates.count; i++) {
        const uint32_t *links = ev__links0(&g->store, s->candidates.at[i].slot);
        if (s->candidates.at[i].slot == slot) return true;
        for (uint32_t j = 0; j < g->store.m0 && links[j] != EV_NONE; j++)
            if (links[j] == slot) return true;
    }
    return false;
}

/* The node that a search for `slot` misses though it should not: itself, in a cluster that the walk did not find. Under
 * ip its best neighbor, where all that was found is not half as good. EV_NONE when all is well. s->candidates: what was
 * found. */
static uint32_t missed(ev__graph *g, const ev__space *space, uint32_t slot, ev__scratch *s) {
    ev__quantizer *q = &g->store.quantizer;
    static const ev__mask everything = {false, NULL};
    ev__query query;
    float distance;
    ev__query_from_slot(q, space, slot, &query, s->query_a);
    uint32_t start = ev__search_upper_layers(g, space, &query, 0, &distance, s);
    ev__search_layer(g, space, &query, 0, start, distance, LOOK_EF, &everything, 0, s);
    if (is_found(g, slot, s)) return EV_NONE;
    ev__candidate near =
        s->candidates
            .at[s->candidates.count > 3 ? 3 : s->candidates.count - 1]; /* one or two may be strays of the cluster */
    if (!q->metric->product)
        return ev__is_apart(g, near.slot, query.offset + near.distance, g->store.m0, 1, s) ? slot : EV_NONE;
    uint32_t best = ev__links0(&g->store, slot)[0];
    if (best == EV_NONE || is_found(g, best, s)) return EV_NONE;
    ev__approx_distances(q, space, &query, &best, 1, &distance, &s->work);
    return query.offset + s->candidates.at[0].distance > (query.offset + distance) / 2 ? best : EV_NONE;
}

/* One pass; returns how many nodes had to be attached. */
static size_t refind_once(ev__graph *g, uint32_t *in_degree, const ev__gate *gate, ev__scratch *s) {
    ev__store *store = &g->store;
    ev__space space = ev__code_space(store);
    uint64_t salt = ev__mix(store->seed ^ (0x0F14D00000000u + (uint64_t)store->live));
    size_t slots = ev__slots(store), attached = 0;
    for (int all = 0; all < 2 && (!all || attached); all++)
        for (size_t slot = 0; slot < slots && !ev__is_to_stop_at(slot); slot++) {
            bool first = ev__mix(~salt ^ slot) % LOOK_FIRST == 0;
            if (first == (all == 1) || ev__state(store, (uint32_t)slot) != EV_NODE) continue;
            if (!is_sampled(g, (uint32_t)slot, salt)) continue;
            if (ev__is_to_stop()) return attached;
            uint32_t lost = missed(g, &space, (uint32_t)slot, s);
            if (lost == EV_NONE) continue;
            if (attached++ == 0) count_links(g, in_degree);
            attach(g, lost, s->candidates.count, in_degree, gate, s);
            in_degree[lost]++;
        }
    return attached;
}

int ev__connect_unreachable(ev__graph *g, const ev__gate *gate) {
    size_t slots = ev__slots(&g->store), words = (slots + 63) / 64;
    if (g->entry == EV_NONE) return EV_OK;
    uint64_t *reached = ev__alloc(words * sizeof *reached, EV_LINE);
    uint32_t *stack = ev__alloc(slots * sizeof *stack, EV_LINE),
             *in_degree = ev__alloc(slots * sizeof *in_degree, EV_LINE);
    ev__scratch *s = NULL;
    int rc = reached && stack && in_degree ? ev__scratch_borrow(g, &s) : EV_E_NOMEM;
    if (rc == EV_OK) rc = ev__scratch_fit(g, s, (size_t)g->ef_construction, 1, false);
    /* giving up a spare link can cut off another node, so look again; a few rounds settle it */
    for (int round = 0; rc == EV_OK && round < 8; round++) {
        bool settled = !reconnect_once(g, reached, stack, in_degree, gate, s) && !refind_once(g, in_degree, gate, s);
        if (ev__is_to_stop()) rc = ev__stopped();
        if (settled) break;
    }
    if (rc == EV_OK) g->unrepaired = 0;
    if (s) ev__scratch_return(g, s);
    ev__release(reached, words * sizeof *reached, EV_LINE);
    ev__release(stack, slots * sizeof *stack, EV_LINE);
    ev__release(in_degree, slots * sizeof *in_degree, EV_LINE);
    return rc;
}
