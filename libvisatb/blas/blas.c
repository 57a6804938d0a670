/* Which product a call takes. */
#include "blas/blas.h"

#include "blas/openblas.h"
#include "blas/plain.h"
#include "common/error.h"
#include "cpu/dispatch.h"

#include <pthread.h>
#include <stdio.h>

/* Our own, narrowest first. */
static const struct {
    const char *name;
    void (*multiply)(const blas_product *product);
    size_t (*room_bytes)(int64_t edge);
} kinds[] = {
    {"plain", plain_float_multiply, plain_float_room_bytes},
#ifdef VISATB_BUILD_SIMD
    {"plain avx2", plain_avx2_multiply, plain_avx2_room_bytes},
    {"plain avx512", plain_avx512_multiply, plain_avx512_room_bytes},
#endif
};

enum { KINDS = sizeof kinds / sizeof *kinds };

static char descriptions[KINDS][720];
static char refused[1200];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void describe(void) {
    const openblas *open = openblas_open();
    for (size_t kind = 0; kind < KINDS; ++kind)
        (void)snprintf(descriptions[kind], sizeof descriptions[kind], "%s (%s)", kinds[kind].name,
                       open->why_not);
    if (open->refusal[0] != '\0')
        (void)snprintf(refused, sizeof refused,
                       "the environment says %s; expected the path of an OpenBLAS, none, or no such variable",
                       open->refusal);
}

static bool has_avx512(visatb_cpu_path path) {
    return path == VISATB_CPU_AVX512 || path == VISATB_CPU_AVX512_BF16;
}

static blas plain_of(visatb_dtype dtype, visatb_cpu_path path) {
    const size_t wished = has_avx512(path) ? 2 : path == VISATB_CPU_AVX2 ? 1 : 0;
    const size_t kind = wished < KINDS ? wished : 0;
    const bool doubles = dtype == VISATB_DTYPE_FLOAT64;
    return (blas){
        .multiply = doubles ? plain_double_multiply : kinds[kind].multiply,
        .room_bytes = doubles ? plain_double_room_bytes : kinds[kind].room_bytes,
        .description = descriptions[kind],
    };
}

/* What is taken where the environment is not refused. */
static blas find(visatb_dtype dtype, visatb_cpu_path path) {
    const openblas *open = openblas_open();
    /* Where it does not see that this CPU has AVX-512, it takes nearly twice as long as our own. */
    const bool too_narrow = has_avx512(path) && !open->uses_avx512;
    if (!open->found || too_narrow)
        return plain_of(dtype, path);
    return dtype == VISATB_DTYPE_FLOAT64 ? open->doubles : open->floats;
}

visatb_status blas_find(const char *function, visatb_dtype dtype, visatb_cpu_path path, blas *found) {
    (void)pthread_once(&once, describe);
    if (refused[0] != '\0')
        return error_set(VISATB_ERROR_UNSUPPORTED, "%s: %s", function, refused);
    *found = find(dtype, path);
    return VISATB_OK;
}

const char *blas_description(void) {
    (void)pthread_once(&once, describe);
    return refused[0] != '\0' ? refused : find(VISATB_DTYPE_FLOAT32, dispatch_default()).description;
}
