#include "disk/scratch.h"

static void lay_out(const ev_disk *d, ev__disk_scratch *s) {
    ev__arena arena = {s->memory, 0};
    ev__workspace_lay_out(&d->quantizer, &arena, &s->work);
    s->slots = ev__arena_take(&arena, EV_BATCH * sizeof *s->slots);
    s->distances = ev__arena_take(&arena, EV_BATCH * sizeof *s->distances);
    s->factors = ev__arena_take(&arena, EV_DISK_MOST_DEGREE * sizeof *s->factors);
    s->near = ev__arena_take(&arena, d->quantizer.query_bytes);
    s->ids = ev__arena_take(&arena, sizeof *s->ids);
    s->bytes = arena.used;
}

void ev__disk_scratch_free(ev__disk_scratch *s) {
    if (!s) return;
    ev__visited_free(&s->visited);
    ev__release(s->memory, s->bytes, EV_LINE);
    ev__release(s->blocks, s->room * s->stride, EV_LINE);
    ev__release(s->run, s->run_bytes, EV_LINE);
    ev__release(s->list, s->list_room * sizeof *s->list, EV_LINE);
    ev__release(s->results, s->result_room * sizeof *s->results, EV_LINE);
    ev__release(s, sizeof *s, EV_LINE);
}

static ev__disk_scratch *make(const ev_disk *d) {
    ev__disk_scratch *s = ev__alloc_zero(sizeof *s, EV_LINE);
    if (!s) return NULL;
    lay_out(d, s);
    s->memory = ev__alloc_zero(s->bytes, EV_LINE);
    if (!s->memory) {
        ev__release(s, sizeof *s, EV_LINE);
        return NULL;
    }
    lay_out(d, s);
    for (uint32_t i = 0; i < EV_BATCH; i++) s->slots[i] = i;
    s->stride = ev__round_up(d->geometry.bytes, EV_LINE);
    s->reader.d = d;
    return s;
}

/* Room for so many items, which need not stay; false: no memory. */
static bool grow(void **at, size_t *room, size_t item, size_t wanted) {
    if (*room >= wanted) return true;
    void *grown = ev__alloc(wanted * item, EV_LINE);
    if (!grown) return false;
    ev__release(*at, *room * item, EV_LINE);
    *at = grown;
    *room = wanted;
    return true;
}

static bool fit(const ev_disk *d, ev__disk_scratch *s, size_t blocks, size_t list, size_t results) {
    size_t nodes = d->header.nodes;
    return grow((void **)&s->blocks, &s->room, s->stride, blocks) &&
           grow((void **)&s->list, &s->list_room, sizeof *s->list, list + 1) &&
           grow((void **)&s->results, &s->result_room, sizeof *s->results, results + 1) &&
           ev__visited_fit(&s->visited, nodes, nodes, list * d->header.degree) == EV_OK;
}

int ev__disk_scratch_run(ev__disk_scratch *s, const ev_disk *d) {
    uint32_t blocks;
    return grow((void **)&s->run, &s->run_bytes, 1, ev__disk_run(d, &blocks))
               ? EV_OK
               : ev__fail(EV_E_NOMEM, "to read a graph on disk");
}

int ev__disk_scratch_borrow(ev_disk *d, size_t blocks, size_t list, size_t results, ev__disk_scratch **out) {
    ev__lock(&d->lock);
    ev__disk_scratch *s = d->spare;
    if (s) d->spare = s->next;
    ev__unlock(&d->lock);
    if (!s) s = make(d);
    if (s && fit(d, s, blocks, list, results)) {
        *out = s;
        return EV_OK;
    }
    if (s) ev__disk_scratch_return(d, s);
    return ev__fail(EV_E_NOMEM, "a search of a graph on disk with a list of %zu", list);
}

void ev__disk_scratch_return(ev_disk *d, ev__disk_scratch *s) {
    ev__add64(&d->stats.reads, s->reader.reads);
    ev__add64(&d->stats.bytes_read, s->reader.bytes);
    ev__add64(&d->stats.rounds, s->rounds);
    ev__add64(&d->stats.estimates, s->estimates);
    s->reader.reads = s->reader.bytes = s->rounds = s->estimates = 0;
    ev__lock(&d->lock);
    s->next = d->spare;
    d->spare = s;
    ev__unlock(&d->lock);
}
