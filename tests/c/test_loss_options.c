/* Label smoothing, soft-capping and z-loss, alone and together, in every type and on every path, against the
 * formula in long double; and what they do to logits that are infinite. */
#include "cpu_paths.h"
#include "loss_problem.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

typedef struct options {
    double label_smoothing, softcap, z_loss;
} options;

/* Each alone, in its usual and in its extreme sizes, then together. */
static const options choices[] = {
    {0.1, 0, 0},   {1, 0, 0},       {0, 5, 0},   {0, 30, 0},        {0, 1e-3, 0},
    {0, 1e4, 0},   {0, 0, 1e-4},    {0, 0, 3},   {0.1, 30, 0},      {0.1, 0, 1e-4},
    {0, 30, 1e-4}, {0.1, 30, 1e-4}, {1, 5, 0.5}, {0.5, 1e-3, 1e-2}, {1, 0, 1e-2},
};
enum { CHOICES = sizeof choices / sizeof *choices };

static double ordinary(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    (void)i;
    return problem_random(-8, 8);
}

/* From a thousandth of every cap to a thousand times it. */
static double of_all_sizes(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    (void)i;
    const double size = pow(10, problem_random(-3, 4));
    return problem_random(-1, 1) < 0 ? -size : size;
}

static double confident(const problem *p, int64_t row, int64_t i) {
    return p->labels[row] == i ? 12 : problem_random(-12, -8);
}

static void run_choice(visatb_dtype dtype, options of, problem_logit *logit, int64_t rows, int64_t vocab,
                       problem_tally *tallies) {
    problem p;
    problem_create(&p, dtype, rows, vocab);
    problem_fill(&p, logit);
    p.args.label_smoothing = of.label_smoothing;
    p.args.softcap = of.softcap;
    p.args.z_loss = of.z_loss;
    problem_solve(&p);
    for_each_cpu_path(path) {
        problem_check(&p, path, &tallies[path]);
    }
    problem_destroy(&p);
}

static void expect_correct_rounding(visatb_dtype dtype, const problem_tally *tallies) {
    for_each_cpu_path(path) {
        const problem_tally *tally = &tallies[path];
        const int64_t wrong = tally->normal_entries - tally->correctly_rounded;
        print_message("%s: correctly rounded: %lld of %lld normal gradient entries\n",
                      visatb_cpu_path_name(path), (long long)tally->correctly_rounded,
                      (long long)tally->normal_entries);
        if (dtype == VISATB_DTYPE_BFLOAT16 || dtype == VISATB_DTYPE_FLOAT16)
            assert_true(wrong * 1000 <= tally->normal_entries);
    }
}

static void run_all_choices(visatb_dtype dtype) {
    static const int64_t vocabularies[] = {1, 2, 7, 1023, 1024, 1025, 2049};
    problem_tally tallies[CPU_PATHS + 1] = {{0, 0}};
    for (int i = 0; i < CHOICES; ++i) {
        for (size_t v = 0; v < sizeof vocabularies / sizeof *vocabularies; ++v) {
            run_choice(dtype, choices[i], ordinary, 3, vocabularies[v], tallies);
            run_choice(dtype, choices[i], of_all_sizes, 3, vocabularies[v], tallies);
            run_choice(dtype, choices[i], confident, 3, vocabularies[v], tallies);
        }
    }
    run_choice(dtype, (options){0.1, 30, 1e-4}, ordinary, 3, 32003, tallies);
    run_choice(dtype, (options){0.1, 0, 1e-4}, ordinary, 3, 32003, tallies);
    if (dtype != VISATB_DTYPE_FLOAT64)
        expect_correct_rounding(dtype, tallies);
}

static void options_follow_the_formula_in_fp32(void **state) {
    (void)state;
    run_all_choices(VISATB_DTYPE_FLOAT32);
}

static void options_follow_the_formula_in_bf16(void **state) {
    (void)state;
    run_all_choices(VISATB_DTYPE_BFLOAT16);
}

static void options_follow_the_formula_in_fp16(void **state) {
    (void)state;
    run_all_choices(VISATB_DTYPE_FLOAT16);
}

static void options_follow_the_formula_in_fp64(void **state) {
    (void)state;
    run_all_choices(VISATB_DTYPE_FLOAT64);
}

/* ---- a cap far from the logits ---- */

static double ordinary_or_zero(const problem *p, int64_t row, int64_t i) {
    return i % 3 == 0 ? 0 : ordinary(p, row, i);
}

/* Far above them it does nothing; far below, every z is the cap or its negative. */
static void cap_may_be_of_any_size(void **state) {
    (void)state;
    static const double caps[] = {1e-310, 1e-300, 1e-30, 1e6, 1e8, 1e10, 1e12, 1e16, 1e30, 1e300};
    problem_tally tallies[CPU_PATHS + 1] = {{0, 0}};
    for (size_t i = 0; i < sizeof caps / sizeof *caps; ++i) {
        run_choice(VISATB_DTYPE_FLOAT32, (options){0, caps[i], 0}, ordinary_or_zero, 3, 1100, tallies);
        run_choice(VISATB_DTYPE_FLOAT32, (options){0.1, caps[i], 1e-4}, ordinary, 3, 37, tallies);
        run_choice(VISATB_DTYPE_FLOAT64, (options){0, caps[i], 0}, ordinary, 3, 37, tallies);
    }
}

/* Differences of a few units are all that the loss is made of. */
static double near_a_million(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    return 1e6 + (double)(i % 64) * 0.25;
}

static double near_thirty_millions(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    return 3e7 + (double)(i % 16) * 2;
}

static double far_apart(const problem *p, int64_t row, int64_t i) {
    static const double logits[] = {3e38, -3e38, 1e30, 0, -1e10};
    (void)p;
    return logits[(i + row) % (int64_t)(sizeof logits / sizeof *logits)];
}

static void huge_capped_logits_keep_their_differences(void **state) {
    (void)state;
    problem_tally tallies[CPU_PATHS + 1] = {{0, 0}};
    run_choice(VISATB_DTYPE_FLOAT32, (options){0, 3e6, 0}, near_a_million, 3, 1100, tallies);
    run_choice(VISATB_DTYPE_FLOAT32, (options){0, 1e6, 0}, near_a_million, 3, 1100, tallies);
    run_choice(VISATB_DTYPE_FLOAT32, (options){0, 2e4, 0}, near_a_million, 3, 1100, tallies);
    run_choice(VISATB_DTYPE_FLOAT32, (options){0, 1e8, 0}, near_thirty_millions, 3, 1100, tallies);
    run_choice(VISATB_DTYPE_FLOAT32, (options){0, 1e38, 0}, far_apart, 7, 1100, tallies);
}

/* ---- infinite logits ---- */

enum { MASKED_VOCAB = 1100 };

/* Rows of weight; the label in the tail, or among the masked ones. */
static void create_masked(problem *p, visatb_dtype dtype, bool masks_label) {
    problem_create(p, dtype, 2, MASKED_VOCAB);
    p->weights[1] = 0.5F;
    problem_fill(p, ordinary);
    p->labels[0] = masks_label ? 16 : MASKED_VOCAB - 2;
    p->labels[1] = masks_label ? MASKED_VOCAB - 1 : 17;
    for (int64_t i = 0; i < MASKED_VOCAB; i += 8)
        problem_put(p, 0, i, (double)-INFINITY);
    problem_put(p, 1, MASKED_VOCAB - 1, (double)-INFINITY);
}

static void run_masked(options of, bool masks_label) {
    for (int dtype = VISATB_DTYPE_FLOAT32; dtype <= VISATB_DTYPE_FLOAT64; ++dtype) {
        problem p;
        create_masked(&p, (visatb_dtype)dtype, masks_label);
        p.args.label_smoothing = of.label_smoothing;
        p.args.softcap = of.softcap;
        p.args.z_loss = of.z_loss;
        problem_solve(&p);
        problem_check_on_every_path(&p);
        assert_true(of.label_smoothing == 0 || of.softcap > 0 || (isinf(p.loss) && p.loss > 0));
        assert_int_equal(p.report.code, VISATB_REPORT_OK);
        problem_destroy(&p);
    }
}

static void masked_logits_under_smoothing_make_the_loss_infinite_and_the_gradient_finite(void **state) {
    (void)state;
    run_masked((options){0.1, 0, 0}, false);
    run_masked((options){0.1, 0, 1e-4}, true);
    run_masked((options){1, 0, 0}, false);
}

/* Nothing is left of the nll then, which is infinite: 0 * inf must not become NaN. */
static void full_smoothing_over_a_masked_label_is_an_infinite_loss(void **state) {
    (void)state;
    run_masked((options){1, 0, 0}, true);
}

static void masked_logits_under_z_loss_are_as_if_they_were_not_there(void **state) {
    (void)state;
    run_masked((options){0, 0, 1e-2}, false);
}

static void cap_makes_masked_logits_finite(void **state) {
    (void)state;
    run_masked((options){0, 5, 0}, false);
    run_masked((options){0, 5, 0}, true);
    run_masked((options){0.1, 5, 1e-4}, true);
}

static void infinity_and_nan_are_bad_also_under_a_cap(void **state) {
    (void)state;
    static const double bad[] = {(double)INFINITY, (double)NAN};
    static const int64_t positions[] = {0, 17, 1023, 1024, MASKED_VOCAB - 2, MASKED_VOCAB - 1};
    for (int k = 0; k < 2; ++k) {
        for (size_t i = 0; i < sizeof positions / sizeof *positions; ++i) {
            problem p;
            create_masked(&p, VISATB_DTYPE_BFLOAT16, true);
            problem_put(&p, 1, positions[i], bad[k]);
            p.args.label_smoothing = 0.1;
            p.args.softcap = 5;
            problem_solve(&p);
            problem_check_on_every_path(&p);
            assert_int_equal(p.report.first_bad_row, 1);
            problem_destroy(&p);
        }
    }
}

/* -inf is bad where there is nothing else, also if a cap would make it a number. */
static void row_of_nothing_but_masks_is_bad_also_under_a_cap(void **state) {
    (void)state;
    for (int dtype = VISATB_DTYPE_FLOAT32; dtype <= VISATB_DTYPE_FLOAT64; ++dtype) {
        problem p;
        create_masked(&p, (visatb_dtype)dtype, true);
        for (int64_t i = 0; i < MASKED_VOCAB; ++i)
            problem_put(&p, 1, i, (double)-INFINITY);
        p.args.softcap = 5;
        problem_solve(&p);
        problem_check_on_every_path(&p);
        problem_destroy(&p);
    }
}

/* ---- what is reported is the plain nll of z ---- */

static void rows_and_tasks_are_reported_without_smoothing_and_z_loss(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        problem plain, with;
        problem_create(&plain, VISATB_DTYPE_FLOAT32, 6, 1100);
        problem_fill(&plain, ordinary);
        problem_solve(&plain);
        plain.args.cpu_path = path;
        assert_int_equal(visatb_vitw_loss(&plain.args), VISATB_OK);
        with = plain;
        float row_nll[6], row_lse[6];
        with.args.row_nll = row_nll;
        with.args.row_lse = row_lse;
        with.args.loss = &with.loss;
        with.args.task_nll = with.task_nll;
        with.args.task_weights = with.weights;
        with.args.label_smoothing = 0.2;
        with.args.z_loss = 1e-3;
        assert_int_equal(visatb_vitw_loss(&with.args), VISATB_OK);
        assert_memory_equal(row_nll, plain.row_nll, sizeof row_nll);
        assert_memory_equal(row_lse, plain.row_lse, sizeof row_lse);
        assert_memory_equal(with.task_nll, plain.task_nll, sizeof with.task_nll);
        assert_true(with.loss != plain.loss);
        problem_destroy(&plain);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_follow_the_formula_in_fp32),
        cmocka_unit_test(options_follow_the_formula_in_bf16),
        cmocka_unit_test(options_follow_the_formula_in_fp16),
        cmocka_unit_test(options_follow_the_formula_in_fp64),
        cmocka_unit_test(cap_may_be_of_any_size),
        cmocka_unit_test(huge_capped_logits_keep_their_differences),
        cmocka_unit_test(masked_logits_under_smoothing_make_the_loss_infinite_and_the_gradient_finite),
        cmocka_unit_test(full_smoothing_over_a_masked_label_is_an_infinite_loss),
        cmocka_unit_test(masked_logits_under_z_loss_are_as_if_they_were_not_there),
        cmocka_unit_test(cap_makes_masked_logits_finite),
        cmocka_unit_test(infinity_and_nan_are_bad_also_under_a_cap),
        cmocka_unit_test(row_of_nothing_but_masks_is_bad_also_under_a_cap),
        cmocka_unit_test(rows_and_tasks_are_reported_without_smoothing_and_z_loss),
    };
    return cmocka_run_group_tests_name("options of the loss", tests, NULL, NULL);
}
