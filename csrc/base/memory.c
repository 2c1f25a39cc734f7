/* Memory: one hook for all of it, so that a test can make any allocation fail. */
#include "base/base.h"
#include "edgevec_test.h"

#include <stdlib.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Blocks this large come straight from the system: they go back to it when released, and may lie in huge pages,
 * which spares graph walks most of their TLB misses. */
#define EV_LARGE ((size_t)4 << 20)
#define EV_HUGE_PAGE ((size_t)2 << 20)

#if defined(__linux__)
static void *large_alloc(size_t size) {
    /* mmap aligns to a small page; ask for a huge page more and cut off what is over */
    size_t want = ev__round_up(size, EV_HUGE_PAGE);
    char *at = mmap(NULL, want + EV_HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return NULL;
    size_t head = (EV_HUGE_PAGE - (uintptr_t)at % EV_HUGE_PAGE) % EV_HUGE_PAGE;
    if (head) munmap(at, head);
    munmap(at + head + want, EV_HUGE_PAGE - head);
    madvise(at + head, want, MADV_HUGEPAGE);
    return at + head;
}

/* More of the same memory, which is not copied: its pages move. What is new is zero. NULL: it did not grow. */
static void *large_grow(void *at, size_t size, size_t new_size) {
    size_t have = ev__round_up(size, EV_HUGE_PAGE), want = ev__round_up(new_size, EV_HUGE_PAGE);
    if (mremap(at, have, want, 0) != MAP_FAILED) return at;
    void *place = large_alloc(new_size);
    if (!place) { /* where address space is short too there is none for a place in huge pages beside the old one */
        void *moved = mremap(at, have, want, MREMAP_MAYMOVE);
        return moved == MAP_FAILED ? NULL : moved;
    }
    void *moved = mremap(at, have, want, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    if (moved != MAP_FAILED) {
        madvise(moved, want, MADV_HUGEPAGE);
        return moved;
    }
    munmap(place, want);
    return NULL;
}
#endif

static void *system_alloc(void *user, size_t size, size_t align) {
    (void)user;
#if defined(_WIN32)
    return _aligned_malloc(size, align);
#else
#if defined(__linux__)
    if (size >= EV_LARGE) return large_alloc(size);
#endif
    void *memory;
    return posix_memalign(&memory, align, size) == 0 ? memory : NULL;
#endif
}

static void system_release(void *user, void *memory, size_t size, size_t align) {
    (void)user, (void)size, (void)align;
#if defined(_WIN32)
    _aligned_free(memory);
#else
#if defined(__linux__)
    if (size >= EV_LARGE) {
        munmap(memory, ev__round_up(size, EV_HUGE_PAGE));
        return;
    }
#endif
    free(memory);
#endif
}

static const ev_allocator system_allocator = {system_alloc, system_release, NULL};
static ev_allocator allocator = {system_alloc, system_release, NULL};

void ev_set_allocator(const ev_allocator *a) { allocator = a ? *a : system_allocator; }

#ifdef EDGEVEC_TESTING
/* countdown: allocations until the one that fails; 0 or less: none will */
static int64_t fault_countdown, allocations;

int64_t ev_fault_alloc(int64_t n) {
    int64_t made = ev__atomic_load64(&allocations);
    ev__add64(&allocations, -made);
    ev__add64(&fault_countdown, n - ev__atomic_load64(&fault_countdown));
    return made;
}

static bool fails_on_purpose(void) {
    ev__add64(&allocations, 1);
    return ev__atomic_load64(&fault_countdown) > 0 && ev__add64(&fault_countdown, -1) == 1;
}
#else
static bool fails_on_purpose(void) { return false; }
#endif

size_t ev__block_bytes(size_t size) {
#if defined(__linux__)
    if (size >= EV_LARGE && allocator.alloc == system_alloc) return ev__round_up(size, EV_HUGE_PAGE);
#endif
    return size ? size : 1;
}

void *ev__alloc(size_t size, size_t align) {
    if (fails_on_purpose() || size > PTRDIFF_MAX - EV_HUGE_PAGE * 2) return ev__refused_by_none();
    if (!ev__charge(ev__block_bytes(size))) return NULL;
    if (align < sizeof(void *)) align = sizeof(void *);
    void *memory = allocator.alloc(allocator.user, size ? size : 1, align);
    if (memory) return memory;
    ev__discharge(ev__block_bytes(size));
    return ev__refused_by_none();
}

void *ev__alloc_zero(size_t size, size_t align) {
    void *memory = ev__alloc(size, align);
    if (memory) memset(memory, 0, size ? size : 1);
    return memory;
}

void ev__release(void *memory, size_t size, size_t align) {
    if (align < sizeof(void *)) align = sizeof(void *);
    if (!memory) return;
    allocator.release(allocator.user, memory, size ? size : 1, align);
    ev__discharge(ev__block_bytes(size));
}

/* Does it grow without a copy of what is in it? */
static bool grows_in_place(const ev__array *array) {
#if defined(__linux__)
    return !array->mapped && array->room * array->item >= EV_LARGE && allocator.alloc == system_alloc;
#else
    (void)array;
    return false;
#endif
}

static void *grow_in_place(const ev__array *array, size_t bytes) {
#if defined(__linux__)
    size_t have = array->room * array->item;
    if (!grows_in_place(array) || fails_on_purpose() || bytes > PTRDIFF_MAX - EV_HUGE_PAGE * 2) return NULL;
    size_t more = ev__block_bytes(bytes) - ev__block_bytes(have);
    if (!ev__charge(more)) return NULL;
    void *grown = large_grow(array->at, have, bytes);
    if (!grown) ev__discharge(more);
    return grown;
#else
    (void)array, (void)bytes;
    return NULL;
#endif
}

/* One at a time grows by a part of what there is, so that n single additions copy O(n). */
static size_t room_to_take(const ev__array *array, size_t room, size_t growth) {
    size_t more = array->room + (growth ? array->room / growth : 0);
    if (array->room && room < more) room = more;
    return room < 16 ? 16 : room;
}

/* Bytes of an array that no address space holds; the sum of several can be told. */
#define MORE_THAN_THERE_IS ((int64_t)1 << 56)

void ev__array_plan(const ev__array *array, size_t room, size_t growth, int64_t *held, int64_t *peak) {
    if (room <= array->room) return;
    bool copied = !grows_in_place(array);
    size_t items = room_to_take(array, room, growth);
    int64_t have = array->room && !array->mapped ? (int64_t)ev__block_bytes(array->room * array->item) : 0,
            taken =
                items > SIZE_MAX / 2 / array->item ? MORE_THAN_THERE_IS : (int64_t)ev__block_bytes(items * array->item);
    *held += taken - have;
    if (*peak < *held + (copied ? have : 0)) *peak = *held + (copied ? have : 0);
}

int ev__array_reserve(ev__array *array, size_t room) {
    if (room <= array->room) return EV_OK;
    room = room_to_take(array, room, ev__growth());
    if (array->item && room > (PTRDIFF_MAX - EV_HUGE_PAGE * 2) / array->item) return EV_E_FULL;
    char *grown = grow_in_place(array, room * array->item);
    if (grown) {
        array->at = grown;
        array->room = room;
        return EV_OK;
    }
    grown = ev__alloc(room * array->item, EV_LINE);
    if (!grown) return EV_E_NOMEM;
    size_t used = array->count * array->item;
    if (used) memcpy(grown, array->at, used);
    size_t count = array->count;
    ev__array_free(array);
    array->at = grown;
    array->count = count;
    array->room = room;
    array->mapped = false;
    return EV_OK;
}

int ev__array_resize(ev__array *array, size_t count) {
    int rc = ev__array_reserve(array, count);
    if (rc != EV_OK) return rc;
    if (count > array->count) memset(array->at + array->count * array->item, 0, (count - array->count) * array->item);
    array->count = count;
    return EV_OK;
}

/* Where an array lies in pages of its own its end is cut off. */
static bool cut_off(ev__array *array, size_t bytes) {
#if defined(__linux__)
    size_t have = array->room * array->item;
    if (!grows_in_place(array) || bytes < EV_LARGE) return false;
    size_t keep = ev__block_bytes(bytes), less = ev__block_bytes(have) - keep;
    if (less && munmap(array->at + keep, less) != 0) return false;
    ev__discharge(less);
    array->room = bytes / array->item;
    return true;
#else
    (void)array, (void)bytes;
    return false;
#endif
}

bool ev__array_shrink(ev__array *array) {
    size_t bytes = array->count * array->item;
    if (array->mapped || array->room == array->count || cut_off(array, bytes)) return true;
    char *copy = array->count ? ev__alloc(bytes, EV_LINE) : NULL;
    if (copy) memcpy(copy, array->at, bytes);
    if (copy || !array->count) {
        size_t count = array->count;
        ev__array_free(array);
        array->at = copy;
        array->count = array->room = count;
        return true;
    }
    /* no less than what lies in pages of its own */
    size_t least = array->item ? ev__round_up(EV_LARGE, array->item) : 0;
    if (array->item && least < array->room * array->item) cut_off(array, least);
    return false;
}

void ev__array_free(ev__array *array) {
    if (!array->mapped) ev__release(array->at, array->room * array->item, EV_LINE);
    array->at = NULL;
    array->count = array->room = 0;
    array->mapped = false;
}

size_t ev__array_bytes(const ev__array *array) { return array->room * array->item; }

/* ---- accounts -------------------------------------------------------------------------------- */

/* It counts itself. */
ev__account *ev__account_new(void) {
    ev__account *was = ev__charge_to(NULL), *account = ev__alloc_zero(sizeof *account, EV_LINE);
    ev__charge_to(was);
    if (!account) return NULL;
    account->owners = 1;
    account->growth = EV_GROWTH;
    account->held = account->peak = sizeof *account;
    return account;
}

ev__account *ev__account_share(ev__account *account) {
    ev__add64(&account->owners, 1);
    return account;
}

void ev__account_drop(ev__account *account) {
    if (!account || ev__add64_ordered(&account->owners, -1) > 1) return;
    ev__account *was = ev__charge_to(NULL);
    ev__release(account, sizeof *account, EV_LINE);
    ev__charge_to(was == account ? NULL : was);
}
