/* Sets of ids, any of them, any number of times: a search within one finds exactly what is in it and in the index. */
#include "fuzz.h"

enum { DIM = 8, ROWS = 150, MOST = 400 };

static ev_index *index_of(int32_t quantization) {
    ev_params p = {DIM, EV_METRIC_L2, quantization, 4, 20, 20, EV_VECTORS_SQ24, 1};
    ev_index *ix = NULL;
    REQUIRE(ev_new(&p, &ix) == EV_OK);
    float rows[ROWS * DIM];
    int64_t ids[ROWS];
    for (int64_t i = 0; i < ROWS * DIM; i++) rows[i] = (float)(ev__mix((uint64_t)i) % 1000) / 1000;
    for (int64_t i = 0; i < ROWS; i++) ids[i] = i < 128 ? i : INT64_MAX - i; /* a byte names one */
    REQUIRE(ev_add(ix, ROWS, rows, ids, NULL, 1, NULL, NULL) == EV_OK);
    for (int64_t id = 3; id < 128; id += 10) REQUIRE(ev_remove(ix, 1, &id, NULL) == EV_OK);
    return ix;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ev_index *indexes[3];
    if (!indexes[0])
        for (int32_t i = 0; i < 3; i++) indexes[i] = index_of(i);
    input in = {data, size};
    unsigned how = next_byte(&in);
    ev_index *ix = indexes[how % 3];
    int64_t ids[MOST], n = 0, distinct = 0, matches = 0;
    while (in.left && n < MOST) {
        unsigned byte = next_byte(&in);
        ids[n++] = byte < 160 ? (int64_t)byte : byte < 220 ? INT64_MAX - (int64_t)byte : INT64_MIN + (int64_t)byte;
    }
    for (int64_t i = 0; i < n; i++) {
        bool again = false;
        for (int64_t j = 0; j < i; j++) again |= ids[j] == ids[i];
        distinct += !again;
        matches += !again && ev_contains(ix, ids[i]);
    }
    ev_filter *filter = NULL;
    REQUIRE(ev_filter_new(n, ids, &filter) == EV_OK);
    REQUIRE(ev_filter_count(filter) == distinct);
    int32_t k = 1 + (int32_t)(how / 3);
    int64_t found[128];
    float query[DIM] = {0.5f, (float)how / 256}, distances[128];
    ev_search_params p = {.k = k, .threads = 1, .filter = filter, .exact = n % 2 == 0};
    REQUIRE(ev_search(ix, 1, query, &p, found, distances) == EV_OK);
    for (int32_t i = 0; i < k; i++) {
        REQUIRE((found[i] != -1) == (i < matches));
        bool allowed = found[i] == -1;
        for (int64_t j = 0; j < n; j++) allowed |= ids[j] == found[i];
        REQUIRE(allowed && (i == 0 || distances[i - 1] <= distances[i]));
    }
    ev_filter_free(filter);
    return 0;
}
