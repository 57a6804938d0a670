/* What a way of computing the loss must be able to do with one row. Which rows count and what they add up to
 * is settled elsewhere (rows.c), once for all backends. */
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
} loss_row;

/* The softmax of a row, kept apart so that neither the loss nor the gradient of a confident token is formed
 * by cancellation: 1 - p of the label is others / (target + others). */
typedef struct loss_softmax {
    double maximum;      /* of the logits */
    double target_logit; /* the label's */
    double target;       /* exp(target_logit - maximum) */
    double others;       /* the sum of exp(logit - maximum) over all but the label */
} loss_softmax;

typedef struct loss_backend {
    const char *name;

    /* False, with nothing in *softmax, for logits that have none: NaN, +inf, or nothing but -inf. */
    bool (*softmax)(const loss_row *row, loss_softmax *softmax);

    /* weight * (p - onehot). The gradient may be the row's logits themselves. */
    void (*gradient)(const loss_row *row, const loss_softmax *softmax, double weight, void *gradient);

    /* The same value everywhere; the logits are not read. */
    void (*fill)(const loss_row *row, double value, void *gradient);
} loss_backend;

#endif
