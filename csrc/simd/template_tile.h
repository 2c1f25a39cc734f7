/* Products of many queries with a tile of rows of bytes, as in a blocked product of matrices. The including file has
 * defined
 *   VT, VT_LANES               a vector of 32-bit sums, one for each row
 *   TILE_WIDE                  vectors of rows that are summed side by side, as registers allow
 *   TILE_NAME(kernel)
 *   vt_zero() vt_load(p) vt_store(p, v) vt_sub(a, b) vt_splat(x) vt_xor(a, b)
 *   TILE_DOT(sum, rows, query) sum plus the products of 4 unsigned bytes of each row with 4 signed ones
 *   head32(p, k)               the k < 32 bytes at p, then zeros; reads nothing else
 * and, with VT, what template_i8.h names: VI_BYTES, vi_head, vs_add, vs_sum
 *
 * Rows become unsigned by adding 128, which makes a product too large by 128 times the sum of the query. They are laid
 * out anew, once for all queries: 4 bytes of each row side by side, so that sums of rows lie in lanes and are never
 * added across. */

#ifndef TILE_QUERIES
#define TILE_QUERIES 4
#define TILE_ANEW 24 /* queries for which it pays to lay rows out anew */
#define TILE_ROWS ((size_t)(TILE_WIDE * VT_LANES))
#endif

/* From 32 bytes of each of 8 rows to 8 columns of 4 bytes of each. */
EV_STEP void TILE_NAME(tile_turn)(__m256i v[8]) {
    __m256i t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
}

/* 8 rows of n bytes into a run of columns, `step` bytes from one to the next. */
EV_STEP void TILE_NAME(tile_pack)(const void *const rows[8], size_t n, uint8_t *out, size_t step) {
    for (size_t i = 0; i < n; i += 32) {
        size_t left = n - i, columns = left < 32 ? (left + 3) / 4 : 8;
        __m256i v[8];
        for (int r = 0; r < 8; r++) {
            const int8_t *p = (const int8_t *)rows[r] + i;
            v[r] = left < 32 ? head32(p, left) : _mm256_loadu_si256((const __m256i *)p);
            v[r] = _mm256_xor_si256(v[r], _mm256_set1_epi8(-128));
        }
        TILE_NAME(tile_turn)(v);
        for (size_t c = 0; c < columns; c++) _mm256_storeu_si256((__m256i *)(out + (i / 4 + c) * step), v[c]);
    }
}

/* TILE_QUERIES queries against TILE_ROWS rows, into `out` + 64 for each query. */
EV_STEP void TILE_NAME(tile_block)(const int8_t *const queries[TILE_QUERIES], const uint8_t *tile, size_t columns,
                                   const int32_t *const excess[TILE_QUERIES], int32_t *const out[TILE_QUERIES]) {
    VT sums[TILE_QUERIES][TILE_WIDE];
    for (int i = 0; i < TILE_QUERIES; i++)
        for (int j = 0; j < TILE_WIDE; j++) sums[i][j] = vt_zero();
    for (size_t c = 0; c < columns; c++, tile += sizeof(int32_t) * TILE_ROWS) {
        VT rows[TILE_WIDE];
        for (int j = 0; j < TILE_WIDE; j++) rows[j] = vt_load(tile + sizeof(VT) * (size_t)j);
        for (int i = 0; i < TILE_QUERIES; i++) {
            int32_t four;
            memcpy(&four, queries[i] + 4 * c, sizeof four);
            VT query = vt_splat(four);
            for (int j = 0; j < TILE_WIDE; j++) sums[i][j] = TILE_DOT(sums[i][j], rows[j], query);
        }
    }
    for (int i = 0; i < TILE_QUERIES; i++)
        for (int j = 0; j < TILE_WIDE; j++)
            vt_store(out[i] + j * VT_LANES, vt_sub(sums[i][j], vt_splat(128 * *excess[i])));
}

EV_STEP VT TILE_NAME(tile_rest)(VT sum, const int8_t *query, const int8_t *row, size_t left) {
    const VT sign = vt_splat((int32_t)0x80808080u);
    if (left >= VI_BYTES) {
        sum = TILE_DOT(sum, vt_xor(vt_load(row), sign), vt_load(query));
        query += VI_BYTES, row += VI_BYTES, left -= VI_BYTES;
    }
    return left ? TILE_DOT(sum, vt_xor(vi_head(row, left), sign), vi_head(query, left)) : sum;
}

/* One query, for which rows need not be laid out anew. They are read one after the other, and nothing is asked for
 * ahead: rows in order the hardware sees coming, twice as fast as four at a time or with some of their lines asked for.
 */
EV_STEP void TILE_NAME(tile_alone)(const int8_t *query, int32_t sum, const void *const *rows, size_t m, size_t n,
                                   int32_t *out) {
    const VT sign = vt_splat((int32_t)0x80808080u);
    for (size_t r = 0; r < m; r++) {
        const int8_t *row = rows[r];
        VT even = vt_zero(), odd = vt_zero();
        size_t i = 0;
        for (; i + 2 * VI_BYTES <= n; i += 2 * VI_BYTES) {
            even = TILE_DOT(even, vt_xor(vt_load(row + i), sign), vt_load(query + i));
            odd = TILE_DOT(odd, vt_xor(vt_load(row + i + VI_BYTES), sign), vt_load(query + i + VI_BYTES));
        }
        even = TILE_NAME(tile_rest)(even, query + i, row + i, n - i);
        out[r] = vs_sum(vs_add(even, odd)) - 128 * sum;
    }
}

/* Where there are fewer rows or queries than fit, the last stands for those that lack. */
EV_KERNEL void TILE_NAME(tile_i8)(const ev__tile_queries *queries, const void *const *rows, size_t m, size_t n,
                                  void *room, int32_t *out) {
    const size_t columns = (n + 3) / 4, step = sizeof(int32_t) * TILE_ROWS;
    uint8_t *tile = room;
    if (queries->count < TILE_ANEW) {
        for (size_t q = 0; q < queries->count; q++)
            TILE_NAME(tile_alone)(queries->codes + q * queries->stride, queries->sums[q], rows, m, n,
                                  out + q * EV_TILE);
        return;
    }
    for (size_t at = 0; at < m; at += 8) {
        const void *eight[8];
        for (size_t r = 0; r < 8; r++) eight[r] = rows[at + r < m ? at + r : m - 1];
        TILE_NAME(tile_pack)(eight, n, tile + at / TILE_ROWS * columns * step + at % TILE_ROWS * 4, step);
    }
    for (size_t at = 0; at < m; at += TILE_ROWS, tile += columns * step)
        for (size_t q = 0; q < queries->count; q += TILE_QUERIES) {
            const int8_t *four[TILE_QUERIES];
            const int32_t *excess[TILE_QUERIES];
            int32_t *into[TILE_QUERIES];
            for (size_t i = 0; i < TILE_QUERIES; i++) {
                size_t query = q + i < queries->count ? q + i : queries->count - 1;
                four[i] = queries->codes + query * queries->stride;
                excess[i] = queries->sums + query;
                into[i] = out + query * EV_TILE + at;
            }
            TILE_NAME(tile_block)(four, tile, columns, excess, into);
        }
}
