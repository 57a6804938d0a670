#include "cuda/cublas.h"

#include "common/error.h"
#include "common/text.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what we need of it, as cublas_api.h of cuBLAS 12 and 13 has it ---------------------------------------
 */

enum { STATUS_SUCCESS = 0 };        /* cublasStatus_t */
enum { AS_STORED = 0, TURNED = 1 }; /* cublasOperation_t: CUBLAS_OP_N, CUBLAS_OP_T */
enum { POINTERS_OF_HOST = 0 };      /* cublasPointerMode_t: alpha and beta are read during the call */

/* cublasMath_t: CUBLAS_DEFAULT_MATH (0: no TF32) | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION, without
 * which the parts of a sum of bf16 or fp16 products may be added up in these types. */
enum { MATH_MODE = 16 };

enum { COMPUTE_FLOAT = 68 };     /* cublasComputeType_t: CUBLAS_COMPUTE_32F */
enum { DEFAULT_ALGORITHM = -1 }; /* cublasGemmAlgo_t: CUBLAS_GEMM_DEFAULT */

/* As library_types.h of CUDA has them. */
enum { REAL_FLOAT = 0, REAL_HALF = 2, REAL_BF16 = 14 };                         /* cudaDataType */
enum { MAJOR_VERSION = 0, MINOR_VERSION = 1, PATCH_LEVEL = 2, PROPERTIES = 3 }; /* libraryPropertyType */

enum { OLDEST_MAJOR_VERSION = 12 };

/* Set once, read ever after. */
static struct {
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, void *stream);
    int (*set_workspace)(void *handle, void *workspace, size_t bytes);
    int (*set_math_mode)(void *handle, int mode);
    int (*set_pointer_mode)(void *handle, int mode);
    int (*get_property)(int type, int *value);
    const char *(*get_status_string)(int status);
    int (*gemm_ex)(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha,
                   const void *a, int a_type, int a_stride, const void *b, int b_type, int b_stride,
                   const void *beta, void *c, int c_type, int c_stride, int compute, int algorithm);
} functions;

static cublas result;
static char description[64] = "cuBLAS";
static char tried[1024];
static char refusal[1536];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- opening it ---------------------------------------------------------------------------------------- */

static const char *const usual[] = {"libcublas.so.13", "libcublas.so.12"};

enum { USUAL = sizeof usual / sizeof *usual };

/* NULL, or that it is missing. */
static const char *find_functions(void *library) {
    static const struct {
        const char *name;
        void *place;
    } wanted[] = {
        {"cublasCreate_v2", &functions.create},
        {"cublasDestroy_v2", &functions.destroy},
        {"cublasSetStream_v2", &functions.set_stream},
        {"cublasSetWorkspace_v2", &functions.set_workspace},
        {"cublasSetMathMode", &functions.set_math_mode},
        {"cublasSetPointerMode_v2", &functions.set_pointer_mode},
        {"cublasGetProperty", &functions.get_property},
        {"cublasGetStatusString", &functions.get_status_string},
        {"cublasGemmEx", &functions.gemm_ex},
    };
    static char missing[64];
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; ++i) {
        void *symbol = dlsym(library, wanted[i].name);
        if (symbol == NULL) {
            (void)snprintf(missing, sizeof missing, "it has no %s", wanted[i].name);
            return missing;
        }
        memcpy(wanted[i].place, &symbol, sizeof symbol);
    }
    return NULL;
}

/* NULL, or what is wrong with its version. */
static const char *read_version(void) {
    static char fault[96];
    int version[PROPERTIES] = {0};
    for (int type = MAJOR_VERSION; type <= PATCH_LEVEL; ++type)
        if (functions.get_property(type, &version[type]) != STATUS_SUCCESS)
            return "it does not tell its version";
    (void)snprintf(description, sizeof description, "cuBLAS %d.%d.%d", version[MAJOR_VERSION],
                   version[MINOR_VERSION], version[PATCH_LEVEL]);
    if (version[MAJOR_VERSION] >= OLDEST_MAJOR_VERSION)
        return NULL;
    (void)snprintf(fault, sizeof fault, "it is %s, older than %d", description, (int)OLDEST_MAJOR_VERSION);
    return fault;
}

/* NULL, or what is wrong. One that cannot be used is closed again. */
static const char *open_library(const char *path, int flags) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | flags);
    if (library == NULL)
        return dlerror();
    const char *fault = find_functions(library);
    if (fault == NULL)
        fault = read_version();
    result.found = fault == NULL;
    if (result.found)
        return NULL;
    (void)dlclose(library);
    (void)snprintf(description, sizeof description, "cuBLAS");
    return fault;
}

static void remember(const char *before, const char *name, const char *fault) {
    /* The loader's own words begin with the name. */
    const bool is_named = strncmp(fault, name, strlen(name)) == 0;
    const size_t used = strlen(tried);
    (void)snprintf(tried + used, sizeof tried - used, "%s%s%s%s%s", used > 0 ? ", " : "", before,
                   is_named ? "" : name, is_named ? "" : ": ", fault);
    text_end_whole(tried);
}

/* PyTorch has loaded the one that it was built for; a second one beside it would take memory of the GPU once
 * more. */
static void take_loaded(void) {
    for (size_t i = 0; !result.found && i < USUAL; ++i) {
        const char *fault = open_library(usual[i], RTLD_NOLOAD);
        (void)fault; /* it is said of the same name once more */
    }
}

static void open_offered(const char *path) {
    if (result.found || path == NULL || path[0] == '\0')
        return;
    const char *fault = open_library(path, 0);
    if (fault != NULL)
        remember("VISATB_CUBLAS_OFFER=", path, fault);
}

static void open_usual(void) {
    for (size_t i = 0; !result.found && i < USUAL; ++i) {
        const char *fault = open_library(usual[i], 0);
        if (fault != NULL)
            remember("", usual[i], fault);
    }
}

static void open_asked_for(const char *path) {
    const char *fault = open_library(path, 0);
    if (fault == NULL)
        return;
    (void)snprintf(refusal, sizeof refusal,
                   "the environment says VISATB_CUBLAS=%s: %s; expected the path of a cuBLAS, or no such "
                   "variable",
                   path, fault);
    text_end_whole(refusal);
}

/* VISATB_CUBLAS is an order, which is carried out or refused; VISATB_CUBLAS_OFFER may be passed over. */
static void search(void) {
    result.description = description;
    result.refusal = refusal;
    const char *asked_for = getenv("VISATB_CUBLAS");
    if (asked_for != NULL && asked_for[0] != '\0') {
        open_asked_for(asked_for);
        return;
    }
    take_loaded();
    open_offered(getenv("VISATB_CUBLAS_OFFER"));
    open_usual();
    if (result.found)
        return;
    (void)snprintf(refusal, sizeof refusal,
                   "no cuBLAS found (%s); expected one that is installed, or its path in VISATB_CUBLAS",
                   tried);
    text_end_whole(refusal);
}

const cublas *cublas_open(void) {
    (void)pthread_once(&once, search);
    return &result;
}

/* --- calls --------------------------------------------------------------------------------------------- */

static visatb_status check(const char *function, const char *call, int status) {
    if (status == STATUS_SUCCESS)
        return VISATB_OK;
    return error_set(VISATB_ERROR_DEVICE, "%s: %s: %s failed: %s (%d)", function, description, call,
                     functions.get_status_string(status), status);
}

visatb_status cublas_create(const char *function, void **handle) {
    void *created = NULL;
    visatb_status status = check(function, "cublasCreate", functions.create(&created));
    if (status != VISATB_OK)
        return status;
    status = check(function, "cublasSetMathMode", functions.set_math_mode(created, MATH_MODE));
    if (status == VISATB_OK)
        status =
            check(function, "cublasSetPointerMode", functions.set_pointer_mode(created, POINTERS_OF_HOST));
    if (status == VISATB_OK)
        *handle = created;
    else
        cublas_destroy(created);
    return status;
}

void cublas_destroy(void *handle) {
    (void)functions.destroy(handle);
}

/* In this order: a new stream takes the workspace away. */
visatb_status cublas_begin(const char *function, void *handle, void *stream, void *workspace, size_t bytes) {
    const visatb_status status = check(function, "cublasSetStream", functions.set_stream(handle, stream));
    if (status != VISATB_OK)
        return status;
    return check(function, "cublasSetWorkspace", functions.set_workspace(handle, workspace, bytes));
}

static int type_of(visatb_dtype dtype) {
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: return REAL_BF16;
    case VISATB_DTYPE_FLOAT16: return REAL_HALF;
    default: return REAL_FLOAT;
    }
}

static int turn(bool turned) {
    return turned ? TURNED : AS_STORED;
}

/* cuBLAS is column-major: what is C for us is its transpose there, and that is B^T A^T. The transposes cost
 * nothing, for each matrix is seen as its own. So A and B change places, rows and columns with them, and all
 * else stays. */
visatb_status cublas_multiply(const char *function, void *handle, const cublas_product *p) {
    static const float one = 1;
    const float beta = p->accumulate ? 1 : 0;
    return check(function, "cublasGemmEx",
                 functions.gemm_ex(handle, turn(p->b_turned), turn(p->a_turned), (int)p->columns,
                                   (int)p->rows, (int)p->depth, &one, p->b, type_of(p->dtype),
                                   (int)p->b_stride, p->a, type_of(p->dtype), (int)p->a_stride, &beta, p->c,
                                   type_of(p->c_dtype), (int)p->c_stride, COMPUTE_FLOAT, DEFAULT_ALGORITHM));
}
