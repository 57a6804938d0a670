#include "linear.h"

#include "loss_reference.h"
#include "memory.h"
#include "problem.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 37, HIDDEN = 72, VOCAB = 1003, SPREAD = 64 };

typedef struct linear_case {
    const char *name;
    visatb_dtype dtype;
    int64_t padding;        /* of the rows of hidden states */
    int64_t max_valid_rows; /* 0: all */
    size_t chunk_rows;      /* 0: as the library likes */
    bool has_bias;
    bool is_frozen;
    bool rounds_head; /* its gradient is of dtype */
    bool accumulates;
    bool has_too_many; /* valid rows, for max_valid_rows */
} linear_case;

static double hidden_at(int64_t row, int64_t column) {
    return number_at(3, row * HIDDEN + column) / 4;
}

static double weight_at(int64_t word, int64_t column) {
    return number_at(4, word * HIDDEN + column) / SPREAD;
}

static double bias_at(int64_t word) {
    return number_at(5, word);
}

/* By the formula, in fp64. */
typedef struct expected {
    double loss;
    double *hidden;
    double *weight;
    double *bias;
} expected;

static expected compute(const linear_case *wanted, const rows *of) {
    expected right = {.hidden = host_take((size_t)ROWS * HIDDEN, sizeof(double)),
                      .weight = host_take((size_t)VOCAB * HIDDEN, sizeof(double)),
                      .bias = host_take(VOCAB, sizeof(double))};
    double *logits = host_take(VOCAB, sizeof *logits);
    for (int64_t row = 0; row < ROWS; ++row) {
        const double factor = rows_weight(of, row) / of->denominator;
        if (factor == 0)
            continue;
        for (int64_t word = 0; word < VOCAB; ++word) {
            logits[word] = wanted->has_bias ? bias_at(word) : 0;
            for (int64_t i = 0; i < HIDDEN; ++i)
                logits[word] += hidden_at(row, i) * weight_at(word, i);
        }
        const reference_row reference = reference_row_of(VOCAB, logits, of->labels[row]);
        right.loss += factor * (double)reference.nll;
        for (int64_t word = 0; word < VOCAB; ++word) {
            const double slope =
                factor * (double)reference_derivative(&reference, logits, of->labels[row], word);
            right.bias[word] += slope;
            for (int64_t i = 0; i < HIDDEN; ++i) {
                right.hidden[row * HIDDEN + i] += slope * weight_at(word, i);
                right.weight[word * HIDDEN + i] += slope * hidden_at(row, i);
            }
        }
    }
    free(logits);
    return right;
}

static void *put_matrix(visatb_dtype dtype, double (*at)(int64_t, int64_t), int64_t count, int64_t stride) {
    const size_t bytes = (size_t)(count * stride) * reference_size(dtype);
    void *host = host_take(1, bytes), *memory = memory_take(bytes);
    for (int64_t row = 0; row < count; ++row)
        for (int64_t i = 0; i < HIDDEN; ++i)
            reference_put(dtype, host, row * stride + i, (long double)at(row, i));
    memory_put(memory, host, bytes);
    free(host);
    return memory;
}

static void *put_bias(visatb_dtype dtype) {
    void *host = host_take(VOCAB, reference_size(dtype));
    void *memory = memory_take(VOCAB * reference_size(dtype));
    for (int64_t word = 0; word < VOCAB; ++word)
        reference_put(dtype, host, word, (long double)bias_at(word));
    memory_put(memory, host, VOCAB * reference_size(dtype));
    free(host);
    return memory;
}

static void *put(const void *host, size_t bytes) {
    void *memory = memory_take(bytes);
    memory_put(memory, host, bytes);
    return memory;
}

/* Relative norm of the difference; `base` is what was there before the call added to it. */
static double norm_error(visatb_dtype dtype, const void *memory, const double *right, int64_t count,
                         int64_t width, int64_t stride, double base) {
    const size_t bytes = (size_t)(count * stride) * reference_size(dtype);
    void *host = host_take(1, bytes);
    memory_get(host, memory, bytes);
    double difference = 0, norm = 0;
    for (int64_t row = 0; row < count; ++row)
        for (int64_t i = 0; i < width; ++i) {
            const double found = reference_get(dtype, host, row * stride + i) - base;
            const double wanted = right[row * width + i];
            difference += (found - wanted) * (found - wanted);
            norm += wanted * wanted;
        }
    free(host);
    return sqrt(difference / norm);
}

enum {
    HIDDEN_STATES,
    WEIGHT,
    BIAS,
    LABELS,
    TASK_IDS,
    TASK_WEIGHTS,
    OF_HIDDEN,
    OF_WEIGHT,
    OF_BIAS,
    SUM,
    REPORT,
    WORKSPACE,
    ARRAYS
};

/* Outputs that are added to begin with this. */
static const float before = 0.5F;

static void *filled(visatb_dtype dtype, int64_t count) {
    const size_t bytes = (size_t)count * reference_size(dtype);
    void *host = host_take(1, bytes), *memory = memory_take(bytes);
    for (int64_t i = 0; i < count; ++i)
        reference_put(dtype, host, i, (long double)before);
    memory_put(memory, host, bytes);
    free(host);
    return memory;
}

static void take_outputs(const linear_case *wanted, visatb_dtype head, void **array) {
    const size_t size = reference_size(wanted->dtype);
    const memory_rows rows = {.count = ROWS, .bytes = HIDDEN * size, .gap = (size_t)wanted->padding * size};
    array[OF_HIDDEN] = memory_take_rows(rows);
    array[SUM] = memory_take(sizeof(double));
    array[REPORT] = memory_take(sizeof(visatb_report));
    if (wanted->is_frozen)
        return;
    array[OF_WEIGHT] = wanted->accumulates ? filled(head, (int64_t)VOCAB * HIDDEN)
                                           : memory_take((size_t)VOCAB * HIDDEN * reference_size(head));
    if (wanted->has_bias)
        array[OF_BIAS] =
            wanted->accumulates ? filled(head, VOCAB) : memory_take(VOCAB * reference_size(head));
}

static visatb_vitw_linear_loss_args arguments_of(const linear_case *wanted, void **array) {
    visatb_vitw_linear_loss_args args = VISATB_VITW_LINEAR_LOSS_ARGS_INIT;
    args.rows = ROWS;
    args.hidden_size = HIDDEN;
    args.vocab = VOCAB;
    args.tasks = TASKS;
    args.dtype = wanted->dtype;
    args.hidden = array[HIDDEN_STATES];
    args.hidden_stride = HIDDEN + wanted->padding;
    args.weight = array[WEIGHT];
    args.bias = array[BIAS];
    args.labels = array[LABELS];
    args.task_ids = array[TASK_IDS];
    args.task_weights = array[TASK_WEIGHTS];
    args.hidden_gradient = array[OF_HIDDEN];
    args.hidden_gradient_stride = args.hidden_stride;
    args.weight_gradient = array[OF_WEIGHT];
    args.bias_gradient = array[OF_BIAS];
    args.accumulate = wanted->accumulates ? 1 : 0;
    args.loss = array[SUM];
    args.report = array[REPORT];
    args.max_valid_rows = wanted->max_valid_rows;
    args.device = memory_device;
    if (memory_device == VISATB_DEVICE_CUDA) {
        args.chunk_bytes = wanted->chunk_rows * VOCAB * reference_size(wanted->dtype);
        args.head_gradient_dtype = wanted->rounds_head ? wanted->dtype : 0;
    }
    return args;
}

static void check(const linear_case *wanted, visatb_dtype head, const rows *of, void **array) {
    double loss;
    visatb_report report;
    memory_get(&loss, array[SUM], sizeof loss);
    memory_get(&report, array[REPORT], sizeof report);
    if (wanted->has_too_many) {
        problem_expect(wanted->name, "the loss", loss, NAN, 0);
        problem_expect(wanted->name, "the report's code", report.code, VISATB_REPORT_VALID_ROWS, 0);
        return;
    }
    expected right = compute(wanted, of);
    const bool is_fp32 = wanted->dtype == VISATB_DTYPE_FLOAT32;
    const double close = is_fp32 ? 1e-5 : 2e-2;
    const double base = wanted->accumulates ? (double)before : 0;
    /* What was there before takes some of the last places. */
    const double head_close =
        wanted->accumulates ? close + (head == VISATB_DTYPE_FLOAT32 ? 1e-3 : INFINITY) : close;
    problem_expect(wanted->name, "the loss", loss, right.loss, (is_fp32 ? 1e-6 : 3e-3) * right.loss);
    problem_expect(wanted->name, "the report's code", report.code, VISATB_REPORT_OK, 0);
    problem_expect(
        wanted->name, "the error of the gradient of hidden",
        norm_error(wanted->dtype, array[OF_HIDDEN], right.hidden, ROWS, HIDDEN, HIDDEN + wanted->padding, 0),
        0, close);
    if (array[OF_WEIGHT] != NULL)
        problem_expect(wanted->name, "the error of the gradient of weight",
                       norm_error(head, array[OF_WEIGHT], right.weight, VOCAB, HIDDEN, HIDDEN, base), 0,
                       head_close);
    if (array[OF_BIAS] != NULL)
        problem_expect(wanted->name, "the error of the gradient of bias",
                       norm_error(head, array[OF_BIAS], right.bias, 1, VOCAB, VOCAB, base), 0, head_close);
    free(right.hidden);
    free(right.weight);
    free(right.bias);
}

static void try_one(const linear_case *wanted, visatb_context *context) {
    rows of = rows_make(ROWS, VOCAB);
    void *array[ARRAYS] = {
        [HIDDEN_STATES] = put_matrix(wanted->dtype, hidden_at, ROWS, HIDDEN + wanted->padding),
        [WEIGHT] = put_matrix(wanted->dtype, weight_at, VOCAB, HIDDEN),
        [BIAS] = wanted->has_bias ? put_bias(wanted->dtype) : NULL,
        [LABELS] = put(of.labels, ROWS * sizeof *of.labels),
        [TASK_IDS] = put(of.task_ids, ROWS * sizeof *of.task_ids),
        [TASK_WEIGHTS] = put(of.task_weights, sizeof of.task_weights),
    };
    const bool rounds = wanted->rounds_head && memory_device == VISATB_DEVICE_CUDA;
    const visatb_dtype head = rounds ? wanted->dtype : VISATB_DTYPE_FLOAT32;
    take_outputs(wanted, head, array);
    visatb_vitw_linear_loss_args args = arguments_of(wanted, array);
    args.context = context;
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    if (problem_call(wanted->name, "the plan", visatb_vitw_linear_loss_plan(&args, &plan), VISATB_OK)) {
        array[WORKSPACE] = memory_take(plan.workspace_bytes);
        args.workspace = array[WORKSPACE];
        args.workspace_bytes = plan.workspace_bytes;
        if (problem_call(wanted->name, "the call", visatb_vitw_linear_loss(&args), VISATB_OK))
            check(wanted, head, &of, array);
    }
    for (int i = 0; i < ARRAYS; ++i)
        if (array[i] != NULL)
            memory_give_back(array[i]);
    rows_free(&of);
}

void linear_try_all(visatb_dtype dtype) {
    enum { VALID = 28 }; /* of ROWS, as rows_make has them */
    const linear_case cases[] = {
        {.name = "linear"},
        {.name = "linear, strided, bias", .padding = 3, .has_bias = true},
        {.name = "linear, valid rows given", .max_valid_rows = VALID, .rounds_head = true},
        {.name = "linear, chunks", .chunk_rows = 16, .has_bias = true},
        {.name = "linear, chunks, head rounded", .chunk_rows = 16, .has_bias = true, .rounds_head = true},
        {.name = "linear, frozen head", .is_frozen = true, .chunk_rows = 16},
        {.name = "linear, added to", .accumulates = true, .has_bias = true},
        {.name = "linear, added to, head rounded",
         .accumulates = true,
         .rounds_head = true,
         .chunk_rows = 16},
        {.name = "linear, too many valid rows", .max_valid_rows = 8, .has_too_many = true},
    };
    visatb_context *context = NULL;
    const bool on_gpu = memory_device == VISATB_DEVICE_CUDA;
    if (on_gpu && !problem_call("linear", "the context", visatb_context_create(&context), VISATB_OK))
        return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        linear_case one = cases[i];
        char name[96];
        (void)snprintf(name, sizeof name, "%s, dtype %d", one.name, (int)dtype);
        one.name = name;
        one.dtype = dtype;
        /* The CPU refuses that. */
        if (!one.has_too_many || on_gpu)
            try_one(&one, context);
    }
    visatb_context_destroy(context);
}
