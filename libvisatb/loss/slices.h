/* A vocabulary in slices: what is told of a row by one slice, and how what all of them tell makes the softmax
 * of the whole row. For C and for CUDA kernels. */
#ifndef VISATB_LOSS_SLICES_H
#define VISATB_LOSS_SLICES_H

#include "loss/formula.h"

#include <stdbool.h>
#include <stdint.h>

/* What a slice tells of a row: VISATB_SLICE_STATISTICS doubles of the caller's array, in which slice s has
 * that of a row `rows` places behind that of slice s - 1. All 0 but the width where the row is ignored. */
typedef struct slice_statistics {
    double largest;      /* as in loss_softmax; -inf: there is nothing else, NaN: NaN or +inf is among them */
    double maximum;      /* of the z, or the z of `largest` */
    double others;       /* the sum of exp(z - maximum) over all but the label */
    double target_logit; /* the label's z; NaN: another slice has the label */
    double sum;          /* of the z, if wanted */
    double width;        /* of the slice, in words */
} slice_statistics;

/* Which words the logits of a call are of. */
typedef struct loss_words {
    int64_t first;                      /* the number of the first one; there are args->vocab of them */
    int64_t all;                        /* of the whole vocabulary */
    const slice_statistics *statistics; /* [slices, rows] what all slices tell; NULL: these are all words, */
    int64_t slices;                     /* or nothing was told yet */
} loss_words;

FORMULA slice_statistics slices_tell(const loss_softmax *softmax, bool has_label, int64_t width) {
    slice_statistics told;
    told.largest = softmax->largest;
    told.maximum = softmax->maximum;
    told.others = softmax->others;
    told.target_logit = has_label ? softmax->target_logit : NAN;
    told.sum = softmax->sum;
    told.width = (double)width;
    return told;
}

/* What is told of logits that have no softmax. */
FORMULA slice_statistics slices_tell_of_bad(bool has_label, int64_t width) {
    slice_statistics told;
    told.largest = NAN;
    told.maximum = 0;
    told.others = 0;
    told.target_logit = has_label ? 0 : NAN;
    told.sum = 0;
    told.width = (double)width;
    return told;
}

/* What is told of a row that has no label. */
FORMULA slice_statistics slices_tell_of_ignored(int64_t width) {
    slice_statistics told;
    told.largest = 0;
    told.maximum = 0;
    told.others = 0;
    told.target_logit = 0;
    told.sum = 0;
    told.width = (double)width;
    return told;
}

/* How many words all slices have, of any row; `of_row` is what the first tells of it. */
FORMULA double slices_words(const slice_statistics *of_row, int64_t slices, int64_t rows) {
    double words = 0;
    for (int64_t slice = 0; slice < slices; ++slice)
        words += of_row[slice * rows].width;
    return words;
}

/* In how many of the slices the label of a valid row is. */
FORMULA int64_t slices_with_label(const slice_statistics *of_row, int64_t slices, int64_t rows) {
    int64_t count = 0;
    for (int64_t slice = 0; slice < slices; ++slice)
        count += isnan(of_row[slice * rows].target_logit) ? 0 : 1;
    return count;
}

/* The softmax of the whole row, but for `reference` and target_slope, which are a slice's own. Always added
 * up in the order of the slices, so that each of them finds the same bits. False for logits that have none:
 * NaN, +inf, or nothing but -inf in all slices. */
FORMULA bool slices_merge(const slice_statistics *of_row, int64_t slices, int64_t rows,
                          loss_softmax *softmax) {
    softmax->largest = -INFINITY;
    softmax->maximum = -INFINITY;
    softmax->target_logit = -INFINITY;
    for (int64_t slice = 0; slice < slices; ++slice) {
        const slice_statistics *told = &of_row[slice * rows];
        if (isnan(told->largest))
            return false;
        softmax->largest = fmax(softmax->largest, told->largest);
        softmax->maximum = fmax(softmax->maximum, told->maximum);
        if (!isnan(told->target_logit))
            softmax->target_logit = told->target_logit;
    }
    softmax->target = exp(softmax->target_logit - softmax->maximum);
    softmax->others = 0;
    softmax->sum = 0;
    for (int64_t slice = 0; slice < slices; ++slice) {
        const slice_statistics *told = &of_row[slice * rows];
        softmax->others += told->others * exp(told->maximum - softmax->maximum);
        softmax->sum += told->sum;
    }
    return softmax->largest > -INFINITY;
}

#endif
