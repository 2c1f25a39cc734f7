/* Leading links around removed nodes, and freeing their slots.
 *
 * A pass marks the nodes that were removed, gives all others links that lead around those, and frees them when nothing
 * links to them any more. It can be left after any step and go on when the graph has changed, so that additions and
 * removals of single rows share it out among them: what is linked meanwhile keeps off the marked nodes, and what is
 * removed meanwhile is left to the next pass. Searches walk through the marked as before. */
#include "edgevec_test.h"
#include "graph/graph.h"

enum {
    FEW = 32,     /* removed nodes are not worth a pass */
    ADDING = 8,   /* one in so many is worth it where rows are added, which take the room; */
    REMOVING = 3, /* where they are only removed, a pass is all the work: as much for each as to add one */
    SMALL = 512,  /* vectors: a pass over so few takes no longer than an addition or two */
    WORTH = 128   /* of an index with so many of them for each row, a pass is made at once */
};

enum { MARK, RELINK, LINK_BACK, UNLINK, FREE, PHASES };
/* Slots of each phase that one row stands for: about as much work as to link it. A pass is over when a twentieth of
 * rows was added, and not far more than an eighth of the slots is ever dead. Where links are chosen or lead back, nodes
 * count alone: most slots may be free ones. */
static const size_t IN_TURN[PHASES] = {4096, 24, 512, 2048, 2048};
enum {
    PASSED_OVER = 4096, /* slots at most, for so many nodes */
    AT_ONCE = 16        /* rows: so much between which searches are let in, when many threads do it */
};

/* ---- duplicates ------------------------------------------------------------------------------ */

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

/* ---- a pass ---------------------------------------------------------------------------------- */

typedef struct {
    ev__graph *g;
    ev__space space;
    ev__work work;
    ev__scratch **scratches;
    int workers;
    const ev__gate *gate;
} consolidation;

#ifdef EDGEVEC_TESTING
static int64_t led_around; /* atomic */
int64_t ev_relinked_around(void) {
    int64_t n = ev__add64(&led_around, 0);
    ev__add64(&led_around, -n);
    return n;
}
static void note_relinked(int64_t n) { ev__add64(&led_around, n); }
#else
static void note_relinked(int64_t n) { (void)n; }
#endif

/* Of the nodes of a step: the slot, how many links were chosen or EV_NONE, and these. */
enum { SLOT, COUNT, LINKS };
static uint32_t *chosen_of(const ev__graph *g, size_t i) {
    return g->consolidation->chosen + i * (LINKS + (size_t)g->store.m0);
}
static size_t chosen_bytes(const ev__graph *g, size_t nodes) {
    return nodes * (LINKS + (size_t)g->store.m0) * sizeof(uint32_t);
}

static void choose(consolidation *b, uint32_t *chosen, ev__scratch *s) {
    const ev__graph *g = b->g;
    uint32_t n = chosen[COUNT] = ev__choose_around(g, &b->space, chosen[SLOT], s);
    for (uint32_t i = 0; n != EV_NONE && i < g->store.m0; i++)
        chosen[LINKS + i] = i < n ? s->selection[i].slot : EV_NONE;
}

static void choose_links(void *arg, int worker) {
    consolidation *b = arg;
    for (int64_t from, to; ev__work_next(&b->work, worker, &from, &to);)
        for (int64_t i = from; i < to; i++) choose(b, chosen_of(b->g, (size_t)i), b->scratches[worker]);
}

/* Above level 0 links are chosen among what marked nodes lead to alone, which no step changes. */
static void lead_around(consolidation *b, const uint32_t *chosen) {
    const ev__graph *g = b->g;
    uint32_t slot = chosen[SLOT];
    if (chosen[COUNT] != EV_NONE) {
        uint32_t *links = ev__links0(&g->store, slot);
        for (uint32_t i = 0; i < g->store.m0; i++) ev__store32(links + i, chosen[LINKS + i]);
        ev__links0_changed(&g->store, slot);
    }
    for (int level = 1; level <= ev__levels(&g->store)[slot]; level++)
        ev__relink_around_marked(g, &b->space, slot, level, b->scratches[0]);
}

/* Links are chosen by the lists as they were before the step, while searches go on, and written after it: then it does
 * not matter which thread chose first. */
static bool relink_to(consolidation *b, size_t to) {
    const ev__graph *g = b->g;
    size_t n = 0;
    for (size_t slot = g->consolidation->at; slot < to; slot++)
        if (ev__is_node(&g->store, (uint32_t)slot) && !ev__is_marked(g, (uint32_t)slot))
            chosen_of(g, n++)[SLOT] = (uint32_t)slot;
    b->work = (ev__work){.total = (int64_t)n, .run = 32};
    if (b->gate) b->gate->give_back(b->gate->arg);
    ev__parallel(b->workers, choose_links, b);
    if (b->gate) b->gate->take(b->gate->arg);
    note_relinked(b->work.total);
    if (b->work.stopped) return false;
    for (size_t i = 0; i < n; i++) lead_around(b, chosen_of(g, i));
    return true;
}

static void mark(ev__graph *g, uint32_t slot) {
    ev__store *store = &g->store;
    if (store->columns.next_duplicate.count && ev__is_node(store, slot)) clean_duplicates(store, slot);
    if (ev__state(store, slot) == EV_DEAD_NODE) ev__bit_set(g->consolidation->marked, slot);
}

static void link_back(const consolidation *b, uint32_t slot) {
    ev__builder builder = {.g = b->g, .space = b->space};
    if (ev__state(&b->g->store, slot) == EV_NODE) ev__link_nearest_back(&builder, slot, b->scratches[0]);
}

static void free_marked(ev__graph *g, uint32_t slot) {
    if (!ev__is_marked(g, slot)) return;
    ev__bit_clear(g->consolidation->marked, slot);
    ev__slot_free(&g->store, slot);
    g->store.dead--;
}

/* Where so many turns of this phase end. */
static size_t end_of_turns(const ev__graph *g, size_t turns) {
    const struct ev__consolidation *c = g->consolidation;
    bool nodes_count = c->phase == RELINK || c->phase == LINK_BACK;
    size_t left = turns * IN_TURN[c->phase], most = nodes_count ? turns * PASSED_OVER : left;
    size_t to = c->at, end = c->end - to < most ? c->end : to + most;
    if (!nodes_count) return end;
    while (to < end && left) left -= ev__is_node(&g->store, (uint32_t)to++);
    return to;
}

/* Of this phase the slots up to there; false: stopped. */
static bool step_to(consolidation *b, size_t to) {
    ev__graph *g = b->g;
    struct ev__consolidation *c = g->consolidation;
    if (c->phase == RELINK) return relink_to(b, to);
    if (c->phase < UNLINK && ev__is_to_stop()) return false;
    for (size_t i = c->at; i < to; i++) {
        if (c->phase == MARK) mark(g, (uint32_t)i);
        if (c->phase == LINK_BACK) link_back(b, (uint32_t)i);
        if (c->phase == UNLINK && ev__is_marked(g, (uint32_t)i)) ev__links_clear(&g->store, (uint32_t)i);
        if (c->phase == FREE) free_marked(g, (uint32_t)(c->end - 1 - i)); /* the lowest is taken first */
    }
    g->store.version++; /* vectors may lie in other slots, which filters have bits for */
    return true;
}

static void choose_entry_point(ev__graph *g) {
    ev__store *store = &g->store;
    g->entry = EV_NONE;
    for (size_t i = 0; i < ev__slots(store); i++) {
        uint32_t slot = (uint32_t)i;
        if (!ev__is_node(store, slot) || ev__is_marked(g, slot)) continue;
        if (g->entry == EV_NONE || ev__levels(store)[slot] > ev__levels(store)[g->entry]) g->entry = slot;
    }
}

static void begin_next_phase(ev__graph *g) {
    struct ev__consolidation *c = g->consolidation;
    c->at = 0;
    /* a node that was linked while others were marked may lead to those */
    c->end = ++c->phase == RELINK ? ev__slots(&g->store) : c->slots;
    if (c->phase == UNLINK && g->entry != EV_NONE && ev__is_marked(g, g->entry)) choose_entry_point(g);
    if (c->phase < PHASES) return;
    ev__consolidation_drop(g);
    g->unrepaired += g->store.live; /* so it is repaired next */
}

static void let_searches_in(const ev__gate *gate) {
    if (!gate) return;
    gate->give_back(gate->arg);
    gate->take(gate->arg);
}

/* So many turns. Between two of them nodes lead around the marked or to them: a walk finds the living either way. When
 * it is stopped, the dead route on, and who leads around them already does so. */
static bool go_on(consolidation *b, int64_t turns, size_t size) {
    ev__graph *g = b->g;
    while (g->consolidation && turns-- > 0) {
        struct ev__consolidation *c = g->consolidation;
        size_t to = end_of_turns(g, size);
        if (!step_to(b, to)) return false;
        c->at = to;
        if (to == c->end) begin_next_phase(g);
        let_searches_in(b->gate);
    }
    return true;
}

/* size: of its turns. */
static int begin(ev__graph *g, size_t size) {
    size_t slots = ev__slots(&g->store), head = ev__round_up(sizeof *g->consolidation, EV_LINE);
    size_t marks = ev__bit_words(slots) * sizeof(uint64_t);
    size_t bytes = head + marks + chosen_bytes(g, size * IN_TURN[RELINK]);
    char *memory = ev__alloc_zero(bytes, EV_LINE);
    if (!memory) return ev__fail(EV_E_NOMEM, "marks of %zu slots", slots);
    ev__mending_drop(g); /* slots become free, and links are chosen anew */
    g->consolidation = (void *)memory;
    *g->consolidation = (struct ev__consolidation){.slots = slots,
                                                   .end = slots,
                                                   .marked = (void *)(memory + head),
                                                   .chosen = (void *)(memory + head + marks),
                                                   .bytes = bytes};
    return EV_OK;
}

void ev__consolidation_drop(ev__graph *g) {
    if (g->consolidation) ev__release(g->consolidation, g->consolidation->bytes, EV_LINE);
    g->consolidation = NULL;
}

size_t ev__consolidation_bytes(const ev__graph *g) { return g->consolidation ? g->consolidation->bytes : 0; }

static int borrow_scratches(ev__graph *g, consolidation *b, int threads) {
    int rc = EV_OK;
    while (b->workers < threads && rc == EV_OK) {
        rc = ev__scratch_borrow(g, &b->scratches[b->workers]);
        if (rc == EV_OK) rc = ev__scratch_fit(g, b->scratches[b->workers++], g->store.m0, 1, false);
    }
    if (rc == EV_E_MEMORY_LIMIT && b->workers > 1) { /* there is room for fewer; the last may not be fit */
        ev__scratch_return(g, b->scratches[--b->workers]);
        rc = EV_OK;
    }
    return rc;
}

static int run(ev__graph *g, int threads, int64_t turns, size_t size, const ev__gate *gate) {
    enum { MOST = 64 };
    ev__scratch *scratches[MOST];
    consolidation b = {.g = g, .space = ev__build_space(&g->store, NULL, NULL), .scratches = scratches, .gate = gate};
    int rc = borrow_scratches(g, &b, threads < MOST ? threads : MOST);
    if (rc == EV_OK && !g->consolidation) rc = begin(g, size);
    if (rc == EV_OK && !go_on(&b, turns, size)) rc = ev__stopped();
    for (int i = 0; i < b.workers; i++) ev__scratch_return(g, scratches[i]);
    return rc;
}

int ev__consolidate_deletes(ev__graph *g, int32_t threads, const ev__gate *gate) {
    ev__store *store = &g->store;
    ev__consolidation_drop(g);
    if (!store->dead) return EV_OK;
    ev__shadow_drop(store);
    int rc = run(g, threads < 1 ? ev__cores() : threads, INT64_MAX, AT_ONCE, gate);
    ev__consolidation_drop(g);
    return rc;
}

static int64_t held(const ev__store *store) { return store->live + store->dead; }

bool ev__consolidation_due(const ev__graph *g, bool adding) {
    const ev__store *store = &g->store;
    return g->consolidation || (store->dead > FEW && store->dead > held(store) / (adding ? ADDING : REMOVING));
}

bool ev__consolidates_at_once(const ev__graph *g, int64_t rows) {
    return held(&g->store) <= SMALL || rows >= held(&g->store) / WORTH;
}

int ev__consolidate_step(ev__graph *g, int64_t rows, const ev__gate *gate) {
    return g->store.shadow ? EV_OK : run(g, 1, rows, 1, gate);
}
