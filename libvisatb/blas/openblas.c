/* It is opened at run time, so that one build of the library serves with it, without it, and with the one
 * that a Python package brings along. */
#include "blas/openblas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* As cblas.h has them. */
enum { ROW_MAJOR = 101, AS_STORED = 111, TURNED = 112 };

typedef void float_gemm(int order, int turn_a, int turn_b, int rows, int columns, int depth, float alpha,
                        const float *a, int a_stride, const float *b, int b_stride, float beta, float *c,
                        int c_stride);
typedef void double_gemm(int order, int turn_a, int turn_b, int rows, int columns, int depth, double alpha,
                         const double *a, int a_stride, const double *b, int b_stride, double beta, double *c,
                         int c_stride);

/* Set once, read ever after. */
static struct {
    float_gemm *sgemm;
    double_gemm *dgemm;
    char *(*get_config)(void);
    char *(*get_corename)(void);
    int (*get_threads)(void);
    void (*set_threads)(int threads);
} functions;

static openblas result;
static char description[64];
static char narrow[96];
static char refusal[1024];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- calls ------------------------------------------------------------------------------------------- */

static int turn(bool turned) {
    return turned ? TURNED : AS_STORED;
}

static void multiply_floats(const blas_product *p) {
    functions.sgemm(ROW_MAJOR, turn(p->a_turned), turn(p->b_turned), (int)p->rows, (int)p->columns,
                    (int)p->depth, 1, p->a, (int)p->a_stride, p->b, (int)p->b_stride,
                    p->accumulate ? 1.0F : 0.0F, p->c, (int)p->c_stride);
}

static void multiply_doubles(const blas_product *p) {
    functions.dgemm(ROW_MAJOR, turn(p->a_turned), turn(p->b_turned), (int)p->rows, (int)p->columns,
                    (int)p->depth, 1, p->a, (int)p->a_stride, p->b, (int)p->b_stride,
                    p->accumulate ? 1.0 : 0.0, p->c, (int)p->c_stride);
}

static size_t no_room(int64_t edge) {
    (void)edge;
    return 0;
}

/* --- its threads --------------------------------------------------------------------------------------- */

/* The number of threads is one setting for the whole process. Of calls that overlap, the first lowers it and
 * the last restores it: one that came between would take the lowered number for the caller's. */
static pthread_mutex_t holding = PTHREAD_MUTEX_INITIALIZER;
static int holders;
static int threads_before;

static void hold_threads(void) {
    pthread_mutex_lock(&holding);
    if (holders++ == 0) {
        threads_before = functions.get_threads();
        if (threads_before != 1)
            functions.set_threads(1);
    }
    pthread_mutex_unlock(&holding);
}

static void release_threads(void) {
    pthread_mutex_lock(&holding);
    if (--holders == 0 && threads_before != 1)
        functions.set_threads(threads_before);
    pthread_mutex_unlock(&holding);
}

/* --- opening it ---------------------------------------------------------------------------------------- */

/* Python's packages put scipy_ before every name, so that two OpenBLAS can live in one process. */
static bool find_symbol(void *library, const char *name, void *function) {
    static const char *const prefixes[] = {"", "scipy_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; ++i) {
        char whole[64];
        (void)snprintf(whole, sizeof whole, "%s%s", prefixes[i], name);
        void *symbol = dlsym(library, whole);
        if (symbol != NULL) {
            memcpy(function, &symbol, sizeof symbol);
            return true;
        }
    }
    return false;
}

/* "OpenBLAS 0.3.30" of "OpenBLAS 0.3.30 DYNAMIC_ARCH NO_AFFINITY Haswell MAX_THREADS=64". */
static void describe(const char *config) {
    const char *first_space = strchr(config, ' ');
    const char *end = first_space != NULL ? strchr(first_space + 1, ' ') : NULL;
    const size_t length = end != NULL ? (size_t)(end - config) : strlen(config);
    (void)snprintf(description, sizeof description, "%.*s", (int)length, config);
}

/* NULL, or what is wrong with the library. */
static const char *take(void *library) {
    static const char *const wanted[] = {
        "cblas_sgemm",
        "cblas_dgemm",
        "openblas_get_config",
        "openblas_get_corename",
        "openblas_get_num_threads",
        "openblas_set_num_threads",
    };
    void *const places[] = {
        &functions.sgemm,        &functions.dgemm,       &functions.get_config,
        &functions.get_corename, &functions.get_threads, &functions.set_threads,
    };
    static char missing[64];
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; ++i) {
        if (!find_symbol(library, wanted[i], places[i])) {
            (void)snprintf(missing, sizeof missing, "it has no %s", wanted[i]);
            return missing;
        }
    }
    const char *config = functions.get_config();
    if (strstr(config, "USE64BITINT") != NULL)
        return "it counts in 64-bit integers (USE64BITINT)";
    describe(config);
    return NULL;
}

/* NULL, or what is wrong. A library that cannot be used is closed again. */
static const char *open_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return dlerror();
    const char *fault = take(library);
    if (fault != NULL)
        (void)dlclose(library);
    return fault;
}

static bool core_uses_avx512(const char *core) {
    static const char *const cores[] = {"SkylakeX", "Cooperlake", "Sapphirerapids"};
    for (size_t i = 0; i < sizeof cores / sizeof *cores; ++i)
        if (strcasecmp(core, cores[i]) == 0)
            return true;
    return false;
}

static void succeed(void) {
    const char *core = functions.get_corename();
    result.found = true;
    result.uses_avx512 = core_uses_avx512(core);
    (void)snprintf(narrow, sizeof narrow, "%s takes this CPU for a %s", description, core);
    result.why_not = narrow;
    result.floats = (blas){
        .multiply = multiply_floats,
        .room_bytes = no_room,
        .description = description,
        .hold_threads = hold_threads,
        .release_threads = release_threads,
    };
    result.doubles = result.floats;
    result.doubles.multiply = multiply_doubles;
}

static void search(void) {
    static const char *const usual[] = {"libopenblas.so.0", "libopenblas.so"};
    result.refusal = refusal;
    result.why_not = "no BLAS found";
    const char *asked_for = getenv("VISATB_BLAS");
    if (asked_for != NULL && strcmp(asked_for, "none") == 0) {
        result.why_not = "VISATB_BLAS=none";
    } else if (asked_for != NULL && asked_for[0] != '\0') {
        const char *fault = open_library(asked_for);
        if (fault == NULL)
            succeed();
        else
            (void)snprintf(refusal, sizeof refusal, "VISATB_BLAS=%s: %s", asked_for, fault);
    } else {
        for (size_t i = 0; !result.found && i < sizeof usual / sizeof *usual; ++i)
            if (open_library(usual[i]) == NULL)
                succeed();
    }
}

const openblas *openblas_open(void) {
    (void)pthread_once(&once, search);
    return &result;
}
