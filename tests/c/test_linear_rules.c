/* The rules of rows and gradients of a linear head: which rows cost nothing, what stays exactly zero, what is
 * added to, and what may be left out. */
#include "cpu_paths.h"
#include "linear_problem.h"

#include <math.h>
#include <string.h>

static const linear_shape small = {21, 6, 11};

static void make(linear_problem *p) {
    linear_create(p, VISATB_DTYPE_FLOAT32, small);
}

static void ignore_all_rows_but(linear_problem *p, int64_t kept) {
    for (int64_t row = 0; row < p->args.rows; ++row)
        if (row != kept)
            p->logits.labels[row] = p->args.ignore_index;
}

static void assert_all_zero(const void *memory, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i)
        assert_int_equal(((const unsigned char *)memory)[i], 0);
}

/* ---- rows that do not train ---- */

static void ignored_rows_are_not_even_read(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    for (int64_t i = 0; i < small.hidden_size; ++i)
        linear_put_hidden(&p, 3, i, (double)NAN);
    assert_int_equal(p.logits.labels[3], p.args.ignore_index);
    linear_check(&p);
    assert_int_equal(p.report.code, VISATB_REPORT_OK);
    assert_true(p.row_nll[3] == 0 && p.row_lse[3] == 0);
    linear_destroy(&p);
}

static void rows_of_weight_zero_count_but_do_not_train(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    assert_true(p.logits.weights[1] == 0);
    linear_check(&p);
    assert_true(p.task_nll[1] > 0);
    assert_int_equal(p.task_tokens[1], 6);
    assert_true(p.row_nll[1] > 0);
    linear_destroy(&p);
}

/* 0 times NaN is NaN: such a row must be kept out of the head's gradient by more than its zero weight. */
static void rows_of_weight_zero_do_not_train_even_over_nan(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    linear_put_hidden(&p, 1, 2, (double)NAN);
    linear_put_hidden(&p, 7, 0, (double)INFINITY);
    linear_check(&p);
    assert_int_equal(p.report.code, VISATB_REPORT_LOGITS);
    assert_int_equal(p.report.first_bad_row, 1);
    assert_true(isnan(p.row_nll[1]) && isnan(p.task_nll[1]));
    assert_true(isfinite(p.loss_out));
    for (int64_t i = 0; i < small.vocab * small.hidden_size; ++i)
        assert_true(isfinite(linear_head_gradient(&p, p.args.weight_gradient, i)));
    linear_destroy(&p);
}

static void bad_row_with_a_weight_is_reported_and_spoils_only_what_it_enters(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    linear_put_hidden(&p, 5, 1, (double)NAN);
    linear_check(&p);
    assert_int_equal(p.report.code, VISATB_REPORT_LOGITS);
    assert_int_equal(p.report.first_bad_row, 5);
    assert_true(isnan(p.loss_out));
    for (int64_t i = 0; i < small.hidden_size; ++i) {
        assert_true(isnan(linear_hidden_gradient(&p, 5, i)));
        assert_true(isfinite(linear_hidden_gradient(&p, 6, i)));
    }
    assert_true(isnan(linear_head_gradient(&p, p.args.weight_gradient, 0)));
    linear_destroy(&p);
}

static void without_valid_rows_loss_and_gradients_are_zero(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    ignore_all_rows_but(&p, -1);
    linear_check(&p);
    assert_true(p.loss_out == 0 && p.numerator_out == 0 && p.denominator_out == 0);
    assert_all_zero(p.args.weight_gradient, p.weight_gradient_bytes);
    assert_all_zero(p.args.bias_gradient, p.bias_gradient_bytes);
    linear_destroy(&p);
}

static void without_rows_too_and_no_workspace_is_needed(void **state) {
    (void)state;
    static const linear_shape none = {0, 6, 11};
    linear_problem p;
    linear_create(&p, VISATB_DTYPE_BFLOAT16, none);
    p.args.hidden = NULL;
    p.args.labels = NULL;
    p.args.task_ids = NULL;
    linear_check(&p);
    assert_int_equal(p.plan.workspace_bytes, 0);
    assert_int_equal(p.plan.chunk_rows, 0);
    assert_int_equal(p.plan.chunks, 0);
    assert_true(p.loss_out == 0);
    assert_all_zero(p.args.weight_gradient, p.weight_gradient_bytes);
    assert_int_equal(visatb_vitw_linear_loss(&p.args), VISATB_OK); /* workspace = NULL */
    linear_destroy(&p);
}

static void one_valid_row_is_the_whole_loss(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    ignore_all_rows_but(&p, 18);
    linear_check(&p);
    assert_true(p.row_nll[18] > 0);
    assert_true((float)p.loss_out == p.row_nll[18]);
    linear_destroy(&p);
}

/* ---- the head's gradients ---- */

static void accumulating_adds_to_what_is_there(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    p.args.accumulate = 1;
    linear_check(&p);
    p.args.chunk_bytes = linear_smallest_budget(&p);
    linear_check(&p);
    assert_true(p.plan.chunks > 1);
    linear_destroy(&p);
}

static void accumulating_without_valid_rows_changes_nothing(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    p.args.accumulate = 1;
    ignore_all_rows_but(&p, -1);
    linear_check(&p);
    for (int64_t i = 0; i < small.vocab * small.hidden_size; ++i)
        assert_true(linear_head_gradient(&p, p.args.weight_gradient, i) == 1);
    linear_destroy(&p);
}

/* Two halves of a batch, with the denominator of the whole, are the whole. */
static void micro_batches_add_up(void **state) {
    (void)state;
    linear_problem whole, half;
    make(&whole);
    make(&half);
    linear_solve(&whole);
    linear_run(&whole);
    const int64_t first_rows = 9;
    memcpy(half.hidden_memory, whole.hidden_memory,
           (size_t)(small.rows * whole.args.hidden_stride) * sizeof(float));
    memcpy(half.weight_memory, whole.weight_memory,
           (size_t)(small.vocab * whole.args.weight_stride) * sizeof(float));
    memcpy(half.bias_memory, whole.bias_memory, (size_t)small.vocab * sizeof(float));
    memcpy(half.logits.labels, whole.logits.labels, (size_t)small.rows * sizeof(int64_t));
    half.args.denominator = &whole.denominator_out;
    half.args.rows = first_rows;
    linear_run(&half);
    double loss = half.loss_out;

    unsigned char workspace[1 << 20];
    visatb_vitw_linear_loss_args rest = half.args;
    rest.rows = small.rows - first_rows;
    rest.hidden = half.hidden_memory + (size_t)(first_rows * rest.hidden_stride) * sizeof(float);
    rest.hidden_gradient =
        half.hidden_gradient_memory + (size_t)(first_rows * rest.hidden_gradient_stride) * sizeof(float);
    rest.labels = half.logits.labels + first_rows;
    rest.task_ids = half.logits.task_ids + first_rows;
    rest.accumulate = 1;
    rest.chunk_bytes = rest.workspace_bytes = sizeof workspace;
    rest.workspace = workspace;
    assert_int_equal(visatb_vitw_linear_loss(&rest), VISATB_OK);
    loss += half.loss_out;
    assert_true(fabs(loss - whole.loss_out) <= 1e-12 * whole.loss_out);
    for (int64_t i = 0; i < small.vocab * small.hidden_size; ++i)
        assert_true(fabs(linear_head_gradient(&half, half.args.weight_gradient, i) -
                         linear_head_gradient(&whole, whole.args.weight_gradient, i)) <= 1e-7);
    linear_destroy(&whole);
    linear_destroy(&half);
}

/* ---- what may be left out ---- */

static void each_gradient_may_be_left_out(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    linear_solve(&p);
    linear_run(&p);
    const double loss = p.loss_out;
    for (int left_out = 1; left_out < 8; ++left_out) {
        p.args.hidden_gradient = (left_out & 1) != 0 ? NULL : p.hidden_gradient_memory;
        p.args.weight_gradient = (left_out & 2) != 0 ? NULL : p.weight_gradient_memory;
        p.args.bias_gradient = (left_out & 4) != 0 ? NULL : p.bias_gradient_memory;
        linear_run(&p);
        linear_compare(&p);
        assert_memory_equal(&p.loss_out, &loss, sizeof loss);
    }
    linear_destroy(&p);
}

static void everything_but_the_loss_may_be_left_out(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    linear_run(&p);
    const double loss = p.loss_out;
    p.args.hidden_gradient = p.args.weight_gradient = p.args.bias_gradient = NULL;
    p.args.numerator = p.args.denominator_out = p.args.task_nll = NULL;
    p.args.row_nll = p.args.row_lse = NULL;
    p.args.task_tokens = NULL;
    p.args.report = NULL;
    linear_run(&p);
    assert_memory_equal(&p.loss_out, &loss, sizeof loss);
    linear_destroy(&p);
}

static void gradient_of_a_bias_that_is_not_there_may_be_asked_for(void **state) {
    (void)state;
    linear_problem p;
    make(&p);
    p.args.bias = NULL;
    linear_check(&p);
    linear_destroy(&p);
}

/* ---- denominators and scales ---- */

static void denominator_reduction_and_scale_are_those_of_the_loss_on_logits(void **state) {
    (void)state;
    const double denominator = 37.5;
    const float scale = -1024;
    linear_problem p;
    make(&p);
    p.args.denominator = &denominator;
    linear_check(&p);
    p.args.grad_scale = &scale;
    linear_check(&p);
    p.args.denominator = NULL;
    p.args.reduction = VISATB_REDUCTION_SUM;
    linear_check(&p);
    linear_destroy(&p);
}

static void gradient_too_large_for_its_type_is_infinite(void **state) {
    (void)state;
    const float scale = 1e8F;
    linear_problem p;
    linear_create(&p, VISATB_DTYPE_FLOAT16, small);
    p.args.grad_scale = &scale;
    linear_run(&p);
    assert_true(isinf(linear_hidden_gradient(&p, 0, 0)));
    assert_true(isfinite(linear_head_gradient(&p, p.args.weight_gradient, 0)));
    linear_destroy(&p);
}

/* ---- the bound on valid rows ---- */

static void bound_on_valid_rows_makes_the_workspace_smaller_and_changes_nothing(void **state) {
    (void)state;
    static const linear_shape shape = {200, 6, 300};
    linear_problem p;
    linear_create(&p, VISATB_DTYPE_FLOAT32, shape);
    for (int64_t row = 0; row < shape.rows; ++row)
        if (row % 20 != 0)
            p.logits.labels[row] = p.args.ignore_index;
    linear_check(&p);
    const size_t bytes = p.plan.workspace_bytes;
    const double loss = p.loss_out;
    p.args.max_valid_rows = 10;
    linear_check(&p);
    assert_int_equal(p.plan.chunk_rows, 10);
    assert_int_equal(p.plan.chunks, 1);
    assert_true(p.plan.workspace_bytes < bytes - (size_t)180 * 300 * sizeof(float));
    assert_memory_equal(&p.loss_out, &loss, sizeof loss);
    p.args.max_valid_rows = INT64_MAX;
    linear_check(&p);
    assert_int_equal(p.plan.workspace_bytes, bytes);
    linear_destroy(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ignored_rows_are_not_even_read),
        cmocka_unit_test(rows_of_weight_zero_count_but_do_not_train),
        cmocka_unit_test(rows_of_weight_zero_do_not_train_even_over_nan),
        cmocka_unit_test(bad_row_with_a_weight_is_reported_and_spoils_only_what_it_enters),
        cmocka_unit_test(without_valid_rows_loss_and_gradients_are_zero),
        cmocka_unit_test(without_rows_too_and_no_workspace_is_needed),
        cmocka_unit_test(one_valid_row_is_the_whole_loss),
        cmocka_unit_test(accumulating_adds_to_what_is_there),
        cmocka_unit_test(accumulating_without_valid_rows_changes_nothing),
        cmocka_unit_test(micro_batches_add_up),
        cmocka_unit_test(each_gradient_may_be_left_out),
        cmocka_unit_test(everything_but_the_loss_may_be_left_out),
        cmocka_unit_test(gradient_of_a_bias_that_is_not_there_may_be_asked_for),
        cmocka_unit_test(denominator_reduction_and_scale_are_those_of_the_loss_on_logits),
        cmocka_unit_test(gradient_too_large_for_its_type_is_infinite),
        cmocka_unit_test(bound_on_valid_rows_makes_the_workspace_smaller_and_changes_nothing),
    };
    return cmocka_run_group_tests_name("rules of the loss of a linear head", tests, NULL, NULL);
}
