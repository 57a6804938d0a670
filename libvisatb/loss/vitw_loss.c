/* The public entry of the loss on logits, and its plan. */
#include "common/error.h"
#include "cuda/cuda.h"
#include "loss/check.h"
#include "loss/run.h"

visatb_status visatb_vitw_loss(const visatb_vitw_loss_args *args) {
    static const char function[] = "visatb_vitw_loss";
    visatb_vitw_loss_args checked;
    const loss_backend *backend = NULL;
    const visatb_status status = loss_check(function, args, &checked, &backend);
    if (status != VISATB_OK)
        return status;
    if (checked.device == VISATB_DEVICE_CUDA)
        return cuda_vitw_loss(&checked);
    const loss_plan plan = loss_plan_of(&checked, backend);
    return loss_run(function, &plan);
}

visatb_status visatb_vitw_loss_plan(const visatb_vitw_loss_args *args, visatb_loss_plan *plan) {
    static const char function[] = "visatb_vitw_loss_plan";
    visatb_vitw_loss_args checked;
    const loss_backend *backend = NULL;
    if (plan == NULL)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: plan = NULL; expected a pointer", function);
    if (plan->size < sizeof *plan)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: plan->size = %zu; expected %zu, as VISATB_LOSS_PLAN_INIT sets it", function,
                         plan->size, sizeof *plan);
    const visatb_status status = loss_check_plan(function, args, &checked, &backend);
    if (status != VISATB_OK)
        return status;
    loss_resolve_strides(&checked);
    if (checked.device == VISATB_DEVICE_CUDA)
        return cuda_vitw_loss_plan(&checked, plan);
    *plan = (visatb_loss_plan){.size = plan->size, .cpu_path = VISATB_CPU_PORTABLE};
    if (checked.dtype != VISATB_DTYPE_FLOAT64) /* cannot fail: the choices were found good */
        (void)visatb_cpu_path_taken(checked.cpu_path, &plan->cpu_path);
    return VISATB_OK;
}
