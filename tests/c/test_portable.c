/* What holds on every processor and system alike: the bytes of index files, which one machine writes and another reads,
 * and the answers. A few seconds under an emulator. */
#include "check.h"
#include "files.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>

#define PATH "test_portable.edgevec"

enum { K = 10, QUERIES = 20 };

_Static_assert(CHAR_BIT == 8 && sizeof(float) == 4 && sizeof(double) == 8, "the types that files hold");

/* What is left of ROWS rows: every third is removed. */
static ev_index *made(int32_t metric, int32_t quantization, int32_t keep) {
    ev_index *ix = make(metric, quantization, keep);
    add_rows(ix, 0, ROWS);
    for (int64_t id = 0; id < ROWS; id += 3) CHECK(ev_remove(ix, 1, &id, NULL) == EV_OK);
    return ix;
}

/* Of the files that are built on codes, by metric; as x86-64 writes them. */
static const struct {
    int32_t quantization, keep;
    uint64_t digest[3];
} written[] = {
    {EV_QUANT_SQ8, EV_VECTORS_NONE, {0x93684210e89c25fe, 0xe14051d5c71d08b8, 0x33c99344530b9915}},
    {EV_QUANT_SQ8, EV_VECTORS_SQ24, {0x508aa101c6672e39, 0xd97461de73d02045, 0x642e4a164c322523}},
    {EV_QUANT_SQ8, EV_VECTORS_FLOAT32, {0xeb6277a302add0b5, 0xc2a1fd2401fb3075, 0x3aa6a20460185e07}},
    {EV_QUANT_BINARY, EV_VECTORS_NONE, {0x9d8332d7bcea6718, 0xc28587e2625d72c6, 0xf5c67d5faa5a45ef}},
    {EV_QUANT_BINARY, EV_VECTORS_SQ24, {0x5599d47fbd1e0797, 0xe0dc00724f28e61b, 0x2af67ef7e0d1cd3d}},
};

/* FNV-1a. Not a CRC: of bytes that hold their own it says nothing. */
static uint64_t digest_of(bytes b) {
    uint64_t digest = 0xcbf29ce484222325u;
    for (size_t i = 0; i < b.count; i++) digest = (digest ^ (uint8_t)b.at[i]) * 0x100000001b3u;
    return digest;
}

static void same_bytes_everywhere(void) {
    for (size_t i = 0; i < sizeof written / sizeof *written; i++)
        for (int32_t metric = EV_METRIC_COSINE; metric <= EV_METRIC_L2; metric++) {
            ev_index *ix = made(metric, written[i].quantization, written[i].keep);
            CHECK(ev_save(ix, PATH) == EV_OK);
            bytes file = read_all(PATH);
            bool same = digest_of(file) == written[i].digest[metric];
            CHECK(same);
            if (!same) printf("row %d, metric %d: 0x%016" PRIx64 "\n", (int)i, (int)metric, digest_of(file));
            free(file.at);
            ev_free(ix);
        }
}

/* In double precision, for cosine with the length divided out. */
static double distance(int32_t metric, const float *a, const float *b) {
    double dot = 0, aa = 0, bb = 0;
    for (int i = 0; i < DIM; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    if (metric == EV_METRIC_L2) return aa + bb - 2 * dot;
    return 1 - (metric == EV_METRIC_IP ? dot : dot / sqrt(aa * bb));
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The distances found are the K least, to within the last bits of a float. */
static void answers(ev_index *ix, int32_t metric, bool exact) {
    float rows[ROWS * DIM], found[QUERIES * K];
    int64_t ids[QUERIES * K], every[ROWS], n = 0;
    ev_search_params p = {.k = K, .ef = 200, .threads = 1, .exact = exact};
    for (int64_t id = 0; id < ROWS; id++)
        if (id % 3) every[n++] = id;
    CHECK(ev_get(ix, n, every, rows) == EV_OK);
    CHECK(ev_search(ix, QUERIES, rows, &p, ids, found) == EV_OK);
    for (int64_t q = 0; q < QUERIES; q++) {
        double least[ROWS];
        for (int64_t i = 0; i < n; i++) least[i] = distance(metric, rows + q * DIM, rows + i * DIM);
        qsort(least, (size_t)n, sizeof *least, ascending);
        for (int64_t i = 0; i < K; i++) {
            CHECK(ids[q * K + i] % 3 != 0 && ids[q * K + i] >= 0 && ids[q * K + i] < ROWS);
            CHECK(fabs((double)found[q * K + i] - least[i]) < 1e-5);
        }
    }
}

static void same_answers_everywhere(void) {
    for (int32_t metric = EV_METRIC_COSINE; metric <= EV_METRIC_L2; metric++)
        for (int32_t quantization = EV_QUANT_NONE; quantization <= EV_QUANT_BINARY; quantization++) {
            ev_index *ix = made(metric, quantization, EV_VECTORS_FLOAT32);
            answers(ix, metric, false);
            answers(ix, metric, true);
            CHECK(ev_save(ix, PATH) == EV_OK);
            for (int32_t map = 0; map <= 1; map++) {
                ev_index *loaded = load(PATH, map);
                CHECK(is_sound(loaded, ROWS - (ROWS + 2) / 3));
                answers(loaded, metric, false);
                ev_free(loaded);
            }
            ev_free(ix);
        }
}

int main(void) {
    printf("path: %s\n", ev_simd_active());
    CHECK(ev_selftest() == 0);
    same_bytes_everywhere();
    same_answers_everywhere();
    remove(PATH);
    return check_summary();
}
