/* Floats to 8-bit codes: plain C that compilers vectorise, compiled anew for each instruction set. Every lane goes
 * through the same single roundings, so the codes are the same bits everywhere. The including file has defined
 * EV_KERNEL and EV_NAME. */

EV_KERNEL float EV_NAME(encode_i8)(const float *v, const float *center, size_t n, int8_t *code) {
    /* sizes compare like their bits do; unlike floats, integers may be compared in any order */
    int32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        union {
            float value;
            int32_t bits;
        } d = {v[i] - center[i]};
        int32_t size = d.bits & 0x7FFFFFFF;
        most = size > most ? size : most;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);

    float scale = largest / 127.0f;
    if (!(scale > 1e-37f)) { /* all equal to the center, or so near that the scale's inverse overflows */
        memset(code, 0, n);
        return 0.0f;
    }
    /* adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits of the sum */
    const float inverse = 127.0f / largest, magic = 12582912.0f;
    for (size_t i = 0; i < n; i++) {
        union {
            float value;
            int32_t bits;
        } x = {(v[i] - center[i]) * inverse + magic};
        code[i] = (int8_t)x.bits;
    }
    return scale;
}

/* What an 8-bit code leaves of a vector, as integers times scale / 65536. Rounding may have sent a coordinate that lies
 * between two codes to the one further off by a few of these; so that 16 bits hold what is left, it then moves over. */
EV_KERNEL void EV_NAME(residual_i8)(const float *v, const float *center, float scale, size_t n, int8_t *code,
                                    int16_t *residual) {
    if (scale == 0) {
        memset(residual, 0, n * sizeof *residual);
        return;
    }
    /* as above, in double: the sum's low 32 bits hold the integer */
    const double inverse = 65536.0 / (double)scale, magic = 6755399441055744.0;
    for (size_t i = 0; i < n; i++) {
        double left = ((double)v[i] - (double)center[i]) - (double)scale * (double)code[i];
        union {
            double value;
            int64_t bits;
        } x = {left * inverse + magic};
        int32_t whole = (int32_t)x.bits;
        int32_t over = (whole > INT16_MAX) - (whole < INT16_MIN);
        code[i] = (int8_t)(code[i] + over);
        residual[i] = (int16_t)(whole - 65536 * over);
    }
}
