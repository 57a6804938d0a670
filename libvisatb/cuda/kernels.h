/* What the host's side launches: for each operation its arguments, and a function that puts it into a stream
 * and returns a cudaError_t. Pointers are to the GPU's memory. */
#ifndef VISATB_CUDA_KERNELS_H
#define VISATB_CUDA_KERNELS_H

#include "cuda/runtime.h"
#include "visatb.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- which rows count ----------------------------------------------------------------------------------- */

/* The rows of a call, in the caller's arrays. */
typedef struct cuda_rows {
    int64_t rows;
    int64_t vocab;
    int64_t tasks;
    const int64_t *labels;
    const int32_t *task_ids;
    const float *task_weights;
    int64_t ignore_index;
} cuda_rows;

/* A scalar that is known now, or when the work is done. */
typedef struct cuda_scalar {
    const double *doubles; /* one of these, or neither: `value` */
    const float *floats;
    double value;
} cuda_scalar;

/* What is known of a step before its rows are computed. */
typedef struct cuda_step {
    double denominator;   /* D, as given or computed */
    int64_t valid_rows;   /* labels that differ from ignore_index */
    int64_t first_beyond; /* the first valid row for which the index has no room, or -1 */
} cuda_step;

/* What came out for a valid row, for the sums. */
typedef struct cuda_outcome {
    double loss; /* weight * l, 0 for a weight of 0 */
    double nll;
    float lse;
    int32_t code; /* a visatb_report_code */
} cuda_outcome;

/* Counts the valid rows, lists the first `room` of them, and adds up D where none is given. */
typedef struct cuda_count {
    cuda_rows rows;
    bool computes; /* D; else it is `given` */
    cuda_scalar given;
    cuda_step *step;  /* out */
    int64_t *index;   /* out [capacity], NULL: no: rows that are valid, in their order; -1 beyond them */
    int64_t room;     /* most rows listed */
    int64_t capacity; /* length of the index, >= room */
    cuda_outcome *outcomes; /* out with `index`: [rows], of the valid rows that have no room: NaN */
} cuda_count;

int cuda_launch_count(const cuda_count *count, void *stream);

/* D and the tokens by task of rows without logits. `adds`: to what is there, else in its place. */
typedef struct cuda_tally {
    cuda_rows rows;
    bool adds;
    double *denominator;  /* out, NULL: no */
    int64_t *task_tokens; /* out [tasks], NULL: no */
} cuda_tally;

int cuda_launch_tally(const cuda_tally *tally, void *stream);

/* --- the loss of rows of logits ------------------------------------------------------------------------ */

typedef struct cuda_loss {
    cuda_rows rows;
    int64_t logits_rows;  /* rows of logits: those of the call, or those that `index` lists */
    const int64_t *index; /* [logits_rows], NULL: each its own; -1: no row of the call, a gradient of 0 */
    visatb_dtype dtype;
    const void *logits;
    int64_t logits_stride;
    void *gradient; /* NULL: none; logits: in place */
    int64_t gradient_stride;
    cuda_scalar denominator;
    bool divides; /* by the denominator, the mean; else the sum */
    cuda_scalar grad_scale;
    double label_smoothing;
    double softcap;
    double z_loss;
    const cuda_step *step;  /* NULL: the denominator is used; else that of the step, and NaN everywhere if */
                            /* it had no room for all valid rows */
    cuda_outcome *outcomes; /* out [rows of the call], where valid */
} cuda_loss;

/* How the kernel is launched. */
typedef struct cuda_loss_plan {
    visatb_cuda_path path;
    int cluster;
    int threads;
    size_t shared_bytes;
    size_t shared_limit; /* of any plan on the device */
} cuda_loss_plan;

/* The plan of rows of `vocab` elements of so many bytes, on the current device. UNSUPPORTED where `wanted`
 * cannot be had. */
visatb_status cuda_plan_loss(const char *function, const cuda_device *device, visatb_cuda_path wanted,
                             int64_t vocab, size_t element_bytes, cuda_loss_plan *plan);

int cuda_launch_loss(const cuda_loss *loss, const cuda_loss_plan *plan, void *stream);

/* --- the sums ------------------------------------------------------------------------------------------- */

typedef struct cuda_sums {
    cuda_rows rows;
    const cuda_outcome *outcomes; /* [rows], where valid */
    cuda_scalar denominator;      /* as cuda_loss has them */
    bool divides;
    const cuda_step *step;
    double *loss; /* out; NULL: no, but for this one */
    double *numerator;
    double *denominator_out;
    float *row_nll;
    float *row_lse;
    double *task_nll;
    int64_t *task_tokens;
    visatb_report *report;
} cuda_sums;

int cuda_launch_sums(const cuda_sums *sums, void *stream);

/* --- gradients by an upstream factor ---------------------------------------------------------------------
 */

typedef struct cuda_scale {
    void *gradient; /* [rows, width] */
    int64_t rows;
    int64_t width;
    int64_t stride; /* elements from row to row */
    visatb_dtype dtype;
    const float *factor;
    const float *expected; /* NULL: 1 */
} cuda_scale;

int cuda_launch_scale(const cuda_scale *scale, const cuda_device *device, void *stream);

/* --- rows of hidden states, for the linear form ----------------------------------------------------------
 */

/* [rows, width] of elements of `element_bytes` (2 or 4), `stride` elements from row to row. */
typedef struct cuda_matrix {
    void *start;
    int64_t rows;
    int64_t width;
    int64_t stride;
    size_t element_bytes;
} cuda_matrix;

/* gathered[i] = hidden[index[i]], zeros where that is -1. */
typedef struct cuda_gather {
    cuda_matrix hidden;
    cuda_matrix gathered;
    const int64_t *index; /* [gathered.rows] */
} cuda_gather;

int cuda_launch_gather(const cuda_gather *gather, void *stream);

/* Zeros in the gathered rows whose weight is 0: 0 times what they hold, if that is NaN, would get into the
 * gradient of the head. */
typedef struct cuda_forget {
    cuda_rows rows;
    cuda_matrix gathered;
    const int64_t *index;
} cuda_forget;

int cuda_launch_forget(const cuda_forget *forget, void *stream);

/* hidden_gradient[index[i]] = gathered[i], or zeros where the row's weight is 0. */
typedef struct cuda_scatter {
    cuda_rows rows;
    cuda_matrix gathered;
    cuda_matrix hidden_gradient;
    const int64_t *index;
} cuda_scatter;

int cuda_launch_scatter(const cuda_scatter *scatter, void *stream);

/* What no chunk writes to: zeros in the rows that are ignored; NaN in the valid ones from step->first_beyond
 * on that have a weight. */
typedef struct cuda_clear {
    cuda_rows rows;
    cuda_matrix hidden_gradient;
    visatb_dtype dtype;
    const cuda_step *step;
} cuda_clear;

int cuda_launch_clear(const cuda_clear *clear, void *stream);

/* Ones, for the products that add a bias and sum its gradient. */
int cuda_launch_ones(void *ones, int64_t count, visatb_dtype dtype, void *stream);

/* out = sum, or out += sum, rounded once. */
typedef struct cuda_narrow {
    const float *sum; /* [count] */
    void *out;        /* [count] of dtype */
    int64_t count;
    visatb_dtype dtype;
    bool adds;
} cuda_narrow;

int cuda_launch_narrow(const cuda_narrow *narrow, void *stream);

#ifdef __cplusplus
}
#endif

#endif
