/* What a way of computing the loss must be able to do with one row. Which rows count, what the loss of a row
 * is made of and what it all adds up to is settled elsewhere (rows.c), once for all backends. */
#ifndef VISATB_LOSS_BACKEND_H
#define VISATB_LOSS_BACKEND_H

#include "visatb.h"

#include <stdbool.h>

/* One row of logits and its label. */
typedef struct loss_row {
    visatb_dtype dtype;
    int64_t vocab;
    int64_t label;
    const void *logits;
    void *gradient; /* NULL: none is wanted; the logits themselves: in place */
    double softcap; /* c; 0: off */
    bool with_sum;  /* whether the sum of the logits is wanted */
    float *scratch; /* backend->scratch_bytes of this dtype and softcap, on a cache line */
} loss_row;

/* The softmax of a row, kept apart so that neither the loss nor the gradient of a confident token is formed
 * by cancellation: 1 - p of the label is others / (target + others). z is the capped logit. */
typedef struct loss_softmax {
    double maximum;      /* of the z */
    double target_logit; /* the label's z */
    double target;       /* exp(target_logit - maximum) */
    double others;       /* the sum of exp(z - maximum) over all but the label */
    double sum;          /* of the z, if wanted */
    double target_slope; /* dz/dx at the label: 1 - (z/c)^2 */
    double reference;    /* for the backend, which kept exp(z - reference) somewhere */
} loss_softmax;

/* The gradient of entry i is (probability * p_i - uniform) * slope_i; that of the label, target * slope. */
typedef struct loss_terms {
    double probability;
    double uniform;
    double target;
} loss_terms;

typedef struct loss_backend {
    /* The working memory of a thread. */
    size_t (*scratch_bytes)(visatb_dtype dtype, int64_t vocab, bool capped);

    /* False, with nothing in *softmax, for logits that have none: NaN, +inf, or nothing but -inf. Where a
     * gradient is wanted its memory may hold anything afterwards, also in place. */
    bool (*softmax)(const loss_row *row, loss_softmax *softmax);

    /* Writes the gradient of the row that `softmax` was called with just before, in the same scratch. */
    void (*gradient)(const loss_row *row, const loss_softmax *softmax, const loss_terms *terms);

    /* The same value everywhere in the gradient; neither logits nor scratch are touched. */
    void (*fill)(const loss_row *row, double value);
} loss_backend;

#endif
