/* One call of ev_search: its plan, and what its parts share. */
#ifndef EV_SEARCH_H
#define EV_SEARCH_H

#include "index/index.h"

#define EV_SCAN_BATCH 64 /* rows compared or scanned at a time */

struct ev_context {
    uint64_t serial; /* of its index */
    ev__account *account;
    ev__scratch *scratch;
    uint32_t busy; /* atomic */
    ev__spin lock; /* of stats */
    ev_search_stats stats;
};

/* One call's queries and how each is to be answered. */
typedef struct {
    ev_index *ix;
    const float *queries;
    size_t k, ef, scan_ef; /* candidates kept by a walk; by a scan */
    size_t spare;          /* and by a walk that meets removed nodes, which take places and are no results */
    bool exact, scan;      /* scan: by codes, or by float vectors when exact or few */
    ev__mask mask;
    int64_t matches;            /* vectors that may be results */
    const int64_t *exclude_ids; /* NULL, or one for each query */
    int64_t *ids;
    float *distances;
    ev__scratch *scratches[64];
    ev__work work;
    bool by_nibbles; /* a scan of vectors goes by 4-bit codes first */
    size_t block;    /* queries that are compared with all rows at once; 0: each is answered alone */
} ev__search_call;

typedef struct {
    ev__search_call *b;
    const ev__query *query;
    ev__scratch *s;
    double limit;      /* no result is further; INFINITY where nothing is known */
    uint32_t excluded; /* the slot that is no result, or EV_NONE */
    uint32_t slots[EV_SCAN_BATCH];
    size_t count;
} ev__reranker;

/* Is the call to stop? Told to its other threads too, once it is. */
static inline bool ev__search_is_to_stop(ev__search_call *b) {
    if (ev__is_to_stop()) ev__store32(&b->work.stopped, 1);
    return ev__load32(&b->work.stopped) != 0;
}

/* ---- context.c ------------------------------------------------------------------------------- */

/* Keep the statistics of the search that ended. */
void ev__context_note(ev_context *c);

/* ---- rerank.c -------------------------------------------------------------------------------- */

/* No vector that is further can be among the k nearest. */
double ev__rerank_bound(const ev__reranker *r);
/* Compare what is waiting in r->slots, and keep the k nearest in r->s->results. */
void ev__rerank_flush(ev__reranker *r);
/* The candidates of a walk (nodes, with their duplicates) or of a scan -> r->s->results. */
void ev__rerank_candidates(ev__reranker *r, bool nodes);
/* Results -> the caller's row. */
void ev__rerank_write(const ev__search_call *b, ev__scratch *s, int64_t row);

/* ---- scan.c ---------------------------------------------------------------------------------- */

/* Results that are there already are found again; where vectors are compared, nothing further than they is. */
void ev__scan_call(ev__reranker *r);
/* Are n queries to be scanned for one by one by 4-bit codes? Makes these when they are due. */
bool ev__scan_by_nibbles(const ev__search_call *b, int64_t n);
/* Does it compare float vectors? */
bool ev__scans_vectors(const ev__search_call *b);
/* The next run of slots that may be results, from *at on, at most EV_SCAN_BATCH. */
size_t ev__scan_next(const ev__search_call *b, uint32_t excluded, size_t *at, uint32_t *slots);

/* ---- scan_block.c ---------------------------------------------------------------------------- */

/* How many of n queries are best answered together; 0: none. */
size_t ev__scan_block_most(const ev__search_call *b, int64_t n);
/* Answer the queries [from, to), at most so many; false: there was no memory for it. */
bool ev__scan_block(ev__search_call *b, int64_t from, int64_t to, ev__scratch *s);

#endif
