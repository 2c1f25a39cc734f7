/* The index: a graph, what was learned for it, and the lock of the calls under way. */
#ifndef EV_INDEX_H
#define EV_INDEX_H

#include "graph/graph.h"
#include "store/paged.h"

struct ev_index {
    ev_params params;
    ev__graph graph;
    int64_t trained_on, unchecked; /* vectors behind the center; vectors added since it was last looked at */
    int32_t trainings;
    uint32_t lacks; /* EV_LACKS_*, atomic: what was put off when it was mapped without verifying it */
    int64_t looked; /* rows read to learn the center, to see whether it fits, and to encode anew */
    int64_t fresh;  /* unquantized: vectors added since it was last seen whether float32 tells them apart */
    double unfit;   /* for vectors so short a better center was looked for in vain; 0: never */
    int64_t next_id, changes;
    struct {
        int64_t shown, removed;
    } unsettled;             /* rows of ev_stage_commit, until ev_stage_settle */
    struct ev__stage *stage; /* NULL, or stage.c's */
    ev__account *account;    /* what is allocated for it */
    uint64_t serial;         /* of this index in this process; filters cache by it */
    ev__rwlock
        changing;    /* whole calls that change the index, one after the other; read by those that need it at rest */
    ev__rwlock lock; /* while anything changes that searches look at; after `changing` */
    int (*complete)(ev_index *ix, uint32_t lacks); /* do it, but for so much; lacks is lower then, or an error */
    bool closed;                                   /* nothing of it is left but this and the locks */
    bool broken;                                   /* its vectors on disk failed where nothing could be taken back */
    void *map;                                     /* the mapped file, or NULL */
    size_t map_bytes;
};

/* ---- index.c --------------------------------------------------------------------------------- */

int ev__index_make(const ev_params *params, ev_index **out); /* checked parameters, geometry, empty columns */
uint64_t ev__new_serial(void); /* of this process, by which filters know what their sets are of */
int ev__limit_check(int64_t memory_limit);
size_t ev__search_bytes(const ev_index *ix, size_t slots); /* scratch of one search over so many */
int ev__params_check(const ev_params *params);

/* LITTLE: it was not verified, and has no rows of prefilter.c. MUCH: nor tables of ids and free slots. Searches that
 * name no ids need none of that. */
enum { EV_LACKS_NOTHING, EV_LACKS_LITTLE, EV_LACKS_MUCH };

/* ---- call.c ---------------------------------------------------------------------------------- */

/* READ: beside a long ev_add, between two of its steps. READ_AT_REST: beside no call that changes the index. */
typedef enum { EV_NO_LOCK, EV_READ, EV_READ_AT_REST, EV_WRITE } ev__lock_kind;
/* A public call that has an index's lock, on its own stack, and those of the same thread in whose callbacks it is. */
typedef struct ev__call {
    ev_index *ix;
    ev__lock_kind held;
    struct ev__call *outer;
    int64_t faults; /* of vectors on disk, before it */
} ev__call;
/* Take the lock, or EV_E_FORKED, EV_E_CLOSED, or EV_E_REENTRANT where a call of this thread on this index is under way:
 * it would wait for itself. All that belongs to the index, its spare scratches among it, is taken after this and given
 * back before ev__leave. */
int ev__enter(ev_index *ix, ev__lock_kind kind, ev__call *call);
/* One that is broken too. */
int ev__enter_to_close(ev_index *ix, ev__call *call);
/* EV_OK, or why what the call has read of vectors on disk, or written there, does not hold. */
int ev__call_trouble(const ev__call *call);
/* Before a call that an index can answer which lacks at most so much. What the file is found to be then: an error. */
int ev__complete(ev_index *ix, uint32_t lacks);
/* To read what stays the same during such a call; then without a lock. False where it is refused. */
bool ev__enter_to_look(ev_index *ix, ev__call *call);
/* Why a call was refused that is not within another: EV_E_FORKED, EV_E_CLOSED, or EV_E_IO where it is broken. */
int ev__refuse_call(const ev_index *ix);
void ev__leave(ev__call *call);
/* Within a call with EV_WRITE: searches may go on until the second of these. What they look at is as it was. */
void ev__pause(ev__call *call);
void ev__resume(ev__call *call);
ev__gate ev__gate_of(ev__call *call); /* these two, for what lies below */

/* ---- old_codes.c ----------------------------------------------------------------------------- */

/* Zeroed: none were kept. */
typedef struct {
    size_t slots, code_bytes, center_bytes, prefilter_bytes;
    char *codes, *prefilter;
    ev__factor *factors;
    float *center;
    int32_t walk, trainings;
    int64_t trained_on, unchecked;
    double unfit;
} ev__old_codes;
/* Before codes are learned anew. Nothing is copied where vectors are kept, or for the second time. */
int ev__old_codes_keep(ev__old_codes *old, const ev_index *ix);
/* Of the slots that there were; those taken since keep what the new center made of them. */
void ev__old_codes_put_back(const ev__old_codes *old, ev_index *ix);
void ev__old_codes_free(ev__old_codes *old);

/* ---- train.c --------------------------------------------------------------------------------- */

/* Before n rows are added by `call`: learn the center when there is none or when it no longer fits, and encode what is
 * held anew, or begin to; and see whether what is walked on tells the rows apart. What is lost by that is in *old, also
 * after an error. */
int ev__train(ev_index *ix, int64_t n, const float *rows, int threads, ev__scratch *s, ev__old_codes *old,
              ev__call *call);
/* What it needs for that meanwhile, but for what it can do without. */
size_t ev__train_bytes(const ev_index *ix, int64_t n);
/* The same of what is held, whether or not it has grown. */
int ev__train_again(ev_index *ix, ev__scratch *s, ev__old_codes *old, ev__call *call);
/* What EV_WALK_* what is held calls for now. */
int ev__judge(ev_index *ix, int32_t *walk, ev__scratch *s);
/* Keep ix->longest true of a vector. */
void ev__note_length(ev_index *ix, const float *row);
/* The rows of prefilter.c of all slots, after a load. */
int ev__prefilter_all(ev_index *ix);

/* ---- encode.c -------------------------------------------------------------------------------- */

/* copied: of codes that are all that is kept, so they may be lost in a stop; else it leaves what was there. Searches go
 * on meanwhile, where a call is given. */
int ev__encode_anew(ev_index *ix, const float *center, int threads, bool copied, ev__call *call);
/* After so many rows were added: a little more of what ev__train began. */
void ev__encode_step(ev_index *ix, int64_t rows, ev__scratch *s);

/* ---- build.c ----------------------------------------------------------------------------------- */

/* Link all that is held anew, in the space that `walk` calls for, with what is staged. On error all is as before. */
int ev__link_anew(ev_index *ix, int32_t walk, int threads);

/* ---- staged_rows.c --------------------------------------------------------------------------- */

/* Rows that are staged, and their slots. */
int64_t ev__staged(const ev_index *ix);
uint32_t ev__staged_slot(const ev_index *ix, int64_t i);
size_t ev__stage_bytes(const ev_index *ix);
void ev__stage_free(ev_index *ix);

/* ---- remove.c -------------------------------------------------------------------------------- */

/* Those that are held, and how many these were; it cannot be stopped. */
int64_t ev__remove_ids(ev_index *ix, int64_t n, const int64_t *ids);

/* ---- maintenance.c --------------------------------------------------------------------------- */

/* What calls that change an index do for its links at their end. Services, not promises: a stop or want of memory
 * leaves them to a later call. */
/* Where so many were removed that it is due, links are led around them, as far as these rows call for. When so many are
 * new that mending is due, at once where they are these rows, else shared out among calls. threads: 0: one a core. */
void ev__repair_after_adding(ev_index *ix, int64_t rows, int32_t threads, ev__call *call);
/* The same; later, as nothing else is left to do then. Nothing while the graph lies in a mapped file, of which every
 * page would be copied. */
void ev__repair_after_removing(ev_index *ix, int64_t rows, ev__call *call);
/* Is that to be done before so many rows are added, which then find the room? */
bool ev__consolidates_before(const ev_index *ix, int64_t rows);
/* Linked nodes have died: what lost its last link to one of them is linked anew; in a large index by the next call, as
 * that takes long. */
void ev__links_lost(ev_index *ix, ev__call *call);

/* ---- filter.c -------------------------------------------------------------------------------- */

/* The bit set over ix's slots (reader lock held) and how many of them are set; valid until ev__filter_release. */
int ev__filter_slots(ev_filter *filter, ev_index *ix, const uint64_t **bits, int64_t *count, void **hold);
/* The same over whatever holds ids. */
typedef struct {
    uint64_t serial, version; /* sets are kept for these */
    ev__account *account;     /* that they are counted in */
    size_t words;             /* of a set */
    /* Set the bits of those of the n ids that are held, and add to *count how many these are. */
    int (*fill)(void *arg, int64_t n, const int64_t *ids, uint64_t *bits, int64_t *count);
    void *arg;
} ev__filtered;
int ev__filter_bits(ev_filter *filter, const ev__filtered *over, const uint64_t **bits, int64_t *count, void **hold);
void ev__filter_release(ev_filter *filter, void *hold);

#endif
