/* Mending the graph: leading links around removed nodes, and linking what the entry cannot reach. */
#include "internal.h"

/* ---- burying the dead ------------------------------------------------------------------------ */

enum { MOST_BEYOND = 2 }; /* candidates for a list of links, over its length; EV_BATCH holds as many */

/* Does the duplicate's vector equal the node's too? */
static void mark_twin(ev_index *ix, uint32_t node, uint32_t duplicate) {
    bool twin = ev__vector_same(ix, node, duplicate);
    ev__states(ix)[duplicate] = (uint8_t)(EV_DUPLICATE | (twin ? EV_TWIN : 0));
}

void ev__hang(ev_index *ix, uint32_t node, uint32_t duplicate) {
    mark_twin(ix, node, duplicate);
    ev__chain(ix)[duplicate] = ev__chain(ix)[node];
    ev__chain(ix)[node] = duplicate;
}

/* The vector and id of a duplicate become those of its dead node, which lives on; the duplicate's slot is free. */
static void take_over(ev_index *ix, uint32_t node, uint32_t duplicate) {
    ev__slot_copy(ix, duplicate, node);
    ev__idmap_put(&ix->idmap, ev__ids_of(ix), ev__ids_of(ix)[node], node);
    ev__states(ix)[node] = EV_NODE;
    ev__slot_free(ix, duplicate);
    if (ix->twins.room && ev__twins_get(ix, node) == EV_NONE) ev__twins_put(ix, node);
    ix->dead--;
}

/* Free the dead of a node's chain; a dead node is taken over by a living duplicate. */
static void clean_chain(ev_index *ix, uint32_t node) {
    uint32_t at = ev__chain(ix)[node];
    ev__chain(ix)[node] = EV_NONE;
    for (uint32_t next; at != EV_NONE; at = next) {
        next = ev__chain(ix)[at];
        if (ev__state(ix, at) == EV_DEAD_DUPLICATE) {
            ev__slot_free(ix, at);
            ix->dead--;
        } else if (ev__state(ix, node) == EV_DEAD_NODE) {
            take_over(ix, node, at);
        } else {
            ev__hang(ix, node, at);
        }
    }
}

/* The living nodes that the links of `slot` lead to, into s->slots: first the *direct ones, then, at most `most` in
 * all, those reached through any number of dead ones. */
static size_t living_beyond(const ev_index *ix, uint32_t slot, int level, size_t most, size_t *direct, bool *met_dead,
                            ev__scratch *s) {
    uint32_t dead[EV_BATCH];
    size_t living = 0, waiting = 0;
    ev__new_walk(s);
    ev__see(&s->marks, slot);
    *met_dead = false;
    for (uint32_t from = slot;; from = dead[--waiting]) {
        const uint32_t *links = ev__links(ix, from, level);
        for (uint32_t i = 0; i < ev__max_links(ix, level) && links[i] != EV_NONE; i++) {
            uint32_t to = links[i];
            if (!ev__see(&s->marks, to)) continue;
            if (ev__state(ix, to) != EV_DEAD_NODE) {
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
    ev_index *ix;
    ev__space space;
    ev__work work;
    ev__scratch **scratches;
} burial;

static void lead_around(void *arg, int worker) {
    burial *b = arg;
    ev_index *ix = b->ix;
    ev__scratch *s = b->scratches[worker];
    for (int64_t from, to; ev__work_next(&b->work, worker, &from, &to);)
        for (int64_t slot = from; slot < to; slot++) {
            if (ev__state(ix, (uint32_t)slot) != EV_NODE) continue;
            for (int level = 0; level <= ev__levels(ix)[slot]; level++) {
                bool met_dead;
                size_t direct;
                size_t most = MOST_BEYOND * ev__max_links(ix, level);
                size_t n = living_beyond(ix, (uint32_t)slot, level, most, &direct, &met_dead, s);
                if (met_dead) ev__relink(ix, &b->space, (uint32_t)slot, level, s->slots, direct, n, s);
            }
        }
}

/* A node's new neighbours do not know of it yet: let at least the nearest link back, or what lies apart is hard to
 * find. */
static void link_nearest_back(ev_index *ix, const ev__space *space, ev__scratch *s) {
    ev__builder b = {.ix = ix, .space = *space};
    for (size_t slot = 0; slot < ev__slots(ix); slot++) {
        if (ev__state(ix, (uint32_t)slot) != EV_NODE) continue;
        uint32_t nearest = ev__links0(ix, (uint32_t)slot)[0];
        if (nearest == EV_NONE) continue;
        const uint32_t *links = ev__links0(ix, nearest);
        uint32_t i = 0;
        while (i < ix->m0 && links[i] != EV_NONE && links[i] != slot) i++;
        if (i == ix->m0 || links[i] != slot) ev__link_back(&b, nearest, (uint32_t)slot, 0, false, s);
    }
}

static void elect_entry(ev_index *ix) {
    ix->entry = EV_NONE;
    for (size_t slot = 0; slot < ev__slots(ix); slot++)
        if (ev__state(ix, (uint32_t)slot) == EV_NODE &&
            (ix->entry == EV_NONE || ev__levels(ix)[slot] > ev__levels(ix)[ix->entry]))
            ix->entry = (uint32_t)slot;
}

int ev__bury(ev_index *ix, int32_t threads) {
    if (!ix->dead) return EV_OK;
    enum { MOST = 64 };
    ev__scratch *scratches[MOST];
    int workers = 0, rc = EV_OK;
    if (threads < 1) threads = ev__cores();
    while (workers < threads && workers < MOST && rc == EV_OK) {
        rc = ev__scratch_borrow(ix, &scratches[workers]);
        if (rc == EV_OK) rc = ev__scratch_fit(ix, scratches[workers++], 1, 1, false);
    }
    if (rc == EV_OK) {
        size_t slots = ev__slots(ix);
        if (ix->store.chain.count)
            for (size_t slot = 0; slot < slots; slot++) {
                unsigned state = ev__state(ix, (uint32_t)slot);
                if (state == EV_NODE || state == EV_DEAD_NODE) clean_chain(ix, (uint32_t)slot);
            }
        burial b = {ix, ev__build_space(ix, NULL, NULL), {.total = (int64_t)slots, .run = 256}, scratches};
        ev__parallel(workers, lead_around, &b);
        link_nearest_back(ix, &b.space, scratches[0]);
        for (size_t slot = slots; slot-- > 0;)
            if (ev__state(ix, (uint32_t)slot) == EV_DEAD_NODE) {
                ev__slot_free(ix, (uint32_t)slot);
                ix->dead--;
            }
        if (ix->entry != EV_NONE && ev__state(ix, ix->entry) != EV_NODE) elect_entry(ix);
        ix->version++;
        ix->unrepaired += ix->live; /* so it is mended next */
    }
    for (int i = 0; i < workers; i++) ev__scratch_return(ix, scratches[i]);
    return rc;
}

/* ---- reaching everything --------------------------------------------------------------------- */

static bool test(const uint64_t *bits, uint32_t i) { return bits[i >> 6] >> (i & 63) & 1; }
static void set(uint64_t *bits, uint32_t i) { bits[i >> 6] |= (uint64_t)1 << (i & 63); }

void ev__reach(const ev_index *ix, uint32_t from, uint64_t *reached, uint32_t *stack) {
    size_t waiting = 0;
    if (from == EV_NONE || test(reached, from)) return;
    set(reached, from);
    stack[waiting++] = from;
    while (waiting) {
        const uint32_t *links = ev__links0(ix, stack[--waiting]);
        for (uint32_t i = 0; i < ix->m0 && links[i] != EV_NONE; i++)
            if (!test(reached, links[i])) {
                set(reached, links[i]);
                stack[waiting++] = links[i];
            }
    }
}

/* The nearest place, in steps along links from the found nodes, where a list has room; NULL when none of `most` nodes,
 * at most EV_BATCH, has. */
static uint32_t *room_near(const ev_index *ix, size_t most, ev__scratch *s) {
    size_t queued = 0;
    ev__new_walk(s);
    for (size_t i = 0; i < s->pool.count && queued < most; i++) {
        s->slots[queued++] = s->pool.at[i].slot;
        ev__see(&s->marks, s->pool.at[i].slot);
    }
    for (size_t head = 0; head < queued; head++) {
        uint32_t *links = ev__links0(ix, s->slots[head]), i = 0;
        for (; i < ix->m0 && links[i] != EV_NONE; i++)
            if (queued < most && ev__see(&s->marks, links[i])) s->slots[queued++] = links[i];
        if (i < ix->m0) return links + i;
    }
    return NULL;
}

/* Put `slot`, to which none of `most` nodes about the found ones links, into a list near it: where there is room, else
 * in place of a link that its target can spare. */
static void adopt(ev_index *ix, uint32_t slot, size_t most, const uint32_t *in_degree, ev__scratch *s) {
    uint32_t *room = room_near(ix, most, s);
    for (size_t i = 0; i < s->pool.count && !room; i++) {
        uint32_t *links = ev__links0(ix, s->pool.at[i].slot);
        for (uint32_t j = ix->m0; j-- > 0 && !room;) /* the furthest first */
            if (in_degree[links[j]] > 2) room = links + j;
    }
    *(room ? room : ev__links0(ix, s->pool.at[0].slot) + ix->m0 - 1) = slot;
}

static void count_links(const ev_index *ix, uint32_t *in_degree) {
    memset(in_degree, 0, ev__slots(ix) * sizeof *in_degree);
    for (size_t slot = 0; slot < ev__slots(ix); slot++) {
        if (ev__state(ix, (uint32_t)slot) != EV_NODE && ev__state(ix, (uint32_t)slot) != EV_DEAD_NODE) continue;
        const uint32_t *links = ev__links0(ix, (uint32_t)slot);
        for (uint32_t i = 0; i < ix->m0 && links[i] != EV_NONE; i++) in_degree[links[i]]++;
    }
}

/* One pass; returns how many nodes had to be adopted. */
static size_t reconnect_once(ev_index *ix, uint64_t *reached, uint32_t *stack, uint32_t *in_degree, ev__scratch *s) {
    static const ev__mask everything = {false, NULL}, living = {true, NULL};
    ev__space space = ev__build_space(ix, NULL, NULL);
    size_t slots = ev__slots(ix), adopted = 0;
    memset(reached, 0, (slots + 63) / 64 * sizeof *reached);
    ev__reach(ix, ix->entry, reached, stack);
    for (size_t slot = 0; slot < slots; slot++) {
        if (ev__state(ix, (uint32_t)slot) != EV_NODE && ev__state(ix, (uint32_t)slot) != EV_DEAD_NODE) continue;
        /* also a dead node, if living duplicates hang on it */
        if (test(reached, (uint32_t)slot) || !ev__node_ok(ix, &living, (uint32_t)slot)) continue;
        if (adopted++ == 0) count_links(ix, in_degree);
        ev__probe probe;
        float key;
        ev__probe_slot(ix, &space, (uint32_t)slot, &probe, s->probe_a);
        uint32_t start = ev__descend(ix, &space, &probe, 0, &key, s);
        if (!test(reached, start)) { /* upper levels lead into the lost part: start where all is reachable */
            start = ix->entry;
            ev__keys(ix, &space, &probe, &start, 1, &key, s);
        }
        ev__walk(ix, &space, &probe, 0, start, key, (size_t)ix->p.ef_construction, &everything, 0, s);
        adopt(ix, (uint32_t)slot, EV_BATCH, in_degree, s);
        in_degree[slot]++;
        ev__reach(ix, (uint32_t)slot, reached, stack);
    }
    return adopted;
}

/* ---- finding everything ---------------------------------------------------------------------- */

enum {
    LOOK_EF = 10, /* what is found with so few is found with more */
    LOOK_LINKS = 4,
    LOOK_FIRST = 8 /* of those looked for, one in so many tells whether the others are worth it */
};

/* One node in five, and one of each cluster: the least of its neighbourhood, by numbers that differ from time to time.
 */
static bool stands_for_others(const ev_index *ix, uint32_t slot, uint64_t salt) {
    const uint32_t *links = ev__links0(ix, slot);
    uint64_t own = ev__mix(salt ^ slot);
    for (uint32_t i = 0; i < LOOK_LINKS && i < ix->m0 && links[i] != EV_NONE; i++)
        if (ev__mix(salt ^ links[i]) < own) return false;
    return true;
}

/* Is it in the pool, or linked to from there? */
static bool is_found(const ev_index *ix, uint32_t slot, const ev__scratch *s) {
    for (size_t i = 0; i < s->pool.count; i++) {
        const uint32_t *links = ev__links0(ix, s->pool.at[i].slot);
        if (s->pool.at[i].slot == slot) return true;
        for (uint32_t j = 0; j < ix->m0 && links[j] != EV_NONE; j++)
            if (links[j] == slot) return true;
    }
    return false;
}

/* The node that a search for `slot` misses though it should not: itself, in a cluster that the walk did not find. Under
 * ip its best neighbour, where all that was found is not half as good. EV_NONE when all is well. s->pool: what was
 * found. */
static uint32_t missed(ev_index *ix, const ev__space *space, uint32_t slot, ev__scratch *s) {
    static const ev__mask everything = {false, NULL};
    ev__probe probe;
    float key;
    ev__probe_slot(ix, space, slot, &probe, s->probe_a);
    uint32_t start = ev__descend(ix, space, &probe, 0, &key, s);
    ev__walk(ix, space, &probe, 0, start, key, LOOK_EF, &everything, 0, s);
    if (is_found(ix, slot, s)) return EV_NONE;
    ev__hit near = s->pool.at[s->pool.count > 3 ? 3 : s->pool.count - 1]; /* one or two may be strays of the cluster */
    if (ix->p.metric != EV_METRIC_IP)
        return ev__apart(ix, near.slot, probe.offset + near.key, ix->m0, 1, s) ? slot : EV_NONE;
    uint32_t best = ev__links0(ix, slot)[0];
    if (best == EV_NONE || is_found(ix, best, s)) return EV_NONE;
    ev__keys(ix, space, &probe, &best, 1, &key, s);
    return probe.offset + s->pool.at[0].key > (probe.offset + key) / 2 ? best : EV_NONE;
}

/* One pass; returns how many nodes had to be adopted. */
static size_t refind_once(ev_index *ix, uint32_t *in_degree, ev__scratch *s) {
    ev__space space = ev__code_space(ix);
    uint64_t salt = ev__mix(ix->p.seed ^ (0x0F14D00000000u + (uint64_t)ix->live));
    size_t slots = ev__slots(ix), adopted = 0;
    for (int all = 0; all < 2 && (!all || adopted); all++)
        for (size_t slot = 0; slot < slots; slot++) {
            bool first = ev__mix(~salt ^ slot) % LOOK_FIRST == 0;
            if (first == (all == 1) || ev__state(ix, (uint32_t)slot) != EV_NODE) continue;
            if (!stands_for_others(ix, (uint32_t)slot, salt)) continue;
            uint32_t lost = missed(ix, &space, (uint32_t)slot, s);
            if (lost == EV_NONE) continue;
            if (adopted++ == 0) count_links(ix, in_degree);
            adopt(ix, lost, s->pool.count, in_degree, s);
            in_degree[lost]++;
        }
    return adopted;
}

int ev__reconnect(ev_index *ix) {
    size_t slots = ev__slots(ix), words = (slots + 63) / 64;
    if (ix->entry == EV_NONE) return EV_OK;
    uint64_t *reached = ev__alloc(words * sizeof *reached, EV_LINE);
    uint32_t *stack = ev__alloc(slots * sizeof *stack, EV_LINE),
             *in_degree = ev__alloc(slots * sizeof *in_degree, EV_LINE);
    ev__scratch *s = NULL;
    int rc = reached && stack && in_degree ? ev__scratch_borrow(ix, &s) : EV_E_NOMEM;
    if (rc == EV_OK) rc = ev__scratch_fit(ix, s, (size_t)ix->p.ef_construction, 1, false);
    /* giving up a spare link can cut off another node, so look again; a few rounds settle it */
    for (int round = 0; rc == EV_OK && round < 8; round++)
        if (!reconnect_once(ix, reached, stack, in_degree, s) && !refind_once(ix, in_degree, s)) break;
    if (rc == EV_OK) ix->unrepaired = 0;
    if (s) ev__scratch_return(ix, s);
    ev__release(reached, words * sizeof *reached, EV_LINE);
    ev__release(stack, slots * sizeof *stack, EV_LINE);
    ev__release(in_degree, slots * sizeof *in_degree, EV_LINE);
    return rc;
}
