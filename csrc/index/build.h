/* Linking many vectors into the graph at once: for ev_add, and for all that is held when it is linked anew. */
#ifndef EV_BUILD_H
#define EV_BUILD_H

#include "index/index.h"

#define EV_MAX_WORKERS 256

typedef struct {
    ev_index *ix;
    int64_t n, taken;     /* rows; slots that were taken for them */
    const float *vectors; /* NULL: what is held is linked anew */
    const int64_t *ids;   /* NULL: numbered on */
    uint32_t *slots;      /* of the rows */
    uint32_t *node_of;    /* of the rows: the node whose duplicate each is, or EV_NONE */
    uint32_t *order;      /* the rows in the order they are linked in */
    ev__old_codes old;    /* put back where rows cannot be added */
    ev__call *call;       /* NULL: what is held is linked anew */
    bool in_steps;        /* between which searches go on */
    double step_began;
    ev__scratch *scratches[EV_MAX_WORKERS];
    int workers;
    /* 8-bit codes of all slots, when a binary index grows by enough to make them worth their room */
    int8_t *codes;
    ev__factor *factors;
    size_t coded;
    ev__builder builder;
    ev__mutex entry_lock;
    ev__work work;
    int64_t offset; /* of the slots in work within the order */
} ev__build;

/* How many threads n more vectors are worth. */
int ev__build_workers(const ev_index *ix, int32_t threads, int64_t n);
/* Before slots are taken: what that room will take, but for the scratches. */
size_t ev__build_bytes(const ev__build *a);
/* Room for what linking needs; ev__build_free gives it back, also after an error. */
int ev__build_room(ev__build *a, int threads);
void ev__build_free(ev__build *a);
/* Let searches in, where some wait and it is time. */
void ev__build_yield(ev__build *a);
/* After the slots are taken: walks need a mark per slot. */
int ev__build_fit(ev__build *a);
/* The codes that a binary index is built on, where there is room for them. */
int ev__build_encode(ev__build *a);
/* Rows whose code a node has already, or an earlier row of this call, into node_of, and how many there are. */
int ev__build_find_duplicates(ev__build *a, int64_t *found);
void ev__build_attach_duplicates(ev__build *a);
/* Link all that is no duplicate. */
int ev__build_link(ev__build *a);

/* ---- room.c ---------------------------------------------------------------------------------- */

/* Before rows are added: EV_E_MEMORY_LIMIT where the index's limit does not leave the room for them and for one search;
 * else how arrays may grow is chosen accordingly. */
int ev__room_for(ev_index *ix, const ev__build *a);

#endif
