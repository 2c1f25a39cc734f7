/* A context: the scratch of a caller that searches in a loop, and what its last search did. */
#include "index/search.h"

int ev_context_new(ev_index *ix, ev_context **out) {
    ev_context *c = ev__alloc_zero(sizeof *c, EV_LINE);
    if (!c) return ev__fail(EV_E_NOMEM, "a search context");
    c->serial = ix->serial;
    ev__call call;
    int rc = ev__enter_to_look(ix, &call) ? EV_OK : ev__refuse_call(ix);
    if (rc == EV_OK) {
        rc = ev__scratch_new(&ix->graph, &c->scratch);
        ev__leave(&call);
    }
    if (rc != EV_OK) {
        ev__release(c, sizeof *c, EV_LINE);
        return rc;
    }
    *out = c;
    return ev__ok();
}

void ev_context_free(ev_context *c) {
    if (!c) return;
    ev__scratch_free(c->scratch);
    ev__release(c, sizeof *c, EV_LINE);
}

void ev_context_stats(ev_context *c, ev_search_stats *out) {
    ev__spin_lock(&c->lock);
    *out = c->stats;
    ev__spin_unlock(&c->lock);
}

void ev__context_note(ev_context *c) {
    ev__spin_lock(&c->lock);
    c->stats = c->scratch->stats;
    ev__spin_unlock(&c->lock);
}
