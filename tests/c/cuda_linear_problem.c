#include "cuda_linear_problem.h"

#include "device_memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNWRITTEN = 0xff, GUARD = 64, LOGITS_OF_STRIDE = 64 };

void cuda_linear_create(cuda_linear_problem *p, visatb_context *context, visatb_dtype dtype,
                        linear_shape shape) {
    *p = (cuda_linear_problem){.context = context};
    linear_create(&p->host, dtype, shape);
    problem_create(&p->rounded, dtype, shape.rows, shape.vocab);
}

void cuda_linear_destroy(cuda_linear_problem *p) {
    linear_destroy(&p->host);
    problem_destroy(&p->rounded);
}

static visatb_dtype head_dtype(const cuda_linear_problem *p) {
    const visatb_dtype asked_for = p->host.args.head_gradient_dtype;
    return asked_for == (visatb_dtype)0 ? VISATB_DTYPE_FLOAT32 : asked_for;
}

size_t cuda_linear_bytes_of_rows(const cuda_linear_problem *p, int64_t rows) {
    const int64_t stride = (p->host.args.vocab + LOGITS_OF_STRIDE - 1) / LOGITS_OF_STRIDE * LOGITS_OF_STRIDE;
    return (size_t)(rows * stride) * reference_size(p->host.args.dtype);
}

double cuda_linear_head_gradient(const cuda_linear_problem *p, const void *gradient, int64_t i) {
    return reference_get(head_dtype(p), gradient, i);
}

/* ---- what the formula says ---- */

static bool is_ignored(const cuda_linear_problem *p, int64_t row) {
    return p->host.logits.labels[row] == p->host.args.ignore_index;
}

static double weight_of(const cuda_linear_problem *p, int64_t row) {
    return is_ignored(p, row) ? 0 : (double)p->host.logits.weights[p->host.logits.task_ids[row]];
}

static void round_logits(cuda_linear_problem *p) {
    const linear_problem *host = &p->host;
    const visatb_vitw_linear_loss_args *args = &host->args;
    const int64_t width = args->hidden_size;
    for (int64_t row = 0; row < args->rows; ++row)
        for (int64_t j = 0; j < args->vocab; ++j) {
            long double logit = args->bias != NULL ? (long double)host->bias[j] : 0;
            for (int64_t i = 0; i < width; ++i)
                logit +=
                    (long double)host->hidden[row * width + i] * (long double)host->weight[j * width + i];
            problem_put(&p->rounded, row, j, (double)logit);
        }
}

static void solve_loss(cuda_linear_problem *p) {
    const visatb_vitw_linear_loss_args *args = &p->host.args;
    visatb_vitw_loss_args *terms = &p->rounded.args;
    terms->reduction = args->reduction;
    terms->denominator = args->denominator;
    terms->grad_scale = args->grad_scale;
    terms->label_smoothing = args->label_smoothing;
    terms->softcap = args->softcap;
    terms->z_loss = args->z_loss;
    terms->ignore_index = args->ignore_index;
    memcpy(p->rounded.labels, p->host.logits.labels, (size_t)args->rows * sizeof(int64_t));
    memcpy(p->rounded.task_ids, p->host.logits.task_ids, (size_t)args->rows * sizeof(int32_t));
    memcpy(p->rounded.weights, p->host.logits.weights, sizeof p->rounded.weights);
    problem_solve(&p->rounded);
}

/* Rows without weight are left out: 0 times NaN would not be 0. */
static void solve_row_gradients(cuda_linear_problem *p, int64_t row) {
    linear_problem *host = &p->host;
    const int64_t width = host->args.hidden_size;
    const int64_t vocab = host->args.vocab;
    long double *of_hidden = host->hidden_gradient + row * width;
    for (int64_t i = 0; i < width; ++i)
        of_hidden[i] = 0;
    for (int64_t j = 0; weight_of(p, row) != 0 && j < vocab; ++j) {
        const long double gradient = (long double)p->rounded.nearest[row * vocab + j];
        host->bias_gradient[j] += gradient;
        for (int64_t i = 0; i < width; ++i) {
            of_hidden[i] += gradient * (long double)host->weight[j * width + i];
            host->weight_gradient[j * width + i] += gradient * (long double)host->hidden[row * width + i];
        }
    }
}

void cuda_linear_solve(cuda_linear_problem *p) {
    linear_problem *host = &p->host;
    const int64_t entries = host->args.vocab * host->args.hidden_size;
    const long double start = host->args.accumulate ? 1 : 0;
    round_logits(p);
    solve_loss(p);
    for (int64_t i = 0; i < entries; ++i)
        host->weight_gradient[i] = start;
    for (int64_t j = 0; j < host->args.vocab; ++j)
        host->bias_gradient[j] = start;
    for (int64_t row = 0; row < host->args.rows; ++row)
        solve_row_gradients(p, row);
}

/* ---- running ---- */

/* The copy, or NULL of what is not given. */
static void *copy_of(cuda_linear_problem *p, const void *host, size_t bytes, bool written) {
    if (host == NULL)
        return NULL;
    assert_true(p->array_count < CUDA_LINEAR_MOST_ARRAYS);
    unsigned char *device = device_alloc(GUARD + bytes + GUARD);
    device_copy_in(device + GUARD, host, bytes);
    p->arrays[p->array_count++] =
        (cuda_linear_array){.host = (void *)host, .device = device, .bytes = bytes, .written = written};
    return device + GUARD;
}

static void *input_of(cuda_linear_problem *p, const void *host, size_t bytes) {
    return copy_of(p, host, bytes, false);
}

static void *output_of(cuda_linear_problem *p, void *host, size_t bytes) {
    if (host != NULL && bytes > 0)
        memset(host, UNWRITTEN, bytes);
    return copy_of(p, host, bytes, true);
}

static void *head_gradient_of(cuda_linear_problem *p, void *host, int64_t count) {
    const visatb_dtype dtype = head_dtype(p);
    if (host != NULL)
        memset(host, UNWRITTEN, (size_t)count * reference_size(dtype));
    for (int64_t i = 0; host != NULL && p->host.args.accumulate && i < count; ++i)
        reference_put(dtype, host, i, 1);
    return copy_of(p, host, (size_t)count * reference_size(dtype), true);
}

static const void *scalar_of(cuda_linear_problem *p, const void *host, size_t bytes) {
    if (host == NULL || p->scalars_on_device)
        return input_of(p, host, bytes);
    void *copy = device_alloc_on_host(bytes);
    memcpy(copy, host, bytes);
    return copy;
}

static void set_inputs(cuda_linear_problem *p) {
    const visatb_vitw_linear_loss_args *from = &p->host.args;
    visatb_vitw_linear_loss_args *args = &p->args;
    const size_t element = reference_size(from->dtype);
    const size_t rows = (size_t)from->rows;
    args->hidden = input_of(p, from->hidden, rows * (size_t)from->hidden_stride * element);
    args->weight = input_of(p, from->weight, (size_t)(from->vocab * from->weight_stride) * element);
    args->bias = input_of(p, from->bias, (size_t)from->vocab * element);
    args->labels = input_of(p, from->labels, rows * sizeof *from->labels);
    args->task_ids = input_of(p, from->task_ids, rows * sizeof *from->task_ids);
    args->task_weights = input_of(p, from->task_weights, (size_t)from->tasks * sizeof *from->task_weights);
    args->denominator = scalar_of(p, from->denominator, sizeof *from->denominator);
    args->grad_scale = scalar_of(p, from->grad_scale, sizeof *from->grad_scale);
}

static void set_outputs(cuda_linear_problem *p) {
    const visatb_vitw_linear_loss_args *from = &p->host.args;
    visatb_vitw_linear_loss_args *args = &p->args;
    const size_t rows = (size_t)from->rows;
    const size_t tasks = (size_t)from->tasks;
    args->loss = output_of(p, from->loss, sizeof *from->loss);
    args->numerator = output_of(p, from->numerator, sizeof *from->numerator);
    args->denominator_out = output_of(p, from->denominator_out, sizeof *from->denominator_out);
    args->hidden_gradient = output_of(p, from->hidden_gradient, p->host.hidden_gradient_bytes);
    args->weight_gradient = head_gradient_of(p, from->weight_gradient, from->vocab * from->hidden_size);
    args->bias_gradient = head_gradient_of(p, from->bias_gradient, from->vocab);
    args->row_nll = output_of(p, from->row_nll, rows * sizeof *from->row_nll);
    args->row_lse = output_of(p, from->row_lse, rows * sizeof *from->row_lse);
    args->task_nll = output_of(p, from->task_nll, tasks * sizeof *from->task_nll);
    args->task_tokens = output_of(p, from->task_tokens, tasks * sizeof *from->task_tokens);
    args->report = output_of(p, from->report, sizeof *from->report);
}

void cuda_linear_begin(cuda_linear_problem *p) {
    p->args = p->host.args;
    p->args.device = VISATB_DEVICE_CUDA;
    p->args.context = p->context;
    p->plan = (visatb_linear_plan)VISATB_LINEAR_PLAN_INIT;
    if (visatb_vitw_linear_loss_plan(&p->args, &p->plan) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
    set_inputs(p);
    set_outputs(p);
    const size_t bytes = p->plan.workspace_bytes;
    p->workspace = device_alloc(GUARD + 1 + bytes + GUARD);
    p->args.workspace = p->workspace + GUARD + 1;
    p->args.workspace_bytes = bytes;
}

static void assert_unwritten(const unsigned char *device) {
    unsigned char guard[GUARD];
    device_copy_out(guard, device, GUARD);
    for (size_t i = 0; i < GUARD; ++i)
        assert_int_equal(guard[i], UNWRITTEN);
}

static void take_back(const cuda_linear_array *array) {
    assert_unwritten(array->device);
    assert_unwritten(array->device + GUARD + array->bytes);
    unsigned char *const copy = malloc(array->bytes + 1);
    assert_non_null(copy);
    device_copy_out(copy, array->device + GUARD, array->bytes);
    if (!array->written)
        assert_memory_equal(copy, array->host, array->bytes);
    else if (array->bytes > 0)
        memcpy(array->host, copy, array->bytes);
    free(copy);
    device_free(array->device);
}

void cuda_linear_end(cuda_linear_problem *p) {
    assert_unwritten(p->workspace);
    assert_unwritten(p->workspace + GUARD + 1 + p->plan.workspace_bytes);
    device_free(p->workspace);
    while (p->array_count > 0)
        take_back(&p->arrays[--p->array_count]);
    device_free_all_on_host();
}

void cuda_linear_try(cuda_linear_problem *p) {
    cuda_linear_begin(p);
    p->status = visatb_vitw_linear_loss(&p->args);
    cuda_linear_end(p);
}

void cuda_linear_run(cuda_linear_problem *p) {
    cuda_linear_try(p);
    if (p->status != VISATB_OK)
        fail_msg("%s", visatb_last_error());
}

/* ---- comparing ---- */

/* Where products are not exact, some logits are rounded to the other neighbour. */
static long double relative_bound(const cuda_linear_problem *p) {
    return p->host.args.dtype == VISATB_DTYPE_FLOAT32 || device_is_exact() ? 1e-6L : 2e-4L;
}

static void assert_close(const char *what, double value, long double expected, long double relative,
                         long double absolute) {
    if (isnan(expected) ? isnan(value) : (long double)value == expected)
        return;
    if (!(fabsl((long double)value - expected) <= relative * fabsl(expected) + absolute))
        fail_msg("%s = %.17g, expected %.17Lg", what, value, expected);
}

static void compare_rows(const cuda_linear_problem *p) {
    const long double bound = p->host.args.dtype == VISATB_DTYPE_FLOAT32 || device_is_exact() ? 2e-6L : 2e-2L;
    for (int64_t row = 0; row < p->host.args.rows; ++row) {
        const problem_row *expected = &p->rounded.rows[row];
        const long double nan = (long double)NAN;
        if (p->host.args.row_nll != NULL)
            assert_close("row_nll", (double)p->host.row_nll[row], expected->bad ? nan : expected->softmax.nll,
                         1e-6L, bound);
        if (p->host.args.row_lse != NULL)
            assert_close("row_lse", (double)p->host.row_lse[row], expected->bad ? nan : expected->softmax.lse,
                         1e-6L, bound);
    }
}

static void compare_sums(const cuda_linear_problem *p) {
    const linear_problem *host = &p->host;
    const long double relative = relative_bound(p);
    long double numerator = 0;
    double denominator = 0;
    long double task_nll[PROBLEM_TASKS] = {0};
    int64_t task_tokens[PROBLEM_TASKS] = {0};
    for (int64_t row = 0; row < host->args.rows; ++row) {
        const problem_row *expected = &p->rounded.rows[row];
        const double weight = weight_of(p, row);
        const int32_t task = host->logits.task_ids[row];
        denominator += weight;
        if (weight > 0)
            numerator += (long double)weight * (expected->bad ? (long double)NAN : expected->loss);
        if (!is_ignored(p, row)) {
            task_nll[task] += expected->bad ? (long double)NAN : expected->softmax.nll;
            task_tokens[task] += 1;
        }
    }
    if (host->args.denominator != NULL)
        denominator = *host->args.denominator;
    const bool divides = host->args.reduction == VISATB_REDUCTION_MEAN && denominator > 0;
    assert_close("loss", host->loss_out, divides ? numerator / (long double)denominator : numerator, relative,
                 DBL_MIN);
    if (host->args.numerator != NULL)
        assert_close("numerator", host->numerator_out, numerator, relative, DBL_MIN);
    if (host->args.denominator_out != NULL)
        assert_close("denominator", host->denominator_out, (long double)denominator, 1e-15L, 0);
    for (int task = 0; task < PROBLEM_TASKS; ++task) {
        if (host->args.task_nll != NULL)
            assert_close("task_nll", host->task_nll[task], task_nll[task], 10 * relative, DBL_MIN);
        if (host->args.task_tokens != NULL)
            assert_int_equal(host->task_tokens[task], task_tokens[task]);
    }
}

/* What the type leaves of a value: half of its last bit, or of the smallest number of all. */
static long double rounding(visatb_dtype dtype, long double value) {
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: return ldexpl(fabsl(value), -8);
    case VISATB_DTYPE_FLOAT16: return fmaxl(ldexpl(fabsl(value), -11), ldexpl(1, -25));
    default: return 0;
    }
}

/* The error of a matrix as a whole, by norms, beside what the rounding of its elements explains; NaN only
 * where it is expected. */
typedef struct deviation {
    long double error, size;
} deviation;

static void deviate(deviation *of, visatb_dtype dtype, double value, long double expected) {
    if (isnan(expected) && isnan(value))
        return;
    const long double error = fabsl((long double)value - expected);
    const long double left = error - fminl(error, rounding(dtype, expected));
    of->error += left * left;
    of->size += expected * expected;
}

static void assert_small(const cuda_linear_problem *p, const char *what, const deviation *of) {
    const long double narrow = device_is_exact() ? 3e-4L : 3e-3L;
    const long double bound = p->host.args.dtype == VISATB_DTYPE_FLOAT32 ? 3e-6L : narrow;
    if (!(sqrtl(of->error) <= bound * sqrtl(of->size)))
        fail_msg("%s is %.3Lg off, relative to its norm", what, sqrtl(of->error / of->size));
}

static void compare_head_gradient(const cuda_linear_problem *p, const char *what, const void *gradient,
                                  const long double *expected, int64_t count) {
    deviation all = {0, 0};
    for (int64_t i = 0; gradient != NULL && i < count; ++i)
        deviate(&all, head_dtype(p), cuda_linear_head_gradient(p, gradient, i), expected[i]);
    assert_small(p, what, &all);
}

static void compare_hidden_gradient(const cuda_linear_problem *p) {
    const int64_t width = p->host.args.hidden_size;
    deviation all = {0, 0};
    for (int64_t row = 0; row < p->host.args.rows; ++row)
        for (int64_t i = 0; i < width; ++i) {
            const double value = linear_hidden_gradient(&p->host, row, i);
            if (weight_of(p, row) == 0)
                assert_true(value == 0 && !signbit(value));
            deviate(&all, p->host.args.dtype, value, p->host.hidden_gradient[row * width + i]);
        }
    assert_small(p, "hidden_gradient", &all);
}

static void assert_padding(const cuda_linear_problem *p) {
    const size_t size = reference_size(p->host.args.dtype);
    const size_t stride = (size_t)p->host.args.hidden_gradient_stride * size;
    for (int64_t row = 0; row < p->host.args.rows; ++row)
        for (size_t i = (size_t)p->host.args.hidden_size * size; i < stride; ++i)
            assert_int_equal(p->host.hidden_gradient_memory[(size_t)row * stride + i], UNWRITTEN);
}

void cuda_linear_compare(const cuda_linear_problem *p) {
    const linear_problem *host = &p->host;
    compare_sums(p);
    compare_rows(p);
    compare_head_gradient(p, "weight_gradient", host->args.weight_gradient, host->weight_gradient,
                          host->args.vocab * host->args.hidden_size);
    compare_head_gradient(p, "bias_gradient", host->args.bias_gradient, host->bias_gradient,
                          host->args.vocab);
    if (host->args.hidden_gradient == NULL)
        return;
    compare_hidden_gradient(p);
    assert_padding(p);
}

void cuda_linear_check(cuda_linear_problem *p) {
    cuda_linear_solve(p);
    cuda_linear_run(p);
    cuda_linear_compare(p);
}
