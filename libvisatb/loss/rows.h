/* The rules of rows: which of them count, what the loss of one is made of, which gradient it gets, and what
 * they add up to. Rows are computed each by itself, on any thread, and added up in their order afterwards; so
 * the sums have the same bits however the rows were shared out. */
#ifndef VISATB_LOSS_ROWS_H
#define VISATB_LOSS_ROWS_H

#include "loss/backend.h"

enum { LOSS_CACHE_LINE = 64 };

/* What is to be computed, with every choice made. */
typedef struct loss_plan {
    const visatb_vitw_loss_args *args; /* checked; no stride is 0 */
    const loss_backend *backend;
    int threads;
    double denominator;    /* D, as given or computed; 0 only where no row has a weight */
    double divisor;        /* of the numerator: D, or 1 */
    double gradient_scale; /* the gradient of a row is task weight * this * dl/dlogits */
} loss_plan;

/* What came out for a row. */
typedef struct loss_outcome {
    double nll;
    double lse;
    double loss; /* l: the nll and what the options add */
    int32_t bad; /* whether the logits had no softmax; all of the above are NaN then */
} loss_outcome;

/* True where the row's label is not ignore_index. */
bool loss_row_is_valid(const visatb_vitw_loss_args *args, int64_t row);

/* The weight of a valid row. */
double loss_row_weight(const visatb_vitw_loss_args *args, int64_t row);

/* D of these rows. */
double loss_sum_of_weights(const visatb_vitw_loss_args *args);

/* The plan of checked arguments. */
loss_plan loss_plan_of(const visatb_vitw_loss_args *args, const loss_backend *backend);

/* Rounds a size up to whole cache lines. */
size_t loss_aligned_bytes(size_t bytes);

/* Bytes of a thread's working memory, a multiple of a cache line. */
size_t loss_scratch_bytes(const loss_plan *plan);

/* Row `index` of the call, whose logits stand at `logits` and whose gradient goes to `gradient` (NULL: none).
 * An ignored row has no outcome. `scratch` begins on a cache line. */
void loss_run_row(const loss_plan *plan, int64_t index, const void *logits, void *gradient, float *scratch,
                  loss_outcome *outcome);

/* Adds up the outcomes [rows] of the call and writes all of its outputs but the gradient. */
void loss_finish(const loss_plan *plan, const loss_outcome *outcomes);

#endif
