#include "loss_problem.h"

#include "cpu_paths.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* In elements. The first puts rows where only elements are aligned. */
enum { BEFORE = 1, LOGITS_PADDING = 5, GRADIENT_PADDING = 3, CANARY = 0xff };

/* ---- putting it together ---- */

static uint64_t random_state = 1;

double problem_random(double low, double high) {
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return low + (high - low) * ldexp((double)(random_state >> 11), -53);
}

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes + 1);
    assert_non_null(memory);
    memset(memory, CANARY, bytes + 1);
    return memory;
}

static void create_matrices(problem *p) {
    visatb_vitw_loss_args *args = &p->args;
    const size_t size = reference_size(args->dtype);
    args->logits_stride = args->vocab + LOGITS_PADDING;
    args->gradient_stride = args->vocab + GRADIENT_PADDING;
    p->logits_bytes = (size_t)(BEFORE + args->rows * args->logits_stride) * size;
    p->gradient_bytes = (size_t)(BEFORE + args->rows * args->gradient_stride) * size;
    p->logits_memory = allocate(p->logits_bytes);
    p->logits_before = allocate(p->logits_bytes);
    p->gradient_memory = allocate(p->gradient_bytes);
    args->logits = problem_logits(p);
    args->gradient = p->gradient_memory + BEFORE * size;
}

void problem_create(problem *p, visatb_dtype dtype, int64_t rows, int64_t vocab) {
    *p = (problem){.args = VISATB_VITW_LOSS_ARGS_INIT, .call = visatb_vitw_loss, .weights = {1.5F, 0, 0.3F}};
    visatb_vitw_loss_args *args = &p->args;
    args->rows = rows;
    args->vocab = vocab;
    args->tasks = PROBLEM_TASKS;
    args->dtype = dtype;
    create_matrices(p);
    const size_t count = (size_t)rows;
    const size_t entries = (size_t)(rows * vocab);
    args->labels = p->labels = allocate(count * sizeof *p->labels);
    args->task_ids = p->task_ids = allocate(count * sizeof *p->task_ids);
    args->row_nll = p->row_nll = allocate(count * sizeof *p->row_nll);
    args->row_lse = p->row_lse = allocate(count * sizeof *p->row_lse);
    p->rows = allocate(count * sizeof *p->rows);
    p->exact = allocate(entries * sizeof *p->exact);
    p->expected = allocate(entries * sizeof *p->expected);
    p->nearest = allocate(entries * sizeof *p->nearest);
    args->task_weights = p->weights;
    args->task_nll = p->task_nll;
    args->task_tokens = p->task_tokens;
    args->loss = &p->loss;
    args->numerator = &p->numerator;
    args->denominator_out = &p->denominator_out;
    args->report = &p->report;
    for (int64_t row = 0; row < rows; ++row) {
        p->task_ids[row] = (int32_t)(row % PROBLEM_TASKS);
        p->labels[row] = row % 7 == 3 ? args->ignore_index : (int64_t)problem_random(0, (double)vocab);
    }
}

void *problem_logits(problem *p) {
    return p->logits_memory + BEFORE * reference_size(p->args.dtype);
}

void problem_put(problem *p, int64_t row, int64_t i, double logit) {
    void *logits = problem_logits(p);
    const int64_t at = row * p->args.logits_stride + i;
    reference_put(p->args.dtype, logits, at, (long double)logit);
    p->exact[row * p->args.vocab + i] = reference_get(p->args.dtype, logits, at);
}

void problem_fill(problem *p, problem_logit *logit) {
    for (int64_t row = 0; row < p->args.rows; ++row)
        for (int64_t i = 0; i < p->args.vocab; ++i)
            problem_put(p, row, i, logit(p, row, i));
}

void problem_destroy(problem *p) {
    free(p->labels);
    free(p->task_ids);
    free(p->row_nll);
    free(p->row_lse);
    free(p->rows);
    free(p->exact);
    free(p->expected);
    free(p->nearest);
    free(p->logits_memory);
    free(p->logits_before);
    free(p->gradient_memory);
}

/* ---- what the formula says ---- */

static bool is_ignored(const problem *p, int64_t row) {
    return p->labels[row] == p->args.ignore_index;
}

static double weight_of(const problem *p, int64_t row) {
    return is_ignored(p, row) ? 0 : (double)p->weights[p->task_ids[row]];
}

static double denominator_of(const problem *p) {
    double sum = 0;
    for (int64_t row = 0; row < p->args.rows; ++row)
        sum += weight_of(p, row);
    return p->args.denominator != NULL ? *p->args.denominator : sum;
}

static double divisor_of(const problem *p) {
    const double denominator = denominator_of(p);
    return p->args.reduction == VISATB_REDUCTION_SUM || denominator == 0 ? 1 : denominator;
}

/* lambda grad_scale / D. */
static long double scale_of(const problem *p, int64_t row) {
    const double grad_scale = p->args.grad_scale != NULL ? (double)*p->args.grad_scale : 1;
    return (long double)weight_of(p, row) * (long double)grad_scale / (long double)divisor_of(p);
}

static bool is_bad(int64_t vocab, const double *logits) {
    bool any_finite = false;
    for (int64_t i = 0; i < vocab; ++i) {
        if (isnan(logits[i]) || (isinf(logits[i]) && logits[i] > 0))
            return true;
        any_finite = any_finite || isfinite(logits[i]);
    }
    return !any_finite;
}

static void expect_entry(problem *p, int64_t at, long double expected) {
    p->expected[at] = expected;
    double nearest = 0; /* room for an element of any type */
    reference_put(p->args.dtype, &nearest, 0, expected);
    p->nearest[at] = reference_get(p->args.dtype, &nearest, 0);
}

static void solve_row(problem *p, int64_t row, double *z) {
    const visatb_vitw_loss_args *args = &p->args;
    const double *x = p->exact + row * args->vocab;
    const reference_options options = {args->label_smoothing, args->z_loss};
    problem_row *solved = &p->rows[row];
    *solved = (problem_row){.bad = !is_ignored(p, row) && is_bad(args->vocab, x)};
    const bool good = !is_ignored(p, row) && !solved->bad;
    for (int64_t i = 0; good && i < args->vocab; ++i)
        z[i] = (double)reference_capped(x[i], args->softcap);
    if (good) {
        solved->softmax = reference_row_of(args->vocab, z, p->labels[row]);
        solved->loss = reference_loss(&solved->softmax, options, args->vocab, z);
    }
    const long double scale = scale_of(p, row);
    for (int64_t i = 0; i < args->vocab; ++i) {
        long double expected = 0;
        if (scale != 0 && solved->bad)
            expected = (long double)NAN;
        else if (scale != 0)
            expected =
                scale * reference_slope(x[i], args->softcap) *
                reference_loss_derivative(&solved->softmax, options, args->vocab, z, p->labels[row], i);
        expect_entry(p, row * args->vocab + i, expected);
    }
}

void problem_solve(problem *p) {
    memcpy(p->logits_before, p->logits_memory, p->logits_bytes);
    double *z = allocate((size_t)p->args.vocab * sizeof *z);
    for (int64_t row = 0; row < p->args.rows; ++row)
        solve_row(p, row, z);
    free(z);
}

/* ---- comparing ---- */

/* Also of what is infinite, or no number. */
static void assert_close(const problem *p, const char *what, double value, long double expected,
                         long double relative, long double absolute) {
    if (isnan(expected) ? isnan(value) : (long double)value == expected)
        return;
    const long double error = fabsl((long double)value - expected);
    if (!(isfinite(expected) && error <= relative * fabsl(expected) + absolute))
        fail_msg("%s: %s = %.17g is not %.17Lg within %Lg relative or %Lg",
                 visatb_cpu_path_name(p->args.cpu_path), what, value, expected, relative, absolute);
}

/* How far off an entry may be that is not within its relative bound. lse multiplies what the z-loss adds. */
static long double allowance(const problem *p, int64_t row) {
    const visatb_vitw_loss_args *args = &p->args;
    const bool options = args->label_smoothing > 0 || args->softcap > 0 || args->z_loss > 0;
    const long double pull = 2 * (long double)args->z_loss * fabsl(p->rows[row].softmax.lse);
    const long double scale = fabsl(scale_of(p, row)) * (1 + pull);
    if (args->dtype == VISATB_DTYPE_FLOAT64)
        return (options ? 1e-13L : 1e-30L) * scale;
    /* The instruction knows no bf16 below the normal ones. */
    if (args->dtype == VISATB_DTYPE_BFLOAT16 && args->cpu_path == VISATB_CPU_AVX512_BF16)
        return 1e-7L * scale + FLT_MIN;
    return 1e-7L * scale + FLT_TRUE_MIN;
}

/* fp64 is what finite differences and other backends are measured by: more is asked of it. */
static bool is_accurate(visatb_dtype dtype, const void *element, double nearest, long double expected,
                        long double allowed) {
    const double value = reference_get(dtype, element, 0);
    if (isnan(nearest))
        return isnan(value);
    if (expected == 0 || value == nearest)
        return value == nearest;
    const long double error = fabsl((long double)value - expected);
    if (dtype == VISATB_DTYPE_FLOAT64)
        return error <= 1e-11L * fabsl(expected) + allowed;
    if (dtype == VISATB_DTYPE_FLOAT32)
        return error <= 2e-6L * fabsl(expected) || error <= allowed;
    double room = 0;
    reference_put(dtype, &room, 0, (long double)nearest);
    return reference_within_one_ulp(element, &room) || error <= allowed;
}

static void check_gradient(const problem *p, problem_tally *tally) {
    const visatb_dtype dtype = p->args.dtype;
    const double normal = reference_smallest_normal(dtype);
    const unsigned char *gradient = p->args.gradient;
    for (int64_t row = 0; row < p->args.rows; ++row) {
        const long double allowed = allowance(p, row);
        for (int64_t i = 0; i < p->args.vocab; ++i) {
            const void *element =
                gradient + (size_t)(row * p->args.gradient_stride + i) * reference_size(dtype);
            const double nearest = p->nearest[row * p->args.vocab + i];
            const double value = reference_get(dtype, element, 0);
            tally->normal_entries += fabs(nearest) >= normal;
            tally->correctly_rounded += fabs(nearest) >= normal && value == nearest;
            const long double expected = p->expected[row * p->args.vocab + i];
            if (!is_accurate(dtype, element, nearest, expected, allowed))
                fail_msg("%s: gradient[%lld, %lld] = %.17g, expected %.17Lg (vocab %lld, label %lld)",
                         visatb_cpu_path_name(p->args.cpu_path), (long long)row, (long long)i, value,
                         expected, (long long)p->args.vocab, (long long)p->labels[row]);
        }
    }
}

/* What comes near 0 by cancellation is held to the size of what it is made of. */
typedef struct tolerances {
    long double relative;
    long double lse;
    long double options;
} tolerances;

static tolerances tolerances_of(const problem *p) {
    const bool exact = p->args.dtype == VISATB_DTYPE_FLOAT64 || p->args.cpu_path == VISATB_CPU_PORTABLE;
    return (tolerances){
        .relative = p->args.dtype == VISATB_DTYPE_FLOAT64 ? 1e-11L : 1e-6L,
        .lse = exact ? 1e-12L : 1e-6L,
        .options = exact ? 1e-13L : 1e-9L,
    };
}

/* What a row's loss with options may be off beyond the relative bound: nothing without options. */
static long double loss_allowance(const problem *p, const problem_row *row, tolerances allowed) {
    const long double lse = fabsl(row->softmax.lse);
    const bool options = p->args.label_smoothing > 0 || p->args.softcap > 0;
    return (options ? allowed.options * (1 + lse) : 0) + 2 * (long double)p->args.z_loss * lse * allowed.lse;
}

static void check_sums(const problem *p) {
    const tolerances allowed = tolerances_of(p);
    const double denominator = denominator_of(p);
    const double divisor = divisor_of(p);
    long double numerator = 0, may_be_off = DBL_MIN;
    long double task_nll[PROBLEM_TASKS] = {0};
    int64_t task_tokens[PROBLEM_TASKS] = {0}, first_bad_row = -1;
    for (int64_t row = 0; row < p->args.rows; ++row) {
        const problem_row *r = &p->rows[row];
        const long double nll = r->bad ? (long double)NAN : r->softmax.nll;
        /* Beyond a float lies infinity. */
        assert_close(p, "row_nll", (double)p->row_nll[row], nll > FLT_MAX ? (long double)INFINITY : nll,
                     1e-6L, loss_allowance(p, r, allowed) + FLT_MIN);
        assert_close(p, "row_lse", (double)p->row_lse[row], r->bad ? (long double)NAN : r->softmax.lse, 1e-6L,
                     allowed.lse);
        if (is_ignored(p, row))
            continue;
        if (weight_of(p, row) > 0) {
            numerator += (long double)weight_of(p, row) * (r->bad ? (long double)NAN : r->loss);
            may_be_off += (long double)weight_of(p, row) * loss_allowance(p, r, allowed);
        }
        task_nll[p->task_ids[row]] += nll;
        task_tokens[p->task_ids[row]] += 1;
        if (r->bad && first_bad_row < 0)
            first_bad_row = row;
    }
    assert_close(p, "numerator", p->numerator, numerator, allowed.relative, may_be_off);
    assert_close(p, "denominator", p->denominator_out, (long double)denominator, 0, 0);
    assert_close(p, "loss", p->loss, numerator / (long double)divisor, allowed.relative,
                 may_be_off / (long double)divisor + DBL_MIN);
    for (int task = 0; task < PROBLEM_TASKS; ++task) {
        assert_close(p, "task_nll", p->task_nll[task], task_nll[task], allowed.relative,
                     may_be_off + DBL_MIN);
        assert_int_equal(p->task_tokens[task], task_tokens[task]);
    }
    assert_int_equal(p->report.code, first_bad_row < 0 ? VISATB_REPORT_OK : VISATB_REPORT_LOGITS);
    assert_int_equal(p->report.first_bad_row, first_bad_row);
}

static void assert_canaries(const unsigned char *memory, const problem *p, int64_t stride) {
    const size_t size = reference_size(p->args.dtype);
    const size_t row_bytes = (size_t)p->args.vocab * size;
    for (size_t i = 0; i < BEFORE * size; ++i)
        assert_int_equal(memory[i], CANARY);
    for (int64_t row = 0; row < p->args.rows; ++row) {
        const unsigned char *bytes = memory + (size_t)(BEFORE + row * stride) * size;
        for (size_t i = row_bytes; i < (size_t)stride * size; ++i)
            assert_int_equal(bytes[i], CANARY);
    }
    assert_int_equal(memory[(size_t)(BEFORE + p->args.rows * stride) * size], CANARY);
}

static void run(const problem *p) {
    if (p->call(&p->args) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
}

/* Loss only, then in place: each must give the very bits of the separate run before. */
static void compare_other_ways_to_call(problem *p) {
    const double loss = p->loss;
    const visatb_vitw_loss_args before = p->args;
    const size_t size = reference_size(p->args.dtype);
    const unsigned char *logits = p->args.logits;
    const unsigned char *gradient = before.gradient;

    p->args.gradient = NULL;
    run(p);
    assert_memory_equal(&p->loss, &loss, sizeof loss);
    assert_memory_equal(p->logits_before, p->logits_memory, p->logits_bytes + 1);

    p->args.gradient = problem_logits(p);
    p->args.gradient_stride = p->args.logits_stride;
    run(p);
    assert_memory_equal(&p->loss, &loss, sizeof loss);
    for (int64_t row = 0; row < p->args.rows; ++row)
        assert_memory_equal(logits + (size_t)(row * p->args.logits_stride) * size,
                            gradient + (size_t)(row * before.gradient_stride) * size,
                            (size_t)p->args.vocab * size);
    assert_canaries(p->logits_memory, p, p->args.logits_stride);
    p->args = before;
}

void problem_check(problem *p, visatb_cpu_path path, problem_tally *tally) {
    problem_tally none = {0, 0};
    p->args.cpu_path = path;
    memcpy(p->logits_memory, p->logits_before, p->logits_bytes);
    memset(p->gradient_memory, CANARY, p->gradient_bytes);
    run(p);
    assert_memory_equal(p->logits_before, p->logits_memory, p->logits_bytes + 1);
    assert_canaries(p->gradient_memory, p, p->args.gradient_stride);
    check_gradient(p, tally != NULL ? tally : &none);
    check_sums(p);
    compare_other_ways_to_call(p);
}

void problem_check_on_every_path(problem *p) {
    for_each_cpu_path(path) {
        problem_check(p, path, NULL);
    }
}
