/* The columns of the slots: making them, taking and freeing slots, and an index with nothing in it. */
#include "internal.h"

int ev__params_check(const ev_params *p) {
    if (p->dim < 1 || p->dim > EV_MAX_DIM) return ev__fail(EV_E_PARAM, "dim %d is not in 1..%d", p->dim, EV_MAX_DIM);
    if (p->metric < EV_METRIC_COSINE || p->metric > EV_METRIC_L2) return ev__fail(EV_E_PARAM, "metric %d", p->metric);
    if (p->quantization < EV_QUANT_NONE || p->quantization > EV_QUANT_BINARY)
        return ev__fail(EV_E_PARAM, "quantization %d", p->quantization);
    if (p->M < 2 || p->M > EV_MAX_M) return ev__fail(EV_E_PARAM, "M %d is not in 2..%d", p->M, EV_MAX_M);
    if (p->ef_construction < 1 || p->ef_construction > 65535)
        return ev__fail(EV_E_PARAM, "ef_construction %d is not in 1..65535", p->ef_construction);
    if (p->ef < 1 || p->ef > 1000000) return ev__fail(EV_E_PARAM, "ef %d is not in 1..1000000", p->ef);
    if (p->keep_vectors < EV_VECTORS_NONE || p->keep_vectors > EV_VECTORS_FINE)
        return ev__fail(EV_E_PARAM, "keep_vectors %d", p->keep_vectors);
    return EV_OK;
}

/* A sign code of few bits is too coarse to walk on, so shorter vectors get 256 of them, and 0, that is 8-bit codes,
 * where those are no larger. */
static size_t walked_bits(const ev_params *p) {
    size_t bits = ev__round_up((size_t)p->dim, 64);
    if (p->quantization != EV_QUANT_BINARY || p->dim <= 32) return 0;
    return bits < 256 ? 256 : bits;
}

/* How this kind of index keeps vectors when asked to as its parameters say. */
static int32_t vectors_kept(const ev_index *ix) {
    bool nothing_to_refine = ev__fine(ix) && !ev__by_bytes(ix);
    return ix->p.quantization == EV_QUANT_NONE || nothing_to_refine ? EV_VECTORS_FLOAT32 : ix->p.keep_vectors;
}

static void lay_out(ev_index *ix) {
    static const size_t item_sizes[] = {
        0, sizeof(ev__factor), 0, sizeof(int64_t), 1, 1, sizeof(uint32_t), sizeof(uint32_t), sizeof(uint32_t), 0};
    ix->dim = (size_t)ix->p.dim;
    ix->m0 = 2 * (uint32_t)ix->p.M;
    ix->bits = walked_bits(&ix->p);
    if (ix->p.quantization == EV_QUANT_SQ8 && (ix->bits = ev__sift_bits(ix->dim)) != 0)
        ix->sift_bytes = ev__sift_bytes(ix->bits);
    ix->code_bytes = ev__by_bits(ix) ? ix->bits / 8 : ev__by_bytes(ix) ? ix->dim : ix->dim * sizeof(float);
    ix->links_at = ev__round_up(ix->code_bytes, sizeof(uint32_t));
    ix->block_bytes = ev__round_up(ix->links_at + ix->m0 * sizeof(uint32_t), EV_LINE);
    ev__column columns[EV_COLUMNS];
    ev__columns(&ix->store, columns);
    for (size_t i = 0; i < EV_COLUMNS; i++) columns[i].array->item = item_sizes[i];
    ix->store.blocks.item = ix->block_bytes;
    ix->p.keep_vectors = vectors_kept(ix);
    ix->store.vectors.item = ix->dim * (ev__fine(ix) ? sizeof(int16_t) : sizeof(float));
    ix->store.sift.item = ix->sift_bytes;
}

int ev__index_make(const ev_params *params, ev_index **out) {
    static uint64_t serials;
    const ev__kernels *kernels = ev__simd();
    if (!kernels)
        return ev__fail(EV_E_SIMD, "EDGEVEC_SIMD=%s, but this machine and build offer: %s", ev_simd_forced(),
                        ev_simd_available());
    ev_index *ix = ev__alloc_zero(sizeof *ix, EV_LINE);
    if (!ix) return ev__fail(EV_E_NOMEM, "a new index");
    ix->p = *params;
    ix->kernels = kernels;
    ix->entry = EV_NONE;
    ix->serial = (uint64_t)ev__add64((int64_t *)&serials, 1) + 1;
    lay_out(ix);
    ev__scratch_open();
    ev__rwlock_init(&ix->lock);
    ev__mutex_init(&ix->scratch_lock);
    int rc = EV_OK;
    if (ix->p.quantization != EV_QUANT_NONE) {
        ix->centre = ev__alloc_zero(ix->dim * sizeof(float), EV_LINE);
        if (!ix->centre) rc = EV_E_NOMEM;
    }
    if (rc == EV_OK && ev__sifts(ix)) rc = ev__sift_init(ix);
    if (rc == EV_OK && ev__by_bits(ix)) rc = ev__rotation_init(&ix->rotation, ix->dim, ix->bits, ix->p.seed);
    if (rc != EV_OK) {
        ev_free(ix);
        return ev__fail(rc, "a new index");
    }
    *out = ix;
    return EV_OK;
}

void ev__columns(ev__store *store, ev__column out[EV_COLUMNS]) {
    const ev__column columns[EV_COLUMNS] = {
        {"blocks", &store->blocks},     {"factors", &store->factors}, {"vectors", &store->vectors},
        {"ids", &store->ids},           {"state", &store->state},     {"level", &store->level},
        {"upper_at", &store->upper_at}, {"upper", &store->upper},     {"chain", &store->chain},
        {"sift", &store->sift},
    };
    memcpy(out, columns, sizeof columns);
}

void ev__store_free(ev__store *store) {
    ev__column columns[EV_COLUMNS];
    ev__columns(store, columns);
    for (size_t i = 0; i < EV_COLUMNS; i++) ev__array_free(columns[i].array);
}

/* Which of the columns this kind of index fills, one item a slot. */
static size_t slot_columns(ev_index *ix, ev__array *out[EV_COLUMNS]) {
    size_t n = 0;
    out[n++] = &ix->store.blocks;
    out[n++] = &ix->store.ids;
    out[n++] = &ix->store.state;
    out[n++] = &ix->store.level;
    out[n++] = &ix->store.upper_at;
    if (ix->p.quantization != EV_QUANT_NONE) out[n++] = &ix->store.factors;
    if (ix->p.quantization != EV_QUANT_NONE && ix->p.keep_vectors) out[n++] = &ix->store.vectors;
    if (ev__sifts(ix)) out[n++] = &ix->store.sift;
    if (ix->store.chain.count) out[n++] = &ix->store.chain;
    return n;
}

/* Geometric with ratio 1 / M, from the slot's number: no logarithm, so the same on every machine. */
static uint8_t level_of(const ev_index *ix, uint32_t slot) {
    uint64_t random = ev__mix(ix->p.seed * 0x9E3779B97F4A7C15u + slot);
    uint8_t level = 0;
    while (level < EV_MAX_LEVEL && random % (uint64_t)ix->p.M == 0) {
        level++;
        random = ev__mix(random);
    }
    return level;
}

int ev__store_reserve(ev_index *ix, size_t extra) {
    size_t fresh = extra > ix->free_count ? extra - ix->free_count : 0, slots = ev__slots(ix);
    if (fresh > (size_t)EV_NONE - 1 - slots) return ev__fail(EV_E_FULL, "%zu slots and %zu more", slots, fresh);
    size_t upper = 0;
    for (size_t i = 0; i < fresh; i++) upper += level_of(ix, (uint32_t)(slots + i)) * (size_t)ix->p.M;
    if (upper > UINT32_MAX - ix->store.upper.count) return ev__fail(EV_E_FULL, "the upper levels");

    ev__array *columns[EV_COLUMNS];
    size_t n = slot_columns(ix, columns);
    int rc = ev__idmap_reserve(&ix->idmap, ev__ids_of(ix), ix->idmap.used + extra);
    for (size_t i = 0; rc == EV_OK && i < n; i++) rc = ev__array_reserve(columns[i], slots + fresh);
    if (rc == EV_OK) rc = ev__array_reserve(&ix->store.upper, ix->store.upper.count + upper);
    if (rc == EV_OK && ix->free_room < slots + fresh) {
        size_t room = ix->store.state.room;
        uint32_t *grown = ev__alloc(room * sizeof *grown, EV_LINE);
        if (!grown) return ev__fail(EV_E_NOMEM, "%zu slots", slots + fresh);
        if (ix->free_count) memcpy(grown, ix->free_slots, ix->free_count * sizeof *grown);
        ev__release(ix->free_slots, ix->free_room * sizeof *grown, EV_LINE);
        ix->free_slots = grown;
        ix->free_room = room;
    }
    return rc == EV_OK ? EV_OK : ev__fail(rc, "%zu slots of %zu bytes and more", slots + fresh, ix->block_bytes);
}

void ev__links_clear(ev_index *ix, uint32_t slot) {
    memset(ev__links0(ix, slot), 0xFF, ix->m0 * sizeof(uint32_t));
    int level = ev__levels(ix)[slot];
    if (level) memset(ev__links(ix, slot, 1), 0xFF, (size_t)level * (size_t)ix->p.M * sizeof(uint32_t));
}

uint32_t ev__slot_take(ev_index *ix) {
    uint32_t slot;
    if (ix->free_count) {
        slot = ix->free_slots[--ix->free_count]; /* keeps its level: levels do not depend on the vector */
    } else {
        ev__array *columns[EV_COLUMNS];
        size_t n = slot_columns(ix, columns);
        slot = (uint32_t)ev__slots(ix);
        for (size_t i = 0; i < n; i++) ev__array_resize(columns[i], (size_t)slot + 1); /* within the reserve */
        ev__levels(ix)[slot] = level_of(ix, slot);
        ((uint32_t *)(void *)ix->store.upper_at.at)[slot] = (uint32_t)ix->store.upper.count;
        ev__array_resize(&ix->store.upper, ix->store.upper.count + ev__levels(ix)[slot] * (size_t)ix->p.M);
    }
    ev__links_clear(ix, slot);
    if (ix->store.chain.count) ev__chain(ix)[slot] = EV_NONE;
    return slot;
}

/* A free slot's bytes are as if it had never been used, so that files do not tell what was removed. */
void ev__slot_free(ev_index *ix, uint32_t slot) {
    ev__twins_remove(ix, slot);
    ev__array *columns[] = {&ix->store.blocks, &ix->store.factors, &ix->store.vectors, &ix->store.ids, &ix->store.sift};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (columns[i]->count) memset(columns[i]->at + (size_t)slot * columns[i]->item, 0, columns[i]->item);
    ev__states(ix)[slot] = EV_FREE;
    ev__links_clear(ix, slot);
    if (ix->store.chain.count) ev__chain(ix)[slot] = EV_NONE;
    ix->free_slots[ix->free_count++] = slot;
}

int ev__chain_open(ev_index *ix) {
    if (ix->store.chain.count) return EV_OK;
    int rc = ev__array_reserve(&ix->store.chain, ix->store.state.room);
    if (rc != EV_OK) return ev__fail(rc, "the chains of duplicates");
    ev__array_resize(&ix->store.chain, ev__slots(ix));
    memset(ix->store.chain.at, 0xFF, ev__slots(ix) * sizeof(uint32_t));
    return EV_OK;
}

void ev__slot_copy(ev_index *ix, uint32_t from, uint32_t to) {
    memcpy(ev__block(ix, to), ev__block(ix, from), ix->code_bytes);
    ev__array *columns[] = {&ix->store.factors, &ix->store.vectors, &ix->store.ids, &ix->store.sift};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        ev__array *c = columns[i];
        if (c->count) memcpy(c->at + (size_t)to * c->item, c->at + (size_t)from * c->item, c->item);
    }
}

int ev__store_index(ev_index *ix) {
    size_t slots = ev__slots(ix);
    ev__idmap_free(&ix->idmap);
    int rc = ev__idmap_reserve(&ix->idmap, ev__ids_of(ix), (size_t)ix->live);
    uint32_t *free_slots = rc == EV_OK ? ev__alloc((slots + 1) * sizeof *free_slots, EV_LINE) : NULL;
    if (!free_slots) return ev__fail(rc == EV_OK ? EV_E_NOMEM : rc, "the table of %lld ids", (long long)ix->live);
    ev__release(ix->free_slots, ix->free_room * sizeof *free_slots, EV_LINE);
    ix->free_slots = free_slots;
    ix->free_room = slots + 1;
    ix->free_count = 0;
    for (size_t slot = slots; slot-- > 0;) { /* the lowest is taken first */
        if (ev__state(ix, (uint32_t)slot) == EV_FREE) ix->free_slots[ix->free_count++] = (uint32_t)slot;
        if (ev__alive(ix, (uint32_t)slot))
            ev__idmap_put(&ix->idmap, ev__ids_of(ix), ev__ids_of(ix)[slot], (uint32_t)slot);
    }
    return EV_OK;
}
