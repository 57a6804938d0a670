#include "loss_call.h"

#include <math.h>
#include <string.h>

visatb_cpu_path call_path = VISATB_CPU_AUTO;

void make(call *c) {
    *c = (call){
        .args = VISATB_VITW_LOSS_ARGS_INIT,
        .logits = {{0.5F, -1, 2}, {3, 1, 0}, {-2, 0.25F, 1}, {1, 1.5F, -0.5F}},
        .labels = {2, 1, 0, 1},
        .task_ids = {0, 1, 0, 1},
        .weights = {1.5F, 0.5F, 1},
        .denominator = 8,
        .grad_scale = 1024,
    };
    memset(c->gradient, 0xff, sizeof c->gradient); /* NaN: whatever is not written shows */
    visatb_vitw_loss_args *args = &c->args;
    args->rows = ROWS;
    args->vocab = VOCAB;
    args->tasks = TASKS;
    args->dtype = VISATB_DTYPE_FLOAT32;
    args->cpu_path = call_path;
    args->logits = c->logits;
    args->labels = c->labels;
    args->task_ids = c->task_ids;
    args->task_weights = c->weights;
    args->loss = &c->loss;
    args->numerator = &c->numerator;
    args->denominator_out = &c->denominator_out;
    args->gradient = c->gradient;
    args->row_nll = c->row_nll;
    args->row_lse = c->row_lse;
    args->task_nll = c->task_nll;
    args->task_tokens = c->task_tokens;
    args->report = &c->report;
}

void run(call *c) {
    const visatb_status status = visatb_vitw_loss(&c->args);
    if (status != VISATB_OK)
        fail_msg("%s", visatb_last_error());
}

reference_row reference_of(const call *c, int row) {
    const double logits[VOCAB] = {(double)c->logits[row][0], (double)c->logits[row][1],
                                  (double)c->logits[row][2]};
    return reference_row_of(VOCAB, logits, c->labels[row]);
}

double nll_of(const call *c, int row) {
    return (double)reference_of(c, row).nll;
}

#ifndef LOSS_CALL_NEAR
#define LOSS_CALL_NEAR 1e-6
#endif

void assert_near(double value, double expected) {
    if (!(fabs(value - expected) <= LOSS_CALL_NEAR * fabs(expected)))
        fail_msg("%.17g, expected %.17g", value, expected);
}

void assert_zero_gradient(const call *c, int row) {
    for (int i = 0; i < VOCAB; ++i)
        assert_true(c->gradient[row][i] == 0 && !signbit(c->gradient[row][i]));
}

void assert_nan_gradient(const call *c, int row) {
    for (int i = 0; i < VOCAB; ++i)
        assert_true(isnan(c->gradient[row][i]));
}

void assert_gradient(const call *c, int row, double weight) {
    const double logits[VOCAB] = {(double)c->logits[row][0], (double)c->logits[row][1],
                                  (double)c->logits[row][2]};
    const reference_row reference = reference_of(c, row);
    for (int i = 0; i < VOCAB; ++i)
        assert_near((double)c->gradient[row][i],
                    weight * (double)reference_derivative(&reference, logits, c->labels[row], i));
}

void assert_report(const call *c, visatb_report_code code, int64_t first_bad_row) {
    assert_int_equal(c->report.code, code);
    assert_int_equal(c->report.reserved, 0);
    assert_int_equal(c->report.first_bad_row, first_bad_row);
}
