/* D and the tokens by task on a GPU, without logits. */
#include "cuda/check.h"
#include "cuda/cuda.h"
#include "cuda/on_device.h"

static const char function[] = "visatb_vitw_denominator";

typedef struct tally_call {
    const visatb_vitw_loss_args *args;
    bool adds;
} tally_call;

static visatb_status run_on_current(void *context) {
    const tally_call *call = context;
    const visatb_vitw_loss_args *args = call->args;
    cuda_device device;
    const cuda_tally tally = {
        .rows = cuda_rows_of(args),
        .adds = call->adds,
        .denominator = args->denominator_out,
        .task_tokens = args->task_tokens,
    };
    visatb_status status = runtime_device(function, &device);
    if (status == VISATB_OK)
        status = cuda_check_rows(function, args, device.ordinal);
    if (status == VISATB_OK)
        status = runtime_check(function, "a launch", cuda_launch_tally(&tally, args->stream));
    return status;
}

visatb_status cuda_vitw_denominator(const visatb_vitw_loss_args *args, bool adds) {
    int ordinal = 0;
    tally_call call = {.args = args, .adds = adds};
    const visatb_status status =
        args->denominator_out != NULL
            ? cuda_find_device(function, "denominator_out", args->denominator_out, &ordinal)
            : cuda_find_device(function, "task_tokens", args->task_tokens, &ordinal);
    return status == VISATB_OK ? cuda_on_device(function, ordinal, run_on_current, &call) : status;
}
