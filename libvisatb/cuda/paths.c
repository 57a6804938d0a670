/* Which of the two kernels a row of logits takes, and by how many threads. */
#include "cuda/paths.h"

#include "common/error.h"

#include <inttypes.h>

enum {
    RESERVED_BYTES = 1024,  /* of a block's shared memory, by the GPU */
    BLOCKS_AT_A_TIME = 3,   /* of a multiprocessor: one reads, one computes, one writes */
    GRANULES_OF_THREAD = 2, /* at least, before there are more threads */
    WARP_THREADS = 32,
};

/* Of rows that begin anywhere in a granule. */
static int64_t most_granules(int64_t vocab, size_t element_bytes) {
    const int64_t edges = 2 * (int64_t)(PATH_GRANULE - 1);
    return (vocab * (int64_t)element_bytes + edges) / PATH_GRANULE;
}

static int threads_for(int64_t granules) {
    const int64_t warps = (granules - 1) / ((int64_t)GRANULES_OF_THREAD * WARP_THREADS) + 1;
    const int64_t most = PATH_MOST_THREADS / WARP_THREADS;
    return (int)(warps < most ? warps : most) * WARP_THREADS;
}

/* As few blocks as will do with so many bytes each; 0: more than a cluster has. */
static int blocks_for(int64_t granules, size_t shared_bytes) {
    for (int blocks = 1; shared_bytes > PATH_STATE_BYTES && blocks <= PATH_MOST_CLUSTER; blocks *= 2) {
        const int64_t share = (granules + blocks - 1) / blocks;
        if (share <= (int64_t)((shared_bytes - PATH_STATE_BYTES) / PATH_GRANULE))
            return blocks;
    }
    return 0;
}

/* As many blocks to a multiprocessor as can be, up to BLOCKS_AT_A_TIME. */
static int cluster_for(const cuda_device *device, int64_t granules) {
    const size_t reserved = RESERVED_BYTES;
    int cluster = 0;
    for (size_t blocks = BLOCKS_AT_A_TIME; cluster == 0 && blocks > 0; --blocks) {
        const size_t each = device->shared_of_multiprocessor / blocks;
        const size_t shared = each > reserved ? each - reserved : 0;
        cluster = blocks_for(granules, shared < device->shared_of_block ? shared : device->shared_of_block);
    }
    return cluster;
}

/* NULL, or why no row can be read once here. */
static visatb_status why_not_one_read(const char *function, const cuda_device *device, const char **why) {
    enum { HOPPER = 90 };
    bool built = false;
    *why = NULL;
    if (device->capability < HOPPER) {
        *why = "it needs compute capability 9.0";
        return VISATB_OK;
    }
    const visatb_status status =
        runtime_check(function, "cudaFuncGetAttributes", path_one_read_is_built(&built));
    if (!built)
        *why = "this library was not built for compute capability 9.0";
    return status;
}

visatb_status cuda_plan_loss(const char *function, const cuda_device *device, visatb_cuda_path wanted,
                             int64_t vocab, size_t element_bytes, cuda_loss_plan *plan) {
    const int64_t granules = most_granules(vocab, element_bytes);
    const char *why = NULL;
    const visatb_status status = why_not_one_read(function, device, &why);
    if (status != VISATB_OK)
        return status;
    const int cluster = why != NULL ? 0 : cluster_for(device, granules);
    if (wanted == VISATB_CUDA_ONE_READ && why != NULL)
        return error_set(VISATB_ERROR_UNSUPPORTED,
                         "%s: cuda_path = VISATB_CUDA_ONE_READ; expected VISATB_CUDA_AUTO or _TWO_READ, "
                         "because %s, and device %d has %d.%d",
                         function, why, device->ordinal, device->capability / 10, device->capability % 10);
    if (wanted == VISATB_CUDA_ONE_READ && cluster == 0)
        return error_set(VISATB_ERROR_UNSUPPORTED,
                         "%s: cuda_path = VISATB_CUDA_ONE_READ; expected VISATB_CUDA_AUTO or _TWO_READ, "
                         "because rows of %" PRId64 " bytes pass the shared memory of %d blocks of %zu bytes",
                         function, vocab * (int64_t)element_bytes, (int)PATH_MOST_CLUSTER,
                         device->shared_of_block);
    if (wanted == VISATB_CUDA_TWO_READ || cluster == 0) {
        *plan = (cuda_loss_plan){
            .path = VISATB_CUDA_TWO_READ,
            .cluster = 1,
            .threads = threads_for(granules),
            .shared_bytes = PATH_STATE_BYTES,
        };
        return VISATB_OK;
    }
    const int64_t share = (granules + cluster - 1) / cluster;
    *plan = (cuda_loss_plan){
        .path = VISATB_CUDA_ONE_READ,
        .cluster = cluster,
        .threads = threads_for(share),
        .shared_bytes = PATH_STATE_BYTES + (size_t)share * PATH_GRANULE,
        .shared_limit = device->shared_of_block,
    };
    return VISATB_OK;
}

int cuda_launch_loss(const cuda_loss *loss, const cuda_loss_plan *plan, void *stream) {
    if (plan->path == VISATB_CUDA_ONE_READ)
        return path_launch_one_read(loss, plan, stream);
    return path_launch_two_read(loss, plan, stream);
}
