#include "cuda/cublas.h"

#include "common/error.h"
#include "cuda/opened_library.h"

#include <pthread.h>
#include <stdio.h>

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
static char description[64];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- opening it ---------------------------------------------------------------------------------------- */

static void forget_version(void) {
    (void)snprintf(description, sizeof description, "cuBLAS");
}

/* NULL, or what is wrong with its version. */
static const char *read_version(opened_library *library) {
    int version[PROPERTIES] = {0};
    for (int type = MAJOR_VERSION; type <= PATCH_LEVEL; ++type)
        if (functions.get_property(type, &version[type]) != STATUS_SUCCESS)
            return "it does not tell its version";
    (void)snprintf(description, sizeof description, "cuBLAS %d.%d.%d", version[MAJOR_VERSION],
                   version[MINOR_VERSION], version[PATCH_LEVEL]);
    if (version[MAJOR_VERSION] >= OLDEST_MAJOR_VERSION)
        return NULL;
    (void)snprintf(library->fault, sizeof library->fault, "it is %s, older than %d", description,
                   (int)OLDEST_MAJOR_VERSION);
    forget_version();
    return library->fault;
}

static const char *take(opened_library *library, void *handle) {
    const opened_function wanted[] = {
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
    const char *fault = opened_library_functions(library, handle, wanted, sizeof wanted / sizeof *wanted);
    return fault == NULL ? read_version(library) : fault;
}

static void search(void) {
    static const char *const usual[] = {"libcublas.so.13", "libcublas.so.12", NULL};
    static opened_library library = {
        .name = "cuBLAS",
        .order = "VISATB_CUBLAS",
        .offer = "VISATB_CUBLAS_OFFER",
        .usual = usual,
        .take = take,
    };
    forget_version();
    opened_library_search(&library);
    result = (cublas){.found = library.found, .description = description, .refusal = library.refusal};
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
