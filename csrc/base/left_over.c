/* New files of processes that were killed while they saved. A living one holds the lock of its file until that is
 * renamed, and the system gives back the locks of the dead. */
#include "base/file_system.h"

#if defined(_WIN32) || defined(__EMSCRIPTEN__)

void ev__remove_left_over(const char *path) { (void)path; }

#else

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_temporary(const char *name) {
    size_t prefix = sizeof EV_TEMPORARY - 1;
    return strncmp(name, EV_TEMPORARY, prefix) == 0 && strspn(name + prefix, "0123456789abcdef") >= 16;
}

/* Its descriptor with the lock, which keeps its writer out, should that be about to take it; or -1. */
static int take_from_the_dead(int folder, const char *name) {
    struct stat held, there;
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -1;
    if (fstat(fd, &held) == 0 && S_ISREG(held.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
        fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_dev == held.st_dev &&
        there.st_ino == held.st_ino)
        return fd;
    close(fd);
    return -1;
}

/* but: a file that is to stay whatever its name is; length: of the folder's part of the path. */
static void remove_from(DIR *folder, const char *but, char path[EV_PATH], size_t length) {
    const ev_file_ops *ops = ev__file_ops();
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        size_t name = strlen(entry->d_name);
        if (!is_temporary(entry->d_name) || strcmp(entry->d_name, but) == 0 || length + name >= EV_PATH) continue;
        int fd = take_from_the_dead(dirfd(folder), entry->d_name);
        if (fd < 0) continue;
        memcpy(path + length, entry->d_name, name + 1);
        ops->unlink(ops->user, path);
        close(fd);
    }
}

void ev__remove_left_over(const char *path) {
    char name[EV_PATH], folder[EV_PATH] = ".";
    if (ev__file_target(path, name) != 0) return;
    size_t length = ev__folder_length(name);
    if (length) memcpy(folder, name, length);
    if (length) folder[length] = '\0';
    DIR *opened = opendir(folder);
    if (!opened) return;
    remove_from(opened, name + length, folder, length);
    closedir(opened);
}

#endif
