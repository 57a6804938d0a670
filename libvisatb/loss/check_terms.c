/* The checks that every form of the loss shares, and the words for each. A message names the function, the
 * argument, where in it, the value, and what would be right. */
#include "loss/check.h"

#include "common/error.h"
#include "cpu/convert.h"
#include "cpu/dispatch.h"
#include "loss/rows.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

/* No version comes near it. Such a size was never set, and would send us through the caller's memory. */
#define ABSURD_SIZE ((size_t)65536)

visatb_status loss_copy_args(const char *function, const char *initialiser, const void *args, void *known,
                             size_t known_size) {
    if (args == NULL)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: args = NULL; expected a pointer", function);
    size_t size = 0;
    memcpy(&size, args, sizeof size);
    if (size < known_size || size > ABSURD_SIZE)
        return ARGUMENT_ERROR("size = %zu; expected %zu, as %s sets it", size, known_size, initialiser);
    const unsigned char *bytes = args;
    for (size_t i = known_size; i < size; ++i)
        if (bytes[i] != 0)
            return error_set(
                VISATB_ERROR_UNSUPPORTED,
                "%s: size = %zu, and byte %zu is not 0: this asks for something that version %s, "
                "which knows %zu bytes, does not have",
                function, size, i, visatb_version(), known_size);
    memcpy(known, args, known_size);
    return VISATB_OK;
}

visatb_status loss_check_count(const char *function, const char *name, int64_t count, int64_t smallest) {
    const int64_t largest = (int64_t)(PTRDIFF_MAX / sizeof(double));
    if (count < smallest || count > largest)
        return ARGUMENT_ERROR("%s = %" PRId64 "; expected a value in [%" PRId64 ", %" PRId64 "]", name, count,
                              smallest, largest);
    return VISATB_OK;
}

visatb_status loss_check_matrix(const char *function, const loss_matrix *matrix) {
    if (matrix->stride < matrix->width)
        return ARGUMENT_ERROR("%s_stride = %" PRId64 "; expected 0 or at least %s (%" PRId64 ")",
                              matrix->name, matrix->stride, matrix->columns, matrix->width);
    const size_t size = matrix->element_size;
    const int64_t most = (int64_t)(PTRDIFF_MAX / size);
    if (matrix->rows > 0 && matrix->rows - 1 > (most - matrix->width) / matrix->stride)
        return ARGUMENT_ERROR("%s_stride = %" PRId64 "; expected less: %" PRId64 " such rows pass any memory",
                              matrix->name, matrix->stride, matrix->rows);
    if (matrix->rows > 0 && (uintptr_t)matrix->start % size != 0)
        return ARGUMENT_ERROR("%s = 0x%" PRIxPTR "; expected a multiple of %zu, the bytes of an element",
                              matrix->name, (uintptr_t)matrix->start, size);
    return VISATB_OK;
}

static visatb_status check_shape(const char *function, const visatb_vitw_loss_args *args) {
    visatb_status status = loss_check_count(function, "rows", args->rows, 0);
    if (status == VISATB_OK)
        status = loss_check_count(function, "vocab", args->vocab, 1);
    if (status == VISATB_OK)
        status = loss_check_count(function, "tasks", args->tasks, 1);
    if (status != VISATB_OK)
        return status;
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
static visatb_status check_options(const char *function, const visatb_vitw_loss_args *args) {
    if (!(args->label_smoothing >= 0 && args->label_smoothing <= 1))
        return ARGUMENT_ERROR("label_smoothing = %g; expected a value in [0, 1]", args->label_smoothing);
    if (!(args->softcap >= 0 && isfinite(args->softcap)))
        return ARGUMENT_ERROR("softcap = %g; expected a finite value > 0, or 0 for none", args->softcap);
    if (!(args->z_loss >= 0 && isfinite(args->z_loss)))
        return ARGUMENT_ERROR("z_loss = %g; expected a finite value >= 0", args->z_loss);
    if (args->threads < 0)
        return ARGUMENT_ERROR("threads = %" PRId32 "; expected a value >= 0", args->threads);
    return VISATB_OK;
}

visatb_status loss_check_device(const char *function, visatb_device device) {
    if (device != VISATB_DEVICE_CPU && device != VISATB_DEVICE_CUDA)
        return ARGUMENT_ERROR("device = %d; expected VISATB_DEVICE_CPU (0) or VISATB_DEVICE_CUDA (1)",
                              (int)device);
    return VISATB_OK;
}

visatb_status loss_check_numbers(const char *function, const visatb_vitw_loss_args *args) {
    const visatb_status status = check_shape(function, args);
    return status == VISATB_OK ? check_options(function, args) : status;
}

visatb_status loss_check_choices(const char *function, const visatb_vitw_loss_args *args,
                                 const loss_backend **backend) {
    visatb_status status = loss_check_numbers(function, args);
    if (status == VISATB_OK)
        status = dispatch_backend(function, args->cpu_path, args->dtype, backend);
    return status;
}

visatb_status loss_check_row_pointers(const char *function, const visatb_vitw_loss_args *args) {
    const char *missing = args->labels == NULL ? "labels" : args->task_ids == NULL ? "task_ids" : NULL;
    if (args->rows > 0 && missing != NULL)
        return ARGUMENT_ERROR("%s = NULL; expected a pointer, because rows = %" PRId64, missing, args->rows);
    return VISATB_OK;
}

visatb_status loss_check_pointers(const char *function, const visatb_vitw_loss_args *args) {
    const char *missing = args->loss == NULL ? "loss" : args->task_weights == NULL ? "task_weights" : NULL;
    if (missing != NULL)
        return ARGUMENT_ERROR("%s = NULL; expected a pointer", missing);
    return loss_check_row_pointers(function, args);
}

visatb_status loss_check_task_weights(const char *function, const visatb_vitw_loss_args *args) {
    for (int64_t task = 0; task < args->tasks; ++task) {
        const float weight = args->task_weights[task];
        if (!isfinite(weight) || weight < 0)
            return ARGUMENT_ERROR("task_weights[%" PRId64 "] = %g; expected a finite value >= 0", task,
                                  (double)weight);
    }
    return VISATB_OK;
}

visatb_status loss_check_rows(const char *function, const visatb_vitw_loss_args *args) {
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

visatb_status loss_check_scalars(const char *function, visatb_reduction reduction, const double *denominator,
                                 const float *grad_scale) {
    if (denominator != NULL && reduction == VISATB_REDUCTION_SUM)
        return ARGUMENT_ERROR("*denominator = %g; expected denominator = NULL with VISATB_REDUCTION_SUM",
                              *denominator);
    if (denominator != NULL && (!isfinite(*denominator) || *denominator < 0))
        return ARGUMENT_ERROR("*denominator = %g; expected a finite value > 0", *denominator);
    if (grad_scale != NULL && !isfinite(*grad_scale))
        return ARGUMENT_ERROR("*grad_scale = %g; expected a finite value", (double)*grad_scale);
    /* What is counted from float weights never comes near this; a denominator that was not set may. */
    const double scale = grad_scale != NULL ? fabs((double)*grad_scale) : 1;
    if (denominator != NULL && *denominator > 0 && !isfinite(FLT_MAX * fmax(scale, 1) / *denominator))
        return ARGUMENT_ERROR("*denominator = %g; expected a value that a task weight can be divided by",
                              *denominator);
    return VISATB_OK;
}

static visatb_status check_scalars(const char *function, const visatb_vitw_loss_args *args) {
    const visatb_status status =
        loss_check_scalars(function, args->reduction, args->denominator, args->grad_scale);
    if (status != VISATB_OK || args->denominator == NULL || *args->denominator != 0)
        return status;
    for (int64_t row = 0; row < args->rows; ++row)
        if (loss_row_is_valid(args, row) && loss_row_weight(args, row) > 0)
            return ARGUMENT_ERROR("*denominator = 0; expected a finite value > 0, because row %" PRId64
                                  " has the weight %g",
                                  row, loss_row_weight(args, row));
    return VISATB_OK;
}

/* In this order: each may rely on those before it. */
static visatb_status (*const checks[])(const char *function, const visatb_vitw_loss_args *args) = {
    loss_check_pointers,
    loss_check_task_weights,
    loss_check_rows,
    check_scalars,
};

visatb_status loss_check_contents(const char *function, const visatb_vitw_loss_args *args) {
    visatb_status status = VISATB_OK;
    for (size_t i = 0; status == VISATB_OK && i < sizeof checks / sizeof *checks; ++i)
        status = checks[i](function, args);
    return status;
}
