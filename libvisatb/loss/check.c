/* Every check of a call of visatb_vitw_loss, from the size of the struct to the last label, and the words for
 * each. A message names the argument, where in it, the value, and what would be right. */
#include "loss/check.h"

#include "common/error.h"
#include "cpu/convert.h"
#include "loss/rows.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define ARGUMENT_ERROR(...) error_set(VISATB_ERROR_ARGUMENT, "visatb_vitw_loss: " __VA_ARGS__)
#define UNSUPPORTED_ERROR(...) error_set(VISATB_ERROR_UNSUPPORTED, "visatb_vitw_loss: " __VA_ARGS__)

/* Of version 0.1. A version that adds fields puts offsetof the first of them here: callers compiled against
 * 0.1 keep passing this. */
#define SMALLEST_SIZE sizeof(visatb_vitw_loss_args)

/* No version comes near it. Such a size was never set, and would send us through the caller's memory. */
#define ABSURD_SIZE ((size_t)65536)

static visatb_status copy_and_resolve(const visatb_vitw_loss_args *args, visatb_vitw_loss_args *known) {
    if (args == NULL)
        return ARGUMENT_ERROR("args = NULL; expected a pointer");
    const size_t size = args->size;
    if (size < SMALLEST_SIZE || size > ABSURD_SIZE)
        return ARGUMENT_ERROR("size = %zu; expected %zu, as VISATB_VITW_LOSS_ARGS_INIT sets it", size,
                              sizeof *known);
    const unsigned char *bytes = (const unsigned char *)args;
    for (size_t i = sizeof *known; i < size; ++i)
        if (bytes[i] != 0)
            return UNSUPPORTED_ERROR(
                "size = %zu, and byte %zu is not 0: this asks for something that version %s, "
                "which knows %zu bytes, does not have",
                size, i, visatb_version(), sizeof *known);
    memcpy(known, args, sizeof *known);
    if (known->logits_stride == 0)
        known->logits_stride = known->vocab;
    if (known->gradient_stride == 0)
        known->gradient_stride = known->vocab;
    return VISATB_OK;
}

/* A count times the bytes of its elements must fit into memory, or a position in it could not be computed. */
static visatb_status check_count(int64_t count, const char *name, int64_t smallest) {
    const int64_t largest = (int64_t)(PTRDIFF_MAX / sizeof(double));
    if (count < smallest || count > largest)
        return ARGUMENT_ERROR("%s = %" PRId64 "; expected a value in [%" PRId64 ", %" PRId64 "]", name, count,
                              smallest, largest);
    return VISATB_OK;
}

static visatb_status check_counts(const visatb_vitw_loss_args *args) {
    visatb_status status = check_count(args->rows, "rows", 0);
    if (status == VISATB_OK)
        status = check_count(args->vocab, "vocab", 1);
    if (status == VISATB_OK)
        status = check_count(args->tasks, "tasks", 1);
    return status;
}

static visatb_status check_pointers(const visatb_vitw_loss_args *args) {
    if (args->loss == NULL)
        return ARGUMENT_ERROR("loss = NULL; expected a pointer");
    if (args->task_weights == NULL)
        return ARGUMENT_ERROR("task_weights = NULL; expected a pointer");
    const char *missing = args->logits == NULL     ? "logits"
                          : args->labels == NULL   ? "labels"
                          : args->task_ids == NULL ? "task_ids"
                                                   : NULL;
    if (args->rows > 0 && missing != NULL)
        return ARGUMENT_ERROR("%s = NULL; expected a pointer, because rows = %" PRId64, missing, args->rows);
    return VISATB_OK;
}

static visatb_status check_choices(const visatb_vitw_loss_args *args) {
    if (convert_element_size(args->dtype) == 0)
        return ARGUMENT_ERROR("dtype = %d; expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 (2), _FLOAT16 (3) or "
                              "_FLOAT64 (4)",
                              (int)args->dtype);
    if (args->reduction != VISATB_REDUCTION_MEAN && args->reduction != VISATB_REDUCTION_SUM)
        return ARGUMENT_ERROR(
            "reduction = %d; expected VISATB_REDUCTION_MEAN (0) or VISATB_REDUCTION_SUM (1)",
            (int)args->reduction);
    return VISATB_OK;
}

/* Written so that NaN is refused too. */
static bool is_off(double option) {
    return option == 0;
}

static visatb_status check_options(const visatb_vitw_loss_args *args) {
    if (!is_off(args->label_smoothing))
        return UNSUPPORTED_ERROR("label_smoothing = %g; this version has only 0 (off)",
                                 args->label_smoothing);
    if (!is_off(args->softcap))
        return UNSUPPORTED_ERROR("softcap = %g; this version has only 0 (off)", args->softcap);
    if (!is_off(args->z_loss))
        return UNSUPPORTED_ERROR("z_loss = %g; this version has only 0 (off)", args->z_loss);
    return VISATB_OK;
}

static visatb_status check_matrix(const visatb_vitw_loss_args *args, const char *name, const void *matrix,
                                  int64_t stride) {
    if (stride < args->vocab)
        return ARGUMENT_ERROR("%s_stride = %" PRId64 "; expected 0 or at least vocab (%" PRId64 ")", name,
                              stride, args->vocab);
    const size_t size = convert_element_size(args->dtype);
    const int64_t most = (int64_t)(PTRDIFF_MAX / size);
    if (args->rows > 0 && args->rows - 1 > (most - args->vocab) / stride)
        return ARGUMENT_ERROR("%s_stride = %" PRId64 "; expected less: %" PRId64 " such rows pass any memory",
                              name, stride, args->rows);
    if (args->rows > 0 && (uintptr_t)matrix % size != 0)
        return ARGUMENT_ERROR("%s = 0x%" PRIxPTR "; expected a multiple of %zu, the bytes of an element",
                              name, (uintptr_t)matrix, size);
    return VISATB_OK;
}

static visatb_status check_logits(const visatb_vitw_loss_args *args) {
    return check_matrix(args, "logits", args->logits, args->logits_stride);
}

static visatb_status check_gradient(const visatb_vitw_loss_args *args) {
    return check_matrix(args, "gradient", args->gradient, args->gradient_stride);
}

/* Rows of both are visited in the order of their addresses, so that two matrices which interleave in one
 * buffer are told from two that meet. */
static visatb_status check_overlap(const visatb_vitw_loss_args *args) {
    const bool in_place =
        args->gradient == args->logits && (args->gradient_stride == args->logits_stride || args->rows == 1);
    if (args->gradient == NULL || in_place)
        return VISATB_OK;
    const uint64_t size = convert_element_size(args->dtype);
    const uint64_t width = (uint64_t)args->vocab * size;
    int64_t logits_row = 0;
    int64_t gradient_row = 0;
    while (logits_row < args->rows && gradient_row < args->rows) {
        const uint64_t logits = (uintptr_t)args->logits + (uint64_t)(logits_row * args->logits_stride) * size;
        const uint64_t gradient =
            (uintptr_t)args->gradient + (uint64_t)(gradient_row * args->gradient_stride) * size;
        if (logits < gradient + width && gradient < logits + width)
            return ARGUMENT_ERROR(
                "gradient row %" PRId64 " overlaps logits row %" PRId64
                "; expected separate memory, or logits itself with gradient_stride = %" PRId64
                " (logits_stride)",
                gradient_row, logits_row, args->logits_stride);
        if (logits < gradient)
            ++logits_row;
        else
            ++gradient_row;
    }
    return VISATB_OK;
}

static visatb_status check_task_weights(const visatb_vitw_loss_args *args) {
    for (int64_t task = 0; task < args->tasks; ++task) {
        const float weight = args->task_weights[task];
        if (!isfinite(weight) || weight < 0)
            return ARGUMENT_ERROR("task_weights[%" PRId64 "] = %g; expected a finite value >= 0", task,
                                  (double)weight);
    }
    return VISATB_OK;
}

static visatb_status check_rows(const visatb_vitw_loss_args *args) {
    for (int64_t row = 0; row < args->rows; ++row) {
        if (!loss_row_is_valid(args, row))
            continue;
        const int64_t label = args->labels[row];
        if (label < 0 || label >= args->vocab)
            return ARGUMENT_ERROR("labels[%" PRId64 "] = %" PRId64 "; expected ignore_index (%" PRId64
                                  ") or a value in [0, %" PRId64 ")",
                                  row, label, args->ignore_index, args->vocab);
        const int32_t task = args->task_ids[row];
        if (task < 0 || task >= args->tasks)
            return ARGUMENT_ERROR("task_ids[%" PRId64 "] = %" PRId32 "; expected a value in [0, %" PRId64 ")",
                                  row, task, args->tasks);
    }
    return VISATB_OK;
}

static visatb_status check_denominator(const visatb_vitw_loss_args *args) {
    if (args->denominator == NULL)
        return VISATB_OK;
    const double denominator = *args->denominator;
    if (args->reduction == VISATB_REDUCTION_SUM)
        return ARGUMENT_ERROR("*denominator = %g; expected denominator = NULL with VISATB_REDUCTION_SUM",
                              denominator);
    if (!isfinite(denominator) || denominator < 0)
        return ARGUMENT_ERROR("*denominator = %g; expected a finite value > 0", denominator);
    for (int64_t row = 0; denominator == 0 && row < args->rows; ++row)
        if (loss_row_is_valid(args, row) && loss_row_weight(args, row) > 0)
            return ARGUMENT_ERROR("*denominator = 0; expected a finite value > 0, because row %" PRId64
                                  " has the weight %g",
                                  row, loss_row_weight(args, row));
    return VISATB_OK;
}

static visatb_status check_grad_scale(const visatb_vitw_loss_args *args) {
    if (args->grad_scale != NULL && !isfinite(*args->grad_scale))
        return ARGUMENT_ERROR("*grad_scale = %g; expected a finite value", (double)*args->grad_scale);
    /* What is counted from float weights never comes near this; a denominator that was not set may. */
    const double scale = args->grad_scale != NULL ? fabs((double)*args->grad_scale) : 1;
    if (args->denominator != NULL && *args->denominator > 0 &&
        !isfinite(FLT_MAX * fmax(scale, 1) / *args->denominator))
        return ARGUMENT_ERROR("*denominator = %g; expected a value that a task weight can be divided by",
                              *args->denominator);
    return VISATB_OK;
}

/* In this order: each may rely on those before it. */
static visatb_status (*const checks[])(const visatb_vitw_loss_args *args) = {
    check_counts,  check_pointers,     check_choices, check_options,     check_logits,     check_gradient,
    check_overlap, check_task_weights, check_rows,    check_denominator, check_grad_scale,
};

visatb_status loss_check(const visatb_vitw_loss_args *args, visatb_vitw_loss_args *checked) {
    visatb_status status = copy_and_resolve(args, checked);
    for (size_t i = 0; status == VISATB_OK && i < sizeof checks / sizeof *checks; ++i)
        status = checks[i](checked);
    return status;
}
