/* What an ev_add must be able to put back when it is stopped after it has learned a new center. Where codes are all
 * that is kept of the vectors, encoding them anew and back again would move them; so they are copied first. */
#include "index/index.h"

int ev__old_codes_keep(ev__old_codes *old, const ev_index *ix) {
    const ev__store *store = &ix->graph.store;
    const ev__quantizer *q = &store->quantizer;
    size_t slots = ev__slots(store), prefilter = store->columns.prefilter.count * store->columns.prefilter.item;
    if (q->keep_vectors || old->slots || slots == 0) return EV_OK;
    *old = (ev__old_codes){.slots = slots,
                           .code_bytes = q->code_bytes,
                           .center_bytes = q->dim * sizeof(float),
                           .prefilter_bytes = prefilter,
                           .codes = ev__alloc(slots * q->code_bytes, EV_LINE),
                           .factors = ev__alloc(slots * sizeof(ev__factor), EV_LINE),
                           .center = ev__alloc(q->dim * sizeof(float), EV_LINE),
                           .prefilter = prefilter ? ev__alloc(prefilter, EV_LINE) : NULL,
                           .walk = q->walk,
                           .trainings = ix->trainings,
                           .trained_on = ix->trained_on,
                           .unchecked = ix->unchecked,
                           .unfit = ix->unfit};
    if (!old->codes || !old->factors || !old->center || (prefilter && !old->prefilter)) {
        ev__old_codes_free(old);
        return ev__fail(EV_E_NOMEM, "a copy of the codes of %zu slots", slots);
    }
    for (size_t slot = 0; slot < slots; slot++)
        memcpy(old->codes + slot * q->code_bytes, ev__block(store, (uint32_t)slot), q->code_bytes);
    memcpy(old->factors, store->columns.factors.at, slots * sizeof(ev__factor));
    memcpy(old->center, q->center, old->center_bytes);
    if (prefilter) memcpy(old->prefilter, store->columns.prefilter.at, prefilter);
    return EV_OK;
}

void ev__old_codes_put_back(const ev__old_codes *old, ev_index *ix) {
    ev__store *store = &ix->graph.store;
    if (!old->slots) return;
    for (size_t slot = 0; slot < old->slots; slot++)
        memcpy(ev__block(store, (uint32_t)slot), old->codes + slot * old->code_bytes, old->code_bytes);
    memcpy(store->columns.factors.at, old->factors, old->slots * sizeof(ev__factor));
    memcpy(store->quantizer.center, old->center, old->center_bytes);
    if (old->prefilter) memcpy(store->columns.prefilter.at, old->prefilter, old->prefilter_bytes);
    ev__duplicates_free(store); /* it goes by codes */
    store->quantizer.walk = old->walk;
    ix->trainings = old->trainings;
    ix->trained_on = old->trained_on;
    ix->unchecked = old->unchecked;
    ix->unfit = old->unfit;
}

void ev__old_codes_free(ev__old_codes *old) {
    ev__release(old->codes, old->slots * old->code_bytes, EV_LINE);
    ev__release(old->factors, old->slots * sizeof(ev__factor), EV_LINE);
    ev__release(old->center, old->center_bytes, EV_LINE);
    ev__release(old->prefilter, old->prefilter_bytes, EV_LINE);
    *old = (ev__old_codes){0};
}
