/* The file system, as save.c and load.c see it. Paths are UTF-8; calls return 0 or an errno
 * unless they say otherwise. */
#ifndef EV_FILE_SYSTEM_H
#define EV_FILE_SYSTEM_H

#include "base/base.h"
#include "edgevec_test.h"

#if defined(_WIN32)
#define EV_PATH (3 * 32768) /* bytes of UTF-8, with the 0 behind them */
#define EV_RENAMES_OPEN_FILES 0
#else
#include <limits.h>
#define EV_PATH PATH_MAX
#define EV_RENAMES_OPEN_FILES 1
#endif

/* The file that a save to `path` makes or replaces, symbolic links followed, a dangling one too. EISDIR for a folder,
 * EINVAL for what else is no regular file, ELOOP. */
int ev__file_target(const char *path, char out[EV_PATH]);
/* How much of a path is the folder, with the separator behind it. */
size_t ev__folder_length(const char *path);

/* What files are written and read with: the system's, or in tests those of ev_set_file_ops. */
const ev_file_ops *ev__file_ops(void);
#define EV_FILE_RUN \
    ((size_t)4 << 20)        /* bytes written, read or flushed at a time, between which a call may be stopped */
#define EV_FILE_STOPPED (-1) /* in place of an errno, of a write or a flush */
/* All n bytes, of a file that ev__file_ops()->open made. */
int ev__file_write(void *file, const void *bytes, size_t n);

/* Saves write to new files of this name and 16 hexadecimal digits, and hold their locks meanwhile. */
#define EV_TEMPORARY ".edgevec-new-"
/* Remove from the folder of `path` what killed processes have left there beside it: new files whose lock nobody holds.
 * Where that cannot be known, or is not permitted, they stay. */
void ev__remove_left_over(const char *path);

/* Note in the error's detail what the system refused; EV_E_IO, or EV_E_NOMEM where it had no memory. */
int ev__refused(int error, const char *what, const char *path);

/* A regular file, open for reading from its start to its end. */
typedef struct {
    void *handle;
    uint64_t bytes; /* its size when it was opened */
} ev__file;
int ev__file_open(const char *path, ev__file *out);
int ev__file_read(const ev__file *file, void *out, size_t n); /* the next n bytes; EIO when the file ends before */
void ev__file_close(const ev__file *file);
/* All n bytes: 0 or an errno, and in *done how many there were; 0 with less is the end of the file. */
int ev__file_read_at(void *file, uint64_t at, void *out, size_t n, size_t *done);
int ev__file_write_at(void *file, uint64_t at, const void *bytes, size_t n);

/* A new name for a temporary file, behind the first `folder` bytes of `name`; false: it does not fit. */
bool ev__temporary_name(char name[EV_PATH], size_t folder);

/* ---- positioned.c ---------------------------------------------------------------------------- */

/* As in ev_file_ops. */
int ev__system_read_at(void *user, void *file, uint64_t at, void *out, size_t n, int wait, size_t *got);
int ev__system_write_at(void *user, void *file, uint64_t at, const void *bytes, size_t n, size_t *written);
void ev__system_advise(void *user, void *file, uint64_t at, size_t n);

/* ---- whole files ----------------------------------------------------------------------------- */

/* The whole file in memory, private and copy-on-write; it outlives the open file. ENOTSUP where the system cannot. */
int ev__map(const ev__file *file, void **out);
void ev__unmap(void *map, size_t bytes);
/* It will be looked at here and there: the system need not read the neighbors of a page along. */
void ev__map_at_random(void *map, size_t bytes);

#endif
