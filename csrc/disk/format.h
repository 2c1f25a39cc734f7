/* The file of a graph on disk, format version 1.
 *
 *   header      256 bytes: ev__disk_header below
 *   center      dim floats, from which queries and entries are coded
 *   entries     codes of the nodes at which walks begin: their numbers, uint32; their factors, two floats each; codes
 *   directory   int64, the first id of each page of `ids`
 *   ids         pages: all ids, ascending, with their nodes. The place of an id among them is its rank
 *   copies      pages: of each node with several ids, those but the first: the ids and their ranks
 *   blocks      a block for each node, in the order of their numbers: as many whole ones as a page of 4,096 bytes
 *               holds; larger ones begin with a page each
 *
 * Sections begin at multiples of 64 bytes, from `ids` on of 4,096, and are filled up with zeros. Numbers are
 * little-endian, floats IEEE 754.
 *
 * A block is all that a walk needs of a node, so that a step takes one read:
 *
 *   ev__disk_block | vector, dim floats | `degree` links, uint32 | `degree` factors, two floats each |
 *   `degree` squared lengths, float | `degree` codes
 *
 * A link's code is that of the neighbor's vector minus the node's own (as in SymphonyQG, Gou and others, 2025): signs
 * of 1 bit (RaBitQ), up to 32 dimensions 8 bits. So it tells apart what lies close together, wherever that is. With the
 * query's code around the center, product the integer product of both, and D the node's distance from the query,
 * D + gain * (bias * factor.bias - scale * factor.scale * product) estimates the neighbor's distance. Where the query
 * is so near the node that its own code around the center is too coarse, it is coded around the node, and the squared
 * length of what was coded stands in the place of factor.bias.
 *
 * Equal vectors that share a node of the index are one node here, with several ids. Vectors that only have its code are
 * nodes of their own without links, to which `variant` leads, one after the other. A node that was removed from the
 * index and still leads to others has no id.
 *
 * Header, center, entries and directory are verified when the file is opened, a page or block when it is first read and
 * whenever it comes from the disk: each has a CRC-32C and its own number. */
#ifndef EV_DISK_FORMAT_H
#define EV_DISK_FORMAT_H

#include "file/format.h"

#define EV_DISK_MAGIC EV_FILE_DISK_MAGIC
#define EV_DISK_VERSION 1
#define EV_DISK_PAGE 4096
#define EV_DISK_IDS 340 /* of a page */
#define EV_DISK_MOST_DEGREE (2 * EV_MAX_M)
#define EV_DISK_MOST_ENTRIES 8192

typedef struct {
    uint64_t offset, bytes; /* without the filling */
    uint32_t crc, zero;     /* crc: 0 where its pages have their own */
} ev__disk_section;

/* In this order in the header and in the file. */
enum {
    EV_DISK_CENTER,
    EV_DISK_ENTRIES,
    EV_DISK_DIRECTORY,
    EV_DISK_ID_PAGES,
    EV_DISK_COPIES,
    EV_DISK_BLOCKS,
    EV_DISK_SECTIONS
};

typedef struct {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t file_bytes;
    int32_t dim, metric, ef, walk; /* ef: of the index, for searches that name none; walk: EV_WALK_*, of the index */
    uint32_t degree, nodes;
    uint64_t seed; /* of the rotation */
    int64_t live;
    uint64_t copies;
    uint32_t block_bytes, entries;
    ev__disk_section section[EV_DISK_SECTIONS];
    uint8_t zeros[28];
    uint32_t crc; /* of all bytes before it */
} ev__disk_header;

typedef struct {
    int64_t ids[EV_DISK_IDS];
    uint32_t numbers[EV_DISK_IDS]; /* of ids: their nodes; of copies: their ranks. Behind the last one zeros */
    uint32_t at, zeros[2], crc;    /* at: which page of its section it is */
} ev__disk_ids;

typedef struct {
    uint32_t crc;                     /* of all bytes behind it */
    uint32_t number, degree, variant; /* degree: links in use; variant: EV_NONE for none */
    int64_t id;
    uint32_t rank, copies; /* rank EV_NONE: no id */
    uint64_t copies_at;    /* counted in ids of the section */
} ev__disk_block;

_Static_assert(sizeof(ev__disk_header) == 256, "the header has no padding");
_Static_assert(sizeof(ev__disk_ids) == EV_DISK_PAGE, "a page of ids has no padding");
_Static_assert(sizeof(ev__disk_block) == 40, "the head of a block has no padding");

/* Where the parts of a block lie. */
typedef struct {
    size_t links, factors, lengths, codes, bytes; /* behind the vector; bytes: in all */
    uint32_t in_page;                             /* blocks of a page; 0: a block has pages of its own */
} ev__disk_geometry;

static inline ev__disk_geometry ev__disk_geometry_of(const ev__quantizer *q, uint32_t degree) {
    ev__disk_geometry g;
    g.links = sizeof(ev__disk_block) + q->dim * sizeof(float);
    g.factors = g.links + degree * sizeof(uint32_t);
    g.lengths = g.factors + degree * sizeof(ev__factor);
    g.codes = g.lengths + degree * sizeof(float);
    g.bytes = ev__round_up(g.codes + degree * q->code_bytes, 8);
    g.in_page = g.bytes <= EV_DISK_PAGE ? (uint32_t)(EV_DISK_PAGE / g.bytes) : 0;
    return g;
}

/* Of a block, from the first. */
static inline uint64_t ev__disk_place(const ev__disk_geometry *g, uint32_t number) {
    if (!g->in_page) return (uint64_t)number * ev__round_up(g->bytes, EV_DISK_PAGE);
    return (uint64_t)(number / g->in_page) * EV_DISK_PAGE + number % g->in_page * g->bytes;
}

static inline uint64_t ev__disk_pages(uint64_t ids) { return (ids + EV_DISK_IDS - 1) / EV_DISK_IDS; }

/* Sections, block_bytes and file_bytes, from all that comes before. */
void ev__disk_lay_out(const ev__quantizer *q, ev__disk_header *h);

#endif
