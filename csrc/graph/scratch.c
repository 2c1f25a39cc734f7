/* What one search, or one building thread, needs at hand: made once, reused, fitted to the index as it grows. */
#include "internal.h"

/* The parts whose size depends on the index's geometry alone lie in one allocation, cut here. */
typedef struct {
    char *at;
    size_t used;
} cutter;

static void *cut(cutter *c, size_t bytes) {
    void *at = c->at ? c->at + c->used : NULL;
    c->used += ev__round_up(bytes, EV_LINE);
    return at;
}

static size_t cut_up(const ev_index *ix, ev__scratch *s, char *memory) {
    cutter c = {memory, 0};
    size_t bits = ix->bits ? ix->bits : 1, query_code = ev__by_bits(ix) ? EV_PLANES * ix->bits / 8 : ix->dim;
    s->unit = cut(&c, ix->dim * sizeof(float));
    s->query = cut(&c, ix->dim * sizeof(float));
    s->decoded = cut(&c, ix->dim * sizeof(float));
    s->exact = cut(&c, ix->dim * sizeof *s->exact);
    s->turning = cut(&c, bits * sizeof(float));
    s->rotated = cut(&c, bits * sizeof(float));
    s->code = cut(&c, query_code);
    s->planes = cut(&c, EV_PLANES * ix->sift_bytes);
    s->probe_a = cut(&c, ix->dim * (ev__fine(ix) ? sizeof(float) : 1));
    s->probe_b = cut(&c, ix->dim * (ev__fine(ix) ? sizeof(float) : 1));
    s->fresh = cut(&c, ix->dim);
    s->rows = cut(&c, EV_BATCH * sizeof *s->rows);
    s->integers = cut(&c, EV_BATCH * sizeof *s->integers);
    s->slots = cut(&c, EV_BATCH * sizeof *s->slots);
    s->keys = cut(&c, EV_BATCH * sizeof *s->keys);
    s->candidates = cut(&c, EV_BATCH * sizeof *s->candidates);
    s->chosen = cut(&c, (EV_MAX_LEVEL + 1) * ix->m0 * sizeof *s->chosen);
    return c.used;
}

/* All that the parts above depend on. */
static uint64_t geometry_of(const ev_index *ix) {
    return (uint64_t)ix->dim | (uint64_t)ix->bits << 16 | (uint64_t)ix->m0 << 40 | (uint64_t)ev__by_bits(ix) << 60 |
           (uint64_t)ev__fine(ix) << 61;
}

int ev__scratch_new(const ev_index *ix, ev__scratch **out) {
    ev__scratch *s = ev__alloc_zero(sizeof *s, EV_LINE);
    if (!s) return ev__fail(EV_E_NOMEM, "a search context");
    s->bytes = cut_up(ix, s, NULL);
    s->memory = ev__alloc_zero(s->bytes, EV_LINE);
    if (!s->memory) {
        ev__release(s, sizeof *s, EV_LINE);
        return ev__fail(EV_E_NOMEM, "a search context");
    }
    cut_up(ix, s, s->memory);
    s->blind = EV_NONE;
    s->geometry = geometry_of(ix);
    *out = s;
    return EV_OK;
}

static void free_marks(ev__marks *marks) {
    ev__release(marks->at, marks->room * sizeof *marks->at, EV_LINE);
    *marks = (ev__marks){0};
}

static void free_pool(ev__pool *pool) {
    ev__release(pool->at, pool->room * sizeof *pool->at, EV_LINE);
    *pool = (ev__pool){0};
}

void ev__scratch_free(ev__scratch *s) {
    if (!s) return;
    free_pool(&s->pool);
    ev__release(s->results.at, s->results.room * sizeof *s->results.at, EV_LINE);
    free_marks(&s->marks);
    ev__release(s->heap, s->heap_room * sizeof *s->heap, EV_LINE);
    ev__release(s->memory, s->bytes, EV_LINE);
    ev__release(s, sizeof *s, EV_LINE);
}

size_t ev__scratch_bytes(const ev__scratch *s) {
    return sizeof *s + s->bytes + s->marks.room * sizeof *s->marks.at + s->heap_room * sizeof *s->heap +
           s->pool.room * sizeof *s->pool.at + s->results.room * sizeof *s->results.at;
}

static int fit_marks(const ev_index *ix, ev__marks *marks) {
    size_t room = ix->store.state.room;
    if (marks->room >= ev__slots(ix)) return EV_OK;
    uint16_t *grown = ev__alloc_zero(room * sizeof *grown, EV_LINE);
    if (!grown) return EV_E_NOMEM;
    free_marks(marks);
    *marks = (ev__marks){grown, room, 0};
    return EV_OK;
}

static int fit_pool(ev__pool *pool, size_t ef) {
    if (pool->room >= ef + 1) return EV_OK;
    ev__pool grown = {ev__alloc((ef + 1) * sizeof *grown.at, EV_LINE), 0, ef + 1};
    if (!grown.at) return EV_E_NOMEM;
    free_pool(pool);
    *pool = grown;
    return EV_OK;
}

static int fit_results(ev__ranking *results, size_t k) {
    if (results->room >= k + 1) return EV_OK;
    ev__ranking grown = {ev__alloc((k + 1) * sizeof *grown.at, EV_LINE), 0, k + 1};
    if (!grown.at) return EV_E_NOMEM;
    ev__release(results->at, results->room * sizeof *results->at, EV_LINE);
    *results = grown;
    return EV_OK;
}

static int fit_heap(const ev_index *ix, ev__scratch *s) {
    size_t room = ev__slots(ix) + 1; /* a walk meets each slot once */
    if (s->heap_room >= room) return EV_OK;
    ev__hit *heap = ev__alloc(room * sizeof *heap, EV_LINE);
    if (!heap) return EV_E_NOMEM;
    ev__release(s->heap, s->heap_room * sizeof *heap, EV_LINE);
    s->heap = heap;
    s->heap_room = room;
    return EV_OK;
}

int ev__scratch_fit(const ev_index *ix, ev__scratch *s, size_t ef, size_t k, bool masked) {
    size_t slots = ev__slots(ix) ? ev__slots(ix) : 1;
    int rc = fit_marks(ix, &s->marks);
    if (rc == EV_OK) rc = fit_pool(&s->pool, ef < slots ? ef : slots);
    if (rc == EV_OK) rc = fit_results(&s->results, k < slots ? k : slots);
    if (rc == EV_OK && masked) rc = fit_heap(ix, s);
    return rc == EV_OK ? EV_OK : ev__fail(rc, "a search over %zu slots with ef %zu", slots, ef);
}

void ev__new_walk(ev__scratch *s) {
    if (s->marks.epoch > UINT16_MAX - 3) { /* no room for two more */
        memset(s->marks.at, 0, s->marks.room * sizeof *s->marks.at);
        s->marks.epoch = 0;
    }
    s->marks.epoch += 2;
    if (s->blind != EV_NONE) ev__see(&s->marks, s->blind);
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

static bool is_small(const ev_index *ix, const ev__scratch *s) {
    enum { TIMES = 8 };
    return TIMES * ev__scratch_bytes(s) > ev__array_bytes(&ix->store.blocks);
}

static ev__scratch *take_shared(const ev_index *ix) {
    ev__scratch *found = NULL;
    uint64_t geometry = geometry_of(ix);
    if (!ev__try_take(&shared.taken)) return NULL;
    for (size_t i = 0; i < SHARED && !found; i++) {
        if (!shared.at[i] || shared.at[i]->geometry != geometry) continue;
        found = shared.at[i];
        shared.at[i] = NULL;
    }
    ev__store32_release(&shared.taken, 0);
    return found;
}

/* Does the scratch lie among the shared ones now? */
static bool share(ev__scratch *s) {
    if (ev__scratch_bytes(s) > MOST_SHARED_BYTES || !ev__try_take(&shared.taken)) return false;
    size_t i = 0;
    while (i < SHARED && shared.at[i]) i++;
    for (size_t j = 0; i == SHARED && j < SHARED; j++) /* in the place of one that does not fit this index */
        if (shared.at[j]->geometry != s->geometry) i = j;
    if (i < SHARED) {
        ev__scratch_free(shared.at[i]);
        shared.at[i] = s;
    }
    ev__store32_release(&shared.taken, 0);
    return i < SHARED;
}

void ev__scratch_open(void) { ev__add64(&shared.indexes, 1); }

void ev__scratch_close(ev_index *ix) {
    ev__scratch_drop_all(ix);
    if (ev__add64(&shared.indexes, -1) > 1 || !ev__try_take(&shared.taken)) return;
    for (size_t i = 0; i < SHARED; i++) {
        ev__scratch_free(shared.at[i]);
        shared.at[i] = NULL;
    }
    ev__store32_release(&shared.taken, 0);
}

int ev__scratch_borrow(ev_index *ix, ev__scratch **out) {
    ev__lock(&ix->scratch_lock);
    ev__scratch *s = ix->scratches;
    if (s) ix->scratches = s->next;
    ev__unlock(&ix->scratch_lock);
    if (!s) s = take_shared(ix);
    if (!s) return ev__scratch_new(ix, out);
    *out = s;
    return EV_OK;
}

void ev__scratch_return(ev_index *ix, ev__scratch *s) {
    if (is_small(ix, s)) {
        if (share(s)) return;
        if (!s->kept) {
            ev__scratch_free(s);
            return;
        }
    }
    ev__lock(&ix->scratch_lock);
    s->next = ix->scratches;
    ix->scratches = s;
    ev__unlock(&ix->scratch_lock);
}

void ev__scratch_drop_all(ev_index *ix) {
    ev__lock(&ix->scratch_lock);
    ev__scratch *s = ix->scratches;
    ix->scratches = NULL;
    ev__unlock(&ix->scratch_lock);
    for (ev__scratch *next; s; s = next) {
        next = s->next;
        ev__scratch_free(s);
    }
}
