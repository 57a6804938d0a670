/* A call of the loss of a linear head on a GPU, with everything that should come out of it by the formula:
 * as linear_problem, but that logits and their gradient are rounded to the type, as they are on a GPU. */
#ifndef VISATB_TESTS_CUDA_LINEAR_PROBLEM_H
#define VISATB_TESTS_CUDA_LINEAR_PROBLEM_H

#include "linear_problem.h"

enum { CUDA_LINEAR_MOST_ARRAYS = 24 };

/* An array of the host's and its copy on the device. */
typedef struct cuda_linear_array {
    void *host;
    unsigned char *device;
    size_t bytes;
    bool written; /* by the call; else it must not change */
} cuda_linear_array;

typedef struct cuda_linear_problem {
    linear_problem host; /* whatever a test changes, it changes in host.args, host.logits and host.hidden */
    problem rounded;     /* the logits in their type, and their gradient */
    bool scalars_on_device;            /* else denominator and grad_scale are the host's */
    visatb_context *context;           /* of the call */
    visatb_linear_plan plan;           /* of the last run */
    visatb_status status;              /* of the last run */
    visatb_vitw_linear_loss_args args; /* of the last run */
    cuda_linear_array arrays[CUDA_LINEAR_MOST_ARRAYS];
    int array_count;
    unsigned char *workspace;
} cuda_linear_problem;

void cuda_linear_create(cuda_linear_problem *p, visatb_context *context, visatb_dtype dtype,
                        linear_shape shape);
void cuda_linear_destroy(cuda_linear_problem *p);

/* Works out what is expected. */
void cuda_linear_solve(cuda_linear_problem *p);

/* Copies all arrays to the device, the outputs as NaN or, where they are added to, 1; sets args to them, with
 * a workspace of the planned size at an odd address. */
void cuda_linear_begin(cuda_linear_problem *p);

/* Copies the outputs back, checks that nothing else has changed, and frees what the device has. */
void cuda_linear_end(cuda_linear_problem *p);

/* These two with the call between them, which may fail: p->status. */
void cuda_linear_try(cuda_linear_problem *p);

/* The same for a call that must not fail. */
void cuda_linear_run(cuda_linear_problem *p);

/* Compares all outputs with what is expected. */
void cuda_linear_compare(const cuda_linear_problem *p);

/* All of the above, for a problem that was created. */
void cuda_linear_check(cuda_linear_problem *p);

/* A chunk_bytes into which so many rows fit. */
size_t cuda_linear_bytes_of_rows(const cuda_linear_problem *p, int64_t rows);

/* Element i of one of the head's gradients. */
double cuda_linear_head_gradient(const cuda_linear_problem *p, const void *gradient, int64_t i);

#endif
