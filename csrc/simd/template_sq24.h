/* Products and distances of 24-bit vectors: element i is the integer 65536 * code[i] + residual[i], which a float holds
 * exactly. Comes after template_f32.h, for which the including file has defined what that names, and here also
 *   vf_splat(x)
 *   vf_sq24(code, residual, low, high)           2 VF_LANES elements at code and residual, as floats
 *   vf_sq24_head(code, residual, k, low, high)   the k < 2 VF_LANES elements there, then zeros; reads nothing else
 *
 * One row at a time: four side by side, as floats have it, were slower wherever rows come from memory. */

EV_STEP VF sq24_term(VF sum, VF q, VF element, VF minus_step, int l2) {
    if (!l2) return vf_muladd(q, element, sum);
    VF d = vf_muladd(minus_step, element, q);
    return vf_muladd(d, d, sum);
}

EV_STEP void sq24_step(VF *low_sum, VF *high_sum, const float *q, const int8_t *code, const int16_t *residual,
                       VF minus_step, int l2) {
    VF low, high;
    vf_sq24(code, residual, &low, &high);
    *low_sum = sq24_term(*low_sum, vf_load(q), low, minus_step, l2);
    *high_sum = sq24_term(*high_sum, vf_load(q + VF_LANES), high, minus_step, l2);
}

EV_STEP void sq24_rest(f32_sums *s, const float *q, const int8_t *code, const int16_t *residual, size_t k,
                       VF minus_step, int l2) {
    VF low, high, q_low, q_high = vf_zero();
    vf_sq24_head(code, residual, k, &low, &high);
    if (k >= VF_LANES) {
        q_low = vf_load(q);
        if (k > VF_LANES) q_high = vf_head(q + VF_LANES, k - VF_LANES);
    } else {
        q_low = vf_head(q, k);
    }
    s->s0 = sq24_term(s->s0, q_low, low, minus_step, l2);
    s->s1 = sq24_term(s->s1, q_high, high, minus_step, l2);
}

EV_STEP float sq24_one(const float *q, const int8_t *code, const int16_t *residual, float step, size_t n, int l2) {
    const size_t two = 2 * VF_LANES;
    VF minus_step = vf_splat(-step);
    f32_sums s = f32_start();
    size_t i = 0;
    for (; i + 2 * two <= n; i += 2 * two) {
        sq24_step(&s.s0, &s.s1, q + i, code + i, residual + i, minus_step, l2);
        sq24_step(&s.s2, &s.s3, q + i + two, code + i + two, residual + i + two, minus_step, l2);
    }
    if (i + two <= n) {
        sq24_step(&s.s0, &s.s1, q + i, code + i, residual + i, minus_step, l2);
        i += two;
    }
    if (i < n) sq24_rest(&s, q + i, code + i, residual + i, n - i, minus_step, l2);
    return vf_sum(vf_add(vf_add(s.s0, s.s1), vf_add(s.s2, s.s3)));
}

EV_STEP void sq24_rows(const float *query, const ev__rows *rows, size_t m, size_t n, int l2, float *out) {
    const void *const *codes = rows->at, *const *residuals = rows->residuals;
    size_t ahead = ev__rows_ahead(n + n * sizeof(int16_t));
    ev__prefetch(codes, 0, ahead, m, n);
    ev__prefetch(residuals, 0, ahead, m, n * sizeof(int16_t));
    for (size_t i = 0; i < m; i++) {
        ev__prefetch(codes, i + ahead, i + ahead + 1, m, n);
        ev__prefetch(residuals, i + ahead, i + ahead + 1, m, n * sizeof(int16_t));
        out[i] = sq24_one(query, codes[i], residuals[i], l2 ? rows->steps[i] : 0, n, l2);
    }
}

EV_KERNEL void EV_NAME(dot_sq24)(const void *query, const ev__rows *rows, size_t m, size_t n, void *out) {
    sq24_rows(query, rows, m, n, 0, out);
}

EV_KERNEL void EV_NAME(l2_sq24)(const void *query, const ev__rows *rows, size_t m, size_t n, void *out) {
    sq24_rows(query, rows, m, n, 1, out);
}
