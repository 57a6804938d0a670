#include "cuda/logits_call.h"

#include "common/error.h"
#include "cuda/check.h"
#include "cuda/on_device.h"

enum { ALIGNMENT = 16 };

/* Offsets in the workspace, from a multiple of ALIGNMENT on. */
typedef struct workspace_layout {
    size_t step;
    size_t outcomes;
    size_t bytes; /* of any alignment */
} workspace_layout;

static workspace_layout lay_out(int64_t rows) {
    workspace_layout layout = {.step = 0};
    layout.outcomes = (sizeof(cuda_step) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    layout.bytes = layout.outcomes + (size_t)rows * sizeof(cuda_outcome) + ALIGNMENT - 1;
    return layout;
}

size_t cuda_call_workspace_bytes(int64_t rows) {
    return lay_out(rows).bytes;
}

static unsigned char *start_of(const visatb_vitw_loss_args *args) {
    const uintptr_t misaligned = (uintptr_t)args->workspace % ALIGNMENT;
    return (unsigned char *)args->workspace + (misaligned == 0 ? 0 : ALIGNMENT - misaligned);
}

static visatb_status check_workspace(const char *function, const visatb_vitw_loss_args *args) {
    const size_t bytes = lay_out(args->rows).bytes;
    if (args->workspace_bytes < bytes)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: workspace_bytes = %zu; expected at least %zu, as visatb_vitw_loss_plan tells",
                         function, args->workspace_bytes, bytes);
    if (args->workspace == NULL)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: workspace = NULL; expected %zu bytes of the GPU's memory", function, bytes);
    return VISATB_OK;
}

/* Of no rows, logits may lie anywhere: those of a slice begin behind the end of their memory. */
static visatb_status check_arrays(const char *function, const visatb_vitw_loss_args *args, int ordinal) {
    const bool any = args->rows > 0;
    visatb_status status = any ? cuda_check_pointer(function, "logits", args->logits, ordinal) : VISATB_OK;
    if (status == VISATB_OK && any)
        status = cuda_check_pointer(function, "gradient", args->gradient, ordinal);
    if (status == VISATB_OK)
        status = cuda_check_rows(function, args, ordinal);
    return status;
}

visatb_status cuda_call_prepare(const char *function, const visatb_vitw_loss_args *args, int ordinal,
                                cuda_call *call) {
    cuda_scalar denominator;
    cuda_scalar grad_scale;
    visatb_status status = check_workspace(function, args);
    if (status == VISATB_OK)
        status = check_arrays(function, args, ordinal);
    if (status == VISATB_OK)
        status = cuda_read_scalars(function, args, ordinal, &denominator, &grad_scale);
    if (status != VISATB_OK)
        return status;
    const workspace_layout layout = lay_out(args->rows);
    unsigned char *const start = start_of(args);
    cuda_step *const step = (cuda_step *)(void *)(start + layout.step);
    cuda_outcome *const outcomes = (cuda_outcome *)(void *)(start + layout.outcomes);
    const cuda_rows rows = cuda_rows_of(args);
    const bool divides = args->reduction == VISATB_REDUCTION_MEAN;
    const bool computes = args->denominator == NULL && (divides || args->denominator_out != NULL);
    call->count = (cuda_count){.rows = rows, .computes = computes, .step = step};
    call->loss = (cuda_loss){
        .rows = rows,
        .logits_rows = args->rows,
        .dtype = args->dtype,
        .logits = args->logits,
        .logits_stride = args->logits_stride,
        .gradient = args->gradient,
        .gradient_stride = args->gradient_stride,
        .denominator = denominator,
        .divides = divides,
        .grad_scale = grad_scale,
        .label_smoothing = args->label_smoothing,
        .softcap = args->softcap,
        .z_loss = args->z_loss,
        .step = computes ? step : NULL,
        .outcomes = outcomes,
    };
    call->sums = cuda_sums_of(args, &denominator, call->loss.step, outcomes);
    return VISATB_OK;
}

/* The work of a call, and what it is given. */
typedef struct call_on_device {
    const char *function;
    const visatb_vitw_loss_args *args;
    cuda_call_work *work;
    void *context;
} call_on_device;

static visatb_status run_on_current(void *context) {
    const call_on_device *call = context;
    cuda_device device;
    const visatb_status status = runtime_device(call->function, &device);
    return status == VISATB_OK ? call->work(call->args, &device, call->context) : status;
}

visatb_status cuda_call_on_device(const char *function, const visatb_vitw_loss_args *args,
                                  cuda_call_work *work, void *context) {
    int ordinal = 0;
    call_on_device call = {function, args, work, context};
    visatb_status status = cuda_check_choices(function, args);
    if (status == VISATB_OK)
        status = cuda_find_device(function, "loss", args->loss, &ordinal);
    return status == VISATB_OK ? cuda_on_device(function, ordinal, run_on_current, &call) : status;
}
