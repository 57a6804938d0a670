/* The loss of a vocabulary in slices on a GPU. */
#include "cuda/check.h"
#include "cuda/cuda.h"
#include "cuda/logits_call.h"

#include "common/error.h"
#include "cpu/convert.h"

static const char of_statistics[] = "visatb_vitw_slice_statistics";
static const char of_loss[] = "visatb_vitw_slice_loss";

/* What a call is given besides its arguments. */
typedef struct slice_call {
    const loss_words *words;
    slice_statistics *told;
} slice_call;

/* There is one kernel of each, which reads a slice where it is. */
static visatb_status plan_rows(const char *function, const visatb_vitw_loss_args *args,
                               const cuda_device *device, cuda_loss_plan *plan) {
    if (args->cuda_path == VISATB_CUDA_ONE_READ)
        return error_set(VISATB_ERROR_UNSUPPORTED,
                         "%s: cuda_path = VISATB_CUDA_ONE_READ; expected VISATB_CUDA_AUTO or _TWO_READ, "
                         "because a slice is read once by each of two calls",
                         function);
    return cuda_plan_loss(function, device, VISATB_CUDA_TWO_READ, args->vocab,
                          convert_element_size(args->dtype), plan);
}

static visatb_status check_statistics(const char *function, const void *statistics, int64_t rows,
                                      int ordinal) {
    return rows > 0 ? cuda_check_pointer(function, "statistics", statistics, ordinal) : VISATB_OK;
}

/* Labels are words of the whole vocabulary, and e is shared out to all of them. */
static cuda_slice slice_of(const cuda_call *call, const slice_call *given) {
    cuda_slice slice = {
        .loss = call->loss,
        .first = given->words->first,
        .width = call->loss.rows.vocab,
        .told = given->told,
        .statistics = given->words->statistics,
        .slices = given->words->slices,
    };
    slice.loss.rows.vocab = given->words->all;
    return slice;
}

static visatb_status tell_on_current(const visatb_vitw_loss_args *args, const cuda_device *device,
                                     void *context) {
    const slice_call *given = context;
    cuda_call call;
    cuda_loss_plan plan;
    visatb_status status = plan_rows(of_statistics, args, device, &plan);
    if (status == VISATB_OK)
        status = cuda_call_prepare(of_statistics, args, device->ordinal, &call);
    if (status == VISATB_OK)
        status = check_statistics(of_statistics, given->told, args->rows, device->ordinal);
    if (status != VISATB_OK)
        return status;
    const cuda_slice slice = slice_of(&call, given);
    return runtime_check(of_statistics, "a launch",
                         cuda_launch_slice_statistics(&slice, &plan, args->stream));
}

static visatb_status run_on_current(const visatb_vitw_loss_args *args, const cuda_device *device,
                                    void *context) {
    const slice_call *given = context;
    cuda_call call;
    cuda_loss_plan plan;
    visatb_status status = plan_rows(of_loss, args, device, &plan);
    if (status == VISATB_OK)
        status = cuda_call_prepare(of_loss, args, device->ordinal, &call);
    if (status == VISATB_OK)
        status = check_statistics(of_loss, given->words->statistics, args->rows, device->ordinal);
    if (status != VISATB_OK)
        return status;
    const cuda_slice slice = slice_of(&call, given);
    call.count.rows.vocab = slice.loss.rows.vocab;
    call.sums.rows.vocab = slice.loss.rows.vocab;
    int error = call.count.computes ? cuda_launch_count(&call.count, args->stream) : 0;
    if (error == 0)
        error = cuda_launch_slice_loss(&slice, &plan, args->stream);
    if (error == 0)
        error = cuda_launch_sums(&call.sums, args->stream);
    return runtime_check(of_loss, "a launch", error);
}

visatb_status cuda_vitw_slice_statistics(const visatb_vitw_loss_args *args, const loss_words *words,
                                         slice_statistics *statistics) {
    slice_call call = {.words = words, .told = statistics};
    return cuda_call_on_device(of_statistics, args, tell_on_current, &call);
}

visatb_status cuda_vitw_slice_loss(const visatb_vitw_loss_args *args, const loss_words *words) {
    slice_call call = {.words = words};
    return cuda_call_on_device(of_loss, args, run_on_current, &call);
}
