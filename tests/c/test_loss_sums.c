/* What the rows add up to: denominators, scales, sums by row and by task; and the many ways to make one call.
 */
#include "cpu_paths.h"
#include "loss_call.h"

#include <math.h>
#include <string.h>

/* ---- what everything adds up to ---- */

static void mean_divides_by_the_weights_of_the_valid_rows(void **state) {
    (void)state;
    call c;
    make(&c);
    run(&c);
    const double numerator = 1.5 * (nll_of(&c, 0) + nll_of(&c, 2)) + 0.5 * (nll_of(&c, 1) + nll_of(&c, 3));
    assert_near(c.numerator, numerator);
    assert_true(c.denominator_out == 4);
    assert_near(c.loss, numerator / 4);
    for (int row = 0; row < ROWS; ++row)
        assert_gradient(&c, row, (double)c.weights[c.task_ids[row]] / 4);
    assert_report(&c, VISATB_REPORT_OK, -1);
}

static void sum_does_not_divide_but_still_tells_the_denominator(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.reduction = VISATB_REDUCTION_SUM;
    run(&c);
    const double numerator = 1.5 * (nll_of(&c, 0) + nll_of(&c, 2)) + 0.5 * (nll_of(&c, 1) + nll_of(&c, 3));
    assert_near(c.loss, numerator);
    assert_true(c.numerator == c.loss);
    assert_true(c.denominator_out == 4);
    assert_gradient(&c, 0, 1.5);
}

static void given_denominator_replaces_the_computed_one(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.denominator = &c.denominator;
    run(&c);
    assert_true(c.denominator_out == 8);
    assert_true(c.loss == c.numerator / 8);
    assert_gradient(&c, 0, 1.5 / 8);
}

static void micro_batches_with_the_denominator_of_the_step_sum_to_the_whole(void **state) {
    (void)state;
    call whole;
    make(&whole);
    whole.labels[1] = IGNORE; /* so that the halves have unequal weights, and a mean of means would show */
    run(&whole);

    double loss = 0;
    call half;
    make(&half);
    half.labels[1] = IGNORE;
    half.args.rows = ROWS / 2;
    half.args.denominator = &whole.denominator_out;
    for (int first = 0; first < ROWS; first += ROWS / 2) {
        half.args.logits = half.logits[first];
        half.args.labels = half.labels + first;
        half.args.task_ids = half.task_ids + first;
        half.args.gradient = half.gradient[first];
        run(&half);
        loss += half.loss;
    }
    assert_true(fabs(loss - whole.loss) <= 1e-15 * whole.loss);
    assert_memory_equal(half.gradient, whole.gradient, sizeof whole.gradient);
}

static void grad_scale_multiplies_the_gradient_only(void **state) {
    (void)state;
    call c, scaled;
    make(&c);
    make(&scaled);
    scaled.args.grad_scale = &scaled.grad_scale;
    run(&c);
    run(&scaled);
    assert_true(scaled.loss == c.loss);
    for (int row = 0; row < ROWS; ++row)
        for (int i = 0; i < VOCAB; ++i)
            assert_true(scaled.gradient[row][i] == 1024 * c.gradient[row][i]);
}

static void grad_scale_comes_before_the_rounding(void **state) {
    (void)state;
    const uint16_t logits[2] = {0, 0};
    uint16_t gradient[2];
    const float scale = 65536;
    const double denominator = 1048576; /* the gradient is 2^-25, half of the smallest fp16 */
    call c;
    make(&c);
    c.labels[0] = 0;
    c.weights[0] = 0.0625F;
    c.args.rows = 1;
    c.args.vocab = 2;
    c.args.dtype = VISATB_DTYPE_FLOAT16;
    c.args.logits = logits;
    c.args.gradient = gradient;
    c.args.denominator = &denominator;
    run(&c);
    assert_true(reference_get(VISATB_DTYPE_FLOAT16, gradient, 1) == 0);
    c.args.grad_scale = &scale;
    run(&c);
    assert_true(reference_get(VISATB_DTYPE_FLOAT16, gradient, 1) == 0.001953125);
}

/* What a loss scaler looks for: infinity, not the largest number and not a NaN. */
static void gradient_too_large_for_its_type_is_infinite(void **state) {
    (void)state;
    const uint16_t logits[2] = {0, 0};
    uint16_t gradient[2];
    const double denominators[] = {1e-5, 1e-30, 1e-200}; /* a little, far, and out of sight */
    call c;
    make(&c);
    c.labels[0] = 0;
    c.args.rows = 1;
    c.args.vocab = 2;
    c.args.dtype = VISATB_DTYPE_FLOAT16;
    c.args.logits = logits;
    c.args.gradient = gradient;
    for (int i = 0; i < 3; ++i) {
        c.args.denominator = &denominators[i];
        run(&c);
        assert_int_equal(gradient[0], 0xfc00);
        assert_int_equal(gradient[1], 0x7c00);
    }
}

static void one_valid_row_is_the_whole_loss(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[0] = c.labels[1] = c.labels[3] = IGNORE;
    run(&c);
    assert_near(c.loss, nll_of(&c, 2));
    assert_true(c.denominator_out == 1.5);
    assert_gradient(&c, 2, 1);
}

/* A mask made by `loss != 0`, as some trainers have it, would lose this token from the denominator. */
static void token_whose_loss_is_exactly_zero_still_counts(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[2] = c.labels[3] = IGNORE;
    c.logits[0][2] = 800;
    run(&c);
    assert_true(c.row_nll[0] == 0);
    assert_int_equal(c.task_tokens[0], 1);
    assert_true(c.denominator_out == 2);
    assert_near(c.loss, 0.5 * nll_of(&c, 1) / 2);
}

static void confident_token_keeps_its_small_loss_and_gradient(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[1] = c.labels[2] = c.labels[3] = IGNORE;
    c.logits[0][2] = 60; /* 1 - p is 1e-26: 1 - (float)p and 1 - (double)p are both 0 */
    run(&c);
    assert_true(c.loss > 0 && c.gradient[0][2] < 0);
    assert_near(c.loss, nll_of(&c, 0));
    assert_gradient(&c, 0, 1);
}

static void rows_and_tasks_are_told_apart(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[3] = IGNORE;
    run(&c);
    for (int row = 0; row < 3; ++row) {
        assert_near((double)c.row_nll[row], nll_of(&c, row));
        assert_near((double)c.row_lse[row], (double)reference_of(&c, row).lse);
    }
    assert_true(c.row_nll[3] == 0 && c.row_lse[3] == 0);
    assert_near(c.task_nll[0], nll_of(&c, 0) + nll_of(&c, 2)); /* not weighted */
    assert_near(c.task_nll[1], nll_of(&c, 1));
    assert_true(c.task_nll[2] == 0);
    assert_int_equal(c.task_tokens[0], 2);
    assert_int_equal(c.task_tokens[1], 1);
    assert_int_equal(c.task_tokens[2], 0);
}

/* ---- the call itself ---- */

static void same_bits_on_every_run(void **state) {
    (void)state;
    call first, again;
    make(&first);
    run(&first);
    for (int i = 0; i < 3; ++i) {
        make(&again);
        run(&again);
        assert_memory_equal(&first.loss, &again.loss, sizeof first.loss);
        assert_memory_equal(first.gradient, again.gradient, sizeof first.gradient);
        assert_memory_equal(first.row_nll, again.row_nll, sizeof first.row_nll);
        assert_memory_equal(first.task_nll, again.task_nll, sizeof first.task_nll);
    }
}

static void everything_but_the_loss_is_optional(void **state) {
    (void)state;
    call c;
    make(&c);
    run(&c);
    const double loss = c.loss;
    c.args.numerator = c.args.denominator_out = NULL;
    c.args.gradient = NULL;
    c.args.row_nll = c.args.row_lse = NULL;
    c.args.task_nll = NULL;
    c.args.task_tokens = NULL;
    c.args.report = NULL;
    run(&c);
    assert_true(c.loss == loss);
}

static void single_row_in_place_needs_no_equal_strides(void **state) {
    (void)state;
    call c;
    make(&c);
    run(&c);
    c.args.rows = 1;
    c.args.denominator = &c.denominator_out;
    c.args.gradient = c.logits;
    c.args.gradient_stride = TWO_ROWS;
    run(&c);
    assert_memory_equal(c.logits[0], c.gradient[0], sizeof c.gradient[0]);
}

static void logits_and_gradient_may_be_columns_of_one_buffer(void **state) {
    (void)state;
    float buffer[ROWS][TWO_ROWS];
    call c;
    make(&c);
    run(&c);
    for (int row = 0; row < ROWS; ++row)
        memcpy(buffer[row], c.logits[row], sizeof c.logits[row]);
    c.args.logits = buffer[0];
    c.args.gradient = buffer[0] + VOCAB;
    c.args.logits_stride = c.args.gradient_stride = TWO_ROWS;
    run(&c);
    for (int row = 0; row < ROWS; ++row) {
        assert_memory_equal(buffer[row], c.logits[row], sizeof c.logits[row]);
        for (int i = 0; i < VOCAB; ++i)
            assert_near((double)buffer[row][VOCAB + i], (double)c.gradient[row][i]);
    }
}

static void caller_of_a_later_version_that_uses_nothing_new_is_served(void **state) {
    (void)state;
    struct {
        visatb_vitw_loss_args args;
        double new_option;
        const void *new_pointer;
    } later = {0};
    call c;
    make(&c);
    later.args = c.args;
    later.args.size = sizeof later;
    assert_int_equal(visatb_vitw_loss(&later.args), VISATB_OK);
    assert_gradient(&c, 0, 1.5 / 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mean_divides_by_the_weights_of_the_valid_rows),
        cmocka_unit_test(sum_does_not_divide_but_still_tells_the_denominator),
        cmocka_unit_test(given_denominator_replaces_the_computed_one),
        cmocka_unit_test(micro_batches_with_the_denominator_of_the_step_sum_to_the_whole),
        cmocka_unit_test(grad_scale_multiplies_the_gradient_only),
        cmocka_unit_test(grad_scale_comes_before_the_rounding),
        cmocka_unit_test(gradient_too_large_for_its_type_is_infinite),
        cmocka_unit_test(one_valid_row_is_the_whole_loss),
        cmocka_unit_test(token_whose_loss_is_exactly_zero_still_counts),
        cmocka_unit_test(confident_token_keeps_its_small_loss_and_gradient),
        cmocka_unit_test(rows_and_tasks_are_told_apart),
        cmocka_unit_test(same_bits_on_every_run),
        cmocka_unit_test(everything_but_the_loss_is_optional),
        cmocka_unit_test(single_row_in_place_needs_no_equal_strides),
        cmocka_unit_test(logits_and_gradient_may_be_columns_of_one_buffer),
        cmocka_unit_test(caller_of_a_later_version_that_uses_nothing_new_is_served),
    };
    int failed = 0;
    for_each_cpu_path(path) {
        call_path = path;
        failed += cmocka_run_group_tests_name("sums of the loss", tests, NULL, NULL);
    }
    return failed;
}
