/* Searching the graph: greedy descent through the upper levels, best-first search of one level. */
#include "internal.h"

#include <math.h>

size_t ev__pool_insert(ev__pool *pool, size_t limit, float key, uint32_t slot) {
    if (pool->count == limit && !(key < pool->at[limit - 1].key)) return SIZE_MAX;
    /* in the end behind all that are as near; no branches, which nobody could predict */
    const ev__hit *from = pool->at;
    for (size_t left = pool->count; left; left -= (left + 1) / 2) {
        size_t half = (left + 1) / 2;
        from = key < from[half - 1].key ? from : from + half;
    }
    size_t low = (size_t)(from - pool->at);
    size_t tail = (pool->count < limit ? pool->count++ : limit - 1) - low;
    ev__move_up(pool->at + low, tail * sizeof *pool->at, sizeof *pool->at);
    ev__move_up(pool->expanded + low, tail, 1);
    pool->at[low] = (ev__hit){key, slot};
    pool->expanded[low] = 0;
    return low;
}

bool ev__node_ok(const ev_index *ix, const ev__mask *mask, uint32_t slot) {
    for (; slot != EV_NONE; slot = ev__next(ix, slot))
        if (ev__slot_ok(ix, mask, slot)) return true;
    return false;
}

/* The neighbours of a node not seen in this walk, into s->slots; marks them seen. */
static size_t unseen(const ev_index *ix, uint32_t slot, int level, uint16_t epoch, ev__scratch *s) {
    const uint32_t *links = ev__links(ix, slot, level);
    size_t n = 0;
    for (uint32_t i = 0, most = ev__max_links(ix, level); i < most; i++) {
        uint32_t to =
            ev__load32(links + i); /* another thread may be changing the list: old or new entries, both valid */
        if (to == EV_NONE) break;
        s->slots[n] = to;
        n += s->visited[to] != epoch;
        s->visited[to] = epoch;
    }
    s->stats.visited++;
    return s->blind == EV_NONE ? n : ev__look_behind(ix, slot, level, n, s);
}

/* Of the neighbours in s->slots those that may be nearer than the bound, where that can be told, and their keys. */
static size_t keys_below(const ev_index *ix, const ev__space *space, const ev__probe *probe, float bound, size_t n,
                         ev__scratch *s) {
    if (probe->sieve.planes && bound < INFINITY) n = ev__sift(ix, probe, bound, s->slots, n, s);
    ev__keys(ix, space, probe, s->slots, n, s->keys, s);
    s->stats.distances += (int64_t)n;
    return n;
}

uint32_t ev__descend(const ev_index *ix, const ev__space *space, const ev__probe *probe, int bottom, float *key,
                     ev__scratch *s) {
    uint32_t nearest = ev__load32_acquire(&ix->entry);
    ev__keys(ix, space, probe, &nearest, 1, key, s);
    s->stats.distances++;
    if (nearest == s->blind) *key = INFINITY; /* a way in there must be; anything is nearer */
    for (int level = ev__levels(ix)[nearest]; level > bottom; level--) {
        uint16_t epoch = ev__new_walk(s);
        for (bool moved = true; moved;) {
            moved = false;
            size_t n = keys_below(ix, space, probe, *key, unseen(ix, nearest, level, epoch, s), s);
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

/* Without a mask the results are the frontier: one sorted pool serves as both, and the walk ends when all of it is
 * expanded. */
static void walk_plain(const ev_index *ix, const ev__space *space, const ev__probe *probe, int level, uint32_t start,
                       float start_key, size_t ef, ev__scratch *s) {
    ev__pool *pool = &s->pool;
    uint16_t epoch = ev__new_walk(s);
    pool->count = 0;
    ev__pool_insert(pool, ef, start_key, start);
    s->visited[start] = epoch;
    for (size_t at = 0; at < pool->count;) {
        if (pool->expanded[at]) {
            at++;
            continue;
        }
        pool->expanded[at] = 1;
        size_t n = unseen(ix, pool->at[at].slot, level, epoch, s), first = at + 1;
        if (at + 1 < pool->count) EV_PREFETCH(ev__links(ix, pool->at[at + 1].slot, level));
        ev__keys(ix, space, probe, s->slots, n, s->keys, s);
        s->stats.distances += (int64_t)n;
        for (size_t i = 0; i < n; i++) {
            size_t place = ev__pool_insert(pool, ef, s->keys[i], s->slots[i]);
            if (place < first) first = place;
        }
        at = first;
    }
}

enum { ON_THE_WAY = 2 };

/* Neighbours that passed the sieve, of the last few nodes expanded, whose codes are being fetched. */
typedef struct {
    uint32_t slots[ON_THE_WAY + 1][2 * EV_MAX_M];
    size_t count[ON_THE_WAY + 1];
} queue;

static size_t next_unexpanded(const ev__pool *pool, size_t at) {
    while (at < pool->count && pool->expanded[at]) at++;
    return at;
}

/* The unseen neighbours of the node at this place, into s->slots; what the next turns will read is asked for. */
static size_t expand(const ev_index *ix, size_t at, int level, uint16_t epoch, ev__scratch *s) {
    ev__pool *pool = &s->pool;
    pool->expanded[at] = 1;
    size_t n = unseen(ix, pool->at[at].slot, level, epoch, s), next = next_unexpanded(pool, at + 1);
    ev__sift_prefetch(ix, s->slots, n);
    if (next < pool->count) {
        const uint32_t *links = ev__links(ix, pool->at[next].slot, level);
        for (uint32_t i = 0; i < ev__max_links(ix, level); i += EV_LINE / sizeof *links) EV_PREFETCH(links + i);
    }
    return n;
}

/* The pool takes in those of the slots that are near enough; the first place that changed, or `at`. */
static size_t take_in(const ev_index *ix, const ev__probe *probe, const uint32_t *slots, size_t n, size_t ef, size_t at,
                      ev__scratch *s) {
    ev__sifted_keys(ix, probe, slots, n, s->keys, s);
    s->stats.distances += (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        size_t place = ev__pool_insert(&s->pool, ef, s->keys[i], slots[i]);
        if (place < at) at = place;
    }
    return at;
}

/* As walk_plain, but codes are fetched only of what the sieve lets pass, and nothing is waited for: while the signs of
 * one node's neighbours are on their way, the codes of those of the node before last, which have arrived, are compared.
 * So a node is chosen before the two expanded last have told what they found; a walk takes a few steps more, and far
 * less time. From half a pool on, what is further than all that is in it is not worth a fetch either: the walk has yet
 * to come near. */
static void walk_sifted(const ev_index *ix, const ev__probe *probe, int level, uint32_t start, float start_key,
                        size_t ef, ev__scratch *s) {
    ev__pool *pool = &s->pool;
    uint16_t epoch = ev__new_walk(s);
    queue q = {.count = {0}};
    pool->count = 0;
    ev__pool_insert(pool, ef, start_key, start);
    s->visited[start] = epoch;
    for (size_t turn = 0, at = 0, idle = 0; idle <= ON_THE_WAY; turn++) {
        size_t last = turn % (ON_THE_WAY + 1), first = (turn + 1) % (ON_THE_WAY + 1), n = 0;
        at = next_unexpanded(pool, at);
        idle = at < pool->count ? 0 : idle + 1;
        if (!idle) n = expand(ix, at, level, epoch, s);
        at = take_in(ix, probe, q.slots[first], q.count[first], ef, at, s);
        if (pool->count >= ef / 2) n = ev__sift(ix, probe, pool->at[pool->count - 1].key, s->slots, n, s);
        memcpy(q.slots[last], s->slots, n * sizeof *s->slots);
        q.count[last] = n;
        ev__sifted_prefetch(ix, q.slots[last], n);
    }
}

static void heap_push(ev__hit *heap, size_t *count, ev__hit hit) {
    size_t i = (*count)++;
    for (; i && hit.key < heap[(i - 1) / 2].key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = hit;
}

static ev__hit heap_pop(ev__hit *heap, size_t *count) {
    ev__hit top = heap[0], last = heap[--*count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *count; i = child) {
        if (child + 1 < *count && heap[child + 1].key < heap[child].key) child++;
        if (!(heap[child].key < last.key)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* With a mask every node routes but only allowed ones enter the pool; the frontier is a heap of its own. */
static bool walk_masked(const ev_index *ix, const ev__space *space, const ev__probe *probe, int level, uint32_t start,
                        float start_key, size_t ef, const ev__mask *mask, int64_t budget, ev__scratch *s) {
    ev__pool *pool = &s->pool;
    uint16_t epoch = ev__new_walk(s);
    size_t frontier = 0;
    pool->count = 0;
    if (ev__node_ok(ix, mask, start)) ev__pool_insert(pool, ef, start_key, start);
    heap_push(s->heap, &frontier, (ev__hit){start_key, start});
    s->visited[start] = epoch;
    while (frontier) {
        ev__hit nearest = heap_pop(s->heap, &frontier);
        if (pool->count == ef && nearest.key > pool->at[ef - 1].key) break;
        size_t n = unseen(ix, nearest.slot, level, epoch, s);
        if ((budget -= (int64_t)n) < 0) return false;
        n = keys_below(ix, space, probe, pool->count == ef ? pool->at[ef - 1].key : INFINITY, n, s);
        for (size_t i = 0; i < n; i++) {
            if (pool->count == ef && !(s->keys[i] < pool->at[ef - 1].key)) continue;
            heap_push(s->heap, &frontier, (ev__hit){s->keys[i], s->slots[i]});
            if (ev__node_ok(ix, mask, s->slots[i])) ev__pool_insert(pool, ef, s->keys[i], s->slots[i]);
        }
    }
    return true;
}

bool ev__walk(const ev_index *ix, const ev__space *space, const ev__probe *probe, int level, uint32_t start,
              float start_key, size_t ef, const ev__mask *mask, int64_t budget, ev__scratch *s) {
    if (ef >= s->pool.room) ef = s->pool.room - 1; /* the pool is fitted to the number of slots */
    if (mask->on) return walk_masked(ix, space, probe, level, start, start_key, ef, mask, budget, s);
    if (probe->sieve.planes)
        walk_sifted(ix, probe, level, start, start_key, ef, s);
    else
        walk_plain(ix, space, probe, level, start, start_key, ef, s);
    return true;
}
