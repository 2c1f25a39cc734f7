/* The index file, format versions 1 to 3.
 *
 * WHAT LIES WHERE
 *
 *   header     640 bytes: ev__file_header below
 *   sections   one after the other in the order of the header's table, each filled up with zeros to 64 bytes
 *
 * All numbers are little-endian, floats are IEEE 754, and there is nothing in the file but what is described here: no
 * pointers, no gaps, no bytes that say nothing, nothing behind the last section. So equal indexes are equal files, and
 * a mapped file is used in place.
 *
 * A section holds one column of the store (ev__columns in store/store.h), an item for each slot:
 *
 *   blocks     code (or float vector, when unquantized) | 2 M links of level 0, as slots, ended by 0xFFFFFFFF |
 *              zeros to 64 bytes
 *   factors    two floats, scale and bias of the code; quantized only
 *   vectors    quantized with keep_vectors only. Version 1: dim floats. Version 2: dim int16, each with the code's
 *              integer one of 24 bits: coordinate = center + scale / 65536 * (65536 * integer of the code + this)
 *   ids        int64
 *   state      uint8, free, node, duplicate, dead node or dead duplicate; a bit marks duplicates whose vectors are
 *              equal too
 *   level      uint8, the highest level that a node in this slot is on
 *   upper_at   uint32, where in `upper` the links of the slot's levels 1, 2, .. begin, counted in links
 *   upper      uint32, the links of all upper levels, M per slot and level, in the order of the slots
 *   chain      uint32, the next duplicate of the same node or 0xFFFFFFFF; only where there ever was a duplicate
 *   centre     dim floats, the middle that codes are taken from; quantized only. Not a column: one for the index
 *
 * A section without bytes is left out. What can be derived is not stored: the rotation comes from the seed, the id
 * table from ids and states, the list of free slots from the states.
 *
 * HOW IT IS PROTECTED
 *
 * Every section's CRC-32C is in the table, the header's own is its last four bytes, and the filling is checked to be
 * zero: no byte of the file can change unnoticed. A file made with intent can have right checksums, so whatever would
 * lead a search out of bounds or round in circles is looked for too.
 *
 * HOW IT MAY CHANGE
 *
 * An index is written in the lowest version that can hold it. Version 1 is for keep_vectors 0 and 1, version 2 for
 * keep_vectors 2 (EV_VECTORS_SQ24) on 8-bit codes, and they differ in nothing else. Version 3 is for both where
 * searches do not go by the codes, as the header's `walk` says, which is 0 in earlier ones.
 *
 * Any version begins with magic, version, header_bytes and file_bytes, and ends its header with a CRC-32C of all header
 * bytes before it. That is enough to tell a newer file from a damaged one. Everything else belongs to the version. */
#ifndef EV_FORMAT_H
#define EV_FORMAT_H

#include "index/index.h"

#define EV_FILE_VERSION 3 /* the newest */
#define EV_FILE_SECTIONS (EV_FILE_COLUMNS + 1)
#define EV_FILE_NAME 16
#define EV_FILE_MOST_HEADER 4096 /* of any version */

/* As PNG's: no text file begins like it, and a transfer that strips bit 7 or turns line ends breaks it. */
#define EV_FILE_MAGIC "\x89\x45VX\r\n\x1a\n"

#define EV_FILE_DISK_MAGIC "\x89\x45VD\r\n\x1a\n" /* of a graph on disk, another kind of file */
#define EV_FILE_SQLITE "SQLite format 3"          /* how collections begin */

typedef struct {
    char name[EV_FILE_NAME]; /* filled up with zeros */
    uint64_t offset, bytes;  /* from the file's start; without the filling */
    uint32_t crc, zero;
} ev__file_section;

typedef struct {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t file_bytes;
    uint32_t sections; /* rows of the table in use; the others are zero */

    int32_t dim, metric, quantization, M, ef_construction, ef, keep_vectors; /* as in ev_params */
    uint64_t seed;

    uint64_t slots;
    int64_t live, dead, next_id; /* as in ev_index, from here on */
    uint32_t entry;
    int32_t trainings;
    int64_t trained_on, unchecked, unrepaired;

    ev__file_section section[EV_FILE_SECTIONS];
    uint32_t walk; /* EV_WALK_* */
    uint8_t zeros[104];
    uint32_t crc; /* of all bytes before it */
} ev__file_header;

_Static_assert(sizeof(ev__file_section) == 40, "a row of the table has no padding");
_Static_assert(sizeof(ev__file_header) == 640 && sizeof(ev__file_header) % EV_LINE == 0, "the header has no padding");

/* Is an index read from a file one that cannot lead a search astray: every link, chain and count as the library would
 * have made them? EV_E_CORRUPT names the section where it is not. (verify.c) */
int ev__verify(const ev_index *ix);
/* Of that what the tables of ids and free slots are made from. */
int ev__verify_ids(const ev_index *ix);

/* The version that an index is written in. */
static inline uint32_t ev__file_version(const ev_index *ix) {
    return ix->graph.store.quantizer.walk != EV_WALK_CODES ? 3 : ix->graph.store.quantizer.codec->refined ? 2 : 1;
}
static inline uint64_t ev__file_padded(uint64_t bytes) { return (bytes + EV_LINE - 1) / EV_LINE * EV_LINE; }

#endif
