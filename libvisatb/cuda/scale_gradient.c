#include "cuda/check.h"

#include "common/error.h"
#include "cpu/convert.h"

#include <inttypes.h>

static const char function[] = "visatb_scale_gradient";

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

static visatb_status check(const cuda_scale *scale) {
    const char *missing = scale->gradient == NULL && scale->count > 0 ? "gradient"
                          : scale->factor == NULL                     ? "factor"
                                                                      : NULL;
    const size_t element = convert_element_size(scale->dtype);
    if (missing != NULL)
        return ARGUMENT_ERROR("%s = NULL; expected a pointer", missing);
    if (scale->dtype == VISATB_DTYPE_FLOAT64 || element == 0)
        return ARGUMENT_ERROR(
            "dtype = %d; expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 (2) or _FLOAT16 (3) on a GPU",
            (int)scale->dtype);
    if (scale->count < 0 || scale->count > PTRDIFF_MAX / (int64_t)element)
        return ARGUMENT_ERROR("count = %" PRId64 "; expected a value in [0, %" PRId64 "]", scale->count,
                              (int64_t)(PTRDIFF_MAX / (int64_t)element));
    visatb_status status = cuda_check_alignment(function, "gradient", scale->gradient, element);
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

visatb_status visatb_scale_gradient(void *gradient, int64_t count, visatb_dtype dtype, const float *factor,
                                    const float *expected, void *stream) {
    const cuda_scale scale = {gradient, count, dtype, factor, expected};
    int ordinal = 0;
    int before = 0;
    cuda_device device;
    visatb_status status = check(&scale);
    if (status != VISATB_OK || count == 0)
        return status;
    status = cuda_find_device(function, "gradient", gradient, &ordinal);
    if (status == VISATB_OK)
        status = check_places(&scale, ordinal);
    if (status == VISATB_OK)
        status = runtime_use_device(function, ordinal, &before);
    if (status != VISATB_OK)
        return status;
    status = runtime_device(function, &device);
    if (status == VISATB_OK)
        status = runtime_check(function, "a launch", cuda_launch_scale(&scale, &device, stream));
    const visatb_status restored =
        before == ordinal ? VISATB_OK : runtime_use_device(function, before, &ordinal);
    return status == VISATB_OK ? restored : status;
}
