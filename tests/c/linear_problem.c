#include "linear_problem.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN_PADDING = 3, WEIGHT_PADDING = 6, CANARY = 0xff, GUARD = 64 };

/* ---- putting it together ---- */

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes + 1);
    assert_non_null(memory);
    memset(memory, CANARY, bytes + 1);
    return memory;
}

static visatb_dtype wide_dtype(const linear_problem *p) {
    return p->args.dtype == VISATB_DTYPE_FLOAT64 ? VISATB_DTYPE_FLOAT64 : VISATB_DTYPE_FLOAT32;
}

/* Fills [rows, width] of both, the dense one with what the element came to. */
static void draw(visatb_dtype dtype, double largest, int64_t rows, int64_t width, int64_t stride,
                 void *elements, double *dense) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < width; ++i) {
            const int64_t at = row * stride + i;
            reference_put(dtype, elements, at, (long double)problem_random(-largest, largest));
            dense[row * width + i] = reference_get(dtype, elements, at);
        }
}

static void create_inputs(linear_problem *p) {
    visatb_vitw_linear_loss_args *args = &p->args;
    const size_t size = reference_size(args->dtype);
    const int64_t width = args->hidden_size;
    args->hidden_stride = width + HIDDEN_PADDING;
    args->weight_stride = width + WEIGHT_PADDING;
    args->hidden = p->hidden_memory = allocate((size_t)(args->rows * args->hidden_stride) * size);
    args->weight = p->weight_memory = allocate((size_t)(args->vocab * args->weight_stride) * size);
    args->bias = p->bias_memory = allocate((size_t)args->vocab * size);
    p->hidden = allocate((size_t)(args->rows * width) * sizeof *p->hidden);
    p->weight = allocate((size_t)(args->vocab * width) * sizeof *p->weight);
    p->bias = allocate((size_t)args->vocab * sizeof *p->bias);
    draw(args->dtype, 1, args->rows, width, args->hidden_stride, p->hidden_memory, p->hidden);
    /* Logits of a few units, whatever the width. */
    draw(args->dtype, 6 / sqrt((double)width), args->vocab, width, args->weight_stride, p->weight_memory,
         p->weight);
    draw(args->dtype, 1, 1, args->vocab, args->vocab, p->bias_memory, p->bias);
}

static void create_outputs(linear_problem *p) {
    visatb_vitw_linear_loss_args *args = &p->args;
    const size_t wide = reference_size(wide_dtype(p));
    const size_t head = (size_t)(args->vocab * args->hidden_size);
    args->hidden_gradient_stride = args->hidden_size + 1;
    p->hidden_gradient_bytes =
        (size_t)(args->rows * args->hidden_gradient_stride) * reference_size(args->dtype);
    p->weight_gradient_bytes = head * wide;
    p->bias_gradient_bytes = (size_t)args->vocab * wide;
    args->hidden_gradient = p->hidden_gradient_memory = allocate(p->hidden_gradient_bytes);
    args->weight_gradient = p->weight_gradient_memory = allocate(p->weight_gradient_bytes);
    args->bias_gradient = p->bias_gradient_memory = allocate(p->bias_gradient_bytes);
    p->hidden_gradient = allocate((size_t)(args->rows * args->hidden_size) * sizeof *p->hidden_gradient);
    p->weight_gradient = allocate(head * sizeof *p->weight_gradient);
    p->bias_gradient = allocate((size_t)args->vocab * sizeof *p->bias_gradient);
    args->row_nll = p->row_nll = allocate((size_t)args->rows * sizeof *p->row_nll);
    args->row_lse = p->row_lse = allocate((size_t)args->rows * sizeof *p->row_lse);
    args->task_nll = p->task_nll;
    args->task_tokens = p->task_tokens;
    args->loss = &p->loss_out;
    args->numerator = &p->numerator_out;
    args->denominator_out = &p->denominator_out;
    args->report = &p->report;
}

void linear_create(linear_problem *p, visatb_dtype dtype, linear_shape shape) {
    *p = (linear_problem){.args = VISATB_VITW_LINEAR_LOSS_ARGS_INIT};
    problem_create(&p->logits, VISATB_DTYPE_FLOAT64, shape.rows, shape.vocab);
    visatb_vitw_linear_loss_args *args = &p->args;
    args->rows = shape.rows;
    args->hidden_size = shape.hidden_size;
    args->vocab = shape.vocab;
    args->tasks = PROBLEM_TASKS;
    args->dtype = dtype;
    args->labels = p->logits.labels;
    args->task_ids = p->logits.task_ids;
    args->task_weights = p->logits.weights;
    create_inputs(p);
    create_outputs(p);
}

void linear_put_hidden(linear_problem *p, int64_t row, int64_t i, double value) {
    const int64_t at = row * p->args.hidden_stride + i;
    reference_put(p->args.dtype, p->hidden_memory, at, (long double)value);
    p->hidden[row * p->args.hidden_size + i] = reference_get(p->args.dtype, p->hidden_memory, at);
}

void linear_destroy(linear_problem *p) {
    void *const memory[] = {
        p->hidden,
        p->weight,
        p->bias,
        p->hidden_gradient,
        p->weight_gradient,
        p->bias_gradient,
        p->hidden_memory,
        p->weight_memory,
        p->bias_memory,
        p->row_nll,
        p->row_lse,
        p->hidden_gradient_memory,
        p->weight_gradient_memory,
        p->bias_gradient_memory,
    };
    for (size_t i = 0; i < sizeof memory / sizeof *memory; ++i)
        free(memory[i]);
    problem_destroy(&p->logits);
}

/* ---- what the formula says ---- */

static bool is_ignored(const linear_problem *p, int64_t row) {
    return p->logits.labels[row] == p->args.ignore_index;
}

static double weight_of(const linear_problem *p, int64_t row) {
    return is_ignored(p, row) ? 0 : (double)p->logits.weights[p->logits.task_ids[row]];
}

static void copy_terms(linear_problem *p) {
    const visatb_vitw_linear_loss_args *args = &p->args;
    visatb_vitw_loss_args *terms = &p->logits.args;
    terms->reduction = args->reduction;
    terms->denominator = args->denominator;
    terms->grad_scale = args->grad_scale;
    terms->label_smoothing = args->label_smoothing;
    terms->softcap = args->softcap;
    terms->z_loss = args->z_loss;
}

static void solve_logits(linear_problem *p) {
    const int64_t width = p->args.hidden_size;
    for (int64_t row = 0; row < p->args.rows; ++row)
        for (int64_t j = 0; j < p->args.vocab; ++j) {
            long double logit = p->args.bias != NULL ? (long double)p->bias[j] : 0;
            for (int64_t i = 0; i < width; ++i)
                logit += (long double)p->hidden[row * width + i] * (long double)p->weight[j * width + i];
            problem_put(&p->logits, row, j, (double)logit);
        }
}

/* Rows without weight are left out: 0 times NaN would not be 0. */
static void solve_gradients(linear_problem *p) {
    const int64_t width = p->args.hidden_size;
    const int64_t vocab = p->args.vocab;
    const long double start = p->args.accumulate ? 1 : 0;
    for (int64_t i = 0; i < vocab * width; ++i)
        p->weight_gradient[i] = start;
    for (int64_t j = 0; j < vocab; ++j)
        p->bias_gradient[j] = start;
    for (int64_t row = 0; row < p->args.rows; ++row) {
        long double *hidden_gradient = p->hidden_gradient + row * width;
        for (int64_t i = 0; i < width; ++i)
            hidden_gradient[i] = 0;
        if (weight_of(p, row) == 0)
            continue;
        for (int64_t j = 0; j < vocab; ++j) {
            const long double slope = p->logits.expected[row * vocab + j];
            p->bias_gradient[j] += slope;
            for (int64_t i = 0; i < width; ++i) {
                hidden_gradient[i] += slope * (long double)p->weight[j * width + i];
                p->weight_gradient[j * width + i] += slope * (long double)p->hidden[row * width + i];
            }
        }
    }
}

static double denominator_of(const linear_problem *p) {
    double sum = 0;
    for (int64_t row = 0; row < p->args.rows; ++row)
        sum += weight_of(p, row);
    return p->args.denominator != NULL ? *p->args.denominator : sum;
}

void linear_solve(linear_problem *p) {
    copy_terms(p);
    solve_logits(p);
    problem_solve(&p->logits);
    solve_gradients(p);
    p->numerator = 0;
    for (int64_t row = 0; row < p->args.rows; ++row)
        if (weight_of(p, row) > 0)
            p->numerator += (long double)weight_of(p, row) *
                            (p->logits.rows[row].bad ? (long double)NAN : p->logits.rows[row].loss);
    const bool divides = p->args.reduction == VISATB_REDUCTION_MEAN && denominator_of(p) > 0;
    p->loss = divides ? p->numerator / (long double)denominator_of(p) : p->numerator;
}

/* ---- running ---- */

static visatb_linear_plan plan_of(const linear_problem *p) {
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    if (visatb_vitw_linear_loss_plan(&p->args, &plan) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
    return plan;
}

size_t linear_workspace_bytes(const linear_problem *p) {
    return plan_of(p).workspace_bytes;
}

size_t linear_smallest_budget(const linear_problem *p) {
    linear_problem copy = *p;
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    copy.args.chunk_bytes = 1;
    assert_int_equal(visatb_vitw_linear_loss_plan(&copy.args, &plan), VISATB_ERROR_ARGUMENT);
    size_t smallest = 0;
    assert_int_equal(sscanf(visatb_last_error(), /* NOLINT(cert-err34-c): the number is the library's */
                            "visatb_vitw_linear_loss_plan: chunk_bytes = 1; expected at least %zu",
                            &smallest),
                     1);
    return smallest;
}

static void fill_head_gradient(const linear_problem *p, void *gradient, size_t bytes) {
    memset(gradient, CANARY, bytes);
    const size_t count = bytes / reference_size(wide_dtype(p));
    for (size_t i = 0; p->args.accumulate && i < count; ++i)
        reference_put(wide_dtype(p), gradient, (int64_t)i, 1);
}

void linear_run(linear_problem *p) {
    memset(p->hidden_gradient_memory, CANARY, p->hidden_gradient_bytes);
    fill_head_gradient(p, p->weight_gradient_memory, p->weight_gradient_bytes);
    fill_head_gradient(p, p->bias_gradient_memory, p->bias_gradient_bytes);
    p->plan = plan_of(p);
    const size_t bytes = p->plan.workspace_bytes;
    if (p->args.chunk_bytes > 0 && bytes > p->args.chunk_bytes)
        fail_msg("a workspace of %zu bytes, of at most %zu", bytes, p->args.chunk_bytes);
    unsigned char *memory = allocate(GUARD + bytes + GUARD);
    p->args.workspace = memory + GUARD + 1;
    p->args.workspace_bytes = bytes;
    if (visatb_vitw_linear_loss(&p->args) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
    for (size_t i = 0; i <= GUARD; ++i)
        assert_int_equal(memory[i], CANARY);
    for (size_t i = GUARD + 1 + bytes; i < GUARD + bytes + GUARD; ++i)
        assert_int_equal(memory[i], CANARY);
    free(memory);
    p->args.workspace = NULL;
}

/* ---- comparing ---- */

static void assert_close(const linear_problem *p, const char *what, double value, long double expected,
                         long double relative, long double absolute) {
    if (isnan(expected) ? isnan(value) : (long double)value == expected)
        return;
    if (!(fabsl((long double)value - expected) <= relative * fabsl(expected) + absolute))
        fail_msg("%s, %s: %s = %.17g, expected %.17Lg", p->plan.product,
                 visatb_cpu_path_name(p->plan.cpu_path), what, value, expected);
}

double linear_hidden_gradient(const linear_problem *p, int64_t row, int64_t i) {
    return reference_get(p->args.dtype, p->hidden_gradient_memory, row * p->args.hidden_gradient_stride + i);
}

double linear_head_gradient(const linear_problem *p, const void *gradient, int64_t i) {
    return reference_get(wide_dtype(p), gradient, i);
}

/* The error of a matrix as a whole, by norms; NaN only where it is expected. */
typedef struct deviation {
    long double error, size;
} deviation;

static void deviate(deviation *of, double value, long double expected) {
    if (isnan(expected) && isnan(value))
        return;
    const long double error = (long double)value - expected;
    of->error += error * error;
    of->size += expected * expected;
}

static void assert_small(const linear_problem *p, const char *what, const deviation *of) {
    const long double bound = p->args.dtype == VISATB_DTYPE_FLOAT64 ? 1e-11L : 3e-6L;
    if (!(sqrtl(of->error) <= bound * sqrtl(of->size)))
        fail_msg("%s, %s: %s is %.3Lg off, relative to its norm", p->plan.product,
                 visatb_cpu_path_name(p->plan.cpu_path), what, sqrtl(of->error / of->size));
}

static void compare_head_gradients(const linear_problem *p) {
    const int64_t entries = p->args.vocab * p->args.hidden_size;
    deviation weight = {0, 0}, bias = {0, 0};
    for (int64_t i = 0; p->args.weight_gradient != NULL && i < entries; ++i)
        deviate(&weight, linear_head_gradient(p, p->args.weight_gradient, i), p->weight_gradient[i]);
    for (int64_t j = 0; p->args.bias_gradient != NULL && j < p->args.vocab; ++j)
        deviate(&bias, linear_head_gradient(p, p->args.bias_gradient, j), p->bias_gradient[j]);
    assert_small(p, "weight_gradient", &weight);
    assert_small(p, "bias_gradient", &bias);
}

/* What the type leaves of a value: half of its last bit, or of the smallest number of all. */
static long double rounding(visatb_dtype dtype, long double value) {
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: return ldexpl(fabsl(value), -8);
    case VISATB_DTYPE_FLOAT16: return fmaxl(ldexpl(fabsl(value), -11), ldexpl(1, -25));
    default: return 0;
    }
}

/* Beside its rounding, each element may be off by what fp32 sums are; of that the norm is bounded. */
static void compare_hidden_gradient(const linear_problem *p) {
    const int64_t width = p->args.hidden_size;
    deviation all = {0, 0};
    for (int64_t row = 0; row < p->args.rows; ++row)
        for (int64_t i = 0; i < width; ++i) {
            const double value = linear_hidden_gradient(p, row, i);
            const long double expected = p->hidden_gradient[row * width + i];
            if (weight_of(p, row) == 0)
                assert_true(value == 0 && !signbit(value));
            const long double error = (long double)value - expected;
            const long double allowed = fminl(fabsl(error), rounding(p->args.dtype, expected));
            deviate(&all, (double)((long double)value - copysignl(allowed, error)), expected);
        }
    assert_small(p, "hidden_gradient", &all);
}

/* A logit is off by a few units in the last place of the largest. */
static void compare_rows(const linear_problem *p) {
    for (int64_t row = 0; row < p->args.rows; ++row) {
        const problem_row *expected = &p->logits.rows[row];
        const long double nan = (long double)NAN;
        assert_close(p, "row_nll", (double)p->row_nll[row], expected->bad ? nan : expected->softmax.nll,
                     2e-6L, 1e-6L);
        assert_close(p, "row_lse", (double)p->row_lse[row], expected->bad ? nan : expected->softmax.lse,
                     2e-6L, 1e-6L);
    }
}

static void assert_padding(const linear_problem *p) {
    const size_t size = reference_size(p->args.dtype);
    const size_t stride = (size_t)p->args.hidden_gradient_stride * size;
    for (int64_t row = 0; row < p->args.rows; ++row)
        for (size_t i = (size_t)p->args.hidden_size * size; i < stride; ++i)
            assert_int_equal(p->hidden_gradient_memory[(size_t)row * stride + i], CANARY);
    assert_int_equal(p->hidden_gradient_memory[p->hidden_gradient_bytes], CANARY);
    assert_int_equal(p->weight_gradient_memory[p->weight_gradient_bytes], CANARY);
    assert_int_equal(p->bias_gradient_memory[p->bias_gradient_bytes], CANARY);
}

void linear_compare(const linear_problem *p) {
    const long double relative = p->args.dtype == VISATB_DTYPE_FLOAT64 ? 1e-12L : 1e-6L;
    assert_close(p, "loss", p->loss_out, p->loss, relative, DBL_MIN);
    assert_close(p, "numerator", p->numerator_out, p->numerator, relative, DBL_MIN);
    assert_close(p, "denominator", p->denominator_out, (long double)denominator_of(p), 0, 0);
    compare_rows(p);
    compare_head_gradients(p);
    if (p->args.hidden_gradient != NULL)
        compare_hidden_gradient(p);
    assert_padding(p);
}

void linear_check(linear_problem *p) {
    linear_solve(p);
    linear_run(p);
    linear_compare(p);
}
