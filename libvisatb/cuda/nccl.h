/* NCCL, opened at first use: it must be the one that made the caller's communicator, so we bring none along.
 * Where the library is built with VISATB_NCCL=OFF, without_nccl.c answers. */
#ifndef VISATB_CUDA_NCCL_H
#define VISATB_CUDA_NCCL_H

#include "visatb.h"

#include <stdbool.h>

/* What was found, once for the process. */
typedef struct nccl {
    bool found;
    const char *refusal; /* where none was found: why not, and what was expected */
} nccl;

const nccl *nccl_open(void);

/* What follows is for where one was found. `function` begins the messages; a failure of NCCL is
 * VISATB_ERROR_DEVICE. */

/* The device of a communicator. */
visatb_status nccl_device(const char *function, void *comm, int *ordinal);

/* As ncclDataType_t has them. */
typedef enum nccl_type { NCCL_INT64 = 4, NCCL_FLOAT64 = 8 } nccl_type;

/* values[i] = the sum over ranks of values[i], in the order of the stream. Returns when NCCL has taken the
 * call, also where the communicator is one that does not block. */
visatb_status nccl_sum(const char *function, void *comm, void *values, int64_t count, nccl_type type,
                       void *stream);

#endif
