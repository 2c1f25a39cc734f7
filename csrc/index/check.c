/* ev_check: does the index say of itself what is so? Everything is counted afresh from the columns. */
#include "index/index.h"

#include <stdlib.h>

static const ev__mask everything = {false, NULL};

static bool is_live(const ev__store *store, uint32_t slot) { return ev__slot_ok(store, &everything, slot); }

/* ---- states and ids -------------------------------------------------------------------------- */

static void count_states(const ev__store *store, ev_report *r) {
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        unsigned state = ev__state(store, (uint32_t)slot);
        r->live += is_live(store, (uint32_t)slot);
        r->dead += state == EV_DEAD_NODE || state == EV_DEAD_DUPLICATE;
        r->free_slots += state == EV_FREE;
        r->duplicates += state == EV_DUPLICATE;
    }
}

/* From the ids to the table and back. */
static void check_ids(const ev__store *store, ev_report *r) {
    const int64_t *ids = ev__ids_of(store);
    for (size_t slot = 0; slot < ev__slots(store) && !ev__is_to_stop_at(slot); slot++)
        if (is_live(store, (uint32_t)slot)) r->bad_ids += ev__id_table_get(&store->id_table, ids, ids[slot]) != slot;
    for (size_t i = 0; i < store->id_table.room && !ev__is_to_stop_at(i); i++) {
        uint32_t slot = store->id_table.cells[i];
        if (slot != EV_NONE) r->bad_ids += slot >= ev__slots(store) || !is_live(store, slot);
    }
}

/* ---- links ----------------------------------------------------------------------------------- */

static uint32_t degree(const ev__store *store, const uint32_t *links, int level) {
    uint32_t n = 0;
    while (n < ev__max_links(store, level) && links[n] != EV_NONE) n++;
    return n;
}

static bool holds(const uint32_t *links, uint32_t count, uint32_t slot) {
    for (uint32_t i = 0; i < count; i++)
        if (links[i] == slot) return true;
    return false;
}

static bool is_bad_link(const ev__store *store, uint32_t from, int level, const uint32_t *links, uint32_t i) {
    uint32_t to = links[i];
    return to >= ev__slots(store) || to == from || !ev__is_node(store, to) || ev__levels(store)[to] < level ||
           holds(links, i, to);
}

static void check_level(const ev__store *store, uint32_t slot, int level, ev_report *r) {
    const uint32_t *links = ev__links(store, slot, level);
    uint32_t n = degree(store, links, level);
    for (uint32_t i = 0; i < n; i++) {
        if (is_bad_link(store, slot, level, links, i)) {
            r->bad_links++;
        } else if (level == 0) {
            const uint32_t *back = ev__links0(store, links[i]);
            r->mutual_edges += holds(back, degree(store, back, 0), slot);
        }
    }
    if (level > 0) return;
    r->edges += n;
    if (r->min_degree < 0 || n < r->min_degree) r->min_degree = n;
    if (n > r->max_degree) r->max_degree = n;
}

static void check_links(const ev_index *ix, ev_report *r) {
    const ev__store *store = &ix->graph.store;
    r->min_degree = -1;
    for (size_t slot = 0; slot < ev__slots(store) && !ev__is_to_stop_at(slot); slot++) {
        if (!ev__is_node(store, (uint32_t)slot)) continue;
        r->nodes += ev__node_ok(store, &everything, (uint32_t)slot);
        int level = ev__levels(store)[slot];
        if (level >= r->levels) r->levels = level + 1;
        for (; level >= 0; level--) check_level(store, (uint32_t)slot, level, r);
    }
    if (r->min_degree < 0) r->min_degree = 0;
}

/* Only over links that are in range. */
static int count_unreachable(const ev_index *ix, ev_report *r) {
    const ev__store *store = &ix->graph.store;
    if (r->bad_links) {
        r->unreachable = r->nodes;
        return EV_OK;
    }
    size_t slots = ev__slots(store), bytes = (slots + 63) / 64 * sizeof(uint64_t);
    uint64_t *reached = ev__alloc_zero(bytes, EV_LINE);
    uint32_t *stack = ev__alloc(slots * sizeof *stack, EV_LINE);
    if (reached && stack) {
        ev__reaching reaching = {.slots = slots, .reached = reached, .stack = stack};
        ev__reach_from(&reaching, ix->graph.entry);
        while (ev__reach_step(&ix->graph, &reaching, 1024) && !ev__is_to_stop()) continue;
        for (size_t slot = 0; slot < slots; slot++)
            r->unreachable += ev__is_node(store, (uint32_t)slot) && !ev__bit(reached, (uint32_t)slot) &&
                              ev__node_ok(store, &everything, (uint32_t)slot);
    }
    int rc = reached && stack ? EV_OK : EV_E_NOMEM;
    ev__release(reached, bytes, EV_LINE);
    ev__release(stack, slots * sizeof *stack, EV_LINE);
    return rc;
}

/* ---- codes ----------------------------------------------------------------------------------- */

/* Is it what the vector is encoded to? */
static bool code_is_of(const ev__store *store, uint32_t slot, const float *vector, ev__scratch *s) {
    const ev__factor *held = ev__factor_of(store, slot);
    ev__factor factor;
    store->quantizer.codec->encode(&store->quantizer, vector, s->work.code, &factor, NULL, &s->work);
    return factor.scale == held->scale && factor.bias == held->bias &&
           memcmp(s->work.code, ev__block(store, slot), store->quantizer.code_bytes) == 0;
}

/* Is it one that any vector is encoded to? The largest coordinate is 127; without a scale, all are 0. */
static bool code_is_sound(const ev__store *store, uint32_t slot) {
    const int8_t *code = (const int8_t *)ev__block(store, slot);
    const ev__factor *held = ev__factor_of(store, slot);
    int most = 0;
    for (size_t i = 0; i < store->quantizer.dim; i++) most = abs(code[i]) > most ? abs(code[i]) : most;
    return most == (held->scale > 0 ? 127 : 0) && held->bias == ev__code_bias(&store->quantizer, code, held->scale);
}

/* Against the vectors where codes were made of them; codes that are a part of the vector can only be sound. */
static int check_codes(ev_index *ix, ev_report *r) {
    ev__store *store = &ix->graph.store;
    ev__quantizer *q = &store->quantizer;
    if (q->quantization == EV_QUANT_NONE || !q->keep_vectors) return EV_OK;
    ev__scratch *s;
    int rc = ev__scratch_borrow(&ix->graph, &s);
    if (rc != EV_OK) return rc;
    for (size_t i = 0; i < ev__slots(store) && !ev__is_to_stop_at(i); i++) {
        uint32_t slot = (uint32_t)i;
        if (ev__state(store, slot) == EV_FREE) continue;
        bool good = q->codec->refined
                        ? code_is_sound(store, slot)
                        : code_is_of(store, slot, ev__vector_read(store, slot, s->work.unit, &s->work), s);
        r->bad_codes += !good || !ev__prefilter_ok(store, slot, &s->work);
    }
    ev__scratch_return(&ix->graph, s);
    return EV_OK;
}

static int judge(ev_index *ix, ev_report *r) {
    ev__scratch *s;
    int rc = ev__scratch_borrow(&ix->graph, &s);
    if (rc != EV_OK) return rc;
    rc = ev__judge(ix, &r->walk, s);
    ev__scratch_return(&ix->graph, s);
    return rc;
}

int ev_check(ev_index *ix, ev_report *out) {
    ev_report r = {0};
    ev__call call;
    int rc = ev__complete(ix, EV_LACKS_NOTHING);
    if (rc == EV_OK) rc = ev__enter(ix, EV_READ_AT_REST, &call);
    if (rc != EV_OK) return rc;
    ev__watch watch;
    ev__watch_begin(&watch, NULL, NULL, 0);
    count_states(&ix->graph.store, &r);
    check_ids(&ix->graph.store, &r);
    check_links(ix, &r);
    if (!ev__is_to_stop()) rc = count_unreachable(ix, &r);
    if (rc == EV_OK && !ev__is_to_stop()) rc = check_codes(ix, &r);
    if (rc == EV_OK && !ev__is_to_stop()) rc = judge(ix, &r);
    if (rc == EV_OK && ev__is_to_stop()) rc = EV_E_STOPPED;
    ev__watch_end(&watch);
    int trouble = ev__call_trouble(&call);
    ev__leave(&call);
    if (trouble != EV_OK) return trouble;
    if (rc != EV_OK) return ev__fail(rc, "checking the index");
    *out = r;
    return ev__ok();
}
