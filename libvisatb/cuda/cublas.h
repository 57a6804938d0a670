/* cuBLAS, opened at first use: one build of the library serves with the one that PyTorch brings along, with
 * the system's, and without any. */
#ifndef VISATB_CUDA_CUBLAS_H
#define VISATB_CUDA_CUBLAS_H

#include "visatb.h"

#include <stdbool.h>

/* What was found, once for the process. */
typedef struct cublas {
    bool found;
    const char *description; /* "cuBLAS 13.1.0"; "cuBLAS" where none was found */
    const char *refusal;     /* where none was found: why not, and what was expected */
} cublas;

const cublas *cublas_open(void);

/* What follows is for where one was found. `function` begins the messages; a failure of cuBLAS is
 * VISATB_ERROR_DEVICE. A handle is of the device that was current when it was created, and serves one thread
 * at a time. */
visatb_status cublas_create(const char *function, void **handle);
void cublas_destroy(void *handle);

enum { CUBLAS_WORKSPACE_ALIGNMENT = 256 };

/* The products that follow go into this stream and use this workspace and none of cuBLAS's own: so they have
 * the same bits on every run, whatever runs in other streams. */
visatb_status cublas_begin(const char *function, void *handle, void *stream, void *workspace, size_t bytes);

/* C = A B, or C += A B, of [rows, depth] and [depth, columns], all of them >= 1; sizes and strides are at
 * most 2^29. Matrices are row-major, with `stride` elements from row to row; "turned" ones are stored
 * transposed. Sums are fp32 and rounded once, to the type of C. */
typedef struct cublas_product {
    bool a_turned;
    bool b_turned;
    bool accumulate; /* else what C holds is not read, be it NaN */
    int64_t rows;
    int64_t columns;
    int64_t depth;
    visatb_dtype dtype; /* of A and B: fp32, bf16 or fp16 */
    const void *a;
    int64_t a_stride;
    const void *b;
    int64_t b_stride;
    visatb_dtype c_dtype; /* that of A and B, or fp32 */
    void *c;
    int64_t c_stride;
} cublas_product;

visatb_status cublas_multiply(const char *function, void *handle, const cublas_product *product);

#endif
