/* The loss of a linear head on a GPU, in its parts: what was asked for (linear_check.c), how it is laid out
 * in the workspace (linear_layout.c), and the order of its launches (vitw_linear_loss.c). */
#ifndef VISATB_CUDA_LINEAR_H
#define VISATB_CUDA_LINEAR_H

#include "cuda/kernels.h"

/* How the workspace is shared out: offsets in it, from a multiple of 256 on. It depends on sizes and types
 * alone, not on which pointers are NULL, for a plan may leave them all out. */
typedef struct cuda_linear_layout {
    size_t step;       /* cuda_step */
    size_t outcomes;   /* cuda_outcome [rows] */
    size_t index;      /* int64_t [chunks, chunk_rows] */
    size_t products;   /* CUDA_LINEAR_PRODUCTS_BYTES, for cuBLAS */
    size_t hidden;     /* [chunk_rows, hidden_stride] of dtype: the gathered rows, then their gradient */
    size_t logits;     /* [chunk_rows, logits_stride] of dtype, then their gradient */
    size_t ones;       /* [chunk_rows] of dtype */
    size_t weight_sum; /* fp32 [vocab, hidden_size], where `sums` */
    size_t bias_sum;   /* fp32 [vocab], where `sums` */
    size_t bytes;      /* of it all, of any alignment */

    int64_t room; /* the most rows that may be valid */
    int64_t hidden_stride;
    int64_t logits_stride;
    int64_t chunk_rows; /* 0 only without rows */
    int64_t chunks;
    bool sums; /* the head's gradients are added up apart, and rounded when all chunks are done */
} cuda_linear_layout;

/* What NVIDIA recommends for the GPUs that need most of it. */
#define CUDA_LINEAR_PRODUCTS_BYTES ((size_t)32 << 20)

/* A checked call. */
typedef struct cuda_linear_call {
    visatb_vitw_linear_loss_args args;
    visatb_vitw_loss_args loss; /* the same call as one on logits of dtype */
    visatb_dtype head;          /* the type of the head's gradients */
    cuda_device device;
    cuda_loss_plan plan;
    cuda_linear_layout layout;
    cuda_scalar denominator;
    cuda_scalar grad_scale;
} cuda_linear_call;

/* Shapes and choices, and the layout that follows from them. `function` begins the messages. */
visatb_status cuda_linear_check_shape(const char *function, const visatb_vitw_linear_loss_args *args,
                                      cuda_linear_call *call);

/* The device, the context's or else the current one, and how it computes the loss. */
visatb_status cuda_linear_plan_device(const char *function, cuda_linear_call *call);

/* The rest, for a call with a context, whose device is current; reads the scalars that the host knows. */
visatb_status cuda_linear_check_contents(const char *function, cuda_linear_call *call);

/* From args and head. Errors: ARGUMENT. */
visatb_status cuda_linear_lay_out(const char *function, const visatb_vitw_linear_loss_args *args,
                                  visatb_dtype head, cuda_linear_layout *layout);

/* Where the layout begins. */
unsigned char *cuda_linear_start(const visatb_vitw_linear_loss_args *args);

#endif
