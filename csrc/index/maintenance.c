/* What calls that change an index do for its links at their end, while searches go on: leading them around removed
 * vectors, and linking what searches do not find. */
#include "index/index.h"

enum {
    /* the graph is repaired when one in so many of its nodes is new; under ip, where short vectors lose their links to
       longer ones, more often */
    RECONNECT_EVERY = 32,
    RECONNECT_EVERY_IP = 256,
    MANY = 1 << 15 /* slots */
};

static void mend(ev_index *ix, int64_t rows, bool whole, ev__call *call) {
    const ev__gate gate = ev__gate_of(call);
    if (whole)
        ev__mend(&ix->graph, &gate);
    else
        ev__mend_step(&ix->graph, rows, &gate);
}

static void mend_where_due(ev_index *ix, int64_t rows, ev__call *call) {
    const ev__graph *g = &ix->graph;
    int64_t many = g->store.live / (g->store.quantizer.metric->product ? RECONNECT_EVERY_IP : RECONNECT_EVERY);
    if (g->mending || g->unrepaired > many) mend(ix, rows, rows > many, call);
}

/* Staged rows are as dead as those that were removed, so these wait while there are any. */
static bool is_to_consolidate(const ev_index *ix, bool adding) {
    return ev__consolidation_due(&ix->graph, adding) && !ev__staged(ix);
}

bool ev__consolidates_before(const ev_index *ix, int64_t rows) {
    return is_to_consolidate(ix, true) && ev__consolidates_at_once(&ix->graph, rows);
}

void ev__repair_after_adding(ev_index *ix, int64_t rows, int32_t threads, ev__call *call) {
    ev__graph *g = &ix->graph;
    const ev__gate gate = ev__gate_of(call);
    if (is_to_consolidate(ix, true)) {
        if (!ev__consolidates_at_once(g, rows))
            ev__consolidate_step(g, rows, &gate);
        else if (!g->store.shadow) /* else the next call of so many rows begins with it */
            ev__consolidate_deletes(g, threads, &gate);
    }
    mend_where_due(ix, rows, call);
}

/* A shadow copy, for which single steps wait, is made by additions: where none come, it would never be whole. */
static void encode_on(ev_index *ix, int64_t rows) {
    ev__scratch *s;
    if (!ix->graph.store.shadow || ev__scratch_borrow(&ix->graph, &s) != EV_OK) return;
    ev__encode_step(ix, rows, s);
    ev__scratch_return(&ix->graph, s);
}

void ev__repair_after_removing(ev_index *ix, int64_t rows, ev__call *call) {
    ev__graph *g = &ix->graph;
    const ev__gate gate = ev__gate_of(call);
    if (g->store.columns.blocks.mapped) return;
    if (is_to_consolidate(ix, false)) {
        if (ev__consolidates_at_once(g, rows)) {
            ev__consolidate_deletes(g, 0, &gate);
        } else {
            encode_on(ix, rows);
            ev__consolidate_step(g, rows, &gate);
        }
    } else if (!g->mending) {
        return; /* what was linked before is mended as more is linked */
    }
    mend_where_due(ix, rows, call);
}

void ev__links_lost(ev_index *ix, ev__call *call) {
    ix->graph.unrepaired += ix->graph.store.live;
    ev__watch_finish();
    if (ev__slots(&ix->graph.store) <= MANY) mend(ix, 0, true, call);
}
