/* Dot product and squared distance of floats. The including file has defined
 *   VF, VF_LANES           a vector of floats
 *   VF_SUMS                4, or 2 where spilling costs more than it hides
 *   vf_zero() vf_load(p)
 *   vf_head(p, k)          the k < VF_LANES floats at p, then zeros; reads nothing else
 *   vf_add(a, b) vf_sub(a, b) vf_muladd(a, b, s)
 *   vf_sum(v)              of the lanes
 *
 * The sums run side by side to hide the latency of the additions. Four rows at a time share the loads of the query and
 * keep more of the memory busy, which mostly outweighs that 16-register machines spill some sums; each row is summed in
 * the order in which it is summed alone. */

typedef struct {
    VF s0, s1, s2, s3;
} f32_sums;

EV_STEP VF f32_term(VF sum, VF q, VF r, int l2) {
    if (!l2) return vf_muladd(q, r, sum);
    VF d = vf_sub(q, r);
    return vf_muladd(d, d, sum);
}

EV_STEP f32_sums f32_start(void) {
    f32_sums s = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    return s;
}

EV_STEP void f32_step(f32_sums *s, const float *q, const float *r, int l2) {
    s->s0 = f32_term(s->s0, vf_load(q), vf_load(r), l2);
    s->s1 = f32_term(s->s1, vf_load(q + VF_LANES), vf_load(r + VF_LANES), l2);
    if (VF_SUMS == 2) return;
    s->s2 = f32_term(s->s2, vf_load(q + 2 * VF_LANES), vf_load(r + 2 * VF_LANES), l2);
    s->s3 = f32_term(s->s3, vf_load(q + 3 * VF_LANES), vf_load(r + 3 * VF_LANES), l2);
}

EV_STEP float f32_finish(f32_sums s, const float *q, const float *r, size_t left, int l2) {
    for (; left >= VF_LANES; left -= VF_LANES, q += VF_LANES, r += VF_LANES)
        s.s0 = f32_term(s.s0, vf_load(q), vf_load(r), l2);
    if (left) s.s1 = f32_term(s.s1, vf_head(q, left), vf_head(r, left), l2);
    return vf_sum(vf_add(vf_add(s.s0, s.s1), vf_add(s.s2, s.s3)));
}

EV_STEP float f32_one(const float *q, const float *r, size_t n, int l2) {
    size_t i = 0;
    f32_sums s = f32_start();
    for (; i + VF_SUMS * VF_LANES <= n; i += VF_SUMS * VF_LANES) f32_step(&s, q + i, r + i, l2);
    return f32_finish(s, q + i, r + i, n - i, l2);
}

EV_STEP void f32_four(const float *q, const void *const *rows, size_t n, int l2, float *out) {
    const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    size_t i = 0;
    f32_sums sa = f32_start(), sb = f32_start(), sc = f32_start(), sd = f32_start();
    for (; i + VF_SUMS * VF_LANES <= n; i += VF_SUMS * VF_LANES) {
        f32_step(&sa, q + i, a + i, l2);
        f32_step(&sb, q + i, b + i, l2);
        f32_step(&sc, q + i, c + i, l2);
        f32_step(&sd, q + i, d + i, l2);
    }
    out[0] = f32_finish(sa, q + i, a + i, n - i, l2);
    out[1] = f32_finish(sb, q + i, b + i, n - i, l2);
    out[2] = f32_finish(sc, q + i, c + i, n - i, l2);
    out[3] = f32_finish(sd, q + i, d + i, n - i, l2);
}

EV_STEP void f32_rows(const float *q, const void *const *rows, size_t m, size_t n, int l2, float *out) {
    size_t i = 0;
    size_t ahead = ev__rows_ahead(n * sizeof *q);
    ev__prefetch(rows, 0, ahead, m, n * sizeof *q);
    for (; i + 4 <= m; i += 4) {
        ev__prefetch(rows, i + ahead, i + ahead + 4, m, n * sizeof *q);
        f32_four(q, rows + i, n, l2, out + i);
    }
    for (; i < m; i++) out[i] = f32_one(q, rows[i], n, l2);
}

EV_KERNEL void EV_NAME(dot_f32)(const void *query, const ev__rows *rows, size_t m, size_t n, void *out) {
    f32_rows(query, rows->at, m, n, 0, out);
}

EV_KERNEL void EV_NAME(l2_f32)(const void *query, const ev__rows *rows, size_t m, size_t n, void *out) {
    f32_rows(query, rows->at, m, n, 1, out);
}
