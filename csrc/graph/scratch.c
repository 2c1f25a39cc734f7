/* What one search, or one building thread, needs at hand: made once, reused, fitted to the index as it grows. */
#include "edgevec_test.h"
#include "graph/graph.h"
#include "store/paged.h"

enum { HELD_TIMES = 8, HELD_LEAST = 4 * EV_MAX_M };

/* The parts whose size depends on the index's geometry alone lie in one allocation. */
static size_t layout_buffers(const ev__graph *g, ev__scratch *s, char *memory) {
    ev__arena c = {memory, 0};
    const ev__quantizer *q = &g->store.quantizer;
    ev__workspace_lay_out(q, &c, &s->work);
    s->query_a = ev__arena_take(&c, q->slot_query_bytes);
    s->query_b = ev__arena_take(&c, q->slot_query_bytes);
    s->work.residual = ev__arena_take(&c, g->store.paged ? q->dim * sizeof *s->work.residual : 0);
    s->work.fetched = ev__paged_lay_out(&g->store, &c);
    s->slots = ev__arena_take(&c, EV_BATCH * sizeof *s->slots);
    s->distances = ev__arena_take(&c, EV_BATCH * sizeof *s->distances);
    s->selection = ev__arena_take(&c, EV_BATCH * sizeof *s->selection);
    s->chosen = ev__arena_take(&c, (EV_MAX_LEVEL + 1) * g->store.m0 * sizeof *s->chosen);
    return c.used;
}

/* All that the parts above depend on. */
static uint64_t geometry_of(const ev__graph *g) {
    const ev__quantizer *q = &g->store.quantizer;
    return (uint64_t)q->dim | (uint64_t)q->bits << 16 | (uint64_t)g->store.m0 << 40 |
           (uint64_t)(g->store.paged != NULL) << 59 | (uint64_t)(g->store.paged && q->codec->refined) << 62 |
           (uint64_t)(q->query_bytes != q->dim) << 60 | (uint64_t)(q->slot_query_bytes != q->dim) << 61;
}

int ev__scratch_new(const ev__graph *g, ev__scratch **out) {
    ev__scratch *s = ev__alloc_zero(sizeof *s, EV_LINE);
    if (!s) return ev__fail(EV_E_NOMEM, "a search context");
    s->bytes = layout_buffers(g, s, NULL);
    s->memory = ev__alloc_zero(s->bytes, EV_LINE);
    if (!s->memory) {
        ev__release(s, sizeof *s, EV_LINE);
        return ev__fail(EV_E_NOMEM, "a search context");
    }
    layout_buffers(g, s, s->memory);
    s->excluded = EV_NONE;
    s->geometry = geometry_of(g);
    *out = s;
    return EV_OK;
}

static void free_candidates(ev__candidates *candidates) {
    ev__release(candidates->at, candidates->room * sizeof *candidates->at, EV_LINE);
    *candidates = (ev__candidates){0};
}

void ev__scratch_free(ev__scratch *s) {
    if (!s) return;
    free_candidates(&s->candidates);
    ev__release(s->results.at, s->results.room * sizeof *s->results.at, EV_LINE);
    ev__release(s->expanded, s->expanded_words * sizeof *s->expanded, EV_LINE);
    ev__visited_free(&s->visited);
    ev__held_free(&s->held);
    ev__release(s->heap, s->heap_room * sizeof *s->heap, EV_LINE);
    ev__release(s->memory, s->bytes, EV_LINE);
    ev__release(s, sizeof *s, EV_LINE);
}

size_t ev__scratch_bytes(const ev__scratch *s) {
    return sizeof *s + s->bytes + ev__visited_bytes(&s->visited) + s->heap_room * sizeof *s->heap +
           s->candidates.room * sizeof *s->candidates.at + s->results.room * sizeof *s->results.at +
           s->expanded_words * sizeof *s->expanded + ev__held_bytes(&s->held);
}

size_t ev__scratch_need(const ev__graph *g, size_t slots, size_t room, size_t ef) {
    ev__scratch s = {0};
    size_t many = ef < slots ? ef : slots,
           held = ev__prefilters(&g->store.quantizer) ? HELD_TIMES * many + HELD_LEAST : 0;
    return sizeof s + layout_buffers(g, &s, NULL) + ev__visited_need(slots, room, ef * g->store.m0) +
           (many + 1) * (sizeof *s.candidates.at + sizeof *s.results.at) +
           ev__bit_words(many + EV_BATCH) * sizeof *s.expanded + held * (sizeof *s.held.least + sizeof *s.held.slots);
}

static int fit_candidates(ev__candidates *candidates, size_t ef) {
    if (candidates->room >= ef + 1) return EV_OK;
    ev__candidates grown = {ev__alloc((ef + 1) * sizeof *grown.at, EV_LINE), 0, ef + 1};
    if (!grown.at) return EV_E_NOMEM;
    free_candidates(candidates);
    *candidates = grown;
    return EV_OK;
}

static int fit_expanded(ev__scratch *s, size_t ef) {
    size_t words = ev__bit_words(ef > EV_BATCH ? ef : EV_BATCH); /* some walks are wider than was asked for */
    if (s->expanded_words >= words) return EV_OK;
    uint64_t *grown = ev__alloc(words * sizeof *grown, EV_LINE);
    if (!grown) return EV_E_NOMEM;
    ev__release(s->expanded, s->expanded_words * sizeof *grown, EV_LINE);
    s->expanded = grown;
    s->expanded_words = words;
    return EV_OK;
}

static int fit_results(ev__results *results, size_t k) {
    if (results->room >= k + 1) return EV_OK;
    ev__results grown = {ev__alloc((k + 1) * sizeof *grown.at, EV_LINE), 0, k + 1};
    if (!grown.at) return EV_E_NOMEM;
    ev__release(results->at, results->room * sizeof *results->at, EV_LINE);
    *results = grown;
    return EV_OK;
}

bool ev__heap_grow(ev__scratch *s, size_t room) {
    if (s->heap_room >= room) return true;
    ev__candidate *heap = ev__alloc(room * sizeof *heap, EV_LINE);
    if (!heap) return false;
    if (s->heap_room) memcpy(heap, s->heap, s->heap_room * sizeof *heap);
    ev__release(s->heap, s->heap_room * sizeof *heap, EV_LINE);
    s->heap = heap;
    s->heap_room = room;
    return true;
}

/* Room for what most walks need; it grows where one needs more. */
static int fit_heap(ev__scratch *s, size_t ef, size_t slots) {
    enum { TIMES = 8, LEAST = 1024 };
    size_t room = TIMES * ef + LEAST;
    return ev__heap_grow(s, room < slots + 1 ? room : slots + 1) ? EV_OK : EV_E_NOMEM;
}

/* Room for most walks' neighbors; where more are met, the furthest are forgotten. */
static int fit_held(ev__scratch *s, size_t ef) { return ev__held_fit(&s->held, HELD_TIMES * ef + HELD_LEAST); }

int ev__scratch_fit(const ev__graph *g, ev__scratch *s, size_t ef, size_t k, bool masked) {
    size_t slots = ev__slots(&g->store) ? ev__slots(&g->store) : 1;
    int rc = ev__visited_fit(&s->visited, ev__slots(&g->store), g->store.columns.state.room, ef * g->store.m0);
    if (rc == EV_OK) rc = fit_candidates(&s->candidates, ef < slots ? ef : slots);
    if (rc == EV_OK) rc = fit_expanded(s, ef < slots ? ef : slots);
    if (rc == EV_OK) rc = fit_results(&s->results, k < slots ? k : slots);
    if (rc == EV_OK && ev__prefilters(&g->store.quantizer)) rc = fit_held(s, ef < slots ? ef : slots);
    if (rc == EV_OK && masked) rc = fit_heap(s, ef < slots ? ef : slots, slots);
    return rc == EV_OK ? EV_OK : ev__fail(rc, "a search over %zu slots with ef %zu", slots, ef);
}

void ev__forget_visited(ev__scratch *s) {
    ev__visited_clear(&s->visited);
    if (s->excluded != EV_NONE) ev__visit(&s->visited, s->excluded);
}

/* ---- spares ---------------------------------------------------------------------------------- */

/* A scratch is larger than an index of a few vectors. Such indexes share some, so that thousands of them do not have
 * thousands. Nobody waits for these: who finds them taken goes without, also in a child that was forked meanwhile. */
enum { SHARED = 16, MOST_SHARED_BYTES = 1 << 18 };
static struct {
    uint32_t taken;  /* atomic */
    int64_t indexes; /* atomic: the last one takes the spares with it */
    ev__scratch *at[SHARED];
} shared;

/* Those among the shared ones are of no index. */
static void free_shared(size_t i) {
    ev__account *was = ev__charge_to(NULL);
    ev__scratch_free(shared.at[i]);
    ev__charge_to(was);
    shared.at[i] = NULL;
}

static bool is_small(const ev__graph *g, const ev__scratch *s) {
    enum { TIMES = 8 };
    return TIMES * ev__scratch_bytes(s) > ev__array_bytes(&g->store.columns.blocks);
}

static ev__scratch *take_shared(const ev__graph *g) {
    ev__scratch *found = NULL;
    uint64_t geometry = geometry_of(g);
    if (!ev__try_take(&shared.taken)) return NULL;
    for (size_t i = 0; i < SHARED && !found; i++) {
        if (!shared.at[i] || shared.at[i]->geometry != geometry) continue;
        if (!ev__charge(ev__scratch_bytes(shared.at[i]))) break;
        found = shared.at[i];
        shared.at[i] = NULL;
    }
    ev__give_back(&shared.taken);
    return found;
}

/* Does the scratch lie among the shared ones now? */
static bool share(ev__scratch *s) {
    size_t bytes = ev__scratch_bytes(s);
    if (bytes > MOST_SHARED_BYTES || !ev__try_take(&shared.taken)) return false;
    size_t i = 0;
    while (i < SHARED && shared.at[i]) i++;
    for (size_t j = 0; i == SHARED && j < SHARED; j++) /* in the place of one that does not fit this index */
        if (shared.at[j]->geometry != s->geometry) i = j;
    if (i < SHARED) {
        free_shared(i);
        shared.at[i] = s;
        ev__discharge(bytes);
    }
    ev__give_back(&shared.taken);
    return i < SHARED;
}

#ifdef EDGEVEC_TESTING
int64_t ev_shared_bytes(void) {
    size_t bytes = 0;
    if (!ev__try_take(&shared.taken)) return -1;
    for (size_t i = 0; i < SHARED; i++) bytes += shared.at[i] ? ev__scratch_bytes(shared.at[i]) : 0;
    ev__give_back(&shared.taken);
    return (int64_t)bytes;
}
#endif

static void drop_shared(ev__graph *g) {
    ev__scratch_drop_all(g);
    if (ev__add64(&shared.indexes, -1) > 1 || !ev__try_take(&shared.taken)) return;
    for (size_t i = 0; i < SHARED; i++) free_shared(i);
    ev__give_back(&shared.taken);
}

int ev__scratch_borrow(ev__graph *g, ev__scratch **out) {
    ev__lock(&g->spare.lock);
    ev__scratch *s = g->spare.first;
    if (s) g->spare.first = s->next;
    ev__unlock(&g->spare.lock);
    if (!s) s = take_shared(g);
    if (!s) return ev__scratch_new(g, out);
    *out = s;
    return EV_OK;
}

void ev__scratch_return(ev__graph *g, ev__scratch *s) {
    if (is_small(g, s)) {
        if (share(s)) return;
        if (!s->kept) {
            ev__scratch_free(s);
            return;
        }
    }
    ev__lock(&g->spare.lock);
    s->next = g->spare.first;
    g->spare.first = s;
    ev__unlock(&g->spare.lock);
}

void ev__scratch_drop_all(ev__graph *g) {
    ev__lock(&g->spare.lock);
    ev__scratch *s = g->spare.first;
    g->spare.first = NULL;
    ev__unlock(&g->spare.lock);
    for (ev__scratch *next; s; s = next) {
        next = s->next;
        ev__scratch_free(s);
    }
}

size_t ev__scratch_spare_bytes(ev__graph *g) {
    size_t bytes = 0;
    ev__lock(&g->spare.lock);
    for (const ev__scratch *s = g->spare.first; s; s = s->next) bytes += ev__scratch_bytes(s);
    ev__unlock(&g->spare.lock);
    return bytes;
}

/* ---- the graph's own life -------------------------------------------------------------------- */

void ev__graph_init(ev__graph *g, int32_t ef_construction) {
    g->entry = EV_NONE;
    g->ef_construction = ef_construction;
    ev__mutex_init(&g->spare.lock);
    ev__add64(&shared.indexes, 1);
}

void ev__graph_free(ev__graph *g) {
    ev__store_free(&g->store);
    drop_shared(g);
    ev__mutex_free(&g->spare.lock);
}
