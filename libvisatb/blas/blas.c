/* Which product a call takes. */
#include "blas/blas.h"

#include "blas/openblas.h"
#include "blas/plain.h"
#include "common/error.h"

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

static char descriptions[KINDS][128];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void describe(void) {
    for (size_t kind = 0; kind < KINDS; ++kind)
        (void)snprintf(descriptions[kind], sizeof descriptions[kind], "%s (%s)", kinds[kind].name,
                       openblas_open()->why_not);
}

static bool has_avx512(visatb_cpu_path path) {
    return path == VISATB_CPU_AVX512 || path == VISATB_CPU_AVX512_BF16;
}

static blas plain_of(visatb_dtype dtype, visatb_cpu_path path) {
    const size_t kind = has_avx512(path) ? 2 : path == VISATB_CPU_AVX2 ? 1 : 0;
    const bool doubles = dtype == VISATB_DTYPE_FLOAT64;
    (void)pthread_once(&once, describe);
    return (blas){
        .multiply = doubles ? plain_double_multiply : kinds[kind].multiply,
        .room_bytes = doubles ? plain_double_room_bytes : kinds[kind].room_bytes,
        .description = descriptions[kind],
    };
}

visatb_status blas_find(const char *function, visatb_dtype dtype, visatb_cpu_path path, blas *found) {
    const openblas *open = openblas_open();
    if (open->refusal[0] != '\0')
        return error_set(VISATB_ERROR_UNSUPPORTED,
                         "%s: the environment says %s; expected the path of an OpenBLAS, none, or no such "
                         "variable",
                         function, open->refusal);
    /* Where it does not see that this CPU has AVX-512, it takes nearly twice as long as our own. */
    const bool too_narrow = has_avx512(path) && !open->uses_avx512;
    if (open->found && !too_narrow)
        *found = dtype == VISATB_DTYPE_FLOAT64 ? open->doubles : open->floats;
    else
        *found = plain_of(dtype, path);
    return VISATB_OK;
}

const char *blas_description(void) {
    visatb_cpu_path path = VISATB_CPU_PORTABLE;
    blas found;
    if (visatb_cpu_path_taken(VISATB_CPU_AUTO, &path) == VISATB_OK &&
        blas_find("visatb_build_info", VISATB_DTYPE_FLOAT32, path, &found) == VISATB_OK)
        return found.description;
    return visatb_last_error();
}
