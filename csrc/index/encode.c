/* All that is held encoded anew, around another center. From what is kept, so where that is not the float vectors each
 * time costs a little precision: of codes, up to half an integer a coordinate; of refined ones, up to a step.
 *
 * It is made beside what is held, while searches go on; single additions share it among them. Where there is not the
 * memory for that it is done in place. */
#include "index/build.h"

enum {
    RUN = 256,             /* slots a thread takes at once, and that one added row stands for */
    MOST_IN_TURN = 8 * RUN /* for the rows of one call */
};

typedef struct {
    ev__store from, to; /* the store, with the old center and with the new one */
    bool beside;        /* into the store's shadow copy */
    ev__scratch *scratches[EV_MAX_WORKERS];
    int workers;
    ev__work work;
    int64_t looked; /* atomic */
} encoding;

static void encode_rows(void *arg, int worker) {
    encoding *e = arg;
    ev__workspace *w = &e->scratches[worker]->work;
    for (int64_t from, to; ev__work_next(&e->work, worker, &from, &to);) {
        int64_t looked = 0;
        if (e->beside) looked = ev__shadow_encode(&e->from, (size_t)from, (size_t)to, w);
        for (int64_t slot = from; slot < to && !e->beside; slot++) {
            if (ev__state(&e->from, (uint32_t)slot) == EV_FREE) continue;
            const float *row = ev__vector_read(&e->from, (uint32_t)slot, w->unit, w);
            ev__vector_encode(&e->to, (uint32_t)slot, row, w);
            looked++;
        }
        ev__add64(&e->looked, looked);
    }
}

static int borrow_scratches(ev_index *ix, encoding *e, int threads) {
    int rc = EV_OK;
    if (threads < 1) threads = ev__cores();
    if ((int64_t)threads > (int64_t)ev__slots(&ix->graph.store) / RUN) threads = 1;
    while (e->workers < (threads < EV_MAX_WORKERS ? threads : EV_MAX_WORKERS) && rc == EV_OK) {
        rc = ev__scratch_borrow(&ix->graph, &e->scratches[e->workers]);
        e->workers += rc == EV_OK;
    }
    return rc == EV_E_MEMORY_LIMIT && e->workers ? EV_OK : rc; /* there is room for fewer */
}

/* After a stop with `done` slots encoded where they are: one in the first half takes back what was done, and one in the
 * second goes on to the end, which is sooner done. */
static int encode_rest(encoding *e, int64_t done) {
    bool back = done < e->work.total / 2;
    if (back) {
        ev__store to = e->from;
        e->from = e->to;
        e->to = to;
    }
    e->work =
        (ev__work){.total = back ? done : e->work.total, .run = RUN, .taken = back ? 0 : done, .uninterruptible = true};
    ev__parallel(e->workers, encode_rows, e);
    return back ? ev__stopped() : EV_OK;
}

/* copied: a stop may leave it half done. */
static int encode_in_place(encoding *e, const float *center, bool copied) {
    size_t dim = e->from.quantizer.dim, bytes = 2 * dim * sizeof *center;
    float *centers = ev__alloc(bytes, EV_LINE);
    if (!centers) return ev__fail(EV_E_NOMEM, "two centers");
    memcpy(centers, e->from.quantizer.center, bytes / 2);
    memcpy(centers + dim, center, bytes / 2);
    e->from.quantizer.center = centers;
    e->to.quantizer.center = centers + dim;
    ev__parallel(e->workers, encode_rows, e);
    int64_t total = e->work.total, done = e->work.taken < total ? e->work.taken : total;
    int rc = EV_OK;
    if (e->work.stopped && done < total) rc = copied ? ev__stopped() : encode_rest(e, done);
    ev__release(centers, bytes, EV_LINE);
    return rc;
}

static int encode_beside(ev_index *ix, encoding *e, ev__call *call) {
    int64_t faults = ev__paged_faults(&e->from);
    e->beside = true;
    if (call) ev__pause(call);
    ev__parallel(e->workers, encode_rows, e);
    if (call) ev__resume(call);
    int rc = e->work.stopped && e->work.taken < e->work.total ? ev__stopped() : ev__paged_trouble(&e->from, faults);
    if (rc != EV_OK) {
        ev__shadow_drop(&ix->graph.store);
        return rc;
    }
    ev__shadow_filled(&ix->graph.store);
    ev__shadow_swap(&ix->graph.store);
    return EV_OK;
}

int ev__encode_anew(ev_index *ix, const float *center, int threads, bool copied, ev__call *call) {
    ev__store *store = &ix->graph.store;
    encoding e = {.work = {.total = (int64_t)ev__slots(store), .run = RUN}};
    int64_t faults = ev__paged_faults(store);
    int rc = borrow_scratches(ix, &e, threads);
    if (rc == EV_OK) rc = ev__paged_ready(store);
    ev__shadow_drop(store);
    bool beside = rc == EV_OK && ev__slots(store) && ev__shadow_begin(store, center) == EV_OK;
    e.from = e.to = *store;
    if (rc == EV_OK) rc = beside ? encode_beside(ix, &e, call) : encode_in_place(&e, center, copied);
    if (!beside && ev__paged_trouble(store, faults) != EV_OK) {
        ix->broken = true; /* some are encoded around another center than the others */
        rc = ev__paged_trouble(store, faults);
    }
    if (rc == EV_OK) memcpy(store->quantizer.center, center, store->quantizer.dim * sizeof *center);
    ix->looked += e.looked;
    ev__duplicates_free(store); /* it goes by codes */
    for (int i = 0; i < e.workers; i++) ev__scratch_return(&ix->graph, e.scratches[i]);
    return rc;
}

/* For want of memory it is begun again when the center is looked at next. */
void ev__encode_step(ev_index *ix, int64_t rows, ev__scratch *s) {
    ev__store *store = &ix->graph.store;
    if (!store->shadow) return;
    size_t most = rows < MOST_IN_TURN / RUN ? (size_t)rows * RUN : MOST_IN_TURN;
    int64_t encoded, faults = ev__paged_faults(store);
    if (ev__shadow_advance(store, most, &encoded, &s->work) != EV_OK || ev__paged_faults(store) != faults) {
        ev__shadow_drop(store);
        return;
    }
    ix->looked += encoded;
    if (!ev__shadow_is_whole(store)) return;
    ev__shadow_swap(store);
    ix->trained_on = store->live + ev__staged(ix);
    ix->trainings++;
}
