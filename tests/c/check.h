/* The least that a C test needs: CHECK(condition) in any function, `return check_summary();` at the end of main. */
#ifndef EV_CHECK_H
#define EV_CHECK_H

#include <stdio.h>

static long check_passed, check_failed;

/* Only the first failures are shown: a broken kernel fails thousands of times. */
#define CHECK(condition)                                                             \
    do {                                                                             \
        if (condition)                                                               \
            check_passed++;                                                          \
        else if (check_failed++ < 50)                                                \
            printf("%s:%d: %s: not %s\n", __FILE__, __LINE__, __func__, #condition); \
    } while (0)

static int check_summary(void) {
    printf("%ld passed, %ld failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
