/* All that is held encoded around another center, beside the codes that searches go by: at once, or some slots a call,
 * so that no single addition has to wait for all. What changes of a slot that has been encoded changes in both; once
 * all are, the two change places, in no more time than a few pointers take. */
#include "store/store.h"

struct ev__shadow {
    ev__columns columns; /* of them those that depend on the center: blocks, with the links, and list_columns */
    ev__table duplicates;
    float *center;
    size_t dim;
    size_t done; /* so many slots are encoded */
};

static size_t list_columns(const ev__quantizer *q, ev__columns *c, ev__array *out[4]) {
    size_t n = 0;
    out[n++] = &c->blocks;
    out[n++] = &c->factors;
    if (q->codec->refined) out[n++] = &c->vectors;
    if (ev__prefilters(q)) out[n++] = &c->prefilter;
    return n;
}

/* A store whose codes are the shadow copy's. */
static ev__store as_store(const ev__store *held) {
    ev__store store = *held;
    ev__shadow *t = held->shadow;
    ev__array *own[4], *others[4];
    size_t n = list_columns(&held->quantizer, &t->columns, own);
    list_columns(&held->quantizer, &store.columns, others);
    for (size_t i = 0; i < n; i++) {
        size_t count = others[i]->count;
        *others[i] = *own[i];
        others[i]->count = count;
    }
    store.quantizer.center = t->center;
    store.duplicates = t->duplicates;
    store.shadow = NULL;
    return store;
}

/* As much as what is held has. */
static int reserve(ev__store *held) {
    ev__shadow *t = held->shadow;
    ev__array *own[4], *others[4];
    size_t n = list_columns(&held->quantizer, &t->columns, own);
    list_columns(&held->quantizer, &held->columns, others);
    int rc = EV_OK;
    for (size_t i = 0; i < n && rc == EV_OK; i++) {
        own[i]->item = others[i]->item;
        own[i]->count = t->done; /* what is to be kept where it moves */
        rc = ev__array_reserve(own[i], others[i]->room);
    }
    return rc;
}

int ev__shadow_begin(ev__store *held, const float *center) {
    const ev__quantizer *q = &held->quantizer;
    ev__shadow_drop(held);
    ev__shadow *t = ev__alloc_zero(sizeof *t, EV_LINE);
    if (!t) return EV_E_NOMEM;
    held->shadow = t;
    t->dim = q->dim;
    t->center = ev__alloc(q->dim * sizeof *center, EV_LINE);
    if (t->center) memcpy(t->center, center, q->dim * sizeof *center);
    int rc = t->center ? reserve(held) : EV_E_NOMEM;
    if (rc != EV_OK) ev__shadow_drop(held);
    return rc;
}

void ev__shadow_drop(ev__store *held) {
    ev__shadow *t = held->shadow;
    if (!t) return;
    ev__array *own[4];
    size_t n = list_columns(&held->quantizer, &t->columns, own);
    for (size_t i = 0; i < n; i++) ev__array_free(own[i]);
    ev__table_free(&t->duplicates);
    ev__release(t->center, t->dim * sizeof *t->center, EV_LINE);
    ev__release(t, sizeof *t, EV_LINE);
    held->shadow = NULL;
}

size_t ev__shadow_bytes(const ev__store *held) {
    if (!held->shadow) return 0;
    ev__shadow *t = held->shadow;
    ev__array *own[4];
    size_t bytes = sizeof *t + t->dim * sizeof *t->center + ev__table_bytes(&t->duplicates),
           n = list_columns(&held->quantizer, &t->columns, own);
    for (size_t i = 0; i < n; i++) bytes += ev__array_bytes(own[i]);
    return bytes;
}

/* ---- slots of it ----------------------------------------------------------------------------- */

static uint32_t *links_of(const ev__store *held, uint32_t slot) {
    return (uint32_t *)(void *)(held->shadow->columns.blocks.at + (size_t)slot * held->block_bytes + held->links_at);
}

static bool has(const ev__store *held, uint32_t slot) { return held->shadow && slot < held->shadow->done; }

void ev__shadow_link(const ev__store *held, uint32_t slot) {
    if (!has(held, slot)) return;
    const uint32_t *from = ev__links0(held, slot);
    uint32_t *to = links_of(held, slot);
    for (uint32_t i = 0; i < held->m0; i++) ev__store32(to + i, ev__load32(from + i));
}

void ev__shadow_write(const ev__store *held, uint32_t slot, const float *vector, ev__workspace *w) {
    if (!has(held, slot)) return;
    ev__store store = as_store(held);
    ev__vector_encode(&store, slot, vector, w);
}

/* As ev__slot_blank has it. */
static void blank(const ev__store *held, uint32_t slot) {
    ev__array *own[4];
    size_t n = list_columns(&held->quantizer, &held->shadow->columns, own);
    for (size_t i = 0; i < n; i++) memset(own[i]->at + (size_t)slot * own[i]->item, 0, own[i]->item);
    memset(links_of(held, slot), 0xFF, held->m0 * sizeof(uint32_t));
}

void ev__shadow_blank(const ev__store *held, uint32_t slot) {
    if (has(held, slot)) blank(held, slot);
}

static void put(ev__store *store, uint32_t node) {
    if (ev__code_table_find(store, node) == EV_NONE) ev__code_table_put(store, node);
}

void ev__shadow_put(ev__store *held, uint32_t node) {
    if (!has(held, node)) return;
    ev__store store = as_store(held);
    put(&store, node);
    held->shadow->duplicates = store.duplicates;
}

void ev__shadow_remove(ev__store *held, uint32_t slot) {
    if (!has(held, slot)) return;
    ev__store store = as_store(held);
    ev__code_table_remove(&store, slot);
    held->shadow->duplicates = store.duplicates;
}

/* ---- making it ------------------------------------------------------------------------------- */

int64_t ev__shadow_encode(const ev__store *held, size_t from, size_t to, ev__workspace *w) {
    ev__store store = as_store(held);
    int64_t encoded = 0;
    for (size_t i = from; i < to; i++) {
        uint32_t slot = (uint32_t)i;
        blank(held, slot);
        if (ev__state(held, slot) == EV_FREE) continue;
        memcpy(links_of(held, slot), ev__links0(held, slot), held->m0 * sizeof(uint32_t));
        ev__vector_encode(&store, slot, ev__vector_read(held, slot, w->unit, w), w);
        encoded++;
    }
    return encoded;
}

int ev__shadow_reserve(ev__store *held, size_t extra) {
    if (!held->shadow) return EV_OK;
    ev__shadow *t = held->shadow;
    ev__store store = as_store(held);
    size_t nodes = t->duplicates.room ? t->duplicates.used : (size_t)held->live;
    int rc = ev__code_table_reserve(&store, nodes + extra);
    t->duplicates = store.duplicates;
    return rc;
}

int ev__shadow_advance(ev__store *held, size_t most, int64_t *encoded, ev__workspace *w) {
    ev__shadow *t = held->shadow;
    size_t slots = ev__slots(held), to = slots - t->done < most ? slots : t->done + most;
    *encoded = 0;
    int rc = reserve(held);
    if (rc == EV_OK) rc = ev__shadow_reserve(held, to - t->done);
    if (rc != EV_OK) return rc;
    *encoded = ev__shadow_encode(held, t->done, to, w);
    ev__store store = as_store(held);
    for (size_t slot = t->done; slot < to; slot++)
        if (ev__state(held, (uint32_t)slot) == EV_NODE) put(&store, (uint32_t)slot);
    t->duplicates = store.duplicates;
    t->done = to;
    return EV_OK;
}

bool ev__shadow_is_whole(const ev__store *held) { return held->shadow && held->shadow->done == ev__slots(held); }
void ev__shadow_filled(ev__store *held) { held->shadow->done = ev__slots(held); }

void ev__shadow_swap(ev__store *held) {
    ev__shadow *t = held->shadow;
    ev__array *own[4], *others[4];
    size_t n = list_columns(&held->quantizer, &t->columns, own);
    list_columns(&held->quantizer, &held->columns, others);
    for (size_t i = 0; i < n; i++) {
        ev__array array = *others[i];
        *others[i] = *own[i];
        others[i]->count = array.count;
        *own[i] = array;
    }
    ev__table duplicates = t->duplicates;
    t->duplicates = held->duplicates;
    held->duplicates = duplicates;
    held->tabled = ev__slots(held);
    memcpy(held->quantizer.center, t->center, t->dim * sizeof *t->center);
    ev__shadow_drop(held);
}
