/* Numbers as JSON writes them, in float32: a text of vectors is mostly digits. */
#include "base/base.h"

#include <float.h>
#include <math.h>

/* Each has a double of its own. */
static const double power_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
enum { MAX_POWER = 22, MAX_DIGITS = 19 /* fit in 64 bits */, MAX_EXPONENT = 1000 };

static bool is_digit(char c) { return (unsigned char)(c - '0') < 10; }
static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static const char *skip_space(const char *at, const char *end) {
    while (at < end && is_space(*at)) at++;
    return at;
}

/* digits * 10^exponent, rounded to double and that to float, as Python does. False where it could round either way. */
static bool rounded(uint64_t digits, int exponent, float *out) {
    double value = (double)digits;
    int power = exponent < 0 ? -exponent : exponent;
    if (power > 2 * MAX_POWER) return digits == 0 ? (*out = 0, true) : false;
    for (; power; power -= power < MAX_POWER ? power : MAX_POWER) {
        double by = power_of_ten[power < MAX_POWER ? power : MAX_POWER];
        value = exponent < 0 ? value / by : value * by;
    }
    *out = (float)value;
    if (digits < (uint64_t)1 << 53 && -MAX_POWER <= exponent && exponent <= MAX_POWER) return *out <= FLT_MAX;
    /* Three roundings, of at most 2^-53 each, and what was cut off behind the 19th digit lie between the true value and
     * this one. */
    const double slack = 0x1p-50;
    return *out <= FLT_MAX && (float)(value - value * slack) == *out && (float)(value + value * slack) == *out;
}

/* The end of a number, or NULL where it is none or cannot be told in float32. */
static const char *read_number(const char *at, const char *end, float *out) {
    uint64_t digits = 0;
    int known = 0, exponent = 0;
    bool negative = at < end && *at == '-', whole = true;
    at += negative;
    const char *first = at;
    for (; at < end && is_digit(*at); at++) {
        if (known < MAX_DIGITS)
            digits = digits * 10 + (uint64_t)(*at - '0'), known += digits != 0;
        else
            exponent++;
    }
    if (at == first || (*first == '0' && at - first > 1)) return NULL;
    if (at < end && *at == '.') {
        whole = false;
        for (first = ++at; at < end && is_digit(*at); at++)
            if (known < MAX_DIGITS) digits = digits * 10 + (uint64_t)(*at - '0'), known += digits != 0, exponent--;
        if (at == first) return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        whole = false;
        bool down = ++at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) at++;
        int power = 0;
        for (first = at; at < end && is_digit(*at); at++)
            if (power < MAX_EXPONENT) power = power * 10 + (*at - '0');
        if (at == first) return NULL;
        exponent += down ? -power : power;
    }
    if (!rounded(digits, exponent, out)) return NULL;
    if (negative && !(whole && digits == 0)) *out = -*out; /* an integer has no -0 */
    return at;
}

int64_t ev_read_numbers(const char *text, int64_t length, int64_t count, float *out) {
    const char *at = text, *end = text + length;
    if (length < 1 || count < 1 || *at != '[') return 0;
    for (int64_t i = 0; i < count; i++) {
        if (at == end || *at != (i ? ',' : '[')) return 0;
        at = read_number(skip_space(at + 1, end), end, out + i);
        if (!at) return 0;
        at = skip_space(at, end);
    }
    return at < end && *at == ']' ? at + 1 - text : 0;
}
