/* The loss of logits on a GPU: which kernel, and all of them into the stream. */
#include "cuda/check.h"
#include "cuda/cuda.h"
#include "cuda/logits_call.h"

#include "cpu/convert.h"

static const char function[] = "visatb_vitw_loss";

/* D is known before the first gradient is written, by a kernel of its own where it was not given. */
static visatb_status launch_all(const cuda_call *call, const cuda_loss_plan *plan, void *stream) {
    int error = call->count.computes ? cuda_launch_count(&call->count, stream) : 0;
    if (error == 0)
        error = cuda_launch_loss(&call->loss, plan, stream);
    if (error == 0)
        error = cuda_launch_sums(&call->sums, stream);
    return runtime_check(function, "a launch", error);
}

static visatb_status run_on_current(const visatb_vitw_loss_args *args, const cuda_device *device,
                                    void *context) {
    (void)context;
    cuda_call call;
    cuda_loss_plan plan;
    visatb_status status = cuda_plan_loss(function, device, args->cuda_path, args->vocab,
                                          convert_element_size(args->dtype), &plan);
    if (status == VISATB_OK)
        status = cuda_call_prepare(function, args, device->ordinal, &call);
    return status == VISATB_OK ? launch_all(&call, &plan, args->stream) : status;
}

visatb_status cuda_vitw_loss(const visatb_vitw_loss_args *args) {
    return cuda_call_on_device(function, args, run_on_current, NULL);
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
        .workspace_bytes = cuda_call_workspace_bytes(args->rows),
        .cuda_path = launch.path,
        .cluster = launch.cluster,
        .threads = launch.threads,
    };
    return VISATB_OK;
}

const char *cuda_description(void) {
    return runtime_description();
}
