/* What a way of computing the loss must be able to do with one row. Which rows count, what the loss of a row
 * is made of and what it all adds up to is settled elsewhere (rows.c), once for all backends. */
#ifndef VISATB_LOSS_BACKEND_H
#define VISATB_LOSS_BACKEND_H

#include "loss/formula.h"
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
