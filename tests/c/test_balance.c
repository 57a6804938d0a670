/* The balance mathematics on plain arrays: small cases worked by hand, invariants, and refusals. */
#include "expect.h"

#include <math.h>
#include <string.h>

/* Three tasks: V(mini), and V(i + mini) a row. */
static const double mini[3] = {0.4, 60.0, 30.0};
static const double with_mini[9] = {0.5, 62, 33, 0.42, 70, 36, 0.39, 61, 60};

static void contribution_is_the_gain_relative_to_the_own_gain(void **state) {
    (void)state;
    const visatb_layout layout = VISATB_LAYOUT(3);
    double c[9];
    expect_ok(visatb_contribution(&layout, with_mini, mini, 0, c));
    const double expected[9] = {1, 0.2, 0.1, 0.2, 1, 0.2, -0.1, 0.1, 1};
    for (int k = 0; k < 9; k++)
        expect_close(c[k], expected[k], 1e-14);
    double outward[3], inward[3];
    expect_ok(visatb_contribution_means(3, c, outward, inward));
    const double expected_out[3] = {0.15, 0.2, 0.0}, expected_in[3] = {0.05, 0.15, 0.15};
    for (int k = 0; k < 3; k++) {
        expect_close(outward[k], expected_out[k], 1e-14);
        expect_close(inward[k], expected_in[k], 1e-14);
    }
}

static void difficulty_is_what_little_training_leaves_undone(void **state) {
    (void)state;
    const visatb_layout layout = VISATB_LAYOUT(3);
    const double high[3] = {0.5, 70.0, 60.0};
    double d[3];
    expect_ok(visatb_difficulty(&layout, mini, high, d));
    expect_close(d[0], 0.2, 1e-15);
    expect_close(d[1], 1.0 / 7.0, 1e-15);
    expect_close(d[2], 0.5, 1e-15);
}

static void a_lower_is_better_score_turns_difficulty_but_not_contribution(void **state) {
    (void)state;
    const uint8_t lower[2] = {1, 0};
    const visatb_layout layout = {.size = sizeof layout, .units = 2, .lower_is_better = lower};
    const double before[2] = {40.0, 50.0}, trained[4] = {30.0, 51.0, 38.0, 60.0}, high[2] = {30.0, 60.0};
    double c[4], d[2];
    expect_ok(visatb_contribution(&layout, trained, before, 0, c));
    expect_close(c[2], 0.2, 1e-15); /* (38 - 40) / (30 - 40) */
    expect_ok(visatb_difficulty(&layout, before, high, d));
    expect_close(d[0], 1.0 - 30.0 / 40.0, 1e-15);
    expect_close(d[1], 1.0 - 50.0 / 60.0, 1e-15);
}

static void metrics_are_averaged_within_a_task_and_tasks_within_a_unit(void **state) {
    (void)state;
    /* Unit 0: task 0 with metrics 0 and 1, task 1 with metric 2. Unit 1: task 2 with metric 3. */
    const size_t metric_task[4] = {0, 0, 1, 2}, task_unit[3] = {0, 0, 1};
    const visatb_layout layout = {.size = sizeof layout,
                                  .units = 2,
                                  .tasks = 3,
                                  .metrics = 4,
                                  .metric_task = metric_task,
                                  .task_unit = task_unit};
    const double before[4] = {10, 10, 10, 10};
    const double trained[8] = {20, 20, 20, 13, 11, 13, 14, 20};
    double c[4], d[2];
    expect_ok(visatb_contribution(&layout, trained, before, 0, c));
    const double expected[4] = {1.0, 0.3, ((0.1 + 0.3) / 2 + 0.4) / 2, 1.0};
    for (int k = 0; k < 4; k++)
        expect_close(c[k], expected[k], 1e-15);
    const double high[4] = {20, 40, 80, 20};
    expect_ok(visatb_difficulty(&layout, before, high, d));
    expect_close(d[0], ((0.5 + 0.75) / 2 + 0.875) / 2, 1e-15);
}

static void weights_sum_to_the_number_of_units_and_follow_a_permutation(void **state) {
    (void)state;
    const double out[3] = {0.15, 0.2, 0.0}, in[3] = {0.05, 0.15, 0.15}, d[3] = {0.2, 1.0 / 7.0, 0.5};
    const double out_p[3] = {0.0, 0.15, 0.2}, in_p[3] = {0.15, 0.05, 0.15}, d_p[3] = {0.5, 0.2, 1.0 / 7.0};
    visatb_balance_options options = VISATB_BALANCE_OPTIONS_INIT;
    options.temperature = 0.5;
    double w[3], w_p[3], components[9];
    expect_ok(visatb_balance_weights(3, out, in, d, &options, w, components, NULL));
    expect_ok(visatb_balance_weights(3, out_p, in_p, d_p, &options, w_p, NULL, NULL));
    expect_close(w[0] + w[1] + w[2], 3.0, 1e-14);
    for (int k = 0; k < 3; k++) {
        expect_close(w[k], w_p[(k + 1) % 3], 1e-14);
        const double *const row = components + (size_t)3 * (size_t)k;
        expect_close(row[0] + row[1] + row[2], 3.0, 1e-14);
        expect_close(w[k], 0.25 * components[k] + 0.25 * components[3 + k] + 0.5 * components[6 + k], 1e-14);
    }
}

static void a_high_temperature_gives_equal_weights(void **state) {
    (void)state;
    const double values[3] = {-1.0, 0.0, 5.0};
    double w[3];
    expect_ok(visatb_softmax_weights(3, values, 1e12, w));
    for (int k = 0; k < 3; k++)
        expect_close(w[k], 1.0, 1e-10);
}

static void extreme_values_stay_finite(void **state) {
    (void)state;
    const double values[3] = {-1e308, 0.0, 1e308};
    double w[3];
    expect_ok(visatb_softmax_weights(3, values, 0.125, w));
    assert_true(w[0] == 0.0 && w[1] == 0.0 && w[2] == 3.0);
}

static void the_automatic_temperature_is_the_lowest_of_the_grid_that_fits(void **state) {
    (void)state;
    const double zero[2] = {0.0, 0.0};
    visatb_balance_options options = VISATB_BALANCE_OPTIONS_INIT;
    options.range_low = 0.51;
    options.range_high = 1.49;
    /* Two units whose difficulties differ by x: the larger weight is 0.5 + 1 / (1 + exp(-x / T)), which
     * reaches 1.49 at x = 4.595 T. */
    const struct {
        double difference, expected;
    } cases[] = {{0.0, 0.125}, {0.57, 0.125}, {0.58, 0.25}, {2.29, 0.5}, {2.30, 1.0}, {18.3, 4.0}};
    double w[2], temperature = 0.0;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const double d[2] = {0.0, cases[k].difference};
        expect_ok(visatb_balance_weights(2, zero, zero, d, &options, w, NULL, &temperature));
        expect_close(temperature, cases[k].expected, 0.0);
    }
    const double hopeless[2] = {0.0, 18.4};
    w[0] = 7.0;
    expect_failure(
        visatb_balance_weights(2, zero, zero, hopeless, &options, w, NULL, &temperature), VISATB_ERROR_DATA,
        "visatb_balance_weights: no temperature of 4, 2, 1, 0.5, 0.25, 0.125 keeps every weight within the "
        "range; give one, or a wider range");
    expect_close(w[0], 7.0, 0.0);
}

static void improvement_is_relative_and_turned_where_lower_is_better(void **state) {
    (void)state;
    const double scores[2] = {12.0, 30.0}, baseline[2] = {10.0, 40.0};
    const uint8_t lower[2] = {0, 1};
    double improvement = 0.0, delta_i = 0.0, delta_e = 0.0;
    expect_ok(visatb_improvement(2, scores, baseline, lower, &improvement));
    expect_close(improvement, (0.2 + 0.25) / 2, 1e-15);
    const double all[3] = {0.2, -0.1, 0.05};
    expect_ok(visatb_improvement_summary(3, all, &delta_i, &delta_e));
    expect_close(delta_i, 5.0, 1e-12);
    expect_close(delta_e, 10.0 / 3.0, 1e-12);
}

static void denominators_that_say_nothing_are_refused(void **state) {
    (void)state;
    const visatb_layout layout = VISATB_LAYOUT(2);
    const double before[2] = {60.0, 50.0};
    double c[4] = {7, 7, 7, 7};
    const double zero[4] = {60.0, 51.0, 61.0, 55.0};
    expect_failure(
        visatb_contribution(&layout, zero, before, 0, c), VISATB_ERROR_DATA,
        "visatb_contribution: metric 0: training on its own unit 0 left it at 60 (from 60); a contribution "
        "to it would divide by zero (Eq. 3, 10)");
    const double noise[4] = {60.00000001, 51.0, 61.0, 55.0};
    expect_failure(
        visatb_contribution(&layout, noise, before, 0, c), VISATB_ERROR_DATA,
        "visatb_contribution: metric 0: training on its own unit 0 left it at 60 (from 60); a contribution "
        "to it would divide by zero (Eq. 3, 10)");
    const double worse[4] = {61.0, 51.0, 62.0, 45.0};
    expect_failure(
        visatb_contribution(&layout, worse, before, 0, c), VISATB_ERROR_DATA,
        "visatb_contribution: metric 1: training on its own unit 1 made it worse (50 -> 45); every "
        "contribution to it would change its sign (VISATB_ALLOW_NEGATIVE_DENOMINATOR lets it through)");
    for (int k = 0; k < 4; k++)
        expect_close(c[k], 7.0, 0.0);
    expect_ok(visatb_contribution(&layout, worse, before, VISATB_ALLOW_NEGATIVE_DENOMINATOR, c));
    expect_close(c[1], -0.2, 1e-15);
}

static void a_denominator_is_noise_below_a_billionth(void **state) {
    (void)state;
    const visatb_layout layout = VISATB_LAYOUT(2);
    const double before[2] = {1.0, 1.0};
    double c[4];
    const double enough[4] = {1.0 + 2e-9, 1.0, 1.0, 2.0}, noise[4] = {1.0 + 5e-10, 1.0, 1.0, 2.0};
    expect_ok(visatb_contribution(&layout, enough, before, 0, c));
    assert_int_equal(visatb_contribution(&layout, noise, before, 0, c), VISATB_ERROR_DATA);
}

static void a_unit_contributes_exactly_1_to_itself(void **state) {
    (void)state;
    /* Ten shares of a tenth sum to a little less than 1. */
    const size_t metric_task[11] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    const visatb_layout layout = {
        .size = sizeof layout, .units = 2, .tasks = 2, .metrics = 11, .metric_task = metric_task};
    double before[11], trained[22], c[4];
    for (int m = 0; m < 11; m++) {
        before[m] = 1.0;
        trained[m] = trained[11 + m] = 2.0;
    }
    expect_ok(visatb_contribution(&layout, trained, before, 0, c));
    assert_true(c[0] == 1.0 && c[3] == 1.0);
}

static void scores_too_far_apart_for_doubles_are_refused(void **state) {
    (void)state;
    const visatb_layout layout = VISATB_LAYOUT(2);
    const double before[2] = {-1e308, 1.0}, apart[4] = {1e308, 1.0, 0.0, 2.0};
    const double near[2] = {0.0, 1.0}, part[4] = {0.1, 1.0, 1e308, 2.0};
    double c[4];
    expect_failure(
        visatb_contribution(&layout, apart, before, 0, c), VISATB_ERROR_DATA,
        "visatb_contribution: metric 0: the scores -1e+308 and 1e+308 are too far apart for a finite result");
    expect_failure(
        visatb_contribution(&layout, part, near, 0, c), VISATB_ERROR_DATA,
        "visatb_contribution: metric 0: the scores 0 and 1e+308 are too far apart for a finite result");
    const double low[2] = {1e308, 1.0}, high[2] = {1e-308, 1.0};
    expect_failure(
        visatb_difficulty(&layout, low, high, c), VISATB_ERROR_DATA,
        "visatb_difficulty: metric 0: the scores 1e+308 and 1e-308 are too far apart for a finite result");
}

static void a_divisor_of_zero_is_refused_but_a_zero_before_training_is_not(void **state) {
    (void)state;
    const visatb_layout layout = VISATB_LAYOUT(2);
    const double low[2] = {0.0, 1.0}, high[2] = {2.0, 0.0}, fine[2] = {2.0, 2.0};
    double d[2] = {7, 7};
    expect_failure(visatb_difficulty(&layout, low, high, d), VISATB_ERROR_DATA,
                   "visatb_difficulty: metric 1: a ratio of the scores 1 and 0 needs a positive divisor");
    expect_close(d[0], 7.0, 0.0);
    expect_ok(visatb_difficulty(&layout, low, fine, d));
    expect_close(d[0], 1.0, 0.0);
    double improvement = 7.0;
    expect_failure(visatb_improvement(2, fine, low, NULL, &improvement), VISATB_ERROR_DATA,
                   "visatb_improvement: metric 0: a ratio of the scores 0 and 2 needs a positive divisor");
}

static void bad_arrays_are_named(void **state) {
    (void)state;
    const visatb_layout layout = VISATB_LAYOUT(2);
    const double fine[4] = {1, 2, 3, 4}, with_nan[4] = {1, 2, NAN, 4}, with_inf[2] = {1, INFINITY};
    double out[4];
    expect_failure(visatb_contribution(NULL, fine, fine, 0, out), VISATB_ERROR_ARGUMENT,
                   "visatb_contribution: layout is NULL; expected VISATB_LAYOUT(units)");
    expect_failure(visatb_contribution(&layout, NULL, fine, 0, out), VISATB_ERROR_ARGUMENT,
                   "visatb_contribution: trained is NULL; expected 4 values");
    expect_failure(visatb_contribution(&layout, with_nan, fine, 0, out), VISATB_ERROR_ARGUMENT,
                   "visatb_contribution: trained[2] = nan; expected a finite number");
    expect_failure(visatb_contribution(&layout, fine, with_inf, 0, out), VISATB_ERROR_ARGUMENT,
                   "visatb_contribution: baseline[1] = inf; expected a finite number");
    expect_failure(visatb_contribution(&layout, fine, fine, 6, out), VISATB_ERROR_ARGUMENT,
                   "visatb_contribution: flags = 0x6; expected 0 or VISATB_ALLOW_NEGATIVE_DENOMINATOR");
    expect_failure(visatb_contribution(&layout, fine, fine, 0, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_contribution: contribution is NULL; expected an array for the result");
    expect_failure(visatb_contribution_means(1, fine, out, out), VISATB_ERROR_ARGUMENT,
                   "visatb_contribution_means: units = 1; expected 2 or more");
    expect_failure(visatb_softmax_weights(2, fine, 0.0, out), VISATB_ERROR_ARGUMENT,
                   "visatb_softmax_weights: temperature = 0; expected a finite number above 0");
    expect_failure(visatb_improvement(0, fine, fine, NULL, out), VISATB_ERROR_ARGUMENT,
                   "visatb_improvement: metrics = 0; expected 1 or more");
    expect_failure(visatb_improvement_summary(0, fine, out, out), VISATB_ERROR_ARGUMENT,
                   "visatb_improvement_summary: tasks = 0; expected 1 or more");
}

static void layouts_that_do_not_fit_are_named(void **state) {
    (void)state;
    const double fine[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    double out[4];
    visatb_layout layout = VISATB_LAYOUT(1);
    expect_failure(visatb_difficulty(&layout, fine, fine, out), VISATB_ERROR_ARGUMENT,
                   "visatb_difficulty: layout->units = 1; expected 2 or more");
    layout.units = 2;
    layout.size = 8;
    expect_failure(visatb_difficulty(&layout, fine, fine, out), VISATB_ERROR_ARGUMENT,
                   "visatb_difficulty: layout->size = 8; expected 56 (start from VISATB_LAYOUT)");
    layout.size = sizeof layout;
    const size_t beyond[2] = {0, 2}, all_of_one[2] = {1, 1};
    layout.task_unit = beyond;
    expect_failure(visatb_difficulty(&layout, fine, fine, out), VISATB_ERROR_ARGUMENT,
                   "visatb_difficulty: layout->task_unit[1] = 2; expected a value below 2");
    layout.task_unit = all_of_one;
    expect_failure(visatb_difficulty(&layout, fine, fine, out), VISATB_ERROR_ARGUMENT,
                   "visatb_difficulty: layout->task_unit gives unit 0 nothing; expected at least one");
    layout.task_unit = NULL;
    layout.metrics = 4;
    expect_failure(visatb_difficulty(&layout, fine, fine, out), VISATB_ERROR_ARGUMENT,
                   "visatb_difficulty: layout->metric_task[2] = 2; expected a value below 2");
}

static void bad_options_are_named(void **state) {
    (void)state;
    const double v[2] = {0.0, 0.1};
    double w[2];
    visatb_balance_options options = VISATB_BALANCE_OPTIONS_INIT;
    options.alpha_out = -0.25;
    expect_failure(visatb_balance_weights(2, v, v, v, &options, w, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_balance_weights: alpha_out = -0.25; expected a finite number of 0 or more");
    options.alpha_out = 0.28;
    expect_failure(visatb_balance_weights(2, v, v, v, &options, w, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_balance_weights: the alphas sum to 1.03; expected 1 within 0.02");
    options.alpha_out = 0.25;
    options.range_low = 1.1;
    expect_failure(visatb_balance_weights(2, v, v, v, &options, w, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_balance_weights: range [1.1, 2]; expected one that contains 1");
    options.range_low = 0.5;
    options.temperature = NAN;
    expect_failure(
        visatb_balance_weights(2, v, v, v, &options, w, NULL, NULL), VISATB_ERROR_ARGUMENT,
        "visatb_balance_weights: temperature = nan; expected a finite number above 0, or 0 for automatic");
    options.size = 3;
    expect_failure(
        visatb_balance_weights(2, v, v, v, &options, w, NULL, NULL), VISATB_ERROR_ARGUMENT,
        "visatb_balance_weights: options->size = 3; expected 56 (start from VISATB_BALANCE_OPTIONS_INIT)");
}

static void alphas_a_little_off_are_scaled(void **state) {
    (void)state;
    const double out[2] = {0.0, 0.1}, in[2] = {0.2, 0.1}, d[2] = {0.3, 0.1};
    visatb_balance_options thirds = VISATB_BALANCE_OPTIONS_INIT, rounded = VISATB_BALANCE_OPTIONS_INIT;
    thirds.alpha_out = thirds.alpha_in = thirds.alpha_difficulty = 1.0 / 3.0;
    rounded.alpha_out = rounded.alpha_in = rounded.alpha_difficulty = 0.33;
    double w[2], w_rounded[2];
    expect_ok(visatb_balance_weights(2, out, in, d, &thirds, w, NULL, NULL));
    expect_ok(visatb_balance_weights(2, out, in, d, &rounded, w_rounded, NULL, NULL));
    expect_close(w[0], w_rounded[0], 1e-15);
    expect_close(w[1], w_rounded[1], 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contribution_is_the_gain_relative_to_the_own_gain),
        cmocka_unit_test(difficulty_is_what_little_training_leaves_undone),
        cmocka_unit_test(a_lower_is_better_score_turns_difficulty_but_not_contribution),
        cmocka_unit_test(metrics_are_averaged_within_a_task_and_tasks_within_a_unit),
        cmocka_unit_test(weights_sum_to_the_number_of_units_and_follow_a_permutation),
        cmocka_unit_test(a_high_temperature_gives_equal_weights),
        cmocka_unit_test(extreme_values_stay_finite),
        cmocka_unit_test(the_automatic_temperature_is_the_lowest_of_the_grid_that_fits),
        cmocka_unit_test(improvement_is_relative_and_turned_where_lower_is_better),
        cmocka_unit_test(denominators_that_say_nothing_are_refused),
        cmocka_unit_test(a_denominator_is_noise_below_a_billionth),
        cmocka_unit_test(a_unit_contributes_exactly_1_to_itself),
        cmocka_unit_test(scores_too_far_apart_for_doubles_are_refused),
        cmocka_unit_test(a_divisor_of_zero_is_refused_but_a_zero_before_training_is_not),
        cmocka_unit_test(bad_arrays_are_named),
        cmocka_unit_test(layouts_that_do_not_fit_are_named),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(alphas_a_little_off_are_scaled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
