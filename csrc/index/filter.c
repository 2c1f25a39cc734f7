/* A set of allowed ids. The bit set over an index's slots is made on first use and kept until that index changes. */
#include "index/index.h"

#include <stdlib.h>

typedef struct {
    uint64_t serial, version; /* of the index it was made for */
    uint64_t *bits;
    size_t words;
    int64_t count;
    int users; /* searches under way, and the filter itself */
} slot_set;

struct ev_filter {
    int64_t *ids; /* ascending */
    int64_t count, room;
    ev__mutex lock;
    slot_set *cached;
};

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int ev_filter_new(int64_t n, const int64_t *ids, ev_filter **out) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld ids", (long long)n);
    ev_filter *f = ev__alloc_zero(sizeof *f, EV_LINE);
    if (f) f->ids = ev__alloc((size_t)n * sizeof *ids, EV_LINE);
    if (!f || !f->ids) {
        ev__release(f, sizeof *f, EV_LINE);
        return ev__fail(EV_E_NOMEM, "a filter of %lld ids", (long long)n);
    }
    bool sorted = true;
    for (int64_t i = 1; i < n && sorted; i++) sorted = ids[i - 1] < ids[i];
    if (n) memcpy(f->ids, ids, (size_t)n * sizeof *ids);
    f->count = f->room = n;
    if (!sorted) {
        qsort(f->ids, (size_t)n, sizeof *ids, ascending);
        f->count = 1;
        for (int64_t i = 1; i < n; i++)
            if (f->ids[i] != f->ids[i - 1]) f->ids[f->count++] = f->ids[i];
    }
    ev__mutex_init(&f->lock);
    *out = f;
    return ev__ok();
}

static void set_drop(slot_set *set) {
    if (!set || --set->users) return;
    ev__release(set->bits, set->words * sizeof *set->bits, EV_LINE);
    ev__release(set, sizeof *set, EV_LINE);
}

void ev_filter_free(ev_filter *f) {
    if (!f) return;
    set_drop(f->cached);
    ev__mutex_free(&f->lock);
    ev__release(f->ids, (size_t)f->room * sizeof *f->ids, EV_LINE);
    ev__release(f, sizeof *f, EV_LINE);
}

int64_t ev_filter_count(const ev_filter *f) { return f->count; }

static int set_fill(const ev_filter *f, const ev__store *store, slot_set *set) {
    for (int64_t i = 0; i < f->count; i++) {
        if (ev__is_to_stop_at((size_t)i)) return ev__stopped();
        uint32_t slot = ev__id_table_get(&store->id_table, ev__ids_of(store), f->ids[i]);
        if (slot == EV_NONE) continue;
        ev__bit_set(set->bits, slot);
        set->count++;
    }
    return EV_OK;
}

static int set_make(const ev_filter *f, const ev_index *ix, slot_set **out) {
    const ev__store *store = &ix->graph.store;
    slot_set *set = ev__alloc_zero(sizeof *set, EV_LINE);
    if (set) {
        /* words: within which an ev_add takes slots beside searches */
        *set = (slot_set){
            .serial = ix->serial, .version = store->version, .users = 1, .words = store->columns.state.room / 64 + 1};
        set->bits = ev__alloc_zero(set->words * sizeof *set->bits, EV_LINE);
    }
    int rc =
        set && set->bits ? set_fill(f, store, set) : ev__fail(EV_E_NOMEM, "a filter over %zu slots", ev__slots(store));
    if (rc != EV_OK)
        set_drop(set);
    else
        *out = set;
    return rc;
}

int ev__filter_slots(ev_filter *f, ev_index *ix, const uint64_t **bits, int64_t *count, void **hold) {
    ev__lock(&f->lock);
    slot_set *set = f->cached;
    if (!set || set->serial != ix->serial || set->version != ix->graph.store.version) {
        ev__unlock(&f->lock); /* it takes long, and whom it asks may use the filter too */
        int rc = set_make(f, ix, &set);
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

void ev__filter_release(ev_filter *f, void *hold) {
    ev__lock(&f->lock);
    set_drop(hold);
    ev__unlock(&f->lock);
}
