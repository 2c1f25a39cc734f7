/* Which table of kernels is used. */
#include "edgevec.h"
#include "simd/isa.h"

#include <stdlib.h>

/* What a machine can do. */
enum {
    CPU_AVX2 = 1,   /* AVX2, FMA, POPCNT, SSE4.2, and an operating system that saves 256-bit registers */
    CPU_AVX512 = 2, /* F, BW, VL, DQ, and one that saves 512-bit registers */
    CPU_AVX512_VNNI = 4,
    CPU_AVX512_POPCNT = 8,
    CPU_DOTPROD = 16
};

/* ---- asking the machine ---------------------------------------------------------------------- */

#if defined(EV_X86_64)

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static void cpuid(unsigned leaf, unsigned regs[4]) { __cpuidex((int *)regs, (int)leaf, 0); }
static uint64_t xgetbv(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(unsigned leaf, unsigned regs[4]) { __cpuid_count(leaf, 0, regs[0], regs[1], regs[2], regs[3]); }
static uint64_t xgetbv(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
#endif

static int has(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

#define BIT(n) (1u << (n))

static unsigned machine(void) {
    enum { EBX = 1, ECX = 2 };
    unsigned top[4], leaf1[4], leaf7[4];
    cpuid(0, top);
    if (top[0] < 7) return 0;
    cpuid(1, leaf1);
    /* FMA, SSE4.2, POPCNT, OSXSAVE (without which XGETBV faults), AVX */
    if (!has(leaf1[ECX], BIT(12) | BIT(20) | BIT(23) | BIT(27) | BIT(28))) return 0;
    uint64_t saved = xgetbv();
    cpuid(7, leaf7);
    /* SSE and AVX state; AVX2 */
    if (!has(saved, 0x06) || !has(leaf7[EBX], BIT(5))) return 0;
    /* mask registers and both halves of the 512-bit ones; F, DQ, BW, VL */
    if (!has(saved, 0xE6) || !has(leaf7[EBX], BIT(16) | BIT(17) | BIT(30) | BIT(31))) return CPU_AVX2;
    unsigned found = CPU_AVX2 | CPU_AVX512;
    if (has(leaf7[ECX], BIT(11))) found |= CPU_AVX512_VNNI;
    if (has(leaf7[ECX], BIT(14))) found |= CPU_AVX512_POPCNT;
    return found;
}

#elif defined(EV_AARCH64)

#if defined(__ARM_FEATURE_DOTPROD)
static unsigned machine(void) { return CPU_DOTPROD; }
#elif defined(__linux__)
#include <sys/auxv.h>
static unsigned machine(void) { return getauxval(AT_HWCAP) & (1ul << 20) ? CPU_DOTPROD : 0; /* HWCAP_ASIMDDP */ }
#elif defined(_WIN32)
#include <windows.h>
static unsigned machine(void) {
    return IsProcessorFeaturePresent(43) ? CPU_DOTPROD : 0; /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
}
#else
static unsigned machine(void) { return 0; }
#endif

#else

static unsigned machine(void) { return 0; }

#endif

/* ---- the tables, from the plainest to the best ----------------------------------------------- */

/* A machine that runs one name runs every name before it, which `names` lists; variants of a table share its name. */
typedef struct {
    const ev__kernels *kernels;
    unsigned needs;
    const char *names;
} path;

static const path paths[] = {
    {&ev__kernels_scalar, 0, "scalar"},
#if defined(EV_X86_64)
    {&ev__kernels_avx2, CPU_AVX2, "scalar avx2"},
    {&ev__kernels_avx512, CPU_AVX512, "scalar avx2 avx512"},
    {&ev__kernels_avx512_vnni, CPU_AVX512 | CPU_AVX512_VNNI, "scalar avx2 avx512"},
    {&ev__kernels_avx512_popcnt, CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_POPCNT, "scalar avx2 avx512"},
#elif defined(EV_AARCH64)
    {&ev__kernels_neon, 0, "scalar neon"},
#if defined(EV_NEON_DOT)
    {&ev__kernels_neon_dot, CPU_DOTPROD, "scalar neon"},
#endif
#elif defined(EV_WASM128)
    {&ev__kernels_wasm128, 0, "scalar wasm128"},
#endif
};

enum { PATHS = sizeof paths / sizeof *paths };

size_t ev__simd_runnable(const ev__kernels **out) {
    unsigned found = machine();
    size_t n = 0;
    for (size_t i = 0; i < PATHS; i++)
        if ((paths[i].needs & ~found) == 0) out[n++] = paths[i].kernels;
    return n;
}

ev__kernels ev__kernels_complete(const ev__kernels *table) {
    const ev__kernels *plain = &ev__kernels_scalar;
    ev__kernels all = *table;
    for (size_t element = 0; element < EV_ELEMENTS; element++)
        for (size_t measure = 0; measure < EV_MEASURES; measure++)
            if (!all.rows[element][measure]) all.rows[element][measure] = plain->rows[element][measure];
    if (!all.tile_reach) all.tile_reach = plain->tile_reach;
    if (!all.encode_i8) all.encode_i8 = plain->encode_i8;
    if (!all.residual_i8) all.residual_i8 = plain->residual_i8;
    if (!all.crc32c) all.crc32c = plain->crc32c;
    return all;
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* Threads that arrive together all reach the same answer, so a pointer that is stored whole is all it takes. */
#if defined(_MSC_VER) && !defined(__clang__)
static const ev__kernels *volatile chosen;
#define CHOSEN_GET() chosen
#define CHOSEN_SET(value) (chosen = (value))
#else
static const ev__kernels *chosen;
#define CHOSEN_GET() __atomic_load_n(&chosen, __ATOMIC_ACQUIRE)
#define CHOSEN_SET(value) __atomic_store_n(&chosen, (value), __ATOMIC_RELEASE)
#endif

/* Stands for "refused", because NULL stands for "not asked yet". */
static const ev__kernels refused;

static const ev__kernels *choose(void) {
    const ev__kernels *runnable[PATHS];
    const char *wanted = ev_simd_forced();
    for (size_t i = ev__simd_runnable(runnable); i-- > 0;)
        if (!*wanted || strcmp(wanted, runnable[i]->name) == 0) return runnable[i];
    return &refused;
}

const ev__kernels *ev__simd(void) {
    const ev__kernels *kernels = CHOSEN_GET();
    if (!kernels) {
        kernels = choose();
        CHOSEN_SET(kernels);
    }
    return kernels == &refused ? NULL : kernels;
}

const char *ev_simd_active(void) {
    const ev__kernels *kernels = ev__simd();
    return kernels ? kernels->name : NULL;
}

const char *ev_simd_compiled(void) { return paths[PATHS - 1].names; }

const char *ev_simd_available(void) {
    unsigned found = machine();
    size_t best = PATHS - 1;
    while (paths[best].needs & ~found) best--;
    return paths[best].names;
}

const char *ev_simd_forced(void) {
    const char *value = getenv("EDGEVEC_SIMD");
    return value ? value : "";
}
