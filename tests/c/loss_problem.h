/* A call of the loss of any shape, with everything that should come out of it by the formula: drawn or put
 * together once, worked out once, then checked on each path of the CPU, with its gradient apart, in place and
 * left out. */
#ifndef VISATB_TESTS_LOSS_PROBLEM_H
#define VISATB_TESTS_LOSS_PROBLEM_H

#include "loss_reference.h"

enum { PROBLEM_TASKS = 3 };

/* What the formula says of a row. */
typedef struct problem_row {
    reference_row softmax; /* of z */
    long double loss;      /* l, with the options */
    bool bad;              /* NaN, +inf, or nothing but -inf */
} problem_row;

/* The call and the buffers behind it. Rows are strided, and what lies before, between and after them is
 * filled with bytes that read as NaN in every type and must stay as they are. */
typedef struct problem {
    visatb_vitw_loss_args args; /* whatever a test changes, it changes before problem_solve */
    visatb_status (*call)(const visatb_vitw_loss_args *args); /* visatb_vitw_loss, or what stands in for it */
    int64_t *labels;
    int32_t *task_ids;
    float weights[PROBLEM_TASKS];
    double denominator;
    float grad_scale;

    double *exact; /* [rows, vocab] the logits as they are in their type, dense */
    problem_row *rows;
    long double *expected; /* [rows, vocab] the gradient, dense */
    double *nearest;       /* the same, rounded to its type */

    unsigned char *logits_memory, *gradient_memory, *logits_before;
    size_t logits_bytes, gradient_bytes;
    float *row_nll, *row_lse;
    double task_nll[PROBLEM_TASKS];
    int64_t task_tokens[PROBLEM_TASKS];
    double loss, numerator, denominator_out;
    visatb_report report;
} problem;

/* How many entries of the gradient were what correct rounding gives, of those large enough to be normal. */
typedef struct problem_tally {
    int64_t normal_entries;
    int64_t correctly_rounded;
} problem_tally;

/* Logit i of a row. */
typedef double problem_logit(const problem *p, int64_t row, int64_t i);

/* A small generator: the same numbers on every machine. */
double problem_random(double low, double high);

/* Rows of random labels, the fourth of every seven ignored; tasks by turns, of weight 1.5, 0 and 0.3. */
void problem_create(problem *p, visatb_dtype dtype, int64_t rows, int64_t vocab);
void problem_fill(problem *p, problem_logit *logit);
void problem_put(problem *p, int64_t row, int64_t i, double logit);

/* What args.logits points at, to write to. */
void *problem_logits(problem *p);

/* Works out what is expected. */
void problem_solve(problem *p);

/* Runs it in three ways, compares all outputs with what is expected and with each other. `tally` may be NULL.
 */
void problem_check(problem *p, visatb_cpu_path path, problem_tally *tally);
void problem_check_on_every_path(problem *p);

void problem_destroy(problem *p);

#endif
