/* What laying slots out anew takes, beside what is held or in its place: numbers of slots turned into new ones. */
#include "index/layout.h"

static void move_links(const ev__layout *l, uint32_t *links, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (links[i] != EV_NONE) links[i] = l->place[links[i]];
}

size_t ev__layout_upper_count(const ev__layout *l) {
    const ev__store *store = &l->ix->graph.store;
    size_t upper = 0;
    for (size_t i = 0; i < l->kept; i++) upper += (size_t)ev__levels(store)[l->order[i]] * (size_t)store->M;
    return upper;
}

bool ev__layout_upper(const ev__layout *l, ev__array *to) {
    const ev__store *store = &l->ix->graph.store;
    for (size_t i = 0; i < l->kept; i++) {
        if (ev__is_to_stop_at(i)) return false;
        size_t at = to->count, upper = (size_t)ev__levels(store)[l->order[i]] * (size_t)store->M;
        if (!upper) continue;
        ev__array_resize(to, at + upper);
        uint32_t *links = (uint32_t *)(void *)to->at + at;
        memcpy(links, ev__links(store, l->order[i], 1), upper * sizeof *links);
        move_links(l, links, upper);
    }
    return true;
}

static void move_numbers(const ev__layout *l, ev__columns *to, size_t i, size_t upper_at) {
    const ev__store *store = &l->ix->graph.store;
    ((uint32_t *)(void *)to->upper_at.at)[i] = (uint32_t)upper_at;
    move_links(l, (uint32_t *)(void *)(to->blocks.at + i * store->block_bytes + store->links_at), store->m0);
    if (to->next_duplicate.count) move_links(l, (uint32_t *)(void *)to->next_duplicate.at + i, 1);
}

bool ev__layout_numbers(const ev__layout *l, ev__columns *to, bool may_stop) {
    const uint8_t *levels = (const uint8_t *)to->level.at;
    for (size_t i = 0, upper = 0; i < l->kept; i++) {
        if (may_stop && ev__is_to_stop_at(i)) return false;
        move_numbers(l, to, i, upper);
        upper += (size_t)levels[i] * (size_t)l->ix->graph.store.M;
    }
    return true;
}

void ev__layout_spare(ev_index *ix) {
    ev__duplicates_free(&ix->graph.store);
    ev__nibbles_free(&ix->graph.store.nibbles);
    ev__scratch_drop_all(&ix->graph);
}
