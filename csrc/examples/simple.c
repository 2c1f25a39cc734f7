/* Index four vectors and find the two nearest to a fifth:
 *     cc simple.c $(pkg-config --cflags --libs edgevec) && ./a.out */
#include <edgevec.h>
#include <stdio.h>

static int failed(int code) {
    if (code != EV_OK) fprintf(stderr, "%s: %s\n", ev_strerror(code), ev_error_detail());
    return code != EV_OK;
}

int main(void) {
    const float vectors[4][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0.7f, 0.7f, 0}};
    const int64_t ids[4] = {10, 20, 30, 40};
    const float query[3] = {1, 0.2f, 0};
    /* what is not named is 0: no quantization */
    const ev_params params = {.dim = 3, .metric = EV_METRIC_COSINE, .M = 16, .ef_construction = 200, .ef = 64};
    const ev_search_params search = {.k = 2};
    int64_t found[2];
    float distances[2];
    ev_index *index;
    if (failed(ev_new(&params, &index))) return 1;
    if (failed(ev_add(index, 4, vectors[0], ids, NULL, 0, NULL, NULL))) return 1;
    if (failed(ev_search(index, 1, query, &search, found, distances))) return 1;
    for (int i = 0; i < 2; i++) printf("%d %.4f\n", (int)found[i], (double)distances[i]);
    ev_free(index);
    return 0;
}
