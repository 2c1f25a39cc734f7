/* Mending the graph is shared out among additions of single rows: none does much of it, together they do all. */
#include "check.h"
#include "edgevec_test.h"
#include "number.h"

#include <stdlib.h>
#include <string.h>

enum { DIM = 8, ROWS = 6000, EF = 16, CLUSTERS = 60, M = 3 };
/* MOST_WORK: what one row calls for, and the longest step that may follow. SMALL: so few are mended at once. */
enum { MOST_WORK = 4096 + 1024 + 256, SMALL = 512 };

static float rows[ROWS][DIM];

static void make_rows(void) {
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < DIM; j++)
            rows[i][j] = 6 * number((uint64_t)(1000000 + i % CLUSTERS * DIM + j)) + number((uint64_t)(i * DIM + j));
}

static ev_index *empty(int32_t metric) {
    ev_params p = {.dim = DIM,
                   .metric = metric,
                   .quantization = EV_QUANT_SQ8,
                   .M = M,
                   .ef_construction = EF,
                   .ef = 10,
                   .keep_vectors = EV_VECTORS_SQ24};
    ev_index *ix;
    CHECK(ev_new(&p, &ix) == EV_OK);
    return ix;
}

static int64_t unreachable(ev_index *ix) {
    ev_report report;
    CHECK(ev_check(ix, &report) == EV_OK);
    return report.unreachable;
}

static void add_one(ev_index *ix, int i) { CHECK(ev_add(ix, 1, rows[i], NULL, NULL, 1, NULL, NULL) == EV_OK); }

/* How much is unreachable after each hundred, and the work of it all. */
static int64_t lost_in_all(int32_t metric, int64_t *most, int64_t *work) {
    ev_index *ix = empty(metric);
    int64_t lost = 0;
    *most = *work = 0;
    ev_mending_work();
    for (int i = 0; i < ROWS; i++) {
        add_one(ix, i);
        int64_t here = ev_mending_work();
        *work += here;
        if (i > SMALL && here > *most) *most = here;
        if (i % 100 == 99) lost += unreachable(ix);
    }
    ev_free(ix);
    return lost;
}

static void test_shared_out(void) {
    static const int32_t metrics[] = {EV_METRIC_L2, EV_METRIC_IP};
    static const int64_t few[] = {50, 2000}; /* 1,905 and 114,860 where nothing is mended */
    for (int i = 0; i < 2; i++) {
        int64_t most, work, lost = lost_in_all(metrics[i], &most, &work);
        CHECK(lost < few[i]);
        printf("metric %d: %lld lost, work %lld, at most %lld\n", metrics[i], (long long)lost, (long long)work,
               (long long)most);
        CHECK(most <= MOST_WORK);
        CHECK(work > 20 * ROWS);
    }
}

int main(void) {
    make_rows();
    test_shared_out();
    return check_summary();
}
