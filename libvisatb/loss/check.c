/* The checks of visatb_vitw_loss in their order, and those of its logits and gradient. */
#include "loss/check.h"

#include "common/error.h"
#include "cpu/convert.h"

#include <inttypes.h>

static const char function[] = "visatb_vitw_loss";

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

static visatb_status check_pointers(const visatb_vitw_loss_args *args) {
    if (args->rows > 0 && args->logits == NULL)
        return ARGUMENT_ERROR("logits = NULL; expected a pointer, because rows = %" PRId64, args->rows);
    return VISATB_OK;
}

static visatb_status check_matrix(const visatb_vitw_loss_args *args, const char *name, const void *start,
                                  int64_t stride) {
    const loss_matrix matrix = {
        .name = name,
        .columns = "vocab",
        .start = start,
        .rows = args->rows,
        .width = args->vocab,
        .stride = stride,
        .element_size = convert_element_size(args->dtype),
    };
    return loss_check_matrix(function, &matrix);
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

static visatb_status check_choices(const char *caller, const visatb_vitw_loss_args *args,
                                   const loss_backend **backend) {
    const visatb_status status = loss_check_device(caller, args->device);
    if (status != VISATB_OK)
        return status;
    *backend = NULL;
    if (args->device == VISATB_DEVICE_CUDA)
        return loss_check_numbers(caller, args);
    return loss_check_choices(caller, args, backend);
}

static visatb_status check_arrays(const visatb_vitw_loss_args *args) {
    visatb_status status = check_matrix(args, "logits", args->logits, args->logits_stride);
    if (status == VISATB_OK)
        status = check_matrix(args, "gradient", args->gradient, args->gradient_stride);
    if (status == VISATB_OK)
        status = check_overlap(args);
    return status;
}

visatb_status loss_check_plan(const char *caller, const visatb_vitw_loss_args *args,
                              visatb_vitw_loss_args *checked, const loss_backend **backend) {
    const visatb_status status =
        loss_copy_args(caller, "VISATB_VITW_LOSS_ARGS_INIT", args, checked, sizeof *checked);
    if (status != VISATB_OK)
        return status;
    if (checked->logits_stride == 0)
        checked->logits_stride = checked->vocab;
    if (checked->gradient_stride == 0)
        checked->gradient_stride = checked->vocab;
    return check_choices(caller, checked, backend);
}

visatb_status loss_check(const visatb_vitw_loss_args *args, visatb_vitw_loss_args *checked,
                         const loss_backend **backend) {
    visatb_status status = loss_check_plan(function, args, checked, backend);
    if (status == VISATB_OK)
        status = check_pointers(checked);
    if (status == VISATB_OK)
        status = check_arrays(checked);
    if (status != VISATB_OK)
        return status;
    if (checked->device == VISATB_DEVICE_CUDA)
        return loss_check_pointers(function, checked);
    return loss_check_contents(function, checked);
}
