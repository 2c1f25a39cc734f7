/* A context: the scratch of a caller that searches in a loop, and what its last search did. */
#include "index/search.h"

int ev_context_new(ev_index *ix, ev_context **out) {
    ev__call call;
    if (!ev__enter_to_look(ix, &call)) return ev__refuse_call(ix);
    ev_context *c = ev__alloc_zero(sizeof *c, EV_LINE);
    int rc = c ? ev__scratch_new(&ix->graph, &c->scratch) : ev__fail(EV_E_NOMEM, "a search context");
    if (rc == EV_OK) {
        c->serial = ix->serial;
        c->account = ev__account_share(ix->account);
    } else {
        ev__release(c, sizeof *c, EV_LINE);
    }
    ev__leave(&call);
    if (rc != EV_OK) return rc;
    *out = c;
    return ev__ok();
}

void ev_context_free(ev_context *c) {
    if (!c) return;
    ev__account *account = c->account, *was = ev__charge_to(account); /* the index may be gone */
    ev__scratch_free(c->scratch);
    ev__release(c, sizeof *c, EV_LINE);
    ev__charge_to(was);
    ev__account_drop(account);
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
