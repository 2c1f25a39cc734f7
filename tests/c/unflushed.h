/* The system's calls, but for those that wait for the disk: for tests that save a thousand times. */
#ifndef EV_UNFLUSHED_H
#define EV_UNFLUSHED_H

#include "base/file_system.h"

static int no_flush(void *user, void *file) {
    (void)user, (void)file;
    return 0;
}

static int no_folder_flush(void *user, const char *path) {
    (void)user, (void)path;
    return 0;
}

static ev_file_ops without_flushes(void) {
    ev_file_ops ops = *ev__file_ops();
    ops.sync = no_flush;
    ops.sync_folder = no_folder_flush;
    return ops;
}

#endif
