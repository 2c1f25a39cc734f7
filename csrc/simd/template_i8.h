/* Dot product of signed bytes in [-127, 127]. The including file has defined
 *   I8_NAME(kernel)
 *   VI, VI_BYTES           a vector of bytes
 *   VS                     a vector of 32-bit sums
 *   vi_load(p)
 *   vi_head(p, k)          the k < VI_BYTES bytes at p, then zeros; reads nothing else
 *   vs_zero() vs_add(a, b) vs_sum(s)
 *   I8_DOT(s, q, r)        s plus the products of q and r
 *   I8_EXCESS(q, n)        what I8_DOT makes too much of over the whole query, whatever the row; 0 for most
 *
 * Every order of summing integers gives the same bits, so the forms need not agree on one. */

EV_STEP int32_t I8_NAME(one)(const int8_t *q, const int8_t *r, size_t n) {
    VS even = vs_zero(), odd = vs_zero();
    size_t i = 0;
    for (; i + 2 * VI_BYTES <= n; i += 2 * VI_BYTES) {
        even = I8_DOT(even, vi_load(q + i), vi_load(r + i));
        odd = I8_DOT(odd, vi_load(q + i + VI_BYTES), vi_load(r + i + VI_BYTES));
    }
    if (i + VI_BYTES <= n) {
        even = I8_DOT(even, vi_load(q + i), vi_load(r + i));
        i += VI_BYTES;
    }
    if (i < n) odd = I8_DOT(odd, vi_head(q + i, n - i), vi_head(r + i, n - i));
    return vs_sum(vs_add(even, odd));
}

EV_STEP void I8_NAME(four)(const int8_t *query, const void *const *rows, size_t n, int32_t excess, int32_t *out) {
    const int8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    VS sa = vs_zero(), sb = vs_zero(), sc = vs_zero(), sd = vs_zero();
    size_t i = 0;
    for (; i + VI_BYTES <= n; i += VI_BYTES) {
        VI q = vi_load(query + i);
        sa = I8_DOT(sa, q, vi_load(a + i));
        sb = I8_DOT(sb, q, vi_load(b + i));
        sc = I8_DOT(sc, q, vi_load(c + i));
        sd = I8_DOT(sd, q, vi_load(d + i));
    }
    if (i < n) {
        VI q = vi_head(query + i, n - i);
        sa = I8_DOT(sa, q, vi_head(a + i, n - i));
        sb = I8_DOT(sb, q, vi_head(b + i, n - i));
        sc = I8_DOT(sc, q, vi_head(c + i, n - i));
        sd = I8_DOT(sd, q, vi_head(d + i, n - i));
    }
    out[0] = vs_sum(sa) - excess;
    out[1] = vs_sum(sb) - excess;
    out[2] = vs_sum(sc) - excess;
    out[3] = vs_sum(sd) - excess;
}

EV_KERNEL void I8_NAME(dot_i8)(const void *from, const ev__rows *all, size_t m, size_t n, void *into) {
    const int8_t *query = from;
    const void *const *rows = all->at;
    int32_t excess = I8_EXCESS(query, n), *out = into;
    size_t i = 0;
    size_t ahead = ev__rows_ahead(n);
    ev__prefetch(rows, 0, ahead, m, n);
    for (; i + 4 <= m; i += 4) {
        ev__prefetch(rows, i + ahead, i + ahead + 4, m, n);
        I8_NAME(four)(query, rows + i, n, excess, out + i);
    }
    for (; i < m; i++) out[i] = I8_NAME(one)(query, rows[i], n) - excess;
}
