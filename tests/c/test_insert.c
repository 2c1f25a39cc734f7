/* How many links a new node chooses, and among how many candidates. */
#include "check.h"
#include "index/index.h"

enum { DIM = 20, ROWS = 1500, M = 8 };

static float rows[ROWS * DIM];

static ev_index *build(int32_t ef_construction) {
    ev_params p = {DIM, EV_METRIC_L2, EV_QUANT_SQ8, M, ef_construction, 60, 1, 3};
    ev_index *ix;
    CHECK(ev_new(&p, &ix) == EV_OK);
    CHECK(ev_add(ix, ROWS, rows, NULL, NULL, 1, NULL, NULL) == EV_OK);
    return ix;
}

static bool same_links(const ev_index *a, const ev_index *b) {
    const ev__store *x = &a->graph.store, *y = &b->graph.store;
    for (uint32_t slot = 0; slot < ROWS; slot++)
        if (memcmp(ev__links0(x, slot), ev__links0(y, slot), x->m0 * sizeof(uint32_t)) != 0) return false;
    return true;
}

/* Three quarters of ef_construction, but not fewer than 4 M, of which there may be fewer than that. */
static void check_candidates(void) {
    const int32_t widths[] = {2 * M, 4 * M, 5 * M, 5 * M + 2, 16 * M};
    const bool same[] = {false, true, true, false};
    ev_index *built[5];
    for (int i = 0; i < 5; i++) built[i] = build(widths[i]);
    for (int i = 0; i < 4; i++) CHECK(same_links(built[i], built[i + 1]) == same[i]);
    for (int i = 0; i < 5; i++) ev_free(built[i]);
}

/* Those of the node that was linked last, since nothing has linked to it after that. */
static void check_links(void) {
    ev_index *ix = build(100);
    size_t most = 0;
    for (int64_t round = 0; round < 100; round++) {
        float row[DIM];
        int64_t id;
        for (int i = 0; i < DIM; i++) row[i] = (float)(ev__mix((uint64_t)(round * DIM + i) << 32) % 2001) / 1000.0f - 1;
        CHECK(ev_add(ix, 1, row, NULL, &id, 1, NULL, NULL) == EV_OK);
        const uint32_t *links = ev__links0(&ix->graph.store, (uint32_t)id);
        size_t n = 0;
        while (n < 2 * M && links[n] != EV_NONE) n++;
        CHECK(n <= M + M / 4);
        most = n > most ? n : most;
    }
    CHECK(most == M + M / 4);
    ev_free(ix);
}

int main(void) {
    for (size_t i = 0; i < ROWS * DIM; i++) rows[i] = (float)(ev__mix(i) % 2001) / 1000.0f - 1.0f;
    check_candidates();
    check_links();
    return check_summary();
}
