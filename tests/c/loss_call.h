/* A small call of the loss that the tests change in one place each: four rows of three fp32 logits, of which
 * every output is asked for. */
#ifndef VISATB_TESTS_LOSS_CALL_H
#define VISATB_TESTS_LOSS_CALL_H

#include "loss_reference.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { ROWS = 4, VOCAB = 3, TWO_ROWS = 2 * VOCAB, TASKS = 3, IGNORE = -100 };

/* Four rows of three fp32 logits; tasks 0 and 1 have rows, task 2 has none. */
typedef struct call {
    visatb_vitw_loss_args args;
    float logits[ROWS][VOCAB];
    float gradient[ROWS][VOCAB];
    int64_t labels[ROWS];
    int32_t task_ids[ROWS];
    float weights[TASKS];
    double denominator;
    float grad_scale;
    double loss, numerator, denominator_out;
    float row_nll[ROWS], row_lse[ROWS];
    double task_nll[TASKS];
    int64_t task_tokens[TASKS];
    visatb_report report;
} call;

/* The path that make() asks for. Programs run all of their tests once for each path of the CPU. */
extern visatb_cpu_path call_path;

void make(call *c);
void run(call *c);
reference_row reference_of(const call *c, int row);
double nll_of(const call *c, int row);
void assert_near(double value, double expected);
void assert_zero_gradient(const call *c, int row);
void assert_nan_gradient(const call *c, int row);
void assert_gradient(const call *c, int row, double weight);
void assert_report(const call *c, visatb_report_code code, int64_t first_bad_row);

#endif
