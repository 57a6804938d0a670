/* What a way of computing the loss must be able to do with one row. Which rows count, what the loss of a row
 * is made of and what it all adds up to is settled elsewhere (rows.c), once for all backends. */
#ifndef VISATB_LOSS_BACKEND_H
#define VISATB_LOSS_BACKEND_H

#include "loss/formula.h"
#include "visatb.h"

#include <stdbool.h>

/* The label of a row whose label is a word of another slice of the vocabulary. */
enum { LOSS_NO_LABEL = -1 };

/* One row of logits and its label. */
typedef struct loss_row {
    visatb_dtype dtype;
    int64_t vocab;
    int64_t label; /* in [0, vocab), or LOSS_NO_LABEL */
    const void *logits;
    void *gradient; /* NULL: none is wanted; the logits themselves: in place */
    double softcap; /* c; 0: off */
    bool with_sum;  /* whether the sum of the logits is wanted */
    float *scratch; /* backend->scratch_bytes of this dtype and softcap, on a cache line */
} loss_row;

typedef struct loss_backend {
    /* The working memory of a thread. */
    size_t (*scratch_bytes)(visatb_dtype dtype, int64_t vocab, bool capped);

    /* False, with nothing in *softmax, for logits that have none: NaN or +inf. Of nothing but -inf, `largest`
     * is -inf, and what without a cap is added up of it 0. Without a label, target_logit is -inf. Where a
     * gradient is wanted its memory may hold anything afterwards, also in place. */
    bool (*softmax)(const loss_row *row, loss_softmax *softmax);

    /* Writes the gradient of the row that `softmax` was called with just before, in the same scratch. The
     * softmax may since have become that of a whole vocabulary, but for `reference` and target_slope. */
    void (*gradient)(const loss_row *row, const loss_softmax *softmax, const loss_terms *terms);

    /* The same value everywhere in the gradient; neither logits nor scratch are touched. */
    void (*fill)(const loss_row *row, double value);
} loss_backend;

#endif
