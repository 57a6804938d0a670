/* The sum over ranks on a GPU: find the one that the arrays are on, and let NCCL add. */
#include "cuda/check.h"
#include "cuda/cuda.h"
#include "cuda/nccl.h"
#include "cuda/on_device.h"

#include "common/error.h"

static const char function[] = "visatb_sum_over_ranks";

static visatb_status check_memory(const cuda_rank_sums *sums, int *ordinal) {
    const bool has_values = sums->values_count > 0;
    visatb_status status = cuda_check_alignment(function, "values", sums->values, sizeof *sums->values);
    if (status == VISATB_OK)
        status = cuda_check_alignment(function, "tokens", sums->tokens, sizeof *sums->tokens);
    if (status == VISATB_OK)
        status = has_values ? cuda_find_device(function, "values", sums->values, ordinal)
                            : cuda_find_device(function, "tokens", sums->tokens, ordinal);
    if (status == VISATB_OK && has_values)
        status = cuda_check_pointer(function, "tokens", sums->tokens, *ordinal);
    return status;
}

/* NCCL would take the address for one of its own device. */
static visatb_status check_device(const cuda_rank_sums *sums, int ordinal) {
    int of_comm = 0;
    const visatb_status status = nccl_device(function, sums->comm, &of_comm);
    if (status != VISATB_OK || of_comm == ordinal)
        return status;
    return error_set(VISATB_ERROR_ARGUMENT,
                     "%s: %s is in memory of device %d; expected that of device %d, where comm is", function,
                     sums->values_count > 0 ? "values" : "tokens", ordinal, of_comm);
}

static visatb_status run_on_current(void *context) {
    const cuda_rank_sums *sums = context;
    visatb_status status = VISATB_OK;
    if (sums->values_count > 0)
        status = nccl_sum(function, sums->comm, sums->values, sums->values_count, NCCL_FLOAT64, sums->stream);
    if (status == VISATB_OK && sums->tokens_count > 0)
        status = nccl_sum(function, sums->comm, sums->tokens, sums->tokens_count, NCCL_INT64, sums->stream);
    return status;
}

visatb_status cuda_sum_over_ranks(const cuda_rank_sums *sums) {
    int ordinal = 0;
    cuda_rank_sums own = *sums;
    if (!nccl_open()->found)
        return error_set(VISATB_ERROR_UNSUPPORTED, "%s: %s", function, nccl_open()->refusal);
    visatb_status status = check_memory(sums, &ordinal);
    if (status == VISATB_OK)
        status = check_device(sums, ordinal);
    return status == VISATB_OK ? cuda_on_device(function, ordinal, run_on_current, &own) : status;
}
