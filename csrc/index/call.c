/* Calls under way: the index's lock, taken once by each, and what a callback may ask meanwhile. */
#include "index/index.h"

static EV_THREAD_LOCAL ev__call *innermost;

static bool is_under_way(const ev_index *ix) {
    const ev__call *call = innermost;
    while (call && call->ix != ix) call = call->outer;
    return call != NULL;
}

static bool begin(ev_index *ix, ev__lock_kind kind, ev__call *call) {
    if (kind == EV_WRITE && !ev__write_lock(&ix->lock)) return false;
    if (kind == EV_READ && !ev__read_lock(&ix->lock)) return false;
    *call = (ev__call){ix, kind, innermost};
    innermost = call;
    return true;
}

int ev__enter(ev_index *ix, ev__lock_kind kind, ev__call *call) {
    if (EV_UNLIKELY(is_under_way(ix))) {
        ev__fail(EV_E_REENTRANT, "a callback can only ask for the index's size, parameters and statistics");
        return EV_E_REENTRANT;
    }
    if (begin(ix, kind, call)) return EV_OK;
    return ev__fail(EV_E_FORKED, "load it again from its file, or fork while nothing changes it");
}

bool ev__enter_to_look(ev_index *ix, ev__call *call) {
    return begin(ix, is_under_way(ix) ? EV_NO_LOCK : EV_READ, call);
}

void ev__leave(ev__call *call) {
    innermost = call->outer;
    if (call->held == EV_WRITE) ev__write_unlock(&call->ix->lock);
    if (call->held == EV_READ) ev__read_unlock(&call->ix->lock);
}
