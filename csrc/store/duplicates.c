/* Which living node has this code? Vectors that what is walked on cannot tell apart share one node, so that no number
 * of copies can crowd a graph's links. The table is made by the first ev_add that needs it and never saved. */
#include "base/hash_table.h"

static uint64_t mix_in(uint64_t hash, uint64_t word) { return (hash ^ word) * 0x9E3779B97F4A7C15u ^ (hash >> 29); }

static uint64_t mix_in_all(uint64_t hash, const char *bytes, size_t n) {
    uint64_t word = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, bytes + i, 8);
        hash = mix_in(hash, word);
    }
    word = 0;
    memcpy(&word, bytes + i, n - i);
    return mix_in(hash, word);
}

/* Of the code and its factor; and of what is walked on, where that is more. */
static uint64_t hash_of(const void *index, uint32_t slot) {
    const ev_index *ix = index;
    const ev__array *kept = &ix->store.vectors;
    uint64_t hash = mix_in_all(0x243F6A8885A308D3u, ev__block(ix, slot), ix->code_bytes), word = 0;
    if (ix->walk == EV_WALK_FLOATS) hash = mix_in_all(hash, kept->at + slot * kept->item, kept->item);
    if (ix->store.factors.count) memcpy(&word, ix->store.factors.at + slot * sizeof(ev__factor), 8);
    return mix_in(hash, word);
}

static bool same_code(const void *index, uint32_t a, const void *other) {
    const ev_index *ix = index;
    uint32_t b = *(const uint32_t *)other;
    const ev__array *factors = &ix->store.factors;
    return memcmp(ev__block(ix, a), ev__block(ix, b), ix->code_bytes) == 0 &&
           (!factors->count ||
            memcmp(factors->at + a * factors->item, factors->at + b * factors->item, factors->item) == 0) &&
           (ix->walk != EV_WALK_FLOATS || ev__vector_same(ix, a, b));
}

uint32_t ev__twins_get(const ev_index *ix, uint32_t slot) {
    size_t i = ev__table_find(&ix->twins, hash_of(ix, slot), ix, same_code, &slot);
    return i == SIZE_MAX ? EV_NONE : ix->twins.cells[i];
}

void ev__twins_put(ev_index *ix, uint32_t node) {
    ev__table_place(&ix->twins, hash_of(ix, node), node);
    ix->twins.used++;
}

void ev__twins_remove(ev_index *ix, uint32_t slot) {
    size_t i = ev__table_find(&ix->twins, hash_of(ix, slot), ix, same_code, &slot);
    if (i != SIZE_MAX && ix->twins.cells[i] == slot) ev__table_remove(&ix->twins, i, ix, hash_of);
}

int ev__twins_reserve(ev_index *ix, size_t extra) {
    bool fresh = ix->twins.room == 0;
    int rc = ev__table_reserve(&ix->twins, (fresh ? (size_t)ix->live : ix->twins.used) + extra, ix, hash_of);
    if (rc != EV_OK) return ev__fail(rc, "the table of codes");
    if (fresh)
        for (size_t slot = 0; slot < ev__slots(ix); slot++)
            if (ev__state(ix, (uint32_t)slot) == EV_NODE && ev__twins_get(ix, (uint32_t)slot) == EV_NONE)
                ev__twins_put(ix, (uint32_t)slot);
    return EV_OK;
}

void ev__twins_free(ev_index *ix) { ev__table_free(&ix->twins); }
