/* The walk over the rows: which of them count, what they add up to, and which gradient each gets. */
#ifndef VISATB_LOSS_ROWS_H
#define VISATB_LOSS_ROWS_H

#include "loss/backend.h"

/* What is to be computed, with every choice made. */
typedef struct loss_plan {
    const visatb_vitw_loss_args *args; /* checked; no stride is 0 */
    double denominator;                /* D, as given or computed; 0 only where no row has a weight */
    double divisor;                    /* of the numerator: D, or 1 */
    double gradient_scale;             /* the gradient of a row is task weight * this * (p - onehot) */
} loss_plan;

/* True where the row's label is not ignore_index. */
bool loss_row_is_valid(const visatb_vitw_loss_args *args, int64_t row);

/* The weight of a valid row. */
double loss_row_weight(const visatb_vitw_loss_args *args, int64_t row);

/* Writes the gradient and what is reported by row and by task. Returns the numerator. */
double loss_rows_run(const loss_plan *plan, const loss_backend *backend, visatb_report *report);

#endif
