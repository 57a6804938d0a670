/* The loss of logits on a GPU: check the call as far as the host can, share out the workspace, and put the
 * kernels into the stream. */
#include "cuda/check.h"
#include "cuda/cuda.h"

#include "common/error.h"
#include "cpu/convert.h"

static const char function[] = "visatb_vitw_loss";

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

static unsigned char *start_of(const visatb_vitw_loss_args *args) {
    const uintptr_t misaligned = (uintptr_t)args->workspace % ALIGNMENT;
    return (unsigned char *)args->workspace + (misaligned == 0 ? 0 : ALIGNMENT - misaligned);
}

static visatb_status check_workspace(const visatb_vitw_loss_args *args) {
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

/* Everything that the kernels work on. */
typedef struct cuda_call {
    cuda_count count;
    cuda_loss loss;
    cuda_sums sums;
    cuda_loss_plan plan;
} cuda_call;

static visatb_status prepare(const visatb_vitw_loss_args *args, int ordinal, cuda_call *call) {
    const workspace_layout layout = lay_out(args->rows);
    unsigned char *const start = start_of(args);
    cuda_step *const step = (cuda_step *)(void *)(start + layout.step);
    cuda_outcome *const outcomes = (cuda_outcome *)(void *)(start + layout.outcomes);
    const cuda_rows rows = cuda_rows_of(args);
    const bool divides = args->reduction == VISATB_REDUCTION_MEAN;
    const bool computes = args->denominator == NULL && (divides || args->denominator_out != NULL);
    cuda_scalar denominator;
    cuda_scalar grad_scale;
    const visatb_status status = cuda_read_scalars(function, args, ordinal, &denominator, &grad_scale);
    if (status != VISATB_OK)
        return status;
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

/* D is known before the first gradient is written, by a kernel of its own where it was not given. */
static visatb_status launch_all(const cuda_call *call, void *stream) {
    int error = call->count.computes ? cuda_launch_count(&call->count, stream) : 0;
    if (error == 0)
        error = cuda_launch_loss(&call->loss, &call->plan, stream);
    if (error == 0)
        error = cuda_launch_sums(&call->sums, stream);
    return runtime_check(function, "a launch", error);
}

static visatb_status check_arrays(const visatb_vitw_loss_args *args, int ordinal) {
    visatb_status status = cuda_check_pointer(function, "logits", args->logits, ordinal);
    if (status == VISATB_OK)
        status = cuda_check_pointer(function, "gradient", args->gradient, ordinal);
    if (status == VISATB_OK)
        status = cuda_check_rows(function, args, ordinal);
    return status;
}

static visatb_status run_on_current(const visatb_vitw_loss_args *args, int ordinal) {
    cuda_device device;
    cuda_call call;
    visatb_status status = runtime_device(function, &device);
    if (status == VISATB_OK)
        status = cuda_plan_loss(function, &device, args->cuda_path, args->vocab,
                                convert_element_size(args->dtype), &call.plan);
    if (status == VISATB_OK)
        status = check_workspace(args);
    if (status == VISATB_OK)
        status = check_arrays(args, ordinal);
    if (status == VISATB_OK)
        status = prepare(args, ordinal, &call);
    return status == VISATB_OK ? launch_all(&call, args->stream) : status;
}

visatb_status cuda_vitw_loss(const visatb_vitw_loss_args *args) {
    int ordinal = 0;
    int before = 0;
    visatb_status status = cuda_check_choices(function, args);
    if (status == VISATB_OK)
        status = cuda_find_device(function, "loss", args->loss, &ordinal);
    if (status == VISATB_OK)
        status = runtime_use_device(function, ordinal, &before);
    if (status != VISATB_OK)
        return status;
    status = run_on_current(args, ordinal);
    if (before == ordinal)
        return status;
    const visatb_status restored = runtime_use_device(function, before, &ordinal);
    return status == VISATB_OK ? restored : status;
}

visatb_status cuda_vitw_loss_plan(const visatb_vitw_loss_args *args, visatb_loss_plan *plan) {
    static const char caller[] = "visatb_vitw_loss_plan";
    cuda_device device;
    cuda_loss_plan launch;
    visatb_status status = cuda_check_choices(caller, args);
    if (status == VISATB_OK)
        status = runtime_device(caller, &device);
    if (status == VISATB_OK)
        status = cuda_plan_loss(caller, &device, args->cuda_path, args->vocab,
                                convert_element_size(args->dtype), &launch);
    if (status != VISATB_OK)
        return status;
    *plan = (visatb_loss_plan){
        .size = plan->size,
        .workspace_bytes = lay_out(args->rows).bytes,
        .cuda_path = launch.path,
        .cluster = launch.cluster,
        .threads = launch.threads,
    };
    return VISATB_OK;
}

const char *cuda_description(void) {
    return runtime_description();
}
