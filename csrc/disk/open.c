/* Opening the file of a graph on disk, and its end. Nothing in the header is believed: what it says of its sections
 * must be what its numbers call for, and the file's size too. */
#include "disk/scratch.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

int ev__disk_quantizer(ev__quantizer *q, const ev__disk_header *h) {
    const ev__kernels *kernels = ev__simd();
    if (!kernels)
        return ev__fail(EV_E_SIMD, "EDGEVEC_SIMD=%s, but this machine and build offer: %s", ev_simd_forced(),
                        ev_simd_available());
    *q = (ev__quantizer){.metric = ev__metric_of(h->metric),
                         .quantization = EV_QUANT_BINARY,
                         .kernels = ev__kernels_complete(kernels),
                         .dim = (size_t)h->dim};
    ev__quantizer_lay_out(q);
    q->center = ev__alloc_zero(q->dim * sizeof *q->center, EV_LINE);
    if (q->codec->coarse) q->prefilter_signs = ev__alloc(2 * q->bits * sizeof *q->prefilter_signs, EV_LINE);
    if (!q->center || (q->codec->coarse && !q->prefilter_signs)) return ev__fail(EV_E_NOMEM, "a rotation");
    if (q->codec->coarse) ev__prefilter_signs_init(q->prefilter_signs, 2 * q->bits, h->seed);
    return EV_OK;
}

void ev__disk_lay_out(const ev__quantizer *q, ev__disk_header *h) {
    ev__disk_geometry g = ev__disk_geometry_of(q, h->degree);
    uint64_t bytes[EV_DISK_SECTIONS] = {
        [EV_DISK_CENTER] = q->dim * sizeof(float),
        [EV_DISK_ENTRIES] = h->entries * (sizeof(uint32_t) + sizeof(ev__factor) + q->code_bytes),
        [EV_DISK_DIRECTORY] = ev__disk_pages((uint64_t)h->live) * sizeof(int64_t),
        [EV_DISK_ID_PAGES] = ev__disk_pages((uint64_t)h->live) * EV_DISK_PAGE,
        [EV_DISK_COPIES] = ev__disk_pages(h->copies) * EV_DISK_PAGE,
        [EV_DISK_BLOCKS] = h->nodes ? ev__disk_place(&g, h->nodes - 1) + g.bytes : 0,
    };
    uint64_t at = sizeof *h;
    for (int i = 0; i < EV_DISK_SECTIONS; i++) {
        uint64_t align = i < EV_DISK_ID_PAGES ? EV_LINE : EV_DISK_PAGE;
        at = (at + align - 1) / align * align;
        h->section[i].offset = at;
        h->section[i].bytes = bytes[i];
        at += bytes[i];
    }
    h->block_bytes = (uint32_t)g.bytes;
    h->file_bytes = (at + EV_DISK_PAGE - 1) / EV_DISK_PAGE * EV_DISK_PAGE;
}

/* ---- the header ------------------------------------------------------------------------------ */

static int bad_header(const char *what) { return ev__fail(EV_E_CORRUPT, "header of a graph on disk: %s", what); }

static int read_at(ev_disk *d, uint64_t at, void *out, size_t n) {
    size_t done;
    int error = ev__file_read_at(d->file.handle, at, out, n, &done);
    if (error) return ev__refused(error, "read", d->path);
    return done == n ? EV_OK : bad_header("the file ends before it should");
}

static int check_fields(const ev__disk_header *h) {
    if (h->dim < 1 || h->dim > EV_MAX_DIM || !ev__metric_of(h->metric))
        return bad_header("an impossible dim or metric");
    if (h->ef < 1 || h->walk < EV_WALK_CODES || h->walk > EV_WALK_BLURRED)
        return bad_header("an impossible ef or walk");
    if (h->degree < 1 || h->degree > EV_DISK_MOST_DEGREE) return bad_header("an impossible degree");
    if (h->nodes == EV_NONE || h->live < 0 || h->live >= (int64_t)EV_NONE || h->copies >= EV_NONE)
        return bad_header("an impossible count");
    if (h->entries > h->nodes || h->entries > EV_DISK_MOST_ENTRIES || (h->nodes && !h->entries))
        return bad_header("an impossible number of entries");
    return EV_OK;
}

static int read_header(ev_disk *d) {
    ev__disk_header *h = &d->header;
    if (d->file.bytes < sizeof *h) return bad_header("the file is shorter than one");
    int rc = read_at(d, 0, h, sizeof *h);
    if (rc != EV_OK) return rc;
    if (memcmp(h->magic, EV_FILE_MAGIC, sizeof h->magic) == 0)
        return bad_header("an index whose graph is not on disk, which Index.load() opens");
    if (memcmp(h->magic, EV_DISK_MAGIC, sizeof h->magic) != 0) return bad_header("not a graph on disk");
    if (h->version > EV_DISK_VERSION)
        return ev__fail(EV_E_VERSION, "the file has format version %u; edgevec %s reads versions up to %d", h->version,
                        ev_version(), EV_DISK_VERSION);
    if (h->crc != ev__kernels_scalar.crc32c(0, h, offsetof(ev__disk_header, crc)))
        return bad_header("checksum differs");
    if (h->version < 1 || h->header_bytes != sizeof *h) return bad_header("an impossible version or size");
    return check_fields(h);
}

/* With the quantizer: are the sections where they would be? */
static int check_table(const ev_disk *d) {
    ev__disk_header wanted = d->header;
    ev__disk_lay_out(&d->quantizer, &wanted);
    for (int i = 0; i < EV_DISK_SECTIONS; i++)
        if (i >= EV_DISK_ID_PAGES) wanted.section[i].crc = 0;
    memset(wanted.zeros, 0, sizeof wanted.zeros);
    if (memcmp(&wanted, &d->header, sizeof wanted) != 0) return bad_header("sections lie where they cannot");
    return d->file.bytes == wanted.file_bytes ? EV_OK : bad_header("the file has another length");
}

/* ---- what is kept in memory ------------------------------------------------------------------ */

static int read_section(ev_disk *d, int i, const char *name, void *out) {
    const ev__disk_section *section = &d->header.section[i];
    int rc = read_at(d, section->offset, out, (size_t)section->bytes);
    if (rc == EV_OK && d->quantizer.kernels.crc32c(0, out, (size_t)section->bytes) != section->crc)
        rc = ev__fail(EV_E_CORRUPT, "section '%s': checksum differs", name);
    return rc;
}

static int read_tables(ev_disk *d) {
    const ev__disk_header *h = &d->header;
    size_t entries = (size_t)h->section[EV_DISK_ENTRIES].bytes, directory = (size_t)h->section[EV_DISK_DIRECTORY].bytes;
    size_t bits = ((size_t)h->nodes + 31) / 32 * sizeof *d->verified, pages = directory / sizeof(int64_t);
    ev__arena arena = {NULL, 0};
    for (int again = 0; again < 2; again++) {
        d->entries = ev__arena_take(&arena, entries);
        d->directory = ev__arena_take(&arena, directory);
        d->verified = ev__arena_take(&arena, bits);
        if (again) break;
        d->memory_bytes = arena.used;
        arena = (ev__arena){d->memory = ev__alloc_zero(arena.used, EV_LINE), 0};
        if (!d->memory) return ev__fail(EV_E_NOMEM, "the entries of a graph on disk");
    }
    d->factors = (const ev__factor *)(const void *)(d->entries + h->entries);
    d->codes = (const char *)(d->factors + h->entries);
    int rc = read_section(d, EV_DISK_CENTER, "center", d->quantizer.center);
    if (rc == EV_OK) rc = read_section(d, EV_DISK_ENTRIES, "entries", (void *)d->entries);
    if (rc == EV_OK) rc = read_section(d, EV_DISK_DIRECTORY, "directory", (void *)d->directory);
    for (size_t i = 0; rc == EV_OK && i < h->entries; i++)
        if (d->entries[i] >= h->nodes) rc = ev__fail(EV_E_CORRUPT, "section 'entries': a node that is not there");
    for (size_t i = 1; rc == EV_OK && i < pages; i++)
        if (d->directory[i - 1] >= d->directory[i]) rc = ev__fail(EV_E_CORRUPT, "section 'directory': not in order");
    return rc;
}

static int map_file(ev_disk *d) {
    void *at;
    int error = d->file.bytes > PTRDIFF_MAX ? ENOMEM : ev__map(&d->file, &at);
    if (error == ENOTSUP) return EV_OK; /* it is read */
    if (error) return ev__refused(error, "map", d->path);
    d->map = at;
    ev__map_at_random(at, (size_t)d->file.bytes);
    return EV_OK;
}

static int load(ev_disk *d, bool map) {
    int rc = read_header(d);
    if (rc == EV_OK) rc = ev__disk_quantizer(&d->quantizer, &d->header);
    if (rc == EV_OK) rc = check_table(d);
    d->geometry = ev__disk_geometry_of(&d->quantizer, d->header.degree);
    if (rc == EV_OK) rc = read_tables(d);
    const ev_file_ops *ops = ev__file_ops();
    if (rc == EV_OK && map) rc = map_file(d);
    if (rc == EV_OK) ops->advise(ops->user, d->file.handle, 0, 0);
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void give_back(ev_disk *d) {
    ev__account *was = ev__charge_to(d->account);
    for (ev__disk_scratch *s = d->spare; s;) {
        ev__disk_scratch *gone = s;
        s = s->next;
        ev__disk_scratch_free(gone);
    }
    d->spare = NULL;
    ev__quantizer_free(&d->quantizer);
    ev__release(d->memory, d->memory_bytes, EV_LINE);
    if (d->path) ev__release(d->path, strlen(d->path) + 1, 1);
    if (d->map) ev__unmap(d->map, (size_t)d->file.bytes);
    ev__file_close(&d->file);
    ev__charge_to(was);
}

static int make(const char *path, const ev__file *file, bool map, ev_disk **out) {
    ev__account *account = ev__account_new(), *was = ev__charge_to(account);
    size_t length = strlen(path) + 1;
    ev_disk *d = account ? ev__alloc_zero(sizeof *d, EV_LINE) : NULL;
    int rc = EV_E_NOMEM;
    if (d) {
        d->file = *file;
        d->account = account;
        d->serial = ev__new_serial();
        d->users = 1;
        ev__mutex_init(&d->lock);
        d->path = ev__alloc(length, 1);
        if (d->path) memcpy(d->path, path, length);
        rc = d->path ? load(d, map) : EV_E_NOMEM;
    }
    ev__charge_to(was);
    if (rc == EV_OK) {
        *out = d;
        return ev__ok();
    }
    if (rc == EV_E_NOMEM) rc = ev__fail(rc, "a graph on disk");
    if (d)
        ev_disk_free(d);
    else
        ev__file_close(file);
    if (!d) ev__account_drop(account);
    return rc;
}

int ev_disk_open(const char *path, int32_t map, ev_disk **out) {
    ev__file file;
    int error = ev__file_open(path, &file);
    if (error == ENOENT) return ev__fail_errno(EV_E_NOT_FOUND, error, "%s: '%s'", strerror(error), path);
    if (error) return ev__refused(error, "open", path);
    ev__remove_left_over(path);
    return make(path, &file, map != 0, out);
}

int ev__disk_enter(ev_disk *d, ev__account **was) {
    ev__lock(&d->lock);
    bool closed = d->closed;
    d->users += !closed;
    ev__unlock(&d->lock);
    if (closed) return ev__fail(EV_E_CLOSED, "%s", "");
    *was = ev__charge_to(d->account);
    ev__refused_by_none();
    return EV_OK;
}

static void drop(ev_disk *d) {
    ev__lock(&d->lock);
    bool last = --d->users == 0;
    ev__unlock(&d->lock);
    if (last) give_back(d);
}

void ev__disk_leave(ev_disk *d, ev__account *was) {
    ev__charge_to(was);
    drop(d);
}

int ev_disk_close(ev_disk *d) {
    ev__lock(&d->lock);
    bool closed = d->closed;
    d->closed = true;
    ev__unlock(&d->lock);
    if (closed) return ev__fail(EV_E_CLOSED, "%s", "");
    drop(d);
    return ev__ok();
}

void ev_disk_free(ev_disk *d) {
    if (!d) return;
    if (!d->closed) {
        d->closed = true;
        drop(d);
    }
    ev__mutex_free(&d->lock);
    ev__account *account = d->account, *was = ev__charge_to(account);
    ev__release(d, sizeof *d, EV_LINE);
    ev__charge_to(was);
    ev__account_drop(account);
}

/* ---- questions ------------------------------------------------------------------------------- */

void ev_disk_get_stats(ev_disk *d, ev_disk_stats *out) {
    const ev__disk_header *h = &d->header;
    *out = (ev_disk_stats){.dim = h->dim, .metric = h->metric, .ef = h->ef, .degree = (int32_t)h->degree};
    ev__lock(&d->lock);
    out->live = d->closed ? 0 : h->live;
    ev__unlock(&d->lock);
    out->nodes = h->nodes;
    out->block_bytes = h->block_bytes;
    out->file_bytes = (int64_t)h->file_bytes;
    out->queries = ev__atomic_load64(&d->stats.queries);
    out->reads = ev__atomic_load64(&d->stats.reads);
    out->bytes_read = ev__atomic_load64(&d->stats.bytes_read);
    out->rounds = ev__atomic_load64(&d->stats.rounds);
    out->estimates = ev__atomic_load64(&d->stats.estimates);
    ev_memory memory;
    ev__account_read(d->account, &memory);
    out->held = memory.held;
    out->peak = memory.peak;
}
