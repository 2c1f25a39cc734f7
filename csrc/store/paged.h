/* What is kept of vectors beside their codes, in files and not in memory: read where it is needed, some rows at once,
 * and only ever appended.
 *
 * Rows have numbers, from 1 on, that never come to mean another row: a slot has the number of its own in the column
 * `vectors`, which moves with it; 0 is a row of zeros. The first ones lie in the index file, which stays open, so that
 * another file of its name does no harm; those that come later, in a scratch file without a name. A forked child
 * appends to one of its own. A file that cannot be read, or ends too soon, is a fault: the row reads as zeros, and all
 * calls that are under way fail. */
#ifndef EV_PAGED_H
#define EV_PAGED_H

#include "base/file_system.h"
#include "store/store.h"

/* An index without any rows keeps them in files from now on; laid out before. */
int ev__paged_begin(ev__store *store);
void ev__paged_free(ev__store *store);
/* From now on errors name this file, and scratch files go to its folder, whatever the file was called that is read. */
int ev__paged_known_as(ev__store *store, const char *path);
/* The rows of all slots are those in this file, from `offset` on, and the file is the store's now; the others are
 * forgotten. path: for errors, and its folder for scratch files. On error the file is the caller's. */
int ev__paged_adopt(ev__store *store, void *file, uint64_t offset, const char *path);
/* Before rows are appended: see to a file for them. */
int ev__paged_ready(ev__store *store);
/* Append the slot's row, by any number of threads. */
void ev__paged_write(const ev__store *store, uint32_t slot, const void *row);

/* Its row, or NULL where the store has rows in memory. A row is valid until the next call with the same workspace. */
static inline uint32_t ev__paged_number(const ev__store *store, uint32_t slot) {
    return ((const uint32_t *)(const void *)store->columns.vectors.at)[slot];
}
const void *ev__paged_row(const ev__store *store, uint32_t slot, ev__workspace *w);
/* Read the rows of m slots, at most ev__paged_room, at once: until the next such call they are at hand. */
void ev__paged_fetch(const ev__store *store, const uint32_t *slots, size_t m, ev__workspace *w);
/* The same where the system has all of them cached; false: it has not, and none is at hand. */
bool ev__paged_fetch_cached(const ev__store *store, const uint32_t *slots, size_t m, ev__workspace *w);
size_t ev__paged_room(const ev__store *store);
/* One row, to out. */
void ev__paged_read(const ev__store *store, uint32_t slot, void *out);
/* The rows of n slots, in their order. */
void ev__paged_read_run(const ev__store *store, size_t from, size_t n, char *out);
/* A part of a row of at most 4096 bytes; returns how many there are, 0 behind its end. */
#define EV_PAGED_PIECE 4096
size_t ev__paged_piece(const ev__store *store, uint32_t slot, size_t at, char out[EV_PAGED_PIECE]);

/* Comparing with them: ev__float_space, and ev__i8_rows_made of them. */
ev__space ev__paged_space(const ev__store *store, bool made);
/* A workspace's own memory for it. */
struct ev__fetched *ev__paged_lay_out(const ev__store *store, ev__arena *arena);

/* Faults that there were; and the error of the last one, EV_OK where there was none since. */
int64_t ev__paged_faults(const ev__store *store);
int ev__paged_trouble(const ev__store *store, int64_t since);
/* Rows appended so far; reads made; bytes of rows in files. */
int64_t ev__paged_appended(const ev__store *store);
int64_t ev__paged_reads(const ev__store *store);
int64_t ev__paged_bytes(const ev__store *store);
size_t ev__paged_held(const ev__store *store); /* bytes of memory */
size_t ev__paged_item(const ev__store *store); /* bytes of a row */
/* Bytes of as many rows as are well copied at a time, where there are `bytes` of them. */
size_t ev__paged_run(const ev__store *store, uint64_t bytes);

#endif
