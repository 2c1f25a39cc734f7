/* ev_check: does the index say of itself what is so? Everything is counted afresh from the columns. */
#include "internal.h"

#include <stdlib.h>

static const ev__mask everything = {false, NULL};

static bool is_node(const ev_index *ix, uint32_t slot) {
    unsigned state = ev__state(ix, slot);
    return state == EV_NODE || state == EV_DEAD_NODE;
}

static bool is_live(const ev_index *ix, uint32_t slot) { return ev__slot_ok(ix, &everything, slot); }

/* ---- states and ids -------------------------------------------------------------------------- */

static void count_states(const ev_index *ix, ev_report *r) {
    for (size_t slot = 0; slot < ev__slots(ix); slot++) {
        unsigned state = ev__state(ix, (uint32_t)slot);
        r->live += is_live(ix, (uint32_t)slot);
        r->dead += state == EV_DEAD_NODE || state == EV_DEAD_DUPLICATE;
        r->free_slots += state == EV_FREE;
        r->duplicates += state == EV_DUPLICATE;
    }
}

/* From the ids to the table and back. */
static void check_ids(const ev_index *ix, ev_report *r) {
    const int64_t *ids = ev__ids_of(ix);
    for (size_t slot = 0; slot < ev__slots(ix); slot++)
        if (is_live(ix, (uint32_t)slot)) r->bad_ids += ev__idmap_get(&ix->idmap, ids, ids[slot]) != slot;
    for (size_t i = 0; i < ix->idmap.room; i++) {
        uint32_t slot = ix->idmap.cells[i];
        if (slot != EV_NONE) r->bad_ids += slot >= ev__slots(ix) || !is_live(ix, slot);
    }
}

/* ---- links ----------------------------------------------------------------------------------- */

static uint32_t degree(const ev_index *ix, const uint32_t *links, int level) {
    uint32_t n = 0;
    while (n < ev__max_links(ix, level) && links[n] != EV_NONE) n++;
    return n;
}

static bool holds(const uint32_t *links, uint32_t count, uint32_t slot) {
    for (uint32_t i = 0; i < count; i++)
        if (links[i] == slot) return true;
    return false;
}

static bool is_bad_link(const ev_index *ix, uint32_t from, int level, const uint32_t *links, uint32_t i) {
    uint32_t to = links[i];
    return to >= ev__slots(ix) || to == from || !is_node(ix, to) || ev__levels(ix)[to] < level || holds(links, i, to);
}

static void check_level(const ev_index *ix, uint32_t slot, int level, ev_report *r) {
    const uint32_t *links = ev__links(ix, slot, level);
    uint32_t n = degree(ix, links, level);
    for (uint32_t i = 0; i < n; i++) {
        if (is_bad_link(ix, slot, level, links, i)) {
            r->bad_links++;
        } else if (level == 0) {
            const uint32_t *back = ev__links0(ix, links[i]);
            r->mutual_edges += holds(back, degree(ix, back, 0), slot);
        }
    }
    if (level > 0) return;
    r->edges += n;
    if (r->min_degree < 0 || n < r->min_degree) r->min_degree = n;
    if (n > r->max_degree) r->max_degree = n;
}

static void check_links(const ev_index *ix, ev_report *r) {
    r->min_degree = -1;
    for (size_t slot = 0; slot < ev__slots(ix); slot++) {
        if (!is_node(ix, (uint32_t)slot)) continue;
        r->nodes += ev__node_ok(ix, &everything, (uint32_t)slot);
        int level = ev__levels(ix)[slot];
        if (level >= r->levels) r->levels = level + 1;
        for (; level >= 0; level--) check_level(ix, (uint32_t)slot, level, r);
    }
    if (r->min_degree < 0) r->min_degree = 0;
}

/* Only over links that are in range: ev__reach trusts them. */
static int count_unreachable(const ev_index *ix, ev_report *r) {
    if (r->bad_links) {
        r->unreachable = r->nodes;
        return EV_OK;
    }
    size_t slots = ev__slots(ix), bytes = (slots + 63) / 64 * sizeof(uint64_t);
    uint64_t *reached = ev__alloc_zero(bytes, EV_LINE);
    uint32_t *stack = ev__alloc(slots * sizeof *stack, EV_LINE);
    if (reached && stack) {
        ev__reach(ix, ix->entry, reached, stack);
        for (size_t slot = 0; slot < slots; slot++)
            r->unreachable += is_node(ix, (uint32_t)slot) && !(reached[slot >> 6] >> (slot & 63) & 1) &&
                              ev__node_ok(ix, &everything, (uint32_t)slot);
    }
    int rc = reached && stack ? EV_OK : EV_E_NOMEM;
    ev__release(reached, bytes, EV_LINE);
    ev__release(stack, slots * sizeof *stack, EV_LINE);
    return rc;
}

/* ---- codes ----------------------------------------------------------------------------------- */

/* Is it what the vector is encoded to? */
static bool code_is_of(const ev_index *ix, uint32_t slot, const float *vector, ev__scratch *s) {
    const ev__factor *held = ev__factor_of(ix, slot);
    ev__factor factor;
    ev__encode(ix, vector, s->code, &factor, s);
    return factor.scale == held->scale && factor.bias == held->bias &&
           memcmp(s->code, ev__block(ix, slot), ix->code_bytes) == 0;
}

/* Is it one that any vector is encoded to? The largest coordinate is 127; without a scale, all are 0. */
static bool code_is_sound(const ev_index *ix, uint32_t slot) {
    const int8_t *code = (const int8_t *)ev__block(ix, slot);
    const ev__factor *held = ev__factor_of(ix, slot);
    int most = 0;
    for (size_t i = 0; i < ix->dim; i++) most = abs(code[i]) > most ? abs(code[i]) : most;
    return most == (held->scale > 0 ? 127 : 0) && held->bias == ev__code_bias(ix, code, held->scale);
}

/* Against the vectors where codes were made of them; codes that are a part of the vector can only be sound. */
static int check_codes(ev_index *ix, ev_report *r) {
    if (ix->p.quantization == EV_QUANT_NONE || !ix->p.keep_vectors) return EV_OK;
    ev__scratch *s;
    int rc = ev__scratch_borrow(ix, &s);
    if (rc != EV_OK) return rc;
    for (size_t i = 0; i < ev__slots(ix); i++) {
        uint32_t slot = (uint32_t)i;
        if (ev__state(ix, slot) == EV_FREE) continue;
        const float *vector = ev__vector(ix, slot);
        bool good = vector ? code_is_of(ix, slot, vector, s) : code_is_sound(ix, slot);
        r->bad_codes += !good || !ev__sift_ok(ix, slot, s);
    }
    ev__scratch_return(ix, s);
    return EV_OK;
}

static int judge(ev_index *ix, ev_report *r) {
    ev__scratch *s;
    int rc = ev__scratch_borrow(ix, &s);
    if (rc != EV_OK) return rc;
    rc = ev__judge(ix, &r->walk, s);
    ev__scratch_return(ix, s);
    return rc;
}

int ev_check(ev_index *ix, ev_report *out) {
    ev_report r = {0};
    ev__call call;
    int rc = ev__enter(ix, EV_READ, &call);
    if (rc != EV_OK) return rc;
    count_states(ix, &r);
    check_ids(ix, &r);
    check_links(ix, &r);
    rc = count_unreachable(ix, &r);
    if (rc == EV_OK) rc = check_codes(ix, &r);
    if (rc == EV_OK) rc = judge(ix, &r);
    ev__leave(&call);
    if (rc != EV_OK) return ev__fail(rc, "checking the index");
    *out = r;
    return ev__ok();
}
