/* Which nodes a graph on disk has, before it is written. */
#ifndef EV_DISK_PLAN_H
#define EV_DISK_PLAN_H

#include "disk/disk.h"

typedef struct {
    int64_t id;
    uint32_t number; /* of its node */
} ev__disk_id;

typedef struct {
    const ev__store *store;
    uint32_t *number_of; /* by slot: the node that has its vector; EV_NONE for none */
    uint32_t *slot_of;   /* by node; room for all slots */
    uint32_t *variant;   /* by node: the next one that only has the same code, or EV_NONE */
    ev__disk_id *ids;    /* live, ascending; their places are ranks */
    uint32_t *of_node;   /* live: ranks, those of a node side by side and ascending ... */
    uint32_t *first;     /* ... from this place on, by node, and one more */
    uint32_t nodes;
    uint64_t copies; /* ids of nodes beyond the first of each */
    void *memory;
    size_t bytes;
} ev__disk_plan;

/* Of an index at rest. */
int ev__disk_plan_make(const ev__store *store, ev__disk_plan *p);
void ev__disk_plan_free(ev__disk_plan *p);

#endif
