/* What a call on a GPU must not be made of, as far as the host can know. */
#ifndef VISATB_CUDA_CHECK_H
#define VISATB_CUDA_CHECK_H

#include "cuda/kernels.h"

/* The types that a GPU computes with, and the number of rows that it can count. The rest of the choices are
 * those of the CPU (loss_check_numbers). */
visatb_status cuda_check_choices(const char *function, const visatb_vitw_loss_args *args);

/* The device to whose memory a required output points. */
visatb_status cuda_find_device(const char *function, const char *name, const void *pointer, int *ordinal);

/* OK for NULL and for memory that the device can reach. */
visatb_status cuda_check_pointer(const char *function, const char *name, const void *pointer, int ordinal);

/* What is misaligned is a fault on a GPU, after which the process can do nothing more there. */
visatb_status cuda_check_alignment(const char *function, const char *name, const void *pointer,
                                   size_t alignment);

/* Both for the arrays of any form of the loss: everything but logits and gradient. */
visatb_status cuda_check_rows(const char *function, const visatb_vitw_loss_args *args, int ordinal);

/* The denominator and the grad_scale of a call, with their values where the host can read them. */
visatb_status cuda_read_scalars(const char *function, const visatb_vitw_loss_args *args, int ordinal,
                                cuda_scalar *denominator, cuda_scalar *grad_scale);

/* The rows of a checked call, and the sums over them that it wants. `step` is NULL where the denominator was
 * given. */
cuda_rows cuda_rows_of(const visatb_vitw_loss_args *args);
cuda_sums cuda_sums_of(const visatb_vitw_loss_args *args, const cuda_scalar *denominator,
                       const cuda_step *step, const cuda_outcome *outcomes);

#endif
