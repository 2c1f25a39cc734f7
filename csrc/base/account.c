/* Accounts: whose memory it is, and how much that may be. What a thread allocates and releases is counted in the
 * account that it has chosen, so both must be done under the same one. */
#include "base/base.h"

static EV_THREAD_LOCAL ev__account *charged;
static EV_THREAD_LOCAL bool reader;
static EV_THREAD_LOCAL ev__refusal refusal;

void ev__account_set_limit(ev__account *account, int64_t bytes, int64_t floor) {
    ev__atomic_store64(&account->floor, floor);
    ev__atomic_store64(&account->limit, bytes);
}

void ev__account_read(const ev__account *account, ev_memory *out) {
    out->held = ev__atomic_load64(&account->held);
    out->peak = ev__atomic_load64(&account->peak);
    out->limit = ev__atomic_load64(&account->limit);
}

ev__account *ev__charge_to(ev__account *account) {
    ev__account *was = charged;
    charged = account;
    return was;
}

/* ---- counting -------------------------------------------------------------------------------- */

static bool refuse(int64_t asked, int64_t held, int64_t limit) {
    refusal = (ev__refusal){asked, held, limit};
    return false;
}

int64_t ev__limit(void) {
    int64_t limit = charged ? ev__atomic_load64(&charged->limit) : 0, floor = 0;
    if (limit && reader) floor = ev__atomic_load64(&charged->floor);
    return floor > limit ? floor : limit;
}

void ev__charge_as_reader(bool reads) { reader = reads; }

static bool fits(int64_t more, int64_t held, int64_t limit) {
    return !limit || (held <= limit && more <= limit - held);
}

bool ev__charge(size_t bytes) {
    ev__account *a = charged;
    if (!a) return true;
    int64_t more = (int64_t)bytes, held = ev__atomic_load64(&a->held), peak = ev__atomic_load64(&a->peak);
    do { /* another thread may be charging too: what is counted is never above the limit, not even for a moment */
        int64_t limit = ev__limit();
        if (EV_UNLIKELY(!fits(more, held, limit))) return refuse(more, held, limit);
    } while (!ev__swap64(&a->held, &held, held + more));
    while (peak < held + more && !ev__swap64(&a->peak, &peak, held + more)) {
    }
    return true;
}

void ev__discharge(size_t bytes) {
    if (charged) ev__add64(&charged->held, -(int64_t)bytes);
}

bool ev__may_charge(size_t bytes) {
    if (!charged) return true;
    int64_t held = ev__atomic_load64(&charged->held), limit = ev__limit();
    return fits((int64_t)bytes, held, limit) || refuse((int64_t)bytes, held, limit);
}

const ev__refusal *ev__last_refusal(void) { return &refusal; }

void *ev__refused_by_none(void) {
    refusal.asked = 0;
    return NULL;
}

/* ---- growth ---------------------------------------------------------------------------------- */

size_t ev__growth(void) { return charged ? charged->growth : EV_GROWTH; }

void ev__set_growth(size_t growth) {
    if (charged) charged->growth = growth;
}
