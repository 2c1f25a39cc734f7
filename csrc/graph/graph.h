/* HNSW: searching it, growing it, mending it, and as if a node were not there. */
#ifndef EV_GRAPH_H
#define EV_GRAPH_H

#include "base/thread.h"
#include "store/store.h"

typedef struct ev__scratch ev__scratch;

typedef struct {
    ev__store store;
    uint32_t entry; /* EV_NONE when empty */
    int32_t ef_construction;
    int64_t unrepaired; /* nodes linked since the graph was last repaired */
    int64_t built_distances;
    struct ev__mending *mending;             /* a pass that was left half-way, or NULL */
    struct ev__consolidation *consolidation; /* likewise */
    struct {
        ev__mutex lock;
        ev__scratch *first;
    } spare; /* scratches */
} ev__graph;

/* ---- scratch.c: what one search or one building thread needs --------------------------------- */

typedef struct {
    float distance; /* approximate, comparable within one search */
    uint32_t slot;
} ev__candidate;

typedef struct {
    ev__candidate *at; /* sorted by distance */
    size_t count, room;
} ev__candidates;

typedef struct {
    ev__result *at; /* sorted by distance, equal ones by id */
    size_t count, room;
} ev__results;

/* The slots that a walk has met (visited.c). Of most indexes a mark for each slot, emptied by counting on: a mark that
 * is not the epoch is of an earlier walk. Bits would be closer together and were slower: a walk marks many slots at
 * once, and a CPU that finds two of them in one word does them one by one. Marks of a large index lie in no near cache:
 * there a walk has a hash set, of buckets of eight slots that are compared at once. */
typedef struct {
    uint8_t *marks;
    size_t marked;      /* room of the marks */
    size_t slots, room; /* so many there are, and so many there soon may be */
    uint8_t epoch;
    bool hashed, full; /* full: there was no memory for more, and what was met then counts as seen */
    unsigned shift;
    uint32_t *buckets;
    size_t bucket_room, bucket_count; /* count: of those in use, a power of two */
    size_t used, grows_at;            /* slots in them */
} ev__visited;
enum { EV_BUCKET = 8 };
/* For so many slots, room for more of them, and walks that meet about so many; to be cleared before each. */
int ev__visited_fit(ev__visited *v, size_t slots, size_t room, size_t met);
void ev__visited_free(ev__visited *v);
size_t ev__visited_bytes(const ev__visited *v);
size_t ev__visited_need(size_t slots, size_t room, size_t met); /* bytes after ev__visited_fit */
void ev__visited_clear(ev__visited *v);
bool ev__visit_crowded(ev__visited *v, uint32_t slot); /* its own bucket is full */
static inline size_t ev__bucket_of(const ev__visited *v, uint32_t slot) { return (slot * 0x9E3779B1u) >> v->shift; }
static inline bool ev__visit_marked(ev__visited *v, uint32_t slot) {
    bool new = v->marks[slot] != v->epoch;
    v->marks[slot] = v->epoch;
    return new;
}
/* true when it was not seen before */
static inline bool ev__visit(ev__visited *v, uint32_t slot) {
    if (!v->hashed) return ev__visit_marked(v, slot);
    uint32_t *bucket = v->buckets + ev__bucket_of(v, slot) * EV_BUCKET;
    unsigned same = ev__equal8(bucket, slot), place = same | ev__equal8(bucket, EV_NONE) << EV_BUCKET;
    if (EV_UNLIKELY(!place)) return ev__visit_crowded(v, slot);
    bucket[ev__lowest_bit(place) % EV_BUCKET] = slot; /* where it lies already, or the first free place */
    v->used += !same;
    return !same;
}

/* What a walk has met and holds back: the least that the distance of each may be, by its signs. INFINITY: no longer. */
typedef struct {
    float *least;
    uint32_t *slots;
    size_t count, room, from; /* from: where releasing goes on */
} ev__held;

struct ev__scratch {
    ev__workspace work;
    ev__scratch *next;
    uint64_t geometry;
    bool stopped; /* a walk with it was asked to stop, and found less */
    bool kept;    /* as a spare even beside a small index: a search has used it, and more may come */
    ev__visited visited;
    uint32_t excluded;         /* the node that walks do not see, or EV_NONE */
    ev__candidates candidates; /* what a walk found */
    uint64_t *expanded;        /* a bit for each place in that list: its links have been read */
    size_t expanded_words;
    ev__results results; /* what a search returns */
    ev__held held;       /* of walks that prefilter */
    ev__candidate *heap; /* of masked walks */
    size_t heap_room;
    void *query_a, *query_b; /* two slots, as ev__query_from_slot makes them */
    uint32_t *slots;         /* EV_BATCH: unvisited neighbors */
    float *distances;
    ev__candidate *selection; /* EV_BATCH: for link selection */
    uint32_t *chosen;         /* (EV_MAX_LEVEL + 1) * m0 selected links of a node under insertion */
    uint32_t chosen_count[EV_MAX_LEVEL + 1];
    size_t bytes;
    void *memory;
    ev_search_stats stats;
};

int ev__scratch_new(const ev__graph *g, ev__scratch **out);
void ev__scratch_free(ev__scratch *s);
size_t ev__scratch_bytes(const ev__scratch *s);
/* Of one that is new and fit for so many slots, room for more of them, and ef; a little more than it takes. */
size_t ev__scratch_need(const ev__graph *g, size_t slots, size_t room, size_t ef);
/* fit for the index as it stands now, a list of ef candidates, k results and, when masked, a heap */
int ev__scratch_fit(const ev__graph *g, ev__scratch *s, size_t ef, size_t k, bool masked);
bool ev__heap_grow(ev__scratch *s, size_t room); /* what is in it stays; false: no memory */
void ev__forget_visited(ev__scratch *s);         /* nothing is seen any more but the excluded node */
/* One of the index's spares, or one that small indexes share, or a new one; put it back afterwards. The calling thread
 * has the index's lock. */
int ev__scratch_borrow(ev__graph *g, ev__scratch **out);
void ev__scratch_return(ev__graph *g, ev__scratch *s);
void ev__scratch_drop_all(ev__graph *g);
size_t ev__scratch_spare_bytes(ev__graph *g);
/* An empty graph over a store that is laid out; and its end, with the store's. */
void ev__graph_init(ev__graph *g, int32_t ef_construction);
void ev__graph_free(ev__graph *g);

/* ---- candidates.c ---------------------------------------------------------------------------- */

/* Insert into a sorted list of at most `limit`; the place, or SIZE_MAX when it is too far. */
size_t ev__candidates_insert(ev__candidates *list, size_t limit, float distance, uint32_t slot);
/* By distance, of the same ones by slot. At most EV_BATCH. */
void ev__candidates_sort(ev__candidate *all, size_t count);
/* The `least` first in that order are the first then, in no order; what is behind them is of no use. */
void ev__candidates_select(ev__candidate *all, size_t count, size_t least);
/* A binary heap, the least distance first; *count changes with it. */
void ev__heap_push(ev__candidate *heap, size_t *count, ev__candidate hit);
ev__candidate ev__heap_pop(ev__candidate *heap, size_t *count);

/* ---- held_back.c ----------------------------------------------------------------------------- */

int ev__held_fit(ev__held *held, size_t room); /* empty it is not */
void ev__held_free(ev__held *held);
size_t ev__held_bytes(const ev__held *held);
/* Of n slots, with the least that their distances may be, keep those nearer than `near` in place and in order, hold
 * back the others that are nearer than `far`. Returns how many are kept. n: less than half of the room. */
size_t ev__held_partition(ev__held *held, const float *least, float near, float far, uint32_t *slots, size_t n);
/* Let go of what is as near as the bound, at most so many: the first ones, or, after a call that had as many as it may,
 * those that follow. Returns how many. */
size_t ev__held_release(ev__held *held, float bound, size_t most, uint32_t *slots);
/* The bound that lets go of about so many, the nearest; -INFINITY where nothing is held. room: count + 1 candidates. */
float ev__held_nearest(const ev__held *held, size_t count, ev__candidate *room);

/* ---- neighbors.c ----------------------------------------------------------------------------- */

/* Choose at most `most` of the candidates, in place: the first `kept`, and of the others, which are sorted, those that
 * are not nearer to a chosen one than to the center. Returns how many. */
size_t ev__select_neighbors(const ev__graph *g, const ev__space *space, ev__candidate *candidates, size_t kept,
                            size_t count, size_t most, ev__scratch *s);
/* ev__select_neighbors among slots, from `slot` as the center: the chosen are s->selection. */
size_t ev__reselect_neighbors(const ev__graph *g, const ev__space *space, uint32_t slot, const uint32_t *candidates,
                              size_t kept, size_t count, size_t most, ev__scratch *s);
/* The same, all of them sorted. */
size_t ev__choose_links(const ev__graph *g, const ev__space *space, uint32_t slot, const uint32_t *candidates,
                        size_t kept, size_t count, size_t most, ev__scratch *s);
/* Links of `slot` chosen from candidates: the first `kept` of them, and what ev__select_neighbors adds of the others.
 */
void ev__relink(const ev__graph *g, const ev__space *space, uint32_t slot, int level, const uint32_t *candidates,
                size_t kept, size_t count, ev__scratch *s);
/* The links of a full list and one more, at their end, chosen anew. As ev__relink with none kept, at half the price:
 * those that an earlier choice left were compared with each other then, and are compared with what came since alone. */
void ev__shrink_links(const ev__graph *g, const ev__space *space, uint32_t slot, int level, const uint32_t *links,
                      size_t count, ev__scratch *s);

/* ---- relink.c --------------------------------------------------------------------------- */

/* A pass that frees removed nodes (repair.c), left half-way. */
struct ev__consolidation {
    size_t slots; /* that there were when it began */
    int phase;
    size_t at, end; /* of the slots of this phase */
    uint64_t *marked;
    uint32_t *chosen; /* links for the nodes of a step */
    size_t bytes;
};
bool ev__is_marked(const ev__graph *g, uint32_t slot); /* during a pass: is it about to be freed? */
/* What is linked meanwhile must not lead there: of candidates leave out the marked nodes, unless all are; and lead the
 * links of `slot` on this level around them, to what those lead to. Returns whether there were any. */
void ev__leave_out_marked(const ev__graph *g, ev__candidates *candidates);
bool ev__relink_around_marked(const ev__graph *g, const ev__space *space, uint32_t slot, int level, ev__scratch *s);
/* Links of level 0 that lead around marked nodes, chosen among neighbors of neighbors too, into s->selection; how many,
 * or EV_NONE where none is marked. Nothing is written. */
uint32_t ev__choose_around(const ev__graph *g, const ev__space *space, uint32_t slot, ev__scratch *s);

/* ---- search_layer.c -------------------------------------------------------------------------- */

/* From the entry down to level `bottom` + 1: the nearest node found, by greedy steps; *distance is its distance. */
uint32_t ev__search_upper_layers(const ev__graph *g, const ev__space *space, const ev__query *query, int bottom,
                                 float *distance, ev__scratch *s);
/* The ef nearest nodes of one level into s->candidates, from `start`. With a mask: the ef nearest allowed ones, and
 * false when more than `budget` distances were needed. False also when more memory was needed than there is: then the
 * candidates are fewer or of no use. */
bool ev__search_layer(const ev__graph *g, const ev__space *space, const ev__query *query, int level, uint32_t start,
                      float start_distance, size_t ef, const ev__mask *mask, int64_t budget, ev__scratch *s);
/* Is a squared distance from this node much longer than a few of its own first links, so that it lies in another
 * cluster? */
bool ev__is_apart(const ev__graph *g, uint32_t near, float distance, uint32_t looked_at, size_t few, ev__scratch *s);
/* After a walk of level 0: when all it found lies apart from the query, it may have ended in the wrong one of many
 * clusters, whose members filled the candidates. Then walk again from many entries, and add what is nearer. Times
 * `square` the estimated distance is a squared one. Not under ip. */
void ev__search_other_clusters(const ev__graph *g, const ev__space *space, const ev__query *query, float square,
                               size_t ef, const ev__mask *mask, ev__scratch *s);

/* ---- insert.c -------------------------------------------------------------------------------- */

typedef struct {
    ev__graph *g;
    ev__space space;
    ev__spin *locks; /* striped by slot, NULL with one thread */
    ev__mutex *entry_lock;
    uint8_t state; /* of what is linked: EV_NODE, or EV_DEAD_NODE where it is not to be found yet */
} ev__builder;
#define EV_STRIPES 4096
/* to -> slot: appended while there is room, else the list is chosen anew. Where `slot` must be in it, it takes the last
 * place if it was not chosen. Returns whether it is in it. */
bool ev__add_reverse_link(const ev__builder *b, uint32_t to, uint32_t slot, int level, bool must, ev__scratch *s);
/* Level 0 of `slot`: let the first that it leads to lead back. */
void ev__link_nearest_back(const ev__builder *b, uint32_t slot, ev__scratch *s);
/* Link one slot, codes written, into the graph: it becomes a node. */
void ev__insert(ev__builder *b, uint32_t slot, ev__scratch *s);

/* ---- repair.c -------------------------------------------------------------------------------- */

/* The right to change the graph, where searches go on while a call only reads it: taken for each change. */
typedef struct {
    void (*take)(void *arg);
    void (*give_back)(void *arg);
    void *arg;
} ev__gate;
/* Lead all links around dead nodes and free their slots, where all of these were removed: no rows are staged. Between
 * steps of it, `gate`, which may be NULL, is given back. */
int ev__consolidate_deletes(ev__graph *g, int32_t threads, const ev__gate *gate);
/* Is that to be done, or under way? And is it no more than so many rows call for that are added or removed? */
bool ev__consolidation_due(const ev__graph *g, bool adding);
bool ev__consolidates_at_once(const ev__graph *g, int64_t rows);
/* Begin it or go on with it, as far as so many rows call for. While there is a shadow copy it waits, and while it is
 * under way mending does. */
int ev__consolidate_step(ev__graph *g, int64_t rows, const ev__gate *gate);
void ev__consolidation_drop(ev__graph *g); /* before slots are numbered anew, or linked anew all together */
size_t ev__consolidation_bytes(const ev__graph *g);

/* ---- mend.c ---------------------------------------------------------------------------------- */

/* Link nodes that the entry cannot reach on level 0, and clusters that searches do not find: all of it, or as far as
 * so many rows call for that were added. The caller has what `gate` gives back for most of the time; NULL: nobody else
 * looks at the graph. */
int ev__mend(ev__graph *g, const ev__gate *gate);
int ev__mend_step(ev__graph *g, int64_t rows, const ev__gate *gate);
void ev__mending_drop(ev__graph *g); /* before slots are numbered anew, or linked anew all together */
size_t ev__mending_bytes(const ev__graph *g);
size_t ev__mending_need(size_t slots); /* bytes of a pass over so many; leading around removed ones takes fewer */

/* What is reached on level 0. reached: a bit per slot, zeroed; stack: room for all slots. */
typedef struct {
    size_t slots; /* those from here on are not followed */
    uint64_t *reached;
    uint32_t *stack;
    size_t waiting; /* on the stack: reached, and their links not followed yet */
} ev__reaching;
void ev__reach_from(ev__reaching *r, uint32_t slot);
/* Follow the links of at most so many that wait; of how many it did. */
size_t ev__reach_step(const ev__graph *g, ev__reaching *r, size_t most);

#endif
