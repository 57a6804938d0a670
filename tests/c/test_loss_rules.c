/* What the loss does with the rows that are easy to get wrong: rows that do not count, do not train, or hold
 * bad logits. */
#include "cpu_paths.h"
#include "loss_call.h"

#include <math.h>
#include <string.h>

/* ---- rows that do not count ---- */

static void without_rows_the_loss_is_zero(void **state) {
    (void)state;
    call c;
    make(&c);
    memset(c.task_nll, 0xff, sizeof c.task_nll);
    memset(c.task_tokens, 0xff, sizeof c.task_tokens);
    c.args.rows = 0;
    c.args.logits = c.args.gradient = NULL;
    c.args.labels = NULL;
    c.args.task_ids = NULL;
    run(&c);
    assert_true(c.loss == 0 && c.numerator == 0 && c.denominator_out == 0);
    for (int task = 0; task < TASKS; ++task)
        assert_true(c.task_nll[task] == 0 && c.task_tokens[task] == 0);
    assert_report(&c, VISATB_REPORT_OK, -1);

    c.args.denominator = &c.denominator;
    run(&c);
    assert_true(c.loss == 0 && c.numerator == 0 && c.denominator_out == 8);
}

static void when_all_rows_are_ignored_loss_and_gradient_are_zero(void **state) {
    (void)state;
    call c;
    make(&c);
    for (int row = 0; row < ROWS; ++row)
        c.labels[row] = IGNORE;
    c.logits[2][1] = NAN;
    run(&c);
    assert_true(c.loss == 0 && c.numerator == 0 && c.denominator_out == 0);
    for (int row = 0; row < ROWS; ++row)
        assert_zero_gradient(&c, row);
    assert_report(&c, VISATB_REPORT_OK, -1);

    const double denominators[] = {0, 8}; /* of a step whose other micro-batches hold no rows, or some */
    for (int i = 0; i < 2; ++i) {
        c.args.denominator = &denominators[i];
        run(&c);
        assert_true(c.loss == 0 && c.denominator_out == denominators[i]);
        assert_zero_gradient(&c, 0);
    }
}

static void ignored_row_is_zero_and_unreported_over_nan_logits(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[1] = IGNORE;
    c.logits[1][0] = NAN;
    c.logits[1][1] = INFINITY;
    run(&c);
    assert_true(isfinite(c.loss));
    assert_zero_gradient(&c, 1);
    assert_true(c.row_nll[1] == 0 && c.row_lse[1] == 0);
    assert_report(&c, VISATB_REPORT_OK, -1);
}

static void task_of_an_ignored_row_is_not_looked_at(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[1] = IGNORE;
    c.task_ids[1] = -7;
    run(&c);
    assert_true(c.denominator_out == 3.5);
}

static void ignore_index_may_be_a_token(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.ignore_index = 1;
    run(&c);
    assert_zero_gradient(&c, 1);
    assert_zero_gradient(&c, 3);
    assert_near(c.loss, (nll_of(&c, 0) + nll_of(&c, 2)) / 2);
}

/* ---- rows that do not train ---- */

static void weight_zero_counts_but_does_not_train(void **state) {
    (void)state;
    call c;
    make(&c);
    c.weights[1] = 0;
    run(&c);
    assert_near(c.loss, (nll_of(&c, 0) + nll_of(&c, 2)) / 2);
    assert_true(c.denominator_out == 3);
    assert_zero_gradient(&c, 1);
    assert_zero_gradient(&c, 3);
    assert_near((double)c.row_nll[1], nll_of(&c, 1));
    assert_near((double)c.row_lse[1], (double)reference_of(&c, 1).lse);
    assert_near(c.task_nll[1], nll_of(&c, 1) + nll_of(&c, 3));
    assert_int_equal(c.task_tokens[1], 2);
}

static void when_no_row_has_a_weight_the_loss_is_zero(void **state) {
    (void)state;
    const double none = 0;
    call c;
    make(&c);
    c.weights[0] = c.weights[1] = 0;
    for (int given = 0; given < 2; ++given) {
        c.args.denominator = given ? &none : NULL;
        run(&c);
        assert_true(c.loss == 0 && c.numerator == 0 && c.denominator_out == 0);
        for (int row = 0; row < ROWS; ++row)
            assert_zero_gradient(&c, row);
        assert_near(c.task_nll[0], nll_of(&c, 0) + nll_of(&c, 2));
    }
}

static void weight_zero_over_nan_is_reported_but_stays_out_of_the_loss(void **state) {
    (void)state;
    call c;
    make(&c);
    c.weights[1] = 0;
    c.logits[3][2] = NAN;
    run(&c);
    assert_near(c.loss, (nll_of(&c, 0) + nll_of(&c, 2)) / 2);
    assert_zero_gradient(&c, 3);
    assert_report(&c, VISATB_REPORT_LOGITS, 3);
    assert_true(isnan(c.row_nll[3]) && isnan(c.row_lse[3]) && isnan(c.task_nll[1]));
    assert_true(isfinite(c.row_nll[1]) && isfinite(c.task_nll[0]));
    assert_int_equal(c.task_tokens[1], 2);
}

/* An untrained label of probability 0 has an infinite nll, and 0 * inf is NaN. */
static void weight_zero_over_an_infinite_nll_stays_out_of_the_loss(void **state) {
    (void)state;
    call c;
    make(&c);
    c.weights[1] = 0;
    c.logits[1][1] = -INFINITY;
    run(&c);
    assert_near(c.loss, (nll_of(&c, 0) + nll_of(&c, 2)) / 2);
    assert_zero_gradient(&c, 1);
    assert_true(isinf(c.row_nll[1]) && isinf(c.task_nll[1]));
    assert_report(&c, VISATB_REPORT_OK, -1);
}

/* ---- bad logits ---- */

static void bad_row_spoils_the_loss_and_its_own_gradient_only(void **state) {
    (void)state;
    static const float bad[][VOCAB] = {{NAN, 0, 0},
                                       {0, 0, NAN},
                                       {0, INFINITY, 0},
                                       {NAN, INFINITY, -INFINITY},
                                       {-INFINITY, -INFINITY, NAN},
                                       {-INFINITY, -INFINITY, -INFINITY}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        call c;
        make(&c);
        memcpy(c.logits[1], bad[i], sizeof bad[i]);
        memcpy(c.logits[2], bad[i], sizeof bad[i]);
        run(&c);
        assert_true(isnan(c.loss) && isnan(c.numerator));
        assert_true(c.denominator_out == 4);
        assert_report(&c, VISATB_REPORT_LOGITS, 1);
        assert_gradient(&c, 0, 1.5 / 4);
        assert_nan_gradient(&c, 1);
        assert_nan_gradient(&c, 2);
        assert_gradient(&c, 3, 0.5 / 4);
        assert_true(isnan(c.row_nll[1]) && isnan(c.row_lse[1]) && isnan(c.task_nll[1]));
        assert_near((double)c.row_nll[3], nll_of(&c, 3));
    }
}

static void bad_row_is_nan_in_every_type(void **state) {
    (void)state;
    for (int dtype = VISATB_DTYPE_FLOAT32; dtype <= VISATB_DTYPE_FLOAT64; ++dtype) {
        double logits[VOCAB] = {0}; /* room for any type */
        reference_put((visatb_dtype)dtype, logits, 1, (long double)INFINITY);
        call c;
        make(&c);
        c.args.rows = 1;
        c.args.dtype = (visatb_dtype)dtype;
        c.args.logits = c.args.gradient = logits;
        run(&c);
        assert_true(isnan(c.loss));
        for (int i = 0; i < VOCAB; ++i)
            assert_true(isnan(reference_get((visatb_dtype)dtype, logits, i)));
    }
}

static void masked_logits_have_no_gradient(void **state) {
    (void)state;
    call c;
    make(&c);
    c.logits[0][0] = -INFINITY;
    run(&c);
    assert_near((double)c.row_nll[0], nll_of(&c, 0));
    assert_true(c.gradient[0][0] == 0);
    assert_gradient(&c, 0, 1.5 / 4);
    assert_report(&c, VISATB_REPORT_OK, -1);
}

static void masked_label_is_an_infinite_loss_with_a_finite_gradient(void **state) {
    (void)state;
    call c;
    make(&c);
    c.logits[0][2] = -INFINITY;
    run(&c);
    assert_true(isinf(c.loss) && c.loss > 0);
    assert_true(isinf(c.row_nll[0]) && isfinite(c.row_lse[0]));
    assert_true(c.gradient[0][2] == -1.5F / 4);
    assert_gradient(&c, 0, 1.5 / 4);
    assert_report(&c, VISATB_REPORT_OK, -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_rows_the_loss_is_zero),
        cmocka_unit_test(when_all_rows_are_ignored_loss_and_gradient_are_zero),
        cmocka_unit_test(ignored_row_is_zero_and_unreported_over_nan_logits),
        cmocka_unit_test(task_of_an_ignored_row_is_not_looked_at),
        cmocka_unit_test(ignore_index_may_be_a_token),
        cmocka_unit_test(weight_zero_counts_but_does_not_train),
        cmocka_unit_test(when_no_row_has_a_weight_the_loss_is_zero),
        cmocka_unit_test(weight_zero_over_nan_is_reported_but_stays_out_of_the_loss),
        cmocka_unit_test(weight_zero_over_an_infinite_nll_stays_out_of_the_loss),
        cmocka_unit_test(bad_row_spoils_the_loss_and_its_own_gradient_only),
        cmocka_unit_test(bad_row_is_nan_in_every_type),
        cmocka_unit_test(masked_logits_have_no_gradient),
        cmocka_unit_test(masked_label_is_an_infinite_loss_with_a_finite_gradient),
    };
    int failed = 0;
    for_each_cpu_path(path) {
        call_path = path;
        failed += cmocka_run_group_tests_name("rules of the loss", tests, NULL, NULL);
    }
    return failed;
}
