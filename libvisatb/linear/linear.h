/* The loss of a linear head, in its parts: what was asked for (check.c), how it is laid out in the workspace
 * (layout.c), the three products of a chunk (products.c), and the order of it all (vitw_linear_loss.c). */
#ifndef VISATB_LINEAR_LINEAR_H
#define VISATB_LINEAR_LINEAR_H

#include "blas/blas.h"
#include "loss/rows.h"

static inline int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Sizes that stick at SIZE_MAX where they would pass it. */
static inline size_t times(size_t a, size_t b) {
    size_t product = 0;
    return __builtin_mul_overflow(a, b, &product) ? SIZE_MAX : product;
}

static inline size_t plus(size_t a, size_t b) {
    size_t sum = 0;
    return __builtin_add_overflow(a, b, &sum) ? SIZE_MAX : sum;
}

/* The rows that a workspace has room for. */
static inline int64_t most_valid_rows(const visatb_vitw_linear_loss_args *args) {
    return args->max_valid_rows > 0 ? smaller(args->max_valid_rows, args->rows) : args->rows;
}

/* A checked call. */
typedef struct linear_call {
    visatb_vitw_linear_loss_args args; /* no stride is 0 */
    visatb_vitw_loss_args loss;        /* the same call as one on logits */
    const loss_backend *backend;       /* of these logits */
    visatb_cpu_path path;
    blas blas;
} linear_call;

/* --- checks; `function` begins the messages. The first few are of any device; `head` is the type of the
 * head's gradients. ------------------------------------------------------------------------------------- */

/* Copies the caller's arguments, of this or another version, and resolves strides of 0. */
visatb_status linear_copy_args(const char *function, const visatb_vitw_linear_loss_args *args,
                               visatb_vitw_linear_loss_args *known);

/* The same call as one on logits of this type, of which there are none. */
visatb_vitw_loss_args linear_loss_on_logits(const visatb_vitw_linear_loss_args *args, visatb_dtype dtype);

/* The numbers that the loss on logits does not have. */
visatb_status linear_check_extents(const char *function, const visatb_vitw_linear_loss_args *args);

/* The caller's matrices, in their strides and alignment. */
visatb_status linear_check_matrices(const char *function, const visatb_vitw_linear_loss_args *args,
                                    visatb_dtype head);

/* The inputs that the loss on logits does not have. */
visatb_status linear_check_pointers(const char *function, const visatb_vitw_linear_loss_args *args);

/* Outputs against everything; of the workspace only the bytes that the call uses count. */
visatb_status linear_check_overlap(const char *function, const visatb_vitw_linear_loss_args *args,
                                   visatb_dtype head, size_t workspace_bytes);

/* Whether there is the workspace that the call needs. */
visatb_status linear_check_workspace(const char *function, const visatb_vitw_linear_loss_args *args,
                                     size_t needed);

/* Everything that a plan depends on, for a call on the CPU whose arguments were copied. */
visatb_status linear_check_shape(const char *function, const visatb_vitw_linear_loss_args *args,
                                 linear_call *call);

/* The rest, but for the size of the workspace, of which so many bytes are used. */
visatb_status linear_check_contents(const char *function, const linear_call *call, size_t workspace_bytes);

/* Bytes of an element of logits, chunks and head gradients: 4, or 8 for fp64. */
size_t linear_wide_bytes(const linear_call *call);

/* Whether any gradient is wanted. */
bool linear_wants_gradient(const linear_call *call);

/* How the workspace is shared out: offsets in it, from a cache line on. */
typedef struct linear_layout {
    size_t outcomes; /* loss_outcome [rows] */
    size_t index;    /* int64_t [valid rows at most]: which rows those are */
    size_t rooms;    /* [workers, room_bytes]: what a thread needs for itself */
    size_t logits;   /* [chunk_rows, logits_stride] */
    size_t hidden;   /* [chunk_rows, hidden_size]: the gathered rows, then their gradient */
    size_t bytes;    /* of it all, of any alignment */

    size_t room_bytes;
    size_t room_of_product; /* where in a room the product's own begins */
    int workers;
    int64_t logits_stride;
    int64_t edge;       /* of the tiles that work is dealt out in */
    int64_t chunk_rows; /* 0 only without rows */
    int64_t chunks;
} linear_layout;

visatb_status linear_lay_out(const char *function, const linear_call *call, linear_layout *layout);

/* Does with fewer workers than planned, where that makes the layout fit into the workspace. */
void linear_fit(const linear_call *call, linear_layout *layout);

/* What the products of a chunk work on. */
typedef struct linear_chunk {
    const linear_call *call;
    const linear_layout *layout;
    int64_t rows; /* of this chunk */
    void *logits; /* then their gradient */
    void *hidden; /* then its gradient */
    unsigned char *rooms;
    bool adds; /* whether the head gradients hold something already */
} linear_chunk;

/* logits = hidden weight^T + bias. */
void linear_multiply_logits(linear_chunk *chunk);

/* The head gradients that are wanted, from hidden and the gradient of the logits. */
void linear_multiply_head_gradient(linear_chunk *chunk);

/* The gradient of hidden, in place of hidden. */
void linear_multiply_hidden_gradient(linear_chunk *chunk);

#endif
