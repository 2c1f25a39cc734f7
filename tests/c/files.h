/* Small indexes, and files as bytes. */
#ifndef EV_FILES_H
#define EV_FILES_H

#include "check.h"
#include "index/index.h"

#include <stdlib.h>

#if defined(__GNUC__)
#define MAY_BE_UNUSED __attribute__((unused))
#else
#define MAY_BE_UNUSED
#endif

enum { DIM = 24, ROWS = 120 };

MAY_BE_UNUSED static void add_rows(ev_index *ix, int64_t first, int64_t n) {
    float rows[ROWS * DIM];
    int64_t ids[ROWS];
    for (int64_t i = 0; i < n; i++) {
        ids[i] = first + i;
        for (int64_t j = 0; j < DIM; j++) /* every fifth row twice, so that there are duplicates */
            rows[i * DIM + j] =
                (float)(ev__mix((uint64_t)((first + i - (i % 5 == 4)) * DIM + j)) % 2001) / 1000.0f - 1.0f;
    }
    CHECK(ev_add(ix, n, rows, ids, NULL, 1, NULL, NULL) == EV_OK);
}

MAY_BE_UNUSED static ev_index *make_in(int32_t storage, int32_t metric, int32_t quantization, int32_t keep) {
    ev_params p = {DIM, metric, quantization, 4, 40, 40, keep, 7, storage};
    ev_index *ix = NULL;
    CHECK(ev_new(&p, &ix) == EV_OK);
    return ix;
}

MAY_BE_UNUSED static ev_index *make(int32_t metric, int32_t quantization, int32_t keep) {
    return make_in(EV_STORAGE_MEMORY, metric, quantization, keep);
}

MAY_BE_UNUSED static ev_index *load(const char *path, int32_t map) {
    ev_index *ix = NULL;
    CHECK(ev_load(path, map, &ix) == EV_OK);
    return ix;
}

typedef struct {
    char *at;
    size_t count;
} bytes;

MAY_BE_UNUSED static bytes read_all(const char *path) {
    bytes b = {NULL, 0};
    FILE *f = fopen(path, "rb");
    if (!f) return b;
    fseek(f, 0, SEEK_END);
    b.count = (size_t)ftell(f);
    rewind(f);
    b.at = malloc(b.count + 1);
    if (b.at) b.count = fread(b.at, 1, b.count, f);
    fclose(f);
    return b;
}

MAY_BE_UNUSED static bool equal(bytes a, bytes b) {
    return a.at && b.at && a.count == b.count && memcmp(a.at, b.at, a.count) == 0;
}

MAY_BE_UNUSED static bool exists(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

MAY_BE_UNUSED static bool is_sound(ev_index *ix, int64_t live) {
    ev_report r;
    return ev_check(ix, &r) == EV_OK && r.live == live && ev_count(ix) == live && !r.unreachable && !r.bad_links &&
           !r.bad_codes && !r.bad_ids;
}

/* The file is whole and holds `live` vectors. */
MAY_BE_UNUSED static void check_file(const char *path, int64_t live) {
    ev_index *ix = load(path, 0);
    if (ix) CHECK(is_sound(ix, live));
    ev_free(ix);
}

MAY_BE_UNUSED static void write_all(const char *path, bytes b) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(b.at, 1, b.count, f) == b.count);
    if (f) fclose(f);
}

#endif
