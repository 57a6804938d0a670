/* What a build without CUDA answers. */
#include "cuda/cuda.h"

#include "common/error.h"

static visatb_status refuse(const char *function) {
    return error_set(VISATB_ERROR_UNSUPPORTED,
                     "%s: device = VISATB_DEVICE_CUDA; expected VISATB_DEVICE_CPU, because this library was "
                     "built without CUDA (" VISATB_BUILD_NO_CUDA ")",
                     function);
}

visatb_status cuda_vitw_loss(const visatb_vitw_loss_args *args) {
    (void)args;
    return refuse("visatb_vitw_loss");
}

visatb_status cuda_vitw_loss_plan(const visatb_vitw_loss_args *args, visatb_loss_plan *plan) {
    (void)args;
    (void)plan;
    return refuse("visatb_vitw_loss_plan");
}

visatb_status cuda_vitw_linear_loss(const visatb_vitw_linear_loss_args *args) {
    (void)args;
    return refuse("visatb_vitw_linear_loss");
}

visatb_status cuda_vitw_linear_loss_plan(const visatb_vitw_linear_loss_args *args, visatb_linear_plan *plan) {
    (void)args;
    (void)plan;
    return refuse("visatb_vitw_linear_loss_plan");
}

visatb_status cuda_vitw_denominator(const visatb_vitw_loss_args *args, bool adds) {
    (void)args;
    (void)adds;
    return refuse("visatb_vitw_denominator");
}

static visatb_status refuse_function(const char *function) {
    return error_set(VISATB_ERROR_UNSUPPORTED,
                     "%s: this library was built without CUDA (" VISATB_BUILD_NO_CUDA ")", function);
}

visatb_status visatb_scale_gradient(void *gradient, int64_t rows, int64_t width, int64_t stride,
                                    visatb_dtype dtype, const float *factor, const float *expected,
                                    void *stream) {
    (void)gradient;
    (void)rows;
    (void)width;
    (void)stride;
    (void)dtype;
    (void)factor;
    (void)expected;
    (void)stream;
    return refuse_function("visatb_scale_gradient");
}

visatb_status cuda_sum_over_ranks(const cuda_rank_sums *sums) {
    (void)sums;
    return refuse_function("visatb_sum_over_ranks");
}

visatb_status visatb_context_create(visatb_context **context) {
    (void)context;
    return refuse_function("visatb_context_create");
}

void visatb_context_destroy(visatb_context *context) {
    (void)context;
}

const char *cuda_description(void) {
    return "no (" VISATB_BUILD_NO_CUDA ")";
}

const char *cuda_description_of_nccl(void) {
    return "no (built without CUDA)";
}
