/* What the rest of the library asks of this folder. Where the library is built without CUDA,
 * without_cuda.c answers that there is none. */
#ifndef VISATB_CUDA_CUDA_H
#define VISATB_CUDA_CUDA_H

#include "visatb.h"

#include <stdbool.h>

/* visatb_vitw_loss and its plan, for arguments of our own version whose strides are not 0. */
visatb_status cuda_vitw_loss(const visatb_vitw_loss_args *args);
visatb_status cuda_vitw_loss_plan(const visatb_vitw_loss_args *args, visatb_loss_plan *plan);

/* visatb_vitw_linear_loss and its plan, likewise. */
visatb_status cuda_vitw_linear_loss(const visatb_vitw_linear_loss_args *args);
visatb_status cuda_vitw_linear_loss_plan(const visatb_vitw_linear_loss_args *args, visatb_linear_plan *plan);

/* visatb_vitw_denominator, for checked arguments of our own version in which only what it uses is not 0. */
visatb_status cuda_vitw_denominator(const visatb_vitw_loss_args *args, bool adds);

/* The arguments of visatb_sum_over_ranks: a communicator, and something to sum. */
typedef struct cuda_rank_sums {
    double *values; /* NULL where there are none, as tokens */
    int64_t values_count;
    int64_t *tokens;
    int64_t tokens_count;
    void *comm;
    void *stream;
} cuda_rank_sums;

visatb_status cuda_sum_over_ranks(const cuda_rank_sums *sums);

/* For visatb_build_info. */
const char *cuda_description(void);
const char *cuda_description_of_nccl(void);

#endif
