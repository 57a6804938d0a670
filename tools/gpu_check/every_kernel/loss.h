/* Calls of visatb_vitw_loss beside its formula. */
#ifndef EVERY_KERNEL_LOSS_H
#define EVERY_KERNEL_LOSS_H

#include "visatb.h"

#include <stdbool.h>

/* What is wrong in the GPU's memory. */
typedef enum fault { NO_FAULT, BAD_LABEL, BAD_TASK_ID, BAD_TASK_WEIGHT, BAD_LOGITS, BAD_DENOMINATOR } fault;

typedef struct loss_case {
    const char *name;
    visatb_dtype dtype;
    visatb_cuda_path path;
    int64_t rows;
    int64_t vocab;
    int64_t padding; /* stride - vocab */
    int64_t offset;  /* elements before the first, so that rows are not aligned */
    bool in_place;
    bool is_sum;
    bool gives_denominator; /* else it is computed */
    bool has_no_gradient;
    float grad_scale; /* 0: none */
    double label_smoothing;
    double softcap;
    double z_loss;
    fault fault;
} loss_case;

/* The plan for these; false where the path cannot be had. */
bool loss_plan(const loss_case *wanted, visatb_loss_plan *plan);

void loss_try(const loss_case *wanted);

/* visatb_scale_gradient, with a factor that is the expected one and one that is not. */
void loss_try_scaling(visatb_dtype dtype, int64_t count);

/* visatb_vitw_denominator, added to what is there. */
void loss_try_count(int64_t count);

#endif
