/* How accurate the loss and its gradient are, against the formula in long double: for every type and every
 * path of the CPU, for small and wide vocabularies, for logits that are ordinary, huge, partly -inf, or very
 * sure of the label. */
#include "cpu_paths.h"
#include "loss_problem.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef enum kind { ORDINARY, HUGE_LOGITS, PARTLY_MASKED, CONFIDENT, KINDS } kind;

static bool is_label(const problem *p, int64_t row, int64_t i) {
    return p->labels[row] == i;
}

static double ordinary(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    (void)i;
    return problem_random(-8, 8);
}

static double huge(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    (void)i;
    return problem_random(-1e4, 1e4);
}

static double partly_masked(const problem *p, int64_t row, int64_t i) {
    const bool masked = problem_random(0, 1) > 0.7;
    /* The first is never masked, so that a row without label has something to be a row of. */
    return is_label(p, row, i) || i == 0 || !masked ? problem_random(-6, 6) : (double)-INFINITY;
}

static double confident(const problem *p, int64_t row, int64_t i) {
    return is_label(p, row, i) ? log((double)p->args.vocab) + 15 : problem_random(-1, 1);
}

static problem_logit *const logits_of[KINDS] = {ordinary, huge, partly_masked, confident};

/* One tally for each path. */
static void run_shape(visatb_dtype dtype, kind of, int64_t rows, int64_t vocab, problem_tally *tallies) {
    problem p;
    problem_create(&p, dtype, rows, vocab);
    problem_fill(&p, logits_of[of]);
    p.denominator = 37.25;
    p.grad_scale = -4096;
    if (of == HUGE_LOGITS || of == CONFIDENT)
        p.args.denominator = &p.denominator;
    if (of == PARTLY_MASKED || of == CONFIDENT)
        p.args.grad_scale = &p.grad_scale;
    problem_solve(&p);
    for_each_cpu_path(path) {
        /* All of them compute fp64 the same way. */
        if (dtype != VISATB_DTYPE_FLOAT64 || path == VISATB_CPU_PORTABLE || vocab < 300)
            problem_check(&p, path, &tallies[path]);
    }
    problem_destroy(&p);
}

static void expect_correct_rounding(visatb_dtype dtype, visatb_cpu_path path, const problem_tally *tally) {
    const int64_t wrong = tally->normal_entries - tally->correctly_rounded;
    print_message("%s: correctly rounded: %lld of %lld normal gradient entries\n", visatb_cpu_path_name(path),
                  (long long)tally->correctly_rounded, (long long)tally->normal_entries);
    if (dtype != VISATB_DTYPE_FLOAT32)
        assert_true(wrong * 1000 <= tally->normal_entries);
}

static void run_all_shapes(visatb_dtype dtype) {
    static const struct {
        int64_t rows, vocab;
    } shapes[] = {{0, 7},    {1, 1},    {33, 1},   {1, 2},     {33, 2},    {1, 7},
                  {33, 7},   {5, 256},  {5, 257},  {5, 1023},  {5, 1024},  {5, 1025},
                  {5, 2047}, {5, 2048}, {5, 2049}, {1, 32003}, {1, 152064}};
    problem_tally tallies[CPU_PATHS + 1] = {{0, 0}};
    for (kind of = ORDINARY; of < KINDS; ++of)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
            run_shape(dtype, of, shapes[i].rows, shapes[i].vocab, tallies);
    /* Of one kind each, so that the four types meet the four kinds in seconds. */
    run_shape(dtype, (kind)((int)dtype % KINDS), 33, 32003, tallies);
    run_shape(dtype, (kind)((int)(dtype + 1) % KINDS), 4, 152064, tallies);
    if (dtype == VISATB_DTYPE_FLOAT64)
        return;
    for_each_cpu_path(path) {
        expect_correct_rounding(dtype, path, &tallies[path]);
    }
}

static void fp32_loss_and_gradient_follow_the_formula(void **state) {
    (void)state;
    run_all_shapes(VISATB_DTYPE_FLOAT32);
}

static void bf16_loss_and_gradient_follow_the_formula(void **state) {
    (void)state;
    run_all_shapes(VISATB_DTYPE_BFLOAT16);
}

static void fp16_loss_and_gradient_follow_the_formula(void **state) {
    (void)state;
    run_all_shapes(VISATB_DTYPE_FLOAT16);
}

static void fp64_loss_and_gradient_follow_the_formula(void **state) {
    (void)state;
    run_all_shapes(VISATB_DTYPE_FLOAT64);
}

/* ---- reading and rounding, for all that a 16-bit type can hold ---- */

static const float one_weight = 1;

/* Rows of a few 16-bit logits, each a call's worth of its own. */
typedef struct rows16 {
    visatb_vitw_loss_args args;
    uint16_t *logits;
    int64_t *labels;
    int32_t *task_ids;
    float *row_lse;
    double loss;
} rows16;

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    assert_non_null(memory);
    return memory;
}

static void rows16_create(rows16 *r, visatb_dtype dtype, visatb_cpu_path path, size_t rows, size_t vocab) {
    *r = (rows16){.args = VISATB_VITW_LOSS_ARGS_INIT};
    r->args.rows = (int64_t)rows;
    r->args.vocab = (int64_t)vocab;
    r->args.tasks = 1;
    r->args.dtype = dtype;
    r->args.cpu_path = path;
    r->args.logits = r->logits = allocate(rows * vocab, sizeof *r->logits);
    r->args.labels = r->labels = allocate(rows, sizeof *r->labels);
    r->args.task_ids = r->task_ids = allocate(rows, sizeof *r->task_ids);
    r->args.row_lse = r->row_lse = allocate(rows, sizeof *r->row_lse);
    r->args.task_weights = &one_weight;
    r->args.loss = &r->loss;
}

static void rows16_run(rows16 *r) {
    if (visatb_vitw_loss(&r->args) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
}

static void rows16_destroy(rows16 *r) {
    free(r->logits);
    free(r->labels);
    free(r->task_ids);
    free(r->row_lse);
}

/* The log-sum-exp of a row of one logit is that logit: so all 65536 patterns can be seen being read. In a row
 * of 1056 of them, of which the label is another, vectors read most: each is log(1055) more. */
static void check_reading(visatb_dtype dtype, visatb_cpu_path path) {
    enum { PATTERNS = 65536 };
    rows16 r;
    rows16_create(&r, dtype, path, PATTERNS, 1);
    for (int i = 0; i < PATTERNS; ++i)
        r.logits[i] = (uint16_t)i;
    rows16_run(&r);
    for (int i = 0; i < PATTERNS; ++i) {
        const double expected = reference_get(dtype, r.logits, i);
        assert_true(isfinite(expected) ? (double)r.row_lse[i] == expected : isnan(r.row_lse[i]));
    }
    rows16_destroy(&r);
}

static void check_reading_by_vectors(visatb_dtype dtype, visatb_cpu_path path) {
    enum { WIDE = 1056, STRIDE = 37 };
    rows16 r;
    rows16_create(&r, dtype, path, 1, WIDE);
    r.labels[0] = WIDE - 1;
    for (int pattern = 0; pattern < 65536; pattern += STRIDE) {
        const uint16_t element = (uint16_t)pattern;
        const double value = reference_get(dtype, &element, 0);
        for (int i = 0; i < WIDE; ++i)
            r.logits[i] = element;
        rows16_run(&r);
        const double expected = value + log((double)WIDE);
        const double lse = (double)r.row_lse[0];
        if (isfinite(value) ? !(fabs(lse - expected) <= 1e-6 * fabs(expected) + 1e-6) : !isnan(lse))
            fail_msg("%s: lse = %.17g, expected %.17g", visatb_cpu_path_name(path), lse, expected);
    }
    rows16_destroy(&r);
}

static void every_16_bit_logit_is_read_exactly(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        check_reading(VISATB_DTYPE_BFLOAT16, path);
        check_reading(VISATB_DTYPE_FLOAT16, path);
        check_reading_by_vectors(VISATB_DTYPE_BFLOAT16, path);
        check_reading_by_vectors(VISATB_DTYPE_FLOAT16, path);
    }
}

/* Equal logits: the gradient of each is its row's weight / vocab. Every row is a task of its own, whose
 * weight lies half-way between two neighbours of the format; dividing by a D a hair off 1 moves it off the
 * tie by less than a float can see, which shows whether it was rounded by way of float. */
static void check_ties(visatb_dtype dtype, visatb_cpu_path path, int vocab, double denominator) {
    const int count = reference_half_count(dtype);
    float *weights = allocate((size_t)count, sizeof *weights);
    rows16 r;
    rows16_create(&r, dtype, path, (size_t)count, (size_t)vocab);
    for (int i = 0; i < count; ++i) {
        weights[i] = (float)((reference_half(dtype, i) + reference_half(dtype, i + 1)) / 2);
        r.labels[i] = vocab - 1;
        r.task_ids[i] = i;
    }
    const float grad_scale = (float)vocab;
    r.args.tasks = count;
    r.args.gradient = r.logits;
    r.args.task_weights = weights;
    r.args.denominator = &denominator;
    r.args.grad_scale = &grad_scale;
    rows16_run(&r);
    /* The instruction knows no bf16 below the normal ones. */
    const bool flushes = path == VISATB_CPU_AVX512_BF16 && dtype == VISATB_DTYPE_BFLOAT16;
    for (int i = 0; i < count; ++i) {
        const bool goes_up = denominator < 1 || (denominator == 1 && i % 2 != 0);
        const int nearest = goes_up ? i + 1 : i;
        const int expected = flushes && i < 0x80 ? 0 : nearest;
        const uint16_t *gradient = r.logits + (ptrdiff_t)vocab * i;
        for (int k = 0; k < vocab - 1; ++k)
            if (gradient[k] != expected && gradient[k] != nearest)
                fail_msg("%s: %#x, expected %#x", visatb_cpu_path_name(path), gradient[k], (unsigned)nearest);
        if (vocab == 2)
            assert_int_equal(gradient[1], 0x8000 + nearest);
    }
    free(weights);
    rows16_destroy(&r);
}

static void gradient_is_rounded_with_ties_to_even(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        check_ties(VISATB_DTYPE_BFLOAT16, path, 2, 1);
        check_ties(VISATB_DTYPE_FLOAT16, path, 2, 1);
        /* Wide enough for whole vectors. */
        check_ties(VISATB_DTYPE_BFLOAT16, path, 64, 1);
        check_ties(VISATB_DTYPE_FLOAT16, path, 64, 1);
    }
}

/* What the other paths keep between is a float. */
static void portable_gradient_is_rounded_once(void **state) {
    (void)state;
    if (!cpu_path_runs(VISATB_CPU_PORTABLE))
        skip();
    const double hair = ldexp(1, -40);
    for (int side = -1; side <= 1; side += 2) {
        check_ties(VISATB_DTYPE_BFLOAT16, VISATB_CPU_PORTABLE, 2, 1 + side * hair);
        check_ties(VISATB_DTYPE_FLOAT16, VISATB_CPU_PORTABLE, 2, 1 + side * hair);
    }
}

/* ---- finite differences ---- */

static double loss_with(problem *p, double *logit, double value) {
    const double before = *logit;
    *logit = value;
    assert_int_equal(visatb_vitw_loss(&p->args), VISATB_OK);
    *logit = before;
    return p->loss;
}

static void expect_finite_differences(problem *p) {
    const double step = 1e-5;
    assert_int_equal(visatb_vitw_loss(&p->args), VISATB_OK);
    const double *gradient = p->args.gradient;
    double *logits = problem_logits(p);
    p->args.gradient = NULL;
    for (int64_t row = 0; row < p->args.rows; ++row) {
        for (int64_t i = 0; i < p->args.vocab; ++i) {
            double *logit = logits + row * p->args.logits_stride + i;
            const double above = loss_with(p, logit, *logit + step);
            const double slope = (above - loss_with(p, logit, *logit - step)) / (2 * step);
            assert_true(fabs(gradient[row * p->args.gradient_stride + i] - slope) <= 1e-9);
        }
    }
}

static void gradient_agrees_with_finite_differences_under_every_option(void **state) {
    (void)state;
    for (int options = 0; options < 8; ++options) {
        problem p;
        problem_create(&p, VISATB_DTYPE_FLOAT64, 6, 5);
        problem_fill(&p, ordinary);
        p.args.label_smoothing = (options & 1) != 0 ? 0.1 : 0;
        p.args.softcap = (options & 2) != 0 ? 5 : 0;
        p.args.z_loss = (options & 4) != 0 ? 1e-2 : 0;
        expect_finite_differences(&p);
        problem_destroy(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32_loss_and_gradient_follow_the_formula),
        cmocka_unit_test(bf16_loss_and_gradient_follow_the_formula),
        cmocka_unit_test(fp16_loss_and_gradient_follow_the_formula),
        cmocka_unit_test(fp64_loss_and_gradient_follow_the_formula),
        cmocka_unit_test(every_16_bit_logit_is_read_exactly),
        cmocka_unit_test(gradient_is_rounded_with_ties_to_even),
        cmocka_unit_test(portable_gradient_is_rounded_once),
        cmocka_unit_test(gradient_agrees_with_finite_differences_under_every_option),
    };
    return cmocka_run_group_tests_name("accuracy of the loss", tests, NULL, NULL);
}
