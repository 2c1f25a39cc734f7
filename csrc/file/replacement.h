/* A file that is replaced as a whole: a new one beside it is written, flushed, and renamed over it. */
#ifndef EV_REPLACEMENT_H
#define EV_REPLACEMENT_H

#include "base/file_system.h"

typedef struct {
    const char *path;    /* as the caller gave it; errors name that */
    char *target, *name; /* EV_PATH each: of the file to be replaced, and of the new one */
    void *file, *lock;   /* of the new one; who writes it closes it */
} ev__replacement;

/* A new file in the folder of `path`, empty and locked. */
int ev__replacement_begin(const char *path, ev__replacement **out);
/* After the file was written, flushed and closed: it takes its place, or where rc is an error it goes; returns rc, or
 * what the system refused. */
int ev__replacement_end(ev__replacement *r, int rc);
/* Flush the folder; the last step. */
int ev__replacement_flush(ev__replacement *r);
void ev__replacement_free(ev__replacement *r);

#endif
