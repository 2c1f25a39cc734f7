/* An allocator that counts the bytes held now and the most that were held at once. */
#ifndef EV_COUNTING_H
#define EV_COUNTING_H

#include <stdlib.h>

#include "index/index.h"

static int64_t held_bytes, most_held_bytes;

static void *counted_alloc(void *user, size_t size, size_t align) {
    (void)user;
    char *block = malloc(sizeof(void *) + align + size);
    if (!block) return NULL;
    char *memory = block + sizeof(void *) + align - (uintptr_t)(block + sizeof(void *)) % align;
    memcpy(memory - sizeof(void *), &block, sizeof block); /* where it begins, for its release */
    int64_t held = ev__add64(&held_bytes, (int64_t)size) + (int64_t)size;
    if (held > most_held_bytes) most_held_bytes = held;
    return memory;
}

static void counted_release(void *user, void *memory, size_t size, size_t align) {
    (void)user, (void)align;
    char *block;
    memcpy(&block, (char *)memory - sizeof(void *), sizeof block);
    ev__add64(&held_bytes, -(int64_t)size);
    free(block);
}

static void count_allocations(void) {
    static const ev_allocator counting = {counted_alloc, counted_release, NULL};
    ev_set_allocator(&counting);
}

#endif
