#include "cuda/check.h"
#include "cuda/on_device.h"

#include "common/error.h"
#include "cpu/convert.h"
#include "loss/check.h"

static const char function[] = "visatb_scale_gradient";

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

/* As the dimensions of a call of the loss. */
static visatb_status check_matrix(const cuda_scale *scale) {
    const loss_matrix matrix = {
        .name = "gradient",
        .columns = "width",
        .start = scale->gradient,
        .rows = scale->rows,
        .width = scale->width,
        .stride = scale->stride,
        .element_size = convert_element_size(scale->dtype),
    };
    visatb_status status = loss_check_count(function, "rows", scale->rows, 0);
    if (status == VISATB_OK)
        status = loss_check_count(function, "width", scale->width, 0);
    if (status != VISATB_OK || matrix.rows == 0 || matrix.width == 0)
        return status;
    return loss_check_matrix(function, &matrix);
}

static visatb_status check(const cuda_scale *scale) {
    const bool empty = scale->rows == 0 || scale->width == 0;
    const char *missing = scale->gradient == NULL && !empty ? "gradient"
                          : scale->factor == NULL           ? "factor"
                                                            : NULL;
    if (missing != NULL)
        return ARGUMENT_ERROR("%s = NULL; expected a pointer", missing);
    if (scale->dtype == VISATB_DTYPE_FLOAT64 || convert_element_size(scale->dtype) == 0)
        return ARGUMENT_ERROR(
            "dtype = %d; expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 (2) or _FLOAT16 (3) on a GPU",
            (int)scale->dtype);
    visatb_status status = check_matrix(scale);
    if (status == VISATB_OK)
        status = cuda_check_alignment(function, "factor", scale->factor, sizeof *scale->factor);
    if (status == VISATB_OK)
        status = cuda_check_alignment(function, "expected", scale->expected, sizeof *scale->expected);
    return status;
}

static visatb_status check_places(const cuda_scale *scale, int ordinal) {
    visatb_status status = cuda_check_pointer(function, "factor", scale->factor, ordinal);
    return status == VISATB_OK ? cuda_check_pointer(function, "expected", scale->expected, ordinal) : status;
}

typedef struct scale_call {
    cuda_scale scale;
    void *stream;
} scale_call;

static visatb_status run_on_current(void *context) {
    const scale_call *call = context;
    cuda_device device;
    const visatb_status status = runtime_device(function, &device);
    if (status != VISATB_OK)
        return status;
    return runtime_check(function, "a launch", cuda_launch_scale(&call->scale, &device, call->stream));
}

visatb_status visatb_scale_gradient(void *gradient, int64_t rows, int64_t width, int64_t stride,
                                    visatb_dtype dtype, const float *factor, const float *expected,
                                    void *stream) {
    scale_call call = {
        .scale = {gradient, rows, width, stride == 0 ? width : stride, dtype, factor, expected},
        .stream = stream,
    };
    int ordinal = 0;
    visatb_status status = check(&call.scale);
    if (status != VISATB_OK || rows == 0 || width == 0)
        return status;
    status = cuda_find_device(function, "gradient", gradient, &ordinal);
    if (status == VISATB_OK)
        status = check_places(&call.scale, ordinal);
    return status == VISATB_OK ? cuda_on_device(function, ordinal, run_on_current, &call) : status;
}
