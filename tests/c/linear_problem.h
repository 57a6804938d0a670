/* A call of the loss of a linear head of any shape, with everything that should come out of it by the
 * formula: the products in long double, the loss between them by loss_problem. */
#ifndef VISATB_TESTS_LINEAR_PROBLEM_H
#define VISATB_TESTS_LINEAR_PROBLEM_H

#include "loss_problem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The call and the buffers behind it. Matrices are strided; what lies between their rows is filled with bytes
 * that read as NaN in every type and must stay as they are, like those around the workspace. */
typedef struct linear_problem {
    visatb_vitw_linear_loss_args args; /* whatever a test changes, it changes before linear_solve */
    problem logits; /* fp64: labels, task ids and weights are its own; a test may change them */

    double *hidden, *weight, *bias; /* dense, as they are in their type */
    long double *hidden_gradient, *weight_gradient, *bias_gradient;
    long double loss, numerator;

    unsigned char *hidden_memory, *weight_memory, *bias_memory; /* of the type */
    unsigned char *hidden_gradient_memory, *weight_gradient_memory, *bias_gradient_memory;
    size_t hidden_gradient_bytes, weight_gradient_bytes, bias_gradient_bytes;
    float *row_nll, *row_lse;
    double task_nll[PROBLEM_TASKS];
    int64_t task_tokens[PROBLEM_TASKS];
    double loss_out, numerator_out, denominator_out;
    visatb_report report;
    visatb_linear_plan plan; /* of the last run */
} linear_problem;

typedef struct linear_shape {
    int64_t rows, hidden_size, vocab;
} linear_shape;

/* Random hidden states and head, with a bias; the rows as problem_create has them; every output asked for. */
void linear_create(linear_problem *p, visatb_dtype dtype, linear_shape shape);

/* Replaces an element of hidden. */
void linear_put_hidden(linear_problem *p, int64_t row, int64_t i, double value);

/* Works out what is expected. */
void linear_solve(linear_problem *p);

/* Fills the outputs with NaN, or with 1 where they are added to; then runs in a workspace of exactly the
 * planned size, at an odd address. */
void linear_run(linear_problem *p);

/* Compares all outputs with what is expected. */
void linear_compare(const linear_problem *p);

/* All of the above, for a problem that was created. */
void linear_check(linear_problem *p);

/* The workspace of a call, where a test makes it itself. */
size_t linear_workspace_bytes(const linear_problem *p);

/* The smallest chunk_bytes that are not refused. */
size_t linear_smallest_budget(const linear_problem *p);

/* Element i of row `row` of hidden_gradient; element i of one of the head's. */
double linear_hidden_gradient(const linear_problem *p, int64_t row, int64_t i);
double linear_head_gradient(const linear_problem *p, const void *gradient, int64_t i);

void linear_destroy(linear_problem *p);

#endif
