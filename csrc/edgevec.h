/* edgevec: vector search in one C11 library.
 *
 * What to know first:
 *
 * - Threads: an index may be searched by any number of threads at once. Calls that change it (ev_add, ev_remove,
 *   ev_compact, ev_set_ef) come one after the other, wait for running searches and hold new ones back until they end.
 *   ev_add of more than a few rows and ev_compact do so in steps: between them, every few milliseconds while rows are
 *   linked or links are led around removed ones, and all the while vectors are encoded or laid out anew, searches go on
 *   and see the index as before the call; they wait while it makes room and learns. So does ev_remove while it leads
 *   links around what it has removed, which they no longer see then. What ev_stage brings they do not
 *   see until ev_stage_commit, which is short. ev_save and ev_check wait for whole calls to end. ev_close may be called
 *   beside anything; ev_free must not race with any other call. An ev_context belongs to one search at a time; a second
 *   one is EV_E_BUSY. A search given none borrows one from the index. An ev_filter may be shared by any number of
 *   threads.
 * - Callbacks run on the thread that made the call, which still has the index. What they ask of that index itself is
 *   answered where it cannot change meanwhile: ev_count, ev_contains, ev_get_params, ev_get_stats, ev_memory_usage, as
 *   of before the call. Anything else is EV_E_REENTRANT at once, and changes nothing; ev_free is forbidden. Other
 *   threads wait for the call to end, so a callback must not wait for them.
 * - Fork: no thread outlives a call. A forked child may use the indexes that it inherited, whatever other threads were
 *   doing with them at the fork, but for one that a thread was changing: that is half changed, and calls on it are
 *   EV_E_FORKED; questions that return no code are answered with 0. So is an index whose callback forked, in the child.
 * - Durability: ev_save returns EV_OK only after the file's bytes and its name were flushed (fsync of file and folder).
 *   The old file stays whole until then. Nothing else touches the disk, but for EV_STORAGE_DISK and ev_disk.
 * - Failure: a call that fails for bad input or for want of memory leaves the index answering as it did. The library
 *   never prints, aborts, exits, or reads past what it was given; every allocation goes through the hook of
 *   ev_set_allocator.
 * - Distances: lower is closer. l2: squared Euclidean. cosine: 1 - cos. ip: 1 - dot product.
 *
 * Vectors are float32, row-major, C order, of the index's dim elements each, any alignment that suits float. Ids are
 * int64, chosen by the caller.
 */
#ifndef EDGEVEC_H
#define EDGEVEC_H

#include <stddef.h>
#include <stdint.h>

#define EDGEVEC_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* cdef-begin: everything between the marks is also read by the Python binding, so plain declarations only. */

typedef struct ev_index ev_index;
typedef struct ev_context ev_context;
typedef struct ev_filter ev_filter;

/* Grouped by tens; a published value never changes its meaning. */
enum {
    EV_OK = 0,
    /* the caller's input */
    EV_E_PARAM = 10,      /* a parameter is out of its range */
    EV_E_NOT_FINITE = 11, /* a vector holds NaN or Inf, or its square overflows; the detail names the row */
    EV_E_ZERO = 12,       /* a zero vector under cosine; the detail names the row */
    EV_E_DUPLICATE = 13,  /* the same id twice in one call */
    EV_E_NO_ID = 14,      /* an id that the index does not hold */
    /* the machine */
    EV_E_NOMEM = 20,
    EV_E_FULL = 21,         /* more than 2^32 - 2 slots, or more bytes than the address space holds */
    EV_E_SIMD = 22,         /* EDGEVEC_SIMD names a path that this machine or this build lacks */
    EV_E_MEMORY_LIMIT = 23, /* ev_set_memory_limit; the detail has the limit, what is held and what more was needed */
    /* files */
    EV_E_IO = 30,      /* the system refused a read, write, flush or rename; the detail holds its reason */
    EV_E_CORRUPT = 31, /* not an index file, or damaged; the detail names the section */
    EV_E_VERSION = 32, /* written by a newer format */
    EV_E_NOT_FOUND = 33,
    /* flow */
    EV_E_STOPPED = 40,   /* the progress callback, or the one of ev_set_interrupt, asked to stop */
    EV_E_REENTRANT = 41, /* made by a callback of a call on the same index, which would have to wait for itself */
    EV_E_BUSY = 42,      /* another search is using the context, or rows are staged */
    EV_E_FORKED = 43,    /* another thread was changing the index when this process was forked from it */
    EV_E_CLOSED = 44     /* the index was closed */
};

enum { EV_METRIC_COSINE = 0, EV_METRIC_IP = 1, EV_METRIC_L2 = 2 };
/* Binary vectors of up to 32 dimensions have 8-bit codes, which are smaller there. */
enum { EV_QUANT_NONE = 0, EV_QUANT_SQ8 = 1, EV_QUANT_BINARY = 2 };

/* What of the vectors is kept beside the codes, to rank by exact distance what the codes find. Without quantization the
 * vectors are always kept.
 * FLOAT32: all bits that were given.
 * SQ24: 16 bits a dimension, which refine the 8 of the code: a coordinate is known to within a step of
 * max |vector - center| / (127 * 65536), about what a float32 dot product rounds off, the center being the mean of what
 * is held, but for what lies far off. Each time that is learned anew, as the index grows or is compacted, may cost
 * another step. Numbers given in fewer bits, such
 * as integers or float16, mostly come back as they were. Where no 8-bit codes are walked on, it means FLOAT32. */
enum { EV_VECTORS_NONE = 0, EV_VECTORS_FLOAT32 = 1, EV_VECTORS_SQ24 = 2 };

/* One line for a code; never NULL. */
const char *ev_strerror(int code);
/* What the calling thread's last failed call said beyond its code; "" when nothing. Valid until the thread's next call.
 */
const char *ev_error_detail(void);
/* The row or position that the last failed call objected to, or -1. */
int64_t ev_error_row(void);
/* The errno behind the last failed call's EV_E_IO, EV_E_NOT_FOUND or EV_E_NOMEM; 0 where the system gave none. */
int ev_error_errno(void);

/* EDGEVEC_VERSION of the library that is linked. */
const char *ev_version(void);

/* ---- life ------------------------------------------------------------------------------------ */

/* Where what is kept of the vectors beside their codes lies. MEMORY: with all else. DISK: in files, from which searches
 * read what they rank. Those of an index that was loaded with EV_MAP_DISK lie in its file, until ev_save to another
 * and without a change meanwhile, from when on they lie in that one; what is added, in a scratch file without a name in
 * the same folder, or where that is not permitted, or there is no index file, in the system's folder for temporary
 * files (TMPDIR, /var/tmp). It grows until ev_save. Not for EV_QUANT_NONE and EV_VECTORS_NONE. A file that cannot be
 * read, or was cut off, fails the calls that are under way with EV_E_IO; all is as before then, and they may be made
 * again. */
enum { EV_STORAGE_MEMORY = 0, EV_STORAGE_DISK = 1 };

typedef struct {
    int32_t dim;             /* 1..65535 */
    int32_t metric;          /* EV_METRIC_* */
    int32_t quantization;    /* EV_QUANT_* */
    int32_t M;               /* 2..256: links per node on the upper levels; level 0 holds 2 M */
    int32_t ef_construction; /* 1..65535 */
    int32_t ef;              /* 1..1000000: the default of searches that name none */
    int32_t keep_vectors;    /* EV_VECTORS_* */
    uint64_t seed;
    int32_t storage; /* EV_STORAGE_* */
} ev_params;

/* Errors: EV_E_PARAM, EV_E_NOMEM, EV_E_SIMD. */
int ev_new(const ev_params *params, ev_index **out);
void ev_free(ev_index *ix);
/* Give back the index's memory and its mapped file once running calls have ended, those of other threads too. Until
 * ev_free, calls on it are EV_E_CLOSED, as this one is the second time, and questions that return no code are answered
 * with 0.
 * Errors: EV_E_CLOSED, EV_E_REENTRANT, EV_E_FORKED. */
int ev_close(ev_index *ix);
void ev_get_params(ev_index *ix, ev_params *out);
/* Errors: EV_E_PARAM, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_set_ef(ev_index *ix, int32_t ef);

/* Bytes that the index may hold, from now on: an allocation that would pass it is refused, and the call that needs it
 * fails with EV_E_MEMORY_LIMIT, as it would for want of memory. 0, as at first: no limit. Less than is held: it cannot
 * grow, and has room for one search at a time all the same. Any call that may fail with EV_E_NOMEM may fail with
 * EV_E_MEMORY_LIMIT in its place. Counted is what is allocated for the index, as the system gives it out: what
 * ev_memory_usage lists, what calls need meanwhile, contexts, and the sets of slots that filters keep for it. Not
 * counted are mapped files, the ids of a filter, stacks of threads, and what the system's allocator adds to a block. An
 * ev_add that would not leave the room for one search is refused before anything changes. The limit is not in files.
 * Errors: EV_E_PARAM, EV_E_FORKED, EV_E_CLOSED. */
int ev_set_memory_limit(ev_index *ix, int64_t bytes);
/* With EV_STORAGE_DISK: the file that the index will be found at, where it is saved under another name and that is
 * renamed. Errors name it, and scratch files that are made from now on go to its folder.
 * Errors: EV_E_PARAM, EV_E_NOMEM, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_set_disk_path(ev_index *ix, const char *path);

/* ---- content --------------------------------------------------------------------------------- */

/* Called now and then on the thread that made the call, about twenty times a second; returns 0 to stop. */
typedef int (*ev_progress)(void *user, int64_t done, int64_t total);

/* Insert n rows. ids NULL: numbered on from the highest id ever held, written to out_ids (n, may be NULL). An id that
 * exists is replaced. threads 0: one per core; 1: deterministic. All or nothing: after an error or a stop the index
 * answers as before (with EV_VECTORS_SQ24, to within its steps: the center may have been learned anew).
 * Errors: EV_E_PARAM, EV_E_NOT_FINITE, EV_E_ZERO, EV_E_DUPLICATE, EV_E_NOMEM, EV_E_FULL, EV_E_STOPPED, EV_E_REENTRANT,
 * EV_E_FORKED, EV_E_CLOSED.
 */
int ev_add(ev_index *ix, int64_t n, const float *vectors, const int64_t *ids, int64_t *out_ids, int32_t threads,
           ev_progress progress, void *user);
/* Forget those of the n ids that are held; *removed counts them. O(1) each, until a third of what the index holds is
 * removed: then links are led around it, by a call that removes many on all cores before it returns, else shared out
 * among calls, so that a removal takes about as long as an addition. A service: a stop, want of memory, staged rows, or
 * that the index lies in a mapped file leave it to a later call of ev_add or ev_remove, or ev_compact.
 * Errors: EV_E_PARAM, EV_E_STOPPED, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. Ids that are not held are none. */
int ev_remove(ev_index *ix, int64_t n, const int64_t *ids, int64_t *removed);
/* Copy vectors to out[n * dim], as exactly as they are kept: as given with FLOAT32 (cosine: at unit length), within the
 * bound at EV_VECTORS_* with SQ24, decoded from codes with NONE. All ids must exist.
 * Errors: EV_E_NO_ID, EV_E_NOMEM, EV_E_STOPPED, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_get(ev_index *ix, int64_t n, const int64_t *ids, float *out);
int64_t ev_count(ev_index *ix);
int ev_contains(ev_index *ix, int64_t id);
/* Write up to n live ids in slot order, starting at *cursor (0 first); *cursor moves on, *written is 0 at the end.
 * Errors: EV_E_PARAM, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_ids(ev_index *ix, int64_t *cursor, int64_t n, int64_t *ids, int64_t *written);
/* Give back the room of removed vectors and lay nodes out anew for locality. Where codes no longer fit what is held
 * they are learned anew, and where they did not tell it apart, it is linked anew. Ids stay.
 * A second copy is made meanwhile. Where a memory limit leaves no room for one, slots are moved in place, with about 12
 * bytes for each: searches wait for that, and it does not stop. Codes are learned anew then only if there is room.
 * Errors: EV_E_NOMEM, EV_E_STOPPED, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_compact(ev_index *ix, ev_progress progress, void *user);

/* ---- search ---------------------------------------------------------------------------------- */

enum { EV_STRATEGY_GRAPH = 0, EV_STRATEGY_EXACT = 1, EV_STRATEGY_GRAPH_FILTERED = 2 };
typedef struct {
    int64_t queries;     /* searches made with this context */
    int64_t visited;     /* of the last search: nodes whose links were read */
    int64_t distances;   /* of the last search: distances computed on codes or vectors while walking or scanning */
    int64_t prefiltered; /* of the last search: distances estimated from signs, to tell which to compute */
    int64_t reranked;    /* of the last search: exact distances of the final pass */
    int32_t strategy;    /* of the last search: EV_STRATEGY_* */
    double seconds;      /* of the last search: time spent on it, from the query to its results */
    int32_t ef;          /* of the last search: candidates kept; 0 when every vector was compared */
} ev_search_stats;

typedef struct {
    int32_t k;           /* >= 1 */
    int32_t ef;          /* 0: the index's own; raised to k where smaller */
    int32_t exact;       /* compare with every vector. For single queries again and again dim / 2 + 12 bytes a vector of
                          * codes are kept, until ev_compact or ev_close */
    int32_t threads;     /* 0: one per core, for batches; 1: the calling thread */
    ev_filter *filter;   /* NULL: all ids */
    ev_context *context; /* NULL: borrowed. Used by single-thread searches only */
    /* NULL, or an id for each query, which is answered as if that vector were not there: it is no result, and no
     * walk leads through it. Asked for a vector's own neighbors, this tells how a new query like it would fare. */
    const int64_t *exclude_ids;
    ev_search_stats *stats; /* NULL, or where to write those of the last query, when one thread answers */
} ev_search_params;

/* n queries -> out_ids[n * k], out_distances[n * k], nearest first by float64 distances to what ev_get gives, equal
 * ones by id (sign codes alone: by estimates); rows with fewer than k results are padded with id -1, distance inf.
 * Errors: EV_E_PARAM, EV_E_NOT_FINITE, EV_E_ZERO, EV_E_NOMEM, EV_E_BUSY, EV_E_STOPPED, EV_E_REENTRANT, EV_E_FORKED,
 * EV_E_CLOSED. */
int ev_search(ev_index *ix, int64_t n, const float *queries, const ev_search_params *params, int64_t *out_ids,
              float *out_distances);

/* A context serves the index that it was made for, and no other. ev_context_stats tells of its last search that ended.
 * Errors: EV_E_NOMEM, EV_E_FORKED, EV_E_CLOSED. */
int ev_context_new(ev_index *ix, ev_context **out);
void ev_context_free(ev_context *context);
void ev_context_stats(ev_context *context, ev_search_stats *out);

/* A set of allowed ids, built once and used with any index.
 * Errors: EV_E_PARAM, EV_E_NOMEM. */
int ev_filter_new(int64_t n, const int64_t *ids, ev_filter **out);
void ev_filter_free(ev_filter *filter);
/* Distinct ids, which are counted when first asked for; minus EV_E_NOMEM where there is no room for it. */
int64_t ev_filter_count(ev_filter *filter);
/* 1 where it was made of these very ids, in this order; else 0. */
int ev_filter_is_of(const ev_filter *filter, int64_t n, const int64_t *ids);

/* ---- file ------------------------------------------------------------------------------------ */

/* A file at `path` is replaced and leaves its mode, and where that is permitted its owner, to the new one. A symbolic
 * link is followed, to a new file too. What is no regular file (a folder, pipe or device) is refused with EV_E_IO.
 * Errors: EV_E_IO, EV_E_NOMEM, EV_E_STOPPED, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_save(ev_index *ix, const char *path);
/* NONE: read the file. VERIFIED: use it in place, copy-on-write; it must not be truncated or written to while the index
 * lives. Every byte is verified either way. UNVERIFIED: in place, and only the header and the table of its sections are
 * looked at. Searches never leave the mapping, whatever the bytes are, but on bytes that are wrong their answers are.
 * The first call that names ids checks and indexes those; the first that changes, checks or saves the index, or leaves
 * vectors out (exclude_ids), verifies all and makes what speeds up searches. Such a call may fail with EV_E_CORRUPT,
 * and EV_E_NOMEM too. Where the system maps no files they are read and verified.
 * DISK: as NONE, but that what is kept of the vectors stays in the file, as with EV_STORAGE_DISK. The file may be
 * replaced or removed meanwhile, but must not be written to. EV_E_PARAM where it keeps none beside codes. */
enum { EV_MAP_NONE = 0, EV_MAP_VERIFIED = 1, EV_MAP_UNVERIFIED = 2, EV_MAP_DISK = 3 };
/* map: EV_MAP_*.
 * Errors: EV_E_NOT_FOUND, EV_E_IO, EV_E_CORRUPT, EV_E_VERSION, EV_E_FULL, EV_E_NOMEM, EV_E_SIMD, EV_E_STOPPED. */
int ev_load(const char *path, int32_t map, ev_index **out);
/* With the limit of ev_set_memory_limit, which holds while it is loaded too: EV_E_MEMORY_LIMIT where it does not fit.
 */
int ev_load_within(const char *path, int32_t map, int64_t memory_limit, ev_index **out);
/* The bytes of the file that ev_save would write, in memory: to `out` where they fit in `room`; else nothing is
 * written. *n: how many they are, so room 0 asks for that.
 * Errors: EV_E_PARAM, EV_E_STOPPED, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_save_bytes(ev_index *ix, int64_t room, void *out, int64_t *n);
/* As ev_load of a file of these n bytes, which are not needed any longer afterwards.
 * Errors: EV_E_PARAM, EV_E_CORRUPT, EV_E_VERSION, EV_E_FULL, EV_E_NOMEM, EV_E_SIMD, EV_E_STOPPED. */
int ev_load_bytes(int64_t n, const void *bytes, ev_index **out);
int ev_load_bytes_within(int64_t n, const void *bytes, int64_t memory_limit, ev_index **out);

/* ---- insight --------------------------------------------------------------------------------- */

/* What searches go by. Whether codes tell a vector's neighbors from other vectors is seen on a sample whenever an
 * index has grown by an eighth, and by ev_compact. CODES: what the quantization says. FLOATS: codes do not tell the
 * vectors apart, so the graph is built and walked on the vectors kept beside them. SCAN: neither do float32 distances,
 * as of vectors around 1e-30, so every search compares with all. BLURRED: codes do not, and nothing else is kept:
 * expect few true neighbors. */
enum { EV_WALK_CODES = 0, EV_WALK_FLOATS = 1, EV_WALK_SCAN = 2, EV_WALK_BLURRED = 3 };

typedef struct {
    int64_t live, dead, free_slots,
        duplicates;              /* vectors; tombstones; reusable slots; vectors that share another's node */
    int64_t nodes;               /* nodes of the graph that hold live vectors */
    int64_t edges, mutual_edges; /* level 0 */
    int64_t min_degree, max_degree;
    int64_t unreachable; /* live nodes that no walk from the entry reaches on level 0 */
    int64_t bad_links;   /* links to slots out of range, free, to themselves, twice, or above their level */
    int64_t bad_codes;   /* codes that are not those of their vectors, or of none */
    int64_t bad_ids;     /* ids that the id table does not lead to their slot, and the reverse */
    int32_t levels;
    int32_t walk; /* EV_WALK_*: what the vectors held call for now; without them, as in ev_stats */
} ev_report;
/* Errors: EV_E_NOMEM, EV_E_STOPPED, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_check(ev_index *ix, ev_report *out);

typedef struct {
    /* bytes allocated, slack included; without the at most 16 scratches, of up to 256 KB, that small indexes share */
    int64_t vectors, codes, links, upper_links, ids, other, total;
    int64_t mapped;  /* of these, bytes that lie in a mapped file */
    int64_t on_disk; /* not of these: bytes of vectors in files, EV_STORAGE_DISK, those no longer held included */
    int64_t held;    /* bytes allocated for the index now, by this or any thread: what its limit is about ... */
    int64_t peak;    /* ... the most that it ever was ... */
    int64_t limit;   /* ... and ev_set_memory_limit's; 0: none */
} ev_memory;
void ev_memory_usage(ev_index *ix, ev_memory *out);

typedef struct {
    int64_t slots, live, dead;
    int64_t bits; /* of a binary code */
    int32_t max_level;
    int32_t trainings; /* times the center of the codes was learned */
    int64_t built_distances;
    int64_t changes; /* vectors added, replaced or removed since the index was made or loaded */
    int32_t walk;    /* EV_WALK_* */
    int64_t looked;  /* vectors read to learn the codes or to see whether they fit, since it was made or loaded */
    int64_t reads;   /* EV_STORAGE_DISK: reads of files, each of one or more vectors, since it was made or loaded */
} ev_stats;
void ev_get_stats(ev_index *ix, ev_stats *out);

/* ---- graphs on disk -------------------------------------------------------------------------- */

/* An index whose graph lies in a file too, for indexes many times larger than memory. A block of the file has all that
 * a walk needs of a node: its vector, its links, and 1-bit codes of its neighbors. It is read only. In memory are the
 * codes of at most 8,192 nodes at which walks begin, a bit for each node, and 8 bytes for each 340 ids. Any number of
 * threads may search at once. A forked child may use what it inherited. The file may be replaced or removed meanwhile,
 * but must not be written to; damage to what is read is EV_E_CORRUPT, and the detail names the block. */
typedef struct ev_disk ev_disk;

/* Write such a file of an index, as ev_save replaces a file. The vectors are those of ev_get; of removed ones whose
 * links still lead on, too. Calls that change the index wait meanwhile. Needs some 36 bytes of memory a vector.
 * threads 0: one per core. The same index gives the same bytes.
 * Errors: EV_E_IO, EV_E_NOMEM, EV_E_FULL, EV_E_STOPPED, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_disk_write(ev_index *ix, const char *path, int32_t threads, ev_progress progress, void *user);
/* map 1: use the file in place, where the system maps files: no call of the system for what it has cached, and no copy;
 * what it has not comes one block after the other. It must not be cut off then: that would end the process. 0: read it,
 * what is not cached many blocks at a time.
 * Errors: EV_E_NOT_FOUND, EV_E_IO, EV_E_CORRUPT, EV_E_VERSION, EV_E_NOMEM, EV_E_SIMD. */
int ev_disk_open(const char *path, int32_t map, ev_disk **out);
/* As ev_close, but that it waits for nobody: calls that are under way end as if it were open.
 * Errors: EV_E_CLOSED. */
int ev_disk_close(ev_disk *d);
/* After all calls on it have ended. */
void ev_disk_free(ev_disk *d);

typedef struct {
    int32_t k;       /* >= 1 */
    int32_t ef;      /* 0: the index's that it was written from; raised to k where smaller */
    int32_t beam;    /* nodes read in a round, 1..64; 0: 4 */
    int32_t exact;   /* compare with every vector: the whole file is read, for each query */
    int32_t threads; /* 0: one per core, for batches; 1: the calling thread */
    ev_filter *filter;
} ev_disk_search_params;

/* As ev_search, by float64 distances to the vectors in the file: what is returned is these, rounded. With a filter that
 * allows few, these are read and compared.
 * Errors: EV_E_PARAM, EV_E_NOT_FINITE, EV_E_ZERO, EV_E_IO, EV_E_CORRUPT, EV_E_NOMEM, EV_E_STOPPED, EV_E_CLOSED. */
int ev_disk_search(ev_disk *d, int64_t n, const float *queries, const ev_disk_search_params *params, int64_t *out_ids,
                   float *out_distances);
/* As ev_get.
 * Errors: EV_E_NO_ID, EV_E_IO, EV_E_CORRUPT, EV_E_NOMEM, EV_E_STOPPED, EV_E_CLOSED. */
int ev_disk_get(ev_disk *d, int64_t n, const int64_t *ids, float *out);
/* *held: 1 or 0. Errors: EV_E_IO, EV_E_CORRUPT, EV_E_CLOSED. */
int ev_disk_contains(ev_disk *d, int64_t id, int32_t *held);
/* As ev_ids, in ascending order. Errors: EV_E_PARAM, EV_E_IO, EV_E_CORRUPT, EV_E_CLOSED. */
int ev_disk_ids(ev_disk *d, int64_t *cursor, int64_t n, int64_t *ids, int64_t *written);

typedef struct {
    int64_t live, nodes, edges, duplicates; /* vectors; blocks; links; ids that share another's block */
    int64_t min_degree, max_degree;         /* of nodes that were linked */
} ev_disk_report;
/* Read and verify every byte, and that ids and blocks name each other.
 * Errors: EV_E_CORRUPT, EV_E_IO, EV_E_NOMEM, EV_E_STOPPED, EV_E_CLOSED. */
int ev_disk_check(ev_disk *d, ev_disk_report *out);

typedef struct {
    int32_t dim, metric, ef, degree; /* degree: links of a node, at most */
    int64_t live, nodes, block_bytes, file_bytes;
    /* since it was opened: searches; reads of the file and what they read; rounds of reads; distances estimated */
    int64_t queries, reads, bytes_read, rounds, estimates;
    int64_t held, peak; /* bytes of memory, now and at most */
} ev_disk_stats;
void ev_disk_get_stats(ev_disk *d, ev_disk_stats *out);

/* ---- stopping -------------------------------------------------------------------------------- */

/* Asked by calls of the thread that sets it while they run long, about twenty times a second; returns 0 to stop the
 * call, which ends with EV_E_STOPPED and everything as before. For Ctrl-C and the like: searches too ask it. It may do
 * what an ev_progress may. NULL: nobody is asked. */
typedef int (*ev_interrupt)(void *user);
void ev_set_interrupt(ev_interrupt asked, void *user);

/* ---- SIMD ------------------------------------------------------------------------------------ */

/* The path in use ("scalar", "avx2", "avx512", "neon", "wasm128"), decided once by CPUID and XGETBV or by EDGEVEC_SIMD.
 * NULL when EDGEVEC_SIMD asks for one that is unavailable: then ev_new refuses. */
const char *ev_simd_active(void);
/* Space-separated names: what this build holds, what this machine can run; and what EDGEVEC_SIMD says ("" when unset).
 */
const char *ev_simd_compiled(void);
const char *ev_simd_available(void);
const char *ev_simd_forced(void);
/* Compare every kernel of the active path with the scalar one on made-up rows; 0 when all agree, else the number of the
 * first that does not, or -1 when there is no path or no memory. For machines where no test suite can be run. */
int ev_selftest(void);

/* ---- adding in two phases -------------------------------------------------------------------- */

/* For whoever keeps an index in step with a database: the work first, and what searches see of it changes when the
 * other side has committed, at once. Until then searches go on, in the same steps as beside ev_add, and see what was
 * there. One at a time: whoever stages also commits or drops.
 *
 * ev_stage: as ev_add, but that the rows are no results yet. ids: not NULL. Any number of calls; the last row staged
 * under an id is the one that counts. Each is all or nothing, and leaves what was staged before it. Meanwhile ev_add
 * and ev_remove do what they always do, ev_compact is EV_E_BUSY, dead rows are not cleaned up, and staged rows count as
 * dead: in ev_stats, in ev_check, and in files, so that who loads one finds them removed.
 * Errors: as ev_add. */
int ev_stage(ev_index *ix, int64_t n, const float *vectors, const int64_t *ids, int32_t threads, ev_progress progress,
             void *user);
/* In one step: forget those of the n ids that are held, then show all that is staged, in place of what is held under
 * the same ids. Needs no memory and asks nobody; about a tenth of a microsecond a row. Nothing staged: the ids alone.
 * Errors: EV_E_PARAM, EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_stage_commit(ev_index *ix, int64_t n, const int64_t *removed_ids);
/* Forget what is staged.
 * Errors: EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_stage_drop(ev_index *ix);
/* After ev_stage_commit: link what searches would not find and lead links around what was removed, as ev_add and
 * ev_remove do at their end, while they go on. A service: a stop or want of memory leaves it to the next call.
 * Errors: EV_E_REENTRANT, EV_E_FORKED, EV_E_CLOSED. */
int ev_stage_settle(ev_index *ix);

/* ---- texts ----------------------------------------------------------------------------------- */

/* Read a JSON array of `count` numbers at the start of a text of `length` bytes: each rounded to double, and that to
 * float. Returns the bytes read, up to and with the closing bracket. 0 for anything else, for numbers beyond float, and
 * for the few that take more digits than these to tell which way they round: a reader of all of JSON says more. */
int64_t ev_read_numbers(const char *text, int64_t length, int64_t count, float *out);

/* cdef-end */

/* Replace malloc and free, for the whole process, before the first index is made. alloc returns memory aligned to
 * `align` (a power of two, at least sizeof(void *)) or NULL; release is given the size that alloc was given. NULL
 * restores the system's. */
typedef struct {
    void *(*alloc)(void *user, size_t size, size_t align);
    void (*release)(void *user, void *memory, size_t size, size_t align);
    void *user;
} ev_allocator;
void ev_set_allocator(const ev_allocator *allocator);

#ifdef __cplusplus
}
#endif
#endif
