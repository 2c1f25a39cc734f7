/* Vectors on disk: threads that search, get and save while another adds, removes and compacts. */
#include "check.h"
#include "base/file_system.h"
#include "base/thread.h"
#include "files.h"

#define PATH "test_disk_threads.edgevec"
/* The file that the rows are read from is replaced, where a system lets that happen. */
#define SAVED (EV_RENAMES_OPEN_FILES ? PATH : PATH ".saved")

enum { READERS = 3, TURNS = 12, HELD = ROWS };

typedef struct {
    ev_index *ix;
    float held[HELD * DIM];
    uint32_t done;  /* atomic */
    int64_t wrong;  /* atomic */
    int64_t looked; /* atomic */
} scene;

static void change(scene *s) {
    int64_t removed, gone[ROWS];
    for (int64_t i = 0; i < ROWS; i++) gone[i] = 1000 + i;
    for (int turn = 0; turn < TURNS; turn++) {
        add_rows(s->ix, 1000, ROWS);
        if (turn % 3 == 0) CHECK(ev_compact(s->ix, NULL, NULL) == EV_OK);
        CHECK(ev_remove(s->ix, ROWS, gone, &removed) == EV_OK && removed == ROWS);
    }
    ev__store32_release(&s->done, 1);
}

/* What stays is found, and is what it was. */
static void look(scene *s, int worker) {
    int64_t ids[HELD], found[HELD];
    float distances[HELD], rows[HELD * DIM];
    ev_search_params p = {.k = 1, .ef = 200, .threads = 1, .exact = worker == 2};
    for (int64_t i = 0; i < HELD; i++) ids[i] = i;
    do {
        int rc = ev_get(s->ix, HELD, ids, rows);
        bool same = rc == EV_OK && !memcmp(rows, s->held, sizeof rows);
        rc = ev_search(s->ix, HELD, s->held, &p, found, distances);
        for (int64_t i = 0; i < HELD; i++) same &= rc == EV_OK && distances[i] == 0;
        if (worker == 3) same &= ev_save(s->ix, SAVED) == EV_OK;
        ev__add64(&s->wrong, !same);
        ev__add64(&s->looked, 1);
    } while (!ev__load32_acquire(&s->done));
}

static void work(void *arg, int worker) {
    if (worker == 0)
        change(arg);
    else
        look(arg, worker);
}

int main(void) {
    static scene s;
    int64_t ids[HELD];
    for (int64_t i = 0; i < HELD; i++) ids[i] = i;
    for (int32_t quantization = EV_QUANT_SQ8; quantization <= EV_QUANT_BINARY; quantization++) {
        memset(&s, 0, sizeof s);
        ev_index *made = make_in(EV_STORAGE_DISK, EV_METRIC_L2, quantization, EV_VECTORS_FLOAT32);
        add_rows(made, 0, HELD);
        CHECK(ev_save(made, PATH) == EV_OK);
        ev_free(made);
        s.ix = load(PATH, EV_MAP_DISK);
        CHECK(ev_get(s.ix, HELD, ids, s.held) == EV_OK);
        ev__parallel(READERS + 1, work, &s);
        CHECK(s.wrong == 0 && s.looked >= READERS && is_sound(s.ix, HELD));
        printf("quantization %d: looked %lld times\n", quantization, (long long)s.looked);
        ev_free(s.ix);
    }
    remove(PATH);
    remove(SAVED);
    return check_summary();
}
