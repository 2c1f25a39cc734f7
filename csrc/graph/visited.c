/* The slots that a walk has met: marks, or a hash set where marks would be far.
 *
 * A walk asks of each link whether it has met that slot before. A byte a slot is at hand while all of them fit into
 * a near cache; of a million slots each is a line from far away that nothing can be fetched ahead of. A set of those
 * that were met is a few kilobytes. One that outgrows what was foreseen grows, and becomes marks when it is no longer
 * much smaller than they are. */
#include "edgevec_test.h"
#include "graph/graph.h"

enum {
    LEAST_SLOTS = 3 << 18,  /* fewer are marked */
    LEAST_BUCKETS = 1 << 6, /* a power of two */
    TIMES_SMALLER = 4       /* than marks a hash set must be */
};

static size_t bytes_of(size_t buckets) { return buckets * EV_BUCKET * sizeof(uint32_t); }

#ifdef EDGEVEC_TESTING
static size_t least_slots = LEAST_SLOTS;
void ev_hash_from(int64_t slots) { least_slots = slots ? (size_t)slots : LEAST_SLOTS; }
#else
static const size_t least_slots = LEAST_SLOTS;
#endif

static bool fits(const ev__visited *v, size_t buckets) {
    return v->slots >= least_slots && TIMES_SMALLER * bytes_of(buckets) <= v->slots * sizeof *v->marks;
}

/* Of room for at least so many: empty once they are cleared. */
static void use_buckets(ev__visited *v, size_t count) {
    v->used += !v->hashed || v->bucket_count != count; /* there is something to clear */
    v->hashed = true;
    v->bucket_count = count;
    v->grows_at = count * EV_BUCKET / 4 * 3;
    v->shift = 32;
    for (; count > 1; count /= 2) v->shift--;
}

static int use_marks(ev__visited *v) {
    if (v->marked < v->slots) {
        uint8_t *grown = ev__alloc_zero(v->room * sizeof *grown, EV_LINE);
        if (!grown) return EV_E_NOMEM;
        ev__release(v->marks, v->marked * sizeof *v->marks, EV_LINE);
        v->marks = grown;
        v->marked = v->room;
        v->epoch = 0;
    }
    v->hashed = false;
    return EV_OK;
}

static size_t buckets_for(const ev__visited *v, size_t met) {
    size_t count = LEAST_BUCKETS;
    while (count * EV_BUCKET < met && fits(v, count)) count *= 2;
    return count;
}

size_t ev__visited_need(size_t slots, size_t room, size_t met) {
    const ev__visited v = {.slots = slots};
    size_t count = buckets_for(&v, met);
    return fits(&v, count) ? bytes_of(count) : room * sizeof *v.marks;
}

int ev__visited_fit(ev__visited *v, size_t slots, size_t room, size_t met) {
    v->slots = slots;
    v->room = room;
    size_t count = buckets_for(v, met);
    if (!fits(v, count)) return use_marks(v);
    if (v->bucket_room < count) {
        uint32_t *grown = ev__alloc(bytes_of(count), EV_LINE);
        if (!grown) return EV_E_NOMEM;
        ev__release(v->buckets, bytes_of(v->bucket_room), EV_LINE);
        v->buckets = grown;
        v->bucket_room = count;
        v->bucket_count = 0;
    }
    use_buckets(v, count);
    return EV_OK;
}

void ev__visited_free(ev__visited *v) {
    ev__release(v->marks, v->marked * sizeof *v->marks, EV_LINE);
    ev__release(v->buckets, bytes_of(v->bucket_room), EV_LINE);
    *v = (ev__visited){0};
}

size_t ev__visited_bytes(const ev__visited *v) { return v->marked * sizeof *v->marks + bytes_of(v->bucket_room); }

void ev__visited_clear(ev__visited *v) {
    v->full = false;
    if (v->hashed) {
        if (v->used) memset(v->buckets, 0xFF, bytes_of(v->bucket_count)); /* EV_NONE */
        v->used = 0;
    } else if (++v->epoch == 0) {
        memset(v->marks, 0, v->marked * sizeof *v->marks);
        v->epoch = 1;
    }
}

/* ---- growing --------------------------------------------------------------------------------- */

/* In the first bucket from its own on where it lies, or where there is room. */
static bool visit_next(ev__visited *v, uint32_t slot) {
    size_t at = ev__bucket_of(v, slot);
    for (size_t tried = 0; tried < v->bucket_count; tried++, at = (at + 1) & (v->bucket_count - 1)) {
        uint32_t *bucket = v->buckets + at * EV_BUCKET;
        unsigned same = ev__equal8(bucket, slot), place = same | ev__equal8(bucket, EV_NONE) << EV_BUCKET;
        if (!place) continue;
        bucket[ev__lowest_bit(place) % EV_BUCKET] = slot;
        v->used += !same;
        return !same;
    }
    v->full = true;
    return false;
}

static void take_over(ev__visited *v, const uint32_t *slots, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (slots[i] == EV_NONE) continue;
        if (v->hashed)
            visit_next(v, slots[i]);
        else
            ev__visit_marked(v, slots[i]);
    }
}

/* More buckets, or marks in their place. */
static bool grow(ev__visited *v) {
    size_t count = 2 * v->bucket_count, had = v->bucket_count * EV_BUCKET;
    if (!fits(v, count)) {
        if (use_marks(v) != EV_OK) return false;
        ev__visited_clear(v);
        take_over(v, v->buckets, had);
        return true;
    }
    uint32_t *grown = ev__alloc(bytes_of(count), EV_LINE), *old = v->buckets;
    if (!grown) return false;
    v->buckets = grown;
    use_buckets(v, count);
    ev__visited_clear(v);
    take_over(v, old, had);
    ev__release(old, bytes_of(v->bucket_room), EV_LINE);
    v->bucket_room = count;
    return true;
}

bool ev__visit_crowded(ev__visited *v, uint32_t slot) {
    if (v->used >= v->grows_at && !grow(v)) v->grows_at = SIZE_MAX; /* it may still be filled */
    return v->hashed ? visit_next(v, slot) : ev__visit_marked(v, slot);
}
