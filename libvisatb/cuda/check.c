#include "cuda/check.h"

#include "common/error.h"
#include "cuda/paths.h"
#include "loss/check.h"

#include <inttypes.h>

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

visatb_status cuda_check_choices(const char *function, const visatb_vitw_loss_args *args) {
    const int64_t most = INT32_MAX / PATH_MOST_CLUSTER;
    const int64_t widest = INT32_MAX - 2 * PATH_GRANULE; /* places in a row are counted in 32 bits */
    if (args->dtype == VISATB_DTYPE_FLOAT64)
        return ARGUMENT_ERROR(
            "dtype = %d (VISATB_DTYPE_FLOAT64); expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 "
            "(2) or _FLOAT16 (3) on a GPU",
            (int)args->dtype);
    if (args->rows > most)
        return ARGUMENT_ERROR("rows = %" PRId64 "; expected at most %" PRId64 " on a GPU", args->rows, most);
    if (args->vocab > widest)
        return ARGUMENT_ERROR("vocab = %" PRId64 "; expected at most %" PRId64 " on a GPU", args->vocab,
                              widest);
    if (args->cuda_path != VISATB_CUDA_AUTO && args->cuda_path != VISATB_CUDA_ONE_READ &&
        args->cuda_path != VISATB_CUDA_TWO_READ)
        return ARGUMENT_ERROR("cuda_path = %d; expected VISATB_CUDA_AUTO (0), _ONE_READ (1) or _TWO_READ (2)",
                              (int)args->cuda_path);
    return VISATB_OK;
}

visatb_status cuda_find_device(const char *function, const char *name, const void *pointer, int *ordinal) {
    cuda_device current;
    cuda_place place = CUDA_PLACE_HOST;
    visatb_status status = runtime_place(function, pointer, &place, ordinal);
    if (status != VISATB_OK)
        return status;
    if (place == CUDA_PLACE_HOST)
        return ARGUMENT_ERROR("%s is in memory of the host; expected memory that the GPU can reach", name);
    if (place == CUDA_PLACE_DEVICE)
        return VISATB_OK;
    status = runtime_device(function, &current); /* any of them can reach it */
    if (status == VISATB_OK)
        *ordinal = current.ordinal;
    return status;
}

visatb_status cuda_check_pointer(const char *function, const char *name, const void *pointer, int ordinal) {
    if (pointer == NULL)
        return VISATB_OK;
    cuda_place place = CUDA_PLACE_HOST;
    int there = 0;
    const visatb_status status = runtime_place(function, pointer, &place, &there);
    if (status != VISATB_OK)
        return status;
    if (place == CUDA_PLACE_HOST)
        return ARGUMENT_ERROR("%s is in memory of the host; expected memory that the GPU can reach", name);
    if (place == CUDA_PLACE_DEVICE && there != ordinal)
        return ARGUMENT_ERROR(
            "%s is in memory of device %d; expected that of device %d, where the others are", name, there,
            ordinal);
    return VISATB_OK;
}

visatb_status cuda_check_alignment(const char *function, const char *name, const void *pointer,
                                   size_t alignment) {
    if ((uintptr_t)pointer % alignment != 0)
        return ARGUMENT_ERROR("%s = 0x%" PRIxPTR "; expected a multiple of %zu, the bytes of an element",
                              name, (uintptr_t)pointer, alignment);
    return VISATB_OK;
}

visatb_status cuda_check_rows(const char *function, const visatb_vitw_loss_args *args, int ordinal) {
    const struct {
        const char *name;
        const void *pointer;
        size_t alignment;
    } arrays[] = {
        {"labels", args->labels, sizeof *args->labels},
        {"task_ids", args->task_ids, sizeof *args->task_ids},
        {"task_weights", args->task_weights, sizeof *args->task_weights},
        {"denominator", args->denominator, sizeof *args->denominator},
        {"grad_scale", args->grad_scale, sizeof *args->grad_scale},
        {"loss", args->loss, sizeof *args->loss},
        {"numerator", args->numerator, sizeof *args->numerator},
        {"denominator_out", args->denominator_out, sizeof *args->denominator_out},
        {"row_nll", args->row_nll, sizeof *args->row_nll},
        {"row_lse", args->row_lse, sizeof *args->row_lse},
        {"task_nll", args->task_nll, sizeof *args->task_nll},
        {"task_tokens", args->task_tokens, sizeof *args->task_tokens},
        {"report", args->report, sizeof(int64_t)},
        {"workspace", args->workspace, 1},
    };
    visatb_status status = VISATB_OK;
    for (size_t i = 0; status == VISATB_OK && i < sizeof arrays / sizeof *arrays; ++i) {
        status = cuda_check_alignment(function, arrays[i].name, arrays[i].pointer, arrays[i].alignment);
        /* The scalars may be the host's (cuda_read_scalars). */
        if (status == VISATB_OK && arrays[i].pointer != args->denominator &&
            arrays[i].pointer != args->grad_scale)
            status = cuda_check_pointer(function, arrays[i].name, arrays[i].pointer, ordinal);
    }
    return status;
}

/* Whether a scalar is one that the host reads, now. Pinned memory is the host's. */
static visatb_status is_of_host(const char *function, const char *name, const void *pointer, int ordinal,
                                bool *of_host) {
    cuda_place place = CUDA_PLACE_HOST;
    int there = 0;
    *of_host = true;
    if (pointer == NULL)
        return VISATB_OK;
    const visatb_status status = runtime_place(function, pointer, &place, &there);
    *of_host = place != CUDA_PLACE_DEVICE;
    return status != VISATB_OK || *of_host ? status : cuda_check_pointer(function, name, pointer, ordinal);
}

visatb_status cuda_read_scalars(const char *function, const visatb_vitw_loss_args *args, int ordinal,
                                cuda_scalar *denominator, cuda_scalar *grad_scale) {
    bool denominator_of_host = true;
    bool scale_of_host = true;
    visatb_status status =
        is_of_host(function, "denominator", args->denominator, ordinal, &denominator_of_host);
    if (status == VISATB_OK)
        status = is_of_host(function, "grad_scale", args->grad_scale, ordinal, &scale_of_host);
    if (status != VISATB_OK)
        return status;
    if (!denominator_of_host && args->reduction == VISATB_REDUCTION_SUM)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: denominator is given; expected denominator = NULL with VISATB_REDUCTION_SUM",
                         function);
    const double *given = denominator_of_host ? args->denominator : NULL;
    const float *scale = scale_of_host ? args->grad_scale : NULL;
    *denominator = (cuda_scalar){
        .doubles = denominator_of_host ? NULL : args->denominator,
        .value = given != NULL ? *given : 0,
    };
    *grad_scale = (cuda_scalar){
        .floats = scale_of_host ? NULL : args->grad_scale,
        .value = scale != NULL ? (double)*scale : 1,
    };
    return loss_check_scalars(function, args->reduction, given, scale);
}

cuda_rows cuda_rows_of(const visatb_vitw_loss_args *args) {
    return (cuda_rows){
        .rows = args->rows,
        .vocab = args->vocab,
        .tasks = args->tasks,
        .labels = args->labels,
        .task_ids = args->task_ids,
        .task_weights = args->task_weights,
        .ignore_index = args->ignore_index,
    };
}

cuda_sums cuda_sums_of(const visatb_vitw_loss_args *args, const cuda_scalar *denominator,
                       const cuda_step *step, const cuda_outcome *outcomes) {
    return (cuda_sums){
        .rows = cuda_rows_of(args),
        .outcomes = outcomes,
        .denominator = *denominator,
        .divides = args->reduction == VISATB_REDUCTION_MEAN,
        .step = step,
        .loss = args->loss,
        .numerator = args->numerator,
        .denominator_out = args->denominator_out,
        .row_nll = args->row_nll,
        .row_lse = args->row_lse,
        .task_nll = args->task_nll,
        .task_tokens = args->task_tokens,
        .report = args->report,
    };
}
