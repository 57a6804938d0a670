/* It is opened at run time, so that one build of the library serves with it, without it, and with the one
 * that a Python package brings along. */
#include "blas/openblas.h"

#include "common/text.h"

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
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
static char narrow[128];
static char passed_over[640];
static char refusal[1024];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- calls ------------------------------------------------------------------------------------------- */

/* An OpenBLAS has two buffers for each of its MAX_THREADS, and ends the process when it runs out of them. Its
 * own threads keep one each; every product on a thread of ours takes one. Of all that call at the same time,
 * in however many calls of ours, so many multiply and the others wait: a product waits for nothing else, so
 * all get their turn. */
enum { MOST_CALLERS = 64 };

static sem_t free_buffers;

static void take_buffer(void) {
    while (sem_wait(&free_buffers) != 0) /* interrupted by a signal */
        ;
}

static void return_buffer(void) {
    (void)sem_post(&free_buffers);
}

static int turn(bool turned) {
    return turned ? TURNED : AS_STORED;
}

static void multiply_floats(const blas_product *p) {
    take_buffer();
    functions.sgemm(ROW_MAJOR, turn(p->a_turned), turn(p->b_turned), (int)p->rows, (int)p->columns,
                    (int)p->depth, 1, p->a, (int)p->a_stride, p->b, (int)p->b_stride,
                    p->accumulate ? 1.0F : 0.0F, p->c, (int)p->c_stride);
    return_buffer();
}

static void multiply_doubles(const blas_product *p) {
    take_buffer();
    functions.dgemm(ROW_MAJOR, turn(p->a_turned), turn(p->b_turned), (int)p->rows, (int)p->columns,
                    (int)p->depth, 1, p->a, (int)p->a_stride, p->b, (int)p->b_stride,
                    p->accumulate ? 1.0 : 0.0, p->c, (int)p->c_stride);
    return_buffer();
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

/* NULL, or why a build of this kind cannot be used. */
static const char *config_fault(const char *config) {
    static char too_few[96];
    static const char name[] = "MAX_THREADS=";
    if (strstr(config, "USE64BITINT") != NULL)
        return "it counts in 64-bit integers (USE64BITINT)";
    if (strstr(config, "USE_OPENMP") != NULL)
        return "its threads are those of OpenMP, which cannot be held to one from other threads (USE_OPENMP)";
    if (strstr(config, "SINGLE_THREADED") != NULL)
        return "it serves one thread at a time (SINGLE_THREADED)";
    const char *most = strstr(config, name);
    if (most == NULL)
        return "it does not say how many threads it serves (MAX_THREADS)";
    const long threads = strtol(most + strlen(name), NULL, 10);
    if (threads >= MOST_CALLERS)
        return NULL;
    (void)snprintf(too_few, sizeof too_few,
                   "it serves too few threads (MAX_THREADS=%ld; expected at least %d)", threads,
                   (int)MOST_CALLERS);
    return too_few;
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
    const char *fault = config_fault(config);
    if (fault == NULL)
        describe(config);
    return fault;
}

/* NULL, or what is wrong; *there is whether there is such a library. One that cannot be used is closed again.
 */
static const char *open_library(const char *path, bool *there) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    *there = library != NULL;
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
    (void)sem_init(&free_buffers, 0, MOST_CALLERS);
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

/* Of several libraries that are passed over the first is remembered. */
static void pass_over(const char *before, const char *name, const char *fault) {
    if (passed_over[0] != '\0')
        return;
    (void)snprintf(passed_over, sizeof passed_over, "%s%s: %s", before, name, fault);
    text_end_whole(passed_over);
}

static void open_asked_for(const char *path) {
    bool there = false;
    const char *fault = open_library(path, &there);
    if (fault == NULL) {
        succeed();
        return;
    }
    (void)snprintf(refusal, sizeof refusal, "VISATB_BLAS=%s: %s", path, fault);
    text_end_whole(refusal);
}

static void open_offered_or_usual(const char *offer) {
    static const char *const usual[] = {"libopenblas.so.0", "libopenblas.so"};
    bool there = false;
    if (offer != NULL && offer[0] != '\0') {
        const char *fault = open_library(offer, &there);
        if (fault == NULL)
            succeed();
        else
            pass_over("VISATB_BLAS_OFFER=", offer, fault);
    }
    for (size_t i = 0; !result.found && i < sizeof usual / sizeof *usual; ++i) {
        const char *fault = open_library(usual[i], &there);
        if (fault == NULL)
            succeed();
        else if (there)
            pass_over("", usual[i], fault);
    }
}

/* VISATB_BLAS is an order, which is carried out or refused; VISATB_BLAS_OFFER names what is tried first. */
static void search(void) {
    result.refusal = refusal;
    result.why_not = "no BLAS found";
    const char *asked_for = getenv("VISATB_BLAS");
    if (asked_for != NULL && strcmp(asked_for, "none") == 0)
        result.why_not = "VISATB_BLAS=none";
    else if (asked_for != NULL && asked_for[0] != '\0')
        open_asked_for(asked_for);
    else
        open_offered_or_usual(getenv("VISATB_BLAS_OFFER"));
    if (!result.found && passed_over[0] != '\0')
        result.why_not = passed_over;
}

const openblas *openblas_open(void) {
    (void)pthread_once(&once, search);
    return &result;
}
