/* What only the loss of a vocabulary in slices has: its own arguments, with the words they are refused with,
 * and that a loss needs no logits once all slices have told. Everything else is promised by the tests of
 * whole rows, which are run in slices too. */
#include "expect.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 3, VOCAB = 9, FIRST = 3, WIDTH = 3, TASKS = 2, SLICES = 3, PATTERN = 0xa5 };

/* All that a call may write to, in one piece, so that it can be compared in one piece. */
typedef struct outputs {
    double loss, numerator, denominator_out;
    float gradient[ROWS * WIDTH];
    float row_nll[ROWS], row_lse[ROWS];
    double task_nll[TASKS];
    int64_t task_tokens[TASKS];
    visatb_report report;
    double statistics[ROWS * VISATB_SLICE_STATISTICS];
} outputs;

/* The middle one of three slices of three words; the label of the last row is in it. */
typedef struct call {
    visatb_vitw_loss_args args;
    visatb_vocab_slice slice;
    float logits[ROWS * WIDTH];
    int64_t labels[ROWS];
    int32_t task_ids[ROWS];
    float weights[TASKS];
    double told[SLICES * ROWS * VISATB_SLICE_STATISTICS];
    outputs out;
} call;

/* What a slice tells of ROWS rows; `first` is a word of its own. */
static void tell(call *c, int64_t first, double *statistics) {
    c->slice.first = first;
    expect_ok(visatb_vitw_slice_statistics(&c->args, &c->slice, statistics));
}

static void make(call *c) {
    *c = (call){
        .args = VISATB_VITW_LOSS_ARGS_INIT,
        .slice = VISATB_VOCAB_SLICE_INIT,
        .logits = {1, 2, 3, 4, 5, 6, 7, 8, 9},
        .labels = {0, -100, 5},
        .task_ids = {0, 1, 1},
        .weights = {1, 2},
    };
    visatb_vitw_loss_args *args = &c->args;
    args->rows = ROWS;
    args->vocab = VOCAB;
    args->tasks = TASKS;
    args->dtype = VISATB_DTYPE_FLOAT32;
    args->logits = c->logits;
    args->labels = c->labels;
    args->task_ids = c->task_ids;
    args->task_weights = c->weights;
    args->loss = &c->out.loss;
    args->numerator = &c->out.numerator;
    args->denominator_out = &c->out.denominator_out;
    args->gradient = c->out.gradient;
    args->row_nll = c->out.row_nll;
    args->row_lse = c->out.row_lse;
    args->task_nll = c->out.task_nll;
    args->task_tokens = c->out.task_tokens;
    args->report = &c->out.report;
    c->slice.width = WIDTH;
    for (int64_t s = 0; s < SLICES; ++s)
        tell(c, s * WIDTH, c->told + s * ROWS * VISATB_SLICE_STATISTICS);
    c->slice.first = FIRST;
    memset(&c->out, PATTERN, sizeof c->out);
}

/* ---- bad arguments ---- */

static void refuse_loss_with(const call *c, int64_t slices, const double *statistics, const char *message) {
    const outputs before = c->out;
    char whole[300];
    (void)snprintf(whole, sizeof whole, "visatb_vitw_slice_loss: %s", message);
    expect_failure(visatb_vitw_slice_loss(&c->args, &c->slice, slices, statistics), VISATB_ERROR_ARGUMENT,
                   whole);
    assert_memory_equal(&before, &c->out, sizeof before);
}

/* Both functions check the same, so that no process is left waiting for one that was refused. */
static void refuse(call *c, const char *message) {
    const outputs before = c->out;
    char whole[300];
    (void)snprintf(whole, sizeof whole, "visatb_vitw_slice_statistics: %s", message);
    expect_failure(visatb_vitw_slice_statistics(&c->args, &c->slice, c->out.statistics),
                   VISATB_ERROR_ARGUMENT, whole);
    assert_memory_equal(&before, &c->out, sizeof before);
    refuse_loss_with(c, SLICES, c->told, message);
}

static void good_call_is_accepted(void **state) {
    (void)state;
    call c;
    make(&c);
    expect_ok(visatb_vitw_slice_statistics(&c.args, &c.slice, c.out.statistics));
    expect_ok(visatb_vitw_slice_loss(&c.args, &c.slice, SLICES, c.told));
}

static void args_and_slice_are_required(void **state) {
    (void)state;
    call c;
    make(&c);
    expect_failure(visatb_vitw_slice_statistics(NULL, &c.slice, c.out.statistics), VISATB_ERROR_ARGUMENT,
                   "visatb_vitw_slice_statistics: args = NULL; expected a pointer");
    expect_failure(visatb_vitw_slice_loss(NULL, &c.slice, SLICES, c.told), VISATB_ERROR_ARGUMENT,
                   "visatb_vitw_slice_loss: args = NULL; expected a pointer");
    expect_failure(visatb_vitw_slice_statistics(&c.args, NULL, c.out.statistics), VISATB_ERROR_ARGUMENT,
                   "visatb_vitw_slice_statistics: slice = NULL; expected a pointer");
    expect_failure(visatb_vitw_slice_loss(&c.args, NULL, SLICES, c.told), VISATB_ERROR_ARGUMENT,
                   "visatb_vitw_slice_loss: slice = NULL; expected a pointer");
}

static void size_of_a_slice_comes_from_the_initialiser(void **state) {
    (void)state;
    call c;
    make(&c);
    c.slice.size = 8;
    refuse(&c, "size = 8; expected 24, as VISATB_VOCAB_SLICE_INIT sets it");
}

static void slice_lies_in_the_vocabulary(void **state) {
    (void)state;
    call c;
    make(&c);
    c.slice.first = -1;
    refuse(&c, "first = -1; expected a value in [0, 9), of a word");
    c.slice.first = VOCAB;
    refuse(&c, "first = 9; expected a value in [0, 9), of a word");
    c.slice.first = 7;
    refuse(&c, "width = 3; expected a value in [1, 2], for first = 7 and vocab = 9");
    c.slice.first = 3;
    c.slice.width = 0;
    refuse(&c, "width = 0; expected a value in [1, 6], for first = 3 and vocab = 9");
    c.slice.width = INT64_MAX;
    refuse(&c, "width = 9223372036854775807; expected a value in [1, 6], for first = 3 and vocab = 9");
}

static void logits_and_gradient_are_as_wide_as_the_slice(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.logits_stride = WIDTH - 1;
    refuse(&c, "logits_stride = 2; expected 0 or at least width (3)");
    c.args.logits_stride = WIDTH;
    c.args.gradient_stride = WIDTH - 1;
    refuse(&c, "gradient_stride = 2; expected 0 or at least width (3)");
}

static void labels_are_words_of_the_whole_vocabulary(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[2] = VOCAB;
    refuse(&c, "labels[2] = 9; expected ignore_index (-100) or a value in [0, 9)");
    c.labels[2] = INT64_MIN;
    refuse(&c, "labels[2] = -9223372036854775808; expected ignore_index (-100) or a value in [0, 9)");
}

static void what_a_loss_is_refused_for_its_statistics_are_too(void **state) {
    (void)state;
    call c;
    make(&c);
    c.task_ids[0] = TASKS;
    refuse(&c, "task_ids[0] = 2; expected a value in [0, 2)");
    make(&c);
    c.weights[1] = -1;
    refuse(&c, "task_weights[1] = -1; expected a finite value >= 0");
    make(&c);
    c.args.label_smoothing = 2;
    refuse(&c, "label_smoothing = 2; expected a value in [0, 1]");
    make(&c);
    const double denominator = 0;
    c.args.denominator = &denominator;
    refuse(&c, "*denominator = 0; expected a finite value > 0, because row 0 has the weight 1");
    make(&c);
    c.args.loss = NULL;
    refuse(&c, "loss = NULL; expected a pointer");
}

static void statistics_are_required_where_there_are_rows(void **state) {
    (void)state;
    call c;
    make(&c);
    expect_failure(visatb_vitw_slice_statistics(&c.args, &c.slice, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_vitw_slice_statistics: statistics = NULL; expected a pointer, because rows = 3");
    refuse_loss_with(&c, SLICES, NULL, "statistics = NULL; expected a pointer, because rows = 3");
    refuse_loss_with(&c, 0, c.told, "slices = 0; expected a value in [1, 1152921504606846975]");
    const double *odd = (const double *)(const void *)((const char *)c.told + 1);
    char message[200];
    (void)snprintf(message, sizeof message,
                   "statistics = %p; expected a multiple of 8, the bytes of a double", (const void *)odd);
    refuse_loss_with(&c, SLICES, odd, message);
}

static double *told_of_slice(call *c, int slice) {
    return c->told + (size_t)slice * ROWS * VISATB_SLICE_STATISTICS;
}

static void every_label_is_in_one_slice(void **state) {
    (void)state;
    call c;
    make(&c);
    memcpy(told_of_slice(&c, 1), told_of_slice(&c, 2), sizeof c.told / SLICES);
    refuse_loss_with(&c, SLICES, c.told,
                     "labels[2] = 5 is a word of 0 of the 3 slices; expected 1, in statistics of slices that "
                     "make up the vocabulary");
    memcpy(told_of_slice(&c, 2), told_of_slice(&c, 0), sizeof c.told / SLICES);
    refuse_loss_with(&c, SLICES, c.told,
                     "labels[0] = 0 is a word of 2 of the 3 slices; expected 1, in statistics of slices that "
                     "make up the vocabulary");
}

/* Where no label is missing that would show it; and where there is none at all. */
static void slices_make_up_the_vocabulary(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[2] = 1;
    for (int ignored = 0; ignored < 2; ++ignored) {
        for (int64_t s = 0; s < SLICES; ++s)
            tell(&c, s * WIDTH, told_of_slice(&c, (int)s));
        c.slice.first = FIRST;
        refuse_loss_with(&c, 1, c.told,
                         "statistics of 1 slices tell of 3 words in row 0; expected vocab = 9, in those of "
                         "slices that make up the vocabulary");
        refuse_loss_with(&c, 2, c.told,
                         "statistics of 2 slices tell of 6 words in row 0; expected vocab = 9, in those of "
                         "slices that make up the vocabulary");
        told_of_slice(&c, 2)[3 * VISATB_SLICE_STATISTICS - 1] = 4;
        refuse_loss_with(&c, SLICES, c.told,
                         "statistics of 3 slices tell of 10 words in row 2; expected vocab = 9, in those of "
                         "slices that make up the vocabulary");
        for (int row = 0; row < ROWS; ++row)
            c.labels[row] = -100;
    }
}

/* ---- what a call does not need ---- */

static void no_rows_have_no_loss(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.rows = 0;
    c.args.logits = NULL;
    expect_ok(visatb_vitw_slice_statistics(&c.args, &c.slice, NULL));
    expect_ok(visatb_vitw_slice_loss(&c.args, &c.slice, SLICES, NULL));
    assert_true(c.out.loss == 0 && c.out.denominator_out == 0);
    assert_int_equal(c.out.task_tokens[0], 0);
}

static void of_ignored_rows_only_the_width_is_told(void **state) {
    (void)state;
    call c;
    make(&c);
    for (int i = 0; i < WIDTH; ++i)
        c.logits[WIDTH + i] = NAN; /* of the ignored row */
    tell(&c, FIRST, c.out.statistics);
    for (int i = 0; i < VISATB_SLICE_STATISTICS; ++i)
        assert_true(c.out.statistics[VISATB_SLICE_STATISTICS + i] ==
                    (i == VISATB_SLICE_STATISTICS - 1 ? WIDTH : 0));
}

static void statistics_write_nothing_else(void **state) {
    (void)state;
    call c;
    make(&c);
    outputs before = c.out;
    expect_ok(visatb_vitw_slice_statistics(&c.args, &c.slice, c.out.statistics));
    memcpy(before.statistics, c.out.statistics, sizeof before.statistics);
    assert_memory_equal(&before, &c.out, sizeof before);
}

static void loss_without_gradient_needs_no_logits_any_more(void **state) {
    (void)state;
    call c;
    make(&c);
    expect_ok(visatb_vitw_slice_loss(&c.args, &c.slice, SLICES, c.told));
    const double loss = c.out.loss;
    for (int i = 0; i < ROWS * WIDTH; ++i)
        c.logits[i] = NAN;
    c.args.gradient = NULL;
    expect_ok(visatb_vitw_slice_loss(&c.args, &c.slice, SLICES, c.told));
    assert_memory_equal(&c.out.loss, &loss, sizeof loss);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_call_is_accepted),
        cmocka_unit_test(args_and_slice_are_required),
        cmocka_unit_test(size_of_a_slice_comes_from_the_initialiser),
        cmocka_unit_test(slice_lies_in_the_vocabulary),
        cmocka_unit_test(logits_and_gradient_are_as_wide_as_the_slice),
        cmocka_unit_test(labels_are_words_of_the_whole_vocabulary),
        cmocka_unit_test(what_a_loss_is_refused_for_its_statistics_are_too),
        cmocka_unit_test(statistics_are_required_where_there_are_rows),
        cmocka_unit_test(every_label_is_in_one_slice),
        cmocka_unit_test(slices_make_up_the_vocabulary),
        cmocka_unit_test(no_rows_have_no_loss),
        cmocka_unit_test(of_ignored_rows_only_the_width_is_told),
        cmocka_unit_test(statistics_write_nothing_else),
        cmocka_unit_test(loss_without_gradient_needs_no_logits_any_more),
    };
    return cmocka_run_group_tests_name("the loss of a vocabulary in slices", tests, NULL, NULL);
}
