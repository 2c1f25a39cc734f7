/* Calls under way: the index's lock, taken once by each, and what a callback may ask meanwhile. */
#include "index/index.h"

static EV_THREAD_LOCAL ev__call *innermost;

static bool is_under_way(const ev_index *ix) {
    const ev__call *call = innermost;
    while (call && call->ix != ix) call = call->outer;
    return call != NULL;
}

static bool take_outer(ev_index *ix, ev__lock_kind kind) {
    if (kind == EV_WRITE) return ev__write_lock(&ix->changing);
    return kind != EV_READ_AT_REST || ev__read_lock(&ix->changing);
}

static void give_back_outer(ev_index *ix, ev__lock_kind kind) {
    if (kind == EV_WRITE) ev__write_unlock(&ix->changing);
    if (kind == EV_READ_AT_REST) ev__read_unlock(&ix->changing);
}

static bool take_inner(ev_index *ix, ev__lock_kind kind) {
    if (kind == EV_WRITE) return ev__write_lock(&ix->lock);
    return kind == EV_NO_LOCK || ev__read_lock(&ix->lock);
}

static void give_back(ev_index *ix, ev__lock_kind kind) {
    if (kind == EV_WRITE) ev__write_unlock(&ix->lock);
    if (kind == EV_READ || kind == EV_READ_AT_REST) ev__read_unlock(&ix->lock);
    give_back_outer(ix, kind);
}

static bool begin(ev_index *ix, ev__lock_kind kind, ev__call *call) {
    if (!take_outer(ix, kind)) return false;
    if (!take_inner(ix, kind)) {
        give_back_outer(ix, kind);
        return false;
    }
    if (EV_UNLIKELY(ix->closed)) {
        give_back(ix, kind);
        return false;
    }
    *call = (ev__call){ix, kind, innermost, ev__paged_faults(&ix->graph.store)};
    innermost = call;
    ev__charge_to(ix->account);
    ev__charge_as_reader(kind != EV_WRITE);
    ev__refused_by_none();
    return true;
}

int ev__refuse_call(const ev_index *ix) {
    if (ix->closed) return ev__fail(EV_E_CLOSED, "%s", "");
    if (ix->broken) return ev__fail(EV_E_IO, "vectors on disk failed while codes were made anew; load it again");
    return ev__fail(EV_E_FORKED, "load it again from its file, or fork while nothing changes it");
}

static int enter(ev_index *ix, ev__lock_kind kind, bool closing, ev__call *call) {
    if (EV_UNLIKELY(is_under_way(ix))) {
        ev__fail(EV_E_REENTRANT, "a callback can only ask for the index's size, parameters and statistics");
        return EV_E_REENTRANT;
    }
    if (!begin(ix, kind, call)) return ev__refuse_call(ix);
    if (EV_LIKELY(!ix->broken || closing)) return EV_OK;
    ev__leave(call);
    return ev__refuse_call(ix);
}

int ev__enter(ev_index *ix, ev__lock_kind kind, ev__call *call) { return enter(ix, kind, false, call); }
int ev__enter_to_close(ev_index *ix, ev__call *call) { return enter(ix, EV_WRITE, true, call); }

int ev__call_trouble(const ev__call *call) { return ev__paged_trouble(&call->ix->graph.store, call->faults); }

bool ev__enter_to_look(ev_index *ix, ev__call *call) {
    return begin(ix, is_under_way(ix) ? EV_NO_LOCK : EV_READ, call);
}

void ev__leave(ev__call *call) {
    innermost = call->outer;
    ev__charge_to(innermost ? innermost->ix->account : NULL);
    ev__charge_as_reader(innermost && innermost->held != EV_WRITE);
    give_back(call->ix, call->held);
}

void ev__pause(ev__call *call) { ev__write_unlock(&call->ix->lock); }

/* Only in a child that a callback of this call has forked could it be refused, and that ends the call before. */
void ev__resume(ev__call *call) { (void)ev__write_lock(&call->ix->lock); }

static void resume(void *call) { ev__resume(call); }
static void pause(void *call) { ev__pause(call); }
ev__gate ev__gate_of(ev__call *call) { return (ev__gate){resume, pause, call}; }

int ev__complete(ev_index *ix, uint32_t lacks) {
    if (EV_LIKELY(ev__load32_acquire(&ix->lacks) <= lacks)) return EV_OK;
    ev__call call;
    int rc = ev__enter(ix, EV_WRITE, &call);
    if (rc != EV_OK) return rc;
    if (ix->lacks > lacks) rc = ix->complete(ix, lacks);
    ev__leave(&call);
    return rc;
}
