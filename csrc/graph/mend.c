/* Mending the graph: linking what the entry cannot reach, and what searches do not find.
 *
 * A pass goes through all nodes. It can be left after any step and go on when the graph has changed, so that additions
 * of single rows share it out among them. What it has noted of a node (that it is reached, how many links lead to it)
 * may be out of date then: what was reached may have been cut off, as by any addition, and waits for the next pass; and
 * what a search finds from the entry is reached, whatever was noted. Slots made since it began are left to the next. */
#include "edgevec_test.h"
#include "graph/graph.h"

enum {
    LOOK_EF = 10, /* what is found with so few is found with more */
    LOOK_LINKS = 4,
    LOOK_FIRST = 8, /* of those looked for, one in so many tells whether the others are worth it */
    MOST_ROUNDS = 8 /* giving up a spare link can cut off another node, so look again; a few rounds settle it */
};

/* Work is counted in lists of links read; the rest by the time that it takes, against that. */
enum {
    WORK_PER_ROW = 4096,   /* half a millisecond to one: a pass is over when far less than a 32nd of rows was added */
    RUN = 1024,            /* slots, or lists of links, between two questions whether to stop */
    WORK_OF_SLOTS = 64,    /* RUN of which only the state is looked at */
    WORK_OF_LOOK = 128,    /* a walk with LOOK_EF */
    WORK_OF_ATTACHING = 8, /* times ef_construction */
    ZEROED_AT_ONCE = 1 << 16,
    SMALL = 512 /* slots: a pass over so few takes no longer than an addition or two, and is not shared out */
};

/* LOST: nodes that were not reached. FIRST, OTHERS: those that a search does not find, among a few and then among all.
 */
enum { REACH, LOST, FIRST, OTHERS };

struct ev__mending {
    size_t slots; /* that there were when it began */
    int phase, round;
    size_t at;       /* the slot to look at next */
    size_t attached; /* nodes that had to be, since LOST or FIRST began */
    uint64_t salt;
    int64_t covers; /* nodes linked since the pass before this one */
    int64_t work;
    ev__reaching reaching;
    uint32_t *in_degree;    /* of each slot; only what is attached needs it */
    size_t zeroed, counted; /* slots whose number was, and whose links are counted */
    bool counts;
    size_t bytes;
};

/* ---- reaching everything --------------------------------------------------------------------- */

void ev__reach_from(ev__reaching *r, uint32_t slot) {
    if (slot >= r->slots || ev__bit(r->reached, slot)) return;
    ev__bit_set(r->reached, slot);
    r->stack[r->waiting++] = slot;
}

size_t ev__reach_step(const ev__graph *g, ev__reaching *r, size_t most) {
    size_t read = 0;
    for (; r->waiting && read < most; read++) {
        const uint32_t *links = ev__links0(&g->store, r->stack[--r->waiting]);
        for (uint32_t i = 0; i < g->store.m0 && links[i] != EV_NONE; i++) ev__reach_from(r, links[i]);
    }
    return read;
}

/* ---- attaching ------------------------------------------------------------------------------- */

/* The nearest place, in steps along links from the found nodes, where a list has room, or where it holds `slot`; NULL
 * when none of `most` nodes, at most EV_BATCH, has. */
static uint32_t *free_link_near(const ev__graph *g, uint32_t slot, size_t most, ev__scratch *s) {
    const ev__store *store = &g->store;
    size_t queued = 0;
    ev__forget_visited(s);
    for (size_t i = 0; i < s->candidates.count && queued < most; i++) {
        s->slots[queued++] = s->candidates.at[i].slot;
        ev__visit(&s->visited, s->candidates.at[i].slot);
    }
    for (size_t head = 0; head < queued; head++) {
        uint32_t *links = ev__links0(store, s->slots[head]), i = 0;
        for (; i < store->m0 && links[i] != EV_NONE && links[i] != slot; i++)
            if (queued < most && ev__visit(&s->visited, links[i])) s->slots[queued++] = links[i];
        if (i < store->m0) return links + i;
    }
    return NULL;
}

/* Nothing is known of slots made since the pass began. */
static bool can_spare_link(const struct ev__mending *m, uint32_t slot) {
    return slot < m->slots && m->in_degree[slot] > 2;
}

/* Put `slot`, to which none of the found nodes links, into a list near it, looking at `most` nodes for one: where there
 * is room, else in place of a link that its target can spare. */
static void attach(const ev__graph *g, struct ev__mending *m, uint32_t slot, size_t most, const ev__gate *gate,
                   ev__scratch *s) {
    const ev__store *store = &g->store;
    uint32_t *room = free_link_near(g, slot, most, s);
    for (size_t i = 0; i < s->candidates.count && !room; i++) {
        uint32_t *links = ev__links0(store, s->candidates.at[i].slot);
        for (uint32_t j = store->m0; j-- > 0 && !room;) /* the furthest first */
            if (can_spare_link(m, links[j])) room = links + j;
    }
    if (!room) room = ev__links0(store, s->candidates.at[0].slot) + store->m0 - 1;
    if (gate) gate->take(gate->arg);
    *room = slot;
    ev__links0_changed(store, (uint32_t)((size_t)((char *)room - store->columns.blocks.at) / store->block_bytes));
    if (gate) gate->give_back(gate->arg);
    if (slot < m->slots) m->in_degree[slot]++;
    m->attached++;
}

/* Are links counted? Else that is to be done first. */
static bool is_counted(struct ev__mending *m) {
    m->counts = true;
    return m->counted == m->slots;
}

static void count_on(const ev__graph *g, struct ev__mending *m) {
    const ev__store *store = &g->store;
    size_t left = m->slots - m->zeroed, n = left < ZEROED_AT_ONCE ? left : ZEROED_AT_ONCE;
    if (n) {
        memset(m->in_degree + m->zeroed, 0, n * sizeof *m->in_degree);
        m->zeroed += n;
        m->work += RUN;
        return;
    }
    for (size_t end = m->counted + RUN; m->counted < end && m->counted < m->slots; m->counted++) {
        if (!ev__is_node(store, (uint32_t)m->counted)) continue;
        const uint32_t *links = ev__links0(store, (uint32_t)m->counted);
        for (uint32_t i = 0; i < store->m0 && links[i] != EV_NONE; i++)
            if (links[i] < m->slots) m->in_degree[links[i]]++;
        m->work++;
    }
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

static void link_lost(const ev__graph *g, struct ev__mending *m, uint32_t slot, const ev__gate *gate, ev__scratch *s) {
    const ev__quantizer *q = &g->store.quantizer;
    static const ev__mask everything = {false, NULL};
    ev__space space = ev__build_space(&g->store, NULL, NULL);
    ev__query query;
    float distance;
    ev__query_from_slot(q, &space, slot, &query, s->query_a);
    uint32_t start = ev__search_upper_layers(g, &space, &query, 0, &distance, s);
    if (start >= m->slots || !ev__bit(m->reaching.reached, start)) {
        start = g->entry; /* upper levels lead into the lost part: start where all is reachable */
        ev__approx_distances(q, &space, &query, &start, 1, &distance, &s->work);
    }
    ev__search_layer(g, &space, &query, 0, start, distance, (size_t)g->ef_construction, &everything, 0, s);
    m->work += WORK_OF_ATTACHING * (int64_t)g->ef_construction;
    bool found = is_found(g, slot, s);
    if (!found && !is_counted(m)) return;
    if (!found) attach(g, m, slot, EV_BATCH, gate, s);
    ev__reach_from(&m->reaching, slot);
}

/* Not reached, and a living vector belongs to it: a dead node may have living duplicates. */
static bool is_lost(const ev__graph *g, const struct ev__mending *m, uint32_t slot) {
    static const ev__mask living = {true, NULL};
    return !ev__bit(m->reaching.reached, slot) && ev__is_node(&g->store, slot) && ev__node_ok(&g->store, &living, slot);
}

/* ---- finding everything ---------------------------------------------------------------------- */

/* One node in five, and one of each cluster: the least of its neighborhood, by numbers that differ from time to time.
 */
static bool is_sampled(const ev__graph *g, uint32_t slot, uint64_t salt) {
    const uint32_t *links = ev__links0(&g->store, slot);
    uint64_t own = ev__mix(salt ^ slot);
    for (uint32_t i = 0; i < LOOK_LINKS && i < g->store.m0 && links[i] != EV_NONE; i++)
        if (ev__mix(salt ^ links[i]) < own) return false;
    return true;
}

/* The node that a search for `slot` misses though it should not: itself, in a cluster that the walk did not find. Under
 * ip its best neighbor, where all that was found is not half as good. EV_NONE when all is well. s->candidates: what was
 * found. */
static uint32_t missed(const ev__graph *g, const ev__space *space, uint32_t slot, ev__scratch *s) {
    const ev__quantizer *q = &g->store.quantizer;
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

/* False: links are to be counted first. */
static bool look_for(const ev__graph *g, struct ev__mending *m, uint32_t slot, const ev__gate *gate, ev__scratch *s) {
    ev__space space = ev__code_space(&g->store);
    uint32_t lost = missed(g, &space, slot, s);
    m->work += WORK_OF_LOOK;
    if (lost == EV_NONE) return true;
    if (!is_counted(m)) return false;
    attach(g, m, lost, s->candidates.count, gate, s);
    return true;
}

static bool is_looked_for(const ev__graph *g, struct ev__mending *m, uint32_t slot) {
    bool first = ev__mix(~m->salt ^ slot) % LOOK_FIRST == 0;
    if (first != (m->phase == FIRST) || ev__state(&g->store, slot) != EV_NODE) return false;
    m->work++;
    return is_sampled(g, slot, m->salt);
}

/* ---- a pass ---------------------------------------------------------------------------------- */

static void begin_phase(const ev__graph *g, struct ev__mending *m, int phase) {
    m->phase = phase;
    m->at = 0;
    if (phase == OTHERS) return;
    m->attached = m->zeroed = m->counted = 0;
    m->counts = false;
    m->salt = ev__mix(g->store.seed ^ (0x0F14D00000000u + (uint64_t)g->store.live));
    if (phase != REACH) return;
    memset(m->reaching.reached, 0, ev__bit_words(m->slots) * sizeof(uint64_t));
    m->reaching.waiting = 0;
    ev__reach_from(&m->reaching, g->entry);
}

/* After the last slot of a phase; false: the pass is over. */
static bool begin_next_phase(const ev__graph *g, struct ev__mending *m) {
    int next = m->phase + 1;
    if (m->phase == LOST && m->attached) next = REACH;
    if (m->phase >= FIRST) {
        if (!m->attached) return false;
        if (m->phase == OTHERS) next = REACH;
    }
    if (next == REACH && ++m->round == MOST_ROUNDS) return false;
    begin_phase(g, m, next);
    return true;
}

/* The next slot that something is to be done about, or that ends this run. */
static bool find_next(const ev__graph *g, struct ev__mending *m) {
    m->work += WORK_OF_SLOTS;
    for (size_t end = m->at + RUN; m->at < end && m->at < m->slots; m->at++)
        if (m->phase == LOST ? is_lost(g, m, (uint32_t)m->at) : is_looked_for(g, m, (uint32_t)m->at)) return true;
    return false;
}

/* A little further; false: the pass is over. */
static bool step(const ev__graph *g, struct ev__mending *m, const ev__gate *gate, ev__scratch *s) {
    if (m->counts && m->counted < m->slots) {
        count_on(g, m);
    } else if (m->reaching.waiting) {
        m->work += (int64_t)ev__reach_step(g, &m->reaching, RUN);
    } else if (m->phase == REACH || m->at == m->slots) {
        return begin_next_phase(g, m);
    } else if (find_next(g, m)) {
        uint32_t slot = (uint32_t)m->at;
        if (m->phase == LOST)
            link_lost(g, m, slot, gate, s); /* it is met again until it is reached */
        else
            m->at += look_for(g, m, slot, gate, s);
    }
    return true;
}

size_t ev__mending_bytes(const ev__graph *g) { return g->mending ? g->mending->bytes : 0; }

void ev__mending_drop(ev__graph *g) {
    if (g->mending) ev__release(g->mending, g->mending->bytes, EV_LINE);
    g->mending = NULL;
}

size_t ev__mending_need(size_t slots) {
    size_t head = ev__round_up(sizeof(struct ev__mending), EV_LINE);
    return head + ev__bit_words(slots) * sizeof(uint64_t) + 2 * slots * sizeof(uint32_t);
}

static int begin(ev__graph *g) {
    size_t slots = ev__slots(&g->store), head = ev__round_up(sizeof *g->mending, EV_LINE);
    size_t words = ev__bit_words(slots) * sizeof(uint64_t), numbers = slots * sizeof(uint32_t);
    size_t bytes = ev__mending_need(slots);
    char *memory = ev__alloc(bytes, EV_LINE);
    if (!memory) return ev__fail(EV_E_NOMEM, "mending %zu slots", slots);
    struct ev__mending *m = (void *)memory;
    *m = (struct ev__mending){
        .slots = slots,
        .covers = g->unrepaired,
        .reaching = {.slots = slots, .reached = (void *)(memory + head), .stack = (void *)(memory + head + words)},
        .in_degree = (void *)(memory + head + words + numbers),
        .bytes = bytes};
    begin_phase(g, m, REACH);
    g->mending = m;
    return EV_OK;
}

#ifdef EDGEVEC_TESTING
static int64_t work_done; /* atomic */
int64_t ev_mending_work(void) {
    int64_t work = ev__add64(&work_done, 0);
    ev__add64(&work_done, -work);
    return work;
}
static void note_work(int64_t work) { ev__add64(&work_done, work); }
#else
static void note_work(int64_t work) { (void)work; }
#endif

/* With so much work more at least, but for a step. */
static int go_on(ev__graph *g, int64_t work, const ev__gate *gate) {
    struct ev__mending *m = g->mending;
    ev__scratch *s;
    int rc = ev__scratch_borrow(g, &s);
    if (rc != EV_OK) return rc;
    rc = ev__scratch_fit(g, s, (size_t)g->ef_construction, 1, false);
    if (rc == EV_OK) {
        bool over = false, stopped = false;
        int64_t before = m->work;
        if (gate) gate->give_back(gate->arg);
        while (!over && m->work - before < work && !(stopped = ev__is_to_stop())) over = !step(g, m, gate, s);
        if (gate) gate->take(gate->arg);
        note_work(m->work - before);
        if (over) g->unrepaired -= m->covers;
        if (over) ev__mending_drop(g);
        if (stopped) rc = ev__stopped();
    }
    ev__scratch_return(g, s);
    return rc;
}

/* It could link to nodes that are about to be freed. */
static bool has_to_wait(const ev__graph *g) { return g->entry == EV_NONE || g->consolidation; }

int ev__mend(ev__graph *g, const ev__gate *gate) {
    ev__mending_drop(g);
    if (has_to_wait(g)) return EV_OK;
    int rc = begin(g);
    if (rc == EV_OK) rc = go_on(g, INT64_MAX, gate);
    ev__mending_drop(g);
    return rc;
}

int ev__mend_step(ev__graph *g, int64_t rows, const ev__gate *gate) {
    int rc = g->mending || has_to_wait(g) ? EV_OK : begin(g);
    if (rc != EV_OK || !g->mending) return rc;
    return go_on(g, g->mending->slots > SMALL ? rows * WORK_PER_ROW : INT64_MAX, gate);
}
