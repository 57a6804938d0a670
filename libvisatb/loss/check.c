/* The checks of visatb_vitw_loss in their order, and those of logits and their gradient. */
#include "loss/check.h"

#include "common/error.h"
#include "cpu/convert.h"

#include <inttypes.h>

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

static visatb_status check_pointers(const char *function, const visatb_vitw_loss_args *args) {
    if (args->rows > 0 && args->logits == NULL)
        return ARGUMENT_ERROR("logits = NULL; expected a pointer, because rows = %" PRId64, args->rows);
    return VISATB_OK;
}

/* Rows of both are visited in the order of their addresses, so that two matrices which interleave in one
 * buffer are told from two that meet. */
static visatb_status check_overlap(const char *function, const visatb_vitw_loss_args *args) {
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

visatb_status loss_check_logits(const char *function, const char *columns,
                                const visatb_vitw_loss_args *args) {
    loss_matrix matrix = {
        .name = "logits",
        .columns = columns,
        .start = args->logits,
        .rows = args->rows,
        .width = args->vocab,
        .stride = args->logits_stride,
        .element_size = convert_element_size(args->dtype),
    };
    visatb_status status = check_pointers(function, args);
    if (status == VISATB_OK)
        status = loss_check_matrix(function, &matrix);
    matrix.name = "gradient";
    matrix.start = args->gradient;
    matrix.stride = args->gradient_stride;
    if (status == VISATB_OK)
        status = loss_check_matrix(function, &matrix);
    if (status == VISATB_OK)
        status = check_overlap(function, args);
    return status;
}

void loss_resolve_strides(visatb_vitw_loss_args *args) {
    if (args->logits_stride == 0)
        args->logits_stride = args->vocab;
    if (args->gradient_stride == 0)
        args->gradient_stride = args->vocab;
}

visatb_status loss_check_plan(const char *function, const visatb_vitw_loss_args *args,
                              visatb_vitw_loss_args *checked, const loss_backend **backend) {
    visatb_status status =
        loss_copy_args(function, "VISATB_VITW_LOSS_ARGS_INIT", args, checked, sizeof *checked);
    if (status == VISATB_OK)
        status = loss_check_device(function, checked->device);
    if (status != VISATB_OK)
        return status;
    *backend = NULL;
    if (checked->device == VISATB_DEVICE_CUDA)
        return loss_check_numbers(function, checked);
    return loss_check_choices(function, checked, backend);
}

visatb_status loss_check_rest(const char *function, const visatb_vitw_loss_args *args) {
    if (args->device == VISATB_DEVICE_CUDA)
        return loss_check_pointers(function, args);
    return loss_check_contents(function, args);
}

visatb_status loss_check(const char *function, const visatb_vitw_loss_args *args,
                         visatb_vitw_loss_args *checked, const loss_backend **backend) {
    visatb_status status = loss_check_plan(function, args, checked, backend);
    if (status != VISATB_OK)
        return status;
    loss_resolve_strides(checked);
    status = loss_check_logits(function, "vocab", checked);
    return status == VISATB_OK ? loss_check_rest(function, checked) : status;
}
