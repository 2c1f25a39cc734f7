/* Faults on purpose, for the library's own tests. A release has none of these functions: they are compiled in where
 * EDGEVEC_TESTING is defined (cmake -DEDGEVEC_BUILD_TESTS=ON). */
#ifndef EDGEVEC_TEST_H
#define EDGEVEC_TEST_H

#include "edgevec.h"

/* The system's calls that are made for files, so that a test can fail, cut short, tear or record any of them.
 * Each returns 0, or an errno. NULL restores the system's. */
typedef struct {
    /* create, must not exist; with the mode and owner of `like`, where that exists */
    int (*open)(void *user, const char *path, const char *like, void **file);
    /* hold the lock of a new file until unlock, also after its close; EEXIST where it is being removed as left over */
    int (*lock)(void *user, void *file, void **lock);
    int (*write)(void *user, void *file, const void *bytes, size_t n, size_t *written); /* 1 to n of them */
    int (*sync)(void *user, void *file);
    int (*close)(void *user, void *file); /* one that was opened for reading too */
    int (*rename)(void *user, const char *from, const char *to);
    int (*sync_folder)(void *user, const char *path); /* of the file `path` */
    int (*unlink)(void *user, const char *path);
    void (*unlock)(void *user, void *lock);
    int (*open_old)(void *user, const char *path, void **file); /* for reading */
    int (*size)(void *user, void *file, uint64_t *bytes);       /* EISDIR, EINVAL for what is no regular file */
    int (*read)(void *user, void *file, void *out, size_t n, size_t *got); /* up to n; 0 at its end */
    int (*map)(void *user, void *file, size_t bytes, void **at);           /* private and copy-on-write */
    void (*unmap)(void *user, void *at, size_t bytes);
    /* Vectors that stay on disk. A new file without a name in the folder ("": the system's for such), which is gone
     * when it is closed. */
    int (*open_scratch)(void *user, const char *folder, void **file);
    /* As read, from a place, by any number of threads. wait 0: EAGAIN, or less than n, where the disk is needed. */
    int (*read_at)(void *user, void *file, uint64_t at, void *out, size_t n, int wait, size_t *got);
    int (*write_at)(void *user, void *file, uint64_t at, const void *bytes, size_t n, size_t *written);
    /* These bytes are read soon, so that the disk may fetch them meanwhile. n 0: the file is read here and there. */
    void (*advise)(void *user, void *file, uint64_t at, size_t n);
    void *user;
} ev_file_ops;

#ifdef EDGEVEC_TESTING
void ev_set_file_ops(const ev_file_ops *ops);

/* Make the n-th allocation from now fail (1: the next), and only that one; 0: none. Returns how many were made since
 * the last call. */
int64_t ev_fault_alloc(int64_t n);

/* Bytes of the scratches that small indexes share, which no index's account has; -1: somebody is at them. */
int64_t ev_shared_bytes(void);

/* Ask whether to stop after so many seconds, not 50 ms: with 0, each time that a call comes by. Less: 50 ms again. */
void ev_ask_every(double seconds);

/* Lists of links that mending graphs has read since the last call, or work that takes as long. */
int64_t ev_mending_work(void);

/* Slots whose links were led around removed nodes since the last call, or that were looked at for it. */
int64_t ev_relinked_around(void);

/* From so many slots on walks keep what they have met in a hash set; 0: as many as in a release. */
void ev_hash_from(int64_t slots);
#endif

#endif
