/* Searching the graph: greedy descent through the upper levels, best-first search of one level. */
#include "graph/graph.h"

#include <math.h>

/* ---- what is read next ----------------------------------------------------------------------- */

/* Rows that a walk is about to read, asked for a line at a time: of *slots those from `at` on. Beside them, of slots
 * just met, what is read first or along with the rows: signs, or factors. */
typedef struct {
    const uint32_t *slots, *end;
    const char *rows, *beside, *row;
    size_t stride, bytes, beside_stride, at;
} ev__fetch;
static inline ev__fetch fetch_rows(const ev__quantizer *q, const ev__space *space, const ev__probe *probe,
                                   const uint32_t *slots, size_t n) {
    bool sifts = probe->sieve.planes != NULL;
    return (ev__fetch){.slots = slots,
                       .end = slots + n,
                       .rows = space->rows,
                       .row = n ? space->rows + *slots * space->stride : NULL,
                       .stride = space->stride,
                       .bytes = space->bytes,
                       .beside = sifts ? space->sift : (const char *)space->factors,
                       .beside_stride = sifts ? q->sift_bytes : sizeof(ev__factor)};
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

/* After the n unseen neighbours of a node, marked as seen: had the blind node not been there, those that link to it
 * would link to another instead, to one that now hides behind it. Without such links the graph has a hole just where
 * the query is. Returns how many there are then. */
static size_t look_behind(const ev__graph *g, uint32_t slot, int level, uint32_t *unseen, size_t n, ev__scratch *s) {
    uint32_t candidates[4 * EV_MAX_M], behind[2 * EV_MAX_M], most = ev__max_links(&g->store, level);
    const uint32_t *links = ev__links(&g->store, slot, level);
    if (!holds(links, most, s->blind)) return n;
    /* behind those that a new node chooses for itself, and with room left: it came later and took nobody's place */
    if (links[most - 1] == EV_NONE && !holds(links, most / 2, s->blind)) return n;
    size_t kept = links_without(g, slot, level, s->blind, candidates), count = kept;
    size_t beyond = links_without(g, s->blind, level, slot, behind);
    for (size_t i = 0; i < beyond; i++)
        if (!holds(candidates, kept, behind[i])) candidates[count++] = behind[i];
    ev__space space = ev__build_space(&g->store, NULL, NULL);
    if (ev__reselect(g, &space, slot, candidates, kept, count, kept + 1, s) == kept) return n;
    uint32_t to = s->candidates[kept].slot;
    unseen[n] = to;
    return n + ev__see(&s->marks, to);
}

/* ---- the neighbours of a node ---------------------------------------------------------------- */

/* The neighbours of a node not seen in this walk; marks them seen. Between the links, where there is something to
 * fetch, it is asked for bit by bit: a CPU has room for some tens of lines on their way, and one that is asked for more
 * at once does nothing else until there is room again. */
static inline size_t unseen_and_fetch(const ev__graph *g, uint32_t slot, int level, ev__fetch *fetch, uint32_t *out,
                                      ev__scratch *s) {
    const uint32_t *links = ev__links(&g->store, slot, level);
    size_t n = 0;
    for (uint32_t i = 0, most = ev__max_links(&g->store, level); i < most; i++) {
        uint32_t to =
            ev__load32(links + i); /* another thread may be changing the list: old or new entries, both valid */
        if (to == EV_NONE) break;
        if (EV_PREFETCHES && fetch) {
            fetch_beside(fetch, to);
            fetch_line(fetch);
        }
        out[n] = to;
        n += ev__see(&s->marks, to);
    }
    s->stats.visited++;
    return s->blind == EV_NONE ? n : look_behind(g, slot, level, out, n, s);
}

static size_t unseen(const ev__graph *g, uint32_t slot, int level, ev__scratch *s) {
    return unseen_and_fetch(g, slot, level, NULL, s->slots, s);
}

/* Keep, in place and in order, those of n slots whose key may be below the bound; returns how many. */
static size_t keep_below(const ev__graph *g, const ev__space *space, const ev__probe *probe, float bound,
                         uint32_t *slots, size_t n, ev__scratch *s) {
    size_t kept = 0;
    ev__sift_bounds(&g->store.quantizer, space, probe, slots, n, s->keys, &s->work);
    s->stats.estimates += (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        slots[kept] = slots[i];
        kept += s->keys[i] < bound;
    }
    return kept;
}

/* Of them at most so many, those whose keys may be least. */
static size_t keep_nearest(const ev__graph *g, const ev__space *space, const ev__probe *probe, size_t most,
                           uint32_t *slots, size_t n, ev__scratch *s) {
    if (n <= most) return n;
    ev__pool best = {s->candidates, 0, most};
    ev__sift_bounds(&g->store.quantizer, space, probe, slots, n, s->keys, &s->work);
    s->stats.estimates += (int64_t)n;
    for (size_t i = 0; i < n; i++) ev__pool_insert(&best, most, s->keys[i], slots[i]);
    for (size_t i = 0; i < most; i++) slots[i] = best.at[i].slot;
    return most;
}

/* Of the neighbours in s->slots those that may be nearer than the bound, where that can be told, and their keys. */
static size_t keys_below(const ev__graph *g, const ev__space *space, const ev__probe *probe, float bound, size_t n,
                         ev__scratch *s) {
    if (probe->sieve.planes && bound < INFINITY) n = keep_below(g, space, probe, bound, s->slots, n, s);
    ev__keys(&g->store.quantizer, space, probe, s->slots, n, s->keys, &s->work);
    s->stats.distances += (int64_t)n;
    return n;
}

uint32_t ev__descend(const ev__graph *g, const ev__space *space, const ev__probe *probe, int bottom, float *key,
                     ev__scratch *s) {
    uint32_t nearest = ev__load32_acquire(&g->entry);
    ev__keys(&g->store.quantizer, space, probe, &nearest, 1, key, &s->work);
    s->stats.distances++;
    if (nearest == s->blind) *key = INFINITY; /* a way in there must be; anything is nearer */
    for (int level = ev__levels(&g->store)[nearest]; level > bottom; level--) {
        ev__new_walk(s);
        for (bool moved = true; moved;) {
            moved = false;
            size_t n = keys_below(g, space, probe, *key, unseen(g, nearest, level, s), s);
            for (size_t i = 0; i < n; i++)
                if (s->keys[i] < *key) {
                    *key = s->keys[i];
                    nearest = s->slots[i];
                    moved = true;
                }
        }
    }
    return nearest;
}

/* The first place from `at` on whose node was not expanded yet. */
static size_t next_unexpanded(const ev__pool *pool, size_t at, const ev__scratch *s) {
    while (at < pool->count && ev__expanded(&s->marks, pool->at[at].slot)) at++;
    return at;
}

/* Neighbours of a node expanded a few turns ago. */
typedef struct {
    size_t count;
    uint32_t slots[2 * EV_MAX_M];
} party;

/* The unseen neighbours of the node at this place. Meanwhile rows of those that are taken in next, when there are any
 * to fetch, and what lies beside those just met are fetched, and the links of the node that will probably be next. */
static void expand(const ev__graph *g, const ev__space *space, const ev__probe *probe, size_t at, int level,
                   const party *next, party *out, ev__scratch *s) {
    ev__pool *pool = &s->pool;
    uint32_t slot = pool->at[at].slot;
    ev__expand(&s->marks, slot);
    if (next) {
        ev__fetch fetch = fetch_rows(&g->store.quantizer, space, probe, next->slots, next->count);
        out->count = unseen_and_fetch(g, slot, level, &fetch, out->slots, s);
        while (EV_PREFETCHES && fetch.slots != fetch.end) fetch_line(&fetch);
    } else {
        out->count = unseen_and_fetch(g, slot, level, NULL, out->slots, s);
    }
    size_t after = next_unexpanded(pool, at + 1, s);
    if (after < pool->count) {
        const uint32_t *links = ev__links(&g->store, pool->at[after].slot, level);
        for (uint32_t i = 0; i < ev__max_links(&g->store, level); i += EV_LINE / sizeof *links) EV_PREFETCH(links + i);
    }
}

/* From half a pool on, what is further than all that is in it is not worth a fetch; and before, when nothing is known
 * yet, only what seems to be nearest: the walk has yet to come near. */
static void sift(const ev__graph *g, const ev__space *space, const ev__probe *probe, size_t ef, party *p,
                 ev__scratch *s) {
    const ev__pool *pool = &s->pool;
    if (pool->count >= ef / 2)
        p->count = keep_below(g, space, probe, pool->at[pool->count - 1].key, p->slots, p->count, s);
    else
        p->count = keep_nearest(g, space, probe, ef / 3 + 1, p->slots, p->count, s);
}

/* The pool takes in those that are near enough; the first place that changed, or `at`. */
static size_t take_in(const ev__graph *g, const ev__space *space, const ev__probe *probe, const party *p, size_t ef,
                      size_t at, ev__scratch *s) {
    if (probe->sieve.planes)
        ev__sifted_keys(&g->store.quantizer, space, probe, p->slots, p->count, s->keys, &s->work);
    else
        ev__keys(&g->store.quantizer, space, probe, p->slots, p->count, s->keys, &s->work);
    s->stats.distances += (int64_t)p->count;
    for (size_t i = 0; i < p->count; i++) {
        size_t place = ev__pool_insert(&s->pool, ef, s->keys[i], p->slots[i]);
        if (place < at) at = place;
    }
    return at;
}

/* Without a mask the results are the frontier: one sorted pool serves as both, and the walk ends when all of it is
 * expanded. Codes are not waited for: what a node leads to is fetched in the turn after the node was expanded, and
 * taken in in the turn after that; where codes are sifted first, the signs have one turn more to arrive. So a node is
 * chosen before those expanded last have told what they found; a walk takes a few steps more, and far less time. Float
 * vectors are long enough for the hardware to see where a fetch is going, and too many bytes to fetch in vain. */
static void walk_plain(const ev__graph *g, const ev__space *space, const ev__probe *probe, int level, uint32_t start,
                       float start_key, size_t ef, ev__scratch *s) {
    enum { RING = 4 };
    bool sifts = probe->sieve.planes != NULL, codes = space->kind != EV_SPACE_DOT && space->kind != EV_SPACE_L2;
    size_t fetched = sifts ? 2 : 1, taken = codes ? fetched + 1 : 0;
    ev__pool *pool = &s->pool;
    party parties[RING];
    for (size_t i = 0; i < RING; i++) parties[i].count = 0;
    pool->count = 0;
    ev__pool_insert(pool, ef, start_key, start);
    ev__see(&s->marks, start);
    for (size_t turn = 0, at = 0, idle = 0; idle <= taken; turn++) {
        party *before[RING], *now = &parties[turn % RING]; /* before[i]: i turns ago */
        for (size_t i = 0; i < RING; i++) before[i] = &parties[(turn - i) % RING];
        at = next_unexpanded(pool, at, s);
        idle = at < pool->count ? 0 : idle + 1;
        now->count = 0;
        if (!idle) expand(g, space, probe, at, level, taken ? before[fetched] : NULL, now, s);
        at = take_in(g, space, probe, before[taken], ef, at, s);
        if (sifts) sift(g, space, probe, ef, before[1], s);
    }
}

/* With a mask every node routes but only allowed ones enter the pool; the frontier is a heap of its own. */
static bool walk_masked(const ev__graph *g, const ev__space *space, const ev__probe *probe, int level, uint32_t start,
                        float start_key, size_t ef, const ev__mask *mask, int64_t budget, ev__scratch *s) {
    ev__pool *pool = &s->pool;
    size_t frontier = 0;
    pool->count = 0;
    if (ev__node_ok(&g->store, mask, start)) ev__pool_insert(pool, ef, start_key, start);
    ev__heap_push(s->heap, &frontier, (ev__hit){start_key, start});
    ev__see(&s->marks, start);
    while (frontier) {
        ev__hit nearest = ev__heap_pop(s->heap, &frontier);
        if (pool->count == ef && nearest.key > pool->at[ef - 1].key) break;
        size_t n = unseen(g, nearest.slot, level, s);
        if ((budget -= (int64_t)n) < 0) return false;
        n = keys_below(g, space, probe, pool->count == ef ? pool->at[ef - 1].key : INFINITY, n, s);
        for (size_t i = 0; i < n; i++) {
            if (pool->count == ef && !(s->keys[i] < pool->at[ef - 1].key)) continue;
            ev__heap_push(s->heap, &frontier, (ev__hit){s->keys[i], s->slots[i]});
            if (ev__node_ok(&g->store, mask, s->slots[i])) ev__pool_insert(pool, ef, s->keys[i], s->slots[i]);
        }
    }
    return true;
}

/* On from what this walk has seen so far. */
static bool walk_on(const ev__graph *g, const ev__space *space, const ev__probe *probe, int level, uint32_t start,
                    float start_key, size_t ef, const ev__mask *mask, int64_t budget, ev__scratch *s) {
    if (mask->on) return walk_masked(g, space, probe, level, start, start_key, ef, mask, budget, s);
    walk_plain(g, space, probe, level, start, start_key, ef, s);
    return true;
}

bool ev__walk(const ev__graph *g, const ev__space *space, const ev__probe *probe, int level, uint32_t start,
              float start_key, size_t ef, const ev__mask *mask, int64_t budget, ev__scratch *s) {
    if (ef >= s->pool.room) ef = s->pool.room - 1; /* the pool is fitted to the number of slots */
    ev__new_walk(s);
    return walk_on(g, space, probe, level, start, start_key, ef, mask, budget, s);
}

/* ---- walks that end in the wrong cluster ----------------------------------------------------- */

enum {
    FEW = 4,      /* nodes and links that are compared */
    ENTRIES = 32, /* of a second walk */
    FROM_EACH = 8 /* candidates kept by a walk from one of them */
};

bool ev__apart(const ev__graph *g, uint32_t near, float distance, uint32_t looked_at, size_t few, ev__scratch *s) {
    const float MUCH = 4; /* of squared distances */
    ev__space space = ev__code_space(&g->store);
    const uint32_t *links = ev__links0(&g->store, near);
    size_t n = 0, closer = 0;
    while (n < looked_at && n < g->store.m0 && (s->slots[n] = ev__load32(links + n)) != EV_NONE) n++;
    ev__probe probe;
    ev__probe_slot(&g->store.quantizer, &space, near, &probe, s->probe_b);
    ev__keys(&g->store.quantizer, &space, &probe, s->slots, n, s->keys, &s->work);
    s->stats.distances += (int64_t)n;
    for (size_t i = 0; i < n; i++) closer += MUCH * (probe.offset + s->keys[i]) < distance;
    return closer >= few;
}

/* The pool of a finished walk, and what walks from each of the entries find that it did not see. */
static void walk_from_all(const ev__graph *g, const ev__space *space, const ev__probe *probe, const ev__hit *entries,
                          size_t n, size_t ef, const ev__mask *mask, ev__scratch *s) {
    ev__hit room[FROM_EACH + 1];
    ev__pool found = s->pool;
    if (ef >= found.room) ef = found.room - 1;
    s->pool = (ev__pool){.at = room, .room = FROM_EACH + 1};
    ev__new_walk(s);
    for (size_t i = 0; i < found.count; i++) ev__see(&s->marks, found.at[i].slot);
    for (size_t i = 0; i < n; i++) {
        if (!ev__see(&s->marks, entries[i].slot)) continue;
        walk_on(g, space, probe, 0, entries[i].slot, entries[i].key, FROM_EACH, mask, INT64_MAX, s);
        for (size_t j = 0; j < s->pool.count; j++) ev__pool_insert(&found, ef, s->pool.at[j].key, s->pool.at[j].slot);
    }
    s->pool = found;
}

void ev__look_around(const ev__graph *g, const ev__space *space, const ev__probe *probe, float square, size_t ef,
                     const ev__mask *mask, ev__scratch *s) {
    if (g->store.quantizer.metric == EV_METRIC_IP || s->pool.count < FEW ||
        ev__levels(&g->store)[ev__load32_acquire(&g->entry)] == 0)
        return;
    ev__hit near = s->pool.at[FEW - 1];
    float distance = square * (probe->offset + probe->gain * near.key);
    if (!ev__apart(g, near.slot, distance, 2 * FEW, FEW, s)) return;
    ev__hit entries[ENTRIES];
    ev__pool found = s->pool;
    float key;
    s->pool = (ev__pool){.at = entries, .room = ENTRIES};
    uint32_t start = ev__descend(g, space, probe, 1, &key, s);
    ev__new_walk(s);
    walk_plain(g, space, probe, 1, start, key, ENTRIES, s);
    size_t n = s->pool.count;
    s->pool = found;
    walk_from_all(g, space, probe, entries, n, ef, mask, s);
}
