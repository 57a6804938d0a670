/* Whatever the host can see to be wrong with a call is found and said here, before anything is launched. */
#include "cuda/linear.h"

#include "common/error.h"
#include "cpu/convert.h"
#include "cuda/check.h"
#include "cuda/context.h"
#include "linear/linear.h"
#include "loss/check.h"

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

/* --- what a plan depends on --------------------------------------------------------------------------- */

static visatb_status set_head(const char *function, cuda_linear_call *call) {
    const visatb_dtype asked_for = call->args.head_gradient_dtype;
    const visatb_dtype dtype = call->args.dtype;
    call->head = asked_for == (visatb_dtype)0 ? VISATB_DTYPE_FLOAT32 : asked_for;
    if (call->head == VISATB_DTYPE_FLOAT32 || call->head == dtype)
        return VISATB_OK;
    if (dtype == VISATB_DTYPE_FLOAT32)
        return ARGUMENT_ERROR("head_gradient_dtype = %d; expected 0 or VISATB_DTYPE_FLOAT32 (1)",
                              (int)asked_for);
    return ARGUMENT_ERROR("head_gradient_dtype = %d; expected 0, VISATB_DTYPE_FLOAT32 (1) or dtype (%d)",
                          (int)asked_for, (int)dtype);
}

visatb_status cuda_linear_check_shape(const char *function, const visatb_vitw_linear_loss_args *args,
                                      cuda_linear_call *call) {
    *call = (cuda_linear_call){.args = *args, .loss = linear_loss_on_logits(args, args->dtype)};
    visatb_status status = loss_check_numbers(function, &call->loss);
    if (status == VISATB_OK)
        status = cuda_check_choices(function, &call->loss);
    if (status == VISATB_OK)
        status = linear_check_extents(function, args);
    if (status == VISATB_OK)
        status = set_head(function, call);
    if (status == VISATB_OK)
        status = linear_check_matrices(function, args, call->head);
    if (status == VISATB_OK)
        status = cuda_linear_lay_out(function, args, call->head, &call->layout);
    return status;
}

visatb_status cuda_linear_plan_device(const char *function, cuda_linear_call *call) {
    const visatb_vitw_linear_loss_args *args = &call->args;
    visatb_status status = VISATB_OK;
    if (args->context != NULL)
        call->device = args->context->device;
    else
        status = runtime_device(function, &call->device);
    if (status != VISATB_OK)
        return status;
    return cuda_plan_loss(function, &call->device, args->cuda_path, args->vocab,
                          convert_element_size(args->dtype), &call->plan);
}

/* --- the rest ------------------------------------------------------------------------------------------ */

static visatb_status check_device(const char *function, const cuda_linear_call *call) {
    int ordinal = 0;
    const visatb_status status = cuda_find_device(function, "loss", call->args.loss, &ordinal);
    if (status == VISATB_OK && ordinal != call->device.ordinal)
        return ARGUMENT_ERROR("context is of device %d; expected one of device %d, where loss is",
                              call->device.ordinal, ordinal);
    return status;
}

static visatb_status check_places(const char *function, const cuda_linear_call *call) {
    const visatb_vitw_linear_loss_args *args = &call->args;
    const struct {
        const char *name;
        const void *pointer;
    } arrays[] = {
        {"hidden", args->hidden},
        {"weight", args->weight},
        {"bias", args->bias},
        {"hidden_gradient", args->hidden_gradient},
        {"weight_gradient", args->weight_gradient},
        {"bias_gradient", args->bias_gradient},
    };
    visatb_status status = check_device(function, call);
    for (size_t i = 0; status == VISATB_OK && i < sizeof arrays / sizeof *arrays; ++i)
        status = cuda_check_pointer(function, arrays[i].name, arrays[i].pointer, call->device.ordinal);
    return status == VISATB_OK ? cuda_check_rows(function, &call->loss, call->device.ordinal) : status;
}

visatb_status cuda_linear_check_contents(const char *function, cuda_linear_call *call) {
    const visatb_vitw_linear_loss_args *args = &call->args;
    visatb_status status = linear_check_pointers(function, args);
    if (status == VISATB_OK)
        status = loss_check_pointers(function, &call->loss);
    if (status == VISATB_OK)
        status = linear_check_overlap(function, args, call->head, call->layout.bytes);
    if (status == VISATB_OK)
        status = linear_check_workspace(function, args, call->layout.bytes);
    if (status == VISATB_OK)
        status = check_places(function, call);
    if (status == VISATB_OK)
        status = cuda_read_scalars(function, &call->loss, call->device.ordinal, &call->denominator,
                                   &call->grad_scale);
    return status;
}
