/* The two kernels of the loss, and what their launch is planned with. */
#ifndef VISATB_CUDA_PATHS_H
#define VISATB_CUDA_PATHS_H

#include "cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PATH_GRANULE = 16,       /* bytes that are moved at a time */
    PATH_STATE_BYTES = 640,  /* what the threads of a block tell each other */
    PATH_MOST_THREADS = 384, /* of a block */
    PATH_MOST_CLUSTER = 8,   /* blocks; more are not portable */
};

/* Whether the one that this device would run is more than a shell: the library may have been built for older
 * ones only. A cudaError_t. */
int path_one_read_is_built(bool *built);

int path_launch_one_read(const cuda_loss *loss, const cuda_loss_plan *plan, void *stream);
int path_launch_two_read(const cuda_loss *loss, const cuda_loss_plan *plan, void *stream);

#ifdef __cplusplus
}
#endif

#endif
