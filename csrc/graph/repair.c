/* Leading links around removed nodes, and freeing their slots. */
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

enum { STEP = 512 }; /* slots between which searches are let in */

typedef struct {
    ev__graph *g;
    ev__space space;
    ev__work work;
    int64_t offset; /* of the slots in work */
    ev__scratch **scratches;
    int workers;
} consolidation;

static void relink_around_dead(void *arg, int worker) {
    consolidation *b = arg;
    ev__graph *g = b->g;
    ev__scratch *s = b->scratches[worker];
    for (int64_t from, to; ev__work_next(&b->work, worker, &from, &to);)
        for (int64_t slot = b->offset + from; slot < b->offset + to; slot++) {
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

static void let_searches_in(const ev__gate *gate) {
    if (!gate) return;
    gate->give_back(gate->arg);
    gate->take(gate->arg);
}

/* Between two steps nodes lead around the dead or to them: a walk finds the living either way. */
static bool relink_all(consolidation *b, const ev__gate *gate) {
    int64_t slots = (int64_t)ev__slots(&b->g->store);
    for (b->offset = 0; b->offset < slots; b->offset += STEP) {
        b->work = (ev__work){.total = slots - b->offset < STEP ? slots - b->offset : STEP, .run = 64};
        ev__parallel(b->workers, relink_around_dead, b);
        if (b->work.stopped) return false;
        let_searches_in(gate);
    }
    return true;
}

/* A node's new neighbors do not know of it yet: let at least the nearest link back, or what lies apart is hard to
 * find. */
static bool link_nearest_back(ev__graph *g, const ev__space *space, const ev__gate *gate, ev__scratch *s) {
    ev__store *store = &g->store;
    ev__builder b = {.g = g, .space = *space};
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        if (ev__is_to_stop_at(slot)) return false;
        if (slot % STEP == 0) let_searches_in(gate);
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
static int consolidate(consolidation *b, const ev__gate *gate) {
    ev__graph *g = b->g;
    ev__store *store = &g->store;
    bool whole = clean_all_duplicates(store);
    store->version++; /* vectors may lie in other slots, which filters have bits for */
    whole = whole && relink_all(b, gate) && link_nearest_back(g, &b->space, gate, b->scratches[0]);
    if (whole) free_dead(store);
    if (g->entry != EV_NONE && ev__state(store, g->entry) != EV_NODE) choose_entry_point(g);
    store->version++;
    g->unrepaired += store->live; /* so it is repaired next */
    return whole ? EV_OK : ev__stopped();
}

int ev__consolidate_deletes(ev__graph *g, int32_t threads, const ev__gate *gate) {
    ev__store *store = &g->store;
    if (!store->dead) return EV_OK;
    ev__mending_drop(g); /* slots become free, and links are chosen anew */
    ev__twin_drop(store);
    enum { MOST = 64 };
    ev__scratch *scratches[MOST];
    consolidation b = {.g = g, .space = ev__build_space(store, NULL, NULL), .scratches = scratches};
    int rc = EV_OK;
    if (threads < 1) threads = ev__cores();
    while (b.workers < threads && b.workers < MOST && rc == EV_OK) {
        rc = ev__scratch_borrow(g, &scratches[b.workers]);
        if (rc == EV_OK) rc = ev__scratch_fit(g, scratches[b.workers++], 1, 1, false);
    }
    if (rc == EV_OK) rc = consolidate(&b, gate);
    for (int i = 0; i < b.workers; i++) ev__scratch_return(g, scratches[i]);
    return rc;
}
