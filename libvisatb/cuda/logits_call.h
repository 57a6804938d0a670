/* What the calls on logits have in common on the host's side: their workspace, what the kernels work on, and
 * the device that is theirs. */
#ifndef VISATB_CUDA_LOGITS_CALL_H
#define VISATB_CUDA_LOGITS_CALL_H

#include "cuda/kernels.h"

/* Everything that the kernels of a loss work on. */
typedef struct cuda_call {
    cuda_count count;
    cuda_loss loss;
    cuda_sums sums;
} cuda_call;

/* Of any alignment. */
size_t cuda_call_workspace_bytes(int64_t rows);

/* The call of these arguments, whose logits are [rows, vocab]; checked as far as the host can. */
visatb_status cuda_call_prepare(const char *function, const visatb_vitw_loss_args *args, int ordinal,
                                cuda_call *call);

/* What is done for a call while its device is the current one. */
typedef visatb_status cuda_call_work(const visatb_vitw_loss_args *args, const cuda_device *device,
                                     void *context);

/* Does it on the device of args->loss. Checks the choices first. */
visatb_status cuda_call_on_device(const char *function, const visatb_vitw_loss_args *args,
                                  cuda_call_work *work, void *context);

#endif
