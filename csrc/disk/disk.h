/* Searching a graph that lies on disk: what is held in memory is a part of a thousandth of it. */
#ifndef EV_DISK_H
#define EV_DISK_H

#include "disk/format.h"
#include "index/index.h"

#define EV_DISK_AT_ONCE 64 /* blocks that are read in one round, at most */

typedef struct ev__disk_scratch ev__disk_scratch;

struct ev_disk {
    ev__disk_header header;
    ev__quantizer quantizer;
    ev__disk_geometry geometry;
    ev__file file;
    char *path;
    char *map;               /* the file, or NULL: it is read */
    const uint32_t *entries; /* header.entries of each: numbers, factors and codes */
    const ev__factor *factors;
    const char *codes;
    const int64_t *directory;
    char *memory; /* of the last four */
    size_t memory_bytes;
    uint32_t *verified; /* atomic: a bit for each block that was found whole */
    ev__account *account;
    uint64_t serial;
    ev__mutex lock; /* of what follows */
    int64_t users;  /* calls under way, and who opened it; the last one gives all back */
    bool closed;
    ev__disk_scratch *spare;
    ev_disk_stats stats; /* atomic: since it was opened */
};

/* What a call reads with. */
typedef struct {
    const ev_disk *d;
    int64_t reads, bytes; /* of this call */
} ev__disk_reader;

typedef struct {
    uint32_t number;
    char *at; /* where to: geometry.bytes. Of a mapped file, where it is */
} ev__disk_read;

/* ---- open.c ---------------------------------------------------------------------------------- */

/* The quantizer of a file's header, without a center; freed by ev__quantizer_free. */
int ev__disk_quantizer(ev__quantizer *q, const ev__disk_header *h);
/* A call begins, and allocates under the account of what it reads; *was: what it did before. EV_E_CLOSED. */
int ev__disk_enter(ev_disk *d, ev__account **was);
void ev__disk_leave(ev_disk *d, ev__account *was);

/* ---- read.c ---------------------------------------------------------------------------------- */

/* These blocks, at most EV_DISK_AT_ONCE, verified: the disk is told of all before it is waited for. */
int ev__disk_fetch(ev__disk_reader *r, ev__disk_read *wanted, size_t n);
/* Blocks one behind the other, into memory for ev__disk_run bytes: a block's place there is that from the first one's.
 */
size_t ev__disk_run(const ev_disk *d, uint32_t *blocks); /* bytes of a run, and of how many blocks it is */
int ev__disk_fetch_run(ev__disk_reader *r, uint32_t first, uint32_t count, char *into);
/* A page of a section of ids, verified. */
int ev__disk_page(ev__disk_reader *r, int section, uint64_t page, ev__disk_ids *out);
/* Whether the id is held, its node and its rank. page, *loaded: what is there; UINT64_MAX: nothing. */
int ev__disk_find(ev__disk_reader *r, int64_t id, ev__disk_ids *page, uint64_t *loaded, uint32_t *number,
                  uint32_t *rank, bool *held);
/* Damage is told so: the file's name, and which block or page. */
int ev__disk_damaged(const ev_disk *d, const char *what, uint64_t number, const char *how);

static inline const float *ev__disk_vector(const ev__disk_block *b) { return (const float *)(const void *)(b + 1); }

/* ---- code.c ---------------------------------------------------------------------------------- */

/* The code of w->decoded, a vector minus the node's, its factor and its squared length. around: the node's own, of
 * ev__disk_around, or NULL where the node is the center. */
void ev__disk_encode(const ev__quantizer *q, const float *around, char *code, ev__factor *factor, float *length,
                     ev__workspace *w);
/* A query, as the index would hold it, around a center; estimates by codes around that are offset + gain * distance. */
void ev__disk_query(const ev__quantizer *q, const float *vector, const float *center, ev__query *query,
                    ev__workspace *w);
/* A vector from the center, turned as codes are: into around, bits or dim floats. Under ip NULL: nothing is needed. */
const float *ev__disk_around(const ev__quantizer *q, const float *vector, float *around, ev__workspace *w);

/* ---- search.c -------------------------------------------------------------------------------- */

void ev__disk_scratch_free(ev__disk_scratch *s);

#endif
