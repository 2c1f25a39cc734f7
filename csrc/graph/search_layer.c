/* Searching the graph: greedy descent through the upper levels, best-first search of one level. */
#include "graph/graph.h"

#include <math.h>

/* What is read here may come from a file that nobody has verified, or that was changed under its mapping: so a list of
 * links ends at whatever is no slot, and a node whose links lie outside has none. Distances may be anything. */

/* ---- what is read next ----------------------------------------------------------------------- */

/* Rows that a walk is about to read, asked for a line at a time: of *slots those from `at` on. Beside them, of slots
 * just met, what is read first or along with the rows: signs, or factors. */
typedef struct {
    const uint32_t *slots, *end;
    const char *rows, *beside, *row;
    size_t stride, bytes, beside_stride, at;
} ev__fetch;
static inline ev__fetch fetch_rows(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                                   const uint32_t *slots, size_t n) {
    bool prefilters = query->bits.planes != NULL;
    return (ev__fetch){.slots = slots,
                       .end = slots + n,
                       .rows = space->rows,
                       .row = n ? space->rows + *slots * space->stride : NULL,
                       .stride = space->stride,
                       .bytes = space->bytes,
                       .beside = prefilters ? space->prefilter : (const char *)space->factors,
                       .beside_stride = prefilters ? q->prefilter_bytes : sizeof(ev__factor)};
}
static inline void fetch_line(ev__fetch *f) {
    if (f->slots == f->end) return;
    EV_PREFETCH_SOON(f->row + f->at);
    f->at += EV_LINE;
    if (f->at >= f->bytes && ++f->slots != f->end) {
        f->row = f->rows + *f->slots * f->stride;
        f->at = 0;
    }
}
static inline void fetch_beside(const ev__fetch *f, uint32_t slot) {
    if (!f->beside) return;
    const char *row = f->beside + slot * f->beside_stride;
    for (size_t at = 0; at < f->beside_stride; at += EV_LINE) EV_PREFETCH(row + at);
}

/* ---- as if a node were not there ------------------------------------------------------------- */

/* The links of a node but for one; returns how many. */
static size_t links_without(const ev__graph *g, uint32_t node, int level, uint32_t other, uint32_t *out) {
    const uint32_t *links = ev__links(&g->store, node, level);
    size_t n = 0;
    for (uint32_t i = 0; i < ev__max_links(&g->store, level) && links[i] != EV_NONE; i++)
        if (links[i] != other) out[n++] = links[i];
    return n;
}

static bool holds(const uint32_t *links, size_t n, uint32_t slot) {
    for (size_t i = 0; i < n; i++)
        if (links[i] == slot) return true;
    return false;
}

/* After the n unvisited neighbors of a node, marked as visited: had the excluded node not been there, those that link
 * to it would link to another instead, to one that now hides behind it. Without such links the graph has a hole just
 * where the query is. Returns how many there are then. */
static size_t bypass_excluded(const ev__graph *g, uint32_t slot, int level, uint32_t *unvisited, size_t n,
                              ev__scratch *s) {
    const ev__store *store = &g->store;
    uint32_t candidates[4 * EV_MAX_M], behind[2 * EV_MAX_M], most = ev__max_links(store, level);
    const uint32_t *links = ev__links(store, slot, level);
    if (!holds(links, most, s->excluded)) return n;
    /* behind those that a new node chooses for itself, and with room left: it came later and took nobody's place */
    if (links[most - 1] == EV_NONE && !holds(links, most / 2, s->excluded)) return n;
    size_t kept = links_without(g, slot, level, s->excluded, candidates), count = kept;
    size_t beyond = links_without(g, s->excluded, level, slot, behind);
    for (size_t i = 0; i < beyond; i++)
        if (!holds(candidates, kept, behind[i])) candidates[count++] = behind[i];
    ev__space space = ev__build_space(store, NULL, NULL);
    if (ev__reselect_neighbors(g, &space, slot, candidates, kept, count, kept + 1, s) == kept) return n;
    uint32_t to = s->selection[kept].slot;
    unvisited[n] = to;
    return n + ev__visit(&s->visited, to);
}

/* ---- the neighbors of a node ---------------------------------------------------------------- */

static inline const uint32_t *links_within(const ev__store *store, uint32_t slot, int level) {
    static const uint32_t nothing = EV_NONE;
    if (EV_LIKELY(level == 0)) return ev__links0(store, slot);
    uint64_t at = ((const uint32_t *)(const void *)store->columns.upper_at.at)[slot];
    bool within = at + (uint64_t)level * store->M <= store->columns.upper.count;
    return within ? ev__links(store, slot, level) : &nothing;
}

/* The neighbors of a node not visited in this search; marks them visited. Between the links, where there is something
 * to fetch, it is asked for bit by bit: a CPU has room for some tens of lines on their way, and one that is asked for
 * more at once does nothing else until there is room again. */
static inline size_t unvisited_and_fetch(const ev__graph *g, uint32_t slot, int level, ev__fetch *fetch, uint32_t *out,
                                         ev__scratch *s) {
    const uint32_t *links = links_within(&g->store, slot, level);
    size_t n = 0, slots = ev__slots(&g->store);
    for (uint32_t i = 0, most = ev__max_links(&g->store, level); i < most; i++) {
        uint32_t to =
            ev__load32(links + i); /* another thread may be changing the list: old or new entries, both valid */
        if (to >= slots) break;    /* EV_NONE */
        if (EV_PREFETCHES && fetch) {
            fetch_beside(fetch, to);
            fetch_line(fetch);
        }
        out[n] = to;
        n += ev__visit(&s->visited, to);
    }
    s->stats.visited++;
    return s->excluded == EV_NONE ? n : bypass_excluded(g, slot, level, out, n, s);
}

static size_t unvisited_neighbors(const ev__graph *g, uint32_t slot, int level, ev__scratch *s) {
    return unvisited_and_fetch(g, slot, level, NULL, s->slots, s);
}

/* Keep, in place and in order, those of n slots whose distance may be below the bound; returns how many. */
static size_t keep_below(const ev__graph *g, const ev__space *space, const ev__query *query, float bound,
                         uint32_t *slots, size_t n, ev__scratch *s) {
    size_t kept = 0;
    ev__prefilter_bounds(&g->store.quantizer, space, query, slots, n, s->distances, &s->work);
    s->stats.prefiltered += (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        slots[kept] = slots[i];
        kept += s->distances[i] < bound;
    }
    return kept;
}

/* Of n neighbors in s->slots those that may be nearer than the bound, where that can be told. */
static size_t maybe_below(const ev__graph *g, const ev__space *space, const ev__query *query, float bound, size_t n,
                          ev__scratch *s) {
    return query->bits.planes && bound < INFINITY ? keep_below(g, space, query, bound, s->slots, n, s) : n;
}

/* Their distances. */
static void compare(const ev__graph *g, const ev__space *space, const ev__query *query, size_t n, ev__scratch *s) {
    ev__approx_distances(&g->store.quantizer, space, query, s->slots, n, s->distances, &s->work);
    s->stats.distances += (int64_t)n;
}

static void fetch_links(const ev__store *store, uint32_t slot, int level) {
    const uint32_t *links = links_within(store, slot, level);
    for (uint32_t i = 0; i < ev__max_links(store, level); i += EV_LINE / sizeof *links) EV_FETCH(links + i);
}

/* The nearest of the node's neighbors on this level, where one is nearer than *distance. The links of those that may be
 * it are on their way while they are compared. */
static uint32_t nearer_neighbor(const ev__graph *g, const ev__space *space, const ev__query *query, uint32_t node,
                                int level, float *distance, ev__scratch *s) {
    size_t n = maybe_below(g, space, query, *distance, unvisited_neighbors(g, node, level, s), s);
    for (size_t i = 0; i < n; i++) fetch_links(&g->store, s->slots[i], level);
    compare(g, space, query, n, s);
    for (size_t i = 0; i < n; i++)
        if (s->distances[i] < *distance) {
            *distance = s->distances[i];
            node = s->slots[i];
        }
    return node;
}

uint32_t ev__search_upper_layers(const ev__graph *g, const ev__space *space, const ev__query *query, int bottom,
                                 float *distance, ev__scratch *s) {
    uint32_t nearest = ev__load32_acquire(&g->entry), from;
    ev__approx_distances(&g->store.quantizer, space, query, &nearest, 1, distance, &s->work);
    s->stats.distances++;
    if (nearest == s->excluded) *distance = INFINITY; /* a way in there must be; anything is nearer */
    ev__forget_visited(s);                            /* once: what was not nearer on one level is not on the next */
    for (int level = ev__levels(&g->store)[nearest]; level > bottom; level--) {
        do {
            from = nearest;
            fetch_links(&g->store, from, level - 1); /* most are the last on their level */
            nearest = nearer_neighbor(g, space, query, from, level, distance, s);
        } while (nearest != from);
    }
    return nearest;
}

/* The first place from `at` on whose node was not expanded yet, or the end. */
static size_t next_unexpanded(const ev__scratch *s, size_t at) {
    size_t count = s->candidates.count;
    for (; at < count; at = (at / 64 + 1) * 64) {
        uint64_t rest = ~s->expanded[at / 64] >> at % 64;
        if (!rest) continue;
        at += ev__lowest_bit(rest);
        break;
    }
    return at < count ? at : count;
}

/* As ev__candidates_insert; what is new is not expanded. */
static size_t insert_unexpanded(ev__scratch *s, size_t ef, float distance, uint32_t slot) {
    size_t place = ev__candidates_insert(&s->candidates, ef, distance, slot);
    if (place == SIZE_MAX) return place;
    uint64_t *bits = s->expanded, below = ((uint64_t)1 << place % 64) - 1;
    size_t word = (s->candidates.count - 1) / 64;
    for (; word > place / 64; word--) bits[word] = bits[word] << 1 | bits[word - 1] >> 63;
    bits[word] = (bits[word] & below) | (bits[word] & ~below) << 1;
    return place;
}

enum {
    WINDOWS = 8, /* the first is one in so many of the list, */
    LEAST_WINDOW = 16,
    RELEASED = 16 /* neighbors that were held back, at a time */
};

/* Neighbors of a node expanded a few steps ago. */
typedef struct {
    size_t count;
    uint32_t slots[2 * EV_MAX_M + RELEASED];
} batch;

/* The unvisited neighbors of the node at this place. Meanwhile rows of those that are taken in next, when there are any
 * to fetch, and what lies beside those just met are fetched, and the links of the node that will probably be next. */
static void expand_node(const ev__graph *g, const ev__space *space, const ev__query *query, size_t at, int level,
                        const batch *next, batch *out, ev__scratch *s) {
    const ev__store *store = &g->store;
    ev__candidates *candidates = &s->candidates;
    uint32_t slot = candidates->at[at].slot;
    ev__bit_set(s->expanded, (uint32_t)at);
    if (next) {
        ev__fetch fetch = fetch_rows(&store->quantizer, space, query, next->slots, next->count);
        out->count = unvisited_and_fetch(g, slot, level, &fetch, out->slots, s);
        while (EV_PREFETCHES && fetch.slots != fetch.end) fetch_line(&fetch);
    } else {
        out->count = unvisited_and_fetch(g, slot, level, NULL, out->slots, s);
    }
    size_t after = next_unexpanded(s, at + 1);
    if (after < candidates->count) fetch_links(store, candidates->at[after].slot, level);
}

/* The first places of the list: what is further than all of them is held back until they are expanded. Then there are
 * half as many more, and by then the walk has come near, the list is good, and few of what was held back are fetched.
 */
typedef struct {
    size_t size, ef;
    bool holds, releasing; /* holds: else what is further is forgotten */
} window;
static window first_window(const ev__query *query, size_t ef, ev__scratch *s) {
    size_t size = ef / WINDOWS > LEAST_WINDOW ? ef / WINDOWS : LEAST_WINDOW;
    bool holds = query->bits.sparing;
    if (size >= ef && ef > 2) size = ef - 1; /* from 2 on it can be widened by half */
    s->held.count = s->held.from = 0;
    return (window){.size = holds && size < ef ? size : ef, .ef = ef, .holds = holds};
}

/* From half a window on, what is further than all that is in it is not worth a fetch; and before, when nothing is
 * known yet, only what seems to be nearest: the walk has yet to come near. */
static bool is_near(const window *w, const ev__candidates *candidates) { return candidates->count >= w->size / 2; }
static float window_bound(const window *w, const ev__candidates *candidates) {
    return candidates->at[(candidates->count < w->size ? candidates->count : w->size) - 1].distance;
}
/* A third of a window of n distances, and no more, lies below. */
static float nearest_bound(const window *w, const uint32_t *slots, size_t n, ev__scratch *s) {
    size_t most = w->size / 3 + 1;
    if (n <= most) return INFINITY;
    ev__candidates best = {s->selection, 0, most + 1};
    for (size_t i = 0; i < n; i++) ev__candidates_insert(&best, most + 1, s->distances[i], slots[i]);
    return best.at[most].distance;
}
static void prefilter_batch(const ev__graph *g, const ev__space *space, const ev__query *query, const window *w,
                            batch *p, ev__scratch *s) {
    const ev__candidates *candidates = &s->candidates;
    ev__prefilter_bounds(&g->store.quantizer, space, query, p->slots, p->count, s->distances, &s->work);
    s->stats.prefiltered += (int64_t)p->count;
    float near = is_near(w, candidates) ? window_bound(w, candidates) : nearest_bound(w, p->slots, p->count, s);
    float far = !w->holds ? near : candidates->count == w->ef ? candidates->at[w->ef - 1].distance : INFINITY;
    p->count = ev__held_partition(&s->held, s->distances, near, far, p->slots, p->count);
}

/* Some of what was held back, as near as the bound, behind what is fetched next. Returns whether there was any. */
static bool release_up_to(float bound, window *w, batch *p, ev__scratch *s) {
    size_t n = ev__held_release(&s->held, bound, RELEASED, p->slots + p->count);
    p->count += n;
    w->releasing = n == RELEASED;
    return n > 0;
}
static bool release_nearest(window *w, batch *p, ev__scratch *s) {
    return release_up_to(ev__held_nearest(&s->held, RELEASED, s->selection), w, p, s);
}
static bool release_held(window *w, batch *p, ev__scratch *s) {
    return is_near(w, &s->candidates) ? release_up_to(window_bound(w, &s->candidates), w, p, s)
                                      : release_nearest(w, p, s);
}

static bool widen(window *w, batch *p, ev__scratch *s) {
    w->size = w->size + w->size / 2 < w->ef ? w->size + w->size / 2 : w->ef;
    return release_held(w, p, s);
}

/* What comes next where the walk has expanded the whole window, or all there is and nothing is on its way: it is
 * widened, in the latter case until something is let go, or the list is full. Returns whether there was anything. */
static bool look_further(window *w, bool ends, size_t unexpanded, batch *p, ev__scratch *s) {
    if (w->releasing) return release_held(w, p, s);
    if (w->size < w->ef && unexpanded >= w->size) return widen(w, p, s);
    bool more = false;
    ends &= unexpanded >= s->candidates.count;
    while (ends && !more && w->size < w->ef) more = widen(w, p, s);
    return more || (ends && s->candidates.count < w->ef && release_nearest(w, p, s));
}

/* The links of the one that the walk goes on from once they are taken in, where that is one of these. */
static void fetch_links_of_next(const ev__graph *g, int level, const batch *p, size_t at, const ev__scratch *s) {
    size_t next = next_unexpanded(s, at);
    float nearest = next < s->candidates.count ? s->candidates.at[next].distance : INFINITY;
    uint32_t slot = EV_NONE;
    for (size_t i = 0; i < p->count; i++)
        if (s->distances[i] < nearest) {
            nearest = s->distances[i];
            slot = p->slots[i];
        }
    if (slot != EV_NONE) fetch_links(&g->store, slot, level);
}

/* The candidates take in those that are near enough; the first place that changed, or `at`. */
static size_t merge_batch(const ev__graph *g, const ev__space *space, const ev__query *query, int level, const batch *p,
                          size_t ef, size_t at, ev__scratch *s) {
    const ev__quantizer *q = &g->store.quantizer;
    if (query->bits.planes)
        ev__prefiltered_distances(q, space, query, p->slots, p->count, s->distances, &s->work);
    else
        ev__approx_distances(q, space, query, p->slots, p->count, s->distances, &s->work);
    s->stats.distances += (int64_t)p->count;
    if (EV_PREFETCHES) fetch_links_of_next(g, level, p, at, s);
    for (size_t i = 0; i < p->count; i++) {
        size_t place = insert_unexpanded(s, ef, s->distances[i], p->slots[i]);
        if (place < at) at = place;
    }
    return at;
}

/* A walk of so many steps takes long. */
static inline bool is_stopped_at(size_t step, ev__scratch *s) {
    if (EV_LIKELY(!ev__is_to_stop_at(step))) return false;
    s->stopped = true;
    return true;
}

/* Without a mask the results are the frontier: one sorted list serves as both, and the walk ends when all of it
 * is expanded. Codes are not waited for: what a node leads to is fetched in the step after the node was expanded, and
 * taken in in the step after that; where codes are prefiltered first, the signs have one step more to arrive. So a node
 * is chosen before those expanded last have told what they found; a walk takes a few steps more, and far less time.
 * Float vectors are long enough for the hardware to see where a fetch is going, and too many bytes to fetch in vain. */
static void search_layer_pipelined(const ev__graph *g, const ev__space *space, const ev__query *query, int level,
                                   uint32_t start, float start_distance, size_t ef, ev__scratch *s) {
    enum { PIPELINE_DEPTH = 4 };
    bool prefilters = query->bits.planes != NULL, pipelined = space->kind->pipelined;
    size_t fetched = prefilters ? 2 : 1, taken = pipelined ? fetched + 1 : 0;
    ev__candidates *candidates = &s->candidates;
    batch batches[PIPELINE_DEPTH];
    for (size_t i = 0; i < PIPELINE_DEPTH; i++) batches[i].count = 0;
    candidates->count = 0;
    memset(s->expanded, 0, ev__bit_words(ef) * sizeof *s->expanded);
    insert_unexpanded(s, ef, start_distance, start);
    ev__visit(&s->visited, start);
    window w = first_window(query, ef, s);
    for (size_t step = 0, at = 0, idle = 0; idle <= taken; step++) {
        batch *before[PIPELINE_DEPTH], *now = &batches[step % PIPELINE_DEPTH]; /* before[i]: i steps ago */
        for (size_t i = 0; i < PIPELINE_DEPTH; i++) before[i] = &batches[(step - i) % PIPELINE_DEPTH];
        at = next_unexpanded(s, at);
        idle = at < candidates->count ? 0 : idle + 1;
        if (EV_UNLIKELY(is_stopped_at(step, s))) return;
        now->count = 0;
        if (!idle) expand_node(g, space, query, at, level, taken ? before[fetched] : NULL, now, s);
        at = merge_batch(g, space, query, level, before[taken], ef, at, s);
        if (!prefilters) continue;
        prefilter_batch(g, space, query, &w, before[1], s);
        if (look_further(&w, idle == taken, next_unexpanded(s, at), before[1], s)) idle = 0;
    }
}

/* One more into the heap of the frontier. When that is full, what is further than all of a full list goes: nobody would
 * take it out again. So it holds what is as near as the candidates, allowed or not, and needs no room for all slots. */
static bool push_frontier(ev__scratch *s, size_t *frontier, size_t ef, ev__candidate new) {
    const ev__candidates *candidates = &s->candidates;
    if (EV_UNLIKELY(*frontier == s->heap_room)) {
        float bound = candidates->count == ef ? candidates->at[ef - 1].distance : INFINITY;
        size_t held = *frontier;
        *frontier = 0;
        for (size_t i = 0; i < held; i++)
            if (s->heap[i].distance <= bound) ev__heap_push(s->heap, frontier, s->heap[i]);
        if (*frontier > s->heap_room / 2 && !ev__heap_grow(s, 2 * s->heap_room) && *frontier == s->heap_room)
            return false;
    }
    ev__heap_push(s->heap, frontier, new);
    return true;
}

/* With a mask every node routes but only allowed ones become candidates; the frontier is a heap of its own. */
static bool search_layer_filtered(const ev__graph *g, const ev__space *space, const ev__query *query, int level,
                                  uint32_t start, float start_distance, size_t ef, const ev__mask *mask, int64_t budget,
                                  ev__scratch *s) {
    ev__candidates *candidates = &s->candidates;
    size_t frontier = 0;
    candidates->count = 0;
    if (ev__node_ok(&g->store, mask, start)) ev__candidates_insert(candidates, ef, start_distance, start);
    ev__heap_push(s->heap, &frontier, (ev__candidate){start_distance, start});
    ev__visit(&s->visited, start);
    for (size_t step = 0; frontier; step++) {
        if (EV_UNLIKELY(is_stopped_at(step, s))) break;
        ev__candidate nearest = ev__heap_pop(s->heap, &frontier);
        if (candidates->count == ef && nearest.distance > candidates->at[ef - 1].distance) break;
        size_t n = unvisited_neighbors(g, nearest.slot, level, s);
        if ((budget -= (int64_t)n) < 0) return false;
        n = maybe_below(g, space, query, candidates->count == ef ? candidates->at[ef - 1].distance : INFINITY, n, s);
        compare(g, space, query, n, s);
        for (size_t i = 0; i < n; i++) {
            if (candidates->count == ef && !(s->distances[i] < candidates->at[ef - 1].distance)) continue;
            if (!push_frontier(s, &frontier, ef, (ev__candidate){s->distances[i], s->slots[i]})) return false;
            if (ev__node_ok(&g->store, mask, s->slots[i]))
                ev__candidates_insert(candidates, ef, s->distances[i], s->slots[i]);
        }
    }
    return !s->visited.full;
}

/* On from what this walk has seen so far. */
static bool continue_search(const ev__graph *g, const ev__space *space, const ev__query *query, int level,
                            uint32_t start, float start_distance, size_t ef, const ev__mask *mask, int64_t budget,
                            ev__scratch *s) {
    if (mask->on) return search_layer_filtered(g, space, query, level, start, start_distance, ef, mask, budget, s);
    search_layer_pipelined(g, space, query, level, start, start_distance, ef, s);
    return !s->visited.full;
}

bool ev__search_layer(const ev__graph *g, const ev__space *space, const ev__query *query, int level, uint32_t start,
                      float start_distance, size_t ef, const ev__mask *mask, int64_t budget, ev__scratch *s) {
    if (ef >= s->candidates.room) ef = s->candidates.room - 1; /* the list is fitted to the number of slots */
    ev__forget_visited(s);
    return continue_search(g, space, query, level, start, start_distance, ef, mask, budget, s);
}

/* ---- walks that end in the wrong cluster ----------------------------------------------------- */

enum {
    FEW = 4,      /* nodes and links that are compared */
    ENTRIES = 32, /* of a second walk */
    FROM_EACH = 8 /* candidates kept by a walk from one of them */
};

bool ev__is_apart(const ev__graph *g, uint32_t near, float distance, uint32_t looked_at, size_t few, ev__scratch *s) {
    const ev__store *store = &g->store;
    const ev__quantizer *q = &store->quantizer;
    const float MUCH = 4; /* of squared distances */
    ev__space space = ev__code_space(store);
    const uint32_t *links = ev__links0(store, near);
    size_t n = 0, closer = 0;
    while (n < looked_at && n < store->m0 && (s->slots[n] = ev__load32(links + n)) < ev__slots(store)) n++;
    ev__query query;
    ev__query_from_slot(q, &space, near, &query, s->query_b);
    ev__approx_distances(q, &space, &query, s->slots, n, s->distances, &s->work);
    s->stats.distances += (int64_t)n;
    for (size_t i = 0; i < n; i++) closer += MUCH * (query.offset + s->distances[i]) < distance;
    return closer >= few;
}

/* The candidates of a finished walk, and what walks from each of the entries find that it did not see. */
static void search_from_all(const ev__graph *g, const ev__space *space, const ev__query *query,
                            const ev__candidate *entries, size_t n, size_t ef, const ev__mask *mask, ev__scratch *s) {
    ev__candidate room[FROM_EACH + 1];
    ev__candidates found = s->candidates;
    if (ef >= found.room) ef = found.room - 1;
    s->candidates = (ev__candidates){.at = room, .room = FROM_EACH + 1};
    ev__forget_visited(s);
    for (size_t i = 0; i < found.count; i++) ev__visit(&s->visited, found.at[i].slot);
    for (size_t i = 0; i < n; i++) {
        if (!ev__visit(&s->visited, entries[i].slot)) continue;
        continue_search(g, space, query, 0, entries[i].slot, entries[i].distance, FROM_EACH, mask, INT64_MAX, s);
        for (size_t j = 0; j < s->candidates.count; j++)
            ev__candidates_insert(&found, ef, s->candidates.at[j].distance, s->candidates.at[j].slot);
    }
    s->candidates = found;
}

void ev__search_other_clusters(const ev__graph *g, const ev__space *space, const ev__query *query, float square,
                               size_t ef, const ev__mask *mask, ev__scratch *s) {
    if (g->store.quantizer.metric->product || s->candidates.count < FEW ||
        ev__levels(&g->store)[ev__load32_acquire(&g->entry)] == 0)
        return;
    ev__candidate near = s->candidates.at[FEW - 1];
    float distance = square * (query->offset + query->gain * near.distance);
    if (!ev__is_apart(g, near.slot, distance, 2 * FEW, FEW, s)) return;
    ev__candidate entries[ENTRIES];
    ev__candidates found = s->candidates;
    float approx;
    s->candidates = (ev__candidates){.at = entries, .room = ENTRIES};
    uint32_t start = ev__search_upper_layers(g, space, query, 1, &approx, s);
    ev__forget_visited(s);
    search_layer_pipelined(g, space, query, 1, start, approx, ENTRIES, s);
    size_t n = s->candidates.count;
    s->candidates = found;
    search_from_all(g, space, query, entries, n, ef, mask, s);
}
