/* struct stat as the runtime fills it; older headers hold padding that it no longer has. */
struct stat {
    dev_t st_dev;
    mode_t st_mode;
    nlink_t st_nlink;
    uid_t st_uid;
    gid_t st_gid;
    dev_t st_rdev;
    off_t st_size;
    blksize_t st_blksize;
    blkcnt_t st_blocks;
    struct timespec st_atim, st_mtim, st_ctim;
    ino_t st_ino;
};

_Static_assert(sizeof(struct timespec) == 16, "struct timespec");
_Static_assert(sizeof(struct stat) == 96 && __builtin_offsetof(struct stat, st_size) == 24, "struct stat");
