/* Nodes by their code: what vectors that cannot be told apart find each other by. */
#include "store/store.h"

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

/* Of the code and its factor; and of what is walked on, where that is more and lies in memory. */
static uint64_t hash_of(const void *index, uint32_t slot) {
    const ev__store *store = index;
    const ev__array *kept = &store->columns.vectors;
    uint64_t hash = mix_in_all(0x243F6A8885A308D3u, ev__block(store, slot), store->quantizer.code_bytes), word = 0;
    if (store->quantizer.walk == EV_WALK_FLOATS && !store->paged)
        hash = mix_in_all(hash, kept->at + slot * kept->item, kept->item);
    if (store->columns.factors.count) memcpy(&word, store->columns.factors.at + slot * sizeof(ev__factor), 8);
    return mix_in(hash, word);
}

static bool same_code(const void *index, uint32_t a, const void *other) {
    const ev__store *store = index;
    uint32_t b = *(const uint32_t *)other;
    const ev__array *factors = &store->columns.factors;
    return memcmp(ev__block(store, a), ev__block(store, b), store->quantizer.code_bytes) == 0 &&
           (!factors->count ||
            memcmp(factors->at + a * factors->item, factors->at + b * factors->item, factors->item) == 0) &&
           (store->quantizer.walk != EV_WALK_FLOATS || ev__vector_same(store, a, b));
}

uint32_t ev__code_table_find(const ev__store *store, uint32_t slot) {
    size_t i = ev__table_find(&store->duplicates, hash_of(store, slot), store, same_code, &slot);
    return i == SIZE_MAX ? EV_NONE : store->duplicates.cells[i];
}

void ev__code_table_put(ev__store *store, uint32_t node) {
    ev__table_place(&store->duplicates, hash_of(store, node), node);
    store->duplicates.used++;
}

void ev__code_table_remove(ev__store *store, uint32_t slot) {
    size_t i = ev__table_find(&store->duplicates, hash_of(store, slot), store, same_code, &slot);
    if (i != SIZE_MAX && store->duplicates.cells[i] == slot) ev__table_remove(&store->duplicates, i, store, hash_of);
}

int ev__code_table_reserve(ev__store *store, size_t nodes) {
    int rc = ev__table_reserve(&store->duplicates, nodes, store, hash_of);
    return rc == EV_OK ? EV_OK : ev__fail(rc, "the table of codes");
}
