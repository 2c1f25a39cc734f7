/* Blocks and pages from the file. Each is verified when it is first read, and again whenever the disk was needed for
 * it; what the page cache has of one that was found whole before is taken as it is. */
#include "disk/disk.h"

#include <errno.h>
#include <stddef.h>

enum { RUN = 1 << 18 };

int ev__disk_damaged(const ev_disk *d, const char *what, uint64_t number, const char *how) {
    return ev__fail(EV_E_CORRUPT, "%s %llu of a graph on disk: %s: '%s'", what, (unsigned long long)number, how,
                    d->path);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static bool read_cached(const ev_disk *d, uint64_t at, void *out, size_t n) {
    const ev_file_ops *ops = ev__file_ops();
    size_t got = 0;
    return ops->read_at(ops->user, d->file.handle, at, out, n, 0, &got) == 0 && got == n;
}

/* Of a map the system brings one page after the other, so a long run is read. */
static int read_at(const ev_disk *d, uint64_t at, void *out, size_t n) {
    size_t done;
    if (d->map && n <= EV_DISK_PAGE) {
        memcpy(out, d->map + at, n);
        return EV_OK;
    }
    int error = ev__file_read_at(d->file.handle, at, out, n, &done);
    if (error) return ev__refused(error, "read a graph on disk from", d->path);
    if (done == n) return EV_OK;
    return ev__fail_errno(EV_E_IO, EIO, "a graph on disk: the file ends before byte %llu, it was cut off since: '%s'",
                          (unsigned long long)(at + n), d->path);
}

static uint64_t place_of(const ev_disk *d, uint32_t number) {
    return d->header.section[EV_DISK_BLOCKS].offset + ev__disk_place(&d->geometry, number);
}

static void note(ev__disk_reader *r, size_t bytes) {
    r->reads++;
    r->bytes += (int64_t)bytes;
}

/* ---- is it whole? ---------------------------------------------------------------------------- */

static bool was_whole(const ev_disk *d, uint32_t number) {
    return ev__load32(d->verified + number / 32) >> number % 32 & 1;
}

/* Another thread's bit may be lost, whose block is verified again then. */
static void is_whole(const ev_disk *d, uint32_t number) {
    uint32_t *word = d->verified + number / 32;
    ev__store32(word, ev__load32(word) | (uint32_t)1 << number % 32);
}

static int verify(const ev_disk *d, uint32_t number, const char *bytes) {
    const ev__disk_block *b = (const void *)bytes;
    const ev__disk_header *h = &d->header;
    const uint32_t *links = (const void *)(bytes + d->geometry.links);
    size_t from = offsetof(ev__disk_block, number);
    if (b->crc != d->quantizer.kernels.crc32c(0, bytes + from, d->geometry.bytes - from))
        return ev__disk_damaged(d, "block", number, "checksum differs");
    if (b->number != number) return ev__disk_damaged(d, "block", number, "it is another one's");
    bool possible = b->degree <= h->degree && (b->variant == EV_NONE || b->variant < h->nodes) &&
                    (b->rank == EV_NONE || b->rank < (uint64_t)h->live) && b->copies <= h->copies &&
                    b->copies_at <= h->copies - b->copies && ev__all_finite(b + 1, d->quantizer.dim);
    for (uint32_t i = 0; possible && i < b->degree; i++) possible = links[i] < h->nodes;
    if (!possible) return ev__disk_damaged(d, "block", number, "it holds what cannot be");
    is_whole(d, number);
    return EV_OK;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void ask_for(const ev_disk *d, uint32_t number) {
    const ev_file_ops *ops = ev__file_ops();
    ops->advise(ops->user, d->file.handle, place_of(d, number), d->geometry.bytes);
}

/* Of a mapped file nothing is copied. The first lines are asked for; what follows the hardware sees coming. */
static int point_to(ev__disk_reader *r, ev__disk_read *wanted, size_t n) {
    enum { LINES = 8 };
    const ev_disk *d = r->d;
    for (size_t i = 0; n > 1 && i < n; i++)
        if (!was_whole(d, wanted[i].number)) ask_for(d, wanted[i].number);
    for (size_t i = 0; i < n; i++) {
        wanted[i].at = d->map + place_of(d, wanted[i].number);
        for (size_t line = 0; line < LINES; line++) EV_PREFETCH(wanted[i].at + line * EV_LINE);
        note(r, d->geometry.bytes);
    }
    for (size_t i = 0; i < n; i++) {
        int rc = was_whole(d, wanted[i].number) ? EV_OK : verify(d, wanted[i].number, wanted[i].at);
        if (rc != EV_OK) return rc;
    }
    return EV_OK;
}

int ev__disk_fetch(ev__disk_reader *r, ev__disk_read *wanted, size_t n) {
    const ev_disk *d = r->d;
    if (d->map) return point_to(r, wanted, n);
    size_t left[EV_DISK_AT_ONCE], waiting = 0, bytes = d->geometry.bytes;
    for (size_t i = 0; i < n; i++) {
        note(r, bytes);
        if (!read_cached(d, place_of(d, wanted[i].number), wanted[i].at, bytes)) {
            left[waiting++] = i;
            continue;
        }
        if (was_whole(d, wanted[i].number)) continue;
        int rc = verify(d, wanted[i].number, wanted[i].at);
        if (rc != EV_OK) return rc;
    }
    for (size_t i = 0; waiting > 1 && i < waiting; i++) ask_for(d, wanted[left[i]].number);
    for (size_t i = 0; i < waiting; i++) {
        const ev__disk_read *one = &wanted[left[i]];
        int rc = read_at(d, place_of(d, one->number), one->at, bytes);
        if (rc == EV_OK) rc = verify(d, one->number, one->at);
        if (rc != EV_OK) return rc;
    }
    return EV_OK;
}

size_t ev__disk_run(const ev_disk *d, uint32_t *blocks) {
    const ev__disk_geometry *g = &d->geometry;
    size_t page = g->in_page ? EV_DISK_PAGE : ev__round_up(g->bytes, EV_DISK_PAGE), pages = RUN / page ? RUN / page : 1;
    *blocks = (uint32_t)(pages * (g->in_page ? g->in_page : 1));
    return pages * page;
}

int ev__disk_fetch_run(ev__disk_reader *r, uint32_t first, uint32_t count, char *into) {
    const ev_disk *d = r->d;
    uint64_t from = place_of(d, first), to = place_of(d, first + count - 1) + d->geometry.bytes;
    int rc = read_at(d, from, into, (size_t)(to - from));
    note(r, (size_t)(to - from));
    for (uint32_t i = 0; rc == EV_OK && i < count; i++)
        rc = verify(d, first + i, into + (place_of(d, first + i) - from));
    return rc;
}

/* ---- ids ------------------------------------------------------------------------------------- */

int ev__disk_page(ev__disk_reader *r, int section, uint64_t page, ev__disk_ids *out) {
    const ev_disk *d = r->d;
    const char *what = section == EV_DISK_ID_PAGES ? "page of ids" : "page of copies";
    int rc = read_at(d, d->header.section[section].offset + page * EV_DISK_PAGE, out, sizeof *out);
    note(r, sizeof *out);
    if (rc != EV_OK) return rc;
    if (out->crc != d->quantizer.kernels.crc32c(0, out, offsetof(ev__disk_ids, crc)))
        return ev__disk_damaged(d, what, page, "checksum differs");
    if (out->at != page) return ev__disk_damaged(d, what, page, "it is another one's");
    uint32_t end = section == EV_DISK_ID_PAGES ? d->header.nodes : (uint32_t)d->header.live;
    for (size_t i = 0; i < EV_DISK_IDS; i++)
        if (out->numbers[i] >= end) return ev__disk_damaged(d, what, page, "it holds what cannot be");
    return EV_OK;
}

/* The last page that begins with an id that is not greater; there is one page at least. */
static uint64_t page_of(const ev_disk *d, int64_t id) {
    size_t from = 0, to = (size_t)ev__disk_pages((uint64_t)d->header.live);
    while (to - from > 1) {
        size_t middle = (from + to) / 2;
        if (d->directory[middle] <= id)
            from = middle;
        else
            to = middle;
    }
    return from;
}

int ev__disk_find(ev__disk_reader *r, int64_t id, ev__disk_ids *page, uint64_t *loaded, uint32_t *number,
                  uint32_t *rank, bool *held) {
    const ev_disk *d = r->d;
    *held = false;
    if (!d->header.live) return EV_OK;
    uint64_t at = page_of(d, id), left = (uint64_t)d->header.live - at * EV_DISK_IDS;
    if (at != *loaded) {
        *loaded = UINT64_MAX;
        int rc = ev__disk_page(r, EV_DISK_ID_PAGES, at, page);
        if (rc != EV_OK) return rc;
        *loaded = at;
    }
    size_t from = 0, to = left < EV_DISK_IDS ? (size_t)left : EV_DISK_IDS;
    while (from < to) {
        size_t middle = (from + to) / 2;
        if (page->ids[middle] < id)
            from = middle + 1;
        else
            to = middle;
    }
    if (from == EV_DISK_IDS || from >= left || page->ids[from] != id) return EV_OK;
    *held = true;
    *number = page->numbers[from];
    *rank = (uint32_t)(at * EV_DISK_IDS + from);
    return EV_OK;
}
