/* Rows in files: where each lies, reading some at once, appending. */
#include "store/paged.h"

#include <errno.h>

enum {
    MOST_SEGMENTS = 16,       /* the index file, a scratch file, and one more for each fork that went on adding */
    MOST_AT_ONCE = 64,        /* rows */
    MOST_BYTES = 1 << 20,     /* of rows at once, but for one */
    MOST_ROWS_IN_A_READ = 256 /* of a run */
};

/* Rows [first, the next one's first) in a file. */
typedef struct {
    void *file;
    uint64_t offset;
    int64_t first;
    char *path;      /* of the index file, or of the scratch file's folder, which ends in a separator or is "" */
    bool scratch;    /* so rows may be appended ... */
    uint32_t writer; /* ... by the process with so many forks behind it */
} segment;

struct ev__paged {
    size_t item;
    char *path; /* NULL, or the file that the index is known as, whatever it is loaded from and saved to */
    segment segments[MOST_SEGMENTS];
    uint32_t count;              /* atomic: grows while others read */
    uint64_t epoch;              /* differs between stores, and where numbers mean other rows than before */
    int64_t rows, faults, reads; /* atomic */
    ev__spin lock;               /* of the last fault */
    struct {
        int error; /* 0: the file ended */
        bool written;
        uint64_t at;
        const char *path;
    } fault;
};

struct ev__fetched {
    uint64_t epoch;
    size_t count;
    uint32_t *numbers; /* ascending */
    char *rows, *spare;
};

static uint64_t next_epoch(void) {
    static int64_t epochs;
    return (uint64_t)ev__add64(&epochs, 1) + 1;
}

/* ---- life ------------------------------------------------------------------------------------ */

int ev__paged_begin(ev__store *store) {
    ev__quantizer *q = &store->quantizer;
    ev__paged *p = ev__alloc_zero(sizeof *p, EV_LINE);
    if (!p) return ev__fail(EV_E_NOMEM, "vectors on disk");
    p->item = store->columns.vectors.item;
    p->epoch = next_epoch();
    store->paged = p;
    store->columns.vectors.item = sizeof(uint32_t);
    q->slot_query_bytes = q->dim * (sizeof(float) + sizeof(int16_t)); /* a row as a query, and what it is made of */
    return EV_OK;
}

static void drop_segments(ev__paged *p) {
    const ev_file_ops *ops = ev__file_ops();
    for (uint32_t i = 0; i < p->count; i++) {
        ops->close(ops->user, p->segments[i].file);
        ev__release(p->segments[i].path, strlen(p->segments[i].path) + 1, 1);
    }
    ev__store32_release(&p->count, 0);
}

void ev__paged_free(ev__store *store) {
    ev__paged *p = store->paged;
    if (!p) return;
    drop_segments(p);
    if (p->path) ev__release(p->path, strlen(p->path) + 1, 1);
    ev__release(p, sizeof *p, EV_LINE);
    store->paged = NULL;
}

static char *copy_text(const char *text, size_t length) {
    char *copy = ev__alloc(length + 1, 1);
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

static void take_text(char **at, char *text) {
    if (*at) ev__release(*at, strlen(*at) + 1, 1);
    *at = text;
}

int ev__paged_known_as(ev__store *store, const char *path) {
    ev__paged *p = store->paged;
    bool read = p->count && !p->segments[0].scratch;
    char *known = copy_text(path, strlen(path)), *segment = known && read ? copy_text(path, strlen(path)) : NULL;
    if (!known || (read && !segment)) {
        if (known) ev__release(known, strlen(known) + 1, 1);
        return ev__fail(EV_E_NOMEM, "a path");
    }
    take_text(&p->path, known);
    if (read) take_text(&p->segments[0].path, segment);
    return EV_OK;
}

int ev__paged_adopt(ev__store *store, void *file, uint64_t offset, const char *path) {
    ev__paged *p = store->paged;
    const ev_file_ops *ops = ev__file_ops();
    size_t slots = ev__slots(store);
    if (p->path) path = p->path;
    char *copy = copy_text(path, strlen(path));
    if (!copy) return ev__fail(EV_E_NOMEM, "a path");
    drop_segments(p);
    p->segments[0] = (segment){.file = file, .offset = offset, .path = copy};
    ev__store32_release(&p->count, 1);
    p->rows = (int64_t)slots;
    p->epoch = next_epoch();
    uint32_t *numbers = (uint32_t *)(void *)store->columns.vectors.at;
    for (size_t slot = 0; slot < slots; slot++)
        numbers[slot] = ev__state(store, (uint32_t)slot) == EV_FREE ? 0 : (uint32_t)slot + 1;
    ops->advise(ops->user, file, 0, 0);
    return EV_OK;
}

/* Beside the index file, or where there is none, or its folder cannot be written to, where the system has such files.
 */
static int open_scratch(const ev__paged *p, void **file, char **path) {
    const ev_file_ops *ops = ev__file_ops();
    bool scratch = !p->path && p->count && p->segments[0].scratch;
    const char *beside = p->path ? p->path : p->count ? p->segments[0].path : "";
    size_t folder = scratch ? strlen(beside) : ev__folder_length(beside);
    bool named = p->path || (p->count && !(scratch && !folder));
    *path = !named ? copy_text("", 0) : folder ? copy_text(beside, folder) : copy_text("./", 2);
    if (!*path) return ENOMEM;
    int error = ops->open_scratch(ops->user, *path, file);
    if (error && named && error != ENOSPC && error != EMFILE && error != ENFILE) {
        ev__release(*path, strlen(*path) + 1, 1);
        if (!(*path = copy_text("", 0))) return ENOMEM;
        error = ops->open_scratch(ops->user, "", file);
    }
    if (error) ev__release(*path, strlen(*path) + 1, 1);
    return error;
}

static bool is_ready(const ev__paged *p) {
    const segment *last = p->count ? &p->segments[p->count - 1] : NULL;
    return last && last->scratch && last->writer == ev__forks();
}

int ev__paged_ready(ev__store *store) {
    ev__paged *p = store->paged;
    if (!p || is_ready(p)) return EV_OK;
    if (p->count == MOST_SEGMENTS)
        return ev__fail(EV_E_FULL, "scratch files of %d processes, each forked by another; save and load it",
                        MOST_SEGMENTS - 1);
    segment made = {.first = p->rows, .scratch = true, .writer = ev__forks()};
    int error = open_scratch(p, &made.file, &made.path);
    if (error == ENOMEM) return ev__fail(EV_E_NOMEM, "a scratch file");
    if (error) return ev__refused(error, "make a scratch file in the folder of", p->count ? p->segments[0].path : "");
    p->segments[p->count] = made;
    ev__store32_release(&p->count, p->count + 1);
    return EV_OK;
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void note_fault(ev__paged *p, int error, bool written, uint64_t at, const char *path) {
    ev__spin_lock(&p->lock);
    p->fault.error = error;
    p->fault.written = written;
    p->fault.at = at;
    p->fault.path = path;
    ev__spin_unlock(&p->lock);
    ev__add64_ordered(&p->faults, 1);
}

int64_t ev__paged_faults(const ev__store *store) { return store->paged ? ev__atomic_load64(&store->paged->faults) : 0; }

int ev__paged_trouble(const ev__store *store, int64_t since) {
    ev__paged *p = store->paged;
    if (!p || ev__atomic_load64(&p->faults) == since) return EV_OK;
    ev__spin_lock(&p->lock);
    int error = p->fault.error;
    bool written = p->fault.written;
    uint64_t at = p->fault.at;
    const char *path = p->fault.path;
    ev__spin_unlock(&p->lock);
    if (error == EFBIG) return ev__fail(EV_E_FULL, "more rows in a scratch file than there are numbers; save it");
    if (error) return ev__refused(error, written ? "write a scratch file in" : "read vectors on disk from", path);
    return ev__fail_errno(EV_E_IO, EIO, "vectors on disk: the file ends before byte %llu, it was cut off since: '%s'",
                          (unsigned long long)at, path);
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct {
    const segment *in;
    uint64_t at;
    char *out;
    size_t bytes;
} run;

static run run_of(const ev__paged *p, uint32_t number, size_t rows, char *out) {
    int64_t row = (int64_t)number - 1;
    uint32_t i = ev__load32_acquire(&p->count) - 1;
    while (i && p->segments[i].first > row) i--;
    const segment *s = &p->segments[i];
    return (run){s, s->offset + (uint64_t)(row - s->first) * p->item, out, rows * p->item};
}

static void read_run(ev__paged *p, const run *r) {
    size_t done;
    int error = ev__file_read_at(r->in->file, r->at, r->out, r->bytes, &done);
    if (!error && done == r->bytes) return;
    memset(r->out, 0, r->bytes);
    note_fault(p, error, false, r->at + r->bytes, r->in->path);
}

static bool read_cached(const run *r) {
    const ev_file_ops *ops = ev__file_ops();
    size_t got = 0;
    return ops->read_at(ops->user, r->in->file, r->at, r->out, r->bytes, 0, &got) == 0 && got == r->bytes;
}

/* What is cached at once; the disk is told of the rest, and then that is waited for. */
static void read_runs(ev__paged *p, run *runs, size_t n) {
    const ev_file_ops *ops = ev__file_ops();
    size_t left = 0;
    ev__add64(&p->reads, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        if (!read_cached(&runs[i])) runs[left++] = runs[i];
    for (size_t i = 0; left > 1 && i < left; i++) ops->advise(ops->user, runs[i].in->file, runs[i].at, runs[i].bytes);
    for (size_t i = 0; i < left; i++) read_run(p, &runs[i]);
}

static void read_one(ev__paged *p, uint32_t number, void *out) {
    if (!number) {
        memset(out, 0, p->item);
        return;
    }
    run one = run_of(p, number, 1, out);
    ev__add64(&p->reads, 1);
    read_run(p, &one);
}

void ev__paged_read(const ev__store *store, uint32_t slot, void *out) {
    read_one(store->paged, ev__paged_number(store, slot), out);
}

size_t ev__paged_piece(const ev__store *store, uint32_t slot, size_t at, char out[EV_PAGED_PIECE]) {
    ev__paged *p = store->paged;
    uint32_t number = ev__paged_number(store, slot);
    size_t bytes = p->item - at < EV_PAGED_PIECE ? p->item - at : EV_PAGED_PIECE;
    if (!number) memset(out, 0, bytes);
    if (!number || !bytes) return bytes;
    run one = run_of(p, number, 1, out);
    one.at += at;
    one.bytes = bytes;
    read_run(p, &one);
    return bytes;
}

void ev__paged_read_run(const ev__store *store, size_t from, size_t n, char *out) {
    ev__paged *p = store->paged;
    for (size_t i = 0, rows; i < n; i += rows) {
        uint32_t number = ev__paged_number(store, (uint32_t)(from + i));
        rows = 1;
        if (!number) {
            memset(out + i * p->item, 0, p->item);
            continue;
        }
        run r = run_of(p, number, 1, out + i * p->item);
        while (i + rows < n && rows < MOST_ROWS_IN_A_READ &&
               ev__paged_number(store, (uint32_t)(from + i + rows)) == number + rows &&
               run_of(p, number + (uint32_t)rows, 1, NULL).in == r.in)
            rows++;
        r.bytes = rows * p->item;
        read_run(p, &r);
    }
}

/* ---- some rows at once ----------------------------------------------------------------------- */

size_t ev__paged_room(const ev__store *store) {
    size_t rows = MOST_BYTES / store->paged->item;
    return rows < 1 ? 1 : rows < MOST_AT_ONCE ? rows : MOST_AT_ONCE;
}

struct ev__fetched *ev__paged_lay_out(const ev__store *store, ev__arena *arena) {
    if (!store->paged) return NULL;
    size_t room = ev__paged_room(store), item = store->paged->item;
    struct ev__fetched *f = ev__arena_take(arena, sizeof *f);
    uint32_t *numbers = ev__arena_take(arena, room * sizeof *numbers);
    char *rows = ev__arena_take(arena, room * item), *spare = ev__arena_take(arena, item);
    if (f) *f = (struct ev__fetched){.numbers = numbers, .rows = rows, .spare = spare};
    return f;
}

/* In ascending order, each once and none of zeros; returns how many. */
static size_t sort_numbers(const ev__store *store, const uint32_t *slots, size_t m, uint32_t *numbers) {
    size_t count = 0;
    for (size_t i = 0; i < m; i++) {
        uint32_t number = ev__paged_number(store, slots[i]);
        size_t at = count;
        while (at && numbers[at - 1] > number) at--;
        if (!number || (at && numbers[at - 1] == number)) continue;
        memmove(numbers + at + 1, numbers + at, (count - at) * sizeof *numbers);
        numbers[at] = number;
        count++;
    }
    return count;
}

/* The runs of rows that make them all; returns how many. */
static size_t plan(const ev__store *store, const uint32_t *slots, size_t m, run *runs, struct ev__fetched *f) {
    const ev__paged *p = store->paged;
    size_t n = 0;
    f->epoch = p->epoch;
    f->count = sort_numbers(store, slots, m, f->numbers);
    for (size_t i = 0; i < f->count; i++) {
        run one = run_of(p, f->numbers[i], 1, f->rows + i * p->item);
        run *last = n ? &runs[n - 1] : NULL;
        if (last && last->in == one.in && last->at + last->bytes == one.at)
            last->bytes += one.bytes;
        else
            runs[n++] = one;
    }
    return n;
}

void ev__paged_fetch(const ev__store *store, const uint32_t *slots, size_t m, ev__workspace *w) {
    run runs[MOST_AT_ONCE];
    read_runs(store->paged, runs, plan(store, slots, m, runs, w->fetched));
}

bool ev__paged_fetch_cached(const ev__store *store, const uint32_t *slots, size_t m, ev__workspace *w) {
    run runs[MOST_AT_ONCE];
    size_t n = plan(store, slots, m, runs, w->fetched);
    for (size_t i = 0; i < n; i++) {
        if (read_cached(&runs[i])) continue;
        w->fetched->count = 0;
        return false;
    }
    ev__add64(&store->paged->reads, (int64_t)n);
    return true;
}

static const void *find(const ev__store *store, uint32_t number, const struct ev__fetched *f) {
    size_t from = 0, to = f->epoch == store->paged->epoch ? f->count : 0;
    while (from < to) {
        size_t middle = (from + to) / 2;
        if (f->numbers[middle] == number) return f->rows + middle * store->paged->item;
        if (f->numbers[middle] < number)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

const void *ev__paged_row(const ev__store *store, uint32_t slot, ev__workspace *w) {
    uint32_t number = ev__paged_number(store, slot);
    const void *row = find(store, number, w->fetched);
    if (row) return row;
    read_one(store->paged, number, w->fetched->spare);
    return w->fetched->spare;
}

/* Rows of m slots, at most ev__paged_room: those that are not at hand are read, and then all of them, at once. */
static void rows_of(const ev__store *store, const uint32_t *slots, size_t m, const void **rows, ev__workspace *w) {
    struct ev__fetched *f = w->fetched;
    for (int again = 0; again < 2; again++) {
        bool whole = true;
        for (size_t i = 0; i < m && whole; i++) {
            uint32_t number = ev__paged_number(store, slots[i]);
            rows[i] = number ? find(store, number, f) : memset(f->spare, 0, store->paged->item);
            whole = rows[i] != NULL;
        }
        if (whole) return;
        ev__paged_fetch(store, slots, m, w);
    }
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void f32_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                          size_t m, float *distances, ev__workspace *w) {
    const ev__store *store = space->files;
    for (size_t n; m; slots += n, distances += n, m -= n) {
        n = m < ev__paged_room(store) ? m : ev__paged_room(store);
        rows_of(store, slots, n, w->rows, w);
        ev__f32_compare(q, query, w->rows, n, distances);
    }
}

static void f32_query(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query, void *buffer) {
    (void)q;
    ev__paged_read(space->files, slot, buffer);
    query->data = buffer;
}

static const ev__row_kind f32_rows = {.distances = f32_distances, .query_from_slot = f32_query};

static void sq24_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                           const uint32_t *slots, size_t m, float *distances, ev__workspace *w) {
    const ev__store *store = space->files;
    const void *residuals[MOST_AT_ONCE];
    float steps[MOST_AT_ONCE];
    for (size_t n; m; slots += n, distances += n, m -= n) {
        n = m < ev__paged_room(store) ? m : ev__paged_room(store);
        rows_of(store, slots, n, residuals, w);
        for (size_t i = 0; i < n; i++) {
            w->rows[i] = ev__row_of(space, slots[i]);
            steps[i] = space->factors[slots[i]].scale / 65536;
        }
        ev__sq24_compare(q, query, w->rows, residuals, steps, n, distances);
    }
}

static void sq24_query(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query, void *buffer) {
    void *residuals = (char *)buffer + q->dim * sizeof(float);
    ev__paged_read(space->files, slot, residuals);
    ev__query_from_residuals(q, query->data, space->factors[slot].scale, residuals, query, buffer);
}

static const ev__row_kind sq24_rows = {.distances = sq24_distances, .query_from_slot = sq24_query, .pipelined = true};

static void made_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                           const uint32_t *slots, size_t m, float *distances, ev__workspace *w) {
    const ev__store *store = space->files;
    for (size_t n; m; slots += n, distances += n, m -= n) {
        n = m < ev__paged_room(store) ? m : ev__paged_room(store);
        rows_of(store, slots, n, w->rows, w);
        for (size_t i = 0; i < n; i++) distances[i] = ev__made_compare(q, query, w->rows[i], w);
    }
}

static void made_query(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query, void *buffer) {
    void *row = (char *)buffer + ev__round_up(q->dim, sizeof(float));
    ev__paged_read(space->files, slot, row);
    ev__query_from_row(q, row, query, buffer);
}

static const ev__row_kind made_rows = {.distances = made_distances, .query_from_slot = made_query, .pipelined = true};

/* Sizes as of rows in memory, by which walks and repairs choose how to go; what they ask for ahead is the code. */
ev__space ev__paged_space(const ev__store *store, bool made) {
    const ev__quantizer *q = &store->quantizer;
    bool refined = q->codec->refined;
    return (ev__space){.kind = made      ? &made_rows
                               : refined ? &sq24_rows
                                         : &f32_rows,
                       .rows = store->columns.blocks.at,
                       .stride = store->block_bytes,
                       .bytes = refined ? q->code_bytes : store->paged->item,
                       .factors = refined ? (const void *)store->columns.factors.at : NULL,
                       .files = store};
}

/* ---- appending ------------------------------------------------------------------------------- */

void ev__paged_write(const ev__store *store, uint32_t slot, const void *row) {
    ev__paged *p = store->paged;
    uint32_t *number = (uint32_t *)(void *)store->columns.vectors.at + slot;
    int64_t appended = ev__add64(&p->rows, 1);
    *number = 0;
    const segment *last = &p->segments[p->count - 1];
    if (appended >= EV_NONE - 1) {
        note_fault(p, EFBIG, true, 0, last->path);
        return;
    }
    int error =
        is_ready(p) ? ev__file_write_at(last->file, (uint64_t)(appended - last->first) * p->item, row, p->item) : EBADF;
    if (error)
        note_fault(p, error, true, 0, last->path);
    else
        *number = (uint32_t)appended + 1;
}

/* ---- questions ------------------------------------------------------------------------------- */

int64_t ev__paged_appended(const ev__store *store) { return ev__atomic_load64(&store->paged->rows); }
int64_t ev__paged_reads(const ev__store *store) { return store->paged ? ev__atomic_load64(&store->paged->reads) : 0; }
int64_t ev__paged_bytes(const ev__store *store) {
    return store->paged ? ev__atomic_load64(&store->paged->rows) * (int64_t)store->paged->item : 0;
}
size_t ev__paged_held(const ev__store *store) {
    const ev__paged *p = store->paged;
    size_t bytes = p ? sizeof *p + (p->path ? strlen(p->path) + 1 : 0) : 0;
    for (uint32_t i = 0; p && i < p->count; i++) bytes += strlen(p->segments[i].path) + 1;
    return bytes;
}
size_t ev__paged_item(const ev__store *store) { return store->paged->item; }

size_t ev__paged_run(const ev__store *store, uint64_t bytes) {
    enum { RUN = 1 << 18 };
    size_t item = store->paged->item, most = bytes < RUN ? (size_t)bytes : RUN;
    return most / item ? most / item * item : item;
}
