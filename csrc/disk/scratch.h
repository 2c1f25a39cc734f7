/* What one search of a graph on disk needs, and a call's queries: what its parts share. */
#ifndef EV_DISK_SCRATCH_H
#define EV_DISK_SCRATCH_H

#include "disk/disk.h"

/* What a walk has met: by what is known of its distance, as it is shown; an estimate until the node was read. */
typedef struct {
    float distance;
    uint32_t number;
    bool read;
} ev__disk_met;

typedef struct {
    double distance; /* of ev__metric.distance */
    int64_t id;
} ev__disk_result;

struct ev__disk_scratch {
    ev__disk_scratch *next;
    ev__workspace work;
    ev__visited visited;
    uint32_t *slots;     /* EV_BATCH: 0, 1, .. */
    float *distances;    /* EV_BATCH */
    ev__factor *factors; /* EV_DISK_MOST_DEGREE, */
    void *near;          /* and the code of a query around a node */
    ev__disk_ids *ids;   /* a page */
    void *memory;        /* of all these */
    size_t bytes;
    char *blocks; /* `room` of them, `stride` bytes each */
    size_t stride, room;
    char *run; /* of blocks, for scans; NULL until there was one */
    size_t run_bytes;
    ev__disk_met *list; /* sorted by distance */
    size_t count, list_room;
    ev__disk_result *results; /* sorted by distance, equal ones by id */
    size_t found, result_room;
    ev__disk_reader reader;
    int64_t rounds, estimates;
};

/* One of its spares or a new one, fit for these; put it back afterwards. */
int ev__disk_scratch_borrow(ev_disk *d, size_t blocks, size_t list, size_t results, ev__disk_scratch **out);
void ev__disk_scratch_return(ev_disk *d, ev__disk_scratch *s);
int ev__disk_scratch_run(ev__disk_scratch *s, const ev_disk *d); /* see to s->run */

/* One call, and one of its queries. */
typedef struct {
    ev_disk *d;
    size_t k, limit, beam;   /* limit: of the list of a walk */
    bool exact, few;         /* few: the ids that a filter allows are read and compared */
    const uint64_t *allowed; /* by rank; NULL: all */
    int64_t matches;
    const float *queries;
    int64_t *ids;
    float *distances;
    ev__disk_scratch *scratches[64];
    ev__work work;
    ev__spin lock; /* of what follows: the first error of any thread */
    int rc, error;
    int64_t row;
    char detail[600];
} ev__disk_call;

/* ---- scan.c ---------------------------------------------------------------------------------- */

/* A node that was read and what its distance is: its ids become results where they are allowed and near enough. */
int ev__disk_offer(const ev__disk_call *c, const ev__disk_block *b, double distance, ev__disk_scratch *s);
double ev__disk_distance(const ev__disk_call *c, const ev__disk_block *b, const ev__disk_scratch *s);
/* Every vector; or those that a filter allows. */
int ev__disk_scan(ev__disk_call *c, ev__disk_scratch *s);

static inline bool ev__disk_is_to_stop(ev__disk_call *c) {
    if (ev__is_to_stop()) ev__store32(&c->work.stopped, 1);
    return ev__load32(&c->work.stopped) != 0;
}

#endif
