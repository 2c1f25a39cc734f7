/* A set of allowed ids. The bit set over an index's slots is made on first use and kept until that index changes. */
#include "index/index.h"

#include <stdlib.h>

typedef struct {
    uint64_t serial, version; /* of the index it was made for */
    ev__account *account;     /* likewise; the index may be gone */
    uint64_t *bits;
    size_t words;
    int64_t count;
    int users; /* searches under way, and the filter itself */
} slot_set;

struct ev_filter {
    int64_t *ids; /* as they were given */
    int64_t count;
    int64_t distinct; /* atomic; -1: not counted yet */
    ev__mutex lock;
    slot_set *cached;
};

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool ascends(int64_t n, const int64_t *ids) {
    bool ascending = true;
    for (int64_t i = 1; i < n && ascending; i++) ascending = ids[i - 1] < ids[i];
    return ascending;
}

int ev_filter_new(int64_t n, const int64_t *ids, ev_filter **out) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld ids", (long long)n);
    ev__account *was = ev__charge_to(NULL); /* it is of no index */
    ev_filter *f = ev__alloc_zero(sizeof *f, EV_LINE);
    if (f) f->ids = ev__alloc((size_t)n * sizeof *ids, EV_LINE);
    if (!f || !f->ids) {
        ev__release(f, sizeof *f, EV_LINE);
        ev__charge_to(was);
        return ev__fail(EV_E_NOMEM, "a filter of %lld ids", (long long)n);
    }
    ev__charge_to(was);
    if (n) memcpy(f->ids, ids, (size_t)n * sizeof *ids);
    f->count = n;
    f->distinct = ascends(n, ids) ? n : -1;
    ev__mutex_init(&f->lock);
    *out = f;
    return ev__ok();
}

static void set_drop(slot_set *set) {
    if (!set || --set->users) return;
    ev__account *account = set->account, *was = ev__charge_to(account);
    ev__release(set->bits, set->words * sizeof *set->bits, EV_LINE);
    ev__release(set, sizeof *set, EV_LINE);
    ev__charge_to(was);
    ev__account_drop(account);
}

void ev_filter_free(ev_filter *f) {
    if (!f) return;
    set_drop(f->cached);
    ev__mutex_free(&f->lock);
    ev__account *was = ev__charge_to(NULL);
    ev__release(f->ids, (size_t)f->count * sizeof *f->ids, EV_LINE);
    ev__release(f, sizeof *f, EV_LINE);
    ev__charge_to(was);
}

int64_t ev_filter_count(ev_filter *f) {
    int64_t distinct = ev__atomic_load64(&f->distinct);
    if (distinct >= 0) return distinct;
    size_t bytes = (size_t)f->count * sizeof *f->ids;
    int64_t *sorted = ev__alloc(bytes, EV_LINE);
    if (!sorted) return -ev__fail(EV_E_NOMEM, "to count %lld ids", (long long)f->count);
    memcpy(sorted, f->ids, bytes);
    qsort(sorted, (size_t)f->count, sizeof *sorted, ascending);
    distinct = 1;
    for (int64_t i = 1; i < f->count; i++) distinct += sorted[i] != sorted[i - 1];
    ev__release(sorted, bytes, EV_LINE);
    ev__atomic_store64(&f->distinct, distinct);
    return distinct;
}

int ev_filter_is_of(const ev_filter *f, int64_t n, const int64_t *ids) {
    return n == f->count && (n == 0 || memcmp(f->ids, ids, (size_t)n * sizeof *ids) == 0);
}

/* ---- ids to slots ---------------------------------------------------------------------------- */

/* Ids are slots where vectors came without any and none is gone. What is not alive may just be written by an ev_add. */
static inline bool is_its_slot(const ev__store *store, int64_t id) {
    return (uint64_t)id < ev__slots(store) && ev__alive(store, (uint32_t)id) && ev__ids_of(store)[id] == id;
}

typedef struct {
    uint64_t *bits;
    int64_t count;
} filling;

static inline void set_add(filling *set, uint32_t slot) {
    set->count += !ev__bit(set->bits, slot);
    ev__bit_set(set->bits, slot);
}

/* The others wait for memory, some at a time. */
static void look_up(const ev__store *store, const int64_t *ids, size_t n, filling *set) {
    for (size_t i = 0; i < n; i++) ev__id_table_prefetch(&store->id_table, ids[i]);
    for (size_t i = 0; i < n; i++) ev__id_table_prefetch_id(&store->id_table, ev__ids_of(store), ids[i]);
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = ev__id_table_get(&store->id_table, ev__ids_of(store), ids[i]);
        if (slot != EV_NONE) set_add(set, slot);
    }
}

static int fill_slots(void *arg, int64_t n, const int64_t *ids, uint64_t *bits, int64_t *count) {
    enum { AT_ONCE = 32 };
    const ev__store *store = arg;
    filling set = {bits, 0};
    int64_t others[AT_ONCE];
    size_t waiting = 0;
    for (int64_t i = 0; i < n; i++) {
        if (ev__is_to_stop_at((size_t)i)) return ev__stopped();
        if (is_its_slot(store, ids[i])) {
            set_add(&set, (uint32_t)ids[i]);
            continue;
        }
        others[waiting++] = ids[i];
        if (waiting < AT_ONCE) continue;
        look_up(store, others, waiting, &set);
        waiting = 0;
    }
    look_up(store, others, waiting, &set);
    *count = set.count;
    return EV_OK;
}

/* ---- sets ------------------------------------------------------------------------------------ */

static int set_make(const ev_filter *f, const ev__filtered *over, slot_set **out) {
    slot_set *set = ev__alloc_zero(sizeof *set, EV_LINE);
    if (set) {
        *set = (slot_set){.serial = over->serial, .version = over->version, .users = 1, .words = over->words};
        set->account = ev__account_share(over->account);
        set->bits = ev__alloc_zero(set->words * sizeof *set->bits, EV_LINE);
    }
    int rc = set && set->bits ? over->fill(over->arg, f->count, f->ids, set->bits, &set->count)
                              : ev__fail(EV_E_NOMEM, "a filter over %zu vectors", 64 * over->words);
    if (rc != EV_OK)
        set_drop(set);
    else
        *out = set;
    return rc;
}

int ev__filter_bits(ev_filter *f, const ev__filtered *over, const uint64_t **bits, int64_t *count, void **hold) {
    ev__lock(&f->lock);
    slot_set *set = f->cached;
    if (!set || set->serial != over->serial || set->version != over->version) {
        ev__unlock(&f->lock); /* it takes long, and whom it asks may use the filter too */
        int rc = set_make(f, over, &set);
        if (rc != EV_OK) return rc;
        ev__lock(&f->lock);
        slot_set *old = f->cached;
        f->cached = set;
        set_drop(old);
    }
    set->users++;
    ev__unlock(&f->lock);
    *bits = set->bits;
    *count = set->count;
    *hold = set;
    return EV_OK;
}

int ev__filter_slots(ev_filter *f, ev_index *ix, const uint64_t **bits, int64_t *count, void **hold) {
    ev__store *store = &ix->graph.store;
    ev__filtered over = {.serial = ix->serial, .version = store->version, .account = ix->account};
    over.words = store->columns.state.room / 64 + 1; /* within which an ev_add takes slots beside searches */
    over.fill = fill_slots;
    over.arg = store;
    return ev__filter_bits(f, &over, bits, count, hold);
}

void ev__filter_release(ev_filter *f, void *hold) {
    ev__lock(&f->lock);
    set_drop(hold);
    ev__unlock(&f->lock);
}
