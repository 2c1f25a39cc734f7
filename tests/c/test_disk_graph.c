/* A graph on disk: the n-th allocation or read of every call fails, and blocks that were made with intent have right
 * checksums. Nothing is lost, and no call reads where it must not: that is for AddressSanitizer to say. */
#include "check.h"
#include "disk/disk.h"
#include "edgevec_test.h"
#include "files.h"

#include <errno.h>
#include <stddef.h>

#define PATH "test_disk_graph.evd"
#define OTHER "test_disk_graph_other.evd"

enum { K = 7, MANY = 100000 };
static const int64_t some[] = {3, 4, 9, 17, 50, 51, 52, 99, -1, 1000};
enum { SOME = sizeof some / sizeof *some };

typedef struct {
    int64_t ids[2 * K];
    float distances[2 * K];
} answers;

static float query[2 * DIM];

/* Walks, both kinds of scan, and what names ids; the first error. */
static int ask(ev_disk *d, answers *out) {
    ev_filter *filter = NULL;
    float vectors[4 * DIM];
    int32_t held = 0;
    int64_t ids[16], cursor = 0, written;
    ev_disk_report report;
    ev_disk_search_params p = {.k = K, .ef = 30, .threads = 1};
    int rc = ev_disk_search(d, 2, query, &p, out->ids, out->distances);
    p.exact = 1;
    if (rc == EV_OK) rc = ev_disk_search(d, 1, query, &p, out->ids, out->distances);
    if (rc == EV_OK) rc = ev_filter_new(SOME, some, &filter);
    p.exact = 0;
    p.filter = filter;
    if (rc == EV_OK) rc = ev_disk_search(d, 1, query, &p, out->ids + K, out->distances + K);
    ev_filter_free(filter);
    if (rc == EV_OK) rc = ev_disk_get(d, 4, some, vectors);
    if (rc == EV_OK) rc = ev_disk_contains(d, 17, &held);
    if (rc == EV_OK) rc = ev_disk_ids(d, &cursor, 16, ids, &written);
    return rc == EV_OK ? ev_disk_check(d, &report) : rc;
}

static int open_and_ask(int32_t map, answers *out) {
    ev_disk *d = NULL;
    int rc = ev_disk_open(PATH, map, &d);
    if (rc != EV_OK) return rc;
    rc = ask(d, out);
    ev_disk_free(d);
    return rc;
}

static ev_index *make_one(int32_t metric) {
    ev_index *ix = make(metric, EV_QUANT_SQ8, EV_VECTORS_SQ24);
    add_rows(ix, 0, ROWS);
    int64_t removed, gone[] = {5, 6, 60};
    CHECK(ev_remove(ix, 3, gone, &removed) == EV_OK);
    return ix;
}

static bool same(const answers *a, const answers *b) {
    return memcmp(a->ids, b->ids, sizeof a->ids) == 0 && memcmp(a->distances, b->distances, sizeof a->distances) == 0;
}

static void test_allocations(ev_index *ix) {
    answers wanted, found;
    bytes before = read_all(PATH);
    CHECK(open_and_ask(0, &wanted) == EV_OK);
    int rc = EV_E_NOMEM;
    for (int64_t n = 1; rc != EV_OK && n < MANY; n++) {
        ev_fault_alloc(n);
        rc = open_and_ask(n & 1, &found);
        ev_fault_alloc(0);
        CHECK(rc == EV_OK || rc == EV_E_NOMEM);
    }
    CHECK(rc == EV_OK && same(&wanted, &found));
    rc = EV_E_NOMEM;
    for (int64_t n = 1; rc != EV_OK && n < MANY; n++) {
        ev_fault_alloc(n);
        rc = ev_disk_write(ix, PATH, 2, NULL, NULL);
        ev_fault_alloc(0);
        CHECK(rc == EV_OK || rc == EV_E_NOMEM);
        bytes after = read_all(PATH);
        CHECK(equal(before, after));
        free(after.at);
    }
    CHECK(rc == EV_OK);
    free(before.at);
}

/* ---- the disk -------------------------------------------------------------------------------- */

static ev_file_ops real;
static int64_t reads, fail_at;
static bool ends;

static int t_read_at(void *user, void *file, uint64_t at, void *out, size_t n, int wait, size_t *got) {
    *got = 0;
    if (!wait) return EAGAIN;
    if (++reads == fail_at) return ends ? 0 : EIO;
    return real.read_at(user, file, at, out, n, wait, got);
}

static void test_reads(void) {
    answers wanted, found;
    CHECK(open_and_ask(0, &wanted) == EV_OK);
    real = *ev__file_ops();
    ev_file_ops faulty = real;
    faulty.read_at = t_read_at;
    ev_set_file_ops(&faulty);
    for (int way = 0; way < 2; way++) {
        int rc = EV_E_IO;
        ends = way == 1;
        for (fail_at = 1; rc != EV_OK && fail_at < MANY; fail_at++) {
            reads = 0;
            rc = open_and_ask(0, &found);
            CHECK(rc == EV_OK || rc == EV_E_IO || (ends && rc == EV_E_CORRUPT));
            CHECK(rc == EV_OK || strstr(ev_error_detail(), PATH) || rc == EV_E_CORRUPT);
        }
        CHECK(rc == EV_OK && same(&wanted, &found));
    }
    ev_set_file_ops(NULL);
}

/* ---- intent ---------------------------------------------------------------------------------- */

/* A copy of the file with another field of the block, and the checksum that goes with it. */
static int with_block(bytes file, uint32_t number, size_t at, uint32_t value, int32_t map) {
    bytes hurt = {malloc(file.count), file.count};
    answers found;
    memcpy(hurt.at, file.at, file.count);
    const ev__disk_header *h = (const void *)hurt.at;
    ev__quantizer q;
    CHECK(ev__disk_quantizer(&q, h) == EV_OK);
    ev__disk_geometry g = ev__disk_geometry_of(&q, h->degree);
    char *block = hurt.at + h->section[EV_DISK_BLOCKS].offset + ev__disk_place(&g, number);
    ev__disk_block *b = (void *)block;
    memcpy(block + (at == SIZE_MAX ? g.links : at), &value, sizeof value);
    size_t from = offsetof(ev__disk_block, number);
    b->crc = ev__kernels_scalar.crc32c(0, block + from, g.bytes - from);
    ev__quantizer_free(&q);
    write_all(PATH, hurt);
    int rc = open_and_ask(map, &found);
    free(hurt.at);
    return rc;
}

static void test_intent(void) {
    bytes file = read_all(PATH);
    static const struct {
        size_t at;
        uint32_t value;
    } changes[] = {
        {SIZE_MAX, 1u << 30}, /* a link */
        {SIZE_MAX, EV_NONE},
        {offsetof(ev__disk_block, number), 4},
        {offsetof(ev__disk_block, degree), 4096},
        {offsetof(ev__disk_block, variant), 1u << 30},
        {offsetof(ev__disk_block, rank), 1u << 30},
        {offsetof(ev__disk_block, rank), 1},
        {offsetof(ev__disk_block, copies), 1u << 30},
        {offsetof(ev__disk_block, copies_at), EV_NONE},
        {sizeof(ev__disk_block), 0x7FC00000}, /* NaN in the vector */
    };
    for (int map = 0; map < 2; map++)
        for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
            CHECK(with_block(file, 3, changes[i].at, changes[i].value, map) == EV_E_CORRUPT);
    /* factors of a link that are not numbers: what they estimate is worth nothing, and that is all */
    const ev__disk_header *h = (const void *)file.at;
    size_t factors = sizeof(ev__disk_block) + DIM * sizeof(float) + h->degree * sizeof(uint32_t);
    CHECK(with_block(file, 3, factors, 0x7FC00000, 0) == EV_OK);
    write_all(PATH, file);
    free(file.at);
}

int main(void) {
    for (int i = 0; i < 2 * DIM; i++) query[i] = (float)(ev__mix((uint64_t)i) % 2001) / 1000.0f - 1.0f;
    for (int32_t metric = EV_METRIC_COSINE; metric <= EV_METRIC_L2; metric++) {
        answers read, mapped;
        ev_index *ix = make_one(metric);
        CHECK(ev_disk_write(ix, PATH, 1, NULL, NULL) == EV_OK);
        CHECK(open_and_ask(0, &read) == EV_OK && open_and_ask(1, &mapped) == EV_OK && same(&read, &mapped));
        if (metric == EV_METRIC_L2) {
            test_allocations(ix);
            test_reads();
            test_intent();
        }
        ev_free(ix);
    }
    remove(PATH);
    return check_summary();
}
