/* Products of dense matrices: OpenBLAS's where there is one, else our own (plain.h). */
#ifndef VISATB_BLAS_BLAS_H
#define VISATB_BLAS_BLAS_H

#include "visatb.h"

#include <stdbool.h>

/* C = A B, or C += A B, of [rows, depth] and [depth, columns], all of them >= 1. Matrices are row-major, with
 * `stride` elements from row to row; "turned" ones are stored transposed. */
typedef struct blas_product {
    bool a_turned;
    bool b_turned;
    bool accumulate; /* else what C holds is not read, be it NaN */
    int64_t rows;
    int64_t columns;
    int64_t depth;
    const void *a;
    int64_t a_stride;
    const void *b;
    int64_t b_stride;
    void *c;
    int64_t c_stride;
    int64_t edge; /* our own works in blocks of at most so many rows and columns, >= BLAS_SMALLEST_EDGE */
    void *room;   /* blas->room_bytes(edge), on a cache line, for this call alone */
} blas_product;

enum { BLAS_SMALLEST_EDGE = 64 };

/* What OpenBLAS counts rows and columns with is an int; this leaves room to spare. */
enum { BLAS_MOST = 1 << 29 };

/* Each call runs on the thread that makes it, and may be made from several at once. */
typedef struct blas {
    void (*multiply)(const blas_product *product);
    size_t (*room_bytes)(int64_t edge);
    const char *description;       /* static */
    void (*hold_threads)(void);    /* NULL: nothing to hold. Between these two its own threads stand still: */
    void (*release_threads)(void); /* calls nest, and come from any thread */
} blas;

/* The products of a call of `function` (it begins the message of an error) on floats or, for FLOAT64,
 * doubles. `path`: where our own are taken, the instructions they use. */
visatb_status blas_find(const char *function, visatb_dtype dtype, visatb_cpu_path path, blas *found);

/* For visatb_build_info: what multiplies floats, if nothing else is asked for. */
const char *blas_description(void);

#endif
