/* Rows that were staged: taken in as dead nodes and dead duplicates, which lead on and are no results, until ev_stage
 * has them shown all at once or forgotten. Whoever goes by states alone, as ev_save does, takes them for removed. */
#ifndef EV_STAGE_H
#define EV_STAGE_H

#include "index/index.h"

struct ev__stage {
    uint32_t *slots; /* in the order they came in */
    int64_t count, room;
};

/* ---- staged_rows.c --------------------------------------------------------------------------- */

/* Room for n rows more: in the table of ids; and in the list, where they are to be `listed`. */
int ev__stage_reserve(ev_index *ix, int64_t n, bool listed);
void ev__stage_clear(struct ev__stage *stage);
/* Linked rows: what ev_add shows at once is as dead until then too. */
void ev__rows_hide(ev_index *ix, const uint32_t *slots, int64_t n);
void ev__rows_show(ev_index *ix, const uint32_t *slots, int64_t n);
/* The same of what is staged, but for its ids: while all that is held is linked anew. */
void ev__stage_set_visible(ev_index *ix, bool alive);

/* ---- add.c ----------------------------------------------------------------------------------- */

int ev__add(ev_index *ix, int64_t n, const float *vectors, const int64_t *ids, int64_t *out_ids, int32_t threads,
            ev_progress progress, void *user, bool staged);
/* New rows are not to be shown: no later one becomes a duplicate of theirs. */
void ev__rows_forget(ev_index *ix, const uint32_t *slots, int64_t n);
#endif
