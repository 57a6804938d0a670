/* The table of paths, what this CPU can run of it, and what the environment asks for. Looked up once. */
#include "cpu/dispatch.h"

#include "common/error.h"
#include "cpu/portable.h"
#include "cpu/simd.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef VISATB_BUILD_SIMD
#include <cpuid.h>
#endif

enum { PATHS = VISATB_CPU_AVX512_BF16 + 1 };

static const char *const names[PATHS] = {"auto", "portable", "avx2", "avx512", "avx512_bf16"};

/* NULL: not built. */
static const loss_backend *const built[PATHS] = {
    [VISATB_CPU_PORTABLE] = &portable_backend,
#ifdef VISATB_BUILD_SIMD
    [VISATB_CPU_AVX2] = &avx2_backend,
    [VISATB_CPU_AVX512] = &avx512_backend,
    [VISATB_CPU_AVX512_BF16] = &avx512_bf16_backend,
#endif
};

/* Set once, read ever after. */
static struct {
    bool runs[PATHS];
    visatb_cpu_path best;
    char environment[32];      /* VISATB_CPU; "" without */
    visatb_cpu_path asked_for; /* by it; AUTO without, or if it names nothing */
    char list[80];             /* of the paths that run */
    char description[200];
} found;

static pthread_once_t once = PTHREAD_ONCE_INIT;

#ifdef VISATB_BUILD_SIMD
/* The two that __builtin_cpu_supports of clang 14 does not know. */
static bool cpu_has_f16c(void) {
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

static bool cpu_has_avx512_bf16(void) {
    const unsigned bit_of_it = 1U << 5;
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & bit_of_it) != 0;
}
#endif

static bool cpu_runs(visatb_cpu_path path) {
#ifdef VISATB_BUILD_SIMD
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpu_has_f16c();
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    switch (path) {
    case VISATB_CPU_AVX2: return avx2;
    case VISATB_CPU_AVX512: return avx512;
    case VISATB_CPU_AVX512_BF16: return avx512 && cpu_has_avx512_bf16();
    default: break;
    }
#endif
    return path == VISATB_CPU_PORTABLE;
}

static visatb_cpu_path default_path(void) {
    return found.asked_for != VISATB_CPU_AUTO ? found.asked_for : found.best;
}

static void describe(void) {
    size_t used = 0;
    for (int path = VISATB_CPU_PORTABLE; path < PATHS; ++path)
        if (found.runs[path])
            used += (size_t)snprintf(found.list + used, sizeof found.list - used, "%s%s",
                                     used > 0 ? ", " : "", names[path]);
    const bool is_refused = found.environment[0] != '\0' && !found.runs[found.asked_for];
    (void)snprintf(found.description, sizeof found.description, "%s%s (of %s)",
                   is_refused ? "refused: the environment says VISATB_CPU=" : "",
                   is_refused ? found.environment : names[default_path()], found.list);
}

static void find(void) {
    for (int path = VISATB_CPU_PORTABLE; path < PATHS; ++path) {
        found.runs[path] = built[path] != NULL && cpu_runs((visatb_cpu_path)path);
        if (found.runs[path])
            found.best = (visatb_cpu_path)path;
    }
    const char *environment = getenv("VISATB_CPU");
    if (environment != NULL)
        (void)snprintf(found.environment, sizeof found.environment, "%s", environment);
    for (int path = VISATB_CPU_PORTABLE; path < PATHS; ++path)
        if (strcmp(found.environment, names[path]) == 0)
            found.asked_for = (visatb_cpu_path)path;
    describe();
}

const char *visatb_cpu_path_name(visatb_cpu_path path) {
    const int index = (int)path;
    return index >= 0 && index < PATHS ? names[index] : "unknown";
}

static visatb_status take(const char *function, visatb_cpu_path wanted, visatb_cpu_path *taken) {
    (void)pthread_once(&once, find);
    if ((int)wanted < VISATB_CPU_AUTO || (int)wanted >= PATHS)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: cpu_path = %d; expected a visatb_cpu_path", function,
                         (int)wanted);
    const bool by_environment = wanted == VISATB_CPU_AUTO && found.environment[0] != '\0';
    if (by_environment && found.asked_for == VISATB_CPU_AUTO)
        return error_set(VISATB_ERROR_UNSUPPORTED,
                         "%s: the environment says VISATB_CPU=%s; expected portable, avx2, avx512 or "
                         "avx512_bf16, or no such variable",
                         function, found.environment);
    const visatb_cpu_path path = by_environment              ? found.asked_for
                                 : wanted == VISATB_CPU_AUTO ? found.best
                                                             : wanted;
    if (!found.runs[path])
        return error_set(VISATB_ERROR_UNSUPPORTED, "%s: %s%s; expected one that this %s: %s", function,
                         by_environment ? "the environment says VISATB_CPU=" : "cpu_path = ", names[path],
                         built[path] == NULL ? "library was built with" : "CPU can run", found.list);
    *taken = path;
    return VISATB_OK;
}

visatb_status visatb_cpu_path_taken(visatb_cpu_path wanted, visatb_cpu_path *taken) {
    if (taken == NULL)
        return error_set(VISATB_ERROR_ARGUMENT, "visatb_cpu_path_taken: taken = NULL; expected a pointer");
    return take("visatb_cpu_path_taken", wanted, taken);
}

visatb_status dispatch_backend(const char *function, visatb_cpu_path wanted, visatb_dtype dtype,
                               const loss_backend **backend) {
    visatb_cpu_path path = VISATB_CPU_AUTO;
    const visatb_status status = take(function, wanted, &path);
    if (status == VISATB_OK)
        *backend = dtype == VISATB_DTYPE_FLOAT64 ? &portable_backend : built[path];
    return status;
}

const char *dispatch_description(void) {
    (void)pthread_once(&once, find);
    return found.description;
}

visatb_cpu_path dispatch_default(void) {
    (void)pthread_once(&once, find);
    return default_path();
}
