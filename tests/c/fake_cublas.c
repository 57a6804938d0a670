/* A library with the interface of cuBLAS, for tests without a GPU: it multiplies by the definition, on memory
 * of the host, in long double, and rounds once. It refuses what the real one refuses, and also what the real
 * one would let pass but ours must not do: a workspace that was not set since the stream was, and another
 * math mode than that of fp32 sums. FAKE_CUBLAS_VERSION in the environment ("11") replaces its major version.
 */
#include "fake_cublas.h"

#include "loss_reference.h"

#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0,
    NOT_INITIALIZED = 1,
    INVALID_VALUE = 7,
    EXECUTION_FAILED = 13,
    NOT_SUPPORTED = 15,
};

enum { REAL_FLOAT = 0, REAL_HALF = 2, REAL_BF16 = 14 };

typedef struct handle {
    bool has_stream;
    bool has_workspace;
    int math_mode;
    int pointer_mode;
} handle;

static int products;
static int product_to_fail;
static int creations;
static int creation_to_fail;
static int handles;

int fake_cublas_products(void) {
    return products;
}

void fake_cublas_fail_product(int n) {
    product_to_fail = n > 0 ? products + n : 0;
}

void fake_cublas_fail_creation(int n) {
    creation_to_fail = n > 0 ? creations + n : 0;
}

int fake_cublas_handles(void) {
    return handles;
}

/* --- handles ------------------------------------------------------------------------------------------- */

int cublasCreate_v2(void **created);
int cublasCreate_v2(void **created) {
    creations += 1;
    if (creations == creation_to_fail)
        return NOT_INITIALIZED;
    *created = calloc(1, sizeof(handle));
    if (*created == NULL)
        abort();
    handles += 1;
    return SUCCESS;
}

int cublasDestroy_v2(void *destroyed);
int cublasDestroy_v2(void *destroyed) {
    handles -= 1;
    free(destroyed);
    return SUCCESS;
}

int cublasSetStream_v2(void *of, void *stream);
int cublasSetStream_v2(void *of, void *stream) {
    (void)stream;
    handle *h = of;
    h->has_stream = true;
    h->has_workspace = false;
    return SUCCESS;
}

int cublasSetWorkspace_v2(void *of, void *workspace, size_t bytes);
int cublasSetWorkspace_v2(void *of, void *workspace, size_t bytes) {
    handle *h = of;
    if ((uintptr_t)workspace % 256 != 0)
        return INVALID_VALUE;
    if (workspace == NULL || bytes == 0)
        return SUCCESS;
    h->has_workspace = true;
    /* As a product may: whoever keeps something there loses it. */
    memset(workspace, 0xa5, bytes);
    return SUCCESS;
}

int cublasSetMathMode(void *of, int mode);
int cublasSetMathMode(void *of, int mode) {
    ((handle *)of)->math_mode = mode;
    return SUCCESS;
}

int cublasSetPointerMode_v2(void *of, int mode);
int cublasSetPointerMode_v2(void *of, int mode) {
    ((handle *)of)->pointer_mode = mode;
    return SUCCESS;
}

int cublasGetProperty(int type, int *value);
int cublasGetProperty(int type, int *value) {
    static const int version[] = {99, 8, 7};
    const char *major = getenv("FAKE_CUBLAS_VERSION"); /* NOLINT(concurrency-mt-unsafe): nobody changes it */
    if (type < 0 || type > 2)
        return INVALID_VALUE;
    *value = type == 0 && major != NULL ? (int)strtol(major, NULL, 10) : version[type];
    return SUCCESS;
}

const char *cublasGetStatusString(int status);
const char *cublasGetStatusString(int status) {
    switch (status) {
    case NOT_INITIALIZED: return "the library was not initialized";
    case INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
    case EXECUTION_FAILED: return "the function failed to launch on the GPU";
    default: return "the functionality requested is not supported";
    }
}

/* --- products, column-major ---------------------------------------------------------------------------- */

typedef struct matrix {
    visatb_dtype dtype;
    const void *start;
    int64_t stride;
    bool turned;
} matrix;

static bool is_type(int type) {
    return type == REAL_FLOAT || type == REAL_HALF || type == REAL_BF16;
}

static visatb_dtype dtype_of(int type) {
    if (type == REAL_FLOAT)
        return VISATB_DTYPE_FLOAT32;
    return type == REAL_HALF ? VISATB_DTYPE_FLOAT16 : VISATB_DTYPE_BFLOAT16;
}

static double element(const matrix *of, int row, int column) {
    const int64_t at = of->turned ? row * of->stride + column : column * of->stride + row;
    return reference_get(of->dtype, of->start, at);
}

static int checked(const handle *h, int turn_a, int turn_b, int a_type, int b_type, int c_type, int compute,
                   int algorithm) {
    if (h == NULL)
        return NOT_INITIALIZED;
    if (turn_a < 0 || turn_a > 1 || turn_b < 0 || turn_b > 1 || h->pointer_mode != 0)
        return INVALID_VALUE;
    if (compute != 68 || algorithm != -1 || !is_type(a_type) || a_type != b_type ||
        (c_type != REAL_FLOAT && c_type != a_type))
        return NOT_SUPPORTED;
    return h->has_stream && h->has_workspace && h->math_mode == 16 ? SUCCESS : NOT_SUPPORTED;
}

static bool is_stride(int stride, int rows) {
    return stride >= 1 && stride >= rows;
}

int cublasGemmEx(void *of, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a,
                 int a_type, int a_stride, const void *b, int b_type, int b_stride, const void *beta, void *c,
                 int c_type, int c_stride, int compute, int algorithm);
int cublasGemmEx(void *of, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a,
                 int a_type, int a_stride, const void *b, int b_type, int b_stride, const void *beta, void *c,
                 int c_type, int c_stride, int compute, int algorithm) {
    products += 1;
    if (products == product_to_fail)
        return EXECUTION_FAILED;
    const int status = checked(of, turn_a, turn_b, a_type, b_type, c_type, compute, algorithm);
    if (status != SUCCESS)
        return status;
    if (m < 0 || n < 0 || k < 0 || !is_stride(a_stride, turn_a ? k : m) ||
        !is_stride(b_stride, turn_b ? n : k) || !is_stride(c_stride, m))
        return INVALID_VALUE;
    const matrix left = {dtype_of(a_type), a, a_stride, turn_a != 0};
    const matrix right = {dtype_of(b_type), b, b_stride, turn_b != 0};
    const double scale = (double)*(const float *)alpha;
    const double keep = (double)*(const float *)beta;
    for (int column = 0; column < n; ++column)
        for (int row = 0; row < m; ++row) {
            const int64_t at = (int64_t)column * c_stride + row;
            long double sum = 0;
            for (int i = 0; i < k; ++i)
                sum += (long double)element(&left, row, i) * (long double)element(&right, i, column);
            sum *= (long double)scale;
            if (keep != 0) /* else what is there is not read, be it NaN */
                sum += (long double)(keep * reference_get(dtype_of(c_type), c, at));
            reference_put(dtype_of(c_type), c, at, sum);
        }
    return SUCCESS;
}
