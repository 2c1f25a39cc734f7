/* The order that ev_compact gives the slots, and what puts them into it: beside what is held, or in its place. */
#ifndef EV_LAYOUT_H
#define EV_LAYOUT_H

#include "index/index.h"

typedef struct {
    ev_index *ix;
    uint32_t *order; /* new slot -> old slot */
    uint32_t *place; /* old slot -> new slot */
    size_t slots, kept;
} ev__layout;

/* Free what is made again when it is needed; nobody searches meanwhile. */
void ev__layout_spare(ev_index *ix);
/* Links of the upper levels, in all. */
size_t ev__layout_upper_count(const ev__layout *l);
/* Those in the new order, into an array with room for them. False: stopped. */
bool ev__layout_upper(const ev__layout *l, ev__array *to);
/* In columns that are in the new order: where those lie, the links of level 0, and duplicates. False: stopped. */
bool ev__layout_numbers(const ev__layout *l, ev__columns *to, bool may_stop);

/* ---- in_place.c ------------------------------------------------------------------------------ */

/* Where there is no memory for a second copy: by some bytes a slot. Nobody searches meanwhile. On error all is as
 * before; once slots are moved it cannot be stopped. */
int ev__layout_in_place(ev__layout *l);

#endif
