/* Checksums keep out accidents. This keeps out files made with intent: after it, whatever the bytes were, no search or
 * change of the index leaves its arrays or goes round in circles. */
#include "file/format.h"

static int corrupt(const char *section, const char *what) {
    return ev__fail(EV_E_CORRUPT, "section '%s': %s", section, what);
}

static int corrupt_slot(const char *section, const char *what, size_t slot) {
    return ev__fail(EV_E_CORRUPT, "section '%s': %s (slot %zu)", section, what, slot);
}

static bool is_duplicate(const ev__store *store, uint32_t slot) {
    unsigned state = ev__state(store, slot);
    return state == EV_DUPLICATE || state == EV_DEAD_DUPLICATE;
}

/* States are known ones and add up to the header's counts; *duplicates: how many must belong to chains. */
static int check_states(const ev_index *ix, size_t *duplicates) {
    const ev__store *store = &ix->graph.store;
    int64_t live = 0, dead = 0;
    size_t slots = ev__slots(store), nodes = 0;
    *duplicates = 0;
    for (size_t slot = 0; slot < slots; slot++) {
        unsigned byte = ev__states(store)[slot], state = byte & EV_STATE;
        if (byte & ~(EV_STATE | EV_SAME_VECTOR) || state > EV_DEAD_DUPLICATE)
            return corrupt_slot("state", "an unknown state", slot);
        live += state == EV_NODE || state == EV_DUPLICATE;
        dead += state == EV_DEAD_NODE || state == EV_DEAD_DUPLICATE;
        nodes += ev__is_node(store, (uint32_t)slot);
        *duplicates += is_duplicate(store, (uint32_t)slot);
    }
    if (live != store->live || dead != store->dead) return corrupt("state", "other counts than the header's");
    if (ix->graph.entry == EV_NONE) return nodes ? corrupt("header", "no entry") : EV_OK;
    if (ix->graph.entry >= slots || !ev__is_node(store, ix->graph.entry))
        return corrupt("header", "the entry is no node");
    return EV_OK;
}

/* New ids are numbered on from next_id, so none that is held may lie there. */
static int check_ids(const ev_index *ix) {
    const ev__store *store = &ix->graph.store;
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        unsigned state = ev__state(store, (uint32_t)slot);
        if (state != EV_NODE && state != EV_DUPLICATE) continue;
        if (ev__ids_of(store)[slot] >= ix->next_id && ix->next_id != INT64_MAX)
            return corrupt_slot("ids", "an id beyond the next", slot);
    }
    return EV_OK;
}

/* Each slot's upper links have a place of their own, in the order of the slots. */
static int check_levels(const ev__store *store) {
    const uint32_t *upper_at = (const uint32_t *)(const void *)store->columns.upper_at.at;
    uint64_t used = 0;
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        unsigned level = ev__levels(store)[slot];
        if (level > EV_MAX_LEVEL) return corrupt_slot("level", "too high a level", slot);
        if (level && upper_at[slot] != used) return corrupt_slot("upper_at", "another slot's place", slot);
        used += (uint64_t)level * (uint64_t)store->M;
    }
    return used == store->columns.upper.count ? EV_OK : corrupt("upper", "other than the levels add up to");
}

static bool links_are_sound(const ev__store *store, uint32_t slot, int level) {
    const uint32_t *links = ev__links(store, slot, level);
    uint32_t most = ev__max_links(store, level), i = 0;
    for (; i < most && links[i] != EV_NONE; i++) {
        uint32_t to = links[i];
        if (to >= ev__slots(store) || to == slot || !ev__is_node(store, to) || ev__levels(store)[to] < level)
            return false;
    }
    for (; i < most; i++) /* whoever appends looks at the last place to see whether there is room */
        if (links[i] != EV_NONE) return false;
    return true;
}

static int check_links(const ev__store *store) {
    for (size_t slot = 0; slot < ev__slots(store) && !ev__is_to_stop_at(slot); slot++) {
        if (!ev__is_node(store, (uint32_t)slot)) continue;
        for (int level = 0; level <= ev__levels(store)[slot]; level++)
            if (!links_are_sound(store, (uint32_t)slot, level))
                return corrupt_slot(level ? "upper" : "blocks", "a link to no node", slot);
    }
    return EV_OK;
}

/* Every duplicate belongs to exactly one chain, and only duplicates do: then no chain can meet another or itself. */
static int follow_chains(const ev__store *store, size_t duplicates, uint64_t *met) {
    const uint32_t *chain = ev__next_duplicates(store);
    size_t hanging = 0;
    for (size_t slot = 0; slot < ev__slots(store); slot++) {
        if (ev__state(store, (uint32_t)slot) == EV_FREE && chain[slot] != EV_NONE)
            return corrupt_slot("chain", "a free slot's chain", slot);
        if (!ev__is_node(store, (uint32_t)slot)) continue;
        for (uint32_t at = chain[slot]; at != EV_NONE; at = chain[at]) {
            if (at >= ev__slots(store) || !is_duplicate(store, at))
                return corrupt_slot("chain", "a chain leads to no duplicate", slot);
            if (ev__bit(met, at)) return corrupt_slot("chain", "a duplicate on two chains", at);
            ev__bit_set(met, at);
            hanging++;
        }
    }
    return hanging == duplicates ? EV_OK : corrupt("chain", "a duplicate on no chain");
}

static int check_chains(const ev__store *store, size_t duplicates) {
    if (!store->columns.next_duplicate.count) return duplicates ? corrupt("chain", "missing") : EV_OK;
    size_t bytes = (ev__slots(store) + 63) / 64 * sizeof(uint64_t);
    uint64_t *met = ev__alloc_zero(bytes, EV_LINE);
    if (!met) return ev__fail(EV_E_NOMEM, "the chains of %zu slots", ev__slots(store));
    int rc = follow_chains(store, duplicates, met);
    ev__release(met, bytes, EV_LINE);
    return rc;
}

/* The code or vector of every block. */
static int check_rows(const ev__store *store) {
    const ev__quantizer *q = &store->quantizer;
    for (size_t slot = 0; q->codec->flaw && slot < ev__slots(store) && !ev__is_to_stop_at(slot); slot++) {
        const char *flaw = q->codec->flaw(q, ev__block(store, (uint32_t)slot));
        if (flaw) return corrupt_slot("blocks", flaw, slot);
    }
    return EV_OK;
}

static int check_numbers(const ev_index *ix) {
    const ev__store *store = &ix->graph.store;
    if (!ev__all_finite(store->columns.factors.at, 2 * store->columns.factors.count))
        return corrupt("factors", "not a finite number");
    if (!store->quantizer.codec->refined && !store->paged && /* load.c has seen to those that stay on disk */
        !ev__all_finite(store->columns.vectors.at, store->quantizer.dim * store->columns.vectors.count))
        return corrupt("vectors", "not a finite number");
    if (store->quantizer.center && !ev__all_finite(store->quantizer.center, store->quantizer.dim))
        return corrupt("centre", "not a finite number");
    return check_rows(&ix->graph.store);
}

int ev__verify(const ev_index *ix) {
    const ev__store *store = &ix->graph.store;
    size_t duplicates;
    int rc = check_states(ix, &duplicates);
    if (rc == EV_OK) rc = check_ids(ix);
    if (rc == EV_OK) rc = check_levels(store);
    if (rc == EV_OK) rc = check_links(store);
    if (rc == EV_OK) rc = check_chains(store, duplicates);
    return rc == EV_OK ? check_numbers(ix) : rc;
}

int ev__verify_ids(const ev_index *ix) {
    size_t duplicates;
    int rc = check_states(ix, &duplicates);
    return rc == EV_OK ? check_ids(ix) : rc;
}
