/* Faults on purpose, for the library's own tests. A release has none of these functions: they are compiled in where
 * EDGEVEC_TESTING is defined (cmake -DEDGEVEC_BUILD_TESTS=ON). */
#ifndef EDGEVEC_TEST_H
#define EDGEVEC_TEST_H

#include "edgevec.h"

/* The calls that ev_save makes, so that a test can tear, drop or fail them. Each returns 0, or an errno. NULL restores
 * the system's. */
typedef struct {
    /* create, must not exist; with the mode and owner of `like`, where that exists */
    int (*open)(void *user, const char *path, const char *like, void **file);
    int (*write)(void *user, void *file, const void *bytes, size_t n);
    int (*sync)(void *user, void *file);
    int (*close)(void *user, void *file);
    int (*rename)(void *user, const char *from, const char *to);
    int (*sync_folder)(void *user, const char *path); /* of the file `path` */
    int (*unlink)(void *user, const char *path);
    void *user;
} ev_file_ops;

#ifdef EDGEVEC_TESTING
void ev_set_file_ops(const ev_file_ops *ops);

/* Make the n-th allocation from now fail (1: the next), and only that one; 0: none. Returns how many were made since
 * the last call. */
int64_t ev_fault_alloc(int64_t n);
#endif

#endif
