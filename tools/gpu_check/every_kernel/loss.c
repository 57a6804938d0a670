#include "loss.h"

#include "loss_reference.h"
#include "memory.h"
#include "problem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The arrays of a call in the memory that it works on. */
typedef struct arrays {
    void *logits; /* what was taken; the first element is `offset` behind */
    void *gradient;
    void *labels;
    void *task_ids;
    void *task_weights;
    void *denominator;
    void *grad_scale;
    void *workspace;
    void *sums; /* loss, numerator, denominator, task_nll */
    void *task_tokens;
    void *row_nll;
    void *report;
} arrays;

enum { LOSS, NUMERATOR, DENOMINATOR, TASK_NLL, SUMS = TASK_NLL + TASKS };

static visatb_vitw_loss_args arguments_of(const loss_case *wanted) {
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = wanted->rows;
    args.vocab = wanted->vocab;
    args.tasks = TASKS;
    args.dtype = wanted->dtype;
    args.logits_stride = wanted->vocab + wanted->padding;
    args.gradient_stride = args.logits_stride;
    args.reduction = wanted->is_sum ? VISATB_REDUCTION_SUM : VISATB_REDUCTION_MEAN;
    args.label_smoothing = wanted->label_smoothing;
    args.softcap = wanted->softcap;
    args.z_loss = wanted->z_loss;
    args.device = memory_device;
    args.cuda_path = memory_device == VISATB_DEVICE_CUDA ? wanted->path : VISATB_CUDA_AUTO;
    return args;
}

bool loss_plan(const loss_case *wanted, visatb_loss_plan *plan) {
    const visatb_vitw_loss_args args = arguments_of(wanted);
    *plan = (visatb_loss_plan)VISATB_LOSS_PLAN_INIT;
    return visatb_vitw_loss_plan(&args, plan) == VISATB_OK;
}

static size_t elements_of(const loss_case *wanted) {
    return (size_t)(wanted->offset + wanted->rows * (wanted->vocab + wanted->padding));
}

static int64_t place_of(const loss_case *wanted, int64_t row, int64_t column) {
    return wanted->offset + row * (wanted->vocab + wanted->padding) + column;
}

/* Of the host; NaN where the fault is, and in the padding, which nobody may read into a result. */
static void *make_logits(const loss_case *wanted) {
    void *host = host_take(elements_of(wanted), reference_size(wanted->dtype));
    memset(host, 0xFF, elements_of(wanted) * reference_size(wanted->dtype));
    for (int64_t row = 0; row < wanted->rows; ++row)
        for (int64_t column = 0; column < wanted->vocab; ++column)
            reference_put(wanted->dtype, host, place_of(wanted, row, column),
                          (long double)number_at(1, row * wanted->vocab + column));
    if (wanted->fault == BAD_LOGITS)
        reference_put(wanted->dtype, host, place_of(wanted, 1, 0), (long double)INFINITY);
    return host;
}

static void *take_gradient(const loss_case *wanted) {
    const size_t size = reference_size(wanted->dtype);
    const memory_rows rows = {.before = (size_t)wanted->offset * size,
                              .count = (size_t)wanted->rows,
                              .bytes = (size_t)wanted->vocab * size,
                              .gap = (size_t)wanted->padding * size};
    return memory_take_rows(rows);
}

static void *put(const void *host, size_t bytes) {
    void *memory = memory_take(bytes);
    memory_put(memory, host, bytes);
    return memory;
}

static double spoil(const loss_case *wanted, rows *of) {
    if (wanted->fault == BAD_LABEL)
        of->labels[1] = wanted->vocab;
    if (wanted->fault == BAD_TASK_ID)
        of->task_ids[1] = TASKS;
    if (wanted->fault == BAD_TASK_WEIGHT)
        of->task_weights[1] = -1.0F;
    return wanted->fault == BAD_DENOMINATOR ? -1.0 : 2 * of->denominator;
}

/* Puts the arrays there and points the arguments to them. */
static arrays prepare(const loss_case *wanted, visatb_vitw_loss_args *args, rows of, size_t workspace) {
    const double denominator = spoil(wanted, &of);
    const size_t count = (size_t)wanted->rows, bytes = elements_of(wanted) * reference_size(wanted->dtype);
    void *host = make_logits(wanted);
    arrays made = {
        .logits = put(host, bytes),
        .gradient = wanted->in_place || wanted->has_no_gradient ? NULL : take_gradient(wanted),
        .labels = put(of.labels, count * sizeof *of.labels),
        .task_ids = put(of.task_ids, count * sizeof *of.task_ids),
        .task_weights = put(of.task_weights, sizeof of.task_weights),
        .denominator = put(&denominator, sizeof denominator),
        .grad_scale = put(&wanted->grad_scale, sizeof wanted->grad_scale),
        .workspace = memory_take(workspace),
        .sums = memory_take(SUMS * sizeof(double)),
        .task_tokens = memory_take(TASKS * sizeof(int64_t)),
        .row_nll = memory_take(count * sizeof(float)),
        .report = memory_take(sizeof(visatb_report)),
    };
    free(host);
    const size_t before = (size_t)wanted->offset * reference_size(wanted->dtype);
    args->logits = (char *)made.logits + before;
    if (!wanted->has_no_gradient)
        args->gradient = wanted->in_place ? (char *)made.logits + before : (char *)made.gradient + before;
    args->labels = made.labels;
    args->task_ids = made.task_ids;
    args->task_weights = made.task_weights;
    args->denominator = wanted->gives_denominator ? made.denominator : NULL;
    args->grad_scale = wanted->grad_scale == 0 ? NULL : made.grad_scale;
    args->workspace = made.workspace;
    args->workspace_bytes = workspace;
    double *sums = made.sums;
    args->loss = sums + LOSS;
    args->numerator = sums + NUMERATOR;
    args->denominator_out = sums + DENOMINATOR;
    args->task_nll = sums + TASK_NLL;
    args->task_tokens = made.task_tokens;
    args->row_nll = made.row_nll;
    args->report = made.report;
    return made;
}

static void give_back(const arrays *made) {
    void *const all[] = {made->logits,       made->gradient,    made->labels,     made->task_ids,
                         made->task_weights, made->denominator, made->grad_scale, made->workspace,
                         made->sums,         made->task_tokens, made->row_nll,    made->report};
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        if (all[i] != NULL)
            memory_give_back(all[i]);
}

/* One row of the gradient beside the formula; the worst entry speaks for it. */
static void check_gradient_row(const loss_case *wanted, const void *found, int64_t row, int64_t label,
                               double factor) {
    const int64_t vocab = wanted->vocab;
    double *z = host_take((size_t)vocab, sizeof *z);
    for (int64_t i = 0; i < vocab; ++i)
        z[i] = (double)reference_capped(number_at(1, row * vocab + i), wanted->softcap);
    const reference_options options = {wanted->label_smoothing, wanted->z_loss};
    const reference_row reference = reference_row_of(vocab, z, factor == 0 ? 0 : label);
    double worst = -1, worst_found = 0, worst_expected = 0;
    for (int64_t i = 0; i < vocab; ++i) {
        long double right = 0;
        if (factor != 0)
            right = reference_loss_derivative(&reference, options, vocab, z, label, i) *
                    reference_slope(number_at(1, row * vocab + i), wanted->softcap) * (long double)factor;
        char nearest[8] = {0};
        reference_put(wanted->dtype, nearest, 0, right);
        const double value = reference_get(wanted->dtype, found, place_of(wanted, row, i));
        const double close = wanted->dtype == VISATB_DTYPE_FLOAT32 ? 4e-6 * fabs((double)right) : 0;
        const char *const element =
            (const char *)found + (size_t)place_of(wanted, row, i) * reference_size(wanted->dtype);
        if (wanted->dtype != VISATB_DTYPE_FLOAT32 && reference_within_one_ulp(element, nearest))
            continue;
        const double beyond = fabs(value - (double)right) - close - 2e-7 * fabs(factor);
        if (!(beyond <= worst)) {
            worst = isnan(beyond) ? INFINITY : beyond;
            worst_found = value;
            worst_expected = (double)right;
        }
    }
    free(z);
    if (worst > 0)
        problem_wrong(wanted->name, "an entry of the gradient", worst_found, worst_expected);
}

static void expect_nan_row(const loss_case *wanted, const void *gradient, int64_t row) {
    for (int64_t i = 0; i<wanted->vocab; i += wanted->vocab> 1 ? wanted->vocab - 1 : 1)
        problem_expect(wanted->name, "the gradient of a bad row",
                       reference_get(wanted->dtype, gradient, place_of(wanted, row, i)), NAN, 0);
}

static bool is_bad(const loss_case *wanted, const rows *of, int64_t row) {
    if (wanted->fault == NO_FAULT || of->labels[row] == IGNORED)
        return false;
    if (wanted->fault == BAD_DENOMINATOR)
        return rows_weight(of, row) != 0;
    if (wanted->fault == BAD_TASK_WEIGHT)
        return of->task_ids[row] == 1;
    return row == 1;
}

static void check_gradient(const loss_case *wanted, const arrays *made, const rows *of, double denominator) {
    const size_t bytes = elements_of(wanted) * reference_size(wanted->dtype);
    void *gradient = host_take(1, bytes);
    memory_get(gradient, wanted->in_place ? made->logits : made->gradient, bytes);
    const double scale = wanted->grad_scale == 0 ? 1 : (double)wanted->grad_scale;
    for (int64_t row = 0; row < wanted->rows; ++row) {
        if (is_bad(wanted, of, row))
            expect_nan_row(wanted, gradient, row);
        else
            check_gradient_row(wanted, gradient, row, of->labels[row],
                               scale * rows_weight(of, row) / (wanted->is_sum ? 1 : denominator));
    }
    free(gradient);
}

/* What is known of a step by the formula. */
typedef struct expected_sums {
    double numerator;
    double task_nll[TASKS];
    int64_t task_tokens[TASKS];
} expected_sums;

static expected_sums sum_up(const loss_case *wanted, const rows *of, const float *row_nll) {
    expected_sums sums = {0};
    const reference_options options = {wanted->label_smoothing, wanted->z_loss};
    double *z = host_take((size_t)of->vocab, sizeof *z);
    for (int64_t row = 0; row < of->count; ++row) {
        if (of->labels[row] == IGNORED)
            continue;
        for (int64_t i = 0; i < of->vocab; ++i)
            z[i] = (double)reference_capped(number_at(1, row * of->vocab + i), wanted->softcap);
        const reference_row reference = reference_row_of(of->vocab, z, of->labels[row]);
        problem_expect(wanted->name, "row_nll", (double)row_nll[row], (double)reference.nll,
                       1e-6 * (1 + (double)reference.nll));
        sums.numerator += rows_weight(of, row) * (double)reference_loss(&reference, options, of->vocab, z);
        sums.task_nll[of->task_ids[row]] += (double)reference.nll;
        sums.task_tokens[of->task_ids[row]] += 1;
    }
    free(z);
    return sums;
}

static void check_sums(const loss_case *wanted, const arrays *made, const rows *of, double denominator) {
    double found[SUMS];
    int64_t tokens[TASKS];
    visatb_report report;
    float *row_nll = host_take((size_t)wanted->rows, sizeof *row_nll);
    memory_get(found, made->sums, sizeof found);
    memory_get(tokens, made->task_tokens, sizeof tokens);
    memory_get(&report, made->report, sizeof report);
    memory_get(row_nll, made->row_nll, (size_t)wanted->rows * sizeof *row_nll);
    if (wanted->fault != NO_FAULT) {
        static const visatb_report_code codes[] = {
            [BAD_LABEL] = VISATB_REPORT_LABEL,
            [BAD_TASK_ID] = VISATB_REPORT_TASK_ID,
            [BAD_TASK_WEIGHT] = VISATB_REPORT_TASK_WEIGHT,
            [BAD_LOGITS] = VISATB_REPORT_LOGITS,
            [BAD_DENOMINATOR] = VISATB_REPORT_DENOMINATOR,
        };
        problem_expect(wanted->name, "the loss", found[LOSS], NAN, 0);
        problem_expect(wanted->name, "the report's code", report.code, codes[wanted->fault], 0);
        const double first = wanted->fault == BAD_DENOMINATOR ? 0 : 1;
        problem_expect(wanted->name, "the report's row", (double)report.first_bad_row, first, 0);
    } else {
        const expected_sums sums = sum_up(wanted, of, row_nll);
        const double loss =
            wanted->is_sum || denominator == 0 ? sums.numerator : sums.numerator / denominator;
        const double least = 1e-12;
        problem_expect(wanted->name, "the loss", found[LOSS], loss, 1e-6 * fabs(loss) + least);
        problem_expect(wanted->name, "the numerator", found[NUMERATOR], sums.numerator,
                       1e-6 * fabs(sums.numerator) + least);
        problem_expect(wanted->name, "the report's code", report.code, VISATB_REPORT_OK, 0);
        for (int task = 0; task < TASKS; ++task) {
            problem_expect(wanted->name, "task_nll", found[TASK_NLL + task], sums.task_nll[task],
                           1e-6 * sums.task_nll[task] + least);
            problem_expect(wanted->name, "task_tokens", (double)tokens[task], (double)sums.task_tokens[task],
                           0);
        }
    }
    free(row_nll);
}

/* What D is: a bad row has no part in one that is computed. */
static double denominator_of(const loss_case *wanted, const rows *of) {
    if (wanted->gives_denominator)
        return 2 * of->denominator;
    double denominator = of->denominator;
    for (int64_t row = 0; row < of->count; ++row)
        if (wanted->fault != BAD_LOGITS && is_bad(wanted, of, row))
            denominator -= rows_weight(of, row);
    return denominator;
}

/* The columns of a slice, of which the first is one word wide. */
static visatb_vocab_slice narrow(visatb_vitw_loss_args *args, int slices, int index) {
    visatb_vocab_slice slice = VISATB_VOCAB_SLICE_INIT;
    const int64_t rest = args->vocab - 1;
    slice.first = index == 0 ? 0 : 1 + rest * (index - 1) / (slices - 1);
    slice.width = index == 0 ? 1 : 1 + rest * index / (slices - 1) - slice.first;
    const size_t before = (size_t)slice.first * reference_size(args->dtype);
    args->logits = (const char *)args->logits + before;
    if (args->gradient != NULL)
        args->gradient = (char *)args->gradient + before;
    return slice;
}

/* At least two of them. */
static visatb_status call_in_slices(const visatb_vitw_loss_args *args, int slices) {
    const size_t doubles = (size_t)args->rows * VISATB_SLICE_STATISTICS;
    double *told = memory_take((size_t)slices * doubles * sizeof *told);
    visatb_status status = VISATB_OK;
    for (int i = 0; status == VISATB_OK && i < slices; ++i) {
        visatb_vitw_loss_args own = *args;
        const visatb_vocab_slice slice = narrow(&own, slices, i);
        status = visatb_vitw_slice_statistics(&own, &slice, told + (size_t)i * doubles);
    }
    for (int i = 0; status == VISATB_OK && i < slices; ++i) {
        visatb_vitw_loss_args own = *args;
        const visatb_vocab_slice slice = narrow(&own, slices, i);
        status = visatb_vitw_slice_loss(&own, &slice, slices, told);
    }
    visatb_report done;
    memory_get(&done, args->report, sizeof done); /* before the statistics go */
    memory_give_back(told);
    return status;
}

static visatb_status call(const loss_case *wanted, const visatb_vitw_loss_args *args) {
    return wanted->slices > 0 ? call_in_slices(args, wanted->slices) : visatb_vitw_loss(args);
}

void loss_try(const loss_case *wanted) {
    visatb_loss_plan plan;
    if (!loss_plan(wanted, &plan))
        return;
    rows of = rows_make(wanted->rows, wanted->vocab);
    visatb_vitw_loss_args args = arguments_of(wanted);
    /* Before anything is made wrong in the rows. */
    const double denominator = denominator_of(wanted, &of);
    const arrays made = prepare(wanted, &args, of, plan.workspace_bytes);
    if (problem_call(wanted->name, "the call", call(wanted, &args), VISATB_OK)) {
        check_sums(wanted, &made, &of, denominator);
        if (!wanted->has_no_gradient)
            check_gradient(wanted, &made, &of, denominator);
    }
    give_back(&made);
    rows_free(&of);
}

void loss_try_scaling(visatb_dtype dtype, int64_t count) {
    static const float factors[] = {3.0F, 0.5F}; /* with an expected 0.5: by 6, and not at all */
    const float expected = 0.5F;
    const size_t bytes = (size_t)count * reference_size(dtype);
    void *host = host_take((size_t)count, reference_size(dtype));
    void *of_expected = put(&expected, sizeof expected);
    for (int which = 0; which < 2; ++which) {
        for (int64_t i = 0; i < count; ++i)
            reference_put(dtype, host, i, (long double)number_at(2, i));
        void *gradient = put(host, bytes), *factor = put(&factors[which], sizeof factors[which]);
        if (problem_call("scaling", "the call",
                         visatb_scale_gradient(gradient, 1, count, 0, dtype, factor, of_expected, NULL),
                         VISATB_OK)) {
            memory_get(host, gradient, bytes);
            const double by = (double)factors[which] / (double)expected;
            for (int64_t i = 0; i < count; ++i)
                problem_expect("scaling", "an entry", reference_get(dtype, host, i), by * number_at(2, i),
                               fabs(by * number_at(2, i)) / 256);
        }
        memory_give_back(gradient);
        memory_give_back(factor);
    }
    memory_give_back(of_expected);
    free(host);
}

void loss_try_count(int64_t count) {
    rows of = rows_make(count, 1 + count);
    const double before = 8;
    double found = 0;
    int64_t expected[TASKS] = {1, 2, 3}, tokens[TASKS];
    void *labels = put(of.labels, (size_t)count * sizeof *of.labels);
    void *task_ids = put(of.task_ids, (size_t)count * sizeof *of.task_ids);
    void *task_weights = put(of.task_weights, sizeof of.task_weights);
    void *denominator = put(&before, sizeof before);
    void *task_tokens = put(expected, sizeof expected);
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = count;
    args.vocab = of.vocab;
    args.tasks = TASKS;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = task_weights;
    args.denominator_out = denominator;
    args.task_tokens = task_tokens;
    args.device = memory_device;
    if (problem_call("counting", "the call", visatb_vitw_denominator(&args, 1), VISATB_OK)) {
        memory_get(&found, denominator, sizeof found);
        memory_get(tokens, task_tokens, sizeof tokens);
        for (int64_t row = 0; row < count; ++row)
            if (of.labels[row] != IGNORED)
                expected[of.task_ids[row]] += 1;
        problem_expect("counting", "D", found, before + of.denominator, 0); /* no digit is lost */
        for (int task = 0; task < TASKS; ++task)
            problem_expect("counting", "task_tokens", (double)tokens[task], (double)expected[task], 0);
    }
    memory_give_back(labels);
    memory_give_back(task_ids);
    memory_give_back(task_weights);
    memory_give_back(denominator);
    memory_give_back(task_tokens);
    rows_free(&of);
}
