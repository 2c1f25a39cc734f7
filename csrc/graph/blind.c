/* Searching as if a vector were not there: what the index would answer if it had never been added. */
#include "internal.h"

uint32_t ev__blind(const ev_index *ix, int64_t id, ev__scratch *s) {
    uint32_t hidden = ev__idmap_get(&ix->idmap, ev__ids_of(ix), id);
    bool alone = hidden != EV_NONE && ev__state(ix, hidden) == EV_NODE;
    for (uint32_t slot = hidden; alone && (slot = ev__next(ix, slot)) != EV_NONE;) alone = !ev__alive(ix, slot);
    s->blind = alone ? hidden : EV_NONE;
    return hidden;
}

/* The links of a node but for one; returns how many. */
static size_t links_without(const ev_index *ix, uint32_t node, int level, uint32_t other, uint32_t *out) {
    const uint32_t *links = ev__links(ix, node, level);
    size_t n = 0;
    for (uint32_t i = 0; i < ev__max_links(ix, level) && links[i] != EV_NONE; i++)
        if (links[i] != other) out[n++] = links[i];
    return n;
}

static bool holds(const uint32_t *links, size_t n, uint32_t slot) {
    for (size_t i = 0; i < n; i++)
        if (links[i] == slot) return true;
    return false;
}

size_t ev__look_behind(const ev_index *ix, uint32_t slot, int level, uint32_t *unseen, size_t n, ev__scratch *s) {
    uint32_t candidates[4 * EV_MAX_M], behind[2 * EV_MAX_M], most = ev__max_links(ix, level);
    const uint32_t *links = ev__links(ix, slot, level);
    if (!holds(links, most, s->blind)) return n;
    /* behind those that a new node chooses for itself, and with room left: it came later and took nobody's place */
    if (links[most - 1] == EV_NONE && !holds(links, most / 2, s->blind)) return n;
    size_t kept = links_without(ix, slot, level, s->blind, candidates), count = kept;
    size_t beyond = links_without(ix, s->blind, level, slot, behind);
    for (size_t i = 0; i < beyond; i++)
        if (!holds(candidates, kept, behind[i])) candidates[count++] = behind[i];
    ev__space space = ev__build_space(ix, NULL, NULL);
    if (ev__reselect(ix, &space, slot, candidates, kept, count, kept + 1, s) == kept) return n;
    uint32_t to = s->candidates[kept].slot;
    unseen[n] = to;
    return n + ev__see(&s->marks, to);
}
