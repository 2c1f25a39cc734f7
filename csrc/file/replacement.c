#include "file/replacement.h"

#include <errno.h>

#define EV_NAME_TRIES \
    16 /* a temporary name is 64 random bits, so one is enough unless another process makes the same on purpose */

/* A new file with its lock, or none of both. */
static int create(const ev_file_ops *ops, const char *name, const char *like, void **file, void **lock) {
    int error = ops->open(ops->user, name, like, file);
    if (error) return error;
    error = ops->lock(ops->user, *file, lock);
    if (error) {
        ops->close(ops->user, *file);
        ops->unlink(ops->user, name);
    }
    return error;
}

/* Create a file that nobody else has in the folder of `path`. Its name does not grow with that of `path`, which may be
 * as long as names can be. */
static int create_beside(const ev_file_ops *ops, const char *path, char name[EV_PATH], void **file, void **lock) {
    size_t folder = ev__folder_length(path);
    memcpy(name, path, folder);
    int error = EEXIST;
    for (int i = 0; error == EEXIST && i < EV_NAME_TRIES; i++) {
        if (!ev__temporary_name(name, folder)) return ENAMETOOLONG;
        error = create(ops, name, path, file, lock);
    }
    return error;
}

static int begin(ev__replacement *r) {
    int error = ev__file_target(r->path, r->target);
    if (error == EINVAL)
        return ev__fail_errno(EV_E_IO, error, "not a regular file, and pipes and devices cannot be written to: '%s'",
                              r->path);
    if (error) return ev__refused(error, "replace", r->path);
    ev__remove_left_over(r->target); /* before more room is taken */
    error = create_beside(ev__file_ops(), r->target, r->name, &r->file, &r->lock);
    return error ? ev__refused(error, "create a file for", r->path) : EV_OK;
}

enum { BYTES = sizeof(ev__replacement) + 2 * EV_PATH };

int ev__replacement_begin(const char *path, ev__replacement **out) {
    ev__replacement *r = ev__alloc_zero(BYTES, EV_LINE);
    if (!r) return ev__fail(EV_E_NOMEM, "the names of two files");
    r->path = path;
    r->target = (char *)(r + 1);
    r->name = r->target + EV_PATH;
    int rc = begin(r);
    if (rc == EV_OK)
        *out = r;
    else
        ev__replacement_free(r);
    return rc;
}

int ev__replacement_end(ev__replacement *r, int rc) {
    const ev_file_ops *ops = ev__file_ops();
    int error = rc == EV_OK ? ops->rename(ops->user, r->name, r->target) : 0;
    if (error) rc = ev__refused(error, "replace", r->path);
    if (rc != EV_OK) ops->unlink(ops->user, r->name);
    ops->unlock(ops->user, r->lock);
    return rc;
}

int ev__replacement_flush(ev__replacement *r) {
    const ev_file_ops *ops = ev__file_ops();
    int error = ops->sync_folder(ops->user, r->target);
    return error ? ev__refused(error, "flush the folder of", r->path) : ev__ok();
}

void ev__replacement_free(ev__replacement *r) { ev__release(r, BYTES, EV_LINE); }
