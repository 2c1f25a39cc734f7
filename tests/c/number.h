/* Coordinates for tests: the same on every machine. */
#ifndef EV_NUMBER_H
#define EV_NUMBER_H

#include <stdint.h>

/* From -1 to 1 in steps of a thousandth; for each seed another. */
static float number(uint64_t seed) {
    seed = (seed + 1) * 0x9E3779B97F4A7C15u;
    seed = (seed ^ (seed >> 31)) * 0xD6E8FEB86659FD93u;
    return (float)((seed ^ (seed >> 32)) % 2001) / 1000.0f - 1.0f;
}

#endif
