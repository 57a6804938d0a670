/* How accurate the loss and its gradient are, against the formula in long double: for every type, for small
 * and wide vocabularies, for logits that are ordinary, huge, partly -inf, or very sure of the label. */
#include "loss_reference.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TASKS = 3, LOGITS_PADDING = 5, GRADIENT_PADDING = 3, CANARY = 0xff };

static const float task_weights[TASKS] = {1.5F, 0, 0.3F};

typedef enum kind { ORDINARY, HUGE_LOGITS, PARTLY_MASKED, CONFIDENT, KINDS } kind;

/* A call and the buffers behind it. Rows are strided, and what lies between them is filled with CANARY, which
 * reads as NaN in every type. */
typedef struct problem {
    visatb_vitw_loss_args args;
    size_t logits_bytes;
    size_t gradient_bytes;
    double *exact; /* the logits as double, dense */
    void *logits;
    void *gradient;
    int64_t *labels;
    int32_t *task_ids;
    float *row_nll;
    float *row_lse;
    double denominator;
    float grad_scale;
    double task_nll[TASKS];
    int64_t task_tokens[TASKS];
    double loss, numerator, denominator_out;
    visatb_report report;
} problem;

/* What a run of many problems found. */
typedef struct tally {
    int64_t normal_entries;
    int64_t correctly_rounded;
} tally;

/* A small generator of our own: the same numbers on every machine. */
static uint64_t random_state = 1;

static double uniform(double low, double high) {
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return low + (high - low) * ldexp((double)(random_state >> 11), -53);
}

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes + 1);
    assert_non_null(memory);
    memset(memory, CANARY, bytes + 1);
    return memory;
}

static double draw_logit(kind of, int64_t vocab, bool is_label) {
    switch (of) {
    case HUGE_LOGITS: return uniform(-1e4, 1e4);
    case PARTLY_MASKED: return is_label || uniform(0, 1) < 0.7 ? uniform(-6, 6) : (double)-INFINITY;
    case CONFIDENT: return is_label ? log((double)vocab) + 15 : uniform(-1, 1);
    default: return uniform(-8, 8);
    }
}

static void draw_row(problem *p, kind of, int64_t row) {
    const visatb_vitw_loss_args *args = &p->args;
    const bool ignored = row % 7 == 3;
    p->task_ids[row] = (int32_t)(row % TASKS);
    const int64_t label = (int64_t)uniform(0, (double)args->vocab);
    p->labels[row] = ignored ? args->ignore_index : label;
    for (int64_t i = 0; i < args->vocab; ++i) {
        const int64_t at = row * args->logits_stride + i;
        reference_put(args->dtype, p->logits, at, (long double)draw_logit(of, args->vocab, i == label));
        p->exact[row * args->vocab + i] = reference_get(args->dtype, p->logits, at);
    }
}

static size_t strided_elements(int64_t rows, int64_t stride) {
    return (size_t)(rows * stride);
}

static void create(problem *p, visatb_dtype dtype, kind of, int64_t rows, int64_t vocab) {
    *p = (problem){.args = VISATB_VITW_LOSS_ARGS_INIT};
    visatb_vitw_loss_args *args = &p->args;
    args->rows = rows;
    args->vocab = vocab;
    args->tasks = TASKS;
    args->dtype = dtype;
    args->logits_stride = vocab + LOGITS_PADDING;
    args->gradient_stride = vocab + GRADIENT_PADDING;
    p->logits_bytes = strided_elements(rows, args->logits_stride) * reference_size(dtype);
    p->gradient_bytes = strided_elements(rows, args->gradient_stride) * reference_size(dtype);

    args->logits = p->logits = allocate(p->logits_bytes);
    args->gradient = p->gradient = allocate(p->gradient_bytes);
    args->labels = p->labels = allocate((size_t)rows * sizeof *p->labels);
    args->task_ids = p->task_ids = allocate((size_t)rows * sizeof *p->task_ids);
    args->row_nll = p->row_nll = allocate((size_t)rows * sizeof *p->row_nll);
    args->row_lse = p->row_lse = allocate((size_t)rows * sizeof *p->row_lse);
    p->exact = allocate((size_t)(rows * vocab) * sizeof *p->exact);
    args->task_weights = task_weights;
    args->task_nll = p->task_nll;
    args->task_tokens = p->task_tokens;
    args->loss = &p->loss;
    args->numerator = &p->numerator;
    args->denominator_out = &p->denominator_out;
    args->report = &p->report;

    p->denominator = 37.25;
    p->grad_scale = -4096;
    if (of == HUGE_LOGITS || of == CONFIDENT)
        args->denominator = &p->denominator;
    if (of == PARTLY_MASKED || of == CONFIDENT)
        args->grad_scale = &p->grad_scale;
    for (int64_t row = 0; row < rows; ++row)
        draw_row(p, of, row);
}

static void destroy(problem *p) {
    free(p->exact);
    free(p->logits);
    free(p->gradient);
    free(p->labels);
    free(p->task_ids);
    free(p->row_nll);
    free(p->row_lse);
}

static void assert_close(double value, long double expected, long double relative, long double absolute) {
    const long double error = fabsl((long double)value - expected);
    if (!(error <= relative * fabsl(expected) + absolute))
        fail_msg("%.17g is not %.17Lg within %Lg relative or %Lg", value, expected, relative, absolute);
}

/* fp64 is what finite differences and other backends are measured by: more is asked of it. */
static bool is_accurate(visatb_dtype dtype, const void *element, const void *nearest, long double expected,
                        double weight) {
    const long double error = fabsl((long double)reference_get(dtype, element, 0) - expected);
    const long double scale = fabsl((long double)weight);
    if (dtype == VISATB_DTYPE_FLOAT64)
        return error <= 1e-11L * fabsl(expected) + 1e-30L * scale;
    if (dtype == VISATB_DTYPE_FLOAT32)
        return error <= 2e-6L * fabsl(expected) || error <= 1e-7L * scale;
    return reference_within_one_ulp(element, nearest) || error <= 1e-7L * scale;
}

static void check_entry(const problem *p, int64_t at, long double expected, double weight, tally *counts) {
    const visatb_dtype dtype = p->args.dtype;
    const void *element = (const unsigned char *)p->gradient + (size_t)at * reference_size(dtype);
    double nearest = 0; /* room for an element of any type */
    reference_put(dtype, &nearest, 0, expected);
    const double value = reference_get(dtype, element, 0);
    const double rounded = reference_get(dtype, &nearest, 0);
    if (fabs(rounded) >= reference_smallest_normal(dtype)) {
        counts->normal_entries += 1;
        counts->correctly_rounded += value == rounded;
    }
    if (!is_accurate(dtype, element, &nearest, expected, weight))
        fail_msg("gradient[%lld] = %.17g, expected %.17Lg", (long long)at, value, expected);
}

static void check_gradient_row(const problem *p, int64_t row, const reference_row *reference, double weight,
                               tally *counts) {
    const double *logits = p->exact + row * p->args.vocab;
    for (int64_t i = 0; i < p->args.vocab; ++i) {
        const int64_t at = row * p->args.gradient_stride + i;
        if (weight == 0)
            assert_true(reference_get(p->args.dtype, p->gradient, at) == 0);
        else
            check_entry(p, at,
                        (long double)weight * reference_derivative(reference, logits, p->labels[row], i),
                        weight, counts);
    }
}

static bool is_ignored(const problem *p, int64_t row) {
    return p->labels[row] == p->args.ignore_index;
}

static double denominator_by_formula(const problem *p) {
    double sum = 0;
    for (int64_t row = 0; row < p->args.rows; ++row)
        sum += is_ignored(p, row) ? 0 : (double)task_weights[p->task_ids[row]];
    return p->args.denominator != NULL ? *p->args.denominator : sum;
}

static void compare_with_formula(const problem *p, tally *counts) {
    const double denominator = denominator_by_formula(p);
    const double grad_scale = p->args.grad_scale != NULL ? (double)*p->args.grad_scale : 1;
    const long double relative = p->args.dtype == VISATB_DTYPE_FLOAT64 ? 1e-11L : 1e-6L;
    long double numerator = 0;
    long double task_nll[TASKS] = {0};
    int64_t task_tokens[TASKS] = {0};

    for (int64_t row = 0; row < p->args.rows; ++row) {
        const reference_row ignored = {0};
        if (is_ignored(p, row)) {
            assert_true(p->row_nll[row] == 0 && p->row_lse[row] == 0);
            check_gradient_row(p, row, &ignored, 0, counts);
            continue;
        }
        const int32_t task = p->task_ids[row];
        const double weight = (double)task_weights[task];
        const reference_row reference =
            reference_row_of(p->args.vocab, p->exact + row * p->args.vocab, p->labels[row]);
        numerator += (long double)weight * reference.nll;
        task_nll[task] += reference.nll;
        task_tokens[task] += 1;
        assert_close((double)p->row_nll[row], reference.nll, 1e-6L, FLT_MIN);
        assert_close((double)p->row_lse[row], reference.lse, 1e-6L, 1e-12L);
        check_gradient_row(p, row, &reference, weight * grad_scale / denominator, counts);
    }

    assert_close(p->numerator, numerator, relative, DBL_MIN);
    assert_close(p->denominator_out, (long double)denominator, 0, 0);
    assert_close(p->loss, denominator > 0 ? numerator / (long double)denominator : 0, relative, DBL_MIN);
    for (int task = 0; task < TASKS; ++task) {
        assert_close(p->task_nll[task], task_nll[task], relative, DBL_MIN);
        assert_int_equal(p->task_tokens[task], task_tokens[task]);
    }
    assert_int_equal(p->report.code, VISATB_REPORT_OK);
    assert_int_equal(p->report.first_bad_row, -1);
}

static void assert_padding_untouched(const void *matrix, int64_t rows, int64_t vocab, int64_t stride,
                                     visatb_dtype dtype) {
    const size_t size = reference_size(dtype);
    for (int64_t row = 0; row < rows; ++row) {
        const unsigned char *bytes = (const unsigned char *)matrix + (size_t)(row * stride) * size;
        for (size_t i = (size_t)vocab * size; i < (size_t)stride * size; ++i)
            assert_int_equal(bytes[i], CANARY);
    }
}

static void run_separate(problem *p) {
    void *before = allocate(p->logits_bytes);
    memcpy(before, p->logits, p->logits_bytes);
    assert_int_equal(visatb_vitw_loss(&p->args), VISATB_OK);
    assert_memory_equal(before, p->logits, p->logits_bytes + 1);
    assert_padding_untouched(p->gradient, p->args.rows, p->args.vocab, p->args.gradient_stride,
                             p->args.dtype);
    free(before);
}

/* Loss only, then in place: each must give the very bits of the separate run before. */
static void compare_other_ways_to_call(problem *p) {
    const double loss = p->loss;
    const size_t row_bytes = (size_t)p->args.vocab * reference_size(p->args.dtype);

    p->args.gradient = NULL;
    assert_int_equal(visatb_vitw_loss(&p->args), VISATB_OK);
    assert_memory_equal(&p->loss, &loss, sizeof loss);

    p->args.gradient = p->logits;
    p->args.gradient_stride = p->args.logits_stride;
    assert_int_equal(visatb_vitw_loss(&p->args), VISATB_OK);
    assert_memory_equal(&p->loss, &loss, sizeof loss);
    for (int64_t row = 0; row < p->args.rows; ++row) {
        const size_t size = reference_size(p->args.dtype);
        const size_t from = (size_t)(row * (p->args.vocab + GRADIENT_PADDING)) * size;
        const size_t to = (size_t)(row * p->args.logits_stride) * size;
        assert_memory_equal((unsigned char *)p->logits + to, (unsigned char *)p->gradient + from, row_bytes);
    }
    assert_padding_untouched(p->logits, p->args.rows, p->args.vocab, p->args.logits_stride, p->args.dtype);
}

static void run_shape(visatb_dtype dtype, kind of, int64_t rows, int64_t vocab, tally *counts) {
    problem p;
    create(&p, dtype, of, rows, vocab);
    run_separate(&p);
    compare_with_formula(&p, counts);
    compare_other_ways_to_call(&p);
    destroy(&p);
}

static void run_all_shapes(visatb_dtype dtype) {
    static const struct {
        int64_t rows, vocab;
    } shapes[] = {{0, 7},  {1, 1},   {33, 1},  {1, 2},     {33, 2},     {1, 7},
                  {33, 7}, {5, 256}, {5, 257}, {1, 32003}, {33, 32003}, {1, 152064}};
    tally counts = {0, 0};
    for (kind of = ORDINARY; of < KINDS; ++of) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
            run_shape(dtype, of, shapes[i].rows, shapes[i].vocab, &counts);
    }
    /* Five million elements: of one kind each, so that the four types meet the four kinds in seconds. */
    run_shape(dtype, (kind)((int)dtype % KINDS), 33, 152064, &counts);
    if (dtype == VISATB_DTYPE_FLOAT64)
        return;
    print_message("correctly rounded: %lld of %lld normal gradient entries\n",
                  (long long)counts.correctly_rounded, (long long)counts.normal_entries);
    if (dtype != VISATB_DTYPE_FLOAT32)
        assert_true((counts.normal_entries - counts.correctly_rounded) * 1000 <= counts.normal_entries);
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

/* The log-sum-exp of a row of one logit is that logit: so all 65536 patterns can be seen being read. */
static void check_reading(visatb_dtype dtype) {
    enum { PATTERNS = 65536 };
    uint16_t *logits = allocate(PATTERNS * sizeof *logits);
    int64_t *labels = allocate(PATTERNS * sizeof *labels);
    int32_t *task_ids = allocate(PATTERNS * sizeof *task_ids);
    float *row_lse = allocate(PATTERNS * sizeof *row_lse);
    for (int i = 0; i < PATTERNS; ++i) {
        logits[i] = (uint16_t)i;
        labels[i] = 0;
        task_ids[i] = 0;
    }
    double loss = 0;
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = PATTERNS;
    args.vocab = 1;
    args.tasks = 1;
    args.dtype = dtype;
    args.logits = logits;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = task_weights;
    args.loss = &loss;
    args.row_lse = row_lse;
    assert_int_equal(visatb_vitw_loss(&args), VISATB_OK);
    for (int i = 0; i < PATTERNS; ++i) {
        const double expected = reference_get(dtype, logits, i);
        if (isfinite(expected))
            assert_true((double)row_lse[i] == expected);
        else
            assert_true(isnan(row_lse[i]));
    }
    free(logits);
    free(labels);
    free(task_ids);
    free(row_lse);
}

static void every_16_bit_logit_is_read_exactly(void **state) {
    (void)state;
    check_reading(VISATB_DTYPE_BFLOAT16);
    check_reading(VISATB_DTYPE_FLOAT16);
}

/* Two equal logits: the gradient of the row is half its weight, with either sign. Every row is a task of its
 * own, whose weight lies half-way between two neighbours of the format; dividing by a D a hair off 1 moves it
 * off the tie by less than a float can see, which shows whether it was rounded by way of float. */
static void check_ties(visatb_dtype dtype, double denominator) {
    const int count = reference_half_count(dtype);
    float *weights = allocate((size_t)count * sizeof *weights);
    int64_t *labels = allocate((size_t)count * sizeof *labels);
    int32_t *task_ids = allocate((size_t)count * sizeof *task_ids);
    uint16_t *logits = allocate(2 * (size_t)count * sizeof *logits);
    memset(logits, 0, 2 * (size_t)count * sizeof *logits);
    for (int i = 0; i < count; ++i) {
        weights[i] = (float)((reference_half(dtype, i) + reference_half(dtype, i + 1)) / 2);
        labels[i] = 1;
        task_ids[i] = i;
    }
    const float grad_scale = 2;
    double loss = 0;
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = args.tasks = count;
    args.vocab = 2;
    args.dtype = dtype;
    args.logits = args.gradient = logits;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = weights;
    args.denominator = &denominator;
    args.grad_scale = &grad_scale;
    args.loss = &loss;
    assert_int_equal(visatb_vitw_loss(&args), VISATB_OK);
    for (int i = 0; i < count; ++i) {
        const bool goes_up = denominator < 1 || (denominator == 1 && i % 2 != 0);
        const int expected = goes_up ? i + 1 : i;
        const uint16_t *gradient = logits + (ptrdiff_t)2 * i;
        assert_int_equal(gradient[0], expected);
        assert_int_equal(gradient[1], 0x8000 + expected);
    }
    free(weights);
    free(labels);
    free(task_ids);
    free(logits);
}

static void gradient_is_rounded_once_with_ties_to_even(void **state) {
    (void)state;
    const double hair = ldexp(1, -40);
    for (int side = -1; side <= 1; ++side) {
        check_ties(VISATB_DTYPE_BFLOAT16, 1 + side * hair);
        check_ties(VISATB_DTYPE_FLOAT16, 1 + side * hair);
    }
}

static void gradient_agrees_with_finite_differences(void **state) {
    (void)state;
    const double step = 1e-5;
    problem p;
    create(&p, VISATB_DTYPE_FLOAT64, ORDINARY, 6, 5);
    assert_int_equal(visatb_vitw_loss(&p.args), VISATB_OK);
    p.args.gradient = NULL;
    for (int64_t row = 0; row < p.args.rows; ++row) {
        for (int64_t i = 0; i < p.args.vocab; ++i) {
            double *logit = (double *)p.logits + row * p.args.logits_stride + i;
            const double before = *logit;
            *logit = before + step;
            assert_int_equal(visatb_vitw_loss(&p.args), VISATB_OK);
            const double above = p.loss;
            *logit = before - step;
            assert_int_equal(visatb_vitw_loss(&p.args), VISATB_OK);
            *logit = before;
            const double slope = (above - p.loss) / (2 * step);
            assert_close(((double *)p.gradient)[row * p.args.gradient_stride + i], (long double)slope, 0,
                         1e-9L);
        }
    }
    destroy(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32_loss_and_gradient_follow_the_formula),
        cmocka_unit_test(bf16_loss_and_gradient_follow_the_formula),
        cmocka_unit_test(fp16_loss_and_gradient_follow_the_formula),
        cmocka_unit_test(fp64_loss_and_gradient_follow_the_formula),
        cmocka_unit_test(every_16_bit_logit_is_read_exactly),
        cmocka_unit_test(gradient_is_rounded_once_with_ties_to_even),
        cmocka_unit_test(gradient_agrees_with_finite_differences),
    };
    return cmocka_run_group_tests_name("accuracy of the loss", tests, NULL, NULL);
}
