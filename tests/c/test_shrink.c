/* A full list of links to which one more is appended comes out as if all of them were chosen anew. */
#include "check.h"
#include "index/index.h"

enum { DIM = 20, ROWS = 1000, M = 8, ROUNDS = 400 };

/* So many slots in no order, without the center. */
static size_t some_slots(uint64_t seed, uint32_t center, uint32_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = (uint32_t)(ev__mix(seed + i) % ROWS);
        bool again = out[i] == center;
        for (size_t j = 0; j < i; j++) again |= out[j] == out[i];
        if (again) {
            seed += ROWS;
            i--;
        }
    }
    return count;
}

static size_t read_links(const ev__store *store, uint32_t slot, uint32_t *out) {
    size_t n = 0;
    for (; n < store->m0 && ev__links0(store, slot)[n] != EV_NONE; n++) out[n] = ev__links0(store, slot)[n];
    return n;
}

static bool is_among(const uint32_t *slots, size_t n, uint32_t slot) {
    for (size_t i = 0; i < n; i++)
        if (slots[i] == slot) return true;
    return false;
}

/* Behind the n links of the center others that are nearer than the last of them, until there is one too many. */
static bool append(const ev__graph *g, const ev__space *space, uint32_t center, uint32_t *links, size_t n,
                   uint64_t seed, ev__scratch *s) {
    ev__query query;
    float last, distance;
    ev__query_from_slot(&g->store.quantizer, space, center, &query, s->query_a);
    ev__approx_distances(&g->store.quantizer, space, &query, links + n - 1, 1, &last, &s->work);
    for (uint64_t i = 0; n <= g->store.m0 && i < ROWS; i++) {
        uint32_t slot = (uint32_t)((seed + i) % ROWS);
        ev__approx_distances(&g->store.quantizer, space, &query, &slot, 1, &distance, &s->work);
        if (slot != center && distance < last && !is_among(links, n, slot)) links[n++] = slot;
    }
    return n == g->store.m0 + 1;
}

static void check_kind(int32_t metric, int32_t quantization, const float *rows) {
    ev_params p = {DIM, metric, quantization, M, 60, 60, 1, 3};
    ev_index *ix;
    ev__scratch *s;
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, ROWS, rows, NULL, NULL, 1, NULL, NULL) == EV_OK);
    ev__graph *g = &ix->graph;
    CHECK(ev__scratch_borrow(g, &s) == EV_OK && ev__scratch_fit(g, s, 60, 1, false) == EV_OK);
    ev__space space = ev__build_space(&g->store, NULL, NULL);
    int compared = 0, shrunk = 0;
    for (uint32_t center = 0; center < ROUNDS; center++) {
        uint32_t candidates[6 * M], links[2 * M + 1], anew[2 * M];
        size_t n = some_slots((uint64_t)center << 32, center, candidates, 6 * M);
        ev__relink(g, &space, center, 0, candidates, 0, n, s);
        n = read_links(&g->store, center, links);
        if (!append(g, &space, center, links, n, 7 * center, s)) continue;
        ev__relink(g, &space, center, 0, links, 0, 2 * M + 1, s);
        n = read_links(&g->store, center, anew);
        ev__shrink_links(g, &space, center, 0, links, 2 * M + 1, s);
        CHECK(read_links(&g->store, center, links) == n && memcmp(links, anew, n * sizeof *links) == 0);
        compared++;
        shrunk += n < 2 * M;
    }
    CHECK(compared > ROUNDS / 2 && shrunk > compared / 2);
    ev__scratch_return(g, s);
    ev_free(ix);
}

int main(void) {
    static float rows[ROWS * DIM];
    for (size_t i = 0; i < ROWS * DIM; i++) rows[i] = (float)(ev__mix(i) % 2001) / 1000.0f - 1.0f;
    for (int32_t metric = EV_METRIC_COSINE; metric <= EV_METRIC_L2; metric++)
        for (int32_t quantization = EV_QUANT_NONE; quantization <= EV_QUANT_BINARY; quantization++)
            check_kind(metric, quantization, rows);
    return check_summary();
}
