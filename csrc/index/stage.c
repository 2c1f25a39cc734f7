/* ev_stage and what ends it. Most of an ev_add's work goes on beside searches, which see the index as before; here it
 * is left at that, for several calls and for as long as the caller likes. The last step touches some bytes a row. */
#include "index/stage.h"

int ev_stage(ev_index *ix, int64_t n, const float *vectors, const int64_t *ids, int32_t threads, ev_progress progress,
             void *user) {
    if (n > 0 && !ids) return ev__fail(EV_E_PARAM, "rows are staged under ids that the caller gives");
    return ev__add(ix, n, vectors, ids, NULL, threads, progress, user, true);
}

static int enter(ev_index *ix, ev__call *call) {
    int rc = ev__complete(ix, EV_LACKS_NOTHING);
    return rc == EV_OK ? ev__enter(ix, EV_WRITE, call) : rc;
}

int ev_stage_commit(ev_index *ix, int64_t n, const int64_t *removed_ids) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld ids", (long long)n);
    ev__call call;
    int rc = enter(ix, &call);
    if (rc != EV_OK) return rc;
    ix->unsettled.removed += ev__remove_ids(ix, n, removed_ids);
    if (ix->stage) {
        ev__rows_show(ix, ix->stage->slots, ix->stage->count);
        ix->unsettled.shown += ix->stage->count;
        ev__stage_clear(ix->stage);
    }
    ev__leave(&call);
    return ev__ok();
}

int ev_stage_drop(ev_index *ix) {
    ev__call call;
    int rc = enter(ix, &call);
    if (rc != EV_OK) return rc;
    if (ev__staged(ix)) {
        ev__watch watch;
        ev__watch_begin(&watch, NULL, NULL, 0);
        ev__rows_forget(ix, ix->stage->slots, ix->stage->count);
        ev__stage_clear(ix->stage);
        ev__links_lost(ix, &call);
        ev__watch_end(&watch);
    }
    ev__leave(&call);
    return ev__ok();
}

int ev_stage_settle(ev_index *ix) {
    ev__call call;
    int rc = enter(ix, &call);
    if (rc != EV_OK) return rc;
    int64_t shown = ix->unsettled.shown, rows = shown + ix->unsettled.removed;
    if (rows) {
        ev__watch watch;
        ev__watch_begin(&watch, NULL, NULL, ix->graph.store.live);
        if (shown)
            ev__repair_after_adding(ix, rows, 0, &call);
        else
            ev__repair_after_removing(ix, rows, &call);
        ix->unsettled.shown = ix->unsettled.removed = 0;
        if (!ev__staged(ix)) ev__stage_free(ix);
        ev__watch_end(&watch);
    }
    ev__leave(&call);
    return ev__ok();
}
