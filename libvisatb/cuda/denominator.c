/* D and the tokens by task on a GPU, without logits. */
#include "cuda/check.h"
#include "cuda/cuda.h"

static const char function[] = "visatb_vitw_denominator";

static visatb_status run_on_current(const visatb_vitw_loss_args *args, bool adds, int ordinal) {
    cuda_device device;
    const cuda_tally tally = {
        .rows = cuda_rows_of(args),
        .adds = adds,
        .denominator = args->denominator_out,
        .task_tokens = args->task_tokens,
    };
    visatb_status status = runtime_device(function, &device);
    if (status == VISATB_OK)
        status = cuda_check_rows(function, args, ordinal);
    if (status == VISATB_OK)
        status = runtime_check(function, "a launch", cuda_launch_tally(&tally, args->stream));
    return status;
}

visatb_status cuda_vitw_denominator(const visatb_vitw_loss_args *args, bool adds) {
    int ordinal = 0;
    int before = 0;
    visatb_status status =
        args->denominator_out != NULL
            ? cuda_find_device(function, "denominator_out", args->denominator_out, &ordinal)
            : cuda_find_device(function, "task_tokens", args->task_tokens, &ordinal);
    if (status == VISATB_OK)
        status = runtime_use_device(function, ordinal, &before);
    if (status != VISATB_OK)
        return status;
    status = run_on_current(args, adds, ordinal);
    const visatb_status restored =
        before == ordinal ? VISATB_OK : runtime_use_device(function, before, &ordinal);
    return status == VISATB_OK ? restored : status;
}
