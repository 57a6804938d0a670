/* Methods whose weights change from step to step: cases worked by hand, and refusals. */
#include "expect.h"
#include "method_calls.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void expect_weights(const visatb_method *method, const int64_t *tokens, size_t tasks,
                           const double *expected) {
    double weights[MOST_TASKS];
    expect_ok(visatb_method_weights(method, tokens, weights));
    for (size_t task = 0; task < tasks; task++)
        expect_close(weights[task], expected[task], 1e-14);
}

static void equal_weights_are_1(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_EW, 3);
    const double ones[3] = {1, 1, 1};
    expect_weights(method, NULL, 3, ones);
    expect_ok(visatb_method_update(method, NULL, NULL));
    expect_weights(method, NULL, 3, ones);
    visatb_method_destroy(method);
}

static void task_level_averaging_is_1_by_the_tokens_of_the_coming_step(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_TLA, 3);
    const int64_t tokens[3] = {4, 0, INT64_MAX};
    const double expected[3] = {0.25, 0, 1.0 / 9223372036854775807.0};
    expect_weights(method, tokens, 3, expected);
    visatb_method_destroy(method);
}

static void dwa_is_the_softmax_of_the_means_of_two_windows(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_DWA, 3);
    /* Task 0: means 3 then 6. Task 1: 4, of one step, then 2. Task 2 is not there in the second window. */
    const double nll[4][3] = {{2, 0, 5}, {8, 8, 0}, {10, 4, 0}, {7, 0, 0}};
    const int64_t tokens[4][3] = {{1, 0, 1}, {2, 2, 0}, {2, 2, 0}, {1, 0, 0}};
    const double ones[3] = {1, 1, 1};
    for (int step = 0; step < 4; step++) {
        expect_weights(method, NULL, 3, ones);
        expect_ok(visatb_method_update(method, nll[step], tokens[step]));
    }
    const double e[3] = {exp(2.0 / 2), exp(0.5 / 2), exp(1.0 / 2)}, sum = e[0] + e[1] + e[2];
    const double expected[3] = {3 * e[0] / sum, 3 * e[1] / sum, 3 * e[2] / sum};
    expect_weights(method, NULL, 3, expected);
    expect_weights(method, NULL, 3, expected); /* asked again */
    visatb_method_destroy(method);
}

static void igbv1_is_the_softmax_of_the_last_loss_over_the_base(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_IGBV1, 3);
    /* The base is of steps 1 and 2. Task 1 is there in one of them, task 2 in none. */
    const double nll[4][3] = {{100, 1, 1}, {2, 0, 0}, {8, 6, 0}, {6, 0, 9}};
    const int64_t tokens[4][3] = {{1, 1, 1}, {1, 0, 0}, {2, 2, 0}, {1, 0, 3}};
    const double ones[3] = {1, 1, 1};
    const double ratios[2][3] = {{4.0 / 3, 1, 1}, {2, 1, 1}};
    for (int step = 0; step < 3; step++) {
        expect_weights(method, NULL, 3, ones);
        expect_ok(visatb_method_update(method, nll[step], tokens[step]));
    }
    for (int later = 0; later < 2; later++) {
        double expected[3], sum = 0;
        for (int task = 0; task < 3; task++)
            sum += exp(ratios[later][task]);
        for (int task = 0; task < 3; task++)
            expected[task] = 3 * exp(ratios[later][task]) / sum;
        expect_weights(method, NULL, 3, expected);
        expect_ok(visatb_method_update(method, nll[3], tokens[3]));
    }
    visatb_method_destroy(method);
}

/* The generator's published answer for a counter and a key of zeros, 6627e8d5 e169c58d bc57ac4c 9b00dbd8, is
 * the first two draws of seed 0. */
static void random_weights_are_those_of_the_published_generator(void **state) {
    (void)state;
    visatb_method_options options = VISATB_METHOD_OPTIONS_INIT;
    options.kind = VISATB_METHOD_RLW;
    options.tasks = 2;
    visatb_method *method = NULL;
    expect_ok(visatb_method_create(&options, &method));
    const double u = ldexp((double)(0xe169c58d6627e8d5U >> 11), -53);
    const double v = ldexp((double)(0x9b00dbd8bc57ac4cU >> 11), -53);
    const double radius = sqrt(-2 * log(1 - u)), angle = 2 * acos(-1.0) * v;
    const double e[2] = {exp(radius * cos(angle)), exp(radius * sin(angle))};
    const double expected[2] = {2 * e[0] / (e[0] + e[1]), 2 * e[1] / (e[0] + e[1])};
    expect_weights(method, NULL, 2, expected);
    visatb_method_destroy(method);
}

static void random_weights_are_a_function_of_seed_and_step(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_RLW, 5), *const other = make(VISATB_METHOD_RLW, 5);
    double weights[5], same[5], next[5];
    for (unsigned step = 0; step < 10; step++) {
        expect_ok(visatb_method_weights(method, NULL, weights));
        expect_ok(visatb_method_weights(other, NULL, same));
        assert_memory_equal(weights, same, sizeof weights);
        tell(method, 5, step);
        expect_ok(visatb_method_update(other, NULL, NULL));
        expect_ok(visatb_method_weights(method, NULL, next));
        assert_memory_not_equal(weights, next, sizeof weights);
    }
    visatb_method_destroy(method);
    visatb_method_destroy(other);
}

static void expect_refused(const visatb_method_options *options, const char *message) {
    visatb_method *method = NULL;
    char whole[256] = "visatb_method_create: ";
    (void)strncat(whole, message, sizeof whole - strlen(whole) - 1);
    expect_failure(visatb_method_create(options, &method), VISATB_ERROR_ARGUMENT, whole);
    assert_null(method);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    expect_refused(NULL, "options is NULL; expected what the method is made from");
#define expect_refusal(field, value, message)                                                                \
    do {                                                                                                     \
        visatb_method_options changed = VISATB_METHOD_OPTIONS_INIT;                                          \
        changed.kind = VISATB_METHOD_DWA;                                                                    \
        changed.tasks = 3;                                                                                   \
        changed.field = (value);                                                                             \
        expect_refused(&changed, message);                                                                   \
    } while (0)
    expect_refusal(size, 8, "options->size = 8; expected 64 (start from VISATB_METHOD_OPTIONS_INIT)");
    expect_refusal(kind, (visatb_method_kind)0, "kind = 0; expected a visatb_method_kind");
    expect_refusal(kind, (visatb_method_kind)6, "kind = 6; expected a visatb_method_kind");
    expect_refusal(tasks, 0, "tasks = 0; expected 1 or more");
    expect_refusal(tasks, SIZE_MAX,
                   "tasks = 18446744073709551615, window = 25; expected losses that fit into memory");
    expect_refusal(window, 0, "window = 0; expected 1 or more");
    expect_refusal(window, INT64_MAX,
                   "tasks = 3, window = 9223372036854775807; expected losses that fit into memory");
    expect_refusal(temperature, 0.0, "temperature = 0; expected a finite number above 0");
    expect_refusal(temperature, (double)INFINITY, "temperature = inf; expected a finite number above 0");
    expect_refusal(temperature, (double)NAN, "temperature = nan; expected a finite number above 0");
    expect_refusal(base_first, -1, "base_first = -1; expected 0 or more");
    expect_refusal(base_end, 100, "base_end = 100; expected more than base_first = 100");
#undef expect_refusal
    visatb_method_options options = VISATB_METHOD_OPTIONS_INIT;
    options.kind = VISATB_METHOD_EW;
    options.tasks = 1;
    expect_failure(visatb_method_create(&options, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_method_create: method is NULL; expected a place for the handle");
    visatb_method_destroy(NULL);
}

typedef struct bad_step {
    double nll[2];
    int64_t tokens[2];
    const char *message;
} bad_step;

static void bad_losses_are_refused_and_change_nothing(void **state) {
    (void)state;
    static const bad_step cases[] = {
        {{1, -0.5},
         {1, 1},
         "task_nll[1] = -0.5; expected a finite number of 0 or more, or 0 and no tokens for a task whose "
         "loss is to be left out"},
        {{(double)NAN, 1},
         {1, 1},
         "task_nll[0] = nan; expected a finite number of 0 or more, or 0 and no tokens for a task whose loss "
         "is to be left out"},
        {{1, (double)INFINITY},
         {1, 1},
         "task_nll[1] = inf; expected a finite number of 0 or more, or 0 and no tokens for a task whose loss "
         "is to be left out"},
        {{1, 1}, {1, -3}, "task_tokens[1] = -3; expected 0 or more"},
        {{1, 1}, {0, 1}, "task_nll[0] = 1 with task_tokens[0] = 0; expected 0 without a token"},
    };
    visatb_method *const methods[2] = {make(VISATB_METHOD_DWA, 2), make(VISATB_METHOD_IGBV1, 2)};
    for (int m = 0; m < 2; m++) {
        unsigned char before[MOST_BYTES], after[MOST_BYTES];
        tell(methods[m], 2, 1);
        const size_t size = state_of(methods[m], before);
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            char message[256] = "visatb_method_update: ";
            (void)strncat(message, cases[k].message, sizeof message - strlen(message) - 1);
            expect_failure(visatb_method_update(methods[m], cases[k].nll, cases[k].tokens),
                           VISATB_ERROR_ARGUMENT, message);
        }
        expect_failure(visatb_method_update(methods[m], NULL, cases[0].tokens), VISATB_ERROR_ARGUMENT,
                       "visatb_method_update: task_nll is NULL; expected 2 values");
        expect_failure(visatb_method_update(methods[m], cases[0].nll, NULL), VISATB_ERROR_ARGUMENT,
                       "visatb_method_update: task_tokens is NULL; expected 2 values");
        state_of(methods[m], after);
        assert_memory_equal(before, after, size);
        visatb_method_destroy(methods[m]);
    }
}

static void missing_arguments_are_refused(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_TLA, 2);
    const int64_t tokens[2] = {1, -1};
    double weights[2] = {-1, -1};
    size_t size = 0;
    unsigned char saved[MOST_BYTES];
    const visatb_status wrong = VISATB_ERROR_ARGUMENT;
    expect_failure(visatb_method_weights(NULL, tokens, weights), wrong,
                   "visatb_method_weights: method is NULL; expected one of visatb_method_create");
    expect_failure(visatb_method_weights(method, NULL, weights), wrong,
                   "visatb_method_weights: task_tokens is NULL; expected 2 values");
    expect_failure(visatb_method_weights(method, tokens, weights), wrong,
                   "visatb_method_weights: task_tokens[1] = -1; expected 0 or more");
    const int64_t one_each[2] = {1, 1};
    expect_failure(visatb_method_weights(method, one_each, NULL), wrong,
                   "visatb_method_weights: weights is NULL; expected an array for the result");
    assert_true(weights[0] == -1 && weights[1] == -1);
    expect_failure(visatb_method_update(NULL, NULL, NULL), wrong,
                   "visatb_method_update: method is NULL; expected one of visatb_method_create");
    expect_failure(visatb_method_state_size(NULL, &size), wrong,
                   "visatb_method_state_size: method is NULL; expected one of visatb_method_create");
    expect_failure(visatb_method_state_size(method, NULL), wrong,
                   "visatb_method_state_size: size is NULL; expected a place for the result");
    expect_failure(visatb_method_save(NULL, saved, 80), wrong,
                   "visatb_method_save: method is NULL; expected one of visatb_method_create");
    expect_failure(visatb_method_save(method, NULL, 80), wrong,
                   "visatb_method_save: state is NULL; expected 80 bytes");
    expect_failure(visatb_method_save(method, saved, 81), wrong,
                   "visatb_method_save: size = 81; expected 80, as visatb_method_state_size says");
    expect_failure(visatb_method_restore(NULL, saved, 80), wrong,
                   "visatb_method_restore: method is NULL; expected one of visatb_method_create");
    expect_failure(visatb_method_restore(method, NULL, 80), wrong,
                   "visatb_method_restore: state is NULL; expected 80 bytes");
    visatb_method_destroy(method);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_weights_are_1),
        cmocka_unit_test(task_level_averaging_is_1_by_the_tokens_of_the_coming_step),
        cmocka_unit_test(dwa_is_the_softmax_of_the_means_of_two_windows),
        cmocka_unit_test(igbv1_is_the_softmax_of_the_last_loss_over_the_base),
        cmocka_unit_test(random_weights_are_those_of_the_published_generator),
        cmocka_unit_test(random_weights_are_a_function_of_seed_and_step),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(bad_losses_are_refused_and_change_nothing),
        cmocka_unit_test(missing_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
