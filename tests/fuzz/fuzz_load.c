/* Hostile index files: whatever the bytes are, loading them is an error or an index on which every call ends, within
 * its arrays. The first byte says how they are loaded, and whether checksums are made right before: so that what lies
 * behind them is reached. */
#include "file/format.h"
#include "fuzz.h"

#include <unistd.h>

enum { SEAL = 4, K = 5 };

/* Right checksums for what the header says of itself, where it lies within the file. */
static void seal(uint8_t *file, size_t size) {
    ev__file_header h;
    if (size < sizeof h) return;
    memcpy(&h, file, sizeof h);
    for (size_t i = 0; i < EV_FILE_SECTIONS && i < h.sections; i++) {
        ev__file_section *s = &h.section[i];
        if (s->offset <= size && s->bytes <= size - s->offset)
            s->crc = ev__kernels_scalar.crc32c(0, file + s->offset, (size_t)s->bytes);
    }
    h.crc = ev__kernels_scalar.crc32c(0, &h, offsetof(ev__file_header, crc));
    memcpy(file, &h, sizeof h);
}

static ev_index *load(const uint8_t *file, size_t size, int32_t map) {
    static char path[64];
    ev_index *ix = NULL;
    if (map == EV_MAP_NONE) return ev_load_bytes((int64_t)size, file, &ix) == EV_OK ? ix : NULL;
    if (!*path) snprintf(path, sizeof path, "/dev/shm/edgevec-fuzz-%ld", (long)getpid());
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(file, 1, size, f) == size);
    fclose(f);
    int rc = ev_load(path, map, &ix);
    unlink(path);
    return rc == EV_OK ? ix : NULL;
}

static void search(ev_index *ix, const float *query, int32_t exact, ev_filter *filter) {
    int64_t ids[K];
    float distances[K];
    ev_search_params p = {.k = K, .ef = 40, .exact = exact, .threads = 1, .filter = filter};
    int rc = ev_search(ix, 1, query, &p, ids, distances);
    REQUIRE(rc == EV_OK || rc == EV_E_CORRUPT);
}

/* For so few the graph is walked; for more, all vectors of so small an index are compared. */
static void walk(ev_index *ix, const float *query) {
    int64_t id;
    float distance;
    ev_search_params p = {.k = 1, .ef = 1, .threads = 1};
    REQUIRE(ev_search(ix, 1, query, &p, &id, &distance) == EV_OK);
}

/* Searches as it was opened; then what verifies it, and what changes it. */
static void use(ev_index *ix, bool verified) {
    ev_params p;
    ev_stats stats;
    ev_memory memory;
    ev_report report;
    ev_filter *filter = NULL;
    int64_t ids[8], cursor = 0, n = 0;
    ev_get_params(ix, &p);
    ev_get_stats(ix, &stats);
    ev_memory_usage(ix, &memory);
    float *row = malloc((size_t)p.dim * 8 * sizeof *row);
    for (int64_t i = 0; i < p.dim * 8; i++) row[i] = (float)(1 + i % 7) / 7;
    search(ix, row, 0, NULL);
    search(ix, row, 1, NULL);
    walk(ix, row);
    REQUIRE(ev_ids(ix, &cursor, 8, ids, &n) == EV_OK);
    REQUIRE(ev_filter_new(n, ids, &filter) == EV_OK);
    search(ix, row, 0, filter);
    int rc = n ? ev_get(ix, n, ids, row) : EV_OK;
    REQUIRE(rc == EV_OK || (!verified && (rc == EV_E_CORRUPT || rc == EV_E_NO_ID)));
    for (int64_t i = 0; i < p.dim * 8; i++) row[i] = (float)(2 + i % 5) / 7;
    rc = ev_check(ix, &report);
    REQUIRE(rc == EV_OK || (!verified && rc == EV_E_CORRUPT));
    if (rc == EV_OK) {
        int64_t live = ev_count(ix);
        rc = ev_add(ix, 3, row, NULL, NULL, 1, NULL, NULL);
        REQUIRE(rc == EV_OK ? ev_count(ix) == live + 3 : ev_count(ix) == live);
        REQUIRE(ev_remove(ix, n, ids, NULL) == EV_OK);
        rc = ev_compact(ix, NULL, NULL);
        search(ix, row, 0, NULL);
        search(ix, row, 0, filter);
    } else {
        search(ix, row, 0, NULL);
    }
    ev_filter_free(filter);
    free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    uint8_t *file = malloc(size);
    memcpy(file, data + 1, size - 1);
    if (data[0] & SEAL) seal(file, size - 1);
    int32_t map = data[0] % 4 % 3;
    ev_index *ix = load(file, size - 1, map);
    free(file);
    if (ix) use(ix, map != EV_MAP_UNVERIFIED);
    ev_free(ix);
    return 0;
}
