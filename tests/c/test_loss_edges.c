/* Rows that are hard on a loss that reads a row once, in vectors and tiles, and keeps exponentials relative
 * to what it has seen so far: every place of the label, logits that climb, masks, huge and sure ones, giant
 * and tiny weights. Each in every type, on every path, against the formula. */
#include "cpu_paths.h"
#include "loss_problem.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Two whole tiles of 1024 and a tail that is no multiple of anything. */
enum { TILE = 1024, TILES = 2 * TILE, WIDE = TILES + 37 };

static const int64_t places[] = {0,         1,     15,         16,         TILE - 1, TILE,    TILE + 1,
                                 TILES - 1, TILES, TILES + 31, TILES + 32, WIDE - 2, WIDE - 1};
enum { PLACES = sizeof places / sizeof *places };

static const visatb_dtype dtypes[] = {VISATB_DTYPE_FLOAT32, VISATB_DTYPE_BFLOAT16, VISATB_DTYPE_FLOAT16,
                                      VISATB_DTYPE_FLOAT64};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

static double ordinary(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    (void)i;
    return problem_random(-6, 6);
}

/* One row for each place of the label, all of weight. */
static void create_places(problem *p, visatb_dtype dtype) {
    problem_create(p, dtype, PLACES, WIDE);
    p->weights[1] = 0.5F;
    for (int64_t row = 0; row < PLACES; ++row)
        p->labels[row] = places[row];
}

static void check_logits_in(visatb_dtype dtype, problem_logit *logit) {
    problem p;
    create_places(&p, dtype);
    problem_fill(&p, logit);
    problem_solve(&p);
    problem_check_on_every_path(&p);
    problem_destroy(&p);
}

static void check_logits(problem_logit *logit) {
    for (int d = 0; d < DTYPES; ++d)
        check_logits_in(dtypes[d], logit);
}

static void label_may_stand_anywhere(void **state) {
    (void)state;
    check_logits(ordinary);
}

/* Sizes around those of vectors, of steps of vectors and of tiles, the label last. */
static void vocabulary_may_be_of_any_size(void **state) {
    (void)state;
    static const int64_t around[] = {8, 16, 32, 64, 128, TILE - 64, TILE, TILE + 64, TILES};
    for (int d = 0; d < DTYPES; ++d) {
        for (size_t i = 0; i < sizeof around / sizeof *around; ++i) {
            for (int64_t vocab = around[i] - 1; vocab <= around[i] + 1; ++vocab) {
                problem p;
                problem_create(&p, dtypes[d], 2, vocab);
                problem_fill(&p, ordinary);
                p.labels[0] = p.labels[1] = vocab - 1;
                problem_solve(&p);
                problem_check_on_every_path(&p);
                problem_destroy(&p);
            }
        }
    }
}

/* ---- logits that move what exponentials are relative to ---- */

static double climbing(const problem *p, int64_t row, int64_t i) {
    (void)row;
    return 1e4 * (double)i / (double)p->args.vocab;
}

static double falling(const problem *p, int64_t row, int64_t i) {
    return 1e4 - climbing(p, row, i);
}

/* By 50, 55, 60, 65, 70 ... from tile to tile: about as far as exponentials may grow before all that was kept
 * has to be brought down. */
static double climbing_by_tiles(const problem *p, int64_t row, int64_t i) {
    (void)p;
    const int64_t tile = i / TILE;
    return (50 + 5 * (double)row) * (double)tile + problem_random(-1, 1);
}

static double masked_at_first(const problem *p, int64_t row, int64_t i) {
    const bool label = p->labels[row] == i;
    return i < TILES && !label ? (double)-INFINITY : problem_random(-6, 6);
}

static double masked_but_the_label(const problem *p, int64_t row, int64_t i) {
    return p->labels[row] == i ? 3 : (double)-INFINITY;
}

static double masked_label(const problem *p, int64_t row, int64_t i) {
    return p->labels[row] == i || i % 3 == 0 ? (double)-INFINITY : problem_random(-6, 6);
}

/* What masks are made of where -inf is not: torch.finfo(float32).min. */
static double masked_by_the_lowest_number(const problem *p, int64_t row, int64_t i) {
    const bool masked = i % 5 != 0 && p->labels[row] != i;
    return masked ? (double)-FLT_MAX : problem_random(-6, 6);
}

/* The label alone is less than what all others are masked with. */
static double below_the_lowest_number(const problem *p, int64_t row, int64_t i) {
    return p->labels[row] == i ? (double)-INFINITY : (double)-FLT_MAX;
}

static void climbing_and_falling_logits_keep_their_accuracy(void **state) {
    (void)state;
    check_logits(climbing);
    check_logits(falling);
    check_logits(climbing_by_tiles);
}

static void masked_logits_count_for_nothing_and_get_an_exactly_zero_gradient(void **state) {
    (void)state;
    check_logits(masked_at_first);
    check_logits(masked_but_the_label);
    check_logits(masked_label);
    check_logits_in(VISATB_DTYPE_FLOAT32, masked_by_the_lowest_number);
    check_logits_in(VISATB_DTYPE_FLOAT64, masked_by_the_lowest_number);
    check_logits_in(VISATB_DTYPE_FLOAT32, below_the_lowest_number);
}

/* ---- huge logits ---- */

static double base_of_row(int64_t row) {
    static const double bases[] = {1e6, -1e6, 16384, -16384, 3e4, 1e5, -2e7};
    return bases[row % (int64_t)(sizeof bases / sizeof *bases)];
}

static double far_from_zero(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)i;
    return base_of_row(row) + problem_random(-8, 8);
}

static double far_apart(const problem *p, int64_t row, int64_t i) {
    static const double logits[] = {3e38, -3e38, 1e30, 0, -1e10};
    (void)p;
    return logits[(i + row) % (int64_t)(sizeof logits / sizeof *logits)];
}

static double far_only_at_last(const problem *p, int64_t row, int64_t i) {
    return i < TILES ? problem_random(-6, 6) : far_from_zero(p, row, i);
}

static void huge_logits_keep_their_differences(void **state) {
    (void)state;
    check_logits_in(VISATB_DTYPE_FLOAT32, far_from_zero);
    check_logits_in(VISATB_DTYPE_FLOAT32, far_only_at_last);
    check_logits_in(VISATB_DTYPE_FLOAT32, far_apart);
    check_logits_in(VISATB_DTYPE_BFLOAT16, far_from_zero);
    check_logits_in(VISATB_DTYPE_BFLOAT16, far_apart);
    check_logits_in(VISATB_DTYPE_FLOAT64, far_from_zero);
}

/* ---- sure rows ---- */

static double surely_by(double margin, const problem *p, int64_t row, int64_t i) {
    return p->labels[row] == i ? margin : problem_random(-1, 0);
}

static double sure_by_80(const problem *p, int64_t row, int64_t i) {
    return surely_by(80, p, row, i);
}

static double sure_by_100(const problem *p, int64_t row, int64_t i) {
    return surely_by(100, p, row, i);
}

static double sure_by_1000(const problem *p, int64_t row, int64_t i) {
    return surely_by(1000, p, row, i);
}

/* 1 - p is below what a float can hold: the loss follows log1p, and the label's gradient 1 - p, all the same.
 */
static void surest_rows_keep_their_loss_and_gradient(void **state) {
    (void)state;
    static problem_logit *const sure[] = {sure_by_80, sure_by_100, sure_by_1000};
    static const float scales[] = {1, 65536, 1e30F};
    for (int d = 0; d < DTYPES; ++d) {
        for (int k = 0; k < 9; ++k) {
            problem p;
            create_places(&p, dtypes[d]);
            problem_fill(&p, sure[k / 3]);
            p.grad_scale = scales[k % 3];
            p.args.grad_scale = &p.grad_scale;
            problem_solve(&p);
            problem_check_on_every_path(&p);
            assert_true(p.loss > 0 || sure[k / 3] == sure_by_1000);
            problem_destroy(&p);
        }
    }
}

static double far_below_one(const problem *p, int64_t row, int64_t i) {
    (void)p;
    return i % 7 == row % 7 ? 0 : problem_random(-110, -80);
}

static double sure_of_another(const problem *p, int64_t row, int64_t i) {
    (void)row;
    return i == p->args.vocab / 2 ? 300 : problem_random(-1, 1);
}

static void logits_far_below_the_others_vanish_gently(void **state) {
    (void)state;
    check_logits(far_below_one);
    check_logits(sure_of_another);
}

/* ---- weights ---- */

typedef struct sizes {
    float weight;
    float grad_scale;
    visatb_reduction reduction;
} sizes;

/* Beside logits that a little of the weight falls to, some get none and some next to none: a product with the
 * weight that overflows before it meets them would make them infinite, or no number. */
static double near_far_and_masked(const problem *p, int64_t row, int64_t i) {
    static const double far[] = {-85, (double)-INFINITY, -600, (double)-INFINITY};
    return p->labels[row] == i || i % 16 != 0 ? problem_random(-6, 6) : far[i / 16 % 4];
}

/* The second tile is far above the first, which what was kept of it is relative to. */
static double climbing_by_55(const problem *p, int64_t row, int64_t i) {
    const int64_t tile = i / TILE;
    return near_far_and_masked(p, row, i) + 55 * (double)tile;
}

/* Gradients beyond a float, below one, and products that are fine where their factors are not. */
static void check_sizes(visatb_dtype dtype, sizes of, problem_logit *logit, double smoothing,
                        double softcap) {
    problem p;
    problem_create(&p, dtype, 4, TILE + 37);
    problem_fill(&p, logit);
    p.weights[0] = of.weight;
    p.weights[2] = of.weight / 2;
    p.grad_scale = of.grad_scale;
    p.args.grad_scale = &p.grad_scale;
    p.args.reduction = of.reduction;
    p.args.label_smoothing = smoothing;
    p.args.softcap = softcap;
    problem_solve(&p);
    problem_check_on_every_path(&p);
    problem_destroy(&p);
}

static void weights_and_scales_may_be_giant_or_tiny(void **state) {
    (void)state;
    static const sizes all[] = {
        {1e30F, 1, VISATB_REDUCTION_SUM},       {1e30F, 1, VISATB_REDUCTION_MEAN},
        {1e-30F, 1, VISATB_REDUCTION_SUM},      {1e-30F, 1, VISATB_REDUCTION_MEAN},
        {1, 65536, VISATB_REDUCTION_SUM},       {1, 65536, VISATB_REDUCTION_MEAN},
        {1e30F, 1e30F, VISATB_REDUCTION_SUM},   {1e30F, 1e-30F, VISATB_REDUCTION_SUM},
        {1e-38F, 1, VISATB_REDUCTION_SUM},      {1e-42F, 1, VISATB_REDUCTION_SUM},
        {1e-38F, -1e-4F, VISATB_REDUCTION_SUM}, {3e38F, -1, VISATB_REDUCTION_SUM},
        {1e-20F, 1, VISATB_REDUCTION_SUM},      {1e30F, 1e15F, VISATB_REDUCTION_SUM},
        {1, 0, VISATB_REDUCTION_MEAN},
    };
    for (int d = 0; d < DTYPES; ++d) {
        for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
            check_sizes(dtypes[d], all[i], near_far_and_masked, 0, 0);
            check_sizes(dtypes[d], all[i], climbing_by_55, 0, 0);
            check_sizes(dtypes[d], all[i], ordinary, 0.1, 0);
            check_sizes(dtypes[d], all[i], near_far_and_masked, 0, 8);
            check_sizes(dtypes[d], all[i], climbing_by_55, 0.1, 60);
        }
    }
}

/* ---- bad logits ---- */

enum { BAD_VOCAB = TILE + 69 };

typedef struct bad_row {
    visatb_vitw_loss_args args;
    double logits[BAD_VOCAB]; /* room for any type */
    double gradient[BAD_VOCAB];
    int64_t label;
    int32_t task;
    float weight;
    double loss;
    visatb_report report;
} bad_row;

static void bad_row_create(bad_row *r, visatb_dtype dtype, visatb_cpu_path path, int64_t label) {
    *r = (bad_row){.args = VISATB_VITW_LOSS_ARGS_INIT, .label = label, .weight = 1};
    r->args.rows = r->args.tasks = 1;
    r->args.vocab = BAD_VOCAB;
    r->args.dtype = dtype;
    r->args.cpu_path = path;
    r->args.logits = r->logits;
    r->args.gradient = r->gradient;
    r->args.labels = &r->label;
    r->args.task_ids = &r->task;
    r->args.task_weights = &r->weight;
    r->args.loss = &r->loss;
    r->args.report = &r->report;
    for (int i = 0; i < BAD_VOCAB; ++i)
        reference_put(dtype, r->logits, i, (long double)problem_random(-6, 6));
}

static void expect_bad(bad_row *r) {
    assert_int_equal(visatb_vitw_loss(&r->args), VISATB_OK);
    assert_true(isnan(r->loss));
    assert_int_equal(r->report.code, VISATB_REPORT_LOGITS);
    assert_int_equal(r->report.first_bad_row, 0);
    for (int i = 0; i < BAD_VOCAB; ++i)
        assert_true(isnan(reference_get(r->args.dtype, r->gradient, i)));
}

/* Also with logits of 0 or of -inf all around, beside which it is the largest, and the only number. */
static void check_bad_logit(visatb_dtype dtype, visatb_cpu_path path, int64_t label, double bad) {
    bad_row r;
    bad_row_create(&r, dtype, path, label);
    for (int i = 0; i < BAD_VOCAB; ++i) {
        const double before = reference_get(dtype, r.logits, i);
        reference_put(dtype, r.logits, i, (long double)bad);
        expect_bad(&r);
        reference_put(dtype, r.logits, i, (long double)before);
    }
    assert_int_equal(visatb_vitw_loss(&r.args), VISATB_OK);
    assert_true(isfinite(r.loss));
}

static void nan_and_infinity_are_found_at_every_position(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        for (int d = 0; d < DTYPES; ++d) {
            if (dtypes[d] == VISATB_DTYPE_FLOAT64 && path != VISATB_CPU_PORTABLE)
                continue;
            check_bad_logit(dtypes[d], path, 5, (double)NAN);
            check_bad_logit(dtypes[d], path, BAD_VOCAB - 1, (double)NAN);
            check_bad_logit(dtypes[d], path, BAD_VOCAB - 1, (double)INFINITY);
        }
    }
}

static void lonely_nan_among_masked_logits_is_found(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        for (int d = 0; d < DTYPES; ++d) {
            bad_row r;
            bad_row_create(&r, dtypes[d], path, 7);
            for (int i = 0; i < BAD_VOCAB; ++i)
                reference_put(dtypes[d], r.logits, i, (long double)-INFINITY);
            expect_bad(&r);
            static const int at[] = {0, 7, 500, TILE - 1, TILE, BAD_VOCAB - 1};
            for (size_t i = 0; i < sizeof at / sizeof *at; ++i) {
                reference_put(dtypes[d], r.logits, at[i], (long double)NAN);
                expect_bad(&r);
                reference_put(dtypes[d], r.logits, at[i], (long double)-INFINITY);
            }
        }
    }
}

/* Tiles at 0, 59 and 110: the second is too near above the first for a new reference, the third is not. What
 * was kept of the second is then 1e-22 of the row, and an ordinary number still. */
static void small_entries_keep_their_digits_when_the_logits_rise(void **state) {
    (void)state;
    enum { THREE_TILES = 3 * TILE };
    float logits[THREE_TILES];
    float gradient[THREE_TILES];
    for (int i = 0; i < THREE_TILES; ++i)
        logits[i] = i < TILE ? 0.0F : i < TILES ? 59.0F : 110.0F;
    const int64_t label = THREE_TILES - 1;
    const int32_t task = 0;
    const float weight = 1;
    double loss = 0;
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = args.tasks = 1;
    args.vocab = THREE_TILES;
    args.dtype = VISATB_DTYPE_FLOAT32;
    args.logits = logits;
    args.gradient = gradient;
    args.labels = &label;
    args.task_ids = &task;
    args.task_weights = &weight;
    args.loss = &loss;
    for_each_cpu_path(path) {
        args.cpu_path = path;
        assert_int_equal(visatb_vitw_loss(&args), VISATB_OK);
        const double expected = exp(-51) / TILE;
        for (int i = TILE; i < TILES; ++i)
            assert_true(fabs((double)gradient[i] - expected) <= 1e-6 * expected);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(label_may_stand_anywhere),
        cmocka_unit_test(vocabulary_may_be_of_any_size),
        cmocka_unit_test(climbing_and_falling_logits_keep_their_accuracy),
        cmocka_unit_test(small_entries_keep_their_digits_when_the_logits_rise),
        cmocka_unit_test(masked_logits_count_for_nothing_and_get_an_exactly_zero_gradient),
        cmocka_unit_test(huge_logits_keep_their_differences),
        cmocka_unit_test(surest_rows_keep_their_loss_and_gradient),
        cmocka_unit_test(logits_far_below_the_others_vanish_gently),
        cmocka_unit_test(weights_and_scales_may_be_giant_or_tiny),
        cmocka_unit_test(nan_and_infinity_are_found_at_every_position),
        cmocka_unit_test(lonely_nan_among_masked_logits_is_found),
    };
    return cmocka_run_group_tests_name("edges of the loss", tests, NULL, NULL);
}
